"""Group commit without a thread for those who wait: another thread writes, and calls their event loops back.

That thread hands over to each event loop as a whole what it has it call. Waking an event loop takes longer than what is
called there: each time both threads contend for the interpreter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from railtracks._concurrency._event_loop import call_soon


class _Collected(threading.local):
    """What this thread has collected, by event loop; None where it collects nothing."""

    calls: dict[EventLoopToken, list[Callable[[], object]]] | None = None


_collected = _Collected()


@contextmanager
def calls_together() -> Iterator[None]:
    """Return a context manager that keeps what :func:`call_together` is given until it is left."""
    calls: dict[EventLoopToken, list[Callable[[], object]]] = {}
    _collected.calls = calls
    try:
        yield
    finally:
        _collected.calls = None
        for token, functions in calls.items():
            call_soon(token, partial(_call_all, functions))


def call_together(token: EventLoopToken, func: Callable[[], object]) -> None:
    """Schedule ``func``, which may not raise, on an event loop: with others where this thread collects them."""
    if _collected.calls is None:
        call_soon(token, func)
    else:
        _collected.calls.setdefault(token, []).append(func)


def _call_all(functions: list[Callable[[], object]]) -> None:
    for func in functions:
        func()


class ThreadlessGroupCommit:
    """Lets calls wait until what they appended is on disk, as ``GroupCommit`` does.

    Args:
        sync_soon: Writes to disk all that was appended before it is called, and then calls its argument, in any thread.
            It neither blocks nor raises.
    """

    def __init__(self, sync_soon: Callable[[Callable[[], object]], object]) -> None:
        self._sync_soon = sync_soon
        self._writing: anyio.Event | None = None  # set when the group that is being written is on disk
        self._gathering: anyio.Event | None = None

    async def wait(self) -> None:
        """Wait until all that was appended before this call is on disk.

        Cancellation: the wait ends; what was appended goes to disk all the same.
        """
        group = self._gathering
        if group is None:
            self._gathering = group = anyio.Event()
            if self._writing is None:
                self._write(current_token())
        await group.wait()

    def _write(self, token: EventLoopToken) -> None:
        self._writing, self._gathering = self._gathering, None
        self._sync_soon(lambda: call_together(token, partial(self._on_written, token)))

    def _on_written(self, token: EventLoopToken) -> None:
        assert self._writing is not None
        self._writing.set()
        self._writing = None
        if self._gathering is not None:
            self._write(token)
