"""The calls below a replayed call: copies of recorded ones, made when they are asked for.

A replayed call may have very many calls below it, and making their records would hold up the event loop. So they only
take their places among the records of the session, until someone reads them: mostly the thread that saves them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from railtracks.exceptions import StateError
from railtracks.state._call_tree import Descendants, changes_of
from railtracks.state._garbage import collections_paused
from railtracks.state._ordering import in_order
from railtracks.state._records import REUSED, CallRecord, Change, copy_record


class ReplayedCalls:
    """The calls below one replayed call.

    Args:
        record: The replayed call.
        known: The recorded call that it corresponds to. It has ended.
        below: The descendants of ``known``.
        first: The index of the first copy.
        step: The step of the first copy.
        orders: The new positions of the context changes of ``known`` and ``below``, in the order of ``changes_of``.

    Raises:
        StateError: There are more or fewer context changes than ``orders``.
    """

    def __init__(
        self,
        record: CallRecord,
        known: CallRecord,
        below: Descendants,
        first: int,
        step: int,
        orders: Sequence[int],
    ) -> None:
        changes = below.changes()
        if len(changes) != len(orders):
            raise StateError(f"expected {len(changes)} orders of context changes, not {len(orders)}")
        self.record: CallRecord = record
        self.known: CallRecord = known
        self.below: Descendants = below
        self.first: int = first
        self._step = step
        self._orders = orders
        self._changes = changes
        self._guard = threading.Lock()
        self._copies: list[CallRecord] | None = None

    @property
    def own_changes(self) -> list[Change]:
        """The context changes of the replayed call itself."""
        own = set(map(id, self.known.changes or ()))
        pairs = zip(self._changes, self._orders, strict=True)
        return [change._replace(order=order) for change, order in pairs if id(change) in own]

    @property
    def copies(self) -> list[CallRecord]:
        """The records of the calls below. They are made once. Thread-safe."""
        with self._guard:
            if self._copies is None:
                with collections_paused():
                    self._copies = self._make_copies()
            return self._copies

    def new_indices(self, known: Sequence[int]) -> tuple[int, ...]:
        """Return the indices of the copies of some of the calls below."""
        places = {each.index: place for place, each in enumerate(self.below, self.first)}
        return tuple(places[index] for index in known)

    def _make_copies(self) -> list[CallRecord]:
        new = {self.known.index: self.record}
        copies: list[CallRecord] = []
        steps: list[int] = []
        events: list[int] = []  # the place of the copy for its creation; the complement of it for its end
        for place, each in enumerate(self.below):
            caller = new[each.parent]  # type: ignore[index]  # all of them have one
            copy = copy_record(
                each, index=self.first + place, parent=caller.index, run=caller.run,
                ended_step=None, changes=None, reuse=REUSED,
            )  # fmt: skip
            new[each.index] = copy
            copies.append(copy)
            steps.append(each.started_step)
            events.append(place)
            if each.ended_step is not None:
                steps.append(each.ended_step)
                events.append(~place)
        for copy in copies:
            if copy.raised_by is not None:
                copy.raised_by = tuple(new[index].index for index in copy.raised_by)
        for step, event in enumerate(in_order(steps, events), self._step):
            if event < 0:
                copies[~event].ended_step = step
            else:
                copies[event].started_step = step
        if self._changes:
            for (position, change), order in zip(changes_of(self.known, self.below), self._orders, strict=True):
                if position:
                    target = copies[position - 1]
                    target.changes = [*(target.changes or ()), change._replace(order=order)]
        return copies


class Snapshot:
    """The records of a session at one moment, in which those below replayed calls may not be made yet.

    Args:
        entries: The records; None in place of each that is not made yet.
        replayed: What makes those.
    """

    def __init__(self, entries: list[CallRecord | None], replayed: Sequence[ReplayedCalls]) -> None:
        self._entries = entries
        self._replayed = replayed

    def __call__(self) -> tuple[CallRecord, ...]:
        """Return all records."""
        entries = [*self._entries]
        for each in self._replayed:
            entries[each.first : each.first + len(each.below)] = each.copies
        return tuple(entries)  # type: ignore[arg-type]  # all are made now
