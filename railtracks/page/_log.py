"""The lines of a log that are about a run, by the call that they are about."""

from __future__ import annotations

import math
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from railtracks import ExecutionInfo
from railtracks._wording import counted
from railtracks.state._serialization._redacted_values import redact_and_cut

_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,6}))?\d*)?(?: ?(Z|[+-]\d\d:?\d\d)(?!\d))?")
"""The date that a line begins with."""
_BEGINNING = re.compile(r"\S+ \S+ ([\w.-]+)(?:/n(\d+))? \[\+(\d+\.\d+) *s *\]")
"""What a line of a ``log_file`` begins with: the date, the session, the call if any, the seconds since it opened."""
_SINCE = "[+"
"""What a line of the console begins with."""
_MAX_LINES = 50_000
_MAX_LINE = 2_000


def read_log(path: Path, info: ExecutionInfo) -> dict[str, Any]:
    """Return the lines of a file that are about a run, as the page takes them.

    A line of a ``log_file`` says at its beginning which session and which call it is about. Another line, such as one
    that a formatter of the application has written, is about a call if the ``node_id`` of the call stands in it, and
    about the run if the identifier of that stands in it.

    A file may have lines of several runs of one identifier. Lines that begin with a date outside of the run are left
    out. A date without a time zone is in that of this machine. The lines after a line that have no date, as those of a
    traceback, belong to it. A long line is cut, and its end says so.

    Args:
        path: The file.
        info: The run.

    Returns:
        ``calls``, the lines by the index of the call; ``run``, the other lines of the run; and ``note``, a sentence
        about how many there are.

    Raises:
        OSError: The file cannot be read.
    """
    about, redactor = _About(info), info._redactor
    calls: dict[int, list[str]] = {}
    run: list[str] = []
    count = 0
    with path.open(encoding="utf-8", errors="backslashreplace") as lines:
        for line in lines:
            about.take(line)
            count += about.is_run
            if about.is_run and count <= _MAX_LINES:
                texts = run if about.index is None else calls.setdefault(about.index, [])
                texts.append(redact_and_cut(line.rstrip("\n"), _MAX_LINE, redactor, redactor.redact_free_text))
    return {
        "calls": {str(index): texts for index, texts in calls.items()},
        "run": run,
        "note": _note(path.name, count, sum(map(len, calls.values())), about.outside),
    }


def _note(name: str, count: int, of_calls: int, outside: int) -> str:
    """Return how many lines of a log there are.

    Args:
        name: That of the file.
        count: The number of lines about the run.
        of_calls: The number of those about single calls.
        outside: The number of lines that are left out for their dates.
    """
    shown = min(count, _MAX_LINES)
    about = "is" if shown == 1 else "are"
    note = f"{counted(shown, 'line')} of the log {name} {about} about this run, {of_calls} of them about single calls."
    if not count and not outside:
        note = f"No line of the log {name} has the identifier of this run."
    elif count > shown:
        rest = count - shown
        note += " The line after them is left out." if rest == 1 else f" The {rest:,} lines after them are left out."
    if outside:
        which = "1 line that has" if outside == 1 else f"{outside:,} lines that have"
        note += f" Left out: {which} the identifier of this run, and a date before it began or after it had ended."
    return note


class _About:
    """Which run and which call the lines of a log are about, one after the other.

    Attributes:
        is_run: Whether the latest line is about the run.
        index: The index of the call that it is about, if it is about one.
        outside: The number of lines that have the identifier of the run, but begin with a date outside of it.
    """

    def __init__(self, info: ExecutionInfo) -> None:
        self._session = info.session_id
        self._mentioned = re.compile(rf"(?<![\w.-]){re.escape(info.session_id)}(?:-n(\d+))?(?![\w-])")
        self._known = {record.index for record in info.records}
        self._began = info.start_time
        self._ended = info.end_time
        self._is_sure = False  # whether what follows without a date belongs to it, whatever it says
        self.is_run = False
        self.index: int | None = None
        self.outside = 0

    def take(self, line: str) -> None:
        """Take the next line."""
        date = _DATE.match(line)
        beginning = None if date is None else _BEGINNING.match(line)
        if date is None and self._is_sure and not line.startswith(_SINCE):
            return
        self._is_sure = beginning is not None
        if beginning is not None:
            self._set(beginning[1] == self._session, beginning[2])
        elif found := self._mentioned.search(line):
            self._set(True, found[1])
        elif date is not None or line.startswith(_SINCE):
            self._set(False, None)
        if date is not None and self.is_run and not self._is_within(date, float(beginning[3]) if beginning else 0.0):
            self.is_run, self._is_sure = False, True
            self.outside += 1

    def _set(self, is_run: bool, index: str | None) -> None:
        self.is_run = is_run
        self.index = int(index) if is_run and index is not None and int(index) in self._known else None

    def _is_within(self, date: re.Match[str], since: float = 0.0) -> bool:
        """Return whether a date can be within the run, as precisely as it is written.

        Args:
            date: The match of it.
            since: The seconds since the session of the line opened; 0 if they are not known. The last lines of a
                session come when it has ended. One that opened before the run had ended is not a later one.
        """
        return any(
            (self._began is None or latest >= self._began) and (self._ended is None or earliest - since <= self._ended)
            for earliest, latest in _moments(date)
        )


def _moments(date: re.Match[str]) -> list[tuple[float, float]]:
    """Return what a date may mean, each as the earliest and the latest time, in seconds since the epoch.

    It has several meanings if it has no time zone, and clocks were set back at that time.
    """
    day, minute, second, fraction, zone = date.groups()
    resolution = 60.0 if second is None else 10.0 ** -len(fraction or "")
    text = f"{day}T{minute}:{second or '00'}.{(fraction or '').ljust(6, '0')}{zone or ''}"
    try:
        read = datetime.fromisoformat(text)
        moments = {read.replace(fold=fold).timestamp() for fold in (0, 1)}
    except (ValueError, OverflowError):  # not a date, such as 2026-13-32, so it says nothing
        return [(-math.inf, math.inf)]
    return [(moment, moment + resolution) for moment in moments]
