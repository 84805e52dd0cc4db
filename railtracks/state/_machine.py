"""RTState: the records of one session and the only code that changes them.

No I/O and no event loop. Each method is one transition of the table

    (none)  --created-->  OPEN  --succeeded-->  COMPLETED
                                --failed----->  FAILED
                                --cancelled-->  CANCELLED

and anything else is refused. Every transition takes the next step, so steps are contiguous from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from railtracks.exceptions import StateError
from railtracks.state._records import NO_KWARGS, REUSED, CallRecord, Reason, Status

OPEN = Status.OPEN
COMPLETED = Status.COMPLETED


class RTState:
    """The records of one session, in the order of their creation."""

    __slots__ = ("records", "step")

    def __init__(self) -> None:
        self.records: list[CallRecord] = []
        self.step = 0
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
        """A call was made. ``now`` is in seconds on the session's clock."""
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
        """The call returned ``result``, which may be None."""
        if record.status is not OPEN:
            raise _illegal(record, COMPLETED)
        record.status = COMPLETED
        record.result = result
        record.ended_step = self.step
        record.ended = now
        self.step += 1

    def failed(self, record: CallRecord, exception: BaseException, now: float) -> None:
        """The call raised ``exception``."""
        self._end(record, Status.FAILED, now)
        record.exception = exception

    def cancelled(self, record: CallRecord, reason: Reason, now: float) -> None:
        """The call was cancelled."""
        self._end(record, Status.CANCELLED, now)
        record.reason = reason

    def abandoned(self, record: CallRecord) -> None:
        """The call is being cancelled and leaves its worker thread behind. No transition: that comes next."""
        if record.status is not OPEN:
            raise _illegal(record, Status.CANCELLED)
        record.abandoned = True

    def reused(
        self, record: CallRecord, known: CallRecord, below: Sequence[CallRecord], result: Any, shift: float
    ) -> list[CallRecord]:
        """The call ended as it did before, and so did all below it, which were made and ended before it ends.

        Args:
            record: The call. It began when ``known`` did.
            known: What was recorded of it before.
            below: What was recorded below it, each after its caller.
            result: What it returns.
            shift: Seconds to add to the recorded times.

        Returns:
            The new records of those below.
        """
        record.started = known.started + shift
        new = {known.index: record}
        for each in below:
            parent = new[each.parent]  # type: ignore[index]
            new[each.index] = copy = attrs.evolve(
                each, index=len(self.records), parent=parent.index, run=parent.run, reuse=REUSED, changes=None,
                started=each.started + shift, ended=None if each.ended is None else each.ended + shift,
            )  # fmt: skip
            self.records.append(copy)
        steps = [(each.started_step, new[each.index], "started_step") for each in below]
        steps += [(each.ended_step, new[each.index], "ended_step") for each in below if each.ended_step is not None]
        for _, copy, name in sorted(steps, key=lambda step: step[0]):
            setattr(copy, name, self.step)
            self.step += 1
        assert known.ended is not None
        record.reuse, record.output = REUSED, known.output
        self.succeeded(record, result, known.ended + shift)
        return list(new.values())[1:]

    def _end(self, record: CallRecord, status: Status, now: float) -> None:
        if record.status is not OPEN:
            raise _illegal(record, status)
        record.status = status
        record.ended_step = self.step
        record.ended = now
        self.step += 1

    def snapshot(self) -> tuple[CallRecord, ...]:
        """The records as they are now. Those that ended cannot change and are shared; open ones are copied."""
        return tuple(
            attrs.evolve(r, changes=r.changes and [*r.changes]) if r.status is OPEN else r for r in self.records
        )


def _illegal(record: CallRecord, status: Status) -> StateError:
    return StateError(f"call {record.index} ({record.name}) is {record.status.value}; it cannot become {status.value}")
