"""Which threads wait for an event loop.

Such a thread is not at work, and the clock may jump, because the thread may be waiting for a sleep. Neither anyio nor
trio says which threads wait. But whatever a thread hands to an event loop contains the future, or the queue, by which
it gets its answer; from then on, until it is answered, the thread waits. (The stacks of running threads would show it
too, but what they show is over a moment later.)
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import attrs

from railtracks._test_probe import innermost_frames, nothing_collected, stack_of_thread
from railtracks.testing._virtual_time import _real_clock
from railtracks.testing._virtual_time._pauses import GRACE
from railtracks.testing._virtual_time._tasks import is_user_code, place_of
from railtracks.testing._virtual_time._waits import awaited
from railtracks.testing._virtual_time._world import world_of_thread


class BlockedThreads:
    """The threads that wait for one event loop."""

    def __init__(self) -> None:
        self._replies: dict[int, list[Any]] = {}  # by thread: where the answers to its latest request will come

    def note_request(self, request: Any) -> None:
        """Note that the calling thread handed ``request`` to the event loop.

        Args:
            request: The function or the arguments that were handed over; the future of the answer is in it.
        """
        self._replies[threading.get_ident()] = list(_replies_in(request))

    def is_blocked(self, thread: int) -> bool:
        """Return whether the thread waits; it does not before its request was handed over completely."""
        replies = self._replies.get(thread, ())
        if any(isinstance(reply, ReplyQueue) and not reply.is_awaited for reply in replies):
            return False
        return any(not reply.done() for reply in replies)

    def release(self) -> None:
        """Raise an error in the threads that wait, because the event loop has ended and will not answer."""
        for replies in list(self._replies.values()):
            for reply in replies:
                if not reply.done():
                    reply.cancel()


def _replies_in(request: Any, depth: int = 4) -> Iterator[Any]:
    """Yield the futures and reply queues in a function, its closure and its arguments."""
    if isinstance(request, Future | ReplyQueue):
        yield request
    elif depth == 0:
        return
    elif isinstance(request, tuple | list):
        for each in request:
            yield from _replies_in(each, depth - 1)
    elif isinstance(request, functools.partial):
        yield from _replies_in((request.func, *request.args), depth)
    else:
        for cell in getattr(request, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # the cell is empty
                yield from _replies_in(cell.cell_contents, depth - 1)


class ReplyQueue(SimpleQueue):  # type: ignore[type-arg]
    """The queue by which a thread gets its answer from trio; it knows whether the answer was put into it.

    Whether it is empty does not show that: from Python 3.13 on, an item bypasses a queue that a thread waits at.
    """

    is_awaited = False
    """Whether a thread has begun to wait for the answer; it does so after it has handed over its request."""

    def __init__(self) -> None:
        self._done = False

    def get(self, *args: Any, **kwargs: Any) -> Any:
        self.is_awaited = True
        world = world_of_thread()
        if world is not None and world.waits is not None and world.waits.are_virtual:
            world.waits.wait(self.done, None)
        return super().get(*args, **kwargs)

    def put_nowait(self, item: Any) -> None:
        self._done = True
        super().put_nowait(item)

    def done(self) -> bool:
        return self._done

    def cancel(self) -> None:
        import outcome
        import trio

        self.put_nowait(outcome.Error(trio.RunFinishedError()))


_lock = threading.Lock()
_runs: dict[Any, BlockedThreads] = {}  # of trio, by token
_original: Any = None


@contextlib.contextmanager
def patch_trio_messages(token: Any, blocked: BlockedThreads) -> Iterator[None]:
    """Note in ``blocked`` which threads ask something of the trio run of ``token``."""
    global _original
    from trio import _threads

    with _lock:
        if not _runs:
            _original = _threads._send_message_to_trio
            _threads._send_message_to_trio = _send  # type: ignore[assignment]
        _runs[token] = blocked
    try:
        yield
    finally:
        with _lock:
            del _runs[token]
            if not _runs:
                _threads._send_message_to_trio = _original


def _send(trio_token: Any, message: Any) -> Any:
    from trio._threads import PARENT_TASK_DATA

    blocked = _runs.get(trio_token or getattr(PARENT_TASK_DATA, "token", None))
    if blocked is not None:
        reply = ReplyQueue()
        object.__setattr__(message, "queue", reply)
        blocked.note_request((reply, message.args))
    return _original(trio_token, message)


def where_thread_waits(thread: int) -> str | None:
    """Return where in user code a thread waits, and for what if that is known; None if no user code is in it.

    The thread must not be running, or what is returned is out of date.
    """
    place, what = waits_of_thread(thread)
    return None if place is None else f"{place}, in a thread{what and f', {what}'}"


def waits_of_thread(thread: int) -> tuple[str | None, str]:
    """Return what ``where_code_waits`` does for a thread, which must not be running."""
    with nothing_collected():
        stack = stack_of_thread(thread)
        return where_code_waits(stack[0] if stack else None)


def where_code_waits(frame: FrameType | None) -> tuple[str | None, str]:
    """Return where in user code a stack is, None if in none, and what it waits for, such as "for a lock", or "".

    Args:
        frame: The innermost frame of the stack.
    """
    frames: list[FrameType] = []
    while frame is not None and not is_user_code(frame):
        frames.append(frame)
        frame = frame.f_back
    if frame is None:
        return None, ""
    wait = awaited([frame, *reversed(frames)])
    return place_of(frame.f_code, frame.f_lineno), "" if wait is None else wait.text


class StallDetector:
    """How long threads have not advanced. It has to be asked again and again.

    Args:
        most: How many real seconds count at most between two times that it is asked. If more passed, the thread that
            asks had no processor, and so neither had the other one the interpreter lock.
    """

    def __init__(self, most: float = 0.02) -> None:
        self._most = most
        self._seen: dict[int, _Stall] = {}

    def stalled_for(self, thread: int) -> float:
        """Return the real seconds for which the thread has been at the same position; infinity if it has ended."""
        frame = innermost_frames().get(thread)
        if frame is None:
            self._seen.pop(thread, None)
            return math.inf
        now, position = _real_clock.monotonic(), (id(frame), frame.f_lasti)
        stall = self._seen.get(thread)
        if stall is None or stall.position != position:
            stall = self._seen[thread] = _Stall(position, now)
        stall.seconds += min(now - stall.asked_at, self._most)
        stall.asked_at = now
        if stall.seconds > GRACE and is_running(thread):  # in code in C, or it waits for a processor
            stall.seconds = 0.0
        return stall.seconds


@attrs.define
class _Stall:
    """A thread that has not advanced."""

    position: tuple[int, int]
    """The frame, and where in it."""
    asked_at: float
    """When that was seen last, in real time."""
    seconds: float = 0.0
    """For how many real seconds it has been there."""


def is_running(thread: int) -> bool:
    """Return whether a thread has work for a processor or a disk; False where the system does not say."""
    native = next((each.native_id for each in threading.enumerate() if each.ident == thread), None)
    try:
        text = Path(f"/proc/self/task/{native}/stat").read_text()
    except OSError:  # only Linux has such files, and the thread may just have ended
        return False
    return text.rpartition(")")[2].split()[0] in ("R", "D")
