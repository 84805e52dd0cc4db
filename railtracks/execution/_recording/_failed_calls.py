"""Which calls an exception comes from, by which resuming knows the failures that a caller has handled."""

from __future__ import annotations

from railtracks._concurrency._kinds import linked_exceptions
from railtracks.state import CallRecord
from railtracks.state._transitions import RTState

MAX_LINKED = 1_000
"""The number of exceptions that one is linked with which are searched for those of calls."""


class FailedCalls:
    """The calls of one session that have failed, by their exceptions.

    Args:
        state: The records of the calls. They keep the exceptions alive, which are known by their identity.
    """

    __slots__ = ("_by_exception", "_left_steps", "_of_workers", "_state")

    def __init__(self, state: RTState) -> None:
        self._state = state
        self._left_steps: list[BaseException] = []
        # By the identity of an exception, which is kept alive: itself, and the calls that it comes from.
        self._of_workers: dict[int, tuple[BaseException, tuple[int, ...]]] = {}
        self._by_exception: dict[int, int] = {}  # the call that failed last with it, by the identity of an exception

    def add(self, record: CallRecord, failure: BaseException) -> None:
        """Note that a call has failed with an exception, which is on its record."""
        self._by_exception[id(failure)] = record.index

    def add_step(self, record: CallRecord, failure: BaseException) -> None:
        """Note that an exception has left the session that a call opened. Thread-safe.

        Args:
            record: The record of that step of the call.
            failure: The exception.
        """
        self._left_steps.append(failure)  # kept alive: no record of this session does that
        self._by_exception[id(failure)] = record.index

    def set_found(self, failure: BaseException, calls: tuple[int, ...]) -> None:
        """Note which calls an exception comes from that was brought home from a worker. It is another object there."""
        self._of_workers[id(failure)] = failure, calls

    def found_in(self, failure: BaseException, caller: int) -> tuple[int, ...] | None:
        """Return the calls made by ``caller`` that have raised what an exception is, contains or was raised from.

        What such a call raised is not searched further: it may have been raised while another failure was handled, by
        a call that is the alternative.
        """
        if id(failure) in self._of_workers and self._caller_of(self._of_workers[id(failure)][1][0]) == caller:
            return self._of_workers[id(failure)][1]
        if not self._by_exception:
            return None
        found, waiting, seen = [], [failure], set[int]()
        while waiting and len(seen) < MAX_LINKED:
            exc = waiting.pop()
            if id(exc) in seen:
                continue
            seen.add(id(exc))
            index = self._by_exception.get(id(exc))
            if index is not None and self._caller_of(index) == caller:
                found.append(index)
                continue
            waiting += linked_exceptions(exc)
        return tuple(sorted(found)) or None

    def _caller_of(self, index: int) -> int | None:
        record = self._state.entries[index]
        return None if record is None else record.parent
