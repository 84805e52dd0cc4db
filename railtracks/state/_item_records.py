"""Records of the calls of a batch that keeps few: they stand beside those of the session until it is known which stay.

An item of such a batch is one call and all calls below it. While it runs, its records have indices and steps of their
own, so those of the session stay contiguous. When all of them have ended they are dropped, or take their places among
the records of the session as copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import attrs

from railtracks.state._ordering import in_order
from railtracks.state._records import FIRST_ITEM_INDEX, NO_KWARGS, CallRecord, copy_as


class Batch(Protocol):
    """The batch that an item belongs to."""

    def on_item_ended(self, item: Item) -> None:
        """Note that all calls of an item have ended."""


class Item:
    """One item of a batch.

    Args:
        batch: The batch.
        position: The position of the item among those of the batch, from 0.
        digest: A number that depends on the position and the arguments; None if they cannot be compared.

    Attributes:
        batch: As given.
        position: As given.
        digest: As given.
        records: The records of its calls, in the order of creation. The first one is the call of the item itself.
        open: How many of them are open.
        is_over: Whether its node is not called again.
        is_closed: Whether all had ended before.
        dropped: How many records of calls of it were dropped, of batches within it.
    """

    __slots__ = ("batch", "digest", "dropped", "is_closed", "is_over", "open", "position", "records")

    def __init__(self, batch: Batch, position: int, digest: int | None) -> None:
        self.batch: Batch = batch
        self.position: int = position
        self.digest: int | None = digest
        self.records: list[ItemRecord] = []
        self.open: int = 0
        self.is_closed: bool = False
        self.is_over: bool = False
        self.dropped: int = 0

    @property
    def has_changes(self) -> bool:
        """Whether a call of it has changed the context."""
        return any(record.changes for record in self.records)


@attrs.define(eq=False, repr=False, weakref_slot=False, on_setattr=attrs.setters.NO_OP)
class ItemRecord(CallRecord):
    """The record of a call of an item; or, as the caller of the item's own call, what stands for the batch."""

    is_item: ClassVar[bool] = True
    kept_as: ClassVar[type[CallRecord]] = CallRecord
    """The class of its copy among the records of the session."""

    item: Item = None  # type: ignore[assignment]  # set right after it was made


class ItemRecords:
    """The records of the items that run at the moment, by index.

    Attributes:
        since_yield: How many of these calls were made since the event loop had a turn.
        yielded_at: How many records the session had then.
    """

    __slots__ = ("_by_index", "_index", "_step", "since_yield", "yielded_at")

    def __init__(self) -> None:
        self.since_yield: int = 0
        self.yielded_at: int = -1
        self._index = self._step = FIRST_ITEM_INDEX
        self._by_index: dict[int, ItemRecord] = {}

    def __len__(self) -> int:
        return len(self._by_index)

    def __iter__(self) -> Iterator[ItemRecord]:
        """Iterate over a copy of the records, in the order of creation."""
        return iter([*self._by_index.values()])

    def get(self, index: int) -> ItemRecord | None:
        """Return the record with an index; None if it was dropped."""
        return self._by_index.get(index)

    def ended(self, record: ItemRecord) -> int:
        """Note the end of a call, and return its step."""
        record.item.open -= 1
        self._step += 1
        return self._step

    def created(
        self,
        name: str,
        node_type: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        parent: ItemRecord,
        now: float,
    ) -> ItemRecord:
        """Record that a call was made below another one of an item, or as the call of the item itself."""
        item = parent.item
        index = self._index = self._index + 1
        step = self._step = self._step + 1
        record = ItemRecord(index, parent.index, parent.run, name, node_type, args, kwargs or NO_KWARGS, step, now)
        record.item = item
        item.records.append(record)
        item.open += 1
        self.since_yield += 1
        self._by_index[index] = record
        return record

    def adopted(self, record: ItemRecord, caller: ItemRecord, now: float) -> None:
        """Record that a call of an item was made in a worker, which has made its record, too. See ``RTState``."""
        item = record.item = caller.item
        record.index = self._index = self._index + 1
        record.started_step = self._step = self._step + 1
        record.parent, record.run, record.started = caller.index, caller.run, now
        item.records.append(record)
        item.open += 1
        self._by_index[record.index] = record

    @property
    def open(self) -> int:
        """How many of the calls are open."""
        return sum(record.ended_step is None for record in self)

    def drop_one(self, record: ItemRecord) -> None:
        """Forget the only record of an item."""
        self._by_index.pop(record.index, None)

    def drop(self, item: Item) -> None:
        """Forget the records of an item. Those of calls that were made since stay, until they have ended."""
        for record in item.records:
            self._by_index.pop(record.index, None)


def copies_of(records: Sequence[ItemRecord], first: int, step: int) -> tuple[list[CallRecord], list[int]]:
    """Return records of one item as they take their places among those of the session, and their events.

    Args:
        records: The records. All have ended.
        first: The index of the first copy.
        step: The step of the first event.

    Returns:
        The copies, and in the order of the steps the place of the copy for its creation, the complement for its end.
    """
    records = sorted(records, key=lambda record: record.index)  # those of a batch within it were added later
    new = {record.index: first + place for place, record in enumerate(records)}
    steps: list[int] = []
    events: list[int] = []
    copies: list[CallRecord] = []
    for place, record in enumerate(records):
        assert record.ended_step is not None
        parent = record.parent if record.parent is None else new.get(record.parent, record.parent)
        raised_by = record.raised_by and tuple(new[each] for each in record.raised_by if each in new)
        copies.append(copy_as(record.kept_as, record, index=first + place, parent=parent, raised_by=raised_by or None))
        steps += (record.started_step, record.ended_step)
        events += (place, ~place)
    ordered = in_order(steps, events)
    for at, event in enumerate(ordered, step):
        if event < 0:
            copies[~event].ended_step = at
        else:
            copies[event].started_step = at
    return copies, ordered
