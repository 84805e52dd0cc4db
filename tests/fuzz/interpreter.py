"""Runs programs: each step as a user would write it, noting what happens."""

from __future__ import annotations

import dataclasses
import gc
import itertools
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import attrs

import railtracks as rt
from railtracks._context_variable import current
from railtracks.exceptions import FatalError, SessionError
from tests.fuzz import programs as p
from tests.fuzz import sync_nodes, tasks
from tests.fuzz.notes import CANCELLATIONS, BroadcastNote, CallNote, Notes, Outcome, SessionNote, outcome_of
from tests.fuzz.sessions import run_session
from tests.fuzz.subscribers import subscribe


class Falsy(Exception):
    """An exception that is taken for none by ``if error:``."""

    def __bool__(self) -> bool:
        return False


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """An exception whose attributes, ``__traceback__`` included, cannot be set by Python code."""

    token: int


class Odd(BaseException):
    """An exception that ``except Exception`` does not catch."""


@attrs.frozen
class Env:
    """Where a step is in the program.

    Attributes:
        session: The session that it is in.
        call: The call that it is in; None in the body of a session and in callbacks.
        task: The task that this call runs in.
        knows_parent: False for what the garbage collector may run, in any context.
    """

    session: SessionNote | None = None
    call: CallNote | None = None
    task: Any = None
    knows_parent: bool = True


class Interpreter:
    """Runs the steps of one program.

    Args:
        backend: "asyncio" or "trio".
        notes: Where everything is noted.
    """

    def __init__(self, backend: str, notes: Notes) -> None:
        self.unit, self.notes = notes.unit, notes
        self.tasks = tasks.Tasks(backend)
        self.threads: set[int] = set()  # the calls whose threads run now
        self._tokens = itertools.count(1)
        self._run_step: dict[type[p.Step], Callable[[Any, Env], Any]] = {
            kind: getattr(self, f"_{kind.__name__.lower()}") for kind in p.Step.__subclasses__()
        }

    def token(self) -> int:
        """Return a number that occurs once in a run."""
        return next(self._tokens)

    async def block(self, steps: p.Block, env: Env) -> None:
        """Run steps one after the other."""
        for step in steps:
            await self._run_step[type(step)](step, env)

    # ---- waiting, and leaving

    async def _turns(self, step: p.Turns, env: Env) -> None:
        for _ in range(step.count):
            await anyio.lowlevel.checkpoint()

    async def _sleep(self, step: p.Sleep, env: Env) -> None:
        await anyio.sleep(step.units * self.unit)

    async def _raise(self, step: p.Raise, env: Env) -> None:
        raise self.exception(step.kind)

    def exception(self, kind: p.Ending) -> BaseException:
        """Return a new exception."""
        token = self.token()
        self.notes.causes.add("an error")
        made: BaseException
        if kind == "group":
            made = ExceptionGroup("a group", [ValueError(token), KeyError(token)])
        elif kind == "BaseExceptionGroup":
            made = BaseExceptionGroup("a group", [Odd(token), KeyError(token)])
        else:
            classes: dict[str, type[BaseException]] = {
                "falsy": Falsy, "frozen": Frozen, "FatalError": FatalError, "BaseException": Odd,
                "TimeoutError": TimeoutError, "GeneratorExit": GeneratorExit, "SystemExit": SystemExit,
            }  # fmt: skip
            made = classes.get(kind, ValueError)(token)
        if kind == "SystemExit":
            self.notes.interrupts.append(made)
        return made

    # ---- calls

    def note_call(self, node: p.Node, env: Env, site: str) -> CallNote:
        """Note that a call is about to be made."""
        assert env.session is not None
        note = CallNote(
            token=self.token(), site=site, node=node, session=env.session, parent=env.call,
            knows_parent=env.knows_parent, made_at=self.now(),
            nested=env.call is not None and site == "call" and env.task is self.tasks.current(),
        )  # fmt: skip
        self.notes.calls[note.token] = note
        env.session.calls.append(note)
        return note

    @staticmethod
    def node_of(node: p.Node) -> Any:
        """Return what to call."""
        if not node.thread:
            return run_node
        return run_in_awaited_thread if node.waits else run_in_thread

    @staticmethod
    def env(call: CallNote, task: Any = None) -> Env:
        """Return where the body of a node is."""
        return Env(call.session, call, task)

    @staticmethod
    def body_env(session: SessionNote) -> Env:
        """Return where the body of a session is."""
        return Env(session)

    callback_env = body_env

    def now(self) -> float:
        """Return the time of the event loop, if this thread runs it."""
        try:
            return anyio.current_time()
        except RuntimeError:
            return -1

    async def _call(self, step: p.Call, env: Env) -> None:
        note = self.note_call(step.node, env, "call")
        before = current.get()
        try:
            got = await rt.call(self.node_of(step.node), note.token)
        except BaseException as exc:
            note.got, note.got_at = outcome_of(exc), self._now_or(note.made_at)
            if not isinstance(exc, GeneratorExit) and current.get() is not before:
                self.notes.fail("context", f"{note}: the context variable is not what it was before the call")
            if not step.caught or not isinstance(exc, Exception):
                raise
            self.notes.handled.add("caught")
        else:
            note.got, note.got_at = Outcome("returned", got), self.now()
            if current.get() is not before:
                self.notes.fail("context", f"{note}: the context variable is not what it was before the call")

    def _now_or(self, other: float) -> float:
        now = self.now()
        return other if now < 0 else now

    async def _batch(self, step: p.Batch, env: Env) -> None:
        notes = [self.note_call(node, env, "batch") for node in step.nodes]
        options: dict[str, Any] = {"return_exceptions": step.return_exceptions, "limit": step.limit}
        try:
            got = await rt.call_batch(run_node, [note.token for note in notes], **options)
        except BaseException as exc:
            for note in notes:
                note.got, note.got_at = outcome_of(exc), self._now_or(note.made_at)
            raise
        self.note_batch(notes, got, step)

    def note_batch(self, notes: list[CallNote], got: list[Any], step: p.Batch) -> None:
        """Note what a batch returned."""
        if len(got) != len(notes):
            self.notes.fail("batch", f"a batch of {len(notes)} calls returned {len(got)} results")
        for note, result in zip(notes, got, strict=False):
            note.got_at = self._now_or(note.made_at)
            is_error = isinstance(result, BaseException)
            note.got = outcome_of(result) if is_error else Outcome("returned", result)
            if is_error and not step.return_exceptions:
                self.notes.fail("batch", f"{note}: a batch returned an exception, although it was to raise it")

    async def _startsoon(self, step: p.StartSoon, env: Env) -> None:
        assert env.session is not None
        note = self.note_call(step.node, attrs.evolve(env, call=None), "start_soon")
        try:
            env.session.session.start_soon(self.node_of(step.node), note.token)
        except SessionError as exc:
            note.got = outcome_of(exc)

    async def _put(self, step: p.Put, env: Env) -> None:
        if current.get() is not None:
            token = self.token()
            rt.context.put("key", token)
            if rt.context.get("key") != token:
                self.notes.fail("context", "rt.context.get does not return what was put")

    # ---- tasks, scopes and handlers: see tasks.py

    async def _branches(self, step: p.Branches, env: Env) -> None:
        await self.tasks.branches(step.style, [self._as_task(block, env) for block in step.blocks])

    async def _strays(self, step: p.Strays, env: Env) -> None:
        if step.cancel_after is not None:
            self.notes.causes.add("a task of the program's own was cancelled")
        strays = [self.tasks.stray(self._as_task(block, env)) for block in step.blocks]
        if step.cancel_after is not None:
            await self._turns(p.Turns(step.cancel_after), env)
            for _ in range(step.times):
                for stray in strays:
                    stray.cancel()
                await anyio.lowlevel.checkpoint()
        if step.awaited:
            for stray in strays:
                await stray.wait()

    def _as_task(self, block: p.Block, env: Env) -> Callable[[], Any]:
        async def run() -> None:
            try:
                await self.block(block, env)
            except GeneratorExit as exc:
                if exc.args:  # Python makes another one where a task is awaited
                    raise ValueError("GeneratorExit") from exc
                raise

        return run

    async def _shield(self, step: p.Shield, env: Env) -> None:
        with anyio.CancelScope(shield=True):
            await self.block(step.block, env)

    async def _limit(self, step: p.Limit, env: Env) -> None:
        self.notes.causes.add("a limit of the program's own")
        self.notes.handled.add("limited")
        await self.tasks.limit(step.style, step.units * self.unit, self._as_task(step.block, env))

    async def _swallow(self, step: p.Swallow, env: Env) -> None:
        try:
            await self.block(step.block, env)
        except CANCELLATIONS:
            self.notes.handled.add("swallowed")

    async def _catch(self, step: p.Catch, env: Env) -> None:
        try:
            await self.block(step.block, env)
        except Exception:
            self.notes.handled.add("caught")

    async def _cleanup(self, step: p.Cleanup, env: Env) -> None:
        try:
            await self.block(step.block, env)
        finally:
            with anyio.CancelScope(shield=step.shielded):
                await self.block(step.after, env)

    async def _generator(self, step: p.Generator, env: Env) -> None:
        after = env if step.closed else attrs.evolve(env, knows_parent=False)

        async def generate() -> AsyncIterator[None]:
            try:
                await self.block(step.before, env)
                yield
            finally:
                if step.closed or rt.session_id() == _id_of(env):  # the garbage collector may run it anywhere
                    await self.block(step.after, after)

        generator: Any = generate()
        try:
            async for _ in generator:
                break
        finally:
            if step.closed:
                await generator.aclose()
        del generator
        gc.collect(0)  # it may be part of a cycle

    # ---- events

    async def _subscribe(self, step: p.Subscribe, env: Env) -> None:
        assert env.session is not None
        try:
            subscribe(self, step.subscriber, env.session)
        except SessionError:
            if env.session.left is None:
                raise

    async def _unsubscribe(self, step: p.Unsubscribe, env: Env) -> None:
        assert env.session is not None
        if env.session.subscribers:
            note = env.session.subscribers[-1]
            note.closed = True
            note.subscription.close()

    async def _broadcast(self, step: p.Broadcast, env: Env) -> None:
        note = self.note_broadcast(env)
        try:
            await rt.broadcast(note.item)
        except SessionError:
            note.ended = self.notes.next()
            return
        except BaseException:
            note.ended = self.notes.next()
            raise
        note.accepted, note.ended = True, self.notes.next()

    def note_broadcast(self, env: Env) -> BroadcastNote:
        """Note that a broadcast is about to be made."""
        assert env.session is not None
        note = BroadcastNote(item=("item", self.token()), began=self.notes.next())
        env.session.broadcasts.append(note)
        return note

    # ---- sessions

    async def _opensession(self, step: p.OpenSession, env: Env) -> None:
        await run_session(self, step, env)


def _id_of(env: Env) -> str | None:
    return None if env.session is None else env.session.session.identifier


running: ContextVar[Interpreter] = ContextVar("running")
"""The interpreter of the current program; a context variable, so that threads that were abandoned keep theirs."""


@rt.function_node
async def run_node(token: int) -> Any:
    """Run a node of the program, in the task of the call."""
    me = running.get()
    note = me.notes.calls[token]
    note.began = True
    try:
        await me.block(note.node.body, me.env(note, me.tasks.current()))
    except BaseException as exc:
        note.ended, note.ended_at = outcome_of(exc), me.now()
        raise
    note.ended, note.ended_at = Outcome("returned", [token]), me.now()
    return note.ended.value


def _run_in_thread(token: int) -> Any:
    return sync_nodes.run(running.get(), token)


run_in_thread = rt.function_node(_run_in_thread, name="run_in_thread")
run_in_awaited_thread = rt.function_node(_run_in_thread, name="run_in_awaited_thread", abandon_on_cancel=False)
