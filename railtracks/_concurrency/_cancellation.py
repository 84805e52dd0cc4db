"""Waits that cancellation must not cut off, checkpoints that deliver a cancellation, and where one came from."""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, final

import anyio
from anyio import lowlevel

from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import cancellation_types, is_stray_cancellation, running_library
from railtracks._concurrency._kinds import is_kind

T = TypeVar("T")


def _kept() -> tuple[type[BaseException], ...]:
    """Return the exceptions that a :class:`Shield` keeps. Looked up when one is raised, which few sessions see."""
    return (*cancellation_types(), KeyboardInterrupt)


@final
class Shield:
    """Waits that neither a cancellation nor Ctrl-C ends. It keeps what came, to be raised when all is done.

    A shielded cancel scope is not enough. On asyncio ``task.cancel()``, ``wait_for``, the end of ``asyncio.run`` and
    Ctrl-C go straight through it, into whatever the task awaits; on trio Ctrl-C is raised in the main task wherever
    that waits. So each wait here is begun again until its condition is met. Nothing of it runs in another task, which
    would be cancelled as well when ``asyncio.run`` ends.

    Attributes:
        interruption: What is to be raised: the KeyboardInterrupt or SystemExit that came, or else the first
            cancellation.
        count: How often something came.
    """

    __slots__ = ("_changed", "count", "interruption")

    def __init__(self) -> None:
        self.interruption: BaseException | None = None
        self.count: int = 0
        self._changed: Condition | None = None  # what is being waited for

    def note(self, exc: BaseException) -> None:
        """Keep an exception that came; Ctrl-C and SystemExit count more than a cancellation."""
        self.count += 1
        if self.interruption is None or (
            is_kind(exc, (KeyboardInterrupt, SystemExit))
            and not is_kind(self.interruption, (KeyboardInterrupt, SystemExit))
        ):
            self.interruption = exc

    def count_earlier(self) -> None:
        """Count an interruption that came before the waits, and that the caller raises."""
        self.count += 1

    def interrupt(self, exc: KeyboardInterrupt) -> None:
        """Keep a Ctrl-C that came in another thread, and have the condition that is waited for checked again."""
        self.note(exc)
        if self._changed is not None:
            self._changed.notify_all()

    async def wait_while(self, condition: Callable[[], bool], changed: Condition, deadline: float = math.inf) -> bool:
        """Wait until ``condition()`` is false.

        Args:
            condition: What is waited for.
            changed: Notified whenever ``condition()`` may have changed.
            deadline: When to give up, on ``anyio.current_time()``.

        Returns:
            Whether the condition was met before the deadline.

        Cancellation: kept in ``interruption``, as is Ctrl-C; the wait goes on.
        """
        self._changed = changed
        try:
            while condition():
                if deadline < math.inf and anyio.current_time() >= deadline:
                    return False
                try:
                    with anyio.CancelScope(shield=True, deadline=deadline):
                        await changed.wait_while(condition)
                except _kept() as exc:
                    self.note(exc)
        finally:
            self._changed = None
        return True

    async def wait(self, event: anyio.Event) -> None:
        """Wait for an event. Cancellation and Ctrl-C are kept, and the wait goes on."""
        while not event.is_set():
            await self.attempt(event.wait)

    async def attempt(self, func: Callable[[], Awaitable[object]]) -> None:
        """Await code that is not ours, once, in a shielded scope. A cancellation or Ctrl-C in it is kept.

        Raises:
            Exception: whatever ``func`` raises.
        """
        try:
            with anyio.CancelScope(shield=True):
                await func()
        except _kept() as exc:
            self.note(exc)

    async def step(self, func: Callable[[], Awaitable[object]]) -> None:
        """Await a step of the end. Whatever it raises is kept, so that the next step runs.

        A step that Ctrl-C tears apart, as the second one does on asyncio, is begun again; it must allow that.
        """
        while True:
            try:
                await func()
            except GeneratorExit:  # the coroutine is closed, and can wait for nothing
                raise
            except BaseException as exc:
                self.note(exc)
                if not is_kind(exc, KeyboardInterrupt):
                    return
            else:
                return

    def check(self) -> None:
        """Raise what came, if anything did."""
        if self.interruption is not None:
            raise self.interruption


async def shielded(func: Callable[[], Awaitable[T]]) -> T:
    """Await code that is not ours to its end, even if the caller is cancelled.

    On asyncio ``task.cancel()`` goes through shielded scopes, so the code runs in a child task. The task group turns
    the cancellation into one of its own scope, and waits.

    Raises:
        BaseException: whatever ``func`` raises.

    Cancellation: passed on when ``func`` has ended, whose result is lost then.
    """
    result: T
    error: BaseException | None = None
    # Looked up here: when a coroutine is closed by the garbage collector, no event loop may be running to ask.
    passed_on = (anyio.get_cancelled_exc_class(), KeyboardInterrupt, SystemExit, GeneratorExit)

    async def child() -> None:
        nonlocal result, error
        try:
            with anyio.CancelScope(shield=True):
                result = await func()
        except BaseException as exc:
            if is_kind(exc, passed_on) and not is_stray_cancellation(exc):
                raise
            error = exc  # raised below: the task group would wrap it, or take a stray cancellation for its own

    if running_library() == "trio":
        await child()
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
    if error is not None:
        raise error
    return result


async def checkpoint_if_cancelled() -> None:
    """Raise the cancellation of a scope around the caller, if there is one.

    On asyncio anyio's function of this name loops until a cancellation is delivered. In a task that a thread started
    none may ever come, once the scopes in between were left; a scope of our own delivers it.
    """
    with anyio.CancelScope() as scope:
        if anyio.current_effective_deadline() == -math.inf:
            scope.cancel()
        await lowlevel.checkpoint_if_cancelled()


# ---- where a cancellation came from


def first_cancellation(exc: BaseException, frame: Any) -> BaseException:
    """Return the cancellation that began what ``exc`` goes on with.

    Cleanup that waits in a cancelled scope is cancelled again, and then the newer exception goes on. The older ones
    are its context. So is a cancellation that a caller was already handling when it began this call; that one is of
    another, and does not count.

    Args:
        exc: The cancellation that arrived.
        frame: The frame that it arrived in.
    """
    callers: set[object] | None = None
    while exc.__context__ is not None and is_kind(exc.__context__, type(exc)):
        earlier = exc.__context__
        if earlier.__traceback__ is not None:
            if callers is None:
                callers = set()
                while frame is not None:
                    callers.add(frame)
                    frame = frame.f_back
            if earlier.__traceback__.tb_frame in callers:
                break
        exc = earlier
    return exc


def sender_of(exc: BaseException, scopes: Iterable[anyio.CancelScope]) -> anyio.CancelScope | bool | None:
    """Return which of ``scopes`` sent the cancellation ``exc``, which has just reached the running code.

    Returns:
        The scope; False if it was none of them; None if the exception does not say, as with ``task.cancel()``.
    """
    message = exc.args[0] if exc.args else ""
    if isinstance(message, str) and message.startswith(_ASYNCIO_MESSAGE):  # written by anyio on asyncio
        sender = message[len(_ASYNCIO_MESSAGE) :].partition(" ")[0].partition(";")[0]
        return next((scope for scope in scopes if f"{id(scope):x}" == sender), False)
    trio = sys.modules.get("trio")
    if trio is not None and is_kind(exc, trio.Cancelled):
        return _sender_on_trio(trio, scopes)
    return None


_ASYNCIO_MESSAGE = "Cancelled via cancel scope "


def _sender_on_trio(trio: Any, scopes: Iterable[anyio.CancelScope]) -> anyio.CancelScope | bool | None:
    """Return which of ``scopes`` cancels the current task; None if trio does not say.

    trio does not name the scope whose deadline has expired. But a scope that is cancelled hands its reason to the
    scopes within it, so the outermost one that has the same reason is the sender. Private names of trio and anyio;
    ``tests/test_causes.py`` notices if they change.
    """
    try:
        status = trio.lowlevel.current_task()._cancel_status
        reason = status._scope._cancel_reason
        if reason is None or reason.source == "KeyboardInterrupt":  # noted where Ctrl-C came; it cancels no scope
            return None
        while status._parent is not None and status._parent._scope._cancel_reason is reason:
            status = status._parent
        return next((scope for scope in scopes if scope._CancelScope__original is status._scope), False)  # type: ignore[attr-defined]
    except (AttributeError, RuntimeError):
        return None
