"""``railtracks export``: a run in the formats of other programs."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

from railtracks import ExecutionInfo
from railtracks.cli._chrome_trace import chrome_trace
from railtracks.cli._errors import MistakeError
from railtracks.cli._graphs import dot, mermaid
from railtracks.cli._otlp import otlp_request
from railtracks.state import Store, load_run
from railtracks.state._serialization._shown_arguments import arguments_of
from railtracks.state._views._texts import shown_error, shown_name
from railtracks.state._views._times import ran_seconds

_MAX_ARGUMENTS = 1_000
_COLUMNS = (
    "index", "parent", "name", "node_type", "status", "reason", "attempt", "started", "ended", "seconds", "arguments",
    "error",
)  # fmt: skip


def _as_csv(info: ExecutionInfo) -> str:
    """Return a line for each call. Times are in seconds since the epoch."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for record in info.records:
        writer.writerow(
            [
                record.index,
                record.parent,
                shown_name(record, info._redactor),
                record.node_type,
                record.status.value,
                None if record.reason is None else record.reason.value,
                record.attempt,
                record.started,
                record.ended,
                None if record.ended is None else ran_seconds(record),
                arguments_of(record, info._redactor, _MAX_ARGUMENTS, _MAX_ARGUMENTS),
                None if record.exception is None else shown_error(record.exception, info._redactor),
            ]
        )
    return written.getvalue().rstrip("\n")


_FORMATS: dict[str, Callable[[ExecutionInfo], str]] = {
    "chrome-trace": lambda info: json.dumps(chrome_trace(info), ensure_ascii=False),
    "mermaid": mermaid,
    "dot": dot,
    "otlp": lambda info: json.dumps(otlp_request(info)),
    "json": lambda info: "".join(info.document()),
    "csv": _as_csv,
}


def export_run(identifier: str, format: str, output: Path | None, store: Store | str | None) -> int:
    """Write a run in a format to a file, or to standard output, and return the exit code."""
    text = _FORMATS[format](load_run(identifier, store))
    if output is None:
        print(text)
    else:
        try:
            output.write_text(f"{text}\n", encoding="utf-8")
        except OSError as exc:
            raise MistakeError(f"--output {output}: {exc.strerror}") from None
        print(f"The run {identifier} is written to {output}.", file=sys.stderr)
    return 0
