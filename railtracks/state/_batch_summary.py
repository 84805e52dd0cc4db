"""What is on record of a batch that keeps few of its calls: counts, times, some failures, and which items are done.

It is an attribute of the call that stands for the batch, and grows with the gaps between the items that are done, of
which there are about as many as calls run at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple

from railtracks.state._records import Status

BATCH = "railtracks.batch"
"""The attribute."""
MAX_FAILURES = 10
"""The number of failures that are described."""
_MODULUS = 1 << 64
_COMPLETED = Status.COMPLETED


class Ended(NamedTuple):
    """How one item has ended."""

    item: int
    """Its position, from 0."""
    status: Status
    seconds: float
    """How long its call took."""
    calls: int
    """The number of records: its call and all calls below."""
    kept: bool
    """Whether they are on record."""
    digest: int | None
    """A number that depends on its position and arguments; None if they cannot be compared."""
    error: str | None
    """What it has failed with, and for which arguments."""


class Ranges:
    """Positions, as few ranges, each with the sum of the digests of its items; None if one of them is not known."""

    __slots__ = ("_digests", "_starts", "_stops", "count")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._digests: list[int | None] = []
        self.count: int = 0  # of the positions

    def find(self, position: int) -> tuple[int, int, int | None] | None:
        """Return the range that a position is in: its start, its end and its digest."""
        stops = self._stops
        if not stops or position >= stops[-1]:
            return None
        at = bisect_right(self._starts, position) - 1
        if at < 0 or position >= stops[at]:
            return None
        return self._starts[at], stops[at], self._digests[at]

    def add(self, start: int, stop: int, digest: int | None) -> None:
        """Add positions that are not in it yet."""
        starts, stops, digests = self._starts, self._stops, self._digests
        self.count += stop - start
        if stops and stops[-1] == start:  # mostly
            stops[-1], digests[-1] = stop, _sum(digests[-1], digest)
            return
        at = bisect_right(starts, start)
        if at and stops[at - 1] == start:
            at -= 1
            start, digest = starts[at], _sum(digests[at], digest)
            del starts[at], stops[at], digests[at]
        if at < len(starts) and starts[at] == stop:
            stop, digest = stops[at], _sum(digests[at], digest)
            del starts[at], stops[at], digests[at]
        starts.insert(at, start)
        stops.insert(at, stop)
        digests.insert(at, digest)

    def data(self) -> list[list[Any]]:
        """Return the ranges as plain data: start, end, and digest as hexadecimal text."""
        return [
            [start, stop, None if digest is None else f"{digest:016x}"]
            for start, stop, digest in zip(self._starts, self._stops, self._digests, strict=True)
        ]

    @classmethod
    def of(cls, data: list[list[Any]]) -> Ranges:
        """Return what ``data`` returned."""
        ranges = cls()
        for start, stop, digest in data:
            ranges.add(start, stop, None if digest is None else int(digest, 16))
        return ranges


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else (one + other) % _MODULUS


class BatchSummary:
    """What is known of the items of a batch.

    Attributes:
        done: The items that have completed and are not on record.
        kept: The items that have ended and are on record, by calls below that of the batch.
        left_out: The number of calls that are not on record.
        ended: The number of items that have ended in each way.
    """

    def __init__(self) -> None:
        self.done: Ranges = Ranges()
        self.kept: Ranges = Ranges()
        self.left_out: int = 0
        self.ended: dict[Status, int] = {}
        self._seconds = 0.0, 0.0, 0.0  # least, greatest, total; of those that are done
        self._failures: list[dict[str, Any]] = []

    @property
    def items(self) -> int:
        """The number of items that have ended."""
        return sum(self.ended.values())

    def add(self, ended: Ended) -> None:
        """Note the end of an item, which may have ended in another way in an earlier attempt."""
        self.ended[ended.status] = self.ended.get(ended.status, 0) + 1
        if ended.error is not None and len(self._failures) < MAX_FAILURES:
            self._failures.append({"item": ended.item, "error": ended.error})
        position = ended.item
        if ended.kept:
            if self.kept.find(position) is None:
                self.kept.add(position, position + 1, None)
            return
        self.left_out += ended.calls
        if ended.status is Status.COMPLETED and self.done.find(position) is None:
            self._add_seconds(ended.seconds)
            self.done.add(position, position + 1, ended.digest)

    def add_completed(self, position: int, seconds: float) -> None:
        """Note that an item has completed with one call, of which nothing is kept; as ``add``, in less time."""
        ended = self.ended
        ended[_COMPLETED] = ended.get(_COMPLETED, 0) + 1
        self.left_out += 1
        least, greatest, total = self._seconds
        if least <= seconds <= greatest:
            self._seconds = least, greatest, total + seconds
        else:
            self._add_seconds(seconds)
        self.done.add(position, position + 1, None)

    def _add_seconds(self, seconds: float) -> None:
        least, greatest, total = self._seconds
        if seconds < least or not self.done.count:
            least = seconds
        self._seconds = least, max(seconds, greatest), total + seconds

    def data(self) -> dict[str, Any]:
        """Return it as plain data."""
        least, greatest, total = self._seconds
        count = self.done.count
        return {
            "items": self.items,
            "ended": {status.value: number for status, number in self.ended.items()},
            "left_out": self.left_out,
            "seconds": {"min": least, "mean": total / count if count else 0.0, "max": greatest, "total": total},
            "failures": self._failures,
            "done": self.done.data(),
            "kept": [each[:2] for each in self.kept.data()],
        }

    @classmethod
    def of(cls, data: Mapping[str, Any] | None) -> BatchSummary:
        """Return what ``data`` returned; an empty one for None."""
        summary = cls()
        if data is not None:
            summary.done = Ranges.of(data["done"])
            summary.kept = Ranges.of([[*each, None] for each in data["kept"]])
            summary.left_out = data["left_out"]
            summary.ended = {Status(status): number for status, number in data["ended"].items()}
            seconds = data["seconds"]
            summary._seconds = seconds["min"], seconds["max"], seconds["total"]
            summary._failures = [*data["failures"]]
        return summary

    def for_another_attempt(self) -> BatchSummary:
        """Return what a session that resumes the batch begins with: what it does not do again."""
        summary = BatchSummary.of(self.data())
        count = self.done.count
        summary.ended = {Status.COMPLETED: count} if count else {}
        summary._failures = []
        return summary
