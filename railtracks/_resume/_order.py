"""The order of replay: results come in the order in which they came before.

A flow may depend on which of several calls in flight together ended first. So a call that is replayed waits until all
calls that are replayed and had ended before it are replayed too. It also waits until the other calls that had begun
before it ended, which run again or wait to be cancelled again, are made: what their callers do before that comes before
it, too; and it may be what cancels them, so that they would not be made, and a later one that is equal would be taken
for them. The flow may have changed, or take another way, so that some calls are not made any more: they are waited for
only for a while.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from heapq import heappop, heappush

import anyio

from railtracks._resume._history import HistoryNode
from railtracks._resume._links import base_of
from railtracks._resume._matching import was_given_up
from railtracks._resume._retries import Retried, Retries, is_of_batch
from railtracks._resume._siblings import match_key
from railtracks.state import CallRecord, Status

PATIENCE = 0.05
"""Seconds without a call after which a call is not waited for any more that had ended before another one began, or
only has to begin."""
LONG_PATIENCE = 1.0
"""The same for a call that was in flight together with the other one, in addition to how much later it had begun."""
MAX_DELAY = 10.0
"""The greatest number of seconds by which it may have begun later."""
INSTANT = frozenset({"railtracks.now", "railtracks.random", "railtracks.session", "railtracks.uuid4"})
"""The keys, up to a colon or version, of nodes whose calls end where they begin, so that nothing can come between."""


class ReplayOrder:
    """The recorded calls that are expected to be replayed, or to begin again, in the order in which they had done so.

    There may be very many, so nothing is made for each of them: only for those that wait.

    Args:
        root: The root of the history.
        warn: Called with a recorded call that is replayed although one that had ended before it, while it was in
            flight, was not made again.
    """

    def __init__(self, root: HistoryNode, warn: Callable[[CallRecord, CallRecord], None]) -> None:
        self._warn = warn
        count = len(root.attempt)
        self._is_known = bytearray(count)  # by index: whether a call is, or was, expected
        self._is_beginning = bytearray(count)  # whether it only has to begin, as it is not replayed
        self._is_settled = bytearray(count)  # whether it was replayed, or has begun, or is not waited for any more
        self._turns: dict[int, anyio.Event] = {}  # by index, for calls that wait: set when something has changed
        self._useless_waits = {False: 0, True: 0}  # by whether they were long
        self._waiting = _Queue(self._is_settled, self._step_of)
        self._settled = 0
        self._retries = Retries(root.attempt)
        # By the index of a call that was not made yet and may have handled a failure that is tried again: one that was
        # replayed before it.
        self._passed_by: dict[int, CallRecord] = {}
        self._pending = _Queue(self._is_settled, self._step_of, self._expect(root))

    def _expect(self, caller: HistoryNode) -> Iterator[CallRecord]:
        """Yield those calls below a call that runs again that are to be made again, and were not expected yet."""
        waiting = [caller]
        while waiting:
            node = waiting.pop()
            node.prepare()  # now: mostly a thread comes here, before the first call
            for position, record in enumerate(node.child_records()):
                if match_key(record) is None or not (
                    record.status is Status.COMPLETED or node.child(position).is_handled
                ):
                    if match_key(record) is not None and not self._is_known[record.index]:
                        self._is_known[record.index] = self._is_beginning[record.index] = True
                        yield record
                    child = node.child(position)
                    if not was_given_up(child):  # it does not run
                        waiting.append(child)
                elif not self._is_known[record.index] and not _is_instant(record):
                    self._is_known[record.index] = True
                    yield record

    def expect_below(self, node: HistoryNode) -> None:
        """Note that a recorded call, or several as one, run again although they could have been replayed."""
        expected = [record for record in node.records if self._is_expected(record)]
        if not expected:
            return
        for each in self._expect(node):
            self._pending.push(each)
        for each in expected:
            self._settle(each)

    def release(self, records: Iterable[CallRecord]) -> None:
        """Do not wait any more for recorded calls: they are made again in a worker, if they are."""
        for record in records:
            if self._is_expected(record):
                self._settle(record)

    def on_made(self, record: CallRecord, is_retry: bool) -> None:
        """Note that a recorded call is made again.

        Args:
            record: The recorded call.
            is_retry: Whether it had failed, has ended what called it, and is tried again. When that has ended, call
                :meth:`on_retried`.
        """
        if self._is_beginning[record.index]:
            self._settle(record)
        if (other := self._passed_by.pop(record.index, None)) is not None:
            self._warn_if_together(other, record)
        if is_retry:
            self._retries.add(record)
        self._expect_again(self._retries.note_made(record))

    def on_retried(self, record: CallRecord, has_completed: bool) -> None:
        """Note that the new try of a recorded call that had failed has ended. What handled the failure may not come."""
        retried = self._retries.remove(record)
        for each in () if retried is None else retried.held:
            self._passed_by.pop(each.index, None)
            if has_completed and not is_of_batch(record):
                self._is_settled[each.index] = True
        self._expect_again(retried)

    def _expect_again(self, retried: Retried | None) -> None:
        """Expect again what was held back. What still has to be comes here again when something would wait for it."""
        if retried is None:
            return
        held, retried.held = retried.held, []
        for each in held:
            self._pending.push(each)
        self._notify()

    def _hold(self, first: CallRecord) -> bool:
        """Hold back the first call if it, or one above it, came after a failure that is tried again."""
        retried = self._retries.before(first)
        if retried is None:
            return False
        self._pending.pop()
        retried.held.append(first)
        return True

    def _step_of(self, record: CallRecord) -> int:
        """Return the step at which a call had ended, or had begun if it only has to begin."""
        step = record.started_step if self._is_beginning[record.index] else record.ended_step
        assert step is not None
        return step

    def _is_expected(self, record: CallRecord) -> bool:
        return bool(self._is_known[record.index]) and not self._is_settled[record.index]

    def must_wait(self, record: CallRecord) -> bool:
        """Return whether a recorded call may not be replayed yet."""
        return bool(self._is_known[record.index]) and self._is_late(record)

    def settle(self, record: CallRecord) -> None:
        """Note that a recorded call is replayed."""
        if self._is_known[record.index]:
            self._settle(record)

    async def wait(self, record: CallRecord, others: Callable[[], Awaitable[None]]) -> None:
        """Wait until a recorded call may be replayed.

        Cancellation: the wait ends, and no other call waits for this one any more.

        Args:
            record: The recorded call.
            others: Waits for what else has to come before it.
        """
        if not self._is_known[record.index]:
            await others()
            return
        self._turns[record.index] = anyio.Event()
        self._waiting.push(record)
        try:
            await self._wait_for_calls(record)
            await others()
            await self._wait_for_calls(record)  # there may be new ones
        except BaseException:
            self._settle(record)
            raise
        finally:
            self._turns.pop(record.index)

    async def _wait_for_calls(self, record: CallRecord) -> None:
        while self._is_late(record):
            settled, turn = self._settled, self._turns[record.index]
            with anyio.move_on_after(self._patience(record)):
                await turn.wait()
            if turn.is_set():
                self._turns[record.index] = anyio.Event()
            elif settled == self._settled and self._waiting.first() is record:
                self._give_up(record)

    def _is_late(self, record: CallRecord) -> bool:
        end = self._step_of(record)
        while (first := self._pending.first()) is not None and self._step_of(first) < end:
            if self._is_settled[record.index]:
                return False
            if self._is_left_out_before(first, record):
                self._is_settled[first.index] = True
            elif not self._retries or first.index in self._turns or not self._hold(first):
                return True
        return False

    def _is_left_out_before(self, first: CallRecord, other: CallRecord) -> bool:
        """Return whether a call, if it was not made yet, comes no more where it was: its task made the other one.

        A call that waits is made already.
        """
        return (
            first.index not in self._turns
            and self._step_of(first) < other.started_step
            and (first.parent, first.branch) == (other.parent, other.branch)
        )

    def _patience(self, record: CallRecord) -> float:
        """Return for how many seconds a call waits for the one that comes first.

        Half as long after each wait that was of no use, so that a flow which was changed does not wait for ever.
        """
        if self._waiting.first() is not record:
            return math.inf
        first = self._pending.first()
        assert first is not None
        is_long = self._step_of(first) > record.started_step and not self._is_beginning[first.index]
        delay = min(max(first.started - record.started, 0.0), MAX_DELAY)
        return (LONG_PATIENCE + delay if is_long else PATIENCE) * 0.5 ** self._useless_waits[is_long]

    def _give_up(self, record: CallRecord) -> None:
        """Do not wait any more for calls that come before ``record`` and were not made."""
        first = self._pending.first()
        if first is not None and self._is_beginning[first.index]:
            self._useless_waits[False] += 1
            self._settle(first)
            return
        if first is not None:
            self._useless_waits[self._step_of(first) > record.started_step] += 1
        before: list[CallRecord] = []
        while (first := self._pending.first()) is not None and self._step_of(first) < self._step_of(record):
            self._pending.pop()
            if first.index in self._turns:
                before.append(first)
                continue
            if self._retries and (retried := self._retries.perhaps_before(first)) is not None:
                retried.held.append(first)
                self._passed_by[first.index] = record
                continue
            self._is_settled[first.index] = True
            self._warn_if_together(record, first)
        for each in before:
            self._pending.push(each)
        self._notify()

    def _warn_if_together(self, record: CallRecord, missing: CallRecord) -> None:
        if self._step_of(missing) > record.started_step and not self._is_beginning[missing.index]:
            self._warn(record, missing)

    def _settle(self, record: CallRecord) -> None:
        self._is_settled[record.index] = True
        self._settled += 1
        self._notify()

    def _notify(self) -> None:
        if not self._turns:
            return
        for first in (self._pending.first(), self._waiting.first()):
            turn = None if first is None else self._turns.get(first.index)
            if turn is not None:
                turn.set()


def _is_instant(record: CallRecord) -> bool:
    return base_of(record)[0].partition(":")[0] in INSTANT


class _Queue:
    """Calls in the order of their steps, without those that are settled.

    Those that are known at the beginning are sorted once. A heap would need an object for each of them.

    Args:
        is_settled: By the index of a call, whether it is settled.
        step_of: Returns the step of a call.
        records: The calls that are known at the beginning.
    """

    __slots__ = ("_added", "_is_settled", "_sorted", "_step_of")

    def __init__(
        self, is_settled: bytearray, step_of: Callable[[CallRecord], int], records: Iterable[CallRecord] = ()
    ) -> None:
        self._is_settled = is_settled
        self._step_of = step_of
        self._sorted = sorted(records, key=step_of, reverse=True)  # the first is the last one, and so taken off cheaply
        self._added: list[tuple[int, int, CallRecord]] = []  # a heap

    def push(self, record: CallRecord) -> None:
        heappush(self._added, (self._step_of(record), record.index, record))

    def first(self) -> CallRecord | None:
        """Return the first call that is not settled."""
        known, added, is_settled = self._sorted, self._added, self._is_settled
        while known and is_settled[known[-1].index]:
            known.pop()
        while added and is_settled[added[0][1]]:
            heappop(added)
        if not added:
            return known[-1] if known else None
        return known[-1] if known and self._step_of(known[-1]) < added[0][0] else added[0][2]

    def pop(self) -> None:
        """Remove the call that ``first`` has just returned."""
        if self._sorted and self._sorted[-1] is self.first():
            self._sorted.pop()
        else:
            heappop(self._added)
