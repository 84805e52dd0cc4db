"""Threads that wait for an event loop: they are not at work, and the clock may jump, as they may wait for a sleep.

Neither anyio nor trio tells which threads wait so; their stacks do. A thread waits for an event loop while it is in one
of the functions below, has handed over what it wants done, and has no answer.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import Future
from functools import cache
from types import CodeType, FrameType
from typing import Any

from railtracks._threads import run_in_loop


@cache
def _asyncio_doors() -> tuple[set[CodeType], set[CodeType]]:
    """Those that know their event loop, and those of portals."""
    from anyio._backends._asyncio import AsyncIOBackend
    from anyio.from_thread import BlockingPortal

    loop: Any = AsyncIOBackend
    return (
        {loop.run_async_from_thread.__func__.__code__, loop.run_sync_from_thread.__func__.__code__},
        {BlockingPortal.call.__code__, BlockingPortal.start_task.__code__},
    )


@cache
def _trio_door() -> tuple[CodeType, int]:
    """The function, and the line of it where the answer is waited for."""
    from trio._threads import _send_message_to_trio

    code = _send_message_to_trio.__code__
    return code, max(line for _, _, line in code.co_lines() if line)


def waits_for_asyncio(frame: FrameType | None, loop: object) -> bool:
    """Does the thread with this stack wait for ``loop``, which runs in the calling thread?"""
    doors, portals = _asyncio_doors()
    pending = False
    while frame is not None:
        if frame.f_code is Future.result.__code__:
            pending = not frame.f_locals["self"].done()
        elif frame.f_code in doors:
            return pending and frame.f_locals.get("loop") is loop
        elif frame.f_code in portals:
            return pending and _is_portal_of_this_thread(frame)
        frame = frame.f_back
    return False


def waits_for_trio(frame: FrameType | None, token: object) -> bool:
    """Does the thread with this stack wait for the run of ``token``?

    It may have its answer and not have gone on yet: from Python 3.13 on a queue hands it over past itself.
    """
    code, last = _trio_door()
    _, portals = _asyncio_doors()
    pending = False
    while frame is not None:
        if frame.f_code is code:
            message = frame.f_locals["message_to_trio"]
            return frame.f_locals["trio_token"] is token and frame.f_lineno == last and message.queue.empty()
        if frame.f_code is Future.result.__code__:
            pending = not frame.f_locals["self"].done()
        elif frame.f_code in portals:
            return pending and _is_portal_of_this_thread(frame)
        frame = frame.f_back
    return False


def is_behind_our_own(frame: FrameType | None) -> bool:
    """Is the thread in ``run_in_loop``, which tells by itself when it waits?"""
    while frame is not None:
        if frame.f_code is run_in_loop.__code__:
            return True
        frame = frame.f_back
    return False


def _is_portal_of_this_thread(frame: FrameType) -> bool:
    return bool(frame.f_locals["self"]._event_loop_thread_id == threading.get_ident())


class Stillness:
    """For how long threads have not moved; for somebody who looks again and again."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[FrameType, int, float]] = {}  # frame, place in it, since when

    def of(self, thread: int) -> float:
        """In real seconds."""
        frame = sys._current_frames().get(thread)
        if frame is None:
            return 0.0
        seen = self._seen.get(thread)
        if seen is None or seen[0] is not frame or seen[1] != frame.f_lasti:
            seen = self._seen[thread] = frame, frame.f_lasti, time.monotonic()
        return time.monotonic() - seen[2]
