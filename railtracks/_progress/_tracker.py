"""What runs in a session, counted from its records without reading them again and again.

Nothing is added to the calls for it. Another thread reads the records that have come since the last time, and which of
the open calls have ended. So a reading costs what has happened since, plus what is open, whatever the number of
records. The event loop goes on meanwhile: the counts are those of slightly different moments, and right as soon as it
rests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from railtracks.state._records import CallRecord, Status, is_retried
from railtracks.state._transitions import RTState
from railtracks.state._views._counts import Ends

CHUNK = 2_000
"""The number of records that are read between two checks whether to go on."""
_OPEN, _COMPLETED = Status.OPEN, Status.COMPLETED


class Group:
    """The calls of one node that one call made.

    Attributes:
        name: The name of the node.
        total: The number of them.
        open: Those that are open, by index, in the order of creation.
        completed: How many have completed.
        others: How many have ended otherwise, and were not tried again.
        retried: How many have failed and were tried again.
    """

    __slots__ = ("completed", "name", "open", "others", "retried", "total")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.total: int = 0
        self.open: dict[int, CallRecord] = {}
        self.completed: int = 0
        self.others: dict[Status, int] = {}
        self.retried: int = 0

    def count_end(self, record: CallRecord) -> None:
        """Count a call that has ended."""
        status = record.status
        if status is _COMPLETED:
            self.completed += 1
        elif is_retried(record):
            self.retried += 1
        else:
            self.others[status] = self.others.get(status, 0) + 1

    @property
    def ends(self) -> Ends:
        """How many calls have ended in each way, and how many are open."""
        return Ends({_OPEN: len(self.open), _COMPLETED: self.completed, **self.others}, self.retried)


class CallTracker:
    """The open calls of a session, and what the calls that are open have made so far. For one thread.

    A call that outlives the call that made it, in a task of its own, is among the open ones and in no group. Calls
    below a replayed one are left out: they have ended.

    Args:
        state: The records.

    Attributes:
        open: The open calls, by index, in the order of creation.
    """

    def __init__(self, state: RTState) -> None:
        self._state = state
        self._seen = 0  # the number of records that were read
        self._new_from = 0  # the first record that the latest reading has found
        self._groups: dict[int | None, dict[str, Group]] = {None: {}}  # by the index of the caller
        self.open: dict[int, CallRecord] = {}

    def groups(self, caller: int | None) -> Collection[Group]:
        """Return the calls that an open call made, by node, in the order in which the first of each was made.

        Args:
            caller: The index of that call; None for top-level calls.
        """
        return self._groups.get(caller, {}).values()

    def is_new(self, record: CallRecord) -> bool:
        """Return whether a call may have been created at this moment, so that its secrets are not known yet."""
        return record.index >= self._new_from and self._state.step <= record.started_step + 1

    def update(self, must_stop: Callable[[], bool] = bool) -> None:
        """Read what has happened since the last time.

        Args:
            must_stop: Asked now and then; if it returns True, the rest is left for the next time.
        """
        entries = self._state.entries
        end = len(entries)
        self._new_from = self._seen
        while self._seen < end and not must_stop():
            chunk = entries[self._seen : min(end, self._seen + CHUNK)]
            self._add(chunk)
            self._seen += len(chunk)
        if must_stop():
            return
        ended = [record for record in self.open.values() if record.status is not _OPEN]
        for start in range(0, len(ended), CHUNK):
            if start and must_stop():
                return  # the rest is still among the open ones
            self._end(ended[start : start + CHUNK])

    def _add(self, records: list[CallRecord | None]) -> None:
        all_groups, all_open = self._groups, self.open
        latest: int | None = None
        groups: dict[str, Group] | None = all_groups[None]
        for record in records:
            if record is None:  # it is below a replayed call
                continue
            if record.parent != latest:  # most calls have the same caller as the one before
                latest = record.parent
                groups = all_groups.get(latest)
                if groups is None and latest in all_open:
                    groups = all_groups[latest] = {}
            status = record.status
            if status is _OPEN:
                all_open[record.index] = record
            if groups is None:  # the caller has ended
                continue
            group = groups.get(record.name)
            if group is None:
                group = groups[record.name] = Group(record.name)
            group.total += 1
            if status is _OPEN:
                group.open[record.index] = record
            elif status is _COMPLETED:
                group.completed += 1
            else:
                group.count_end(record)

    def _end(self, records: list[CallRecord]) -> None:
        for record in records:
            del self.open[record.index]
            self._groups.pop(record.index, None)
            group = self._groups.get(record.parent, {}).get(record.name)
            if group is not None and group.open.pop(record.index, None) is not None:
                group.count_end(record)
