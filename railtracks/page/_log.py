"""The lines of a log that are about a run, by the call that they are about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from railtracks import ExecutionInfo
from railtracks._wording import counted
from railtracks.state._serialization._redacted_values import redact_and_cut

_BEGINS = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d|\[\+\d")
"""What a line begins with that is not the rest of a text of several lines, such as a traceback."""
_MAX_LINES = 50_000
_MAX_LINE = 2_000


def read_log(path: Path, info: ExecutionInfo) -> dict[str, Any]:
    """Return the lines of a file that are about a run, as the page takes them.

    A line is about a call if the identifier of the call stands in it, as it does in a ``log_file`` and wherever a
    formatter writes the ``node_id`` of log records. It is about the run if the identifier of that stands in it. The
    lines after it that have no date, as those of a traceback, belong to it. A long line is cut, and its end says so.

    Args:
        path: The file.
        info: The run.

    Returns:
        ``calls``, the lines by the index of the call; ``run``, the other lines of the run; and ``note``, a sentence
        about how many there are.

    Raises:
        OSError: The file cannot be read.
    """
    mentioned = re.compile(rf"(?<![\w.-]){re.escape(info.session_id)}(?:-n(\d+))?(?![\w-])")
    known = {record.index for record in info.records}
    calls: dict[int, list[str]] = {}
    run: list[str] = []
    current: list[str] | None = None
    count, redactor = 0, info._redactor
    with path.open(encoding="utf-8", errors="backslashreplace") as lines:
        for line in lines:
            found = mentioned.search(line)
            if found is not None:
                index = None if found[1] is None else int(found[1])
                current = run if index not in known or index is None else calls.setdefault(index, [])
            elif _BEGINS.match(line):
                current = None
            if current is not None and count < _MAX_LINES:
                count += 1
                current.append(redact_and_cut(line.rstrip("\n"), _MAX_LINE, redactor, redactor.redact_free_text))
    about = sum(map(len, calls.values()))
    note = f"{counted(count, 'line')} of the log {path.name} are about this run, {about} of them about single calls."
    if not count:
        note = f"No line of the log {path.name} has the identifier of this run."
    elif count == _MAX_LINES:
        note += " The rest is left out."
    return {"calls": {str(index): texts for index, texts in calls.items()}, "run": run, "note": note}
