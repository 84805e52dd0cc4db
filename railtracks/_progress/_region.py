"""The last rows of a terminal, in which lines are drawn again and again while others write above them.

The rows are kept out of what scrolls by a margin (DECSTBM), as apt does for its progress bar. So it does not matter
where other output comes from: prints, handlers of logs that were made before, C code, and subprocesses go on above, and
no stream has to be replaced. ``rich.live`` would not do: it draws where the cursor is, so what does not come through
its own streams is erased; it wraps what comes through them, takes brackets in it for markup, keeps back a line that is
not finished, such as a question, and sends standard output to standard error.

Each drawing is one write that saves the cursor, its colours and all, and restores them. The sequences are those of
VT100, which all terminals of today know. The cursor is never hidden. What a process that is killed leaves behind is the
margin.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Sequence
from typing import Any

from railtracks._progress._claim import Claim

LEAST_ROWS = 8
"""Rows of the smallest terminal that is drawn in."""
LEAST_ABOVE = 4
"""Rows that are left to others, at least; in a large terminal, a quarter."""
PATIENCE = 1.0
"""Seconds that a signal which ends the process waits for a terminal that is stopped."""
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_NO_COLOURS, _NO_MARGIN = "\x1b[0m", "\x1b[r"
_ERASE_LINE, _ERASE_BELOW = "\x1b[K", "\x1b[J"
_DOWN = "\x1bD"  # it scrolls at the bottom, and keeps the column, which "\n" does not


def drawable_rows(columns: int, rows: int) -> int:
    """Return how many rows of a terminal may be drawn in; 0 if it is too small."""
    return rows - max(LEAST_ABOVE, rows // 4) if rows >= LEAST_ROWS and columns > 1 else 0


class Region:
    """The last rows of a terminal. Its methods are for any thread.

    Args:
        stream: The terminal.

    Attributes:
        stream: As given.
    """

    def __init__(self, stream: Any) -> None:
        self.stream: Any = stream
        self._file = _terminal_file(stream)
        self._claim = Claim(self._file)
        self._lock = threading.RLock()  # held while something is written: a finalizer may end it meanwhile
        self._size = 0, 0  # columns and rows of the terminal as it was drawn in
        self._reserved = 0  # rows below the margin
        self._is_over = False

    def claim(self) -> bool:
        """Return whether no other process draws in this terminal. Until ``end``, others see that this one does."""
        return self._claim.acquire()

    def show(self, lines: Sequence[str], columns: int, rows: int) -> None:
        """Draw lines in place of those that are there. The rows that they need are reserved, and stay so until the end.

        Args:
            lines: At most ``drawable_rows(columns, rows)``, each shorter than ``columns``.
            columns: The width of the terminal.
            rows: Its height.

        Raises:
            OSError, ValueError: the terminal is gone.
        """
        with self._lock:
            text = self._reserve(len(lines), columns, rows) + self._drawn(lines)
            if text and not self._is_over:
                self._write(text)

    def print(self, text: str) -> None:
        """Write a line that stays, above the others. A line that is not finished stays above it.

        Raises:
            OSError, ValueError: the terminal is gone.
        """
        with self._lock:
            self.stream.flush()
            # As many spaces as there are columns lead to the next row, unless the cursor is at the beginning of one.
            fill = " " * terminal_size(self.stream)[0]
            self._write(f"{fill}\r{_ERASE_LINE}{text}\n")

    def end(self) -> None:
        """Erase the lines, and give the rows back. Idempotent, also if Ctrl-C tears it apart.

        Raises:
            OSError, ValueError: the terminal is gone.
        """
        with self._lock:
            if not self._is_over and self._reserved:
                self._write(self._released(*terminal_size(self.stream)))
            self.abandon()

    def end_at_once(self) -> None:
        """Do what ``end`` does, unless the terminal is stopped.

        Raises:
            OSError, ValueError: the terminal is gone.
        """
        if self._lock.acquire(timeout=PATIENCE):
            try:
                if self._file is None or select.select([], [self._file], [], PATIENCE)[1]:
                    self.end()
            finally:
                self._lock.release()

    def abandon(self) -> None:
        """Draw nothing any more, and leave the terminal as it is."""
        self._is_over = True
        self._reserved = 0
        self._claim.release()

    def _reserve(self, count: int, columns: int, rows: int) -> str:
        """Return what makes room for ``count`` lines: others must not have the cursor in these rows."""
        text = ""
        if self._reserved and self._size != (columns, rows):
            text = self._released(columns, rows)
            count, self._reserved = max(count, min(self._reserved, drawable_rows(columns, rows))), 0
        self._size = columns, rows
        more = count - self._reserved
        if more > 0:
            self._reserved = count
            text += f"{_DOWN * more}\x1b[{more}A"
        return text

    def _drawn(self, lines: Sequence[str]) -> str:
        """Return what draws lines. It sets the margin each time, as another program may have taken it away."""
        if not self._reserved:
            return ""
        above = self._size[1] - self._reserved
        blank = [""] * (self._reserved - len(lines))
        rows = [f"\x1b[{row};1H{line}{_ERASE_LINE}" for row, line in enumerate((*lines, *blank), above + 1)]
        return f"{_SAVE}{_NO_COLOURS}\x1b[1;{above}r{''.join(rows)}{_RESTORE}"

    def _released(self, columns: int, rows: int) -> str:
        """Return what erases the lines, and the margin, in a terminal that may have another size by now."""
        if (columns, rows) == self._size:
            top = f"\x1b[{rows - self._reserved + 1};1H"
            return f"{_SAVE}{_NO_COLOURS}{_NO_MARGIN}{top}{_ERASE_BELOW}{_RESTORE}"
        # Terminals differ in where they move rows then, and all of them leave what was below the cursor below it.
        return f"{_SAVE}{_NO_MARGIN}{_RESTORE}{_SAVE}{_NO_COLOURS}{_ERASE_BELOW}{_RESTORE}"

    def _write(self, text: str) -> None:
        """Write a text as a whole: what other processes write must not come in between."""
        if self._file is None:
            self.stream.write(text)
            self.stream.flush()
            return
        data = text.encode("utf-8", "backslashreplace")
        while data:
            try:
                data = data[os.write(self._file, data) :]
            except BlockingIOError:  # another has made it one that does not wait
                select.select([], [self._file], [])


def _terminal_file(stream: Any) -> int | None:
    """Return the file of a terminal; None if texts can be written to the stream alone, as in Windows."""
    try:
        file: int = stream.fileno()
        return file if os.name == "posix" and os.isatty(file) else None
    except (AttributeError, OSError, ValueError):  # an object that passes for a terminal
        return None


def terminal_size(stream: Any) -> tuple[int, int]:
    """Return the number of columns and of rows of a terminal: 80 and 24 if it does not say."""
    try:
        columns, rows = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):
        columns = rows = 0
    return columns or 80, rows or 24


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal in which lines can be drawn again."""
    try:
        if stream is None or not stream.isatty():
            return False
    except (AttributeError, OSError, ValueError):  # it was replaced, is closed, or the terminal is gone
        return False
    encoding = str(getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "")
    return os.environ.get("TERM", "").lower() not in ("dumb", "unknown") and encoding.startswith("utf")
