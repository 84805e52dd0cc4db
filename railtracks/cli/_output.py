"""What commands print: trees, tables, JSON, and times as people write them."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import datetime
from typing import Any, TextIO

from railtracks import ExecutionInfo
from railtracks._options import store_option
from railtracks.cli._errors import MistakeError
from railtracks.state import Question
from railtracks.state._questions import open_questions
from railtracks.state._records import CallRecord, Status, aggregate_status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._guarding import guarded
from railtracks.state._serialization._record_text import ensure_texts, parse_members
from railtracks.state._serialization._shown_data import shorten
from railtracks.state._views._summary import aligned
from railtracks.state._views._texts import printable, shown_error
from railtracks.state._views._user_frames import without_library_frames

MAX_TEXT = 200
"""The number of characters of a question that are shown."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def show_tree(info: ExecutionInfo, file: TextIO | None = None, **options: Any) -> None:
    """Print the calls of a run as a tree, in colour on a terminal.

    Args:
        info: The run.
        file: Where to; None: standard output.
        options: As for ``info.tree``.
    """
    file = sys.stdout if file is None else file
    if not file.isatty():
        print(info.tree(**options), file=file)
        return
    from rich.console import Console

    from railtracks.state._views._rich import rich_tree

    Console(file=file).print(rich_tree(info._tree_lines(**options)))


def answer_line(identifier: str, question: Question, store: object = None) -> str:
    """Return the command that answers a question of a run, with the question as a comment."""
    return (
        f"railtracks answer {identifier} {question.id} ...{store_option(store)}  # {shorten(question.text, MAX_TEXT)}"
    )


def came_for(info: ExecutionInfo) -> tuple[str, ...]:
    """Return what has come for a suspended run of what it waits for: the ids of questions, and topics of messages."""
    questions = (question.id for question in open_questions((*info.earlier, *info.records)))
    return tuple(each for each in (*questions, *info.topics) if each in info._answered)


def print_value(value: object) -> None:
    """Print what a flow has returned, whatever of it the encoding of the terminal lacks."""
    encoding = sys.stdout.encoding or "utf-8"
    print(guarded(str, value).encode(encoding, "backslashreplace").decode(encoding))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> None:
    """Print rows of texts in columns; those in ``left`` are aligned to the left."""
    print("\n".join(aligned([titles, *rows], left)))


def print_json(data: Any) -> None:
    """Print plain data as JSON."""
    is_ascii = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    json.dump(data, sys.stdout, ensure_ascii=is_ascii, indent=2 if sys.stdout.isatty() else None)
    print()


def run_as_data(info: ExecutionInfo) -> dict[str, Any]:
    """Return what a machine wants to know of a run: how it ended, its result, and why it failed."""
    tops = info._root_calls()
    results, summary = [_result_of(record, info) for record in tops], info.summary()
    errors = [shown_error(record.exception, info._redactor) for record in tops if record.exception is not None]
    return {
        "run": info.session_id,
        "flow": info.flow_name,
        "status": aggregate_status(info.records).value,
        "calls": len(info.records),
        "failed": len(info.failures),
        "retried": summary.retried,
        "cached": summary.cached,
        "seconds": info._seconds,
        "result": results[0] if len(results) == 1 else results or None,
        "error": errors[0] if errors else None,
    }


def _result_of(record: CallRecord, info: ExecutionInfo) -> Any:
    if record.status is not Status.COMPLETED:
        return None
    return parse_members(ensure_texts(record, info._redactor)[1])["output"]


def user_traceback(error: BaseException, redactor: Redactor) -> str:
    """Return an exception with its traceback for people: without the frames of libraries, and without secrets."""
    text = "".join(traceback.format_exception(error))
    return printable(redactor.redact_free_text(without_library_frames(text)))


def shown_age(seconds: float) -> str:
    """Return how long ago something was, in its greatest unit: ``4 s``, ``3 min``, ``2 h``, ``5 d``."""
    whole = int(max(seconds, 0.0))
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h")):
        if whole < limit:
            return f"{whole // size} {unit}"
    return f"{whole // 86_400} d"


def parse_span(text: str) -> float:
    """Return the seconds that a text such as ``90s``, ``15m``, ``12h``, ``7d`` or ``2w`` means.

    Raises:
        MistakeError: It is another text.
    """
    try:
        return float(text[:-1]) * UNITS[text[-1:]]
    except (KeyError, ValueError):
        raise MistakeError(f"{text!r} is not a duration; write it as 90s, 15m, 12h, 7d or 2w") from None


def parse_moment(text: str) -> float:
    """Return the seconds since the epoch that a text means: a duration before now, or a date and time of ISO 8601.

    Raises:
        MistakeError: It is another text.
    """
    if text[-1:] in UNITS:
        return time.time() - parse_span(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise MistakeError(
            f"{text!r} is not a time; write a duration before now, such as 12h or 7d, or a date, such as 2026-01-31"
        ) from None
