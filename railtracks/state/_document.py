"""The document that a session is saved as (version 1), and the way from records to it and back.

It is the seed's graph: one run per top-level call; a node and an edge for each call, in two versions in time, the
later holding the earlier as its ``parent``; two stamps per call.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import attrs

from railtracks._ids import edge_id, index_of, node_id, run_id
from railtracks.exceptions import StateError
from railtracks.state._codec import Value
from railtracks.state._records import CallRecord, Reason, Shown, Status

VERSION = 1


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
    """``internals.latency.total_time``: the seconds from creation to end, once the call has ended."""
    parent: Node | None


@attrs.frozen(eq=False, repr=False, slots=False)
class EdgeDetails(Shown):
    input_args: Value
    input_kwargs: Value
    status: Status
    output: Value
    """The result; the exception of a failed call; None for others."""
    reason: Reason | None = None
    abandoned: bool = False


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

    def stamps(self, records: Iterable[CallRecord]) -> list[Stamp]:
        pairs = ((self.created(record), self.ended(record)) for record in records)
        return sorted((stamp for pair in pairs for stamp in pair if stamp is not None), key=lambda stamp: stamp.step)

    def node(self, record: CallRecord) -> Node:
        identifier = node_id(self.session_id, record.index)
        first = Node(identifier, record.node_type, record.name, self.created(record), {"internals": {}}, None)
        ended = self.ended(record)
        if ended is None:
            return first
        details = {"internals": {"latency": {"total_time": ended.time - first.stamp.time}}}
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
        details = EdgeDetails(args, kwargs, record.status, output, record.reason, record.abandoned)
        return Edge(identifier, source, target, ended, details, first)

    def runs(self, records: Iterable[CallRecord]) -> list[Run]:
        members: dict[int, list[CallRecord]] = {}
        for record in records:
            members.setdefault(record.run, []).append(record)
        return [self._run(those[0], those) for those in members.values()]

    def _run(self, top: CallRecord, records: list[CallRecord]) -> Run:
        return Run(
            name=top.name,
            run_id=run_id(self.session_id, top.index),
            status=top.status,
            start_time=top.started + self.origin,
            end_time=None if top.ended is None else top.ended + self.origin,
            nodes=[self.node(record) for record in records],
            edges=[self.edge(record) for record in records],
            steps=self.stamps(records),
        )


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
    failed = details.status is Status.FAILED and isinstance(details.output, BaseException)
    return CallRecord(
        index=_index(node.identifier),
        parent=None if edge.source is None else _index(edge.source),
        run=run,
        name=node.name,
        node_type=node.node_type,
        args=tuple(cast("list[Any]", details.input_args)),
        kwargs=cast("dict[str, Any]", details.input_kwargs),
        started_step=created.step,
        started=created.time,
        status=details.status,
        ended_step=None if ended is None else ended.step,
        ended=None if ended is None else ended.time,
        result=None if failed else details.output,
        exception=cast(BaseException, details.output) if failed else None,
        reason=details.reason,
        abandoned=details.abandoned,
    )
