"""The history of a resumed run: the tree in which new calls are matched with recorded ones.

A call is identified by its position in the tree of calls: the position of its parent, its node, its arguments as they
are saved, and its ordinal among the siblings that are equal in these. The order among other siblings does not count,
so concurrent calls are matched in whatever order they are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import attrs

from railtracks.state._call_tree import CallTree
from railtracks.state._records import CallRecord, Status
from railtracks.state._serialization._record_text import form_in, is_lossy

MatchKey = tuple[str, str]


class HistoryNode:
    """A node of the tree of recorded calls: one call, as one or more attempts recorded it. The root is not a call.

    Args:
        attempts: For each attempt (session) that made the call, oldest first: all its calls, and the record of this
            one; None for the root. An attempt that was itself resumed may have ended before it made all the calls
            that an earlier one had completed, so each node looks at all attempts.

    Attributes:
        record: The record that counts: the latest completed one, or else the latest; None for the root.
        attempt: All calls of the attempt that ``record`` comes from.
    """

    __slots__ = ("_attempts", "_children", "attempt", "record")

    def __init__(self, attempts: Sequence[tuple[CallTree, CallRecord | None]]) -> None:
        self._attempts = attempts
        self._children: dict[MatchKey, list[HistoryNode]] | None = None
        completed = [pair for pair in attempts if pair[1] is not None and pair[1].status is Status.COMPLETED]
        attempt, record = (completed or attempts)[-1]
        self.attempt: CallTree = attempt
        self.record: CallRecord | None = record

    def pop_child(self, key: MatchKey) -> HistoryNode | None:
        """Return the next child with this key, or None if there is none left. Each child is returned once."""
        if self._children is None:
            self._children = {key: nodes[::-1] for key, nodes in self._group_children().items()}
        nodes = self._children.get(key)
        return nodes.pop() if nodes else None

    def _group_children(self) -> dict[MatchKey, list[HistoryNode]]:
        attempts: dict[MatchKey, list[list[tuple[CallTree, CallRecord]]]] = {}
        for attempt, record in self._attempts:
            ordinals: dict[MatchKey, int] = {}
            for child in attempt.children(record):
                key = match_key(child)
                if key is not None:
                    ordinal = ordinals[key] = ordinals.get(key, -1) + 1
                    siblings = attempts.setdefault(key, [])
                    if ordinal == len(siblings):
                        siblings.append([])
                    siblings[ordinal].append((attempt, child))
        return {key: [HistoryNode(pairs) for pairs in siblings] for key, siblings in attempts.items()}

    def flatten(self) -> list[CallRecord]:
        """Return the history below this node as the records of one session."""
        builder = _RecordBuilder()
        self._add_children(None, builder)
        return builder.records

    def _add_children(self, parent: CallRecord | None, builder: _RecordBuilder) -> None:
        for nodes in self._group_children().values():
            for node in nodes:
                record = node.record
                assert record is not None
                # Below a completed call, keep children from other attempts only if they completed: they are needed
                # when the parent runs again nevertheless (memo=False).
                if node.attempt is self.attempt or not _is_completed(self.record) or _is_completed(record):
                    copy = builder.begin(record, parent)
                    node._add_children(copy, builder)
                    builder.end(copy)
        for child in self.attempt.children(self.record):
            if match_key(child) is None:  # no call can match it; it is kept for readers
                builder.add_tree(self.attempt, child, parent)


def _is_completed(record: CallRecord | None) -> bool:
    return record is not None and record.status is Status.COMPLETED


def match_key(record: CallRecord) -> MatchKey | None:
    """Return the key of a recorded call among its siblings: node and arguments. None if it cannot be matched."""
    if record.node is None or record.inputs is None or is_lossy(form_in(record.inputs)):
        return None
    return record.node, record.inputs


def build_history(*attempts: Sequence[CallRecord]) -> HistoryNode:
    """Build the tree of the records of some attempts, oldest first, and return its root."""
    return HistoryNode([(CallTree(records), None) for records in attempts])


def merge_attempts(*attempts: Sequence[CallRecord]) -> list[CallRecord]:
    """Merge the records of some attempts, oldest first, into the records of one session."""
    used = [records for records in attempts if records]
    return list(used[0]) if len(used) == 1 else build_history(*used).flatten() if used else []


def truncate_at_step(records: Sequence[CallRecord], step: int) -> list[CallRecord]:
    """Return the records as they were before ``step``: without later calls, and with those open that ended later."""
    return [
        r if r.ended_step is not None and r.ended_step < step else _reopen(r) for r in records if r.started_step < step
    ]


def _reopen(record: CallRecord) -> CallRecord:
    fields = (
        "status", "ended_step", "ended", "result", "exception", "reason", "timeout", "output", "reuse", "attributes",
    )  # fmt: skip
    defaults = {name: getattr(attrs.fields(CallRecord), name).default for name in fields}
    return attrs.evolve(record, **defaults)


class _RecordBuilder:
    """Builds records as if their calls had been made one after the other, each with all calls below it."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []
        self._step = 0
        self._orders = count()

    def begin(self, record: CallRecord, parent: CallRecord | None) -> CallRecord:
        index = len(self.records)
        changes = [change._replace(order=next(self._orders)) for change in record.changes or ()]
        copy = attrs.evolve(
            record,
            changes=changes or None,  # renumbered, because each session counts from 0
            index=index,
            parent=None if parent is None else parent.index,
            run=index if parent is None else parent.run,
            started_step=self._step,
        )
        self.records.append(copy)
        self._step += 1
        return copy

    def end(self, copy: CallRecord) -> None:
        if copy.ended is not None:
            copy.ended_step = self._step
            self._step += 1

    def add_tree(self, attempt: CallTree, record: CallRecord, parent: CallRecord | None) -> None:
        copy = self.begin(record, parent)
        for child in attempt.children(record):
            self.add_tree(attempt, child, copy)
        self.end(copy)
