"""The past of a session that resumes another: which recorded call is a call that is made now?

A call is identified by its place in the tree of calls: the key of its parent, its node, its arguments as they are
saved, and its ordinal among its siblings that are equal in these. Where it came among others does not count, so
concurrent calls are found in whatever order they are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import attrs

from railtracks.state._machine import Calls
from railtracks.state._records import CallRecord, Status
from railtracks.state._text import form_in, is_lost

Key = tuple[str, str]


class Place:
    """A place in the tree of recorded calls.

    Args:
        versions: What each session recorded there, oldest first. A session that was itself resumed may not have
            come to all that an earlier one had completed, so each place looks at all of them.
    """

    __slots__ = ("_below", "_versions", "generation", "record")

    def __init__(self, versions: Sequence[tuple[Calls, CallRecord | None]]) -> None:
        self._versions = versions
        self._below: dict[Key, list[Place]] | None = None
        completed = [pair for pair in versions if pair[1] is not None and pair[1].status is Status.COMPLETED]
        generation, record = (completed or versions)[-1]
        self.generation: Calls = generation
        self.record: CallRecord | None = record

    def take(self, key: Key) -> Place | None:
        """The next place of this key below this one; each is given once."""
        if self._below is None:
            self._below = {key: places[::-1] for key, places in self._grouped().items()}
        places = self._below.get(key)
        return places.pop() if places else None

    def _grouped(self) -> dict[Key, list[Place]]:
        versions: dict[Key, list[list[tuple[Calls, CallRecord]]]] = {}
        for generation, record in self._versions:
            ordinals: dict[Key, int] = {}
            for child in generation.below.get(None if record is None else record.index, ()):
                key = key_of(child)
                if key is not None:
                    ordinal = ordinals[key] = ordinals.get(key, -1) + 1
                    found = versions.setdefault(key, [])
                    if ordinal == len(found):
                        found.append([])
                    found[ordinal].append((generation, child))
        return {key: [Place(pairs) for pairs in found] for key, found in versions.items()}

    def flat(self) -> list[CallRecord]:
        """What is known below this place as the records of one session, for keeping."""
        flattened = _Flattened()
        self._flatten(None, flattened)
        return flattened.records

    def _flatten(self, parent: CallRecord | None, into: _Flattened) -> None:
        for places in self._grouped().values():
            for place in places:
                record = place.record
                assert record is not None
                # Below a call that completed, calls that it made at other times count only if they completed: they
                # may be needed if it runs again nevertheless.
                own = place.generation is self.generation or not _completed(self.record)
                if own or _completed(record):
                    copy = into.begin(record, parent)
                    place._flatten(copy, into)
                    into.end(copy)
        for child in self.generation.below.get(None if self.record is None else self.record.index, ()):
            if key_of(child) is None:  # nothing finds it; it is kept for those who read
                into.add_tree(self.generation, child, parent)


def _completed(record: CallRecord | None) -> bool:
    return record is not None and record.status is Status.COMPLETED


def key_of(record: CallRecord) -> Key | None:
    """What a recorded call is found by among those of its parent; None if by nothing."""
    if record.node is None or record.inputs is None or is_lost(form_in(record.inputs)):
        return None
    return record.node, record.inputs


def past(*sessions: Sequence[CallRecord]) -> Place:
    """The root of the tree of what some sessions recorded, the oldest first."""
    return Place([(Calls(records), None) for records in sessions])


def together(*sessions: Sequence[CallRecord]) -> list[CallRecord]:
    """What some sessions recorded, the oldest first, as the records of one."""
    told = [records for records in sessions if records]
    return list(told[0]) if len(told) == 1 else past(*told).flat() if told else []


def cut_off(records: Sequence[CallRecord], step: int) -> list[CallRecord]:
    """The records as they were before a step: what was made later is not there, what ended later was running."""
    return [
        r if r.ended_step is not None and r.ended_step < step else _reopened(r)
        for r in records
        if r.started_step < step
    ]


def _reopened(record: CallRecord) -> CallRecord:
    fresh = ("status", "ended_step", "ended", "result", "exception", "reason", "output", "reuse", "attributes")
    defaults = {name: getattr(attrs.fields(CallRecord), name).default for name in fresh}
    return attrs.evolve(record, **defaults)


class _Flattened:
    """Calls as if they had been made one after the other, each with all below it."""

    def __init__(self) -> None:
        self.records: list[CallRecord] = []
        self._step = 0
        self._orders = count()

    def begin(self, record: CallRecord, parent: CallRecord | None) -> CallRecord:
        index = len(self.records)
        changes = [change._replace(order=next(self._orders)) for change in record.changes or ()]
        copy = attrs.evolve(
            record,
            changes=changes or None,  # which were counted from 0 in each session
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

    def add_tree(self, generation: Calls, record: CallRecord, parent: CallRecord | None) -> None:
        copy = self.begin(record, parent)
        for child in generation.below.get(record.index, ()):
            self.add_tree(generation, child, copy)
        self.end(copy)
