"""The history of a resumed run: the tree in which new calls are matched with recorded ones.

A call is identified by its position in the tree of calls: the position of its parent, its node, its arguments as they
are saved, and its ordinal among the siblings that are equal in these. The tries of a call that was tried again are
numbered among themselves: they have one ordinal. Arguments that are the same but passed in another way are found too.
The order among other siblings does not count, so concurrent calls are matched in whatever order they
are made. A call that cannot be identified in this way is only linked with a recorded one; see ``_links.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from railtracks._resume._canonical import CanonicalForms
from railtracks._resume._links import Group, Links, base_of
from railtracks._resume._siblings import MatchKey, Siblings, match_key
from railtracks._resume._tries import CallIdentity, identified, next_tries, retry_of
from railtracks.state._call_tree import CallTree
from railtracks.state._records import CallRecord, Status, is_retried
from railtracks.state._serialization._added_fields import Classes


class HistoryNode:
    """A node of the tree of recorded calls: one call, as one or more attempts recorded it. The root is not a call.

    Args:
        attempts: For each attempt (session) that made the call, oldest first: all its calls, and the record of this
            one; None for the root. An attempt that was itself resumed may have ended before it made all the calls
            that an earlier one had completed, so each node searches all attempts.

    Attributes:
        record: The record that counts: the latest completed one, or else the latest failed one that was handled, as a
            later attempt may have been killed before it replayed that; or else the latest, or the latest failed one if
            the latest attempt was killed while it tried the call again: what came after the failure is on record, too.
            None for the root.
        attempt: All calls of the attempt that ``record`` comes from.
        is_handled: Whether ``record`` is that of a failure that was handled.
        is_taken: Whether a new call was matched with it.
        is_linked: Whether a new call was linked with it.
    """

    __slots__ = (
        "_children", "_links", "_made", "_next_tries", "_other_attempts", "_pools", "_siblings", "attempt",
        "is_handled", "is_linked", "is_taken", "record",
    )  # fmt: skip

    def __init__(self, attempts: Sequence[tuple[CallTree, CallRecord | None]]) -> None:
        completed = [pair for pair in attempts if pair[1] is not None and pair[1].status is Status.COMPLETED]
        handled = None if completed else _latest_handled(attempts)
        attempt, record = completed[-1] if completed else handled or _latest_failed(attempts) or attempts[-1]
        self.is_handled: bool = handled is not None
        self.attempt: CallTree = attempt
        self.record: CallRecord | None = record
        # As little as possible for each node, and none of what the garbage collector visits: there may be very many.
        self._other_attempts = None if len(attempts) == 1 else attempts
        self._children: list[HistoryNode] | None = None
        self._made: dict[int, HistoryNode] | None = None  # by position: those children that are kept, until all are
        self._next_tries: dict[int, int] | None = None
        self._siblings: Siblings | None = None
        self._links: Links[HistoryNode] | None = None
        self._pools: dict[tuple[int, ...], HistoryNode | None] | None = None
        self.is_taken: bool = False
        self.is_linked: bool = False

    @property
    def _attempts(self) -> Sequence[tuple[CallTree, CallRecord | None]]:
        return self._other_attempts or [(self.attempt, self.record)]

    @property
    def latest(self) -> tuple[CallTree, CallRecord]:
        """The latest attempt that made the call, and its record there. Not for the root."""
        attempt, record = self._attempts[-1]
        assert record is not None
        return attempt, record

    @property
    def latest_end(self) -> tuple[CallTree, int] | None:
        """The latest attempt in which the call ended as ``record`` has, and the step of that; None if it is open.

        A later attempt may have replayed a failure, and not have come so far that it shows that this was handled.
        """
        assert self.record is not None
        for attempt, record in reversed(self._attempts):
            if record is not None and record.ended_step is not None and _ended_alike(record, self.record):
                return attempt, record.ended_step
        return None

    @property
    def is_left(self) -> bool:
        """Whether the code that made the call had gone on after its failure or, if it opened a session, after that."""
        assert self.record is not None
        for attempt, record in reversed(self._attempts):
            if record is not None and record.ended_step is not None and retry_of(record) == retry_of(self.record):
                is_left = _was_left(attempt, record)
                if is_left is not None:
                    return is_left
        return False

    @property
    def records(self) -> Iterator[CallRecord]:
        """The records of all calls that this one stands for, in all attempts."""
        return (record for _, record in self._attempts if record is not None)

    @property
    def has_former_children(self) -> bool:
        """Whether calls below were recorded by a release that wrote types without their places.

        Known once a child was searched.
        """
        return self._siblings is not None and self._siblings.have_former

    def children(self) -> Sequence[HistoryNode]:
        """Return the recorded calls that this one made, in the order of creation, each as a node that is kept."""
        if self._children is None:
            if self._other_attempts is None:
                self._children = [self.child(position) for position in range(len(self.child_records()))]
            else:
                self._children = self._group_children()
            self._made = None
        return self._children

    def child_records(self) -> Sequence[CallRecord]:
        """Return the records of the calls that this one made, in the order of creation. It makes no node for each."""
        if self._children is None and self._other_attempts is None:
            return self.attempt.children(self.record)
        return [child.record for child in self.children() if child.record is not None]

    def left_records(self) -> list[tuple[CallRecord, bool]]:
        """Return the records of the calls that this one made and that no new call was matched with.

        Each comes with whether one was linked with it.
        """
        known = self._made or {} if self._children is None else dict(enumerate(self._children))
        left = ((at, record) for at, record in enumerate(self.child_records()) if not self._is_child_taken(at))
        return [(record, at in known and known[at].is_linked) for at, record in left]

    def child(self, position: int) -> HistoryNode:
        """Return the child at a position in ``child_records``, and keep it."""
        if self._children is not None:
            return self._children[position]
        if self._made is None:
            self._made = {}
        node = self._made.get(position)
        if node is None:
            node = self._made[position] = self._make_child(position)
        return node

    def _make_child(self, position: int) -> HistoryNode:
        """Make a node for the child at a position, of a call that one attempt has recorded."""
        node = HistoryNode(((self.attempt, self.attempt.children(self.record)[position]),))
        node.is_taken = self._is_child_taken(position)
        return node

    def _is_child_taken(self, position: int) -> bool:
        """Return whether a child was matched with a new call, by this node or by one that shares its children."""
        if self._children is not None and self._children[position].is_taken:
            return True
        return self._siblings is not None and bool(self._siblings.taken[position])

    def pop_child(self, key: MatchKey, forms: CanonicalForms | None = None) -> HistoryNode | None:
        """Return the next child with this key, or None if there is none left. Each child is returned once.

        Args:
            key: The key.
            forms: The canonical forms of the node's arguments. If they are passed, a child of the same node whose
                arguments have the same form is returned if no child has the key itself.
        """
        return self._pop(self._index().take(key, forms, self._is_child_taken))

    def pop_child_without_fields(self, key: MatchKey, forms: CanonicalForms, classes: Classes) -> HistoryNode | None:
        """Return the next child whose arguments differ only in fields with defaults that their classes have got since.

        Args:
            key: The key of the new call.
            forms: The canonical forms of the node's arguments.
            classes: The classes with fields in the arguments of the new call.
        """
        return self._pop(self._index().take_without_fields(key, forms, classes, self._is_child_taken))

    def pop_next_try(self, before: HistoryNode) -> HistoryNode | None:
        """Return the recorded call that is the next try of a child, which had failed; None if there is none left.

        Args:
            before: The match of the try that has failed now. If that was only linked with a child, there is none.
        """
        assert before.record is not None
        return self._pop(self._index().take_next_try(before.record, self._is_child_taken))

    def next_tries(self) -> Mapping[int, int]:
        """Return the positions of children that were tried again, each with that of its next try, if known."""
        records = self.child_records()
        if self._next_tries is None:  # they are found when children of several attempts of the run are grouped
            self._next_tries = next_tries(records)
        return self._next_tries

    def _pop(self, position: int | None) -> HistoryNode | None:
        if position is None:
            return None
        if self._children is not None:
            found = self._children[position]
        else:
            found = (self._made or {}).get(position) or self._make_child(position)
        found.is_taken = True
        return found

    def link_child(self, record: CallRecord, found: HistoryNode | None, forms: CanonicalForms) -> HistoryNode | None:
        """Return what is on record below a call that may not be replayed.

        Args:
            record: The new call.
            found: Its match; None if it has none.
            forms: The canonical forms of its node's arguments.

        Returns:
            The match, with the calls of a recorded call that the new one can be linked with. Without a match, the
            calls of all such calls, which the new calls that are linked with them share. None if there is nothing.
        """
        key = match_key(record)
        if key is not None and self._index().have_no_links(key):
            return found
        if self._links is None:
            positions = range(len(self.child_records()))
            self._links = Links([self.child(position) for position in positions if not self._is_child_taken(position)])
        groups = self._links.find(record, forms)
        if found is None:
            return self._pool(list(groups))
        alternative = next(filter(None, (group.next_free() for group in groups)), None)
        if alternative is None:
            return found
        alternative.is_linked = True
        node = HistoryNode([*alternative._attempts, *found._attempts])
        node.attempt, node.record = found.attempt, found.record
        return node

    def link_only_child(self, record: CallRecord) -> HistoryNode | None:
        """Return the only recorded child, if it calls the node of ``record`` and has not completed; None otherwise.

        That is the entry point of a flow, which is given other arguments on purpose: what it calls may be the same.
        """
        children = self.child_records()
        if len(children) != 1 or base_of(children[0]) != base_of(record) or self._is_child_taken(0):
            return None
        only = self.child(0)
        if only.is_linked or only.record is None or only.record.status is Status.COMPLETED:
            return None
        only.is_linked = True
        return only

    def _pool(self, groups: Sequence[Group[HistoryNode]]) -> HistoryNode | None:
        """Return one node with the children of all calls in some groups; the same one each time. None without any."""
        key = tuple(map(id, groups))
        if self._pools is None:
            self._pools = {}
        if key not in self._pools:
            nodes = [node for group in groups for node in group.nodes if not node.is_taken]
            for node in nodes:
                node.is_linked = True
            self._pools[key] = nodes[0] if len(nodes) == 1 else _pool_of(nodes) if nodes else None
        return self._pools[key]

    def prepare(self) -> None:
        """Make what searching the children takes, which takes long if there are very many."""
        self._index()

    def _index(self) -> Siblings:
        if self._siblings is None:
            self._siblings = Siblings(self.child_records(), self.next_tries())
        return self._siblings

    def _group_children(self) -> list[HistoryNode]:
        groups: dict[CallIdentity, list[tuple[CallTree, CallRecord | None]]] = {}
        for attempt, record in self._attempts:
            for identity, child in identified(attempt.children(record)):
                groups.setdefault(identity, []).append((attempt, child))
        nodes = {identity: HistoryNode(pairs) for identity, pairs in groups.items()}
        found = sorted(nodes.values(), key=_position)
        if any(retry for _, _, retry in nodes):
            positions = {id(node): position for position, node in enumerate(found)}
            self._next_tries = {
                positions[id(nodes[key, ordinal, retry - 1])]: positions[id(node)]
                for (key, ordinal, retry), node in nodes.items()
                if retry
            }
        else:
            self._next_tries = {}
        return found


def joined(earlier: HistoryNode, node: HistoryNode) -> HistoryNode:
    """Return a node like ``node`` that also has the calls below ``earlier``, another try of the same call."""
    both = HistoryNode([*earlier._attempts, *node._attempts])
    both.attempt, both.record, both.is_handled = node.attempt, node.record, node.is_handled
    return both


def _pool_of(nodes: Sequence[HistoryNode]) -> HistoryNode:
    pool = HistoryNode([pair for node in nodes for pair in node._attempts])
    pool._children = sorted((child for node in nodes for child in node.children()), key=_position)
    return pool


def _latest_handled(attempts: Sequence[tuple[CallTree, CallRecord | None]]) -> tuple[CallTree, CallRecord] | None:
    """Return the latest record of a failure, if it was handled. What was killed right after one does not count."""
    for attempt, record in reversed(attempts):
        if record is not None and record.status is Status.FAILED:
            is_left = _was_left(attempt, record)
            if is_left is not None:
                return (attempt, record) if is_left else None
    return None


def _latest_failed(attempts: Sequence[tuple[CallTree, CallRecord | None]]) -> tuple[CallTree, CallRecord] | None:
    """Return the latest record of a failure after which the call was only begun again, if it is so."""
    for attempt, record in reversed(attempts):
        if record is not None and record.status is Status.FAILED:
            return attempt, record
        if record is None or record.status is not Status.OPEN:
            return None
    return None


def _ended_alike(one: CallRecord, other: CallRecord) -> bool:
    return one is other or (one.status is other.status and one.output is not None and one.output == other.output)


def _position(node: HistoryNode) -> int:
    return 0 if node.record is None else node.record.index


def _was_left(attempt: CallTree, ended: CallRecord) -> bool | None:
    """Return whether the code that made a call had gone on after that; None if it may have been about to.

    It has if it completed, or if it made another call, and its exception does not come from that of the call. What
    other tasks did at the same time says nothing: they may not have known of the failure yet.

    Args:
        attempt: All calls of the attempt that made the call.
        ended: The call. It has failed, or opened a session.
    """
    if is_retried(ended):  # by its policy, which goes on with the next one
        return True
    caller = attempt.caller(ended)
    if attempt.is_left if caller is None else caller.status is Status.COMPLETED:
        return True
    if ended.was_left is not None:
        return ended.was_left
    if caller is not None and ended.index in (caller.raised_by or ()):
        return False
    return True if attempt.has_gone_on(ended) else None


def is_session(record: CallRecord) -> bool:
    """Return whether a record is that of a session which a call had opened."""
    return record.node is not None and record.node.startswith("railtracks.session")


def build_history(*attempts: Sequence[CallRecord], is_left: bool = False) -> HistoryNode:
    """Build the tree of the records of some attempts, oldest first, and return its root.

    Args:
        *attempts: The records.
        is_left: Whether the code that opened the session had gone on after it.
    """
    return HistoryNode([(CallTree(records, is_left), None) for records in attempts])
