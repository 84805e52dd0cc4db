"""Threads that wait for an event loop: they are not at work, and the clock may jump, as they may wait for a sleep.

Neither anyio nor trio tells which threads wait so. What a thread hands to an event loop has the future, or the queue,
that it gets its answer by; from that on, and until it is answered, it waits. (The stacks of running threads would tell
too, but Python 3.11 crashes now and then over reading them.)
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any


class Waiting:
    """Which threads wait for one event loop."""

    def __init__(self) -> None:
        self._answers: dict[int, list[Any]] = {}  # by thread: what it has asked for last

    def asked(self, thing: Any) -> None:
        """The calling thread handed something to the event loop: whatever waits for an answer is in it."""
        self._answers[threading.get_ident()] = list(_answers_in(thing))

    def has(self, thread: int) -> bool:
        """Does the thread wait? Not before what it asks for was handed over."""
        answers = self._answers.get(thread, ())
        if any(isinstance(answer, Answer) and not answer.awaited for answer in answers):
            return False
        return any(not answer.done() for answer in answers)


def _answers_in(thing: Any, depth: int = 4) -> Iterator[Any]:
    """The futures in a function, its closure, its arguments."""
    if isinstance(thing, Future | Answer):
        yield thing
    elif depth == 0:
        return
    elif isinstance(thing, tuple | list):
        for each in thing:
            yield from _answers_in(each, depth - 1)
    elif isinstance(thing, functools.partial):
        yield from _answers_in((thing.func, *thing.args), depth)
    else:
        for cell in getattr(thing, "__closure__", None) or ():
            with contextlib.suppress(ValueError):  # it is empty
                yield from _answers_in(cell.cell_contents, depth - 1)


class Answer(SimpleQueue):  # type: ignore[type-arg]
    """The queue by which a thread gets its answer from trio, knowing whether it has been put there.

    That it is not empty does not tell: from Python 3.13 on an item goes past a queue to a thread that waits.
    """

    awaited = False
    """Was it asked for what comes? That is so once the message was handed over."""

    def __init__(self) -> None:
        self._done = False

    def get(self, *args: Any, **kwargs: Any) -> Any:
        self.awaited = True
        return super().get(*args, **kwargs)

    def put_nowait(self, item: Any) -> None:
        self._done = True
        super().put_nowait(item)

    def done(self) -> bool:
        return self._done


_lock = threading.Lock()
_runs: dict[Any, Waiting] = {}  # of trio, by token
_original: Any = None


@contextlib.contextmanager
def told_by_trio(token: Any, waiting: Waiting) -> Iterator[None]:
    """Have ``waiting`` told of threads that ask something of the run of ``token``."""
    global _original
    from trio import _threads

    with _lock:
        if not _runs:
            _original = _threads._send_message_to_trio
            _threads._send_message_to_trio = _send  # type: ignore[assignment]
        _runs[token] = waiting
    try:
        yield
    finally:
        with _lock:
            del _runs[token]
            if not _runs:
                _threads._send_message_to_trio = _original


def _send(trio_token: Any, message: Any) -> Any:
    from trio._threads import PARENT_TASK_DATA

    waiting = _runs.get(trio_token or getattr(PARENT_TASK_DATA, "token", None))
    if waiting is not None:
        answer = Answer()
        object.__setattr__(message, "queue", answer)
        waiting.asked((answer, message.args))
    return _original(trio_token, message)


class Stillness:
    """For how long threads have not moved; for somebody who looks again and again."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, int, float]] = {}  # the frame, the place in it, since when

    def of(self, thread: int) -> float:
        """In real seconds."""
        frame = sys._current_frames().get(thread)
        if frame is None:
            self._seen.pop(thread, None)
            return 0.0
        seen = self._seen.get(thread)
        if seen is None or seen[:2] != (id(frame), frame.f_lasti):
            seen = self._seen[thread] = id(frame), frame.f_lasti, time.monotonic()
        return time.monotonic() - seen[2]
