"""RTState: the records of one session, and the only code that changes their status.

It does no I/O and knows no event loop. Its methods are named after the transitions in this table:

    (none)  --created-->  OPEN  --succeeded-->  COMPLETED
                                --failed----->  FAILED
                                --cancelled-->  CANCELLED

All others raise StateError. Every transition takes the next step, so steps are contiguous from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import attrs

from railtracks.exceptions import StateError
from railtracks.state._records import NO_KWARGS, REUSED, CallRecord, Reason, Status

OPEN = Status.OPEN
COMPLETED = Status.COMPLETED


class RTState:
    """The records of one session, in the order of creation."""

    __slots__ = ("records", "step")

    def __init__(self) -> None:
        self.records: list[CallRecord] = []
        self.step: int = 0
        """The step that the next transition takes."""

    def created(
        self,
        name: str,
        node_type: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        parent: CallRecord | None,
        now: float,
    ) -> CallRecord:
        """Record that a call was made, and return its record. ``now`` is in seconds on the session's clock."""
        step = self.step
        self.step = step + 1
        records = self.records
        index = len(records)
        if parent is None:
            record = CallRecord(index, None, index, name, node_type, args, kwargs or NO_KWARGS, step, now)
        else:
            record = CallRecord(index, parent.index, parent.run, name, node_type, args, kwargs or NO_KWARGS, step, now)
        records.append(record)
        return record

    def succeeded(self, record: CallRecord, result: Any, now: float) -> None:
        """Record that the call returned ``result``, which may be None."""
        if record.status is not OPEN:
            raise _illegal(record, COMPLETED)
        record.status = COMPLETED
        record.result = result
        record.ended_step = self.step
        record.ended = now
        self.step += 1

    def failed(self, record: CallRecord, exception: BaseException, now: float) -> None:
        """Record that the call raised ``exception``."""
        self._end(record, Status.FAILED, now)
        record.exception = exception

    def cancelled(self, record: CallRecord, reason: Reason, now: float, timeout: float | None = None) -> None:
        """Record that the call was cancelled. ``timeout``: the limit that it exceeded, if it is a top-level call."""
        self._end(record, Status.CANCELLED, now)
        record.reason = reason
        record.timeout = timeout

    def abandoned(self, record: CallRecord) -> None:
        """Record that the call leaves its worker thread behind. This is not a transition; its cancellation follows."""
        if record.status is not OPEN:
            raise _illegal(record, Status.CANCELLED)
        record.abandoned = True

    def reused(
        self, record: CallRecord, known: CallRecord, below: Sequence[CallRecord], result: Any, shift: float
    ) -> None:
        """Record that the call ended as a recorded one did, and append the descendants of that one as its own.

        The descendants are created and ended before the call ends. The call gets the times of ``known``.

        Args:
            record: The call.
            known: The recorded call that it corresponds to.
            below: The descendants of ``known``, in the order of creation.
            result: The result of the call.
            shift: Seconds to add to the recorded times.
        """
        record.started = known.started + shift
        new = {known.index: record}
        steps: list[tuple[int, CallRecord, bool]] = []
        for each in below:
            copy = _copy(each, len(self.records), new[each.parent], shift)  # type: ignore[index]
            new[each.index] = copy
            self.records.append(copy)
            steps.append((each.started_step, copy, False))
            if each.ended_step is not None:
                steps.append((each.ended_step, copy, True))
        steps.sort(key=itemgetter(0))
        for step, (_, copy, end) in enumerate(steps, self.step):
            if end:
                copy.ended_step = step
            else:
                copy.started_step = step
        self.step += len(steps)
        assert known.ended is not None
        record.reuse, record.output, record.attributes = REUSED, known.output, known.attributes
        self.succeeded(record, result, known.ended + shift)

    def _end(self, record: CallRecord, status: Status, now: float) -> None:
        if record.status is not OPEN:
            raise _illegal(record, status)
        record.status = status
        record.ended_step = self.step
        record.ended = now
        self.step += 1

    @property
    def have_all_ended(self) -> bool:
        """Whether no call is open. Each has taken two steps then, so no record needs to be looked at."""
        return self.step == 2 * len(self.records)

    def snapshot(self) -> tuple[CallRecord, ...]:
        """Return the records as they are now. Ended ones cannot change and are shared; open ones are copied."""
        if self.have_all_ended:
            return tuple(self.records)
        return tuple(
            attrs.evolve(r, changes=r.changes and [*r.changes]) if r.status is OPEN else r for r in self.records
        )


def _copy(record: CallRecord, index: int, parent: CallRecord, shift: float) -> CallRecord:
    """Copy a record below a reused call; the caller sets its steps. Written out for speed: there may be very many."""
    return CallRecord(
        index, parent.index, parent.run, record.name, record.node_type, record.args, record.kwargs,
        0, record.started + shift, record.status, None, None if record.ended is None else record.ended + shift,
        record.result, record.exception, record.reason, record.abandoned,
        record.node, record.inputs, record.output, None, REUSED, record.attributes,
    )  # fmt: skip


def _illegal(record: CallRecord, status: Status) -> StateError:
    return StateError(f"call {record.index} ({record.name}) is {record.status.value}; it cannot become {status.value}")
