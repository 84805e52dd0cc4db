"""One limit that a call has to pass, and the wait for it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import anyio

from railtracks._concurrency._rate_window import RateWindow
from railtracks._concurrency._slots import SlotPool
from railtracks._context_variable import current
from railtracks._logging import SessionLog
from railtracks._options import ExecutorConfig
from railtracks._policies import Limit
from railtracks.execution._limit_texts import log_line, not_allowed, warn_of_worker
from railtracks.execution._noted_waits import NotedWait
from railtracks.state import CallRecord, Store
from railtracks.state._records import PolicyFacts
from railtracks.state._transitions import RTState

if TYPE_CHECKING:
    from railtracks.execution._call_log import CallLog
    from railtracks.execution._mailbox import SessionMailbox
    from railtracks.execution._outbox import Outbox
    from railtracks.execution._stored_limits import StoredLimit


class LimitedSession(Protocol):
    """The coordinator of a session, as far as this module needs it."""

    session_id: str
    config: ExecutorConfig
    state: RTState
    log: SessionLog
    call_log: CallLog
    clock: Callable[[], float]
    mailbox: SessionMailbox | None
    store: Store | None
    outbox: Outbox | None

    def now(self) -> float: ...


class Gate(NamedTuple):
    """One limit that a call has to pass."""

    label: str
    """What it is called on record and in messages, such as "limit api"."""
    pool: SlotPool | None
    """Its slots; None if it does not limit how many run at once."""
    total: float
    """How many slots there are."""
    rate: RateWindow | None = None
    """Its rate; None if it has none."""
    limit: Limit | None = None
    """The limit that several nodes share; None if it is the node's, or the session's, own."""
    file: StoredLimit | None = None
    """The part of it that is shared with other processes; None if it is not."""

    @property
    def patience(self) -> float:
        """How many seconds a call may wait."""
        return math.inf if self.limit is None or self.limit.wait is True else float(self.limit.wait)


class LimitWait:
    """The wait of a call for a limit, from the moment at which it has to wait, if it has to.

    A context manager. If the call has waited as long as it may, the block ends without an exception.

    Args:
        waiting: The calls of the session that wait for limits, each with the limit and the task that it is in.
        gate: The limit.
        record: The record of the call.

    Attributes:
        has_passed: Set it when the call has passed the limit.
    """

    __slots__ = ("_gate", "_noted", "_record", "_scope", "_waiting", "has_passed")

    def __init__(self, waiting: dict[CallRecord, tuple[Gate, object]], gate: Gate, record: CallRecord) -> None:
        self._waiting, self._gate, self._record = waiting, gate, record
        self._scope = anyio.CancelScope()
        self._noted: NotedWait | None = None
        self.has_passed: bool = False

    def begin(self) -> None:
        """Note that the call waits. Idempotent.

        Raises:
            LimitExceededError: it may not wait.
        """
        if self._noted is not None:
            return
        gate, record = self._gate, self._record
        frame = current.get()
        session: LimitedSession = frame.coordinator
        if not gate.patience:
            assert gate.limit is not None
            record.policy = (record.policy or PolicyFacts())._replace(waiting=gate.label)
            raise not_allowed(record, gate.limit, "is reached, and it does not wait (wait=False)")
        log_line(session, logging.DEBUG, record, "%s waits for the %s", record.name, gate.label)
        self._noted = NotedWait(session, record, gate.label)
        self._noted.__enter__()
        self._waiting[record] = gate, frame.task
        self._noted.announce()
        self._scope.deadline = anyio.current_time() + gate.patience

    def __enter__(self) -> Self:
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._noted is not None:
            del self._waiting[self._record]
            self._noted.has_passed = self.has_passed
            self._noted.__exit__(kind, exc, traceback)
        return self._scope.__exit__(kind, exc, traceback)


def stored_limit(limit: Limit, session: LimitedSession) -> StoredLimit | None:
    """Return the part of a limit that is shared with other processes; None if the store of the session has none."""
    from railtracks.state._stores._limits import find_limit_store  # these two here, as few programs need them

    store = None if session.store is None else find_limit_store(session.store)
    if store is None:
        if session.outbox is not None:
            warn_of_worker(session.outbox, limit)
        return None
    from railtracks.execution._stored_limits import StoredLimit

    return StoredLimit(limit, store)
