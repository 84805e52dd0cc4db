"""The order of changes of the context, in a run that is resumed.

Changes are numbered throughout all attempts of a run. A change that is made again keeps its number, so that of changes
of one key the last one counts again. Calls that run again make theirs when they come to them, but those of a replayed
call are made at once. So such a call waits for the earlier changes of the same keys that calls have still to make.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from itertools import count

import anyio

from railtracks._concurrency._turns import Turn
from railtracks._resume._order import LONG_PATIENCE
from railtracks.state import CallRecord
from railtracks.state._records import Change


class ContextOrder:
    """The numbers of changes, and which of the recorded ones have still to be made again.

    Args:
        history: The records of the resumed run.
    """

    def __init__(self, history: Iterable[CallRecord]) -> None:
        self._numbers = count(1 + max((c.order for record in history for c in record.changes or ()), default=-1))
        self._applied: dict[str, int] = {}  # by key of the context: the number of the change last made again
        self._newest: dict[str, int] = {}  # by key of the context: the number of the latest change that is new
        # By the index of a call that runs again: the recorded changes of its own that it has not made again. They come
        # between the calls that it makes. What a call without any changes in another attempt is another change.
        self._not_made: dict[int, list[Change]] = {}
        self._pending: set[int] = set()  # their numbers
        self._expected: dict[str, list[int]] = {}  # by key of the context, the same numbers as a heap; some are past
        self._waiting: set[Turn] = set()
        self._useless_waits = 0

    def expect(self, record: CallRecord, changes: Sequence[Change]) -> None:
        """Note that a call runs again, and so has to make its recorded changes again."""
        self._not_made[record.index] = [*changes]
        self._pending.update(change.order for change in changes)
        for change in changes:
            heappush(self._expected.setdefault(change.key, []), change.order)

    def on_ended(self, record: CallRecord) -> None:
        """Note that a call has ended. The changes that it has not made again do not come any more."""
        if left := self._not_made.pop(record.index, None):
            self._pending.difference_update(change.order for change in left)
            self._wake()

    def number_of(self, record: CallRecord, key: str) -> int:
        """Return the number of a change that a call makes: the recorded one, if it makes that again. Thread-safe."""
        changes = self._not_made.get(record.index, [])
        known = next((change for change in changes if change.key == key), None)
        if known is None:
            self._newest[key] = next(self._numbers)
            return self._newest[key]
        changes.remove(known)
        self._pending.discard(known.order)
        self._applied[key] = max(known.order, self._applied.get(key, -1))
        self._wake()
        return known.order

    def numbers_of(self, changes: Sequence[Change]) -> list[int]:
        """Return the numbers of the changes of a replayed call.

        They keep those that they had, unless this session has changed the same key anew before: the flow has taken
        another way than in the attempt in which the call had run.
        """
        return [self._number_again(change) for change in changes]

    def _number_again(self, change: Change) -> int:
        if self.is_past(change) or change.order > self._newest.get(change.key, -1):
            return change.order
        self._newest[change.key] = next(self._numbers)
        return self._newest[change.key]

    def is_past(self, change: Change) -> bool:
        """Return whether the key was changed later than by a recorded change, and that was made again already."""
        return change.order < self._applied.get(change.key, -1)

    def apply(self, change: Change) -> None:
        """Note that a recorded change is made again."""
        self._applied[change.key] = change.order

    def must_wait(self, changes: Iterable[Change]) -> bool:
        """Return whether calls that run again have still to make changes that come before these."""
        return any(self._first(change.key) < change.order for change in changes)

    def _first(self, key: str) -> float:
        """Return the number of the first change of a key that has still to be made again; infinity if there is none."""
        expected = self._expected.get(key)
        while expected and expected[0] not in self._pending:
            heappop(expected)
        return expected[0] if expected else math.inf

    async def wait(self, changes: Sequence[Change], delay: float) -> None:
        """Wait until no change has still to be made that comes before these; or for a while, as the flow may differ.

        Cancellation: the wait ends.

        Args:
            changes: The recorded changes of a call.
            delay: How many seconds longer than others it waits for the next change.
        """
        while self.must_wait(changes):
            turn = Turn()
            self._waiting.add(turn)
            try:
                with anyio.move_on_after((LONG_PATIENCE + delay) * 0.5**self._useless_waits):
                    await turn.event.wait()
            finally:
                self._waiting.discard(turn)
            if not turn.event.is_set():
                self._useless_waits += 1
                for change in changes:
                    self._expected.pop(change.key, None)

    def _wake(self) -> None:
        for turn in [*self._waiting]:
            turn.wake()
