"""The tries of calls that are tried again when they fail: which recorded call is the next try of which.

In this folder an attempt is one of the run, which is a session; the attempts of a call are its tries. Each is a call of
its own on record, with the caller, arguments and task of the one before it. Equal calls of other tasks are other calls:
what they did, and how often they were tried again, is their own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence

from railtracks._resume._links import link_key
from railtracks._resume._siblings import match_key
from railtracks.state._records import CallRecord, is_retried

CallIdentity = tuple[tuple[str, ...], int, int]
"""What a call is known by among those of its caller: what equal ones have in common, which of these it is, and which
try."""


def retry_of(record: CallRecord) -> int:
    """Return how many tries of a call had failed before this one."""
    return 0 if record.policy is None else record.policy.retry


def equality_key(record: CallRecord) -> tuple[str, ...]:
    """Return what equal calls of one caller have in common, as far as it is on record."""
    return match_key(record) or link_key(record)


def next_tries(records: Sequence[CallRecord]) -> dict[int, int]:
    """Return the positions of calls that were tried again, each with that of its next try, if that is on record.

    Args:
        records: The calls of one caller, or of several that stand for one, in the order of creation.
    """
    tried = [at for at, record in enumerate(records) if retry_of(record) or is_retried(record)]
    found: dict[int, int] = {}
    if tried:
        _find_next(records, tried, found, _task_of)
        # Where the numbers of tasks are not those of one session, the order of equal calls decides: so it is if
        # several calls stand for one, and in histories that earlier builds have put together from several sessions.
        _find_next(records, tried, found, lambda _: None)
    return found


def _find_next(
    records: Sequence[CallRecord],
    tried: Sequence[int],
    found: dict[int, int],
    task_of: Callable[[CallRecord], Hashable],
) -> None:
    """Add next tries that are not found yet: the first ones in the task of those that had failed."""
    waiting: dict[Hashable, deque[int]] = {}
    known = {*found.values()}
    for position in tried:
        record = records[position]
        key, retry = (task_of(record), equality_key(record)), retry_of(record)
        if retry and position not in known and (before := waiting.get((key, retry - 1))):
            found[before.popleft()] = position
        if is_retried(record) and position not in found:
            waiting.setdefault((key, retry), deque()).append(position)


def _task_of(record: CallRecord) -> Hashable:
    return record.parent, record.branch


def identified(children: Sequence[CallRecord]) -> Iterator[tuple[CallIdentity, CallRecord]]:
    """Yield the calls of one caller, in the order of creation, each with what it is known by."""
    following = next_tries(children)
    later: dict[int, CallIdentity] = {}
    ordinals: dict[tuple[str, ...], int] = {}
    for position, child in enumerate(children):
        identity = later.pop(position, None)
        if identity is None:
            key = equality_key(child)
            ordinals[key] = ordinals.get(key, -1) + 1
            identity = key, ordinals[key], 0
        if position in following:
            later[following[position]] = *identity[:2], identity[2] + 1
        yield identity, child
