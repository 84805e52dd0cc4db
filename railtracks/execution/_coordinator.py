"""The Coordinator: record, run, record, publish; and the cancel scopes that end what must end.

Why it is as it is. A nested call is the hot path, and it awaits the node in the caller's own task: no task, no lock, no
scope, no await of its own. So a call can only be cancelled where its task has a scope of ours, and that is at an
*entry* (see ``_run.py``). ``timeout`` is the deadline of the entries of a run; ``end_on_error`` cancels all
entries of the session. Nothing else stops anything.

Everything here runs on the session's one event loop, and state is changed only between awaits, so there is nothing
to lock.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Awaitable, Callable, Hashable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
from anyio.lowlevel import EventLoopToken, checkpoint

from railtracks._backend import task_getter
from railtracks._config import ExecutorConfig
from railtracks._ids import Sources, node_id, run_id
from railtracks._logging import SessionLog
from railtracks._notifier import Notifier
from railtracks._scope import current, reused
from railtracks._shield import pass_cancellation_on, shielded
from railtracks.exceptions import FatalError, GlobalTimeOutError, NodeInvocationError, SessionEndedError, SessionError
from railtracks.execution._announcer import Announcer
from railtracks.execution._groups import divide, task_group
from railtracks.execution._recorder import DELETED, Recorder, look
from railtracks.execution._run import Entry, Run, Stop
from railtracks.execution._strategy import ExecutionStrategy, InTaskStrategy, ThreadStrategy
from railtracks.nodes import FunctionNode
from railtracks.pubsub import RTPublisher, in_callback
from railtracks.state import Broadcast, CallCreated, CallRecord, Reason
from railtracks.state._codec import HARMLESS, learn_secrets
from railtracks.state._machine import RTState
from railtracks.state._records import REUSED
from railtracks.state._secrets import Secrets
from railtracks.state._text import object_text

if TYPE_CHECKING:  # not loaded before they are needed, if ever
    from railtracks.execution._replay import Found
    from railtracks.execution._resources import Resources
    from railtracks.execution._streams import OpenStreams
    from railtracks.pubsub._publisher import Host
    from railtracks.state._past import Place

T = TypeVar("T")

YIELD_AFTER = 0.001
"""Seconds of calls that never wait, after which timers and cancellation get their turn."""
YIELD_EVERY = 128
"""Calls after which they do so anyway, whatever the clock says (one under test may stand still)."""
_IN_TASK = InTaskStrategy()


_NO_TASK = object()


class Frame:
    """Where running code stands: what the context variable holds. Never changed once made.

    In a session but in no call, it has the coordinator alone.
    """

    __slots__ = ("coordinator", "place", "record", "run", "task")

    def __init__(
        self,
        coordinator: Coordinator,
        record: CallRecord | None = None,
        run: Run | None = None,
        task: object = _NO_TASK,
        place: Place | None = None,
    ) -> None:
        self.coordinator: Coordinator = coordinator
        self.place: Place | None = place  # of the call in the run that is resumed
        self.record: CallRecord | None = record
        self.run: Run | None = run
        self.task: object = task

    @property
    def run_id(self) -> str | None:
        return None if self.record is None else run_id(self.coordinator.session_id, self.record.run)

    @property
    def node_id(self) -> str | None:
        return None if self.record is None else node_id(self.coordinator.session_id, self.record.index)


class House(Protocol):
    """What houses the tasks of a session: its nursery."""

    body_is_over: bool
    """What the session's body started may still run, but nobody takes any more of what it streams."""

    def spawn(self, func: Callable[[], Awaitable[object]]) -> None:
        """Await ``func()`` in a task of the session's own. What it raises, the session raises at its end."""


class Coordinator:
    """Runs the calls of one session.

    Attributes:
        failure: The first error under ``end_on_error``, or the first fatal one; it ended the session.
        recorder: Keeps what happens outside the process; None if nothing is to be kept.
        resources: What the calls share; None if nothing yet.
        streams: What is consumed while it is made; None if nothing yet.
        house: The session's nursery; None while it has none.
        loop: How other threads get to the session's event loop; None while it has none of its own.
        start_loop: Starts one, where the session can.
        closed: No further call may begin.
        ended: Nothing is delivered any more either.
        when_idle: Called once, when the last call that runs has ended.

    Once the session is over nothing here refers back to it, so that its records go with the last reference.
    """

    # Here, and not in __init__, as few sessions ever have others. An instance with 30 attributes of its own or more has
    # no part in the keys that Python shares among those of a class, and a session took a tenth longer to open.
    resources: Resources | None = None
    streams: OpenStreams | None = None
    when_idle: Callable[[], None] | None = None
    _failure_traceback: TracebackType | None = None

    def __init__(
        self,
        session_id: str,
        config: ExecutorConfig,
        context: dict[str, Any],
        sources: Sources,
        log: SessionLog,
        secrets: Secrets,
    ) -> None:
        self.session_id: str = session_id
        self.config = config
        self.context = context
        self.clock: Callable[[], float] = sources.clock
        self.origin: float = sources.wall() - sources.clock()
        self.state: RTState = RTState()
        observer = sources.observer
        self._observer = observer if observer is not None and observer.sees_calls else None
        self.publisher: RTPublisher = RTPublisher(log, self._observer)
        self.recorder: Recorder | None = None
        self.secrets = secrets
        self.failure: BaseException | None = None
        self.closed: bool = False
        self.ended = False
        self.has_nursery = False
        self.house: House | None = None
        self.current_task: Callable[[], object] = lambda: None  # until bound to an event loop
        self.loop: EventLoopToken | None = None
        self.start_loop: Callable[[], None] | None = None
        self._announcer = Announcer(session_id, self.origin, log, self.publisher)
        self.threads: ThreadStrategy = ThreadStrategy(abandon_current)
        self._in_task: ExecutionStrategy = _IN_TASK
        self._in_thread: ExecutionStrategy = self.threads
        if sources.wrap_strategy is not None:
            self._in_task, self._in_thread = map(sources.wrap_strategy, (_IN_TASK, self.threads))
        self._thread: int | None = None  # the thread of the event loop it is bound to
        self._entries: dict[Entry, None] = {}
        self._starting = 0  # children of the session that have not entered yet
        self._changed = Notifier()  # an entry has left, or a child
        self._halted = False  # failed or closed: nested calls look for their cancellation before they start
        self._yield_at = math.inf

    # ---- the hot path

    async def run(
        self,
        node: FunctionNode[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        caller: Frame,
        run: Run,
        task: object,
        commits: bool = True,
    ) -> Any:
        """Run one call here and now, in the calling task, and record it.

        One function of many lines, as each call of another would cost a twentieth of what a tracked call may.

        ``commits``: with ``durability="sync"``, wait until it is on disk; False: the caller will, by ``committed``.

        Raises: whatever the node raises, as the same object.
        Cancellation: recorded, with its reason, and passed on.
        """
        state = self.state
        now = self.clock()
        if now > self._yield_at or len(state.records) % YIELD_EVERY == YIELD_EVERY - 1 or self._halted:
            await self._give_others_a_turn(node, caller)
            now = self.clock()
        if self.publisher.waits_on_calls:
            await self.publisher.wait_for_room(CallCreated)
            now = self.clock()
        record = state.created(node.name, node.node_type, args, kwargs, caller.record, now)
        announcer = self._announcer
        recorder = self.recorder
        try:
            place = None
            if recorder is None:
                look(record, node, self.secrets)
            else:
                found = recorder.created(record, node, caller.place)
                if found is not None:
                    if found.why == REUSED:
                        return self._reuse(record, found, caller)
                    place = found.place
            current.set(Frame(self, record, run, task, place))
            strategy = self._in_task if node.is_async else self._in_thread
            if announcer.active:
                announcer.created(record, caller.record)
            result = await strategy.execute(node, args, kwargs)
        except Exception as exc:
            state.failed(record, exc, self.clock())
            if recorder is not None:
                recorder.ended(record)
            if announcer.active:
                announcer.failed(record, exc)
            if self.failure is None and (self.config.end_on_error or _is_fatal(exc)):
                self._fail(exc)
            if commits:
                await self.committed()
            raise
        except BaseException as exc:
            state.cancelled(record, self._reason(run, exc), self.clock())
            if recorder is not None:
                recorder.ended(record)
            if announcer.active:
                announcer.cancelled(record)
            if isinstance(exc, GeneratorExit):
                here = current.get()
                if here is None or here.record is not record:
                    caller = here  # thrown away by the garbage collector, in the middle of what is no business of ours
            raise
        else:
            state.succeeded(record, result, self.clock())
            if recorder is not None:
                recorder.ended(record)
            elif type(result) not in HARMLESS:
                learn_secrets(result, self.secrets)
            if announcer.active:
                announcer.succeeded(record)
            if commits and recorder is not None and recorder.waits:
                await recorder.committed()
            return result
        finally:
            current.set(caller)

    def _reuse(self, record: CallRecord, found: Found, caller: Frame) -> Any:
        assert self.recorder is not None
        self.recorder.reused(record, found, self.context)
        copies = self.state.records[len(self.state.records) - len(found.below) :]
        if self._announcer.active:
            self._announcer.created(record, caller.record)
            self._announcer.succeeded(record)
        told = reused.get()
        if told is not None:
            told(self.session_id, [record, *copies])
        return found.result

    def changed(self, record: CallRecord | None, key: str, value: Any = DELETED) -> None:
        """The context was changed, by the call of ``record`` or outside calls. From any thread."""
        learn_secrets({key: value}, self.secrets)
        if self._observer is not None:
            self._observer.changed(self.session_id, record, key, value, value is DELETED)
        if self.recorder is not None and not self.ended:
            self.recorder.changed(record, key, value)

    def describe(self, record: CallRecord, attributes: Mapping[str, Any]) -> None:
        """Put on record what a call that runs says about itself, in place of what it said before."""
        record.attributes = object_text(attributes, self.secrets)
        if self.recorder is not None:
            self.recorder.described(record)

    async def committed(self) -> None:
        """With ``durability="sync"``, return when all that happened so far is on disk. Cancellation: the wait ends."""
        if self.recorder is not None and self.recorder.waits:
            await self.recorder.committed()

    async def _give_others_a_turn(self, node: FunctionNode[..., Any], caller: Frame) -> None:
        handled = sys.exc_info()[1]
        try:
            await checkpoint()
        except BaseException:
            if self._observer is not None and caller.record is not None:
                self._observer.refused(self.session_id, caller.record, node.name, handled)
            raise
        self._yield_at = self.clock() + YIELD_AFTER

    # ---- entries

    async def enter(
        self,
        node: FunctionNode[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        caller: Frame,
        commits: bool = True,
    ) -> Any:
        """Run a call that comes in a task which is not inside a call: top-level, or in a task that user code made.

        Raises: what the node raises, as the same object; GlobalTimeOutError; the session's first error under
            ``end_on_error``; SessionEndedError if it comes too late.
        Cancellation: everything below it is cancelled, and its cleanup waited for, before this is passed on.
        """
        refusal = self.refusal(node, caller.run)
        if refusal is not None:
            await pass_cancellation_on()  # in code that is being cancelled, that is what counts
            raise refusal
        if self.has_nursery or in_callback.get():  # what a callback calls is housed where its pump is
            return await self._enter(node, args, kwargs, caller, commits)
        self.bind()
        return await self._with_own_nursery(lambda: self._enter(node, args, kwargs, caller, commits))

    async def _with_own_nursery(self, func: Callable[[], Awaitable[Any]]) -> Any:
        """Run ``func`` and house the publisher's pumps: the session, entered with a plain ``with``, has no nursery."""
        result: Any = None
        error: BaseException | None = None
        async with task_group() as nursery:
            host = (nursery, Frame(self))
            self.publisher.attach(host)
            try:
                result = await func()
            except BaseException as exc:
                cancellation, error = divide(exc)
                if cancellation is not None:
                    raise cancellation from None
            finally:
                await shielded(lambda: self._leave(host))
        if error is not None:
            raise error
        return result

    async def _leave(self, host: Host) -> None:
        await self.publisher.detach(host)
        await self.close_resources()

    def share(self, key: Hashable, make: Callable[[], T], close: Callable[[T], Awaitable[object]]) -> T | None:
        """What the calls of the session share; see ``execution.shared``."""
        if not self.publisher.housed or not self.is_here:
            return None
        from railtracks.execution._resources import Resources  # here, as few sessions share anything

        self.resources = self.resources or Resources(self._announcer.log)
        return self.resources.get(key, make, close)

    async def close_resources(self) -> None:
        """Somebody who housed calls has left; the last closes what they shared. Never raises; to be called shielded."""
        if not self.publisher.housed and self.resources is not None:
            await self.resources.close()

    async def broadcast(self, item: Any, frame: Frame) -> None:
        """Publish ``item`` as of ``frame``; see ``rt.broadcast``."""
        if self.ended:
            raise SessionEndedError(
                "rt.broadcast() came after its session had ended; wait for the task that broadcasts"
            )
        if not self.publisher.housed and not self.has_nursery:
            self.bind()
            await self._with_own_nursery(lambda: self._broadcast(item, frame))
        else:
            await self._broadcast(item, frame)

    async def _broadcast(self, item: Any, frame: Frame) -> None:
        await self.publisher.wait_for_room(Broadcast)
        time = self.clock() + self.origin
        event = Broadcast(session_id=self.session_id, time=time, item=item, run_id=frame.run_id, node_id=frame.node_id)
        self.publisher.publish(event)

    async def _enter(
        self,
        node: FunctionNode[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        caller: Frame,
        commits: bool,
    ) -> Any:
        top = caller.run is None
        run = caller.run or Run(self.config.timeout, anyio.current_time())
        entry = Entry(run.deadline, caller.record)
        run.entries[entry] = self._entries[entry] = None
        result: Any = None
        error: Exception | None = None
        try:
            try:
                with entry.scope:
                    try:
                        result = await self.run(node, args, kwargs, caller, run, self.current_task(), commits)
                    except Exception as exc:
                        error = exc
                    # Like a nursery, a run waits for what was started in it; in the scope, so that its deadline counts.
                    if top and error is None and len(run.entries) > 1:
                        await self._changed.wait_while(lambda: self._others_run(run))
            except Exception as exc:  # what a scope leaves of a group that held cancellations too
                error = exc
            finally:
                if top:
                    del run.entries[entry]
                    run.over = True
                    if self.streams is not None:  # their calls may be over too, and wait for a consumer all the same
                        self.streams.end_left(run)
                    await self._end_others(run)
            # Still an entry: in a task that a thread started this may wait for a cancellation, and on asyncio that
            # never comes once the scopes around it were left.
            return await self._settle(node, entry, run, top, result, error)
        finally:
            run.entries.pop(entry, None)
            del self._entries[entry]
            self._changed.notify_all()
            if self.when_idle is not None and self.idle:
                when_idle, self.when_idle = self.when_idle, None
                when_idle()

    def _others_run(self, run: Run) -> bool:
        if self.streams is not None:  # or this would wait for what nobody takes any more
            self.streams.end_left(run)
        return len(run.entries) > 1

    async def _end_others(self, run: Run) -> None:
        if run.entries:
            run.cancel(Stop.RUN_ENDED)
            await shielded(lambda: self._changed.wait_while(lambda: bool(run.entries)))

    async def _settle(
        self, node: FunctionNode[..., Any], entry: Entry, run: Run, top: bool, result: Any, error: Exception | None
    ) -> Any:
        """What the caller of an entry gets, now that its scope was left and everything below it has ended."""
        stopped = entry.scope.cancel_called or self.failure is not None
        if not stopped:
            if error is not None:
                raise error
            return result
        if not top:  # in a task of the user's that is itself cancelled, that is what counts
            await pass_cancellation_on()
        if entry.stop is not None:
            _retrieve_exception(self.current_task())
        if self.failure is not None:
            raise self.failure.with_traceback(self._failure_traceback)
        if entry.timed_out:
            raise GlobalTimeOutError(run.timeout, f"{node.name} exceeded the timeout of {run.timeout:g} s") from error
        if error is not None:
            raise error
        if entry.scope.cancelled_caught:
            assert entry.stop is not None
            raise SessionEndedError(f"the call of {node.name} was cancelled: {entry.stop.value}")
        return result

    def refusal(self, node: FunctionNode[..., Any], run: Run | None) -> SessionError | None:
        """Why a call may not begin here and now, or None if it may."""
        refusal: SessionError | None = None
        if self.closed or (run is not None and run.over):
            what = "its session" if self.closed else "the call it belongs to"
            refusal = SessionEndedError(
                f"the call of {node.name} came after {what} had ended; "
                f"wait for the task that makes it, for example in an `async with anyio.create_task_group()`"
            )
        elif self.failure is not None:
            refusal = SessionEndedError(
                f"the call of {node.name} came after an error had ended the session; open a new session"
            )
        elif not self.is_here and self._entries_elsewhere():
            refusal = SessionError(
                f"the call of {node.name} came in another event loop than its session's; "
                f"in a worker thread write `rt.call_sync({node.name}, ...)`"
            )
        if refusal is not None:
            refusal.__cause__ = self.failure
        return refusal

    @property
    def is_here(self) -> bool:
        """Is this the thread of its event loop?"""
        return self._thread == threading.get_ident()

    def _entries_elsewhere(self) -> bool:
        return self.has_nursery or bool(self._entries)

    # ---- failure and the end

    def _fail(self, exc: BaseException) -> None:
        self.failure = exc
        self._failure_traceback = exc.__traceback__
        self._halted = True
        for entry in tuple(self._entries):
            entry.cancel(Stop.FAILURE)

    def _reason(self, run: Run, exc: BaseException) -> Reason:
        if isinstance(exc, GeneratorExit):  # the coroutine was thrown away; no event loop need be running
            return Reason.OUTSIDE
        if self.failure is not None:
            return Reason.END_ON_ERROR
        return Reason.TIMEOUT if anyio.current_time() >= run.deadline else Reason.OUTSIDE

    async def abandoned(self, record: CallRecord) -> None:
        """The call is being cancelled, and its worker thread goes on. What the thread has called is cancelled too.

        Such calls run in other tasks, which on trio no scope of the call's own reaches.
        """
        self.state.abandoned(record)
        self._announcer.abandoned(record)
        own = [entry for entry in self._entries if entry.caller is record]
        for entry in own:
            entry.cancel(Stop.ABANDONED)
        if own:
            await shielded(lambda: self._changed.wait_while(lambda: any(entry in self._entries for entry in own)))

    def rename(self, session_id: str) -> None:
        """Take another identifier, before the first call."""
        self.session_id = self._announcer.session_id = session_id

    def bind(self) -> None:
        """Belong to the event loop that is running in this thread."""
        if self._thread is None or not self._entries:
            self._thread = threading.get_ident()
            self.current_task = task_getter()
            self._yield_at = self.clock() + YIELD_AFTER
            self.threads.unbind()

    def reach(self) -> EventLoopToken:
        """How another thread gets to the session's event loop, which is started if need be. From that other thread."""
        if self.loop is None and self.start_loop is not None:
            self.start_loop()
        if self.loop is None:
            raise SessionError(
                "rt.call_sync() cannot reach a session that was entered with a plain `with` in async code; "
                "enter it with `async with rt.Session():`"
            )
        return self.loop

    def starting(self, change: int) -> None:
        """Children of the session are about to enter (+1), or are done (-1)."""
        self._starting += change
        self._changed.notify_all()

    @property
    def idle(self) -> bool:
        return not self._entries and not self._starting

    async def wait_idle(self) -> None:
        """Wait until no call is running. Cancellation: the wait ends, nothing else does."""
        await self._changed.wait_while(lambda: not self.idle)

    def close(self) -> None:
        """Let no further call begin, and cancel those that run."""
        self.closed = self._halted = True
        for entry in tuple(self._entries):
            entry.cancel(Stop.SESSION_ENDED)


async def abandon_current() -> None:
    """The current call is being cancelled, and its worker thread goes on."""
    frame: Frame = current.get()
    assert frame.record is not None
    await frame.coordinator.abandoned(frame.record)


def _is_fatal(exc: Exception) -> bool:
    return isinstance(exc, FatalError) or (isinstance(exc, NodeInvocationError) and exc.fatal)


def _retrieve_exception(task: object) -> None:
    """Nobody may be awaiting a task that the session cancelled: spare its owner asyncio's "never retrieved"."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(task, asyncio.Task):
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
