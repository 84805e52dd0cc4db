"""Locks for the threads of a run: where a thread would block for one, it pauses, and others continue."""

from __future__ import annotations

import _thread
import sys
import threading
from types import CodeType, FrameType
from typing import Any

from railtracks.testing._virtual_time._tasks import place_of
from railtracks.testing._virtual_time._world import ThreadWaits, World, world_of_thread

_BETWEEN = frozenset({__name__, "queue", "threading"})
"""Modules that acquire locks for the code which calls them."""


def _before_acquiring(caller: FrameType) -> None:
    """Let other threads continue before user code acquires a lock, if it is to lose its turn there."""
    world = world_of_thread()
    if world is not None and world.waits is not None:
        world.waits.reach_place(caller)


def _check(blocking: bool, timeout: float) -> None:
    """Raise what a real lock raises if it is given a timeout that is not allowed."""
    if timeout != -1:
        _thread.allocate_lock().acquire(blocking, timeout)


def _outside(frame: FrameType) -> FrameType:
    """Return the first frame, from this one on, that is not in code which acquires locks for others."""
    while frame.f_globals.get("__name__") in _BETWEEN and frame.f_back is not None:
        frame = frame.f_back
    return frame


class _Lock:
    """What locks of all kinds have in common.

    Args:
        lock: Another lock, which is held while this one is.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock
        self._holder: tuple[int, CodeType, int] | None = None  # the thread, and where in code it was

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, and return whether that has happened; see ``threading.Lock``."""
        _before_acquiring(sys._getframe(1))
        _check(blocking, timeout)
        world = world_of_thread()
        if world is None or world.waits is None or not world.waits.are_virtual or not blocking:
            acquired = bool(self._lock.acquire(blocking, timeout))
        else:
            acquired = self._acquire_in(world, world.waits, timeout)
        if acquired and world is not None:
            frame = _outside(sys._getframe(1))
            self._holder = threading.get_ident(), frame.f_code, frame.f_lineno
        return acquired

    def _acquire_in(self, world: World, waits: ThreadWaits, timeout: float) -> bool:
        until = None if timeout < 0 else world.clock.reading + timeout
        while not self._lock.acquire(False):
            left = None if until is None else until - world.clock.reading
            if not waits.wait(lambda: not self.locked(), left, self._describe_holder):
                return bool(self._lock.acquire(False))
        return True

    def _describe_holder(self) -> str:
        """Return where the lock was acquired, if it is held."""
        if self._holder is None or not self.locked():
            return ""
        thread, code, line = self._holder
        world = world_of_thread()
        is_in_loop = world is None or thread == world.loop_thread
        return place_of(code, line) + ("" if is_in_loop else ", in a thread")

    def release(self) -> None:
        """Release the lock."""
        self._holder = None
        self._lock.release()

    def locked(self) -> bool:
        """Return whether it is held."""
        return bool(self._lock.locked())

    def __enter__(self) -> bool:
        _before_acquiring(sys._getframe(1))
        return self.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self.release()


class VirtualLock(_Lock):
    """Stands for ``threading.Lock()``. Outside of runs, and after them, it does the same.

    Args:
        lock: A real lock that was made before, for which it stands; None for a new one.
    """

    def __init__(self, lock: _thread.LockType | None = None) -> None:
        super().__init__(_thread.allocate_lock() if lock is None else lock)

    def _at_fork_reinit(self) -> None:
        self._lock = _thread.allocate_lock()


class AdoptedRLock(_Lock):
    """Stands for a real ``threading.RLock`` that was made before the run, and that others may go on to use.

    Args:
        lock: That lock.
    """

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, once more if this thread holds it, and return whether that has happened."""
        if self._is_owned():
            return bool(self._lock.acquire(blocking, timeout))
        _before_acquiring(sys._getframe(1))
        return super().acquire(blocking, timeout)

    def locked(self) -> bool:
        """Return whether it is held."""
        return not repr(self._lock).startswith("<unlocked")  # the real one has no such method before Python 3.14

    # ---- for threading.Condition

    def _is_owned(self) -> bool:
        return bool(self._lock._is_owned())

    def _release_save(self) -> Any:
        self._holder = None
        return self._lock._release_save()

    def _acquire_restore(self, saved: Any) -> None:
        super().acquire()
        self._lock.release()  # no other thread of the run can come in between
        self._lock._acquire_restore(saved)

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()


class VirtualRLock(_Lock):
    """Stands for ``threading.RLock()``."""

    def __init__(self) -> None:
        super().__init__(VirtualLock())
        self._owner: int | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Acquire the lock, once more if this thread holds it, and return whether that has happened."""
        _check(blocking, timeout)
        if self._owner == threading.get_ident():
            self._count += 1
            return True
        _before_acquiring(sys._getframe(1))
        acquired = bool(self._lock.acquire(blocking, timeout))
        if acquired:
            self._owner, self._count = threading.get_ident(), 1
        return acquired

    def release(self) -> None:
        """Release the lock, as often as it was acquired."""
        if self._owner != threading.get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._owner = None
            self._lock.release()

    # ---- for threading.Condition

    def _is_owned(self) -> bool:
        return self._owner == threading.get_ident()

    def _release_save(self) -> Any:
        saved, self._count, self._owner = self._count, 0, None
        self._lock.release()
        return saved

    def _acquire_restore(self, saved: Any) -> None:
        self._lock.acquire()
        self._count, self._owner = saved, threading.get_ident()

    def _at_fork_reinit(self) -> None:
        self.__init__()  # type: ignore[misc]
