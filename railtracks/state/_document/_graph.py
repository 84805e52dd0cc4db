"""The document that a session is saved as, and the way from records to its parts and from it to records.

It is the seed's graph: one run per top-level call; a node and an edge for each call, in two versions in time, the
later holding the earlier as its ``parent``; two stamps per call. How it is written stands in ``_writer.py``.

Version 2 added ``status``, ``calls`` and ``earlier``, and to the details of an edge all from ``node`` on. Version 3
names the library's own classes and nodes by their public paths. Versions 1 and 2 are still read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

import attrs

from railtracks._identifiers import edge_id, index_of, node_id
from railtracks.exceptions import StateError
from railtracks.state._document._converter import Value
from railtracks.state._records import CallRecord, Change, Form, Reason, Shown, Status
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._record_text import dumps, format_inputs, format_output, loads

VERSION = 3


@attrs.frozen
class Stamp:
    """A moment: ``step`` counts from 0 in a session, ``time`` is in seconds since the epoch, ``identifier`` says
    what happened."""

    step: int
    time: float
    identifier: str


@attrs.frozen(eq=False, repr=False, slots=False)
class Node(Shown):
    """A call as a node of the graph; ``parent`` is its earlier version in time."""

    identifier: str
    node_type: str
    name: str
    stamp: Stamp
    details: dict[str, Any]
    """``internals.latency.total_time``: the seconds from creation to end, once the call has ended. ``attributes``: what
    the call said about itself, if it did; of agents and of their models under the names of OpenTelemetry."""
    parent: Node | None


@attrs.frozen(eq=False, repr=False, slots=False)
class ContextChange(Shown):
    """A call put ``value`` into the context, or deleted ``key`` from it."""

    order: int
    key: str
    value: Value
    form: Form
    deleted: bool


@attrs.frozen(eq=False, repr=False, slots=False)
class EdgeDetails(Shown):
    """What went in, what came out, and what became of it; from ``input_types`` on written only if it says something."""

    input_args: Value
    input_kwargs: Value
    status: Status
    output: Value
    """The result; the exception of a failed call; None for others."""
    reason: Reason | None = None
    abandoned: bool = False
    input_types: str | None = None
    """The types that the arguments had, where they were not plain."""
    input_form: Form = Form.PLAIN
    output_types: str | None = None
    output_form: Form = Form.PLAIN
    node: str | None = None
    """What identifies the node in all processes: its module, qualified name and version."""
    context: list[ContextChange] = attrs.field(factory=list)
    reuse: str | None = None
    """In a session that resumed another: "reused", or why the call ran again."""


@attrs.frozen(eq=False, repr=False, slots=False)
class Edge(Shown):
    """The request that made a call, from ``source`` (None: the session) to ``target``; ``parent`` is its earlier
    version."""

    identifier: str
    source: str | None
    target: str
    stamp: Stamp
    details: EdgeDetails
    parent: Edge | None


@attrs.frozen(eq=False, repr=False, slots=False)
class Run(Shown):
    """A top-level call and all below it. Times are in seconds since the epoch."""

    name: str
    run_id: str
    status: Status
    start_time: float
    end_time: float | None
    nodes: list[Node]
    edges: list[Edge]
    steps: list[Stamp]


@attrs.frozen(eq=False, repr=False, slots=False)
class Document(Shown):
    """What a state file holds."""

    version: int
    flow_name: str | None
    flow_id: str | None
    session_id: str
    session_name: str | None
    start_time: float | None
    end_time: float | None
    runs: list[Run]
    status: Status = Status.OPEN
    """Of all top-level calls together."""
    calls: int = 0
    """How many there are, at all levels."""
    earlier: list[Run] = attrs.field(factory=list)
    """Calls of the session that this one resumed, kept while this one has not completed."""


class Scribe:
    """Writes the records of one session as parts of its document.

    Args:
        session_id: Identifiers are made from it.
        origin: Seconds to add to a record's time to get seconds since the epoch.
    """

    def __init__(self, session_id: str, origin: float) -> None:
        self.session_id = session_id
        self.origin = origin

    def caller(self, record: CallRecord) -> str | None:
        """The identifier of the node that made the call."""
        return None if record.parent is None else node_id(self.session_id, record.parent)

    def created(self, record: CallRecord) -> Stamp:
        return Stamp(record.started_step, record.started + self.origin, f"CREATED {record.name}")

    def ended(self, record: CallRecord) -> Stamp | None:
        if record.ended is None or record.ended_step is None:
            return None
        word = "DONE" if record.status is Status.COMPLETED else record.status.value.upper()
        return Stamp(record.ended_step, record.ended + self.origin, f"{record.name} {word}")

    def node(self, record: CallRecord) -> Node:
        identifier = node_id(self.session_id, record.index)
        said = {} if record.attributes is None else {"attributes": loads(record.attributes)}
        ended = self.ended(record)
        opened = {"internals": {}} if ended is not None else {"internals": {}, **said}
        first = Node(identifier, record.node_type, record.name, self.created(record), opened, None)
        if ended is None:
            return first
        details = {"internals": {"latency": {"total_time": ended.time - first.stamp.time}}, **said}
        return Node(identifier, record.node_type, record.name, ended, details, first)

    def edge(self, record: CallRecord) -> Edge:
        identifier, target = edge_id(self.session_id, record.index), node_id(self.session_id, record.index)
        source, args, kwargs = self.caller(record), Value(record.args), Value(record.kwargs)
        opened = EdgeDetails(args, kwargs, Status.OPEN, Value(None))
        first = Edge(identifier, source, target, self.created(record), opened, None)
        ended = self.ended(record)
        if ended is None:
            return first
        output = Value(record.result if record.exception is None else record.exception)
        details = EdgeDetails(
            args, kwargs, record.status, output, record.reason, record.abandoned,
            node=record.node, context=list(map(_context_change, record.changes or ())), reuse=record.reuse,
        )  # fmt: skip
        return Edge(identifier, source, target, ended, details, first)


def _context_change(change: Change) -> ContextChange:
    value = None if change.value is None else decode(loads(change.value))
    return ContextChange(change.order, change.key, Value(value), change.form, change.value is None)


def overall(records: Iterable[CallRecord]) -> Status:
    """What became of a session, from its top-level calls: the worst of it."""
    found = {record.status for record in records if record.parent is None}
    for status in (Status.OPEN, Status.FAILED, Status.CANCELLED):
        if status in found:
            return status
    return Status.COMPLETED


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """The document as it would be if this release had written it. What it cannot know it leaves unsaid.

    Raises:
        StateError: this release does not know its version.
    """
    version = data.get("version")
    if type(version) is not int or version not in range(1, VERSION + 1):
        raise StateError(f"the state has version {version!r}; this release of railtracks reads 1 to {VERSION}")
    if version < VERSION:
        from railtracks.state._serialization._former_names import translate  # here, as it serves old documents only

        for details in _all_details(data):
            if version == 1:  # which did not record how much of a value was written
                details.update(input_form=Form.UNKNOWN.value, output_form=Form.UNKNOWN.value)
            translate(details)
            for change in _dicts_in(details, "context"):
                translate(change)
    return data


def _all_details(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the details of all edges of a document that was not validated yet."""
    for name in ("runs", "earlier"):
        for run in _dicts_in(data, name):
            for edge in _dicts_in(run, "edges"):
                if isinstance(edge.get("details"), dict):
                    yield edge["details"]


def _dicts_in(data: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = data.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def read_records(runs: Iterable[Run]) -> tuple[CallRecord, ...]:
    """The records that the runs were written from; their times are in seconds since the epoch.

    Raises:
        StateError: the runs contradict themselves; the text says where.
    """
    records = []
    for run in runs:
        if len(run.nodes) != len(run.edges):
            raise StateError(f"run {run.run_id!r} has {len(run.nodes)} nodes but {len(run.edges)} edges")
        records += [
            _read_record(node, edge, _index(run.run_id)) for node, edge in zip(run.nodes, run.edges, strict=True)
        ]
    return tuple(sorted(records, key=lambda record: record.index))


def _index(identifier: str) -> int:
    try:
        return index_of(identifier)
    except ValueError:
        raise StateError(f"{identifier!r} is no identifier of a node, an edge or a run") from None


def _read_record(node: Node, edge: Edge, run: int) -> CallRecord:
    details = edge.details
    for name, value, kind in (("input_args", details.input_args, list), ("input_kwargs", details.input_kwargs, dict)):
        if not isinstance(value, kind):
            raise StateError(f"{name} of {edge.identifier!r} is {value!r}, and not a {kind.__name__}")
    created = (node.parent or node).stamp
    ended = None if node.parent is None else node.stamp
    args, kwargs, output = (_decoded(edge, name) for name in ("input_args", "input_kwargs", "output"))
    failed = details.status is Status.FAILED and isinstance(output, BaseException)
    return CallRecord(
        index=_index(node.identifier),
        parent=None if edge.source is None else _index(edge.source),
        run=run,
        name=node.name,
        node_type=node.node_type,
        args=tuple(args),
        kwargs=kwargs,
        started_step=created.step,
        started=created.time,
        status=details.status,
        ended_step=None if ended is None else ended.step,
        ended=None if ended is None else ended.time,
        result=None if failed else output,
        exception=cast(BaseException, output) if failed else None,
        reason=details.reason,
        abandoned=details.abandoned,
        node=details.node,
        inputs=format_inputs(details.input_args, details.input_kwargs, details.input_form, details.input_types),
        output=None
        if details.status is Status.OPEN
        else format_output(details.output, details.output_form, details.output_types),
        changes=[_read_change(change) for change in details.context] or None,
        reuse=details.reuse,
        attributes=dumps(node.details["attributes"]) if "attributes" in node.details else None,
    )


def _decoded(edge: Edge, name: str) -> Any:
    try:
        return decode(getattr(edge.details, name))
    except Exception as exc:  # a hook of the user's, or a mark that is none
        raise StateError(f"{name} of {edge.identifier!r} cannot be brought back: {exc}") from exc


def _read_change(change: ContextChange) -> Change:
    return Change(change.order, change.key, None if change.deleted else dumps(change.value), change.form)
