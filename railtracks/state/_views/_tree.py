"""The tree of the calls of a run: a line for each call, below the line of its caller."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import attrs

from railtracks._wording import counted
from railtracks.state._call_tree import CallTree
from railtracks.state._records import CallRecord, Status, is_retried
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._views._batches import batch_data, has_failed_items, shown_batch, shown_failures
from railtracks.state._views._counts import count_ends, counts_in_words
from railtracks.state._views._failures import shown_reason
from railtracks.state._views._folds import FOLD_FROM, Fold, fold_siblings
from railtracks.state._views._place import place_of
from railtracks.state._views._texts import shown_call, shown_name, shown_seconds, shown_status
from railtracks.state._views._times import own_seconds, ran_seconds

_MAX_CALLS = 200
"""The default number of lines of calls."""
STYLES: Mapping[Status | None, str] = {
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "yellow",
    Status.OPEN: "magenta",
    Status.SUSPENDED: "cyan",
    None: "",
}
"""The colour of a line, by the status of its call; None: it is about several calls."""


@attrs.frozen
class Line:
    """A line of a tree."""

    indent: str
    """What stands before the text, with the branches of the tree."""
    text: str
    status: Status | None = None
    """The status of the call that the line is about; None if it is about several calls."""

    def __str__(self) -> str:
        return f"{self.indent}{self.text}"


@attrs.frozen
class TreeOptions:
    """What a tree shows."""

    max_calls: float = _MAX_CALLS
    """The number of lines of calls after which it ends."""
    arguments: bool = True
    """Whether the calls are shown with their arguments."""
    folds: bool = True
    """Whether many calls of one name are folded."""
    failed: bool = False
    """Whether only calls are shown that have not completed, and those that made them. Attempts that were tried again
    are left out."""


class Tree:
    """The calls of a run as lines.

    Args:
        records: The calls, in the order of creation.
        redactor: The secrets that are known.
        options: What is shown.
    """

    def __init__(self, records: Sequence[CallRecord], redactor: Redactor, options: TreeOptions) -> None:
        self._records = records
        self._redactor = redactor
        self._options = options
        self._tree = CallTree(records)
        self._left = len(records)  # calls that are neither shown nor in a fold that is

    def lines(self) -> Iterator[Line]:
        """Yield the lines, without one for the session."""
        shown = 0
        stack = self._entries("", None, self._wanted(self._tree.children(None)))
        while stack:
            indent, deeper, entry, is_slowest = stack.pop()
            if isinstance(entry, str):
                yield Line(indent, entry)
                continue
            if shown >= self._options.max_calls:
                yield Line("", f"… and {counted(self._left, 'more call')}")
                return
            shown += 1
            if isinstance(entry, Fold):
                yield Line(indent, f"{shown_name(entry.records[0], self._redactor)} {entry.summary}")
                stack += self._entries(deeper, entry.slowest, entry.shown, entry.rest)
                self._left -= sum(1 + self._size(each) for each in entry.records)
                self._left += sum(1 + self._size(each) for each in entry.shown)
            else:
                self._left -= 1
                yield Line(indent, self._label(entry) + "  (slowest)" * is_slowest, entry.status)
                batch = batch_data(entry)
                rest = [] if batch is None else shown_failures(batch, self._redactor)
                stack += self._entries(deeper, None, self._wanted(self._tree.children(entry)), *rest)

    def _wanted(self, records: Sequence[CallRecord]) -> list[CallRecord | Fold]:
        """Return those of the calls that are shown, with folds in place of many of one name."""
        fold_from = FOLD_FROM if self._options.folds else float("inf")
        folded = fold_siblings(records, self._unusual, fold_from, with_slowest=not self._options.failed)
        if not self._options.failed:
            return folded
        wanted = [entry for entry in folded if self._is_unusual(entry)]
        left_out = [entry for entry in folded if not self._is_unusual(entry)]
        for entry in left_out:
            self._left -= sum(1 + self._size(each) for each in (entry.records if isinstance(entry, Fold) else [entry]))
        return wanted

    def _is_unusual(self, entry: CallRecord | Fold) -> bool:
        """Return whether a call, or one of a fold, has not completed, or one below it."""
        return any(self._unusual[each.index] for each in (entry.records if isinstance(entry, Fold) else [entry]))

    @cached_property
    def _unusual(self) -> bytearray:
        """By the index of a call, whether it, or one below it, has not completed. One that was tried again is usual."""
        found = bytearray(1 + max((record.index for record in self._records), default=-1))
        for record in reversed(self._records):  # each call before its caller
            is_usual = is_retried(record) or (record.status is Status.COMPLETED and not has_failed_items(record))
            if not is_usual:
                found[record.index] = True
            if found[record.index] and record.parent is not None:
                found[record.parent] = True
        return found

    def _size(self, record: CallRecord) -> int:
        """Return the number of calls below a call."""
        return self._tree.measures.sizes[record.index]

    @staticmethod
    def _entries(
        indent: str, slowest: CallRecord | None, entries: Sequence[CallRecord | Fold], *rest: str
    ) -> list[tuple[str, str, CallRecord | Fold | str, bool]]:
        """Return what is to be shown below a line, in reverse, for a stack.

        Each comes with what stands before its line, and before those below it, and whether it is the slowest of a fold.
        """
        every: list[CallRecord | Fold | str] = [*entries, *filter(None, rest)]
        found: list[tuple[str, str, CallRecord | Fold | str, bool]] = []
        for entry in reversed(every):
            branch, trunk = ("├─ ", "│  ") if found else ("└─ ", "   ")
            found.append((indent + branch, indent + trunk, entry, entry is slowest))
        return found

    def _label(self, record: CallRecord) -> str:
        """Return what is said of a call."""
        redactor = self._redactor
        shown = shown_call(record, redactor) if self._options.arguments else shown_name(record, redactor)
        label = f"{shown}  {shown_status(record)}"
        if record.ended is not None:
            label += f"  {shown_seconds(ran_seconds(record))}"
            if (place := place_of(record)) is not None:
                label += f" in {place}"
            if children := self._tree.children(record):
                label += f" (own {shown_seconds(own_seconds(record, children))})"
        if record.policy is not None and record.policy.waited:
            label += f"  after it waited {shown_seconds(record.policy.waited)}"
        if (batch := batch_data(record)) is not None:
            label += shown_batch(batch)
        if record.exception is not None:
            label += f"  {shown_reason(record, self._tree.children(record), redactor)}"
        return label


def session_line(title: str, counts: str, status: Status, seconds: float | None) -> Line:
    """Return the line about a session: its title, status, duration and number of calls."""
    duration = "" if seconds is None else f"  {shown_seconds(seconds)}"
    return Line("", f"{title}  {status.value}{duration}  {counts}", status)


def shown_counts(records: Sequence[CallRecord]) -> str:
    """Return how many calls there are, and how many of them have not completed, as in ``6 calls, 1 failed``."""
    return counts_in_words(len(records), count_ends(records))
