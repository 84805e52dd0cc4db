"""What the page shows of a run, as plain data: without secrets, and with long texts cut.

``page_data`` returns ``{"run": ..., "calls": ...}``. ``run`` is about all of the run, and small. ``calls`` has a row
for each call: a list in the order of ``COLUMNS``, as there may be 100,000 of them. The page takes such data when it
opens, and later through ``railtracks.update`` (see ``_render.py``).
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Sequence
from typing import Any

from railtracks import ExecutionInfo
from railtracks._wording import counted
from railtracks.page._wording import ANSWERED, HEADLINES, ON_REQUEST, WHY
from railtracks.state import CallRecord, Reason, SessionSummary, Status
from railtracks.state._call_tree import CallTree
from railtracks.state._questions import open_questions
from railtracks.state._records import is_reused
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._placeholders import RecordedError
from railtracks.state._serialization._record_text import ensure_texts, parse_members
from railtracks.state._serialization._redacted_values import redact_and_cut
from railtracks.state._serialization._shown_arguments import arguments_of
from railtracks.state._serialization._shown_data import MORE, shorten, shown_data
from railtracks.state._views._counts import RETRIED
from railtracks.state._views._failures import cancelled_calls, failures_of, is_failure, shown_reason
from railtracks.state._views._folds import FOLD_FROM, SHOWN_UNUSUAL, WORDS
from railtracks.state._views._texts import (
    printable,
    shown_error,
    shown_name,
    shown_seconds,
    shown_status,
    traceback_of,
)
from railtracks.state._views._times import began_at, own_seconds, ran_since
from railtracks.state._views._user_frames import without_library_frames

COLUMNS = ("index", "parent", "name", "status", "shown_status", "started", "ended", "own", "arguments", "error", "more")
"""What a row consists of.

- ``index``, and ``parent``, which is the index of the caller or None. The ``node_id`` of a call is ``SESSION-nINDEX``.
- ``status``: the place of the status in ``STATUSES``. ``shown_status``: the text with its cause; None if it has none.
- ``started``, ``ended`` (None while it is open) and ``own``: milliseconds, the first two since the run began. A call
  that has waited for its limits starts after that. ``own`` is the time in which no call below it ran; None if it made
  no calls, or has not ended.
- ``arguments``, ``error``: short texts; the second is None for a call without an exception.
- ``more``: an object with what is shown of the call when it is opened; None if there is nothing.
"""
STATUSES = tuple(status.value for status in Status)
MAX_TEXT = 2_000
"""The number of characters of an argument or a result that the page has."""
MAX_TRACEBACK = 20_000
"""That of a traceback."""
_MANY = 20_000
"""The number of calls from which on arguments and results are shorter, so that the file stays small enough to open."""
_MAX_TEXT_OF_MANY = 200
_MAX_ARGUMENTS, _MAX_ARGUMENT = 100, 50
_SHOWN_ARGUMENTS = 20
_MARKS = ("$repr", "$large", "$base64", "$ignored")
_SHOWN_FAILURES = 1_000
_SHOWN_STEPS = 2_000
_SHOWN_SLOWEST = 10
_RETRIED = "Retried"
"""What the page has as the status of calls that failed and were tried again, where it counts calls."""


def page_data(info: ExecutionInfo, since: int | None = None) -> dict[str, Any]:
    """Return what the page shows of a run.

    Args:
        info: The run, running or over.
        since: The ``step`` in the ``run`` of earlier data: only the rows of calls are returned that began or ended
            after it. None: all rows.
    """
    records: Sequence[CallRecord] = info.records
    changed = records if since is None else [record for record in records if _latest_step(record) > since]
    return {"run": run_data(info), "calls": call_rows(info, changed)}


def run_data(info: ExecutionInfo) -> dict[str, Any]:
    """Return what the page says of a run as a whole. Times are in seconds."""
    records, summary = info.records, info.summary()
    failed, cancelled = failures_of(records), cancelled_calls(records)
    path = heapq.nlargest(_SHOWN_STEPS, summary.critical_path, key=lambda step: step.seconds)
    path.sort(key=lambda step: step.record.started_step)
    retried = {_RETRIED: summary.retried} if summary.retried else {}
    return {
        "id": info.session_id,
        "title": summary.title,
        "status": summary.status.value,
        "headline": _headline(info, summary),
        "started": began_at(info.start_time, info.records),
        "seconds": summary.seconds,
        "count": len(records),
        "calls": {status.value: number for status, number in summary.calls.items()} | retried,
        "cached": summary.cached,
        "step": latest_step(info),
        "nodes": _node_rows(summary, info._redactor),
        "path": [[step.record.index, step.seconds] for step in path if step.seconds],
        "pathSeconds": sum(step.seconds for step in summary.critical_path),
        "slowest": _slowest(records),
        "failures": [record.index for record in failed[:_SHOWN_FAILURES]],
        "failureCount": len(failed),
        "cancelled": [record.index for record in cancelled[:_SHOWN_FAILURES]],
        "cancelledCount": len(cancelled),
        "questions": [[each.id, printable(info._redactor.redact_free_text(each.text))] for each in info.questions],
        "topics": list(info.topics),
        "damage": info.damage,
        "maxConcurrency": summary.max_concurrency,
        "processorSeconds": summary.processor_seconds,
        "memoryBytes": summary.peak_memory_bytes,
    }


def latest_step(info: ExecutionInfo) -> int:
    """Return the step of the call of a run that began or ended last; 0 if there is none."""
    return max(map(_latest_step, info.records), default=0)


def constants(count: int) -> dict[str, Any]:
    """Return what the page needs to know to read the data of a run with this number of calls."""
    words = {status.value: word for status, word in WORDS.items()} | {_RETRIED: RETRIED}
    return {
        "statuses": STATUSES,
        "folds": {"from": FOLD_FROM, "shownUnusual": SHOWN_UNUSUAL, "words": words},
        "maxText": _max_text(count),
        "maxTraceback": MAX_TRACEBACK,
    }


def call_rows(info: ExecutionInfo, records: Iterable[CallRecord]) -> list[list[Any]]:
    """Return the rows of some calls of a run.

    Args:
        info: The run.
        records: The calls.
    """
    tree, origin, limit = CallTree(info.records), began_at(info.start_time, info.records), _max_text(len(info.records))
    return [_row(record, tree, origin, limit, info._redactor) for record in records]


def _row(record: CallRecord, tree: CallTree, origin: float, limit: int, redactor: Redactor) -> list[Any]:
    ended, own, children = record.ended, None, tree.children(record)
    if ended is not None and children:
        own = _milliseconds(own_seconds(record, children))
    status, shown = shown_status(record), arguments_of(record, redactor, _MAX_ARGUMENTS, _MAX_ARGUMENT)
    return [
        record.index,
        record.parent,
        shown_name(record, redactor),
        STATUSES.index(record.status.value),
        None if status == record.status.value else status,
        _milliseconds(ran_since(record) - origin),
        None if ended is None else _milliseconds(ended - origin),
        own,
        shown,
        None if record.exception is None else shown_error(record.exception, redactor),
        _more(record, children, MORE in shown, limit, redactor) or None,
    ]


def _more(
    record: CallRecord, children: Sequence[CallRecord], is_cut: bool, limit: int, redactor: Redactor
) -> dict[str, Any]:
    """Return what is shown of a call when it is opened, beside what is in its row.

    Args:
        record: The record of the call.
        children: Those of the calls that it made.
        is_cut: Whether the row has its arguments only in part.
        limit: The number of characters of a text.
        redactor: The secrets that are known.
    """
    found: dict[str, Any] = {}
    inputs, output = ensure_texts(record, redactor)
    if is_cut:
        found["arguments"] = _whole_arguments(inputs, limit, redactor)
    if record.status is Status.COMPLETED:
        found["result"] = _json_text(parse_members(output)["output"], limit, redactor)
    if record.exception is not None:
        found |= _failure(record, children, redactor)
    if record.reason is not None and record.reason in WHY:
        found["why"] = WHY[record.reason]
    if record.policy is not None and record.policy.waited:
        found["waited"] = shown_seconds(record.policy.waited)
    if record.attempt > 1:
        found["attempt"] = record.attempt
    if record.policy is not None:
        found["policy"] = {name: value for name, value in record.policy._asdict().items() if value}
    if record.reuse is not None:
        found["reuse"] = record.reuse
    if record.abandoned:
        found["abandoned"] = True
    if record.attributes is not None:
        found["attributes"] = redact_and_cut(record.attributes, limit, redactor, redactor.redact_free_text)
    return found


def _failure(record: CallRecord, children: Sequence[CallRecord], redactor: Redactor) -> dict[str, Any]:
    """Return the traceback of an exception, or else its message, and which calls have raised it."""
    exc = record.exception
    assert exc is not None
    text = traceback_of(record) or (f"{exc.type}: {exc.message}" if type(exc) is RecordedError else "")
    if not text:
        text = without_library_frames(parse_members(ensure_texts(record, redactor)[1])["output"].get("$traceback", ""))
    found: dict[str, Any] = {"raisedBy": record.raised_by} if record.raised_by else {}
    if is_failure(record):
        found["isFailure"] = True
    if (reason := shown_reason(record, children, redactor)) != shown_error(exc, redactor):
        found["reason"] = reason
    if text:
        shown = redact_and_cut(text, MAX_TRACEBACK, redactor, redactor.redact_free_text)
        found["traceback"] = printable(shown).rstrip()
    return found


def _whole_arguments(inputs: str, limit: int, redactor: Redactor) -> list[list[str]]:
    """Return the arguments of a call one by one, each as a name or a position, and JSON text."""
    members = parse_members(inputs)
    pairs = [(str(at), value) for at, value in enumerate(members["input_args"])]
    pairs += members["input_kwargs"].items()
    shown = [[printable(name), _json_text(value, limit, redactor)] for name, value in pairs[:_SHOWN_ARGUMENTS]]
    left = len(pairs) - len(shown)
    return [*shown, *([[MORE, counted(left, "more argument")]] if left else [])]


def _json_text(data: Any, limit: int, redactor: Redactor) -> str:
    """Return plain data as JSON, or in short what stands for a value that is not written, or kept elsewhere."""
    is_mark = isinstance(data, dict) and not data.keys().isdisjoint(_MARKS)
    text = shown_data(data, limit) if is_mark else json.dumps(data, ensure_ascii=False)
    return redact_and_cut(text, limit, redactor, redactor.redact_free_text)


def _node_rows(summary: SessionSummary, redactor: Redactor) -> list[list[Any]]:
    return [
        [
            shorten(redactor.redact_name(node.name), _MAX_ARGUMENTS), node.calls, node.failed,
            node.total, node.mean, node.p50, node.p95, node.longest,
        ]
        for node in summary.nodes
    ]  # fmt: skip


def _slowest(records: Sequence[CallRecord]) -> list[list[float]]:
    """Return the calls that took longest by themselves, each with the seconds in which no call below it ran.

    Reused calls are left out.
    """
    tree = CallTree(records)
    own = (
        (own_seconds(record, tree.children(record)), -record.index)
        for record in records
        if record.ended is not None and not is_reused(record)
    )
    return [[-index, seconds] for seconds, index in heapq.nlargest(_SHOWN_SLOWEST, own)]


def _headline(info: ExecutionInfo, summary: SessionSummary) -> str:
    """Return in a sentence how the run ended, or how far it has come."""
    tops = info._root_calls()
    if any(record.reason is Reason.PROCESS_DIED for record in info.records):
        return "Its process died before it had ended."
    if summary.status is Status.OPEN and info.end_time is not None:  # a document that is damaged
        return "It has ended; what became of some calls is not on record."
    if summary.status is Status.OPEN and Status.OPEN not in summary.calls:
        return "It has not ended yet."  # between two calls: whether its process lives is not on record
    if summary.status is Status.FAILED:
        error = next((record.exception for record in tops if record.exception is not None), None)
        return "It failed." if error is None else f"It failed: {shown_error(error, info._redactor)}"
    if summary.status is Status.CANCELLED:
        reason = next((record.reason for record in tops if record.reason is not None), None)
        if reason is Reason.REQUEST:
            return ON_REQUEST
        return "It was cancelled." if reason is None else f"It was cancelled. {WHY[reason]}"
    if summary.status is Status.COMPLETED and (failed := summary.calls.get(Status.FAILED)):
        return f"It completed, although {counted(failed, 'call')} failed."
    if summary.status is Status.SUSPENDED and _is_answered(info):
        return ANSWERED
    return HEADLINES[summary.status]


def _is_answered(info: ExecutionInfo) -> bool:
    """Return whether a run has asked, and the answers to all of its questions wait for it."""
    return not info.questions and not info.topics and bool(open_questions((*info.earlier, *info.records)))


def _max_text(count: int) -> int:
    return MAX_TEXT if count < _MANY else _MAX_TEXT_OF_MANY


def _latest_step(record: CallRecord) -> int:
    return record.started_step if record.ended_step is None else record.ended_step


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 4)  # the clock is not finer
