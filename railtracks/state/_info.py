"""ExecutionInfo: an immutable view of a session, live or loaded."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, cast

import attrs
import cattrs

from railtracks._ids import index_of, node_id
from railtracks.exceptions import GlobalTimeOutError, SessionEndedError, StateError
from railtracks.state import _journal
from railtracks.state._codec import converter
from railtracks.state._document import Document, Edge, Node, Scribe, Stamp, read_records, upgraded
from railtracks.state._files import write_atomically
from railtracks.state._records import REUSED, CallRecord, Reason, Status
from railtracks.state._secrets import Secrets
from railtracks.state._text import loads
from railtracks.state._writer import Writer


@attrs.frozen
class Failure:
    """Stands in ``ExecutionInfo.answer`` for a top-level call that failed or was cancelled."""

    exception: BaseException


class Decision(NamedTuple):
    """What a session that resumed another did about a call."""

    node_id: str
    name: str
    reused: bool
    """Its recorded result was used; False: it ran."""
    why: str
    """Why it ran; "" if it did not."""


_T = TypeVar("_T", Node, Edge)


class Forest(Generic[_T]):
    """The nodes, or the requests, of a session as trees."""

    def __init__(self, items: Mapping[str, _T], parents: Mapping[str, str | None]) -> None:
        self._items: dict[str, _T] = dict(items)
        self._below: dict[str | None, list[_T]] = {}
        for item, parent in zip(items.values(), parents.values(), strict=True):
            self._below.setdefault(parent, []).append(item)
        self._known = parents.keys()

    def heap(self) -> dict[str, _T]:
        """All of them, in their latest version, by identifier, in the order of creation."""
        return dict(self._items)

    def children(self, node_id: str) -> list[_T]:
        """Those that the node called, in the order of creation. KeyError if there is no such node."""
        if node_id not in self._known:
            raise KeyError(node_id)
        return list(self._below.get(node_id, ()))

    @property
    def insertion_request(self) -> list[_T]:
        """Those of the top-level calls, in the order of creation."""
        return list(self._below.get(None, ()))


@attrs.frozen(eq=False)
class ExecutionInfo:
    """What happened in a session: taken from a live one (``session.info``) or loaded from its state file or journal.

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
    earlier: tuple[CallRecord, ...] = attrs.field(default=(), repr=False)
    """Calls of the session that this one resumed, kept while this one has not completed."""
    damage: str | None = None
    """Of a loaded journal that is not whole: why what comes after some place could not be used, and its offset."""
    _secrets: Secrets = attrs.field(factory=Secrets, repr=False)

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
        scribe = self._scribe
        stamps = [stamp for record in self.records for stamp in (scribe.created(record), scribe.ended(record)) if stamp]
        return sorted(stamps, key=lambda stamp: stamp.step)

    @property
    def resumed(self) -> list[Decision]:
        """Of a session that resumed another, which calls were reused, and which ran, and why; or else empty.

        In the order of creation. What is below a reused call is not listed.
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
        """The calls as requests: who called whom, with what, and what came of it."""
        return Forest({edge.identifier: edge for edge in map(self._scribe.edge, self.records)}, self._parents())

    @property
    def node_forest(self) -> Forest[Node]:
        """The calls as nodes."""
        return Forest({node.identifier: node for node in map(self._scribe.node, self.records)}, self._parents())

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
        return "".join(self._writer.runs(self.records))

    def payload(self) -> dict[str, Any]:
        """The document that the state file holds, as plain data."""
        return cast("dict[str, Any]", loads("".join(self.document())))

    def document(self) -> Iterator[str]:
        """The document that the state file holds, as JSON text, piece by piece."""
        return self._writer.document(self.facts, self.records, self.earlier)

    @property
    def facts(self) -> dict[str, str | float | None]:
        """The members of the document that say which session it was."""
        names = ("flow_name", "flow_id", "session_id", "session_name", "start_time", "end_time")
        return {name: getattr(self, name) for name in names}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state file: atomically, readable by its owner only, on disk when this returns. Blocks.

        Raises:
            OSError: the file cannot be written; an earlier file at ``path`` is still whole then.
        """
        write_atomically(Path(path), (text.encode("ascii") for text in self.document()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ExecutionInfo:
        """Read a state file or a journal. Blocks.

        A journal is used as far as it is whole; ``damage`` says where it is not. Whether its process still runs
        cannot be told from the file alone: calls without an end are taken to have died with it. To look at a
        session that runs use ``rt.state.load_run``, which knows.

        Raises:
            OSError: the file cannot be read.
            StateError: it is neither, or of a version that this release does not know; the text says
                which file and where in it.
        """
        path = Path(path)
        content = path.read_bytes()
        try:
            return cls.from_journal(content) if _is_journal(path, content) else cls.from_document(content)
        except StateError as exc:
            raise StateError(f"{path}: {exc}") from exc

    @classmethod
    def from_document(cls, content: bytes) -> ExecutionInfo:
        """What a state file holds. StateError if it is none, or of an unknown version."""
        with _without_collections():
            try:
                data = loads(content)
            except (ValueError, RecursionError) as exc:
                raise StateError(f"this is no state file: {exc}") from exc
            if not isinstance(data, dict):
                raise StateError(f"this is no state file: it holds a {type(data).__name__}")
            document = _structured(upgraded(data))
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
        """What a journal tells. ``running``: its session has not ended, as is known from elsewhere.

        Raises:
            StateError: it is none, or its beginning is damaged, or of an unknown version.
        """
        with _without_collections():
            journal = _journal.read(content)
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
            raise StateError(f"this is no journal: its header has other members ({exc})") from exc

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExecutionInfo):
            return NotImplemented
        return bool(_without_tracebacks(self.payload()) == _without_tracebacks(other.payload()))

    # ---- inside

    @property
    def _scribe(self) -> Scribe:
        return Scribe(self.session_id, self.clock_origin)

    @property
    def _writer(self) -> Writer:
        return Writer(self.session_id, self.clock_origin, self._secrets)

    def _tops(self) -> list[CallRecord]:
        return [record for record in self.records if record.parent is None]

    def _answer(self, record: CallRecord) -> Any:
        if record.exception is not None:
            return Failure(record.exception)
        if record.reason is Reason.TIMEOUT and record.ended is not None:
            seconds = record.ended - record.started  # the limit itself is not on record
            return Failure(
                GlobalTimeOutError(seconds, f"{record.name} exceeded its timeout and ended after {seconds:g} s")
            )
        if record.reason is not None:
            what = "was running when its process died" if record.reason is Reason.PROCESS_DIED else "was cancelled"
            return Failure(SessionEndedError(f"{record.name} {what} ({record.reason.value})"))
        return record.result

    def _parents(self) -> dict[str, str | None]:
        return {node_id(self.session_id, record.index): self._scribe.caller(record) for record in self.records}


def _is_journal(path: Path, content: bytes) -> bool:
    """A document begins with a brace; what does not may be either, damaged, and then the name decides."""
    return not content.lstrip().startswith(b"{") and path.suffix != ".json"


@contextmanager
def _without_collections() -> Iterator[None]:
    """Reading a large state makes millions of objects that all stay; looking for garbage among them takes most of the
    time, and finds none. So that waits until it is read."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _structured(data: dict[str, Any]) -> Document:
    """The document; twice as quick as with good errors, and if there are errors, once more, with good ones."""
    try:
        return converter(detailed_validation=False).structure(data, Document)
    except Exception:  # whatever wrong data runs into
        try:
            return converter().structure(data, Document)
        except cattrs.BaseValidationError as exc:
            problems = "; ".join(cattrs.transform_error(exc, path="state"))
            raise StateError(f"this is no state file: {problems}") from exc


def _without_tracebacks(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_tracebacks(value) for key, value in data.items() if key != "$traceback"}
    return [_without_tracebacks(item) for item in data] if isinstance(data, list) else data
