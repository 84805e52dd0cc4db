"""What is on record of a call that waits before it runs: for a limit, an equal call, or a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from railtracks._context_variable import current
from railtracks.state import CallRecord
from railtracks.state._records import PolicyFacts

if TYPE_CHECKING:
    from railtracks.execution._call_scopes import RootCall
    from railtracks.execution._mailbox import SessionMailbox


class WaitingSession(Protocol):
    """The coordinator, as far as this module needs it."""

    @property
    def mailbox(self) -> SessionMailbox | None: ...
    def now(self) -> float: ...


class WaitingFrame(Protocol):
    """The frame of a call, as far as this module needs it. ``Frame`` explains these members."""

    coordinator: Any
    record: CallRecord | None
    run: RootCall | None


class NotedWait:
    """Notes on its record that a call waits, as long as the ``with`` block runs, and then for how long it has.

    Args:
        session: The session of the call.
        record: The call.
        what: What it waits for.

    Attributes:
        has_passed: Set it when the wait is over. Otherwise it stays on record what the call was waiting for.
    """

    __slots__ = ("_record", "_session", "_what", "has_passed")

    def __init__(self, session: WaitingSession, record: CallRecord, what: str) -> None:
        self._session, self._record, self._what = session, record, what
        self.has_passed = False

    def __enter__(self) -> Self:
        self._record.policy = (self._record.policy or PolicyFacts())._replace(waiting=self._what)
        return self

    def announce(self) -> None:
        """Have it checked whether the session can go on. The call is among those that wait for others of it."""
        if self._session.mailbox is not None:
            self._session.mailbox.waiters.on_call_waits()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        record = self._record
        assert record.policy is not None
        waited = self._session.now() - record.started  # from there on, so that what is after it has run
        record.policy = record.policy._replace(waiting=None if self.has_passed else self._what, waited=waited)


@contextmanager
def noted_wait(what: str) -> Iterator[None]:
    """Note that the current call waits for a place to run in, and have the timeout of its node begin afterwards.

    Args:
        what: What it waits for, such as "a worker thread".
    """
    frame: WaitingFrame = current.get()
    record, root = frame.record, frame.run
    assert record is not None
    assert root is not None
    deadline = root.deadline_of(record)
    if deadline is not None:
        deadline.stop()
    with NotedWait(frame.coordinator, record, what) as wait:
        yield
        wait.has_passed = True
    if deadline is not None:
        deadline.start()
