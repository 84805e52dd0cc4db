"""Calls of one name that one call made, as one line: how many there were, how they ended, and how long they took."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from railtracks._wording import counted
from railtracks.state._records import CallRecord, Status
from railtracks.state._views._counts import RETRIED, Ends, count_ends
from railtracks.state._views._texts import shown_seconds
from railtracks.state._views._times import ran_seconds

FOLD_FROM = 10
"""The least number of calls of one name that are folded."""
SHOWN_UNUSUAL = 5
"""The number of calls of a fold that are shown because they have not completed."""
NOT_SHOWN = "that did not complete, or in which one did not"
"""The end of the line that counts the calls of a fold which have not completed and are not shown."""
WORDS = {
    Status.COMPLETED: "ok",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
    Status.SUSPENDED: "suspended",
    Status.OPEN: "open",
}
"""What is said of calls in a fold that have ended so, in the order in which it is said."""


def ends_in_words(ends: Ends, of_open: str = WORDS[Status.OPEN]) -> list[str]:
    """Return how calls have ended, as in ``199 ok`` and ``1 failed``.

    Args:
        ends: How many have ended in each way.
        of_open: The word for those that are open.
    """
    words = {**WORDS, Status.OPEN: of_open}
    found = [f"{ends.by_status[status]} {word}" for status, word in words.items() if ends.by_status.get(status)]
    return [*found, f"{ends.retried} {RETRIED}"] if ends.retried else found


@attrs.frozen
class Fold:
    """Calls that one line stands for.

    Attributes:
        records: All of them, in the order of creation.
        shown: Those that are shown below the line nevertheless: the first that have not completed, and the slowest.
        slowest: The one that took longest; None if none has ended, or it is not looked for.
        below: How many have completed although a call below them has not.
        left: How many that have not completed, or a call below them, are not shown.
    """

    records: Sequence[CallRecord]
    shown: Sequence[CallRecord]
    slowest: CallRecord | None
    below: int = 0
    left: int = 0

    @property
    def summary(self) -> str:
        """How many there are, how they ended, and how long they took: ``× 200: 199 ok, 1 failed, 2 ms to 1.9 s``."""
        parts = ends_in_words(count_ends(self.records))
        if self.below:
            parts[0] += f" ({self.below} with a call below that did not complete)"
        times = [ran_seconds(record) for record in self.records if record.ended is not None]
        if times:
            parts.append(f"{shown_seconds(min(times))} to {shown_seconds(max(times))}")
        return f"× {len(self.records)}: {', '.join(parts)}"

    @property
    def rest(self) -> str:
        """How many of those that have not completed, or a call below them, are not shown; "" if all are."""
        return f"… and {counted(self.left, 'more call')} {NOT_SHOWN}" if self.left else ""


def fold_siblings(
    records: Sequence[CallRecord], unusual: Sequence[int], fold_from: float = FOLD_FROM, with_slowest: bool = True
) -> list[CallRecord | Fold]:
    """Return the calls that one call made, with a fold in place of each ``fold_from`` or more of one name.

    A fold stands in the place of the first of its calls.

    Args:
        records: The calls, in the order of creation.
        unusual: By the index of a call, whether it, or one below it, has not completed.
        fold_from: The number of calls.
        with_slowest: Whether the slowest call of a fold is shown below its line, even if it completed.
    """
    if len(records) < fold_from:
        return list(records)
    by_name: dict[str, list[CallRecord]] = {}
    for record in records:
        by_name.setdefault(record.name, []).append(record)
    found: list[CallRecord | Fold] = []
    for record in records:
        group = by_name[record.name]
        if len(group) < fold_from:
            found.append(record)
        elif record is group[0]:
            found.append(_fold(group, unusual, with_slowest))
    return found


def _fold(records: Sequence[CallRecord], unusual: Sequence[int], with_slowest: bool) -> Fold:
    ended = [(ran_seconds(record), -record.index, record) for record in records if record.ended is not None]
    slowest = max(ended)[2] if ended and with_slowest else None
    special = [record for record in records if unusual[record.index]]
    shown = special[:SHOWN_UNUSUAL]
    left = len(special) - len(shown)
    if slowest is not None and not any(record is slowest for record in shown):
        left -= bool(unusual[slowest.index])
        shown.append(slowest)
    below = sum(record.status is Status.COMPLETED for record in special)
    return Fold(records, sorted(shown, key=lambda record: record.index), slowest, below, left)
