"""ExecutionInfo: the snapshot of a session, live or loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar, cast

import attrs

from railtracks._identifiers import index_of, node_id
from railtracks.exceptions import GlobalTimeOutError, SessionEndedError, StateError
from railtracks.state._call_tree import CallTree
from railtracks.state._records import REUSED, CallRecord, Reason, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import loads

if TYPE_CHECKING:  # a session that saves nothing does without what reads and writes, and takes long to import
    from railtracks.state._document._graph import Edge, GraphBuilder, Node, Stamp
    from railtracks.state._document._writer import Writer


@attrs.frozen
class Failure:
    """The stand-in in ``ExecutionInfo.answer`` for a top-level call that failed or was cancelled."""

    exception: BaseException


class Decision(NamedTuple):
    """The decision of a session that resumed another about one call: to reuse its result, or to run it."""

    node_id: str
    name: str
    reused: bool
    """True if its recorded result was used, False if it ran."""
    why: str
    """The reason why it ran; "" if it did not."""


_T = TypeVar("_T", "Node", "Edge")


class Forest(Generic[_T]):
    """The nodes, or the requests, of a session as trees: one per top-level call."""

    def __init__(self, session_id: str, records: Sequence[CallRecord], build: Callable[[CallRecord], _T]) -> None:
        self._tree = CallTree(records)
        self._records = {node_id(session_id, record.index): record for record in records}
        self._items: dict[int, _T] = {record.index: build(record) for record in records}

    def heap(self) -> dict[str, _T]:
        """Return all items in their latest version, by identifier, in the order of creation."""
        return {item.identifier: item for item in self._items.values()}

    def children(self, node_id: str) -> list[_T]:
        """Return the items of the calls that a node made, in the order of creation. KeyError for an unknown node."""
        return self._children(self._records[node_id])

    @property
    def insertion_request(self) -> list[_T]:
        """The items of the top-level calls, in the order of creation."""
        return self._children(None)

    def _children(self, record: CallRecord | None) -> list[_T]:
        return [self._items[child.index] for child in self._tree.children(record)]


@attrs.frozen(eq=False)
class ExecutionInfo:
    """A snapshot of a session, taken from a live one (``session.info``) or loaded from its state file or journal.

    A live session goes on; its snapshots do not change. Two snapshots are equal if they would be saved as the same
    document, apart from the tracebacks of exceptions, which grow while an exception travels on. Times are in seconds
    since the epoch.
    """

    session_id: str
    session_name: str | None = None
    flow_name: str | None = None
    flow_id: str | None = None
    start_time: float | None = None
    end_time: float | None = None
    records: tuple[CallRecord, ...] = ()
    """The calls in the order of creation. Their times are on the session's clock."""
    clock_origin: float = attrs.field(default=0.0, repr=False)
    """Seconds to add to a record's time to get seconds since the epoch."""
    earlier: tuple[CallRecord, ...] = attrs.field(default=(), repr=False)
    """The calls of the session that this one resumed, as long as this one has not completed."""
    damage: str | None = None
    """Of a loaded journal that is not whole, why its rest could not be used, and from which byte on."""
    _redactor: Redactor = attrs.field(factory=Redactor, repr=False)

    # ---- queries

    @property
    def answer(self) -> Any:
        """The results of the top-level calls: None without a call, the result of a single one, a list for several.

        A call that failed or was cancelled has ``Failure(exception)`` in place of a result, one that still runs None.
        """
        answers = [self._answer(record) for record in self._root_calls()]
        return answers[0] if len(answers) == 1 else answers or None

    @property
    def name(self) -> str:
        """The name of the top-level call. ValueError unless there is exactly one."""
        names = [record.name for record in self._root_calls()]
        if len(names) != 1:
            raise ValueError(
                f"the session has {len(names)} top-level calls, expected exactly one; use info.insertion_requests"
            )
        return names[0]

    @property
    def all_stamps(self) -> list[Stamp]:
        """All stamps in the order of their steps."""
        graph = self._graph
        stamps = [stamp(record) for record in self.records for stamp in (graph.created_stamp, graph.ended_stamp)]
        return sorted(filter(None, stamps), key=lambda stamp: stamp.step)

    @property
    def resumed(self) -> list[Decision]:
        """Which calls were reused, and which ran and why, in the order of creation; empty if nothing was resumed.

        Calls below a reused call are not listed.
        """
        inside = {r.index for r in self.records if r.reuse == REUSED}
        return [
            Decision(node_id(self.session_id, r.index), r.name, r.reuse == REUSED, "" if r.reuse == REUSED else r.reuse)
            for r in self.records
            if r.reuse is not None and r.parent not in inside
        ]

    @property
    def insertion_requests(self) -> list[Edge]:
        """The requests of the top-level calls."""
        return self.request_forest.insertion_request

    @property
    def request_forest(self) -> Forest[Edge]:
        """The calls as requests: caller, node, arguments and outcome."""
        return Forest(self.session_id, self.records, self._graph.edge)

    @property
    def node_forest(self) -> Forest[Node]:
        """The calls as nodes."""
        return Forest(self.session_id, self.records, self._graph.node)

    def subset(self, ids: str | Iterable[str]) -> ExecutionInfo:
        """Return the snapshot of some nodes and all nodes below them.

        A node whose caller is left out becomes a top-level call.

        Args:
            ids: Identifiers of nodes.

        Raises:
            KeyError: There is no such node.
        """
        wanted = [ids] if isinstance(ids, str) else list(ids)
        known = {node_id(self.session_id, record.index) for record in self.records}
        for identifier in wanted:
            if identifier not in known:
                raise KeyError(identifier)
        roots = {index_of(identifier) for identifier in wanted}
        runs: dict[int, int] = {}
        kept = []
        for record in self.records:  # a caller always comes before the calls that it made
            if record.parent in runs:
                runs[record.index] = runs[record.parent]
                kept.append(attrs.evolve(record, run=runs[record.parent]))
            elif record.index in roots:
                runs[record.index] = record.index
                kept.append(attrs.evolve(record, parent=None, run=record.index))
        return attrs.evolve(self, records=tuple(kept))

    # ---- the document

    def graph_serialization(self) -> str:
        """Return the runs as JSON text: a list of objects with ``nodes``, ``edges`` and ``steps``."""
        return "".join(self._writer.runs(self.records))

    def payload(self) -> dict[str, Any]:
        """Return the document, as it is saved in the state file, as plain data."""
        return cast("dict[str, Any]", loads("".join(self.document())))

    def document(self) -> Iterator[str]:
        """Return the document, as it is saved in the state file, as pieces of JSON text."""
        return self._writer.document(self.facts, self.records, self.earlier)

    @property
    def facts(self) -> dict[str, str | float | None]:
        """The members of the document that say which session it is."""
        written = self._redactor.redact_name
        return {
            "flow_name": None if self.flow_name is None else written(self.flow_name),
            "flow_id": self.flow_id,
            "session_id": self.session_id,
            "session_name": None if self.session_name is None else written(self.session_name),
            "start_time": self.start_time,
            "end_time": self.end_time,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state file: atomically, readable by its owner only, on disk when this returns. Blocks.

        Raises:
            OSError: The file cannot be written. An earlier file at ``path`` is still whole then.
        """
        from railtracks.state._document._writer import encoded
        from railtracks.state._file_system import write_atomically

        write_atomically(Path(path), encoded(self.document()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ExecutionInfo:
        """Read a state file or a journal. Blocks.

        A journal is used as far as it is whole; ``damage`` says where it is not. The file does not show whether its
        process still runs, so calls without an end are taken to have died with it. For a session that may be running
        use ``rt.state.load_run``, which knows.

        Raises:
            OSError: The file cannot be read.
            StateError: It is neither of the two, or of a version that this release does not know. The message names
                the file and the place in it.
        """
        path = Path(path)
        content = path.read_bytes()
        try:
            return cls.from_journal(content) if _is_journal(path, content) else cls.from_document(content)
        except StateError as exc:
            raise StateError(f"{path}: {exc}") from exc

    @classmethod
    def from_document(cls, content: bytes) -> ExecutionInfo:
        """Return the snapshot that a document holds.

        Raises:
            StateError: It is not a document, or its version is unknown. The message says where it is wrong.
        """
        from railtracks.state._document._reader import collections_paused, read_document, read_records  # seldom needed

        with collections_paused():
            document = read_document(content)
            return cls(
                session_id=document.session_id,
                session_name=document.session_name,
                flow_name=document.flow_name,
                flow_id=document.flow_id,
                start_time=document.start_time,
                end_time=document.end_time,
                records=read_records(document.runs),
                earlier=read_records(document.earlier),
            )

    @classmethod
    def from_journal(cls, content: bytes, running: bool = False) -> ExecutionInfo:
        """Return the snapshot that a journal holds, as far as it is whole.

        Args:
            content: The journal.
            running: True if its session is known to be running. Otherwise calls without an end, in a journal without
                an end, are taken to have died with their process.

        Raises:
            StateError: It is not a journal, its header is damaged, or its version is unknown.
        """
        from railtracks.state._document._reader import collections_paused  # seldom needed, like the next
        from railtracks.state._journal._reader import read_journal

        with collections_paused():
            journal = read_journal(content)
        if not running and journal.end_time is None:
            for record in journal.records:
                if record.status is Status.OPEN:
                    record.reason = Reason.PROCESS_DIED
        try:
            return cls(
                **{**journal.facts, "end_time": journal.end_time},
                records=tuple(journal.records),
                earlier=tuple(journal.earlier),
                damage=journal.damage,
            )
        except TypeError as exc:
            raise StateError(f"this is not a journal: its header has other members than expected ({exc})") from exc

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExecutionInfo):
            return NotImplemented
        return bool(_without_tracebacks(self.payload()) == _without_tracebacks(other.payload()))

    __hash__: ClassVar[None] = None  # type: ignore[assignment]

    # ---- internals

    @property
    def _graph(self) -> GraphBuilder:
        from railtracks.state._document._graph import GraphBuilder

        return GraphBuilder(self.session_id, self.clock_origin)

    @property
    def _writer(self) -> Writer:
        from railtracks.state._document._writer import Writer

        return Writer(self.session_id, self.clock_origin, self._redactor)

    def _root_calls(self) -> list[CallRecord]:
        return [record for record in self.records if record.parent is None]

    def _answer(self, record: CallRecord) -> Any:
        """Return what stands for a top-level call in ``answer``."""
        if record.exception is not None:
            return Failure(record.exception)
        if record.reason is Reason.TIMEOUT and record.ended is not None:
            seconds, limit = record.ended - record.started, record.timeout
            what = f"its timeout and ended after {seconds:g} s"
            if limit is not None:
                what = f"the timeout of {limit:g} s, and ended after {seconds:g} s"
            return Failure(GlobalTimeOutError(seconds if limit is None else limit, f"{record.name} exceeded {what}"))
        if record.reason is not None:
            what = "was running when its process died" if record.reason is Reason.PROCESS_DIED else "was cancelled"
            return Failure(SessionEndedError(f"{record.name} {what} ({record.reason.value})"))
        return record.result


def _is_journal(path: Path, content: bytes) -> bool:
    """Return whether a file is a journal rather than a document.

    Each is known by its beginning. If that is neither, because the file is damaged or formatted, its name decides, and
    without a usual name the first character.
    """
    from railtracks.state._document._writer import DOCUMENT_BEGINS
    from railtracks.state._journal._format import HEADER_BEGINS, PREFIX

    if content.startswith(HEADER_BEGINS, PREFIX.size):  # asked first, as the length before it may begin like a document
        return True
    if content.startswith(DOCUMENT_BEGINS):
        return False
    if path.suffix in (".journal", ".json"):
        return path.suffix == ".journal"
    return not content.lstrip().startswith(b"{")


def _without_tracebacks(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_tracebacks(value) for key, value in data.items() if key != "$traceback"}
    return [_without_tracebacks(item) for item in data] if isinstance(data, list) else data
