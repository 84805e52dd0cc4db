"""The history of a resumed run: the tree in which new calls are matched with recorded ones.

A call is identified by its position in the tree of calls: the position of its parent, its node, its arguments as they
are saved, and its ordinal among the siblings that are equal in these. Arguments that are the same but passed in another
way are found too. The order among other siblings does not count, so concurrent calls are matched in whatever order they
are made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from railtracks.state._call_tree import CallTree
from railtracks.state._records import CallRecord, Change, Status
from railtracks.state._serialization._record_text import form_in, is_former, is_lossy

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
        has_former_children: Whether calls below were recorded by a release that wrote types without their places. Known
            once a child was popped.
        is_taken: Whether a new call was matched with it.
    """

    __slots__ = ("_attempts", "_by_node", "_children", "attempt", "has_former_children", "is_taken", "record")

    def __init__(self, attempts: Sequence[tuple[CallTree, CallRecord | None]]) -> None:
        self._attempts = attempts
        self._children: dict[MatchKey, list[HistoryNode]] | None = None
        self._by_node: dict[str, _Siblings] = {}
        self.has_former_children: bool = False
        self.is_taken: bool = False
        completed = [pair for pair in attempts if pair[1] is not None and pair[1].status is Status.COMPLETED]
        attempt, record = (completed or attempts)[-1]
        self.attempt: CallTree = attempt
        self.record: CallRecord | None = record

    def pop_child(self, key: MatchKey, canonical: Callable[[str], str | None] | None = None) -> HistoryNode | None:
        """Return the next child with this key, or None if there is none left. Each child is returned once.

        Args:
            key: The key.
            canonical: Returns the canonical form of the arguments in a record. If it is passed, a child of the same
                node whose arguments have the same form is returned if no child has the key itself.
        """
        if self._children is None:
            self._children = self._group_children()
            for (node, inputs), children in self._children.items():
                self.has_former_children = self.has_former_children or is_former(inputs) or is_former(node)
                self._by_node.setdefault(node, _Siblings()).add(children)
                children.reverse()
        siblings = self._by_node.get(key[0])
        if siblings is None or not siblings.left:
            return None
        nodes = self._children.get(key, [])
        while nodes and nodes[-1].is_taken:
            nodes.pop()
        found = nodes.pop() if nodes else None if canonical is None else siblings.find(key[1], canonical)
        if found is not None:
            found.is_taken = True
            siblings.left -= 1
        return found

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
        builder = _RecordBuilder([attempt for attempt, _ in self._attempts])
        self._add_children(None, builder)
        builder.renumber_changes()
        return builder.records

    def _add_children(self, parent: CallRecord | None, builder: _RecordBuilder) -> None:
        for nodes in self._group_children().values():
            for node in nodes:
                record = node.record
                assert record is not None
                # Below a completed call, keep children from other attempts only if they completed: they are needed
                # when the parent runs again nevertheless (memo=False).
                if node.attempt is self.attempt or not _is_completed(self.record) or _is_completed(record):
                    copy = builder.begin(record, parent, node.attempt)
                    node._add_children(copy, builder)
                    builder.end(copy)
        for child in self.attempt.children(self.record):
            if match_key(child) is None:  # no call can match it; it is kept for readers
                builder.add_tree(self.attempt, child, parent)


class _Siblings:
    """The children of one call that call the same node.

    Attributes:
        left: How many of them were not matched with a new call yet.
    """

    __slots__ = ("_by_form", "_canonical", "_nodes", "left")

    def __init__(self) -> None:
        self._nodes: list[HistoryNode] = []
        self._canonical: Callable[[str], str | None] | None = None
        self._by_form: dict[str | None, list[HistoryNode]] | None = None
        self.left: int = 0

    def add(self, nodes: Sequence[HistoryNode]) -> None:
        self._nodes += nodes
        self.left += len(nodes)

    def find(self, inputs: str, canonical: Callable[[str], str | None]) -> HistoryNode | None:
        """Return the first one left whose arguments have the same canonical form as ``inputs``."""
        if self._by_form is None or self._canonical is None:
            self._canonical = canonical  # kept: it knows the signature of the node, which takes long to find
            self._by_form = {}
            for node in sorted(self._nodes, key=_position):
                assert node.record is not None
                assert node.record.inputs is not None
                self._by_form.setdefault(canonical(node.record.inputs), []).append(node)
        form = self._canonical(inputs)
        candidates = [] if form is None else self._by_form.get(form, [])
        return next((node for node in candidates if not node.is_taken), None)


def _position(node: HistoryNode) -> int:
    return 0 if node.record is None else node.record.index


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
    """Builds records as if their calls had been made one after the other, each with all calls below it.

    Their changes of the context keep the order in which they were made.

    Args:
        attempts: The attempts that the records come from, oldest first.
    """

    def __init__(self, attempts: Sequence[CallTree]) -> None:
        self.records: list[CallRecord] = []
        self._step = 0
        # A call that only an older attempt has made was not reached by the newer one, and comes after what that did.
        self._ranks = {id(attempt): rank for rank, attempt in enumerate(reversed(attempts))}
        self._changes: list[tuple[int, Change, CallRecord]] = []  # with the rank of the attempt that made it

    def renumber_changes(self) -> None:
        """Number the changes of the context from 0, as those of one session."""
        self._changes.sort(key=lambda each: (each[0], each[1].order))
        for order, (_, change, record) in enumerate(self._changes):
            record.changes = [*(record.changes or ()), change._replace(order=order)]

    def begin(self, record: CallRecord, parent: CallRecord | None, attempt: CallTree) -> CallRecord:
        index = len(self.records)
        copy = attrs.evolve(
            record,
            changes=None,  # numbered when all are known
            index=index,
            parent=None if parent is None else parent.index,
            run=index if parent is None else parent.run,
            started_step=self._step,
        )
        self.records.append(copy)
        self._changes += [(self._ranks[id(attempt)], change, copy) for change in record.changes or ()]
        self._step += 1
        return copy

    def end(self, copy: CallRecord) -> None:
        if copy.ended is not None:
            copy.ended_step = self._step
            self._step += 1

    def add_tree(self, attempt: CallTree, record: CallRecord, parent: CallRecord | None) -> None:
        copy = self.begin(record, parent, attempt)
        for child in attempt.children(record):
            self.add_tree(attempt, child, copy)
        self.end(copy)
