"""The document in which a session is saved: its classes, and the conversion of records to them and back.

The document is a graph: one run per top-level call; for each call a node and an edge, both in two versions in time, of
which the later holds the earlier as its ``parent``; two stamps per call. ``_writer.py`` writes it as text.

Version 2 added ``status``, ``calls`` and ``earlier`` to the document, and ``input_types``, ``input_form``,
``output_types``, ``output_form``, ``node``, ``context`` and ``reuse`` to the details of an edge; the ``attributes`` of
nodes came later, within version 2. Version 3 names the library's own classes and nodes by their public paths; the
``timeout`` of an edge came later, within version 3. Version 4 says at which places the types of a value are, and what
its parts have beyond their members, and adds ``types`` to context changes. Version 5 adds ``callers`` and
``earlier_callers``, and a saved document has checksums.
``_reader.py`` still reads versions 1 to 4.
"""

from __future__ import annotations

from typing import Any

import attrs

from railtracks._identifiers import edge_id, node_id
from railtracks.state._document._converter import Value
from railtracks.state._records import CallRecord, Change, FieldRepr, Form, PolicyFacts, Read, Reason, Status
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._record_text import loads


@attrs.frozen
class Stamp:
    """A moment in a session."""

    step: int
    """The position of the moment among all of its session, from 0."""
    time: float
    """Seconds since the epoch."""
    identifier: str
    """What happened, for people, such as ``CREATED name``."""


@attrs.frozen(eq=False, repr=False, slots=False)
class Node(FieldRepr):
    """A call as a node of the graph; ``parent`` is its earlier version in time."""

    identifier: str
    node_type: str
    name: str
    stamp: Stamp
    details: dict[str, Any]
    """``internals.latency.total_time``: the seconds from creation to end, once the call has ended. ``attributes``: how
    the call described itself, if it did; agents and requests to models use the names of OpenTelemetry."""
    parent: Node | None


@attrs.frozen(eq=False, repr=False, slots=False)
class ContextChange(FieldRepr):
    """A change of the context by a call, which set ``key`` to ``value`` or deleted it."""

    order: int
    key: str
    value: Value
    form: Form
    deleted: bool
    types: Value | None = None
    """The types in the value, by place."""


@attrs.frozen(eq=False, repr=False, slots=False)
class ContextRead(FieldRepr):
    """A value that a call read from the context."""

    key: str
    depth: int
    """How many calls, from the one that read it outwards, it was outside of."""
    value: Value
    missing: bool
    """Whether there was no such key."""
    types: Value | None = None
    """The types in the value, by place."""


@attrs.frozen(eq=False, repr=False, slots=False)
class EdgeDetails(FieldRepr):
    """Inputs, output and status of a call.

    Of the fields from ``input_types`` on, those that hold their default are not written.
    """

    input_args: Value
    input_kwargs: Value
    status: Status
    output: Value
    """The result; the exception of a failed call; None for others."""
    reason: Reason | None = None
    abandoned: bool = False
    input_types: Value | None = None
    """The types of those arguments, and parts of them, that are not plain, by place; a text in calls that were recorded
    by an earlier release."""
    input_form: Form = Form.PLAIN
    output_types: Value | None = None
    output_form: Form = Form.PLAIN
    node: str | None = None
    """The node key: module, qualified name and version. It identifies the node in all processes."""
    context: list[ContextChange] = attrs.field(factory=list)
    reuse: str | None = None
    """In a session that resumed another, "reused" or the reason why the call ran again."""
    timeout: float | None = None
    """The limit, in seconds, that a top-level call had exceeded when it was cancelled."""
    code: str | None = None
    """The digest of the code of the function that ran. In a document it is absent if it is that of the call of the same
    node that stands before, and "" if it is not known."""
    reads: list[ContextRead] = attrs.field(factory=list)
    branch: list[int] | None = None
    """The task of the calling call that made the call; None for its own."""
    attempt: int = 1
    raised_by: list[int] | None = None
    """Of a failed call, the indices of the failed calls below it that raised what its exception consists of."""
    was_left: bool | None = None
    """Of a failed call of an earlier attempt, whether its caller had gone on after that."""
    retry: int = 0
    """How many attempts of the same call had failed before this one."""
    retried: bool = False
    """Whether it failed, and its policy has it tried again."""
    waited: float = 0.0
    """Seconds that it waited for limits before it ran."""
    waiting: str | None = None
    """The limit that it waited for when it ended, or when this was saved; None if it has run."""
    cached: str | None = None
    """Where the result came from that was used in place of running it: "session" or "store"."""
    place: str | None = None
    """Where it ran, if not in the process of its session."""
    messages: list[Value] = attrs.field(factory=list)
    """Messages to which the arguments and outputs of this edge and later ones refer."""


@attrs.frozen(eq=False, repr=False, slots=False)
class Edge(FieldRepr):
    """The request that made a call, from the node ``source`` (None for the session) to the node ``target``.

    ``parent`` is its earlier version in time.
    """

    identifier: str
    source: str | None
    target: str
    stamp: Stamp
    details: EdgeDetails
    parent: Edge | None


@attrs.frozen(eq=False, repr=False, slots=False)
class Run(FieldRepr):
    """A top-level call and all calls below it. Times are in seconds since the epoch."""

    name: str
    run_id: str
    status: Status
    start_time: float
    end_time: float | None
    nodes: list[Node]
    edges: list[Edge]
    steps: list[Stamp]


@attrs.frozen(eq=False, repr=False, slots=False)
class Document(FieldRepr):
    """The content of a state file."""

    version: int
    flow_name: str | None
    flow_id: str | None
    session_id: str
    session_name: str | None
    start_time: float | None
    end_time: float | None
    runs: list[Run]
    interrupted: bool = False
    """Whether Ctrl-C or SIGTERM ended the session."""
    processor_seconds: float | None = None
    """The processor time that the process used while the session was open."""
    peak_memory_bytes: int | None = None
    """The most memory that the process had used until the session ended."""
    traceparent: str | None = None
    """The span of the session, as the W3C header of that name has it."""
    status: Status = Status.OPEN
    """The status of all top-level calls together."""
    calls: int = 0
    """The number of calls in ``runs``, at all levels."""
    earlier: list[Run] = attrs.field(factory=list)
    """The calls of the session that this one resumed, as long as this one has not completed."""
    checksum: Value | None = None
    callers: Value | None = None
    """For each call in ``runs``, the index of its caller, which its edge has too; None for a top-level call."""
    earlier_callers: Value | None = None
    checksums: Value | None = None
    """See ``_checksums.py``; it checks them before the document is parsed."""


class GraphBuilder:
    """Makes the parts of a document from the records of one session.

    Args:
        session_id: The session, from which the identifiers are made.
    """

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id

    def caller(self, record: CallRecord) -> str | None:
        """Return the identifier of the node that made the call; None for a top-level call."""
        return None if record.parent is None else node_id(self.session_id, record.parent)

    def created_stamp(self, record: CallRecord) -> Stamp:
        """Return the stamp of the creation of the call."""
        return Stamp(record.started_step, record.started, f"CREATED {record.name}")

    def ended_stamp(self, record: CallRecord) -> Stamp | None:
        """Return the stamp of the end of the call; None while it is open."""
        if record.ended is None or record.ended_step is None:
            return None
        word = "DONE" if record.status is Status.COMPLETED else record.status.value.upper()
        return Stamp(record.ended_step, record.ended, f"{record.name} {word}")

    def node(self, record: CallRecord) -> Node:
        """Return the call as a node, in its latest version."""
        identifier = node_id(self.session_id, record.index)
        attributes = {} if record.attributes is None else {"attributes": loads(record.attributes)}
        ended = self.ended_stamp(record)
        opened = {"internals": {}} if ended is not None else {"internals": {}, **attributes}
        first = Node(identifier, record.node_type, record.name, self.created_stamp(record), opened, None)
        if ended is None:
            return first
        details = {"internals": {"latency": {"total_time": ended.time - first.stamp.time}}, **attributes}
        return Node(identifier, record.node_type, record.name, ended, details, first)

    def edge(self, record: CallRecord) -> Edge:
        """Return the request that made the call, in its latest version."""
        identifier, target = edge_id(self.session_id, record.index), node_id(self.session_id, record.index)
        source, args, kwargs = self.caller(record), Value(record.args), Value(record.kwargs)
        output = Value(record.result if record.exception is None else record.exception)
        details = EdgeDetails(
            args, kwargs, record.status, output, record.reason, record.abandoned,
            node=record.node, context=list(map(_context_change, record.changes or ())), reuse=record.reuse,
            timeout=record.timeout,
            reads=[_context_read(key, read) for key, read in (record.reads or {}).items()], code=record.code,
            branch=None if record.branch is None else list(record.branch), was_left=record.was_left,
            attempt=record.attempt,
            raised_by=None if record.raised_by is None else list(record.raised_by),
            **(record.policy or PolicyFacts())._asdict(),
        )  # fmt: skip
        ended = self.ended_stamp(record)
        if ended is None:
            return Edge(identifier, source, target, self.created_stamp(record), details, None)
        opened = EdgeDetails(args, kwargs, Status.OPEN, Value(None))
        first = Edge(identifier, source, target, self.created_stamp(record), opened, None)
        return Edge(identifier, source, target, ended, details, first)


def _context_read(key: str, read: Read) -> ContextRead:
    value = loads(read.value or "null")
    return ContextRead(key, read.depth, value, read.value is None, None if read.types is None else loads(read.types))


def _context_change(change: Change) -> ContextChange:
    value = None if change.value is None else decode(loads(change.value))
    types = None if change.types is None else loads(change.types)
    return ContextChange(change.order, change.key, Value(value), change.form, change.value is None, Value(types))
