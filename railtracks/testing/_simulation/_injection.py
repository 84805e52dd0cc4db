"""Carrying out a fault plan: around each call, and in the store."""

from __future__ import annotations

import copy
import errno
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random
from typing import Any

import anyio
import attrs
from anyio.lowlevel import checkpoint

from railtracks.state import Store
from railtracks.testing.faults import Cancel, Delay, Fault, Hang, Kill, LoseWorker, Raise, Return, StoreFault

ERRNO = {"disk full": errno.ENOSPC, "no permission": errno.EACCES}


class ProcessKilled(BaseException):
    """Stands in for the death of the process in a simulated run; nothing of the user's should catch it."""


class Injector:
    """Carries out the faults at calls.

    Args:
        faults: The plan; store faults are left out.
        random: Decides where a probability is given.
        tell: Called with each fault that happens, before it does.
        cancel: Cancels the run.
        abandon: Called in a call whose worker is lost, when it is cancelled.
    """

    def __init__(
        self,
        faults: Sequence[Fault | StoreFault],
        random: Random,
        tell: Callable[[Fault], None],
        cancel: Callable[[], None],
        abandon: Callable[[], Awaitable[None]],
    ) -> None:
        self._faults = faults  # may grow
        self._random = random
        self._tell = tell
        self._cancel = cancel
        self._abandon = abandon
        self._calls: Counter[str | None] = Counter()

    async def around(self, name: str, is_async: bool, run: Callable[[], Awaitable[Any]]) -> Any:
        """Run a call of the node ``name``, with what goes wrong about it."""
        if not self._faults:
            return await run()
        self._calls[name] += 1
        self._calls[None] += 1
        due = [fault for fault in self._faults if isinstance(fault, Fault) and self._is_due(fault, name)]
        for fault in due:
            action = fault.does
            if getattr(action, "after", False) or isinstance(action, LoseWorker):
                continue
            self._tell(fault)
            if isinstance(action, Return):
                return action.value
            await self._do(action)
        result = await run()
        for fault in due:
            action = fault.does
            if isinstance(action, LoseWorker):
                self._tell(fault)
                await self._lose(is_async)
            elif getattr(action, "after", False):
                self._tell(fault)
                await self._do(action)
        return result

    def _is_due(self, fault: Fault, name: str) -> bool:
        if fault.node is not None and fault.node != name:
            return False
        if fault.call is not None and fault.call != self._calls[fault.node]:
            return False
        return fault.probability == 1 or self._random.random() < fault.probability

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

    async def _lose(self, is_async: bool) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            if not is_async:
                await self._abandon()


def _fresh(exception: Exception | type[Exception]) -> Exception:
    """One that has not been raised yet."""
    if isinstance(exception, type):
        return exception("injected")
    try:
        return copy.copy(exception).with_traceback(None)
    except Exception:  # an exception of the user's that cannot be copied
        return exception.with_traceback(None)


@attrs.define(eq=False)
class _Count:
    """How often it still works, before a fault of the store happens."""

    fault: StoreFault
    left: int
    told: bool = False


class FaultyStore:
    """A store in which writing goes wrong as planned; all else goes to ``store``."""

    def __init__(self, store: Store, faults: Sequence[StoreFault], tell: Callable[[StoreFault], None]) -> None:
        self._store = store
        self._tell = tell
        self._left = [_Count(fault, fault.after) for fault in faults]
        self.killed: ProcessKilled | None = None
        """Once the process was killed: nothing is written any more."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open(self, identifier: str, content: bytes, durable: bool = False) -> _FaultyAppender:
        self.meet("open")
        return _FaultyAppender(self, self._store.open(identifier, content, durable))

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        self.meet("save")
        if self.killed is None:
            self._store.save(identifier, content)

    def move_journal(self, identifier: str, to: str) -> bool:
        return self.killed is None and self._store.move_journal(identifier, to)

    def remove(self, identifier: str) -> None:
        if self.killed is None:
            self._store.remove(identifier)

    def meet(self, operation: str) -> None:
        """Something is about to be written."""
        if self.killed is not None:
            return
        for count in self._left:
            fault = count.fault
            if operation != getattr(fault, "at", "append") or not self._is_due(count):
                continue
            if isinstance(fault, Kill):
                self.killed = ProcessKilled(f"killed after {fault.after} journal records")
                raise self.killed
            number = ERRNO[fault.error]
            raise OSError(number, os.strerror(number))

    def _is_due(self, count: _Count) -> bool:
        if count.left:
            count.left -= 1
            return False
        if not count.told:
            count.told = True
            self._tell(count.fault)
        return True


class _FaultyAppender:
    def __init__(self, store: FaultyStore, appender: Any) -> None:
        self._faulty = store
        self._appender = appender

    def append(self, content: bytes) -> None:
        self._faulty.meet("append")
        if self._faulty.killed is None:
            self._appender.append(content)

    def sync(self) -> None:
        self._faulty.meet("sync")
        self._appender.sync()

    def close(self) -> None:
        self._appender.close()
