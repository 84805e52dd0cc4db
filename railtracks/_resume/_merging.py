"""The records of several attempts at one run as those of one session, and the records up to one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import attrs

from railtracks._resume._batches import furthest_batch
from railtracks._resume._history import HistoryNode, is_session, joined
from railtracks._resume._tries import retry_of
from railtracks.state._call_tree import CallTree
from railtracks.state._records import CallRecord, Change, PolicyFacts, Status, copy_record, is_retried
from railtracks.state._views._place import was_lost

_RUN_AGAIN = (Status.OPEN, Status.FAILED, Status.SUSPENDED)
_Moment = tuple[int, int, int]
"""The rank of an attempt, a step in it, and a number that keeps apart what would otherwise be one moment."""


def merge_attempts(*attempts: Sequence[CallRecord]) -> list[CallRecord]:
    """Merge the records of some attempts, oldest first, into the records of one session.

    The order in which calls were made and ended stays. What only an older attempt had come to was not reached by the
    newer one, and so it comes after all that the newer one did.
    """
    used = [records for records in attempts if records]
    if len(used) == 1:
        return list(used[0])
    return _Merger([CallTree(records) for records in used]).merge() if used else []


def truncate_at_step(records: Sequence[CallRecord], step: int) -> list[CallRecord]:
    """Return the records as they were before ``step``: without later calls, and with those open that ended later."""
    return [
        r if r.ended_step is not None and r.ended_step < step else reopened(r) for r in records if r.started_step < step
    ]


def reopened(record: CallRecord) -> CallRecord:
    """Return a record as that of a call that has not ended."""
    fields = (
        "status", "ended_step", "ended", "result", "exception", "reason", "timeout", "output", "reuse", "attributes",
        "raised_by", "was_left",
    )  # fmt: skip
    defaults = {name: getattr(attrs.fields(CallRecord), name).default for name in fields}
    policy = None if record.policy is None else PolicyFacts(retry=record.policy.retry)
    return copy_record(record, **defaults, policy=policy)


@attrs.define(eq=False)
class _Call:
    """A call among those of all attempts."""

    record: CallRecord
    attempt: CallTree
    parent: _Call | None
    began: _Moment
    copy: CallRecord
    ended: _Moment | None
    changes: Sequence[Change]
    """The context changes of the call itself, in all attempts."""
    before: _Call | None = None
    """The try of the same call before this one."""


class _Merger:
    """Merges attempts.

    Args:
        attempts: Their calls, oldest first.
    """

    def __init__(self, attempts: Sequence[CallTree]) -> None:
        self._attempts = attempts
        self._ranks = {id(attempt): rank for rank, attempt in enumerate(reversed(attempts))}
        self._calls: list[_Call] = []

    def merge(self) -> list[CallRecord]:
        """Return the records."""
        self._add_children(HistoryNode([(attempt, None) for attempt in self._attempts]), None)
        self._calls.sort(key=lambda call: call.began)
        self._number_calls()
        self._number_steps()
        self._number_changes()
        return [call.copy for call in self._calls]

    # ---- which calls there are

    def _add_children(self, node: HistoryNode, parent: _Call | None) -> None:
        children, following = node.children(), node.next_tries()
        later = {*following.values()}
        for at in range(len(children)):
            if at not in later:
                self._add_tries(node, [children[each] for each in _chain(at, following)], parent)

    def _add_tries(self, caller: HistoryNode, tries: Sequence[HistoryNode], parent: _Call | None) -> None:
        """Add all tries of one call, each with the calls below it.

        What is below a try whose worker was lost is below the next one. An older attempt had made it. Of the try itself
        nothing came back, so that it says nothing about it.
        """
        call: _Call | None = None
        lost: HistoryNode | None = None
        for each in tries:
            node = each if lost is None else joined(lost, each)
            record = node.record
            assert record is not None
            lost = node if is_retried(record) and was_lost(record) and node.children() else None
            # Below a completed call, keep children from other attempts only if they completed: they are needed when
            # the parent runs again nevertheless (memo=False). But what they changed in the context is not part of what
            # the parent did when it completed, and would be made again with that.
            is_left_over = node.attempt is not caller.attempt and _is_completed(caller.record)
            if lost is None and is_left_over and not (_is_completed(record) and not node.attempt.changes_below(record)):
                continue
            call = self._add(node, record, parent, call)
            if lost is None:
                self._add_children(node, call)
        if lost is not None and call is not None:
            self._add_children(lost, self._add_next_try(call))

    def _add_next_try(self, lost: _Call) -> _Call:
        """Add the try that would have followed one whose worker was lost: the process was killed before it."""
        policy = PolicyFacts(retry=retry_of(lost.copy) + 1)
        copy = copy_record(reopened(lost.copy), policy=policy, attributes=None, attempt=1, index=-1)
        began = lost.ended or lost.began
        call = _Call(copy, lost.attempt, lost.parent, (*began[:2], began[2] + 1), copy, None, (), lost)
        self._calls.append(call)
        return call

    def _add(self, node: HistoryNode, record: CallRecord, parent: _Call | None, before: _Call | None) -> _Call:
        attempt, (latest, latest_record) = node.attempt, node.latest
        # Where the latest attempt made it: among calls that are equal, the order says which one it is.
        began = self._ranks[id(latest)], latest_record.started_step, 0
        if parent is not None and began <= parent.began:  # they come from different attempts
            began = *parent.began[:2], parent.began[2] + 1
        ended, end = None, node.latest_end
        if end is not None:
            ended = max((self._ranks[id(end[0])], end[1], 0), (*began[:2], began[2] + 1))
        # Which tasks made calls can be compared within one attempt only.
        was_left = node.is_left if record.status is Status.FAILED or is_session(record) else None
        begun = record.attempt if _is_completed(record) else latest_record.attempt
        copy = copy_record(record, changes=None, was_left=was_left, attempt=begun)
        if not _is_completed(record):
            furthest = furthest_batch(node.records)[1]
            if furthest is not None and furthest is not record:
                copy.attributes, copy.code = furthest.attributes, furthest.code
        call = _Call(record, attempt, parent, began, copy, ended, _changes(node, record), before)
        self._calls.append(call)
        return call

    # ---- how they are numbered

    def _number_calls(self) -> None:
        indices = {(id(call.attempt), call.record.index): index for index, call in enumerate(self._calls)}
        tasks = _Tasks(self._calls)
        for index, call in enumerate(self._calls):
            copy, attempt = call.copy, id(call.attempt)
            copy.index = index
            copy.parent = None if call.parent is None else call.parent.copy.index
            copy.run = index if call.parent is None else call.parent.copy.run
            if copy.branch is not None:
                copy.branch = tasks.renumbered(call.attempt, copy.branch)
            if copy.raised_by is not None:
                found = (indices.get((attempt, below)) for below in copy.raised_by)
                copy.raised_by = tuple(below for below in found if below is not None) or None

    def _number_steps(self) -> None:
        steps = count()
        for _, _, copy, is_end in sorted(self._moments(), key=lambda each: each[:2]):
            if is_end:
                copy.ended_step = next(steps)
            else:
                copy.started_step = next(steps)

    def _moments(self) -> Iterator[tuple[_Moment, int, CallRecord, bool]]:
        for number, call in enumerate(self._calls):
            yield call.began, number, call.copy, False
            if call.ended is not None:
                yield call.ended, number, call.copy, True

    def _number_changes(self) -> None:
        """Number the changes of the context from 0, as those of one session."""
        changes: list[tuple[Change, CallRecord]] = [
            (change, call.copy) for call in self._calls for change in call.changes
        ]
        changes.sort(key=lambda each: each[0].order)  # what a later attempt has made again has kept its position
        for order, (change, copy) in enumerate(changes):
            copy.changes = [*(copy.changes or ()), change._replace(order=order)]


def _chain(at: int, following: Mapping[int, int]) -> Iterator[int]:
    """Yield the positions of the tries of one call, from the first one on."""
    yield at
    while at in following:
        at = following[at]
        yield at


class _Tasks:
    """Numbers the tasks that have made calls, those of all attempts.

    The tries of one call were made by one task. If they come from several attempts, its numbers in these are the same.
    """

    def __init__(self, calls: Sequence[_Call]) -> None:
        self._numbers: dict[tuple[int, int], int] = {}
        self._same: dict[tuple[int, int], tuple[int, int]] = {}
        for call in calls:
            if call.before is not None and call.before.attempt is not call.attempt:
                earlier, own = call.before.record.branch or (), call.record.branch or ()
                for one, other in zip(own, earlier, strict=False):
                    self._unite(self._task(call.attempt, one), self._task(call.before.attempt, other))

    def _task(self, attempt: CallTree, number: int) -> tuple[int, int]:
        task = id(attempt), abs(number)
        while task in self._same:
            task = self._same[task]
        return task

    def _unite(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        if one != other:
            self._same[one] = other

    def renumbered(self, attempt: CallTree, branch: tuple[int, ...]) -> tuple[int, ...]:
        """Return the numbers of tasks of an attempt among all."""
        numbers = (self._numbers.setdefault(self._task(attempt, each), len(self._numbers) + 1) for each in branch)
        return tuple(-number if known < 0 else number for number, known in zip(numbers, branch, strict=True))


def _changes(node: HistoryNode, record: CallRecord) -> list[Change]:
    """Return the context changes of a call: those on the record that counts, and what other attempts had come to.

    What an attempt makes again keeps its position, by which it is known.
    """
    found = list(record.changes or ())
    if record.status in _RUN_AGAIN and not node.is_handled:
        for other in node.records:
            more = other.changes or ()
            if len(more) > len(found) and more[: len(found)] == found and other.status in _RUN_AGAIN:
                found = list(more)
    return found


def _is_completed(record: CallRecord | None) -> bool:
    return record is not None and record.status is Status.COMPLETED
