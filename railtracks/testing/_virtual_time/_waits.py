"""What suspended code waits for, and which tasks hold that, as far as the classes of anyio, asyncio and trio say so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import FrameType
from typing import Any

import attrs

from railtracks.testing._virtual_time._tasks import is_user_code

_METHODS = {
    ("Lock", "acquire"): "for a lock",
    ("StrictFIFOLock", "acquire"): "for a lock",
    ("Semaphore", "acquire"): "for a semaphore",
    ("CapacityLimiter", "acquire"): "for a limiter",
    ("Condition", "wait"): "for a condition",
    ("Event", "wait"): "for an event",
    ("Barrier", "wait"): "for a barrier",
    ("MemoryObjectReceiveStream", "receive"): "for an item of a stream",
    ("MemoryObjectSendStream", "send"): "for room in a stream",
    ("MemoryReceiveChannel", "receive"): "for an item of a channel",
    ("MemorySendChannel", "send"): "for room in a channel",
    ("Queue", "get"): "for an item of a queue",
    ("Queue", "put"): "for room in a queue",
    ("Queue", "join"): "for the items of a queue to be done",
    ("PySimpleQueue", "get"): "for an item of a queue",
    ("Future", "result"): "for a future",
    ("Future", "exception"): "for a future",
    ("VirtualLock", "acquire"): "for a lock",
    ("VirtualRLock", "acquire"): "for a lock",
    ("Lock", "__enter__"): "for a lock",
    ("Condition", "__enter__"): "for a lock",
    ("Condition", "wait_for"): "for a condition",
    ("ThreadPoolExecutor", "shutdown"): "for the end of a pool",
    ("Executor", "__exit__"): "for the end of a pool",
    ("thread_join.<locals>", "join"): "for the end of a thread",
    ("condition_wait.<locals>", "wait"): "for a condition",
}
_PACKAGES = frozenset({"anyio", "asyncio", "trio"})
_FUNCTIONS = {
    "sleep": "asleep",
    "sleep_until": "asleep",
    "sleep_forever": "asleep for ever",
    "run_sync": "for a thread",
}


@attrs.frozen
class Wait:
    """What some code waits for."""

    text: str
    """Such as "for a lock"."""
    holders: tuple[int, ...] = ()
    """The identities of the tasks that hold it, as far as it knows them."""
    what: Any = attrs.field(default=None, eq=False, repr=False)
    """What is waited for."""


def awaited(frames: Sequence[FrameType]) -> Wait | None:
    """Return what code waits for, or None if that is not known.

    Args:
        frames: The frames that it is suspended in, or that its cancellation has passed, the outermost first.
    """
    own = [index for index, frame in enumerate(frames) if is_user_code(frame)]
    called = frames[own[-1] + 1 :] if own else ()
    for frame in called:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("railtracks.") and not module.startswith("railtracks.testing."):
            return None  # it waits for a call, which says itself what it waits for
        owner, _, method = frame.f_code.co_qualname.rpartition(".")
        if not owner and method in _FUNCTIONS:
            return Wait(_FUNCTIONS[method])
        text = _METHODS.get((_plain(owner), method))
        if text is not None:
            objects = [each.f_locals.get("self") for each in called]
            # The first one is what user code has: some locks of anyio stand for others.
            return Wait(text, _holders(frame.f_locals.get("self")), next(filter(is_lock, objects), None))
    return None


def _plain(name: str) -> str:
    """Return the name of a class as users know it."""
    return name.removeprefix("_").removesuffix("Impl").removesuffix("Adapter")


def is_lock(value: object) -> bool:
    """Return whether a value is a lock, a semaphore or a limiter of asyncio, anyio or trio."""
    kind = type(value)
    return kind.__module__.partition(".")[0] in _PACKAGES and (_plain(kind.__name__), "acquire") in _METHODS


def _holders(awaited_object: Any) -> tuple[int, ...]:
    """Return the identities of the tasks that hold a lock or a limiter."""
    statistics = getattr(awaited_object, "statistics", None)
    if statistics is None:  # of asyncio, whose locks do not know
        return ()
    known = statistics()
    owner, borrowers = getattr(known, "owner", None), getattr(known, "borrowers", ())
    tasks = [*borrowers, *(() if owner is None else (owner,))]
    return tuple(getattr(task, "id", None) or id(task) for task in tasks)  # anyio gives the identity, trio the task


_BY_CHILD = re.compile(r"Cancelled via cancel scope \w+\Z", re.ASCII)


def is_by_sibling(cancellation: BaseException) -> bool:
    """Return whether a cancellation says that another task failed which is in the same task group.

    That of anyio on asyncio says who has cancelled a scope, and why. It does neither if the end of a task has. That of
    a task group of asyncio says nothing.
    """
    if (source := getattr(cancellation, "source", None)) is not None:  # of trio
        return source == "nursery" and str(getattr(cancellation, "reason", "")).startswith("child task raised")
    return not cancellation.args or bool(_BY_CHILD.match(str(cancellation)))


def is_by_deadline(cancellation: BaseException) -> bool:
    """Return whether a cancellation says that the deadline of a scope has passed, as those of trio and anyio do."""
    source = getattr(cancellation, "source", None)  # of trio
    return source == "deadline" or "reason: deadline exceeded" in str(cancellation)
