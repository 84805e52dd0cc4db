"""ExecutionInfo: the snapshot of a session, live or loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import attrs

from railtracks._identifiers import index_of, node_id
from railtracks.exceptions import GlobalTimeOutError, LimitExceededError, Question, SessionEndedError, StateError
from railtracks.state._questions import awaited_topics, open_questions
from railtracks.state._records import (
    REUSED,
    CallRecord,
    Reason,
    Status,
    aggregate_status,
    copy_record,
    is_retried,
    is_reused,
)
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._large_values import VALUES_ENDING, Find, find_in_folder, find_nothing
from railtracks.state._serialization._record_text import loads

if TYPE_CHECKING:  # a session that saves nothing does without what reads and writes, and takes long to import
    from railtracks.state._document._forest import Forest
    from railtracks.state._document._graph import Edge, GraphBuilder, Node, Stamp
    from railtracks.state._document._writer import Writer
    from railtracks.state._views._batches import BatchCounts
    from railtracks.state._views._summary import SessionSummary
    from railtracks.state._views._tree import Line


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
    """The reason why it ran. If its result was used, what has changed since it was recorded; "" if nothing has."""


@attrs.frozen(eq=False, repr=False)
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
    """The calls in the order of creation."""
    earlier: tuple[CallRecord, ...] = attrs.field(default=())
    """The calls of the session that this one resumed, as long as this one has not completed."""
    damage: str | None = None
    """What could not be used of what was loaded, and why; None if all of it is whole. Of a damaged journal, that is the
    rest from some byte on; of a damaged document, some calls, in place of which there are open ones."""
    interrupted: bool = False
    """Whether Ctrl-C or SIGTERM ended the session before its calls. ``rt.recover`` goes on with such a run."""
    processor_seconds: float | None = None
    """The processor time that the process used while the session was open, for this session and whatever else ran in
    the process. None if it is not known, or the session has not ended."""
    peak_memory_bytes: int | None = None
    """The most memory that the process had used at any time, until the session ended. None as above, or on Windows."""
    traceparent: str | None = None
    """The span of the session, as the W3C header ``traceparent`` names it. None if the session was not traced."""
    _redactor: Redactor = attrs.field(factory=Redactor)
    _find_value: Find = attrs.field(default=find_nothing)
    _restarts: int | None = attrs.field(default=None)
    """Of a journal: how many sessions in a row, this one included, resumed the run because a process had died."""
    _answered: frozenset[str] = attrs.field(default=frozenset())
    """The questions whose answers had come, but were not taken, when this was loaded from a store."""
    _makers: Mapping[str, Callable[[], tuple[CallRecord, ...]]] = attrs.field(factory=dict, init=False)

    def __getattr__(self, name: str) -> Any:
        """Make the records that are asked for. Python calls this only for attributes that are unset."""
        if name not in ("records", "earlier"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        records = self._makers[name]()
        object.__setattr__(self, name, records)
        return records

    # ---- queries

    @property
    def answer(self) -> Any:
        """The results of the top-level calls: None without a call, the result of a single one, a list for several.

        A call that failed or was cancelled has ``Failure(exception)`` in place of a result, one that still runs None.
        Attempts that failed and were tried again are left out.
        """
        answers = [self._answer(record) for record in self._root_calls()]
        return answers[0] if len(answers) == 1 else answers or None

    @property
    def status(self) -> Status:
        """The status of the session: that of the top-level call that is furthest from completion.

        It is OPEN until the session has ended. Of a run whose process has died it is OPEN, too: its open calls have
        the reason ``process_died``.
        """
        status = aggregate_status(self.records)
        return Status.OPEN if self.end_time is None and status is Status.COMPLETED else status

    @property
    def failures(self) -> tuple[CallRecord, ...]:
        """The records of the calls that failed, in the order of creation, each with its ``exception``.

        It does not matter what became of the exception: whether the caller handled it, failed with it too, or had it in
        the list that ``rt.call_batch`` returns. A call that was cancelled, as at a timeout, has not failed.

        Attempts that were tried again are left out, as their callers know nothing of them; their ``policy.retried`` is
        True. Of items of a batch or stream that keeps no records of them (``keep_records="summary"``), ``batches`` says
        how many failed, and describes the first ones.
        """
        return tuple(record for record in self.records if record.status is Status.FAILED and not is_retried(record))

    @property
    def batches(self) -> tuple[BatchCounts, ...]:
        """What became of the items of each ``rt.call_batch`` and ``rt.call_stream`` that does not keep all records.

        In the order of creation. Those within an item of another one, whose records are not kept, are left out.
        """
        from railtracks.state._views._batches import batches_of  # here, as few programs ask for it

        return tuple(batches_of(self.records, self.session_id))

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
        inside = {r.index for r in self.records if is_reused(r)}
        return [
            Decision(node_id(self.session_id, r.index), r.name, is_reused(r), r.reuse.removeprefix(REUSED).lstrip(": "))
            for r in self.records
            if r.reuse is not None and r.parent not in inside
        ]

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions that the run waits to have answered, in the order in which they were asked.

        Of a run that ``load_run`` has loaded, those are left out whose answers are in its mailbox.
        """
        questions = open_questions((*self.earlier, *self.records))
        return tuple(question for question in questions if question.id not in self._answered)

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of the messages that the run waits for."""
        return awaited_topics(self.records)

    @property
    def insertion_requests(self) -> list[Edge]:
        """The requests of the top-level calls."""
        return self.request_forest.insertion_request

    @property
    def request_forest(self) -> Forest[Edge]:
        """The calls as requests: caller, node, arguments and outcome."""
        from railtracks.state._document._forest import Forest  # here, as few programs ask for it

        return Forest(self.session_id, self.records, self._graph.edge)

    @property
    def node_forest(self) -> Forest[Node]:
        """The calls as nodes."""
        from railtracks.state._document._forest import Forest  # here, as above

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
                kept.append(copy_record(record, run=runs[record.parent]))
            elif record.index in roots:
                runs[record.index] = record.index
                kept.append(copy_record(record, parent=None, run=record.index))
        return attrs.evolve(self, records=tuple(kept))

    # ---- for people

    def tree(
        self,
        max_calls: float = 200,
        arguments: bool = True,
        *,
        folds: bool = True,
        failed: bool = False,
    ) -> str:
        """Return the calls as a tree, as text: each below its caller, with its status, its duration, and why it failed.

        Arguments and messages are shortened, and without secrets. The calls of one node that one call made are one line
        if there are ten or more of them. Below it stand the first that did not complete, and the slowest.

        Args:
            max_calls: The number of lines of calls after which the tree ends, and says how many calls are left;
                ``math.inf`` for all.
            arguments: Whether the arguments of the calls are shown.
            folds: Whether many calls of one node are one line.
            failed: Whether only the calls are shown that have not completed, and those that made them. The slowest is
                left out then.
        """
        return "\n".join(map(str, self._tree_lines(max_calls, arguments, folds, failed)))

    def summary(self) -> SessionSummary:
        """Return the session in numbers: calls and times per node, the critical path, and what the process used.

        ``print(info.summary())`` shows them as tables.
        """
        from railtracks.state._views._summary import summarize  # here, as many programs never ask

        return summarize(
            self.records,
            self._redactor,
            title=self._title,
            status=self.status,
            seconds=self._seconds,
            processor_seconds=self.processor_seconds,
            peak_memory_bytes=self.peak_memory_bytes,
        )

    def __str__(self) -> str:
        return self.tree()

    def __repr__(self) -> str:
        return f"<ExecutionInfo: {next(self._tree_lines(0)).text}>"

    def __rich__(self) -> Any:
        """Return the tree in colour, for ``rich``."""
        from railtracks.state._views._rich import rich_tree  # here, as it needs rich

        return rich_tree(self._tree_lines())

    def _repr_html_(self) -> str:
        """Return the tree as HTML, for notebooks."""
        from railtracks.state._views._html import html_tree  # here, as above

        return html_tree(self._tree_lines())

    def _tree_lines(
        self, max_calls: float = 200, arguments: bool = True, folds: bool = True, failed: bool = False
    ) -> Iterator[Line]:
        from railtracks.state._views._tree import Tree, TreeOptions, session_line, shown_counts  # here, as above

        yield session_line(self._title, shown_counts(self.records), self.status, self._seconds)
        if max_calls > 0:
            yield from Tree(self.records, self._redactor, TreeOptions(max_calls, arguments, folds, failed)).lines()

    @property
    def _title(self) -> str:
        from railtracks.state._views._texts import session_title  # here, as above

        return session_title(self.session_id, self.session_name, self.flow_name, self._redactor)

    @property
    def _seconds(self) -> float | None:
        """How long the session took; None while it is open."""
        return None if self.start_time is None or self.end_time is None else self.end_time - self.start_time

    # ---- the document

    def graph_serialization(self) -> str:
        """Return the runs as JSON text: a list of objects with ``nodes``, ``edges`` and ``steps``."""
        return "".join(self._whole_writer.runs(self.records))

    def payload(self) -> dict[str, Any]:
        """Return the document as plain data.

        It is what is saved in the state file, but for conversations: there each message is written once.
        """
        text = "".join(self._whole_writer.document(self.facts, self.records, self.earlier))
        return cast("dict[str, Any]", loads(text))

    def document(self) -> Iterator[str]:
        """Return the document, as it is saved in the state file, as pieces of JSON text."""
        return self._writer.document(self.facts, self.records, self.earlier)

    @property
    def facts(self) -> dict[str, str | float | None]:
        """The members of the document that say which session it is, and how it ended."""
        written = self._redactor.redact_name
        facts: dict[str, str | float | None] = {
            "flow_name": None if self.flow_name is None else written(self.flow_name),
            "flow_id": self.flow_id,
            "session_id": self.session_id,
            "session_name": None if self.session_name is None else written(self.session_name),
            "start_time": self.start_time,
            "end_time": self.end_time,
        }
        if self.interrupted:
            facts["interrupted"] = True
        if self.processor_seconds is not None:
            facts["processor_seconds"] = self.processor_seconds
        if self.peak_memory_bytes is not None:
            facts["peak_memory_bytes"] = self.peak_memory_bytes
        if self.traceparent is not None:
            facts["traceparent"] = self.traceparent
        return facts

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state file: atomically, readable by its owner only, on disk when this returns. Blocks.

        Large values, which a store keeps beside the state file, stand in it.

        Raises:
            OSError: The file cannot be written. An earlier file at ``path`` is still whole then.
        """
        from railtracks.state._document._writer import encoded
        from railtracks.state._file_system import write_atomically

        write_atomically(Path(path), encoded(self._whole_document()))

    def _whole_document(self) -> Iterator[str]:
        """Return the document with the large values in it."""
        from railtracks.state._serialization._compact_text import with_values_inside

        records, earlier = (with_values_inside(each, self._find_value) for each in (self.records, self.earlier))
        return self._writer.document(self.facts, records, earlier)

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
            info = cls.from_journal(content) if _is_journal(path, content) else cls.from_document(content)
        except StateError as exc:
            raise StateError(f"{path}: {exc}") from exc
        values = path.with_suffix(VALUES_ENDING)
        return with_large_values(info, partial(find_in_folder, str(values))) if values.is_dir() else info

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how the snapshot is pickled: as its document, whatever values it holds, and without secrets."""
        return _unpickle, ("".join(self._whole_document()).encode("utf-8", "surrogatepass"), self.damage)

    def __copy__(self) -> ExecutionInfo:
        return self  # it does not change

    def __deepcopy__(self, memo: object) -> ExecutionInfo:
        return self

    @classmethod
    def from_document(cls, content: bytes) -> ExecutionInfo:
        """Return the snapshot that a document holds.

        Raises:
            StateError: It is not a document, or its version is unknown. The message says where it is wrong.
        """
        from railtracks.state._document._reader import read_content
        from railtracks.state._garbage import collections_paused  # seldom needed, like the next

        with collections_paused():
            document = read_content(content)
        return cls(**document.facts, records=document.records, earlier=document.earlier, damage=document.damage)

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
        from railtracks.state._garbage import collections_paused  # seldom needed, like the next
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
                restarts=journal.restarts,
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

        return GraphBuilder(self.session_id)

    @property
    def _writer(self) -> Writer:
        from railtracks.state._document._writer import Writer

        return Writer(self.session_id, self._redactor)

    @property
    def _whole_writer(self) -> Writer:
        from railtracks.state._document._writer import Writer

        return Writer(self.session_id, self._redactor, shares_messages=False)

    def _root_calls(self) -> list[CallRecord]:
        """Return the top-level calls, without attempts that were tried again."""
        return [record for record in self.records if record.parent is None and not is_retried(record)]

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
        if record.reason is Reason.BUDGET:
            budget = "" if record.timeout is None else f" of {record.timeout:g} s"
            message = f"{record.name} was cancelled: the session had used up its budget{budget}"
            return Failure(LimitExceededError("budget", message))
        if record.reason is Reason.SUSPENDED:
            return Failure(SessionEndedError(f"{record.name} is suspended, until what it waits for has come"))
        if record.reason is not None:
            what = "was running when its process died" if record.reason is Reason.PROCESS_DIED else "was cancelled"
            return Failure(SessionEndedError(f"{record.name} {what} ({record.reason.value})"))
        return record.result


def info_made_later(
    records: Callable[[], tuple[CallRecord, ...]], earlier: Callable[[], tuple[CallRecord, ...]], **members: Any
) -> ExecutionInfo:
    """Return a snapshot that makes its records when they are asked for, which takes long if there are many.

    Args:
        records: Makes ``records``.
        earlier: Makes ``earlier``.
        members: The other members.
    """
    info = ExecutionInfo(**members)
    object.__setattr__(info, "_makers", {"records": records, "earlier": earlier})
    for name in info._makers:
        object.__delattr__(info, name)
    return info


def with_large_values(info: ExecutionInfo, find: Find) -> ExecutionInfo:
    """Return a snapshot that has been loaded with what finds its large values, which are read when asked for."""
    from railtracks.state._serialization import _loaded_record  # seldom needed

    records, earlier = (_loaded_record.with_large_values(each, find) for each in (info.records, info.earlier))
    return attrs.evolve(info, records=records, earlier=earlier, find_value=find)


def _is_journal(path: Path, content: bytes) -> bool:
    """Return whether a file is a journal rather than a document.

    Each is known by its beginning. If that is neither, because the file is damaged or formatted, its name decides, and
    without a usual name the first character.
    """
    from railtracks.state._document._compression import is_compressed
    from railtracks.state._document._writer import DOCUMENT_BEGINS
    from railtracks.state._journal._format import HEADER_BEGINS, PREFIX

    if content.startswith(HEADER_BEGINS, PREFIX.size):  # asked first, as the length before it may begin like a document
        return True
    if content.startswith(DOCUMENT_BEGINS) or is_compressed(content):
        return False
    if path.suffix in (".journal", ".json"):
        return path.suffix == ".journal"
    return not content.lstrip().startswith(b"{")


def _without_tracebacks(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_tracebacks(value) for key, value in data.items() if key != "$traceback"}
    return [_without_tracebacks(item) for item in data] if isinstance(data, list) else data


def _unpickle(document: bytes, damage: str | None) -> ExecutionInfo:
    """Return a snapshot that was pickled."""
    return attrs.evolve(ExecutionInfo.from_document(document), damage=damage)
