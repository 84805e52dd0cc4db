"""The calls of one session as a tree, and the context changes of a part of it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import overload

from railtracks.state._records import CallRecord, Change, Read, Status

_OPEN = (Status.OPEN, Status.SUSPENDED)

Branch = tuple[int, ...]
"""A task of a call: see ``CallRecord.branch``; empty for its own."""


class CallTree:
    """An index of the calls of one session by their caller.

    Args:
        records: The calls, in the order of creation and from the first one on.
        is_left: Whether the code that opened the session had gone on after it, where that is known.

    Attributes:
        is_left: As given.
    """

    def __init__(self, records: Iterable[CallRecord], is_left: bool = False) -> None:
        self.is_left: bool = is_left
        self._records: Sequence[CallRecord] = records if isinstance(records, Sequence) else list(records)
        self._children: dict[int | None, list[CallRecord]] = {}
        # By caller and task: the step of its latest call, and the latest step at which a task below made its first one.
        self._latest: dict[tuple[int | None, Branch], int] | None = None
        self._begun: dict[tuple[int | None, Branch], int] = {}
        for record in self._records:
            self._children.setdefault(record.parent, []).append(record)

    def __len__(self) -> int:
        """Return the number of calls."""
        return len(self._records)

    def __iter__(self) -> Iterator[CallRecord]:
        """Yield all calls, in the order of creation."""
        return iter(self._records)

    @property
    def has_reads(self) -> bool:
        """Whether any call had read from the context."""
        return self.measures.has_reads

    def outside_reads(self, known: CallRecord) -> Iterator[tuple[str, Read]]:
        """Yield what a call and its descendants had read from the context, unless one of them had set it before."""
        if not known.reads and not self.measures.have_reads[known.index]:
            return
        for record, depth in self._walk(known, self.measures.have_reads, lambda each: bool(each.reads)):
            for key, read in (record.reads or {}).items():
                if read.depth > depth:
                    yield key, read

    def changes_below(self, known: CallRecord) -> list[Change]:
        """Return the context changes of a call and of all below it, in the order in which they happened."""
        if not known.changes and not self.measures.have_changes[known.index]:
            return []
        found = self._walk(known, self.measures.have_changes, lambda each: bool(each.changes))
        return sorted((c for record, _ in found for c in record.changes or ()), key=lambda change: change.order)

    def _walk(
        self, known: CallRecord, flags: bytearray, is_wanted: Callable[[CallRecord], bool]
    ) -> list[tuple[CallRecord, int]]:
        """Return a call and the wanted ones below it, in the order of creation, each with how many levels below it is.

        Args:
            known: The call.
            flags: By the index of a call, whether there is a wanted one below it.
            is_wanted: Returns whether a call is wanted.
        """
        found = [(known, 0)]
        for each, depth in found:  # grows while the loop runs
            if flags[each.index]:
                found += [(child, depth + 1) for child in self.children(each) if flags[child.index] or is_wanted(child)]
        return sorted(found, key=lambda pair: pair[0].index)

    def caller(self, record: CallRecord) -> CallRecord | None:
        """Return the call that made a call; None for a top-level call."""
        return None if record.parent is None else self._records[record.parent]

    def had_failed_before(self, record: CallRecord, others: Iterable[int]) -> bool:
        """Return whether one of some calls, by their indices, had ended before a call did."""
        return any((self._records[index].ended_step or 0) < (record.ended_step or 0) for index in others)

    def has_gone_on(self, ended: CallRecord) -> bool:
        """Return whether the code that made a call made another one after it had ended, as far as the tasks say.

        That is a call in the same task, in one that this task or those before it have come from, or in one that came
        from any of these and made its first call after the end, unless it is a top-level call: those of a session may
        have nothing to do with each other. The calls of one batch do not follow each other.
        """
        if self._latest is None:
            self._latest = self._index_branches()
        assert ended.ended_step is not None
        branch = ended.branch or ()
        for length in range(len(branch) + 1):
            at = ended.parent, branch[:length]
            if self._latest.get(at, -1) > ended.ended_step:
                return True
            is_batch = length > 0 and branch[length - 1] < 0
            if not is_batch and ended.parent is not None and self._begun.get(at, -1) > ended.ended_step:
                return True
        return False

    def may_follow(self, record: CallRecord, branch: Branch, step: int) -> bool:
        """Return whether a call came after something that a task of its caller had done, as far as the tasks say.

        That is a call in the same task, or in one that this task has come from, after that; or in a task that came from
        any of these and made its first call after that.

        Args:
            record: The call.
            branch: The task of its caller.
            step: When the task had done that.
        """
        own = record.branch or ()
        common = 0
        while common < min(len(own), len(branch)) and own[common] == branch[common]:
            common += 1
        if common == len(own):
            return record.started_step > step
        return self._first_steps[record.parent, own[: common + 1]] > step

    @cached_property
    def _first_steps(self) -> dict[tuple[int | None, Branch], int]:
        """The step of the first call in each task, by caller and task, and in those that have come from it."""
        found: dict[tuple[int | None, Branch], int] = {}
        for record in self._records:
            branch = record.branch or ()
            for length in range(len(branch), 0, -1):
                if (record.parent, branch[:length]) in found:
                    break
                found[record.parent, branch[:length]] = record.started_step
        return found

    def _index_branches(self) -> dict[tuple[int | None, Branch], int]:
        latest: dict[tuple[int | None, Branch], int] = {}
        seen: set[tuple[int | None, Branch]] = set()
        for record in self._records:
            branch = record.branch or ()
            latest[record.parent, branch] = record.started_step
            for length in range(len(branch), 0, -1):
                if (record.parent, branch[:length]) in seen:
                    break
                seen.add((record.parent, branch[:length]))
                self._begun[record.parent, branch[: length - 1]] = record.started_step
        return latest

    def children(self, record: CallRecord | None) -> Sequence[CallRecord]:
        """Return the calls that a call made, in the order of creation; with None, the top-level calls."""
        return self._children.get(None if record is None else record.index, ())

    def descendants(self, record: CallRecord) -> Descendants:
        """Return all calls below a call, in the order of creation."""
        return Descendants(self, record)

    @cached_property
    def measures(self) -> Measures:
        """What is known of the calls below each call. Looking for it takes long if there are many calls."""
        return Measures(self._records)


class Measures:
    """What is known of the calls below each call of a session, by the index of the call.

    It is collected once for all calls, so that replaying a call with very many below it need not look at each of these.

    Attributes:
        sizes: The number of calls below.
        unended: The number of calls below without an end.
        have_open: Whether one of them is open or suspended.
        have_changes: Whether one of them has changed the context.
        have_reads: Whether one of them has read from it.
        has_reads: Whether any call of the session has.
    """

    def __init__(self, records: Sequence[CallRecord]) -> None:
        count = 1 + max((record.index for record in records), default=-1)
        self.sizes = array("q", bytes(8 * count))
        self.unended = array("q", bytes(8 * count))
        self.have_open = bytearray(count)
        self.have_changes = bytearray(count)
        self.have_reads = bytearray(count)
        self.has_reads = any(record.reads for record in records)
        for record in reversed(records):  # each call before its caller
            caller = record.parent
            if caller is not None and caller < record.index:
                index = record.index
                self.sizes[caller] += self.sizes[index] + 1
                self.unended[caller] += self.unended[index] + (record.ended_step is None)
                if self.have_open[index] or record.ended_step is None or record.status in _OPEN:
                    self.have_open[caller] = True
                if self.have_changes[index] or record.changes:
                    self.have_changes[caller] = True
                if self.have_reads[index] or record.reads:
                    self.have_reads[caller] = True


class Descendants(Sequence[CallRecord]):
    """All calls below a call, in the order of creation. They are collected when one of them is asked for.

    Args:
        tree: The calls of the session.
        record: The call.

    Attributes:
        steps: The number of steps that they took: one for each creation and each end.
        have_open: Whether one of them is open or suspended.
    """

    def __init__(self, tree: CallTree, record: CallRecord) -> None:
        self._tree = tree
        self._record = record
        measures, index = tree.measures, record.index
        self._count = measures.sizes[index]
        self.steps: int = 2 * self._count - measures.unended[index]
        self.have_open: bool = bool(measures.have_open[index])

    @cached_property
    def _records(self) -> list[CallRecord]:
        found = list(self._tree.children(self._record))
        for each in found:  # grows while the loop runs
            found += self._tree.children(each)
        return sorted(found, key=lambda each: each.index)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> CallRecord: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[CallRecord]: ...
    def __getitem__(self, place: int | slice) -> CallRecord | Sequence[CallRecord]:
        return self._records[place]

    def __iter__(self) -> Iterator[CallRecord]:
        return iter(self._records)

    def changes(self) -> list[Change]:
        """Return the context changes of the call and of all below it, in the order in which they happened."""
        return self._tree.changes_below(self._record)


def changes_of(known: CallRecord, below: Sequence[CallRecord]) -> list[tuple[int, Change]]:
    """Return the context changes of a call and of its descendants, in the order in which they happened.

    Args:
        known: The call.
        below: All its descendants.

    Returns:
        Pairs of a change and, before it, the position of its call: 0 for ``known``, 1 for the first of ``below``.
    """
    found = [(position, change) for position, each in enumerate((known, *below)) for change in each.changes or ()]
    return sorted(found, key=lambda pair: pair[1].order)
