"""What has the same order each time under virtual asyncio: timers, tasks and futures in sets, scopes in a scope.

The seed does not decide it. Timers fire in the order in which they were set, as they do in real time. asyncio and anyio
put tasks, futures and coroutines into sets, whose order would otherwise be that of addresses.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

from anyio._backends import _asyncio as anyio_backend


class Task(asyncio.Task[Any]):
    """A task that knows how many tasks were made before it.

    That number is its hash, so that the order of sets of tasks, such as ``asyncio.wait`` returns, does not depend on
    addresses.
    """

    def __init__(self, *args: Any, order: int, **options: Any) -> None:
        self._railtracks_order = order  # first, because the next line puts the task into a set
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._railtracks_order


class Future(asyncio.Future[Any]):
    """A future that knows how many tasks and futures were made before it; see ``Task``."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop, order: int) -> None:
        self._railtracks_order = order
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._railtracks_order


def task_of(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    """Return the task whose next step ``handle`` is, or None if it is another callback."""
    callback = handle._callback  # type: ignore[attr-defined]
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return None
    name = getattr(callback, "__name__", "TaskStepMethWrapper")
    return task if name in ("TaskStepMethWrapper", "task_wakeup", "__step", "__wakeup") else None


class Moment(float):
    """When a timer is due. Of timers that are due at once, the one that was set first comes first.

    In real time each is due a little later than the one before; in virtual time no time passes between them, and a heap
    has no order among equals.
    """

    __slots__ = ("_order",)
    _order: int

    @classmethod
    def of(cls, when: float, order: int) -> Moment:
        moment = cls(when)
        moment._order = order
        return moment

    def __lt__(self, other: Any) -> bool:
        return self._order < other._order if self == other and isinstance(other, Moment) else float(self) < other


class _ScopesInOrder(dict[Any, None]):
    """The part of a set that anyio uses, in the order of insertion."""

    def add(self, scope: Any) -> None:
        self[scope] = None

    def discard(self, scope: Any) -> None:
        self.pop(scope, None)

    def remove(self, scope: Any) -> None:
        del self[scope]


def _in_order(*given: Any) -> Any:
    """Stand for ``set`` in asyncio's own module of tasks.

    ``as_completed`` makes the tasks of coroutines in the order of a set of them.
    """
    return dict.fromkeys(*given).keys() if given else set()


_lock = threading.Lock()
_runs = 0
_original = anyio_backend.CancelScope.__init__


@functools.wraps(_original)
def _init(self: Any, *args: Any, **kwargs: Any) -> None:
    _original(self, *args, **kwargs)
    self._child_scopes = _ScopesInOrder()


@contextlib.contextmanager
def sets_in_order() -> Iterator[None]:
    """Have asyncio and anyio go through coroutines and scopes in the order in which they got them."""
    global _runs
    with _lock:
        _runs += 1
        anyio_backend.CancelScope.__init__ = _init  # type: ignore[method-assign]
        asyncio.tasks.set = _in_order  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with _lock:
            _runs -= 1
            if not _runs:
                anyio_backend.CancelScope.__init__ = _original  # type: ignore[method-assign]
                del asyncio.tasks.set  # type: ignore[attr-defined]
