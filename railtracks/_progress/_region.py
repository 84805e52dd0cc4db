"""The last lines of a terminal, which are drawn again and again, while others write above them.

Whatever writes to the terminal through the stream, such as ``print`` and handlers of logs that were made long before,
erases the lines first and has its text where they began. ``rich.live`` would not do: it lays out the whole picture in
the thread that writes, which is mostly the event loop's; it wraps what others write, and takes brackets in it for
markup; it keeps back a line that is not finished, such as a question; and what goes to standard output it sends to
standard error. Nothing here needs the cursor to be hidden, so a process that is killed leaves the terminal as it should
be.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

REDRAW = 0.1
"""Seconds after which what others write is followed by the lines at once, and not when they are drawn next."""


class Region:
    """The lines at the end of a terminal. Its methods are for any thread.

    Args:
        stream: The terminal, which the lines are written to.
        others: Other streams that write to the same terminal.
        lock: Held while something is written. The thread that holds it may acquire it again.

    Attributes:
        stream: As given.
    """

    def __init__(self, stream: Any, others: Sequence[Any], lock: AbstractContextManager[Any]) -> None:
        self.stream: Any = stream
        self._lock = lock
        self._write: Callable[[str], Any] = stream.write
        self._widths: list[int] = []  # of the lines that are on the screen, in columns
        self._picture: tuple[str, list[int]] = ("", [])  # the latest lines, and their widths
        self._is_at_start = True  # the cursor is at the beginning of a line
        self._redrawn = 0.0
        self._is_over = False
        self._patched = [(each, replaced) for each in (stream, *others) if (replaced := self._intercept(each))]

    def show(self, lines: Sequence[tuple[str, int]], columns: int) -> None:
        """Draw lines in place of those that are there.

        They are not drawn while a line that another has begun is not finished.

        Args:
            lines: Each with the number of columns that it takes, which is less than ``columns``.
            columns: The width of the terminal.

        Raises:
            OSError, ValueError: the terminal is gone.
        """
        with self._lock:
            if self._is_over or not self._is_at_start:
                return
            up = self._up(columns)
            text = "".join(f"{text}\x1b[K\n" for text, _ in lines)
            self._write(f"{up}{text}\x1b[J")
            self._widths = [width for _, width in lines]
            self._picture = text, self._widths
            self.stream.flush()

    def print(self, text: str) -> None:
        """Write a line that stays.

        Raises:
            OSError, ValueError: the terminal is gone.
        """
        with self._lock:
            self._erase()
            self._write(f"{text}\n" if self._is_at_start else f"\n{text}\n")
            self._is_at_start = True
            self.stream.flush()

    def continue_after_input(self) -> None:
        """Note that a person has finished the line that a question stands in."""
        with self._lock:
            self._is_at_start = True

    def end(self) -> None:
        """Erase the lines, and let others write as they did before. Idempotent.

        Raises:
            OSError, ValueError: the terminal is gone.
        """
        with self._lock:
            if self._is_over:
                return
            self.restore()
            self._erase()

    def restore(self) -> None:
        """Let others write as they did before, and leave the terminal as it is."""
        self._is_over = True
        for stream, replaced in self._patched:
            if getattr(stream, "write", None) is replaced:  # otherwise another has replaced it since, and may call it
                del stream.write
        self._patched = []

    def _intercept(self, stream: Any) -> Callable[[str], Any] | None:
        """Have a stream make room before it writes. Return what takes the place of its ``write``; None if it cannot."""
        write = stream.write

        def write_above(text: str) -> Any:
            if self._is_over:
                return write(text)
            with self._lock:
                self._erase()
                written = write(text)
                if text:
                    self._is_at_start = text.endswith("\n")
                    self._redraw_soon()
                return written

        try:
            stream.write = write_above
        except AttributeError:  # its class has slots
            return None
        return write_above

    def _redraw_soon(self) -> None:
        """Draw the lines again if that was not done a moment ago: after a single log line they must not flicker."""
        now = time.monotonic()
        if self._is_at_start and not self._is_over and now - self._redrawn >= REDRAW:
            self._redrawn = now
            text, self._widths = self._picture
            if text:
                self._write(text)
                self.stream.flush()

    def _erase(self) -> None:
        if self._widths:
            up = self._up(self._width())
            self._widths = []
            self._write(f"{up}\x1b[J")
            self.stream.flush()

    def _up(self, columns: int) -> str:
        """Return what moves the cursor to the first of the lines. Each takes several rows if it became too long."""
        rows = sum(max(1, -(-width // columns)) for width in self._widths)
        return f"\r\x1b[{rows}A" if rows else "\r"

    def _width(self) -> int:
        return terminal_size(self.stream)[0]


def terminal_size(stream: Any) -> tuple[int, int]:
    """Return the number of columns and of lines of a terminal: 80 and 24 if it does not say."""
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        columns = lines = 0
    return columns or 80, lines or 24


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal on which lines can be drawn again."""
    try:
        if stream is None or not stream.isatty():
            return False
    except (AttributeError, OSError, ValueError):  # it was replaced, is closed, or the terminal is gone
        return False
    encoding = str(getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "")
    return os.environ.get("TERM", "").lower() not in ("dumb", "unknown") and encoding.startswith("utf")


def is_same_terminal(stream: Any, other: Any) -> bool:
    """Return whether two streams write to the same terminal."""
    try:
        if not (stream.isatty() and other.isatty()):
            return False
        return stream is other or os.fstat(stream.fileno()).st_rdev == os.fstat(other.fileno()).st_rdev
    except (AttributeError, OSError, ValueError):  # it was replaced, or is closed
        return False
