"""ExecutionInfo: an immutable view of a session, live or loaded, and the document it is saved as.

The document (version 1) is the seed's graph: one run per top-level call; a node and an edge for each call, in two
versions in time, the later holding the earlier as its ``parent``; two stamps per call.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import attrs
import cattrs

from railtracks._ids import edge_id, index_of, node_id, run_id
from railtracks.exceptions import SessionEndedError, StateError
from railtracks.state._codec import Value, converter
from railtracks.state._records import CallRecord, Reason, Status
from railtracks.state._store import write_atomically

VERSION = 1


@attrs.frozen
class Stamp:
    """A moment: ``step`` counts from 0 in a session, ``time`` is in seconds since the epoch, ``identifier`` says
    what happened."""

    step: int
    time: float
    identifier: str


@attrs.frozen(eq=False)
class Node:
    """A call as a node of the graph; ``parent`` is its earlier version in time."""

    identifier: str
    node_type: str
    name: str
    stamp: Stamp
    details: dict[str, Any]
    """``internals.latency.total_time``: the seconds from creation to end, once the call has ended."""
    parent: Node | None


@attrs.frozen(eq=False)
class EdgeDetails:
    input_args: Value
    input_kwargs: Value
    status: Status
    output: Value
    """The result; the exception of a failed call; None for others."""
    reason: Reason | None = None
    abandoned: bool = False


@attrs.frozen(eq=False)
class Edge:
    """The request that made a call, from ``source`` (None: the session) to ``target``; ``parent`` is its earlier
    version."""

    identifier: str
    source: str | None
    target: str
    stamp: Stamp
    details: EdgeDetails
    parent: Edge | None


@attrs.frozen(eq=False)
class Run:
    """A top-level call and all below it. Times are in seconds since the epoch."""

    name: str
    run_id: str
    status: Status
    start_time: float
    end_time: float | None
    nodes: list[Node]
    edges: list[Edge]
    steps: list[Stamp]


@attrs.frozen(eq=False)
class Document:
    """What a state file holds."""

    version: int
    flow_name: str | None
    flow_id: str | None
    session_id: str
    session_name: str | None
    start_time: float | None
    end_time: float | None
    runs: list[Run]


@attrs.frozen
class Failure:
    """Stands in ``ExecutionInfo.answer`` for a top-level call that failed or was cancelled."""

    exception: BaseException


_T = TypeVar("_T", Node, Edge)


class Forest(Generic[_T]):
    """The nodes, or the requests, of a session as trees."""

    def __init__(self, items: Mapping[str, _T], parents: Mapping[str, str | None]) -> None:
        self._items: Mapping[str, _T] = items
        self._parents = parents  # of each node: the node that called it

    def heap(self) -> dict[str, _T]:
        """All of them, in their latest version, by identifier, in the order of creation."""
        return dict(self._items)

    def children(self, node_id: str) -> list[_T]:
        """Those that the node called, in the order of creation. KeyError if there is no such node."""
        if node_id not in self._parents:
            raise KeyError(node_id)
        return self._below(node_id)

    @property
    def insertion_request(self) -> list[_T]:
        """Those of the top-level calls, in the order of creation."""
        return self._below(None)

    def _below(self, parent: str | None) -> list[_T]:
        return [
            item for item in self._items.values()
            if self._parents[item.target if isinstance(item, Edge) else item.identifier] == parent
        ]  # fmt: skip


@attrs.frozen(eq=False)
class ExecutionInfo:
    """What happened in a session: taken from a live one (``session.info``) or loaded from its state file.

    A live session goes on; the view stays as it was taken. Two views are equal if they would be saved as
    the same document, the tracebacks of exceptions aside: these grow while an exception travels on. Times are
    in seconds since the epoch.
    """

    session_id: str
    session_name: str | None = None
    flow_name: str | None = None
    flow_id: str | None = None
    start_time: float | None = None
    end_time: float | None = None
    records: tuple[CallRecord, ...] = ()
    """The calls in the order of creation; their times are on the session's clock."""
    clock_origin: float = attrs.field(default=0.0, repr=False)
    """Seconds to add to a record's time to get seconds since the epoch."""

    # ---- queries

    @property
    def answer(self) -> Any:
        """What the top-level calls returned: None without a call, the value of one, a list for several.

        A call that failed or was cancelled gives ``Failure(exception)``; one that still runs gives None.
        """
        answers = [self._answer(record) for record in self._tops()]
        return answers[0] if len(answers) == 1 else answers or None

    @property
    def name(self) -> str:
        """The name of the top-level call. ValueError unless there is exactly one."""
        names = [record.name for record in self._tops()]
        if len(names) != 1:
            raise ValueError(
                f"the session has {len(names)} top-level calls, so there is no one name; see info.insertion_requests"
            )
        return names[0]

    @property
    def all_stamps(self) -> list[Stamp]:
        """All stamps in the order of their steps."""
        return self._stamps(self.records)

    @property
    def insertion_requests(self) -> list[Edge]:
        """The requests of the top-level calls."""
        return self.request_forest.insertion_request

    @property
    def request_forest(self) -> Forest[Edge]:
        """The calls as requests: who called whom, with what, and what came of it."""
        return Forest({edge.identifier: edge for edge in map(self._edge, self.records)}, self._parents())

    @property
    def node_forest(self) -> Forest[Node]:
        """The calls as nodes."""
        return Forest({node.identifier: node for node in map(self._node, self.records)}, self._parents())

    def subset(self, ids: str | Iterable[str]) -> ExecutionInfo:
        """The view of some nodes and all below them; a node whose caller is left out becomes a top-level call.

        Args:
            ids: Identifiers of nodes.

        Raises:
            KeyError: there is no such node.
        """
        wanted = [ids] if isinstance(ids, str) else list(ids)
        known = self._parents()
        for identifier in wanted:
            if identifier not in known:
                raise KeyError(identifier)
        roots = {index_of(identifier) for identifier in wanted}
        runs: dict[int, int] = {}
        kept = []
        for record in self.records:  # a caller always stands before those it calls
            if record.parent in runs:
                runs[record.index] = runs[record.parent]
                kept.append(attrs.evolve(record, run=runs[record.parent]))
            elif record.index in roots:
                runs[record.index] = record.index
                kept.append(attrs.evolve(record, parent=None, run=record.index))
        return attrs.evolve(self, records=tuple(kept))

    # ---- the document

    def graph_serialization(self) -> str:
        """The runs as JSON text: a list of objects with ``nodes``, ``edges`` and ``steps``."""
        return json.dumps(converter().unstructure(self._runs(), list[Run]))

    def payload(self) -> dict[str, Any]:
        """The document that the state file holds, as plain data."""
        return cast("dict[str, Any]", converter().unstructure(self._document()))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state file: atomically, readable by its owner only, on disk when this returns. Blocks.

        Raises:
            OSError: the file cannot be written; an earlier file at ``path`` is still whole then.
        """
        write_atomically(Path(path), json.dumps(self.payload(), ensure_ascii=True).encode("ascii"))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ExecutionInfo:
        """Read a state file. Blocks.

        Raises:
            OSError: the file cannot be read.
            StateError: it is no state file, or of a version that this release does not know; the text says
                which file and where in it.
        """
        content = Path(path).read_bytes()
        try:
            data = json.loads(content)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as exc:
            raise StateError(f"{path}: this is no state file: {exc}") from exc
        version = data.get("version") if isinstance(data, dict) else None
        if version != VERSION:
            raise StateError(f"{path}: the state has version {version!r}; this release of railtracks reads {VERSION}")
        try:
            return _from_document(converter().structure(data, Document))
        except cattrs.BaseValidationError as exc:
            problems = "; ".join(cattrs.transform_error(exc, path="state"))
            raise StateError(f"{path}: this is no state file: {problems}") from exc
        except (KeyError, ValueError, TypeError) as exc:
            raise StateError(f"{path}: this is no state file: {exc!r}") from exc

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExecutionInfo):
            return NotImplemented
        return bool(_without_tracebacks(self.payload()) == _without_tracebacks(other.payload()))

    __hash__ = None  # type: ignore[assignment]

    # ---- from records to the document

    def _tops(self) -> list[CallRecord]:
        return [record for record in self.records if record.parent is None]

    def _answer(self, record: CallRecord) -> Any:
        if record.exception is not None:
            return Failure(record.exception)
        if record.status is Status.CANCELLED and record.reason is not None:
            return Failure(SessionEndedError(f"{record.name} was cancelled ({record.reason.value})"))
        return record.result

    def _parents(self) -> dict[str, str | None]:
        return {node_id(self.session_id, r.index): self._caller(r) for r in self.records}

    def _caller(self, record: CallRecord) -> str | None:
        return None if record.parent is None else node_id(self.session_id, record.parent)

    def _names(self) -> dict[int, str]:
        return {record.index: record.name for record in self.records}

    def _started(self, record: CallRecord, identifier: str) -> Stamp:
        return Stamp(record.started_step, record.started + self.clock_origin, identifier)

    def _created(self, record: CallRecord) -> Stamp:
        return self._started(record, f"CREATED {record.name}")

    def _ended(self, record: CallRecord) -> Stamp | None:
        if record.ended is None or record.ended_step is None:
            return None
        word = "DONE" if record.status is Status.COMPLETED else record.status.value.upper()
        return Stamp(record.ended_step, record.ended + self.clock_origin, f"{record.name} {word}")

    def _stamps(self, records: Iterable[CallRecord]) -> list[Stamp]:
        pairs = ((self._created(record), self._ended(record)) for record in records)
        return sorted((stamp for pair in pairs for stamp in pair if stamp is not None), key=lambda stamp: stamp.step)

    def _node(self, record: CallRecord) -> Node:
        identifier = node_id(self.session_id, record.index)
        first = Node(identifier, record.node_type, record.name, self._created(record), {"internals": {}}, None)
        ended = self._ended(record)
        if ended is None:
            return first
        details = {"internals": {"latency": {"total_time": ended.time - first.stamp.time}}}
        return Node(identifier, record.node_type, record.name, ended, details, first)

    def _edge(self, record: CallRecord) -> Edge:
        identifier, target = edge_id(self.session_id, record.index), node_id(self.session_id, record.index)
        args, kwargs = Value(record.args), Value(record.kwargs)
        first = Edge(
            identifier, self._caller(record), target, self._created(record),
            EdgeDetails(args, kwargs, Status.OPEN, Value(None)), None,
        )  # fmt: skip
        ended = self._ended(record)
        if ended is None:
            return first
        output = Value(record.result if record.exception is None else record.exception)
        details = EdgeDetails(args, kwargs, record.status, output, record.reason, record.abandoned)
        return Edge(identifier, self._caller(record), target, ended, details, first)

    def _runs(self) -> list[Run]:
        members: dict[int, list[CallRecord]] = {}
        for record in self.records:
            members.setdefault(record.run, []).append(record)
        return [self._run(records[0], records) for records in members.values()]

    def _run(self, top: CallRecord, records: list[CallRecord]) -> Run:
        return Run(
            name=top.name,
            run_id=run_id(self.session_id, top.index),
            status=top.status,
            start_time=top.started + self.clock_origin,
            end_time=None if top.ended is None else top.ended + self.clock_origin,
            nodes=[self._node(record) for record in records],
            edges=[self._edge(record) for record in records],
            steps=self._stamps(records),
        )

    def _document(self) -> Document:
        return Document(
            VERSION, self.flow_name, self.flow_id, self.session_id, self.session_name,
            self.start_time, self.end_time, self._runs(),
        )  # fmt: skip


def _without_tracebacks(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_tracebacks(value) for key, value in data.items() if key != "$traceback"}
    return [_without_tracebacks(item) for item in data] if isinstance(data, list) else data


def _from_document(document: Document) -> ExecutionInfo:
    records = [
        _record(node, edge, index_of(run.run_id))
        for run in document.runs
        for node, edge in zip(run.nodes, run.edges, strict=True)
    ]
    return ExecutionInfo(
        session_id=document.session_id,
        session_name=document.session_name,
        flow_name=document.flow_name,
        flow_id=document.flow_id,
        start_time=document.start_time,
        end_time=document.end_time,
        records=tuple(sorted(records, key=lambda record: record.index)),
    )


def _record(node: Node, edge: Edge, run: int) -> CallRecord:
    created = (node.parent or node).stamp
    details = edge.details
    failed = details.status is Status.FAILED and isinstance(details.output, BaseException)
    return CallRecord(
        index=index_of(node.identifier),
        parent=None if edge.source is None else index_of(edge.source),
        run=run,
        name=node.name,
        node_type=node.node_type,
        args=tuple(cast("list[Any]", details.input_args)),
        kwargs=cast("dict[str, Any]", details.input_kwargs),
        started_step=created.step,
        started=created.time,
        status=details.status,
        ended_step=None if node.parent is None else node.stamp.step,
        ended=None if node.parent is None else node.stamp.time,
        result=None if failed else details.output,
        exception=cast(BaseException, details.output) if failed else None,
        reason=details.reason,
        abandoned=details.abandoned,
    )
