"""The virtual world of a run: what clocks and chance are for the code that runs in it, and which code that is.

A world belongs to threads: that of the event loop, and those that do work for the run. In them, code of users and of
most libraries gets the virtual clock and numbers that the seed decides. Event loops, pytest, logging and the harness
itself get the real ones, or else they could not do their work. All other threads of the process are in no world.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from random import Random
from types import FrameType
from typing import Any, Protocol

REAL_PACKAGES = frozenset(
    {
        "_pytest", "anyio", "asyncio", "coverage", "debugpy", "execnet", "freezegun",
        "hypothesis", "importlib", "logging", "multiprocessing", "outcome", "pluggy", "pydevd", "pytest",
        "pytest_asyncio", "pytest_timeout", "pytest_trio", "queue", "railtracks", "selectors", "sniffio", "socket",
        "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time_machine", "trio", "unittest", "uvloop",
        "weakref", "xdist",
    }
)  # fmt: skip
"""Packages that have the real clocks and real chance in a run, too."""


class WorldClock(Protocol):
    """What a world needs of the clock of its run."""

    @property
    def reading(self) -> float:
        """What ``time.monotonic()`` returns."""

    @property
    def wall(self) -> float:
        """What ``time.time()`` returns."""

    def jump_to(self, reading: float) -> None:
        """Advance the clock until it reads that."""

    def note_undetermined(self, text: str) -> None:
        """Note that the seed does not decide something in the run."""


class ThreadWaits(Protocol):
    """How threads of a run wait in virtual time."""

    scheduler: Any
    """The scheduler of the threads of the run."""

    @property
    def are_virtual(self) -> bool:
        """Whether the waits of the calling thread are virtual."""

    def reach_place(self, frame: FrameType) -> None:
        """Handle that the code of a frame is where this thread could lose its turn."""

    def sleep(self, seconds: float) -> None:
        """Pass virtual seconds in this thread."""

    def wait(self, is_over: Callable[[], bool], timeout: float | None, holder: Callable[[], str] = str) -> bool:
        """Wait until something happens, and return whether it has."""


class World:
    """The clocks and the chance of one run.

    Args:
        clock: The clock of the run.
        chance: The text that decides its chance; None for real chance.
    """

    def __init__(self, clock: WorldClock, chance: str | None) -> None:
        self.clock = clock
        self._chance = chance
        self.waits: ThreadWaits | None = None
        """How its threads wait; None if they wait in real time."""
        self.loop_thread: int = threading.get_ident()
        self._uuids = itertools.count()

    @functools.cached_property
    def random(self) -> Random | None:
        """What stands for the global generator of ``random``; None for the real one."""
        return None if self._chance is None else Random(f"{self._chance}/random")  # noqa: S311 (repeatable)

    @functools.cached_property
    def entropy(self) -> Random | None:
        """What stands for ``os.urandom``; None for the real one."""
        return None if self._chance is None else Random(f"{self._chance}/entropy")  # noqa: S311 (repeatable)

    def end(self) -> None:
        """Have no thread be in this world from now on."""
        for thread, world in list(_worlds.items()):
            if world is self:
                _worlds.pop(thread, None)

    def note_undetermined(self, text: str) -> None:
        """Note that the seed does not decide something in this run. From any thread."""
        self.clock.note_undetermined(text)

    def count_uuid(self) -> int:
        """Return how many were counted before: no two identifiers of one moment are equal."""
        return next(self._uuids)

    @contextlib.contextmanager
    def in_this_thread(self) -> Iterator[None]:
        """Have the code inside the block, in this thread, be in this world."""
        outer = world_of_thread()
        self.enter()
        try:
            yield
        finally:
            self.leave(threading.get_ident())
            if outer is not None:
                outer.enter()

    def enter(self) -> None:
        """Have the calling thread be in this world from now on."""
        _worlds[threading.get_ident()] = self

    def leave(self, thread: int) -> None:
        """Have the thread be in no world from now on, if it is in this one."""
        if _worlds.get(thread) is self:
            del _worlds[thread]


_worlds: dict[int, World] = {}  # by thread


def world_of_thread() -> World | None:
    """Return the world of this thread, whatever code asks."""
    return _worlds.get(threading.get_ident())


def world_of_caller() -> World | None:
    """Return the world of the code that called the function which calls this; None for the real one."""
    world = _worlds.get(threading.get_ident())
    if world is None:
        return None
    name: str = sys._getframe(2).f_globals.get("__name__", "")
    return None if name.partition(".")[0] in REAL_PACKAGES else world
