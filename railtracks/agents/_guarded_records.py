"""What guards have kept back from the consumer of a stream, as the records of a run show it.

A replay yields the same: not the text of an answer that was not accepted, nor what a guard has written.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from railtracks.agents._attributes import INPUT_GUARDS, OUTPUT_GUARDS
from railtracks.agents._hand_off import SPENT
from railtracks.agents._requests import is_request
from railtracks.state import CallRecord, Status
from railtracks.state._serialization._record_text import loads


@attrs.frozen
class KeptBack:
    """The indices of calls of which a stream yielded less.

    Attributes:
        calls: Of these, and of all below them, nothing.
        texts: Of these requests, not the text.
    """

    calls: set[int] = attrs.field(factory=set)
    texts: set[int] = attrs.field(factory=set)


def kept_back(records: Sequence[CallRecord]) -> KeptBack:
    """Return what guards have kept back.

    Args:
        records: A call, and all calls below it, each after the one that made it.
    """
    found = KeptBack()
    guards = {record.index: _guards(record) for record in records if record.node_type == "Agent"}
    below: dict[int, list[CallRecord]] = {index: [] for index, names in guards.items() if any(names)}
    agents = {record.index: record for record in records if record.index in below}
    for record in records:
        parent = -1 if record.parent is None else record.parent
        if parent in found.calls:
            found.calls.add(record.index)
        elif parent in below:
            before, after = guards[parent]
            is_guard = not is_request(record) and SPENT not in record.kwargs and record.name in (*before, *after)
            is_refused = SPENT in record.kwargs and after and agents[parent].status is not Status.COMPLETED
            if is_guard or is_refused:
                found.calls.add(record.index)
            if not is_guard:
                below[parent].append(record)
    for index, calls in below.items():
        requests = [record for record in calls if is_request(record)]
        has_completed = agents[index].status is Status.COMPLETED
        if guards[index][1]:
            found.texts.update(record.index for record in (requests[:-1] if has_completed else requests))
            if has_completed and calls[-1:] != requests[-1:]:  # it has handed the conversation over
                found.texts.update(record.index for record in requests[-1:])
        if guards[index][0] and not has_completed and calls[-1:] == requests[-1:]:
            found.calls.update(record.index for record in requests[-1:])  # maybe the guards have not accepted it
    return found


def _guards(record: CallRecord) -> tuple[list[str], list[str]]:
    """Return the names of the input guards and of the output guards of an agent."""
    if record.attributes is None or "_guards" not in record.attributes:
        return [], []
    attributes = loads(record.attributes)
    return attributes.get(INPUT_GUARDS, []), attributes.get(OUTPUT_GUARDS, [])
