"""Trees of recorded calls, written down in short."""

from __future__ import annotations

import attrs

from railtracks.state import CallRecord, Change, Form, Reason, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import inputs_text, output_text
from railtracks.state._transitions import RTState


@attrs.define
class Call:
    """A recorded call: of a node, with one argument.

    Attributes:
        node: The name of the node, and its key; the key is None if the name is in angle brackets.
        argument: The argument.
        status: The status in which it ended, or "Open".
        result: The result of a completed call.
        below: The calls that it made.
        changes: The changes of the context: order, key, JSON text or None, form.
    """

    node: str
    argument: object = None
    status: str = "Completed"
    result: object = None
    below: list[Call] = attrs.field(factory=list)
    changes: list[tuple[int, str, str | None, Form]] = attrs.field(factory=list)


def new_record(state: RTState, node: str, argument: object = None, parent: CallRecord | None = None) -> CallRecord:
    """Return the record of a new call, with node key and arguments settled."""
    record = state.created(node, "Tool", (argument,), {}, parent, float(state.step))
    record.node = None if node.startswith("<") else node
    record.inputs = inputs_text(record.args, record.kwargs, Redactor())
    return record


def records_of(calls: list[Call], state: RTState | None = None, parent: CallRecord | None = None) -> list[CallRecord]:
    """Return the records of some calls, made one after the other. The time of each step is its number."""
    state = RTState() if state is None else state
    for call in calls:
        record = new_record(state, call.node, call.argument, parent)
        record.changes = [Change(*change) for change in call.changes] or None
        records_of(call.below, state, record)
        now = float(state.step)
        match Status(call.status):
            case Status.COMPLETED:
                state.succeeded(record, call.result, now)
            case Status.FAILED:
                state.failed(record, ValueError("boom"), now)
            case Status.CANCELLED:
                state.cancelled(record, Reason.OUTSIDE, now)
        if record.status is not Status.OPEN:
            record.output = output_text(record, Redactor())
    return state.records


def tree_of(records: list[CallRecord]) -> list[tuple]:
    """Return the calls as nested tuples: node, argument, status, calls below (if there are any)."""

    def below(parent: int | None) -> list[tuple]:
        return [
            (r.node or r.name, *r.args, r.status.value, *([children] if (children := below(r.index)) else []))
            for r in records
            if r.parent == parent
        ]

    return below(None)
