"""Group commit for all sessions of a process: what they have appended by then is committed in one transaction.

While one group is being committed, the next one gathers. A thread commits, so that sessions need none each.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

from railtracks._concurrency._threadless_commit import calls_together
from railtracks.state._stores._parts import compress_part, in_parts
from railtracks.state._stores._postgres._connection import SharedConnection
from railtracks.state._stores._postgres._leases import Lease, Leases

if TYPE_CHECKING:
    import psycopg

IDLE = 10.0
"""Seconds without work after which the thread ends."""
MOST_BYTES = 32 << 20
"""The bytes in one transaction from which on what is left is for the next one."""
_HELD = """
    SELECT leases.identifier FROM leases JOIN unnest(%s::text[], %s::bigint[]) AS mine (identifier, token)
    USING (identifier, token) ORDER BY identifier FOR KEY SHARE OF leases
"""
_APPEND = """
    WITH entry AS (
        SELECT * FROM unnest(%s::text[], %s::bigint[], %s::integer[], %s::float8[], %b::bytea[])
        AS entry (identifier, token, part, modified, content)
    ), held AS (
        SELECT identifier FROM leases
        WHERE (identifier, token) IN (SELECT identifier, token FROM entry) FOR KEY SHARE
    ), added AS (
        INSERT INTO journals (identifier, part, modified, content)
        SELECT identifier, part, modified, content FROM entry
        WHERE token = 0 OR identifier IN (SELECT identifier FROM held)
        ON CONFLICT (identifier, part) DO UPDATE SET modified = excluded.modified, content = excluded.content
    )
    SELECT identifier, NULL FROM held
    UNION ALL SELECT NULL, pg_notify(%s, 'w' || identifier)::text FROM watchers
    WHERE until > clock_timestamp() AND identifier IN (SELECT identifier FROM entry)
"""
"""A part that is there already is replaced: it is one whose commit was done although its answer was lost."""


class _Group(NamedTuple):
    """What is committed together: for each appender its rows, and who waits for it."""

    appenders: list[PostgresAppender]
    rows: list[list[bytes]]
    errors: list[BaseException | None]
    """Why there are no rows, where making them failed."""
    waiting: list[list[Callable[[BaseException | None], object]]]
    raised: list[BaseException]
    """What those raised who were called about it. It is raised again when all were called."""


class Committer:
    """Commits what the appenders of one store hold.

    Args:
        connection: Used by the committer alone.
        leases: The leases of this process.
        channel: Where it is announced if somebody watches a run.

    Attributes:
        most_runs: How many runs a transaction may be for; a benchmark lowers it.
    """

    def __init__(self, connection: SharedConnection, leases: Leases, channel: str) -> None:
        self._connection = connection
        self._leases = leases
        self._channel = channel
        self.most_runs: float = math.inf
        self.reset()

    def reset(self) -> None:
        """Forget work and thread, as is right in a forked child."""
        self._guard = threading.Lock()
        self._turn = threading.RLock()  # where no thread can be started, those that wait commit
        self._queue: SimpleQueue[tuple[PostgresAppender, Callable[[BaseException | None], object]]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, appender: PostgresAppender, on_done: Callable[[BaseException | None], object]) -> None:
        """Commit what an appender holds soon, and then call ``on_done`` with None or with why that failed.

        It is called in another thread, must be quick, and must not raise or wait for anything.
        """
        with self._guard:
            self._queue.put((appender, on_done))
            if self._thread is not None or self._start():
                return
        self._commit_gathered(self._queue, [])

    def _start(self) -> bool:
        """Start the thread, and return whether that was possible. The guard is held."""
        thread = threading.Thread(target=self._run, args=(self._queue,), name="railtracks-commit", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError):  # "can't start new thread"
            return False
        self._thread = thread
        return True

    def _run(self, queue: SimpleQueue[Any]) -> None:
        try:
            self._work(queue)
        except BaseException:  # of a callback, or SystemExit of a handler of the application's log
            with self._guard:
                self._thread = None
                is_left = not queue.empty() and not self._start()
            if is_left:
                self._commit_gathered(queue, [])
            raise  # the hook of `threading` shows it

    def _work(self, queue: SimpleQueue[Any]) -> None:
        while True:
            try:
                first = queue.get(timeout=IDLE)
            except Empty:
                with self._guard:
                    if queue.empty():
                        self._thread = None
                        return
                continue
            self._commit_gathered(queue, [first])
            del first  # it holds a session

    def _commit_gathered(self, queue: SimpleQueue[Any], items: list[Any]) -> None:
        with self._turn:
            self._commit(self._gathered(queue, items))

    def _gathered(self, queue: SimpleQueue[Any], items: list[Any]) -> dict[PostgresAppender, list[Any]]:
        while True:
            try:
                items.append(queue.get_nowait())
            except Empty:
                break
        waiting: dict[PostgresAppender, list[Any]] = {}
        for appender, on_done in items:
            waiting.setdefault(appender, []).append(on_done)
        return waiting

    def _commit(self, waiting: dict[PostgresAppender, list[Any]]) -> None:
        """Commit what these appenders hold, and answer all who wait for it, whatever is raised meanwhile."""
        raised: list[BaseException] = []
        while waiting:
            group = self._next_group(waiting, raised)
            outcomes = self._write(group)
            for appender, rows, error in zip(group.appenders, group.rows, outcomes, strict=True):
                appender.written(len(rows) if error is None else None)
                appender.turn.release()
            with calls_together():
                for callbacks, error in zip(group.waiting, outcomes, strict=True):
                    for callback in callbacks:
                        _call(callback, error, raised)
        if raised:
            raise raised[0]

    def _next_group(self, waiting: dict[PostgresAppender, list[Any]], raised: list[BaseException]) -> _Group:
        """Take from those that wait as many as are to be committed together."""
        group, size = _Group([], [], [], [], raised), 0
        while waiting and size < MOST_BYTES and len(group.appenders) < self.most_runs:
            appender = next(iter(waiting))
            if group.appenders and None in (appender.lease, group.appenders[-1].lease):
                break  # one without a lease is refused if another process has the run, and not the others with it
            appender.turn.acquire()  # released when it is committed: until then nothing may replace its journal
            rows, error = appender.take()
            group.appenders.append(appender)
            group.rows.append(rows)
            group.errors.append(error)
            group.waiting.append(waiting.pop(appender))
            size += sum(map(len, rows))
        return group

    def _write(self, group: _Group) -> list[BaseException | None]:
        """Write what there is to write, and return for each appender None or why that failed."""
        # What was committed with an earlier group already needs nothing.
        busy = [(appender, rows) for appender, rows in zip(group.appenders, group.rows, strict=True) if rows]
        error: BaseException | None = None
        lost: set[str] = set()
        try:
            if busy:
                begun = [appender for appender, _ in busy if appender.parts == 0]
                held = self._connection.run(
                    lambda connection: self._execute(connection, busy, begun), again=True, single=not begun
                )
                lost = {each.identifier for each, _ in busy if each.lease is not None and each.identifier not in held}
        except BaseException as exc:  # each waiter gets it
            error = exc
        outcomes: list[BaseException | None] = []
        for each, own in zip(group.appenders, group.errors, strict=True):
            outcome = own or error
            if outcome is None and each.lease is not None and each.identifier in lost:
                outcome = _lose(each.lease, group.raised)
            outcomes.append(outcome)
        return outcomes

    def _execute(
        self,
        connection: psycopg.Connection[Any],
        busy: list[tuple[PostgresAppender, list[bytes]]],
        begun: list[PostgresAppender],
    ) -> set[str]:
        """Write rows, and return the runs of those whose leases are held."""
        if begun:
            names = [each.identifier for each in begun]
            self._leases.check(connection, *(each.identifier for each in begun if each.lease is None))
            mine = connection.execute(_HELD, (names, [each.token for each in begun])).fetchall()
            held = {name for (name,) in mine}
            replaced = [each.identifier for each in begun if each.lease is None or each.identifier in held]
            connection.execute("DELETE FROM journals WHERE identifier = ANY(%s)", (replaced,))
        now = time.time()
        rows = [
            (appender.identifier, appender.token, part, now, content)
            for appender, contents in busy
            for part, content in enumerate(contents, appender.parts)
        ]
        columns = [list(column) for column in zip(*rows, strict=True)]
        found = connection.execute(_APPEND, (*columns, self._channel)).fetchall()
        return {name for name, _ in found if name is not None}


def _call(
    callback: Callable[[BaseException | None], object], error: BaseException | None, raised: list[BaseException]
) -> None:
    try:
        callback(error)
    except BaseException as exc:  # raised again when all were called
        raised.append(exc)


def _lose(lease: Lease, raised: list[BaseException]) -> BaseException:
    try:
        return lease.lose()
    except BaseException as exc:  # as above; the lease is lost all the same
        raised.append(exc)
        return exc if lease.lost is None else lease.lost


class PostgresAppender:
    """Collects journal entries, which each ``sync`` has committed.

    Args:
        committer: Commits them.
        identifier: The run.
        lease: The lease under which they are written; None if this process has none.
        content: What the journal begins with.

    Attributes:
        parts: How many rows are committed.
        token: That of the lease; 0 without one.
        turn: Held while rows are being committed.
    """

    def __init__(self, committer: Committer, identifier: str, lease: Lease | None, content: bytes) -> None:
        self._committer = committer
        self.identifier = identifier
        self.lease = lease
        self.token: int = 0 if lease is None else lease.token
        self.parts: int = 0
        self.turn = threading.Lock()
        self._pending: list[bytes] | None = [content]
        self._taken = 0
        self._is_settled = False

    # ---- what a session calls

    def append(self, content: bytes) -> None:
        """Add ``content`` at the end."""
        if self._pending is not None:
            self._pending.append(content)

    def sync(self) -> None:
        """Commit everything appended so far. Blocks."""
        self._is_settled = False
        outcome: list[BaseException | None] = []
        gate = threading.Lock()
        gate.acquire()

        def on_done(error: BaseException | None) -> None:
            outcome.append(error)
            gate.release()

        if not self._pending:
            return
        self._committer.submit(self, on_done)
        gate.acquire()
        if outcome[0] is not None:
            raise outcome[0]

    def sync_soon(self, on_done: Callable[[BaseException | None], object]) -> None:
        """Commit everything appended so far soon, and call ``on_done`` with None or with why that failed."""
        self._committer.submit(self, on_done)

    def settle(self) -> None:
        """Wait for what is being committed. What ``sync_soon`` has not begun is not done any more. Blocks."""
        self._is_settled = True
        with self.turn:
            pass

    def close(self) -> None:
        """Close the journal. Idempotent."""
        self._pending = None
        self.settle()

    # ---- what the committer calls, which holds `turn`

    def take(self) -> tuple[list[bytes], BaseException | None]:
        """Return what is to be committed, in rows; and why that cannot be made, as without memory."""
        pending, self._taken = self._pending, 0
        if pending is None or self._is_settled:
            return [], None
        count = len(pending)
        try:
            rows = [compress_part(part) for part in in_parts(pending[:count])]
        except BaseException as exc:  # each waiter gets it
            return [], exc
        self._taken = count
        return rows, None

    def written(self, rows: int | None) -> None:
        """Note that so many rows were committed; None: that failed."""
        if rows is not None:
            self.parts += rows
            if self._pending is not None:
                del self._pending[: self._taken]  # more may have been appended meanwhile, at the other end
