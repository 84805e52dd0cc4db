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
from typing import Any, cast

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
_CLOCKS_BY_NUMBER = {
    getattr(time, name): read
    for name, read in (
        ("CLOCK_REALTIME", _CLOCKS["time_ns"]),
        ("CLOCK_TAI", _CLOCKS["time_ns"]),
        ("CLOCK_MONOTONIC", _CLOCKS["monotonic_ns"]),
        ("CLOCK_MONOTONIC_RAW", _CLOCKS["monotonic_ns"]),
        ("CLOCK_BOOTTIME", _CLOCKS["monotonic_ns"]),
    )
    if hasattr(time, name)
}
"""What ``time.clock_gettime_ns`` returns for which number; those of processor time stay real."""
_TAKES_SECONDS = ("localtime", "gmtime", "ctime")
_UUID_EPOCH = 0x01B21DD213814000
"""The 100 ns steps from the beginning of the Gregorian calendar to that of Unix."""


def _clock(real: Any, read: Callable[[World], object]) -> Any:
    @functools.wraps(real)
    def stand_in() -> Any:
        world = world_of_caller()
        return real() if world is None else read(world)

    return stand_in


def _clock_by_number(real: Any, scale: Callable[[int], object]) -> Any:
    @functools.wraps(real)
    def stand_in(number: int, /) -> Any:
        world, read = world_of_caller(), _CLOCKS_BY_NUMBER.get(number)
        return real(number) if world is None or read is None else scale(cast(int, read(world)))

    return stand_in


def _of_seconds(real: Any) -> Any:
    @functools.wraps(real)
    def stand_in(seconds: float | None = None, /) -> Any:
        world = world_of_caller()
        return real(world.clock.wall if world is not None and seconds is None else seconds)

    return stand_in


def _of_parts(real: Any, place: int) -> Any:
    """Return what stands for a function that takes the parts of a time as its last argument, at ``place``, or none."""

    @functools.wraps(real)
    def stand_in(*args: Any) -> Any:
        world = world_of_caller()
        return real(*args) if world is None or len(args) != place else real(*args, _LOCAL_TIME(world.clock.wall))

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
        moment, sequence, node = _uuid_parts(world, world.entropy, node, clock_seq)
        times = moment & 0xFFFFFFFF, moment >> 32 & 0xFFFF, moment >> 48 & 0x0FFF
        return uuid.UUID(fields=(*times, sequence >> 8, sequence & 0xFF, node), version=1)

    return stand_in


def _uuid6(real: Any) -> Any:
    @functools.wraps(real)
    def stand_in(node: int | None = None, clock_seq: int | None = None) -> Any:
        world = world_of_caller()
        if world is None or world.entropy is None:
            return real(node, clock_seq)
        moment, sequence, node = _uuid_parts(world, world.entropy, node, clock_seq)
        return _uuid_of_version(6, moment >> 12, moment & 0xFFF, sequence << 48 | node & (1 << 48) - 1)

    return stand_in


def _uuid_parts(world: World, entropy: random.Random, node: int | None, clock_seq: int | None) -> tuple[int, int, int]:
    """Return the moment, in 100 ns steps, the clock sequence, of 14 bits, and the node of an identifier."""
    moment = round(world.clock.wall * 1e7) + _UUID_EPOCH + world.count_uuid()
    sequence = entropy.getrandbits(14) if clock_seq is None else clock_seq & 0x3FFF
    if node is None:
        node = entropy.getrandbits(48) | 1 << 40  # which marks a random one
    return moment, sequence, node


def _uuid7(real: Any) -> Any:
    @functools.wraps(real)
    def stand_in() -> Any:
        world = world_of_caller()
        if world is None or world.entropy is None:
            return real()
        milliseconds, count = int(world.clock.wall * 1000), world.count_uuid()
        tail = (count & 0x3FFF_FFFF) << 32 | world.entropy.getrandbits(32)
        return _uuid_of_version(7, milliseconds, count >> 30 & 0xFFF, tail)

    return stand_in


def _uuid_of_version(version: int, first: int, second: int, third: int) -> uuid.UUID:
    """Return an identifier by its parts, of 48, 12 and 62 bits: older Pythons do not know the versions from 6 on."""
    return uuid.UUID(int=first << 80 | version << 76 | second << 64 | 0b10 << 62 | third)


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


def _lock(real: Any, virtual: Any) -> Any:
    if isinstance(real, type):
        return _lock_class(real, virtual)

    @functools.wraps(real)
    def stand_in() -> Any:
        world = world_of_caller()
        return real() if world is None or world.waits is None or not world.waits.are_virtual else virtual()

    return stand_in


def _lock_class(real: Any, virtual: Any) -> Any:
    """Return what stands for the class of locks that ``threading.Lock`` is from Python 3.13 on."""

    class StandInType(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real | virtual)

    class StandIn(metaclass=StandInType):
        """Makes a lock whose waits are virtual where those of threads are."""

        def __new__(cls) -> Any:
            world = world_of_caller()
            is_real = world is None or world.waits is None or not world.waits.are_virtual
            return real() if is_real else virtual()

    return StandIn


def _simple_queue(real: Any) -> Any:
    virtual: Any = vars(queue)["_PySimpleQueue"]

    class StandInType(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real | virtual) if cls is StandIn else super().__instancecheck__(instance)

    class StandIn(real, metaclass=StandInType):  # type: ignore[misc]
        """Makes a queue written in Python where the waits of threads are virtual."""

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            if cls is not StandIn:  # a subclass that a user has made in the run
                return real.__new__(cls, *args, **kwargs)
            world = world_of_caller()
            is_real = world is None or world.waits is None or not world.waits.are_virtual
            return real() if is_real else virtual()

    return StandIn


def process_start(real: Any) -> Any:
    """Return what stands for a function that starts a process."""

    @functools.wraps(real)
    def start(*args: Any, **kwargs: Any) -> Any:
        world = world_of_thread()
        if world is not None:
            world.note_undetermined("what a process does that was started in the run, and when it ends")
        return real(*args, **kwargs)

    return start


def is_original(function: Any) -> bool:
    """Return whether nothing else, such as freezegun or a mock, has replaced the function."""
    return getattr(function, "__module__", None) in _MODULES


_MODULES = (None, "_queue", "_thread", "nt", "posix", "random", "threading", "time", "uuid")


def all_stand_ins() -> Iterator[tuple[ModuleType, str, Callable[[Any], Any]]]:
    """Yield the module, the name, and what makes the stand-in, of each function that some Python has."""
    for name, read in _CLOCKS.items():
        yield time, name, functools.partial(_clock, read=read)
    yield time, "clock_gettime", functools.partial(_clock_by_number, scale=lambda nanoseconds: nanoseconds / 1e9)
    yield time, "clock_gettime_ns", functools.partial(_clock_by_number, scale=lambda nanoseconds: nanoseconds)
    for name in _TAKES_SECONDS:
        yield time, name, _of_seconds
    yield time, "strftime", functools.partial(_of_parts, place=1)
    yield time, "asctime", functools.partial(_of_parts, place=0)
    for name in _RANDOM:
        yield random, name, functools.partial(_of_random, name=name)
    yield os, "urandom", _urandom
    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp", "system"):
        yield os, name, process_start
    yield random, "_urandom", _urandom
    yield uuid, "uuid1", _uuid1
    yield uuid, "uuid6", _uuid6  # from Python 3.14 on, as uuid7; the real ones remember the latest time they have seen
    yield uuid, "uuid7", _uuid7
    yield time, "sleep", _sleep
    yield threading, "_time", _timeout_clock
    yield queue, "time", _timeout_clock
    yield threading, "Lock", functools.partial(_lock, virtual=VirtualLock)
    yield threading, "RLock", functools.partial(_lock, virtual=VirtualRLock)
    yield queue, "SimpleQueue", _simple_queue


STAND_INS = [(module, name, make) for module, name, make in all_stand_ins() if name in vars(module)]
"""The module, the name, and what makes the stand-in, of each function to replace that this Python has."""
