"""What the pages show of a store: the list of its runs, and one run, each as it is now."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

import attrs

from railtracks._identifiers import explain_invalid_identifier
from railtracks.exceptions import RunNotFoundError
from railtracks.state import ExecutionInfo, Listed, RunSummary, Status, Store, load_run
from railtracks.state._records import Reason
from railtracks.state._serialization._shown_data import shorten
from railtracks.state._stores._messages import find_mailbox, reasons_of_end
from railtracks.state._stores._runs import is_run, shown_state, summarize
from railtracks.state._stores._settings import check_identifier, no_such_run
from railtracks.state._views._texts import shown_seconds
from railtracks.ui._processes import Attempt

PAGE = 100
"""The number of runs on a page of the list."""
_SETTLED = 2.0
"""The seconds after which a time of change is believed to be that of the latest change: clocks of disks are coarse."""


def _is_settled(modified: float, seen: float) -> bool:
    """Return whether a time of change is believed to be that of the latest change.

    Args:
        modified: The time, in seconds since the epoch. It may lie in the future, by a clock that was wrong.
        seen: When it was first seen, in seconds of the monotonic clock.
    """
    return max(time.time() - modified, time.monotonic() - seen) > _SETTLED


_MAX_NAME = 80


class _Known(NamedTuple):
    """What is known of a run of the list."""

    listed: Listed
    run: RunSummary
    seen: float
    """When it was first seen as it is listed, in seconds of the monotonic clock."""
    is_settled: bool
    """Whether its time of change was believed when it was read."""


class RunList:
    """The runs of a store, the one that began last first.

    What is known of a run that has ended is kept as long as its files do not change.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: Mapping[str, _Known] = {}
        self._latest: tuple[RunSummary, ...] = ()
        self._fresh_until = -math.inf

    def read_recent(self) -> tuple[RunSummary, ...]:
        """Return the runs as they were read a moment ago, so that turning pages does not read all again. Blocks.

        What is on screen is brought up to date by the events.
        """
        return self._latest if time.monotonic() < self._fresh_until else self.read()

    def read(self) -> tuple[RunSummary, ...]:
        """Return the runs. Blocks."""
        began = time.monotonic()
        self._latest = self._read()
        ended = time.monotonic()
        self._fresh_until = ended + 10 * (ended - began)
        return self._latest

    def _read(self) -> tuple[RunSummary, ...]:
        known, found = self._known, dict[str, _Known]()
        for listed in self._store.list():
            if is_run(listed):
                found[listed.identifier] = self._summarize(listed, known.get(listed.identifier))
        self._known = found
        return tuple(sorted((each.run for each in found.values()), key=_began, reverse=True))

    def _summarize(self, listed: Listed, before: _Known | None) -> _Known:
        """Return what is known of a run: what was, if it had ended then, has not changed, and is not open again."""
        key, seen = listed._replace(head=b""), time.monotonic()
        if before is not None and before.listed == key:
            seen = before.seen
            is_kept = before.run.state == "ended" and before.is_settled
            if is_kept and not self._store.is_locked(listed.identifier):
                return before
        is_settled = _is_settled(listed.modified, seen)  # asked before it is read
        return _Known(key, _with_text(summarize(self._store, listed, [])), seen, is_settled)


def _with_text(run: RunSummary) -> RunSummary:
    """Return a run whose names can be written and compared with what a browser sends back, which knows UTF-8 alone."""
    names = {name: getattr(run, name) for name in ("flow_name", "session_name")}
    written = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in names.items() if text}
    return run._replace(**written)


def _began(run: RunSummary) -> float:
    return run.modified if run.start_time is None else run.start_time


@attrs.frozen
class Query:
    """Which runs are listed: the filters, and the page."""

    text: str = ""
    """What the identifier, or the name of the flow or session, contains."""
    flow: str = ""
    unfinished: bool = False
    page: int = 1

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Query:
        """Return what the parameters of an address mean. What makes no sense is as if it were not there."""
        page = given.get("page", "")
        number = int(page) if page.isascii() and page.isdigit() and len(page) < 9 else 1
        return cls(given.get("q", "").strip(), given.get("flow", ""), given.get("unfinished") == "1", max(number, 1))

    def text_for(self, **changes: Any) -> str:
        """Return the parameters of an address for this query with changes; "" for the plain list."""
        query = attrs.evolve(self, **changes)
        given = {"q": query.text, "flow": query.flow, "unfinished": "1" if query.unfinished else ""}
        if query.page > 1:
            given["page"] = str(query.page)
        kept = {key: value for key, value in given.items() if value}
        return f"?{urlencode(kept)}" if kept else ""

    def matches(self, run: RunSummary) -> bool:
        """Return whether a run is listed."""
        if self.flow and run.flow_name != self.flow:
            return False
        if self.unfinished and run.state == "ended" and run.status is Status.COMPLETED:
            return False
        text = self.text.casefold()
        return any(text in (each or "").casefold() for each in (run.identifier, run.flow_name, run.session_name))


@attrs.frozen
class Row:
    """A run as a row of the list."""

    identifier: str
    flow: str
    """The name of its flow, or else of its session."""
    name: str
    """The beginning of that."""
    status: str
    kind: str
    """What the status looks like: ``completed``, ``failed``, ``running`` and others."""
    calls: str
    seconds: str
    since: float | None
    """When a run that is running began, in seconds since the epoch; None for others."""
    age: str
    began: float
    problem: str | None
    """Why it cannot be opened; None if it can."""


@attrs.frozen
class Listing:
    """A page of the list."""

    query: Query
    rows: tuple[Row, ...]
    found: int
    """How many runs match the query."""
    total: int
    flows: tuple[str, ...]
    """The names of all flows."""

    @property
    def count(self) -> str:
        """How many runs match, in words."""
        total = "1 run" if self.total == 1 else f"{self.total:,} runs"
        return total if self.found == self.total else f"{self.found:,} of {total}"

    @property
    def pages(self) -> int:
        """The number of pages."""
        return max(1, -(-self.found // PAGE))


def list_page(runs: tuple[RunSummary, ...], query: Query, now: float) -> Listing:
    """Return the page of the list that a query asks for; the last one if it has fewer."""
    found = [run for run in runs if query.matches(run)]
    query = attrs.evolve(query, page=min(query.page, max(1, -(-len(found) // PAGE))))
    shown = found[(query.page - 1) * PAGE : query.page * PAGE]
    flows = sorted({run.flow_name for run in runs if run.flow_name is not None})
    return Listing(query, tuple(_row(run, now) for run in shown), len(found), len(runs), tuple(flows))


def _row(run: RunSummary, now: float) -> Row:
    status = shown_state(run)
    ended = None if run.start_time is None or run.end_time is None else run.end_time - run.start_time
    flow = run.flow_name or run.session_name or ""
    return Row(
        identifier=run.identifier,
        flow=flow,
        name=shorten(flow, _MAX_NAME),
        status=status,
        kind=status.partition(" ")[0].lower() if run.state == "ended" else run.state,
        calls="" if run.calls is None else f"{run.calls:,}",
        seconds="" if ended is None else shown_seconds(ended),
        since=run.start_time if run.state == "running" else None,
        age=shown_age(now - _began(run)),
        began=_began(run),
        problem=explain_invalid_identifier(run.identifier),
    )


def shown_age(seconds: float) -> str:
    """Return an age in its largest unit, which changes seldom."""
    for limit, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= limit:
            return f"{int(seconds // limit):,} {unit}"
    return "< 1 min"


@attrs.frozen
class RunState:
    """A run as it is now, for its page."""

    info: ExecutionInfo = attrs.field(eq=False)
    stamp: object
    """What changes when anything of the run does."""
    state: Literal["running", "died", "ended"]
    attempt: Attempt | None
    """The latest process of this server that has resumed it; None if there was none."""

    @property
    def can_resume(self) -> bool:
        """Whether resuming it makes sense: it is of a flow, has not completed, and no session opens it, or has it open.

        What a session without a flow did is in code that ``railtracks resume`` does not know.
        """
        is_begun = self.attempt is not None and self.attempt.ended is None
        is_of_flow = self.info.flow_name is not None
        return is_of_flow and self.state != "running" and not self.is_over and not is_begun

    @property
    def relevant_attempt(self) -> Attempt | None:
        """The latest process that has resumed it, unless the run has gone on without it since."""
        attempt, began = self.attempt, self.info.start_time
        if attempt is None or self.is_over:
            return None
        is_stale = attempt.ended is not None and began is not None and attempt.ended < began
        return None if is_stale else attempt

    @property
    def can_cancel(self) -> bool:
        """Whether cancelling it makes sense: it has not ended, or waits. What is on record of its end is kept."""
        return self.state == "running" or self.info.status in (Status.OPEN, Status.SUSPENDED)

    @property
    def receives_messages(self) -> bool:
        """Whether messages to it are of use: it has neither completed nor been cancelled on request."""
        return self.state != "ended" or not (self.is_over or Reason.REQUEST in reasons_of_end(self.info))

    @property
    def can_answer(self) -> bool:
        """Whether it waits for answers."""
        return self.receives_messages and bool(self.info.questions)

    @property
    def is_over(self) -> bool:
        """Whether it has completed."""
        return self.info.status is Status.COMPLETED


class RunReader:
    """Reads one run of a store, as often as it is asked, but all of it only if something has changed.

    Args:
        store: The store.
        identifier: The run.
        attempt: Returns the latest process that has resumed it.
    """

    def __init__(self, store: Store, identifier: str, attempt: Callable[[str], Attempt | None]) -> None:
        check_identifier(identifier)
        self._store = store
        self._identifier = identifier
        self._attempt = attempt
        self._latest: RunState | None = None
        self._seen: tuple[float | None, float] = (None, 0.0)
        """The latest time of change, and when it was first seen, in seconds of the monotonic clock."""

    def read(self) -> RunState:
        """Return the run as it is now. Blocks.

        Raises:
            RunNotFoundError: There is no such run.
            StateError: Nothing of it can be read.
            OSError: The store cannot be read.
        """
        store, identifier, latest = self._store, self._identifier, self._latest
        began = time.time()
        is_running = store.is_locked(identifier)  # asked first, so that nothing is missed that it does after that
        modified = store.modified(identifier)
        if modified is None and not is_running:
            raise no_such_run(identifier, store)
        mailbox = find_mailbox(store)
        messages = () if mailbox is None else tuple(mailbox.list_messages(identifier))
        if modified != self._seen[0]:
            self._seen = modified, time.monotonic()
        is_settled = modified is not None and _is_settled(modified, self._seen[1])
        stamp = (is_running, modified, messages, None if is_settled else began)
        attempt = self._attempt(identifier)
        if latest is not None and latest.stamp == stamp:
            self._latest = attrs.evolve(latest, attempt=attempt)
            return self._latest
        info = self._load(is_running)
        state: Literal["running", "died", "ended"] = "running" if is_running else "died"
        if not is_running and info.end_time is not None:
            state = "ended"
        self._latest = RunState(info, stamp, state, attempt)
        return self._latest

    def _load(self, is_running: bool) -> ExecutionInfo:
        """Return what is on record. A session that has only just begun may have written nothing yet."""
        try:
            return load_run(self._identifier, self._store)
        except RunNotFoundError:
            if not is_running:
                raise
            return ExecutionInfo(self._identifier)
