"""Injection of faults: around calls, and in the store."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import errno
import functools
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NoReturn

import anyio
import attrs
from anyio.lowlevel import checkpoint

from railtracks.exceptions import RunLostError
from railtracks.state import Lock, Store
from railtracks.testing._virtual_time._choices import Choices
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._timers import call_later
from railtracks.testing.faults import (
    Cancel,
    Delay,
    DelaySave,
    Fault,
    Hang,
    Kill,
    LoseLease,
    LoseWorker,
    Raise,
    Return,
    StoreFault,
)

ERRNO = {"disk full": errno.ENOSPC, "no permission": errno.EACCES}


class ProcessKilled(BaseException):
    """The simulated death of the process; user code should not catch it."""


class Injector:
    """Injects faults at calls.

    Args:
        faults: The plan; store faults in it are ignored. Faults may be added later.
        chances: Decides about faults with a probability.
        on_fault: Called with each fault that happens, before it does.
        cancel: Cancels the run.
        abandon: Awaited in a call whose worker is lost, when the call is cancelled.
    """

    def __init__(
        self,
        faults: Sequence[Fault | StoreFault],
        chances: Choices,
        on_fault: Callable[[Fault], None],
        cancel: Callable[[], None],
        abandon: Callable[[], Awaitable[object]],
    ) -> None:
        self._faults = faults
        self._chances = chances
        self._on_fault = on_fault
        self._cancel = cancel
        self._abandon = abandon
        self._calls: Counter[str | None] = Counter()
        self.on_call: Callable[[str, int], object] = lambda *_: None
        """Called with the node of each call that begins, and which call of it that is."""

    async def run_call(self, name: str, is_async: bool, run: Callable[[], Awaitable[Any]]) -> Any:
        """Run a call with the faults that are due at it, and return its result.

        Args:
            name: The name of the node.
            is_async: Whether the node is async.
            run: Runs the node.
        """
        if not self._faults:
            return await run()
        self._calls[name] += 1
        self._calls[None] += 1
        self.on_call(name, self._calls[name])
        due = [fault for fault in self._faults if isinstance(fault, Fault) and self._is_due(fault, name)]
        with contextlib.ExitStack() as timers:  # which end with the call
            for fault in due:
                action = fault.does
                if getattr(action, "after", False) or isinstance(action, LoseWorker):
                    continue
                if isinstance(action, Cancel) and action.seconds:
                    timers.callback(self._cancel_later(fault, action.seconds))
                    continue
                self._on_fault(fault)
                if isinstance(action, Return):
                    return action.value
                await self._do(action)
            result = await run()
        for fault in due:
            action = fault.does
            if isinstance(action, LoseWorker):
                self._on_fault(fault)
                await self._wait_as_lost_worker(is_async)
            elif getattr(action, "after", False):
                self._on_fault(fault)
                await self._do(action)
        return result

    def _is_due(self, fault: Fault, name: str) -> bool:
        if fault.node is not None and fault.node != name:
            return False
        if fault.call is not None and fault.call != self._calls[fault.node]:
            return False
        return fault.probability == 1 or self._chances.happens(fault.probability)

    def _cancel_later(self, fault: Fault, seconds: float) -> Callable[[], None]:
        """Cancel the run when the current call has run for so long; return a function that prevents it."""
        is_over = False
        context = contextvars.copy_context()  # in which the call is the current one

        def cancel() -> None:
            if not is_over:
                context.run(self._on_fault, fault)
                self._cancel()

        def end() -> None:
            nonlocal is_over
            is_over = True

        call_later(seconds, cancel)
        return end

    async def _do(self, action: Any) -> None:
        if isinstance(action, Raise):
            raise _fresh(action.exception)
        if isinstance(action, Delay):
            await anyio.sleep(action.seconds)
        elif isinstance(action, Hang):
            await anyio.sleep_forever()
        elif isinstance(action, Cancel):
            self._cancel()
            await checkpoint()

    async def _wait_as_lost_worker(self, is_async: bool) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            if not is_async:
                await self._abandon()


def _fresh(exception: Exception | type[Exception]) -> Exception:
    """Return an exception that has not been raised yet, if it can be made."""
    if isinstance(exception, type):
        return exception("injected")
    try:
        return copy.copy(exception).with_traceback(None)
    except Exception:  # a user's exception that cannot be copied
        return exception.with_traceback(None)


@attrs.define(eq=False)
class _Countdown:
    """A fault of the store, and how many times writing still works before it happens, and then it happens."""

    fault: StoreFault
    left: int
    times: int | None
    """None for always."""
    reported: bool = False
    is_on: bool = True
    """Whether it counts yet."""


_WRITING = frozenset({"copy_values", "move_messages", "put_message", "remove_message", "remove_values"})
"""The methods of values and mailboxes, which not each store has, that write."""


class FaultyStore:
    """A store in which writing fails as planned.

    Args:
        store: The store to write to.
        faults: The plan.
        on_fault: Called with each fault when it happens for the first time.
        clock: The clock of the run, by which writing takes long; None if it does not.
    """

    def __init__(
        self,
        store: Store,
        faults: Sequence[StoreFault] = (),
        on_fault: Callable[[StoreFault], object] = lambda _: None,
        clock: VirtualClock | None = None,
    ) -> None:
        self._store = store
        self._on_fault = on_fault
        self._clock = clock
        self._countdowns = [
            _Countdown(fault, fault.after, getattr(fault, "times", None), is_on=getattr(fault, "node", None) is None)
            for fault in faults
        ]
        if any(isinstance(fault, DelaySave) for fault in faults):
            self.blocks = True  # so that it is called in threads
        self.writes: Counter[str] = Counter()
        """How often each operation that may fail was called: "save", "open", "append" and "sync"."""
        self.killed: ProcessKilled | None = None
        """Set when the process was killed; nothing is written from then on."""
        self.lost: RunLostError | None = None
        """Set when another machine has the run; all that is written raises it from then on."""
        self._lease: _Lease | None = None

    def begin_call(self, node: str, call: int) -> None:
        """Handle that a call begins to run."""
        for countdown in self._countdowns:
            fault = countdown.fault
            countdown.is_on |= isinstance(fault, Kill) and (fault.node, fault.call) == (node, call)

    prepare = None
    """Journals are begun by ``open`` alone, so that the faults of that count."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return found if name not in _WRITING else functools.partial(self._write, found)

    def _write(self, method: Callable[..., Any], *args: Any) -> None:
        self._check_lease()
        if self.killed is None:
            method(*args)

    def lock(self, identifier: str) -> _Lease:
        lease = _Lease(self._store.lock(identifier))
        self._lease = self._lease or lease  # the first run is the one that is lost
        return lease

    def open(self, identifier: str, content: bytes, durable: bool = False) -> _FaultyAppender:
        if self.killed is not None:  # a journal that is begun again would take the place of what the process left
            raise self.killed
        self.maybe_fail("open")
        return _FaultyAppender(self, self._store.open(identifier, content, durable))

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        self.maybe_fail("save")
        if self.killed is None:
            self._store.save(identifier, content)

    def move_journal(self, identifier: str, to: str) -> bool:
        self._check_lease()
        return self.killed is None and self._store.move_journal(identifier, to)

    def remove(self, identifier: str) -> None:
        self._check_lease()
        if self.killed is None:
            self._store.remove(identifier)

    def put_value(self, identifier: str, digest: str, content: bytes) -> None:
        self._check_lease()
        if self.killed is None:
            self._store.put_value(identifier, digest, content)  # type: ignore[attr-defined]

    def _check_lease(self) -> None:
        if self.lost is not None:
            raise self.lost

    def maybe_fail(self, operation: str) -> None:
        """Raise the fault that is due at ``operation``, if there is one."""
        self.writes[operation] += 1
        if self.killed is not None:
            return
        self._check_lease()
        for countdown in self._countdowns:
            fault = countdown.fault
            if operation != getattr(fault, "at", "append"):
                continue
            # Some stores are also synced now and then by a thread in real time, which no seed decides.
            is_late = isinstance(fault, DelaySave)
            if (is_late and not (self._clock and self._clock.is_in_work())) or not self._is_due(countdown):
                continue
            if isinstance(fault, Kill):
                since = "" if fault.node is None else f" from call {fault.call} of {fault.node} on"
                self.killed = ProcessKilled(f"killed after {fault.after} journal entries{since}")
                raise self.killed
            if isinstance(fault, LoseLease):
                self._lose()
            if isinstance(fault, DelaySave):
                assert self._clock is not None
                self._clock.sleep_in_thread(fault.seconds)
                continue
            number = ERRNO[fault.error]
            raise OSError(number, os.strerror(number))

    def _lose(self) -> NoReturn:
        self.lost = RunLostError("this machine does not have the run any more: another one has gone on with it")
        if self._lease is not None:
            self._lease.on_lost(self.lost)
        raise self.lost

    def _is_due(self, countdown: _Countdown) -> bool:
        if not countdown.is_on:
            return False
        if countdown.left:
            countdown.left -= 1
            return False
        if countdown.times is not None:
            if not countdown.times:
                return False
            countdown.times -= 1
        if not countdown.reported:
            countdown.reported = True
            self._on_fault(countdown.fault)
        return True


class _Lease:
    """The lock of a run, which may be lost."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self.on_lost: Callable[[RunLostError], object] = bool

    def release(self) -> None:
        self._lock.release()


class _FaultyAppender:
    """An open journal in which writing fails as planned."""

    def __init__(self, store: FaultyStore, appender: Any) -> None:
        self._faulty = store
        self._appender = appender

    def append(self, content: bytes) -> None:
        self._faulty.maybe_fail("append")
        if self._faulty.killed is None:
            self._appender.append(content)

    def sync(self) -> None:
        self._faulty.maybe_fail("sync")
        self._appender.sync()

    def close(self) -> None:
        self._appender.close()
