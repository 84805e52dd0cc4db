"""What is shown of one session while it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from heapq import nlargest
from itertools import islice
from typing import Any, Protocol

from railtracks._logging import SessionLog
from railtracks._options import ExecutorConfig
from railtracks._progress._bars import bar_line, pace
from railtracks._progress._batch_count import BatchCount
from railtracks._progress._tracker import CallTracker
from railtracks._progress._tree import live_tree
from railtracks.state._questions import awaited
from railtracks.state._records import CallRecord, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._transitions import RTState
from railtracks.state._views._counts import Ends, counts_in_words
from railtracks.state._views._texts import session_title, shown_label, shown_live_call, shown_name, shown_seconds
from railtracks.state._views._times import ran_since
from railtracks.state._views._tree import Line, session_line

MAX_BARS = 5
"""The number of batches that are shown."""
_MAX_SEARCHED = 1_000
"""The number of batches among which the largest are searched."""
_MAX_NAMES = 3
"""The number of nodes that are named, of those that wait for worker threads."""
_MAX_TEXTS = 1_000
"""The number of calls whose texts are remembered."""


class _CallLog(Protocol):
    @property
    def ends(self) -> Mapping[Status, int]: ...
    @property
    def reused(self) -> int: ...
    @property
    def retried(self) -> int: ...
    @property
    def cached(self) -> int: ...


class _Threads(Protocol):
    @property
    def awaited(self) -> Mapping[str, int]: ...


class ShownSession(Protocol):
    """The coordinator of a session, as far as this module needs it."""

    session_id: str
    config: ExecutorConfig
    log: SessionLog

    @property
    def state(self) -> RTState: ...
    @property
    def redactor(self) -> Redactor: ...
    @property
    def call_log(self) -> _CallLog: ...
    @property
    def threads(self) -> _Threads: ...

    def now(self) -> float: ...


class SessionView:
    """What is shown of one session while it runs. All but ``add`` and ``discard`` is for one thread at a time.

    Args:
        session: Its coordinator.
        name: Its name, if it has one.
        flow_name: The flow that it is a run of, if it is.
        has_summary: Whether a line stays when the session has ended.

    Attributes:
        has_summary: As given.
        log: The log of the session.
    """

    __slots__ = (
        "__weakref__", "_batches", "_flow_name", "_name", "_session", "_started", "_texts", "_tracker", "has_summary",
        "log",
    )  # fmt: skip

    def __init__(
        self, session: ShownSession, name: str | None, flow_name: str | None, has_summary: bool = True
    ) -> None:
        self._session = session
        self._name = name
        self._flow_name = flow_name
        self._started = session.now()
        self._tracker = CallTracker(session.state)
        self._batches: dict[BatchCount, None] = {}
        self._texts: dict[int, tuple[int, str]] = {}  # of open calls, with the revision of the redactor
        self.has_summary: bool = has_summary
        self.log: SessionLog = session.log

    # ---- for the event loop

    def add(self, batch: BatchCount) -> None:
        """Show how far a batch is."""
        self._batches[batch] = None

    def discard(self, batch: BatchCount) -> None:
        """Stop showing a batch."""
        self._batches.pop(batch, None)

    # ---- for the thread that shows it

    def update(self, must_stop: Callable[[], bool] = bool) -> None:
        """Read what has happened since the last time. ``must_stop`` is asked now and then whether to stop."""
        self._tracker.update(must_stop)

    def lines(self, height: int, now: float) -> list[Line]:
        """Return the session in lines: how many calls it has made, what runs, what that waits for, and batches.

        Args:
            height: The number of lines, at most.
            now: Monotonic seconds.
        """
        head = [session_line(self._title, self._counts, Status.OPEN, self._seconds), *self._waits_for_threads()]
        bars = self._bars(min(MAX_BARS, height // 3), now)
        tree = live_tree(self._tracker, self._describe, self._shown_label, height - len(head) - len(bars))
        return [*head, *tree, *bars][: max(0, height)]

    def sentence(self, now: float) -> tuple[str, str]:
        """Return the session in a few words, and those of them that change only if something has happened in it.

        Args:
            now: Monotonic seconds.
        """
        batches = self._largest_batches(MAX_BARS)
        counts = [self._title, self._counts, *(each.text(self._shown_label(each.label)) for each in batches)]
        paces = [pace(each, now) for each in batches]
        texts = [f"{counts[1]} in {shown_seconds(self._seconds)}"]
        for text, each in zip(counts[2:], paces, strict=True):
            texts.append(f"{text}, {each}" if each else text)
        return f"{self._title}: {'; '.join(texts)}", "; ".join(counts)

    def summary(self) -> str:
        """Return the line that stays when the session has ended. For any thread."""
        return session_line(self._title, self._counts, self._session.state.status, self._seconds).text

    @property
    def _title(self) -> str:
        return session_title(self._session.session_id, self._name, self._flow_name, self._session.redactor)

    @property
    def _seconds(self) -> float:
        return self._session.now() - self._started

    @property
    def _counts(self) -> str:
        state, call_log = self._session.state, self._session.call_log
        counts = {**call_log.ends, Status.OPEN: max(0, state.open_calls)}
        reused = f", {call_log.reused} reused" if call_log.reused else ""
        return counts_in_words(len(state.entries), Ends(counts, call_log.retried, call_log.cached)) + reused

    def _shown_label(self, name: str) -> str:
        return shown_label(name, self._session.redactor)

    def _waits_for_threads(self) -> list[Line]:
        names: Any = self._session.threads.awaited
        if not names:
            return []
        shown = [f"{self._shown_label(name)} × {count}" for name, count in nlargest(_MAX_NAMES, names.items(), _count)]
        more = ["…"] if len(names) > _MAX_NAMES else []
        limit = self._session.config.max_threads
        return [Line("", f"waiting for a worker thread (max_threads={limit}): {', '.join([*shown, *more])}")]

    def _describe(self, record: CallRecord) -> str:
        facts = record.policy  # read once: the event loop changes it
        if facts is not None and facts.waiting is not None:
            waited = shown_seconds(self._session.now() - record.started)
            return f"{self._shown_call(record)}  waiting for {facts.waiting}, {waited}"
        text = f"{self._shown_call(record)}  {shown_seconds(self._session.now() - ran_since(record))}"
        awaits = awaited(record)
        return text if awaits is None else f"{text}  waits for {awaits}"

    def _shown_call(self, record: CallRecord) -> str:
        redactor = self._session.redactor
        if self._tracker.is_new(record):
            return shown_name(record, redactor)
        revision = redactor.revision
        known = self._texts.get(record.index)
        if known is None or known[0] != revision:
            if len(self._texts) >= _MAX_TEXTS:
                self._texts.clear()
            known = self._texts[record.index] = revision, shown_live_call(record, redactor)
        return known[1]

    def _bars(self, number: int, now: float) -> list[Line]:
        redactor = self._session.redactor
        return [Line("", bar_line(batch, redactor, now)) for batch in self._largest_batches(number)]

    def _largest_batches(self, number: int) -> list[BatchCount]:
        batches = list(islice(self._batches.copy(), _MAX_SEARCHED))
        largest = set(nlargest(number, batches, lambda batch: batch.total or batch.ended))
        return [batch for batch in batches if batch in largest]


def _count(item: tuple[str, int]) -> int:
    return item[1]
