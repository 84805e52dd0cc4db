"""A run in the Trace Event Format, which Perfetto, ``chrome://tracing`` and speedscope open."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

from railtracks import ExecutionInfo
from railtracks._identifiers import node_id
from railtracks.state import CallRecord
from railtracks.state._serialization._shown_arguments import arguments_of
from railtracks.state._views._texts import shown_error, shown_name, shown_status
from railtracks.state._views._times import began_at, ran_since

_PROCESS = 1
_MAX_ARGUMENTS = 1_000


def chrome_trace(info: ExecutionInfo) -> dict[str, Any]:
    """Return the calls of a run as events. Times are in microseconds since the beginning of the run.

    Each call is a slice in a lane ("thread"), inside that of its caller where it can be: slices of one lane nest, as
    the viewers demand. Calls that ran beside each other are in lanes of their own. A call without an end reaches to the
    latest moment on record.
    """
    records = info.records
    origin = began_at(info.start_time, info.records)
    latest = max((record.ended or record.started for record in records), default=0.0)
    lanes = assign_lanes(records, latest)
    events = list(_names(info, 1 + max(lanes, default=-1)))
    for record, lane in zip(records, lanes, strict=True):
        end = latest if record.ended is None else record.ended
        events.append(
            {
                "name": shown_name(record, info._redactor),
                "cat": record.node_type,
                "ph": "X",
                "ts": round((ran_since(record) - origin) * 1e6, 3),
                "dur": round((end - ran_since(record)) * 1e6, 3),
                "pid": _PROCESS,
                "tid": lane,
                "args": _arguments(record, info),
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms"}


def _names(info: ExecutionInfo, lanes: int) -> Iterator[dict[str, Any]]:
    yield {"name": "process_name", "ph": "M", "pid": _PROCESS, "args": {"name": info._title}}
    for lane in range(lanes):
        name = {"name": f"lane {lane}"}
        yield {"name": "thread_name", "ph": "M", "pid": _PROCESS, "tid": lane, "args": name}


def _arguments(record: CallRecord, info: ExecutionInfo) -> dict[str, Any]:
    redactor = info._redactor
    found = {
        "node_id": node_id(info.session_id, record.index),
        "arguments": arguments_of(record, redactor, _MAX_ARGUMENTS, _MAX_ARGUMENTS),
        "status": shown_status(record),
    }
    if record.exception is not None:
        found["error"] = shown_error(record.exception, redactor)
    return found


def assign_lanes(records: Sequence[CallRecord], latest: float) -> list[int]:
    """Return a lane for each call, so that any two calls in one lane are apart in time, or one is inside the other.

    Args:
        records: The calls, in the order of creation, in which a caller comes before the calls that it made.
        latest: The end of those that have none.
    """
    lanes: dict[int, int] = {}  # by the index of a call
    free_from: dict[int, float] = {}  # by the index of a call: when its lane has room for another call inside it
    ends_at: dict[int, float] = {}  # by the index of a call
    ends: list[tuple[float, int]] = []  # of the lanes in use, as a heap
    free: list[int] = []  # the lanes that were in use, as a heap
    for record in sorted(records, key=lambda each: (ran_since(each), each.started_step)):
        start, end, parent = ran_since(record), latest if record.ended is None else record.ended, record.parent
        while ends and ends[0][0] <= start:
            heapq.heappush(free, heapq.heappop(ends)[1])
        if parent in free_from and free_from[parent] <= start and end <= ends_at[parent]:
            lanes[record.index], free_from[parent] = lanes[parent], end
        else:
            lanes[record.index] = heapq.heappop(free) if free else len(ends)
            heapq.heappush(ends, (end, lanes[record.index]))
        free_from[record.index], ends_at[record.index] = start, end
    return [lanes[record.index] for record in records]
