"""The limits that are shared by name in a process: by all its sessions, event loops and threads."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._background import Work, background
from railtracks._concurrency._rate_window import RateWindow
from railtracks._concurrency._slots import SharedSlotPool, SlotPool
from railtracks._concurrency._turns import Turns
from railtracks._policies import Limit
from railtracks.exceptions import ConfigError

_MANY = 8
"""The number of declarations after which those are forgotten that are not in use any more."""


class SharedLimit:
    """What all calls share that have an ``rt.Limit`` of one name.

    Args:
        limit: The limit.
        clock: Returns monotonic seconds.

    Attributes:
        pool: Its slots; None if any number may run at once.
        rate: Its rate; None if any number may begin.
    """

    __slots__ = ("_declared", "_kind", "_turns", "pool", "rate")

    def __init__(self, limit: Limit, clock: Callable[[], float]) -> None:
        self._kind = _kind(limit)
        self._declared: list[weakref.ref[Limit]] = [weakref.ref(limit)]
        self.pool: SlotPool | None = None if limit.concurrency is None else SharedSlotPool(_release_soon)
        per_period = limit.per_period
        self.rate: RateWindow | None = None if per_period is None else RateWindow(*per_period, _weakly(clock))
        self._turns: dict[str, Turns] = {}

    def turns(self, group: str) -> Turns:
        """Return the queue of those who ask for a slot that processes share; see ``StoredLimit.group``."""
        return self._turns.setdefault(group, Turns())

    def other_than(self, limit: Limit) -> Limit | None:
        """Return a limit that is in use and not the same as ``limit``; None if there is none, and both may share this.

        What a call does that is over the limit is its own matter, and not compared.
        """
        if self._kind == _kind(limit):
            if len(self._declared) >= _MANY:
                self._declared = [each for each in self._declared if each() is not None]
            self._declared.append(weakref.ref(limit))
            return None
        if self._is_declared():
            gc.collect()  # nodes may be parts of cycles
        return next((found for each in self._declared if (found := each()) is not None), None)

    def _is_declared(self) -> bool:
        return any(each() is not None for each in self._declared)


def _kind(limit: Limit) -> tuple[int | None, tuple[int, float] | None]:
    return limit.concurrency, limit.per_period


def _weakly(clock: Callable[[], float]) -> Callable[[], float]:
    """Return a clock that does not keep ``clock`` alive, by which the limit is found."""
    find = weakref.ref(clock)

    def now() -> float:
        found = find()
        assert found is not None  # the session whose call asks has it
        return found()

    return now


def _release_soon(lock: Any) -> None:
    """Release the lock of a slot, which is a file, in a thread."""
    background.submit(Work(lock.release))


_guard = threading.Lock()
_shared: weakref.WeakKeyDictionary[Callable[[], float], dict[str, SharedLimit]] = weakref.WeakKeyDictionary()
"""The limits by their name, for each clock: what runs under virtual time shares nothing with what does not."""


def shared_limit(limit: Limit, clock: Callable[[], float]) -> SharedLimit:
    """Return what calls with a limit share with all others of its name.

    Args:
        limit: The limit.
        clock: The clock of the session.

    Raises:
        ConfigError: a node that still exists has another limit of the same name.
    """
    with _guard:
        known = _shared.setdefault(clock, {})
        found = known.get(limit.name)
        if found is not None:
            other = found.other_than(limit)
            if other is not None:
                raise ConfigError(
                    f"there are two limits called {limit.name!r}: {shown_limit(other)} and {shown_limit(limit)}; "
                    f"write one rt.Limit(...) and pass it to all nodes that share it, or give one another name"
                )
            if found._kind == _kind(limit):
                return found
        found = known[limit.name] = SharedLimit(limit, clock)
        return found


def shown_limit(limit: Limit) -> str:
    """Return a limit as it is written, without what has its default."""
    parts = [repr(limit.name)]
    parts += [f"concurrency={limit.concurrency}"] if limit.concurrency is not None else []
    parts += [f"rate={limit.rate!r}"] if limit.rate is not None else []
    parts += [f"wait={limit.wait!r}"] if limit.wait is not True else []
    return f"rt.Limit({', '.join(parts)})"


@after_fork
def _reset() -> None:
    global _guard
    _guard = threading.Lock()
    _shared.clear()
