"""Questions in the terminal that can be cancelled.

``input`` in a worker thread cannot be cancelled: at exit Python waits for the thread until somebody presses Enter.
"""

from __future__ import annotations

import os
import sys

import anyio
from anyio.lowlevel import RunVar

_terminal_lock: RunVar[anyio.Lock] = RunVar("railtracks_terminal")
"""The lock of each event loop that allows one question at a time."""


def can_ask() -> bool:
    """Return whether standard input is a file that can be waited for, not a replacement by a test or a notebook."""
    try:
        return os.name == "posix" and sys.stdin.fileno() >= 0
    except (AttributeError, OSError, ValueError):  # there is none, it is not a file, or it is closed
        return False


async def ask_in_terminal(question: str) -> str:
    """Write the question to standard output, and return a line of standard input, as ``input`` does.

    ``input`` itself reads ahead from a pipe: after it was used, only what it has left is found here.

    Raises:
        EOFError: there is no line.

    Cancellation: the question stays unanswered. What was typed of the line is lost.
    """
    try:
        lock = _terminal_lock.get()
    except LookupError:
        lock = anyio.Lock()
        _terminal_lock.set(lock)
    async with lock:
        sys.stdout.write(question if question[-1:].isspace() else f"{question} ")
        sys.stdout.flush()
        line = await _read_line(sys.stdin.fileno())
    if not line:
        raise EOFError(
            "rt.ask() found no answer: standard input has ended, or it is a pipe that input() has read ahead; "
            "use rt.ask() for all questions"
        )
    return line.decode(sys.stdin.encoding or "utf-8", "replace").rstrip("\r\n")


async def _read_line(stdin: int) -> bytes:
    """Read a line byte by byte: what follows it may be the answer to the next question."""
    line = b""
    while not line.endswith(b"\n"):
        try:
            await anyio.wait_readable(stdin)
        except PermissionError:  # a regular file, which is readable at all times
            await anyio.lowlevel.checkpoint()
        byte = os.read(stdin, 1)
        if not byte:
            break
        line += byte
    return line
