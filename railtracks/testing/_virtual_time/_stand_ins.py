"""What stands for the functions of ``time``, ``random``, ``os`` and ``uuid`` while a virtual world is there.

Each asks which world its caller is in, and does what it always does if that is the real one.
"""

from __future__ import annotations

import functools
import os
import queue
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from railtracks.testing._virtual_time._virtual_locks import VirtualLock, VirtualRLock
from railtracks.testing._virtual_time._world import World, world_of_caller, world_of_thread

_RANDOM = (
    "betavariate", "binomialvariate", "choice", "choices", "expovariate", "gammavariate", "gauss", "getrandbits",
    "getstate", "lognormvariate", "normalvariate", "paretovariate", "randbytes", "randint", "random", "randrange",
    "sample", "seed", "setstate", "shuffle", "triangular", "uniform", "vonmisesvariate", "weibullvariate",
)  # fmt: skip
_CLOCKS: dict[str, Callable[[World], object]] = {
    "time": lambda world: world.clock.wall,
    "time_ns": lambda world: round(world.clock.wall * 1e9),
    "monotonic": lambda world: world.clock.reading,
    "monotonic_ns": lambda world: round(world.clock.reading * 1e9),
    "perf_counter": lambda world: world.clock.reading,
    "perf_counter_ns": lambda world: round(world.clock.reading * 1e9),
}
_TAKES_SECONDS = ("localtime", "gmtime", "ctime")
_UUID_EPOCH = 0x01B21DD213814000
"""The 100 ns steps from the beginning of the Gregorian calendar to that of Unix."""


def _clock(real: Any, read: Callable[[World], object]) -> Any:
    @functools.wraps(real)
    def stand_in() -> Any:
        world = world_of_caller()
        return real() if world is None else read(world)

    return stand_in


def _of_seconds(real: Any) -> Any:
    @functools.wraps(real)
    def stand_in(seconds: float | None = None, /) -> Any:
        world = world_of_caller()
        return real(world.clock.wall if world is not None and seconds is None else seconds)

    return stand_in


def _strftime(real: Any) -> Any:
    @functools.wraps(real)
    def stand_in(format: str, *parts: Any) -> Any:
        world = world_of_caller()
        return real(format, *(parts if parts or world is None else [_LOCAL_TIME(world.clock.wall)]))

    return stand_in


def _asctime(real: Any) -> Any:
    @functools.wraps(real)
    def stand_in(*parts: Any) -> Any:
        world = world_of_caller()
        return real(*(parts if parts or world is None else [_LOCAL_TIME(world.clock.wall)]))

    return stand_in


_LOCAL_TIME: Any = time.localtime


def _of_random(real: Any, name: str) -> Any:
    @functools.wraps(real)
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        world = world_of_caller()
        return (real if world is None or world.random is None else getattr(world.random, name))(*args, **kwargs)

    return stand_in


def _urandom(real: Any) -> Any:
    @functools.wraps(real)
    def stand_in(size: int, /) -> Any:
        world = world_of_caller()
        return real(size) if world is None or world.entropy is None else world.entropy.randbytes(size)

    return stand_in


def _uuid1(real: Any) -> Any:
    @functools.wraps(real)
    def stand_in(node: int | None = None, clock_seq: int | None = None) -> Any:
        world = world_of_caller()
        if world is None or world.entropy is None:
            return real(node, clock_seq)
        moment = round(world.clock.wall * 1e7) + _UUID_EPOCH + world.count_uuid()
        sequence = world.entropy.getrandbits(14) if clock_seq is None else clock_seq
        times = moment & 0xFFFFFFFF, moment >> 32 & 0xFFFF, moment >> 48 & 0x0FFF
        if node is None:
            node = world.entropy.getrandbits(48) | 1 << 40  # which marks a random one
        return uuid.UUID(fields=(*times, sequence >> 8 & 0x3F, sequence & 0xFF, node), version=1)

    return stand_in


def _sleep(real: Any) -> Any:
    @functools.wraps(real)
    def stand_in(seconds: float, /) -> None:
        world = world_of_caller()
        if world is None and (here := world_of_thread()) is not None and threading.get_ident() != here.loop_thread:
            world = here  # a sync node may be ``time.sleep`` itself, which the runtime calls
        if world is None or world.waits is None or not world.waits.are_virtual or not seconds >= 0:
            real(seconds)  # which raises, if the number is negative
        else:
            world.waits.sleep(seconds)

    return stand_in


def _timeout_clock(real: Any) -> Any:
    """Return the clock by which ``threading`` and ``queue`` see how much of a timeout is left."""

    @functools.wraps(real)
    def stand_in() -> Any:
        world = world_of_thread()
        return real() if world is None or world.waits is None or not world.waits.are_virtual else world.clock.reading

    return stand_in


def _lock(real: Any, virtual: Callable[[], object]) -> Any:
    @functools.wraps(real)
    def stand_in() -> Any:
        world = world_of_caller()
        return real() if world is None or world.waits is None or not world.waits.are_virtual else virtual()

    return stand_in


def _simple_queue(real: Any) -> Any:
    virtual: Any = vars(queue)["_PySimpleQueue"]

    class StandIn(real):  # type: ignore[misc]
        """Makes a queue written in Python where the waits of threads are virtual."""

        def __new__(cls) -> Any:
            world = world_of_caller()
            is_real = world is None or world.waits is None or not world.waits.are_virtual
            return real() if is_real else virtual()

    return StandIn


def is_original(function: Any) -> bool:
    """Return whether nothing else, such as freezegun or a mock, has replaced the function."""
    return getattr(function, "__module__", None) in _MODULES


_MODULES = (None, "_queue", "_thread", "nt", "posix", "random", "threading", "time", "uuid")


def _all() -> Iterator[tuple[ModuleType, str, Callable[[Any], Any]]]:
    for name, read in _CLOCKS.items():
        yield time, name, functools.partial(_clock, read=read)
    for name in _TAKES_SECONDS:
        yield time, name, _of_seconds
    yield time, "strftime", _strftime
    yield time, "asctime", _asctime
    for name in _RANDOM:
        yield random, name, functools.partial(_of_random, name=name)
    yield os, "urandom", _urandom
    yield random, "_urandom", _urandom
    yield uuid, "uuid1", _uuid1
    yield time, "sleep", _sleep
    yield threading, "_time", _timeout_clock
    yield queue, "time", _timeout_clock
    yield threading, "Lock", functools.partial(_lock, virtual=VirtualLock)
    yield threading, "RLock", functools.partial(_lock, virtual=VirtualRLock)
    yield queue, "SimpleQueue", _simple_queue


STAND_INS = [(module, name, make) for module, name, make in _all() if name in vars(module)]
"""The module, the name, and what makes the stand-in, of each function to replace that this Python has."""
