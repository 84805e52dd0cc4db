"""Asking in the terminal, such that the question can be cancelled.

``input`` in a worker thread could not be: Python waits for its thread at exit, until somebody presses Enter.
"""

from __future__ import annotations

import os
import sys

import anyio
from anyio.lowlevel import RunVar

_turn: RunVar[anyio.Lock] = RunVar("railtracks_terminal")
"""One question at a time."""


def can_ask() -> bool:
    """Is standard input something that can be waited for? Not what a test or a notebook has put in its place."""
    try:
        return os.name == "posix" and sys.stdin.fileno() >= 0
    except (AttributeError, OSError, ValueError):  # there is none, it is no file, it is closed
        return False


async def ask_in_terminal(question: str) -> str:
    """Write the question to standard output, and read a line from standard input, as ``input`` does.

    From a pipe ``input`` itself reads ahead: after it, only what it has left is found here.

    Raises:
        EOFError: there is no line.
    Cancellation: the question stays unanswered; what was typed of the line is lost.
    """
    try:
        lock = _turn.get()
    except LookupError:
        lock = anyio.Lock()
        _turn.set(lock)
    async with lock:
        sys.stdout.write(question if question[-1:].isspace() else f"{question} ")
        sys.stdout.flush()
        line = await _read_line(sys.stdin.fileno())
    if not line:
        raise EOFError(
            "there is nobody at the terminal to answer: standard input has ended, or, if it is a pipe, input() has "
            "read ahead of rt.ask(); ask all questions by rt.ask()"
        )
    return line.decode(sys.stdin.encoding or "utf-8", "replace").rstrip("\r\n")


async def _read_line(stdin: int) -> bytes:
    """Byte by byte: what comes after the line may be the answer to the next question."""
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
