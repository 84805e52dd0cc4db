"""The tree of what runs in a session, in a given number of lines."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import attrs

from railtracks._progress._tracker import CallTracker, Group
from railtracks._wording import counted
from railtracks.state._records import CallRecord, Status
from railtracks.state._views._counts import Ends
from railtracks.state._views._folds import FOLD_FROM, ends_in_words
from railtracks.state._views._tree import Line

SHOWN_OPEN = 3
"""The number of open calls of a fold that are shown."""
SHOWN_ENDED = 3
"""The number of nodes whose calls have all ended that have a line of their own, below one caller; the latest."""
_MAX_GROUPS = 200
"""The number of nodes below one caller that are read."""
_RUNNING = "running"


@attrs.define
class _Item:
    text: str
    status: Status | None
    below: list[_Item] = attrs.field(factory=list)


def live_tree(
    tracker: CallTracker,
    describe: Callable[[CallRecord], str],
    shown_label: Callable[[str], str],
    height: int,
) -> list[Line]:
    """Return the calls that run, each below its caller, and how many calls of each node have ended there.

    The calls of a node that one call made are one line, with the first open ones below it, unless they are few and none
    has ended. Of what does not fit, the deepest calls are left out first. The last line says how many open calls are in
    no other.

    Args:
        tracker: The calls.
        describe: Returns the text of an open call.
        shown_label: Returns the text of a node's name.
        height: The number of lines, at most.
    """
    if height < 1:
        return []
    items, left = _selected(tracker, describe, shown_label, height)
    if left:  # the line that says so needs its place
        items, left = _selected(tracker, describe, shown_label, height - 1)
        items.append(_Item(f"… and {left} more {_RUNNING}", None))
    return list(_lines(items, ""))


def _selected(
    tracker: CallTracker, describe: Callable[[CallRecord], str], shown_label: Callable[[str], str], height: int
) -> tuple[list[_Item], int]:
    """Return what is shown, level by level until it is full, and how many open calls are not."""
    top: list[_Item] = []
    pending: deque[tuple[list[_Item], int | None]] = deque([(top, None)])
    free, shown = height, 0

    def call_item(record: CallRecord, among: list[_Item]) -> None:
        nonlocal free
        free -= 1
        among.append(item := _Item(describe(record), Status.OPEN))
        pending.append((item.below, record.index))

    while pending and free > 0:
        among, caller = pending.popleft()
        earlier, groups = _split(list(islice(tracker.groups(caller), _MAX_GROUPS)))
        if earlier:
            free -= 1
            among.append(_Item(_of_several(earlier), None))
        for group in groups:
            if free <= 0:
                break
            if len(group.open) == group.total < FOLD_FROM:
                for record in islice(group.open.values(), free):
                    call_item(record, among)
                    shown += 1
                continue
            free -= 1
            among.append(fold := _Item(_of_one(group, shown_label), None))
            shown += len(group.open)
            for record in islice(group.open.values(), max(0, min(SHOWN_OPEN, free))):
                call_item(record, fold.below)
    return top, max(0, len(tracker.open) - shown)


def _split(groups: list[Group]) -> tuple[list[Group], list[Group]]:
    """Return the groups that share a line, as they have ended some time ago, and the others."""
    ended = [group for group in groups if not group.open]
    earlier = ended[: max(0, len(ended) - SHOWN_ENDED)]
    if len(earlier) < 2:
        return [], groups
    together = set(map(id, earlier))
    return earlier, [group for group in groups if id(group) not in together]


def _of_several(groups: Sequence[Group]) -> str:
    counts: Counter[Status] = Counter()
    for group in groups:
        counts.update(group.ends.by_status)
    ends = Ends(counts, sum(group.retried for group in groups))
    calls = counted(sum(group.total for group in groups), "call")
    return f"{calls} of {len(groups)} nodes: {', '.join(ends_in_words(ends, _RUNNING))}"


def _of_one(group: Group, shown_label: Callable[[str], str]) -> str:
    return f"{shown_label(group.name)} × {group.total}: {', '.join(ends_in_words(group.ends, _RUNNING))}"


def _lines(items: Sequence[_Item], indent: str) -> Iterator[Line]:
    for item in items:
        branch, trunk = ("└─ ", "   ") if item is items[-1] else ("├─ ", "│  ")
        yield Line(indent + branch, item.text, item.status)
        yield from _lines(item.below, indent + trunk)
