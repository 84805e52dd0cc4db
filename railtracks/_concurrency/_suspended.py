"""Where suspended code waits: the frames of a coroutine, and which of them are user code."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType
from typing import Any

MAX_DEPTH = 10_000
"""The greatest number of frames of a coroutine that are walked."""
_RUNTIME = {
    "railtracks", "anyio", "trio", "outcome", "sniffio", "hypothesis", *sys.stdlib_module_names,
} - {"__main__"}  # fmt: skip
_LINKS = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


def suspended_frames(awaitable: Any) -> Iterator[FrameType]:
    """Yield the frames of a suspended coroutine, the outermost first."""
    for each in suspended_parts(awaitable):
        frame = frame_of(each)
        if frame is not None:
            yield frame


def suspended_parts(awaitable: Any) -> Iterator[Any]:
    """Yield the coroutines and generators that a suspended coroutine waits in, the outermost, itself, first.

    The interpreter makes a frame when it is asked for, which takes longer than all else here.
    """
    for _ in range(MAX_DEPTH):
        if awaitable is None:
            return
        kind = type(awaitable)
        if kind is CoroutineType:  # as below, for the most frequent one
            yield awaitable
            awaitable = awaitable.cr_await
            continue
        for frame_name, inner_name in _LINKS:
            if hasattr(kind, frame_name):
                yield awaitable
                awaitable = getattr(awaitable, inner_name)
                break
        else:
            awaitable = _wrapped(awaitable)


def frame_of(part: Any) -> FrameType | None:
    """Return the frame of a coroutine or a generator; None if it has ended."""
    frame: FrameType | None = next(getattr(part, name) for name, _ in _LINKS if hasattr(type(part), name))
    return frame


def _wrapped(awaitable: Any) -> Any:
    """Return what an awaitable of the interpreter wraps, such as what ``__await__`` of a coroutine returns."""
    if type(awaitable).__name__ not in ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow"):
        return None
    for each in gc.get_referents(awaitable):
        if isinstance(each, CoroutineType | AsyncGeneratorType):
            return each
    return None


def is_user_module(name: object) -> bool:
    """Return whether a module is user code: not part of an event loop, the standard library, or Railtracks."""
    return str(name).partition(".")[0] not in _RUNTIME
