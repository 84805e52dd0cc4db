"""The main program of a worker process of a session: it runs one piece of work after another.

Work and answers pass through a socket that is standard input and output when it begins. Both are something else before
any code of a user runs: what that reads or prints, or a program that it starts, must not come between.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from railtracks._concurrency._after_fork import after_fork
from railtracks.executors._capture import MAX_OUTPUT, Capture
from railtracks.executors._worker import run

_CLOSED = getattr(select, "POLLHUP", 0) | getattr(select, "POLLERR", 0) | getattr(select, "POLLNVAL", 0)
"""What is reported of a socket whose other end was closed."""
HEAD = 8
"""Bytes before each message, with its length."""
READY = b"\1"
"""What comes first: the process has begun, and takes work."""


def main() -> None:
    """Run work until the session has no more."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    last = os.dup(0)  # never closed, so that the session notices when this process has ended, and not before
    # A child that a node forks may live longer. The numbers, as what its objects are closed for would be flushed.
    after_fork(partial(_close_all, (source.fileno(), sink.fileno(), last)))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
    # Ctrl-C is for the session, which ends this process. Not ignored, as programs that a node starts would inherit it.
    signal.signal(signal.SIGINT, lambda *_: None)
    watch = _Watch(source.fileno())
    sink.write(READY)
    sink.flush()
    while (work := _read(source)) is not None:
        with watch:
            answer = run(work, _collect)
        try:
            sink.write(len(answer).to_bytes(HEAD, "big"))
            sink.write(answer)
            sink.flush()
        except (BrokenPipeError, ConnectionResetError):  # the session has ended
            os._exit(1)


def _close_all(files: tuple[int, ...]) -> None:
    for file in files:
        with suppress(OSError):  # the node has closed it
            os.close(file)


def _read(source: BinaryIO) -> bytes | None:
    """Return the next work; None if there is none any more: the session says so, or has ended."""
    size = int.from_bytes(source.read(HEAD), "big")
    return source.read(size) if size else None


def _collect(capture: Capture) -> None:
    """Add what was printed past ``sys.stdout`` and ``sys.stderr``: by other programs, in C, in other contexts."""
    for name, file in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        try:
            stream.flush()
        except (OSError, ValueError):  # closed, or replaced by something else
            continue
        size = os.fstat(file).st_size
        if size:
            text = os.pread(file, min(size, 4 * MAX_OUTPUT), 0).decode(errors="replace")
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
            capture.write(name, text)
            capture.output_dropped += max(0, size - 4 * MAX_OUTPUT)


class _Watch:
    """Ends this process, in the middle of its work, when the process that waits for it has ended."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._is_at_work = self._is_over = False
        if hasattr(select, "poll"):  # not on Windows, where the work goes on to its end
            threading.Thread(target=self._run, name="railtracks-watch", daemon=True).start()

    def __enter__(self) -> None:
        self._is_at_work = True
        if self._is_over:  # the work came, and then the end
            os._exit(1)

    def __exit__(self, *_: object) -> None:
        self._is_at_work = False

    def _run(self) -> None:
        poll = select.poll()
        # Linux reports this whatever is asked for, macOS only if it is. Work that comes is not reported.
        poll.register(self._file, select.POLLHUP)
        while not any(events & _CLOSED for _, events in poll.poll()):
            pass
        self._is_over = True  # first: the work may begin now
        if self._is_at_work:
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)  # with the programs that its work has started
            os._exit(1)
