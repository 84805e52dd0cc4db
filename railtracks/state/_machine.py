"""RTState: the records of one session and the only code that changes them.

No I/O and no event loop. Each method is one transition of the table

    (none)  --created-->  OPEN  --succeeded-->  COMPLETED
                                --failed----->  FAILED
                                --cancelled-->  CANCELLED

and anything else is refused. Every transition takes the next step, so steps are contiguous from 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import attrs

from railtracks.exceptions import StateError
from railtracks.state._records import NO_KWARGS, REUSED, CallRecord, Change, Reason, Status

OPEN = Status.OPEN
COMPLETED = Status.COMPLETED


class RTState:
    """The records of one session, in the order of their creation."""

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
    ) -> None:
        """The call ended as it did before, and so did all below it, which were made and ended before it ends.

        Args:
            record: The call. It began when ``known`` did.
            known: What was recorded of it before.
            below: What was recorded below it, in the order of creation.
            result: What it returns.
            shift: Seconds to add to the recorded times.
        """
        record.started = known.started + shift
        new = {known.index: record}
        steps: list[tuple[int, CallRecord, bool]] = []
        for each in below:
            copy = _copied(each, len(self.records), new[each.parent], shift)  # type: ignore[index]
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

    def snapshot(self) -> tuple[CallRecord, ...]:
        """The records as they are now. Those that ended cannot change and are shared; open ones are copied."""
        return tuple(
            attrs.evolve(r, changes=r.changes and [*r.changes]) if r.status is OPEN else r for r in self.records
        )


def _copied(record: CallRecord, index: int, parent: CallRecord, shift: float) -> CallRecord:
    """A record below a reused call; its steps are still to come. By hand, as there may be very many."""
    return CallRecord(
        index, parent.index, parent.run, record.name, record.node_type, record.args, record.kwargs,
        0, record.started + shift, record.status, None, None if record.ended is None else record.ended + shift,
        record.result, record.exception, record.reason, record.abandoned,
        record.node, record.inputs, record.output, None, REUSED, record.attributes,
    )  # fmt: skip


class Calls:
    """The calls of one session, by caller."""

    def __init__(self, records: Iterable[CallRecord]) -> None:
        self.below: dict[int | None, list[CallRecord]] = {}
        for record in records:
            self.below.setdefault(record.parent, []).append(record)

    def subtree(self, record: CallRecord) -> list[CallRecord]:
        """All calls below one, in the order in which they were made."""
        found: list[CallRecord] = list(self.below.get(record.index, ()))
        for each in found:  # grows while it is walked
            found += self.below.get(each.index, ())
        return sorted(found, key=lambda each: each.index)


def changes_of(known: CallRecord, below: Sequence[CallRecord]) -> list[tuple[int, Change]]:
    """What a call and those below it changed in the context, in order; each with its place among them, the first 0."""
    found = [(place, change) for place, each in enumerate((known, *below)) for change in each.changes or ()]
    return sorted(found, key=lambda pair: pair[1].order)


def renumber_changes(
    records: list[CallRecord], record: CallRecord, known: CallRecord, below: Sequence[CallRecord], orders: list[int]
) -> None:
    """Give a reused call, and those below it, the changes that are on record, in new places.

    Those below stand at the end of ``records``, as ``RTState.reused`` put them there.
    """
    start = len(records) - len(below) - 1
    for (place, change), order in zip(changes_of(known, below), orders, strict=True):
        target = record if place == 0 else records[start + place]
        target.changes = [*(target.changes or ()), change._replace(order=order)]


def _illegal(record: CallRecord, status: Status) -> StateError:
    return StateError(f"call {record.index} ({record.name}) is {record.status.value}; it cannot become {status.value}")
