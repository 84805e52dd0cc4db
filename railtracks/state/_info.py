"""ExecutionInfo: an immutable view of a session, live or loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import attrs
import cattrs

from railtracks._ids import index_of, node_id
from railtracks.exceptions import GlobalTimeOutError, SessionEndedError, StateError
from railtracks.state._codec import converter
from railtracks.state._document import VERSION, Document, Edge, Node, Run, Scribe, Stamp, read_records
from railtracks.state._records import CallRecord, Reason
from railtracks.state._store import dumps, loads, write_atomically


@attrs.frozen
class Failure:
    """Stands in ``ExecutionInfo.answer`` for a top-level call that failed or was cancelled."""

    exception: BaseException


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
        return self._scribe.stamps(self.records)

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
        return dumps(converter().unstructure(self._scribe.runs(self.records), list[Run]))

    def payload(self) -> dict[str, Any]:
        """The document that the state file holds, as plain data."""
        document = Document(
            VERSION, self.flow_name, self.flow_id, self.session_id, self.session_name,
            self.start_time, self.end_time, self._scribe.runs(self.records),
        )  # fmt: skip
        return cast("dict[str, Any]", converter().unstructure(document))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state file: atomically, readable by its owner only, on disk when this returns. Blocks.

        Raises:
            OSError: the file cannot be written; an earlier file at ``path`` is still whole then.
        """
        write_atomically(Path(path), dumps(self.payload()).encode("ascii"))

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
            data = loads(content)
        except (ValueError, RecursionError) as exc:
            raise StateError(f"{path}: this is no state file: {exc}") from exc
        version = data.get("version") if isinstance(data, dict) else None
        if version != VERSION:
            raise StateError(f"{path}: the state has version {version!r}; this release of railtracks reads {VERSION}")
        try:
            document = converter().structure(data, Document)
            records = read_records(document.runs)
        except cattrs.BaseValidationError as exc:
            problems = "; ".join(cattrs.transform_error(exc, path="state"))
            raise StateError(f"{path}: this is no state file: {problems}") from exc
        except StateError as exc:
            raise StateError(f"{path}: this is no state file: {exc}") from exc
        return cls(
            session_id=document.session_id,
            session_name=document.session_name,
            flow_name=document.flow_name,
            flow_id=document.flow_id,
            start_time=document.start_time,
            end_time=document.end_time,
            records=records,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExecutionInfo):
            return NotImplemented
        return bool(_without_tracebacks(self.payload()) == _without_tracebacks(other.payload()))

    __hash__ = None  # type: ignore[assignment]

    # ---- inside

    @property
    def _scribe(self) -> Scribe:
        return Scribe(self.session_id, self.clock_origin)

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
            return Failure(SessionEndedError(f"{record.name} was cancelled ({record.reason.value})"))
        return record.result

    def _parents(self) -> dict[str, str | None]:
        return {node_id(self.session_id, record.index): self._scribe.caller(record) for record in self.records}


def _without_tracebacks(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_tracebacks(value) for key, value in data.items() if key != "$traceback"}
    return [_without_tracebacks(item) for item in data] if isinstance(data, list) else data
