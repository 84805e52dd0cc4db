"""How the calls of a run have ended, in numbers and words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from railtracks._wording import counted
from railtracks.state._records import CallRecord, Status, is_retried

RETRIED = "retried"
"""What is said of attempts that failed and were tried again. They do not count as failed: their callers know nothing of
them."""
_NAMED = {Status.FAILED: "failed", Status.CANCELLED: "cancelled", Status.OPEN: "open", Status.SUSPENDED: "suspended"}


class Ends(NamedTuple):
    """How some calls have ended."""

    by_status: Mapping[Status, int]
    """How many have each status, without those that were tried again."""
    retried: int = 0
    """How many failed and were tried again."""
    cached: int = 0
    """How many got the result of an equal call."""


def count_ends(records: Iterable[CallRecord]) -> Ends:
    """Return how calls have ended."""
    by_status: dict[Status, int] = {}
    retried = cached = 0
    for record in records:
        if record.policy is not None:
            cached += record.policy.cached is not None
            if is_retried(record):
                retried += 1
                continue
        by_status[record.status] = by_status.get(record.status, 0) + 1
    return Ends(by_status, retried, cached)


def counts_in_words(calls: int, ends: Ends) -> str:
    """Return a number of calls, and how many of them have not completed, as in ``6 calls, 1 failed``."""
    others = [f"{ends.by_status[status]} {word}" for status, word in _NAMED.items() if ends.by_status.get(status)]
    others += [f"{ends.retried} {RETRIED}"] * (ends.retried > 0) + [f"{ends.cached} cached"] * (ends.cached > 0)
    return ", ".join([counted(calls, "call"), *others])
