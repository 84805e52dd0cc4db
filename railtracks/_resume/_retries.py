"""Failed calls that are tried again, and the calls that had come after their failures.

What had handled a failure is not made again as long as the call is tried again, and not at all if it completes. So what
is replayed meanwhile does not wait for it.
"""

from __future__ import annotations

from railtracks.state import CallRecord
from railtracks.state._call_tree import CallTree

_Sequence = tuple[int | None, tuple[int, ...]]
"""What calls have in common that one task, or one batch, has made: the index of the caller, and the task or batch."""


class Retried:
    """The failed calls of one task or batch that run again.

    Attributes:
        ends: The steps at which they had ended, by the index of the call.
        held: Calls that had begun later and are not made yet, which nothing waits for now.
    """

    __slots__ = ("ends", "held")

    def __init__(self) -> None:
        self.ends: dict[int, int] = {}
        self.held: list[CallRecord] = []


class Retries:
    """All failed calls that run again.

    Args:
        tree: The recorded calls.
    """

    def __init__(self, tree: CallTree) -> None:
        self._tree = tree
        self._running: dict[_Sequence, Retried] = {}
        self._made: set[int] = set()  # the indices of the recorded calls of these sequences that were made again

    def __bool__(self) -> bool:
        return bool(self._running)

    def add(self, record: CallRecord) -> None:
        """Note that a recorded call, which had failed and ended what called it, is tried again."""
        assert record.ended_step is not None
        self._running.setdefault(_sequence_of(record), Retried()).ends[record.index] = record.ended_step

    def note_made(self, record: CallRecord) -> Retried | None:
        """Note that a recorded call is made again. Return those of its task or batch that are tried again."""
        if not self._running:
            return None
        retried = self._running.get(_sequence_of(record))
        if retried is not None:
            self._made.add(record.index)
        return retried

    def remove(self, record: CallRecord) -> Retried | None:
        """Note that a call that was tried again has ended. Return those of its task or batch, as they were before."""
        sequence = _sequence_of(record)
        retried = self._running.get(sequence)
        if retried is None:
            return None
        retried.ends.pop(record.index, None)
        if not retried.ends:
            del self._running[sequence]
        if not self._running:
            self._made.clear()
        return retried

    def before(self, record: CallRecord) -> Retried | None:
        """Return failed calls that run again, and after which their task or batch had made a call, or one above it."""
        each: CallRecord | None = record
        while each is not None:
            retried = None if each.index in self._made else self._running.get(_sequence_of(each))
            if retried is not None and each.started_step > min(retried.ends.values()):
                return retried
            each = self._tree.caller(each)
        return None

    def perhaps_before(self, record: CallRecord) -> Retried | None:
        """Return failed calls that run again, and after which a call, or one above it, was made in another task.

        That task may have handled the failure, as far as is known.
        """
        each: CallRecord | None = record
        while each is not None and each.index not in self._made:
            for (caller, branch), retried in self._running.items():
                if caller == each.parent and self._tree.may_follow(each, branch, min(retried.ends.values())):
                    return retried
            each = self._tree.caller(each)
        return None


def _sequence_of(record: CallRecord) -> _Sequence:
    branch = record.branch or ()
    return record.parent, branch[:-1] if is_of_batch(record) else branch


def is_of_batch(record: CallRecord) -> bool:
    """Return whether a call is one of a batch."""
    branch = record.branch or ()
    return len(branch) > 1 and branch[-2] < 0
