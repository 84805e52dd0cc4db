"""Warnings of results that cannot be brought back, for a run that goes on when it is started again."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from railtracks._logging import SESSION
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._records import REUSED, Form
from railtracks.state._serialization._large_values import has_large
from railtracks.state._serialization._record_text import form_in, parse_members
from railtracks.state._serialization._standard_types import find_standard

if TYPE_CHECKING:
    from railtracks._logging import SessionLog

MAX_CHECKED = 1 << 20
"""The number of characters of a result up to which it is brought back to see whether that is possible."""
_OPAQUE = "return plain data or types of the standard library, or use rt.state.register_hooks for its class"
_FAILURES = (
    'return the results alone, or raise the failures of a batch: `raise ExceptionGroup("items", failures)`; or return '
    "their texts"
)
_MASKED = "is not all on record, as it holds a secret; return it without"


class LastingResults:
    """Checks the results of calls of a session with ``if_exists="resume"``.

    Those of top-level calls are checked at the end. Of others only the first of each node
    without a return annotation is checked: an instance of a class of the user's, which nothing names then.

    Args:
        log: The session's log.
    """

    def __init__(self, log: SessionLog) -> None:
        self._log = log
        self._nodes: dict[int, FunctionNode[..., object]] = {}  # by the index of a top-level call
        self._are_annotated: dict[str, bool] = {}  # by the key of a node; True also for one that was warned of

    def on_created(self, record: CallRecord, node: FunctionNode[..., object]) -> None:
        """Note a call."""
        if record.parent is None:
            self._nodes[record.index] = node
        elif record.node is not None and record.node not in self._are_annotated:
            target = inspect.unwrap(node.func)
            target = getattr(target, "invoke", target)
            self._are_annotated[record.node] = not node.memo or "return" in getattr(target, "__annotations__", ())

    def on_ended(self, record: CallRecord) -> None:
        """Warn of a call whose result names a class that nothing else does. Its ``output`` is settled."""
        if record.node is None or self._are_annotated.get(record.node, True) or record.status is not Status.COMPLETED:
            return
        output = record.output
        if output is None or len(output) > MAX_CHECKED or form_in(output) is not Form.TYPED:
            return
        types = parse_members(output).get("output_types", {}).values()
        names = (entry["type"] if isinstance(entry, dict) else entry for entry in types)
        unknown = next((name for name in names if find_standard(name) is None), None)
        if unknown is not None:
            self._are_annotated[record.node] = True
            self._log.log(
                logging.WARNING,
                "If this run is started again, calls of %s run again although they have completed, as their results "
                "cannot be brought back: %s is named by no annotation. Annotate what %s returns, as in `-> %s`",
                record.name, unknown, record.name, unknown.rpartition(".")[2], logger=SESSION,
            )  # fmt: skip

    def warn(self, records: Iterable[CallRecord]) -> None:
        """Warn of top-level calls that will run again each time, although they have completed."""
        lost = [
            (record.name, why)
            for record in records
            if record.parent is None and record.index in self._nodes and (why := self._why_lost(record)) is not None
        ]
        if lost:
            (name, why), others = lost[0], len(lost) - 1
            also = f" (and {others} other call{'s' * (others > 1)})" if others else ""
            self._log.log(
                logging.WARNING,
                "%s%s will run again when this run is started again, although it has completed: its result %s",
                name, also, why, logger=SESSION,
            )  # fmt: skip

    def _why_lost(self, record: CallRecord) -> str | None:
        """Return why the result of a call cannot be brought back, and what to do; None if it can be."""
        output, node = record.output, self._nodes[record.index]
        is_replayed = record.reuse is not None and record.reuse.startswith(REUSED)
        if record.status is not Status.COMPLETED or output is None or is_replayed or not node.memo:
            return None
        form = form_in(output)
        if form is Form.MASKED:
            return _MASKED
        if form is Form.OPAQUE:
            return _why_opaque(parse_members(output)["output"])
        if form is not Form.TYPED or has_large(output) or len(output) > MAX_CHECKED:
            return None  # what was cut has had a warning of its own
        # Here, as it brings a dozen modules, and most results are plain data.
        from railtracks.state._serialization._structuring import restore_result

        try:
            restore_result(output, node.return_hint)
        except ValueError as exc:
            return str(exc)
        return None


def _why_opaque(output: Any) -> str:
    """Return what of a result has no written form, and what to write."""
    place, mark = _first_mark(output, "") or ("", {})
    name, at = mark.get("$type", "its class"), f" at {place}" if place else ""
    advice = _FAILURES if "$traceback" in mark else _OPAQUE
    return f"is not all on record, as {name}{at} has no written form; {advice}"


def _first_mark(data: Any, place: str) -> tuple[str, dict[str, Any]] | None:
    """Return the first value in plain data that was written as what it is only, and its place."""
    if isinstance(data, dict) and "$type" in data and ("$repr" in data or "$traceback" in data):
        return place, data
    members: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict):
        members = data.items()
    elif isinstance(data, list):
        members = enumerate(data)
    return next(filter(None, (_first_mark(member, f"{place}[{key!r}]") for key, member in members)), None)
