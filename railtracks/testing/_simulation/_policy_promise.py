"""The promise of Railtracks for the policies of calls: retries, timeouts, limits and cached results.

What the records say is compared with what the witness observed, which is inside of all that the policies do: a call is
observed from the moment at which its function begins, with what its limits have let it take, until that has ended. So
the calls that are observed at one time are some of those that have a slot of their limit, and no fewer may be allowed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from types import MethodType

import attrs

from railtracks._test_probe import Cache, Limit, Policies, allowed_attempts, is_replayed, is_retried
from railtracks.state import CallRecord, Reason, Status
from railtracks.testing._simulation._observed import CallKey, ObservedCall
from railtracks.testing._simulation._outcome import ObservedSession, Outcome
from railtracks.testing._simulation._questions import InvariantError, is_cached, named, was_killed

TOLERANCE = 1e-5
"""Seconds by which times may differ: the wall clock of a record is rounded."""


def every_policy_holds(outcome: Outcome) -> None:
    """Check that each call was tried, limited in time, held back and cached as its policies say."""
    calls = {call: observed for call, observed in outcome.calls.items() if observed.policies is not None}
    if not was_killed(outcome):
        created = {(each.session, each.call): each.time for each in outcome.trace if each.what == "created"}
        for session in outcome.sessions:
            _check_attempts(session, calls)
            for record in session.info.records:
                call = session.info.session_id, record.index
                if call in calls and not is_replayed(record):
                    _check_run(record, call, calls[call], created.get(call))
    _check_totals(outcome, calls)
    for slots in _slots(outcome, calls):
        _check_slots(slots, calls)
    _check_rates(calls)
    _check_shared_work(calls)


# ---- single calls


def _check_attempts(session: ObservedSession, calls: dict[CallKey, ObservedCall]) -> None:
    """Check that the attempts of a call follow each other, as many as allowed, and that only the last may succeed."""
    name = session.info.session_id
    tried_again: defaultdict[tuple[int | None, str, int], int] = defaultdict(int)
    for record in session.info.records:
        retry = 0 if record.policy is None else record.policy.retry
        call = name, record.index
        if is_retried(record) and record.status is not Status.FAILED:
            raise InvariantError(f"{record.name} was tried again, but is {record.status.value}", call)
        if retry:
            before = record.parent, record.name, retry - 1
            if not tried_again[before]:
                raise InvariantError(f"{record.name} is attempt {retry + 1}, and attempt {retry} is missing", call)
            tried_again[before] -= 1
        if is_retried(record):
            tried_again[record.parent, record.name, retry] += 1
        if call in calls and not is_replayed(record):
            _check_number(record, call, retry, calls[call].policies)


def _check_number(record: CallRecord, call: CallKey, retry: int, policies: Policies | None) -> None:
    policy = None if policies is None else policies.retries
    attempts = 1 if policy is None else allowed_attempts(policy.attempts)
    made = retry + 1 + is_retried(record)
    if attempts is not None and made > attempts and record.attempt == 1:
        what = "will be" if is_retried(record) else "is"
        raise InvariantError(f"{named(record, call)} {what} tried {made} times, with attempts={attempts}", call)


def _check_run(record: CallRecord, call: CallKey, observed: ObservedCall, created: float | None) -> None:
    """Check how long a call has waited, and how long it has run."""
    waited = 0.0 if record.policy is None else record.policy.waited
    if is_cached(record):
        raise InvariantError(f"{named(record, call)} ran, but the record says that its result was cached", call)
    ready = None if created is None or record.reuse is not None else created + waited
    waits_inside = _may_wait_for_worker(observed)
    if record.policy is not None and record.policy.waiting is not None:
        if waits_inside and observed.outcome == "cancelled":
            return
        raise InvariantError(f"{named(record, call)} ran, but is waiting for {record.policy.waiting} on record", call)
    if ready is not None and not waits_inside and abs(ready - observed.began) > TOLERANCE:
        assert created is not None
        took = observed.began - created
        raise InvariantError(
            f"{named(record, call)} waited for {took:g} s before it ran, but the record says {waited:g} s", call
        )
    seconds = None if observed.policies is None else observed.policies.timeout
    if seconds is None or observed.outcome is None:
        return
    began = observed.began if ready is None or not waits_inside else max(observed.began, ready)
    ran = observed.time - began
    has_timed_out = record.reason is Reason.NODE_TIMEOUT and record.timeout is not None
    if has_timed_out and ran < seconds - TOLERANCE:
        raise InvariantError(
            f"{named(record, call)} exceeded its timeout of {seconds:g} s, but ran for {ran:g} s", call
        )
    if not has_timed_out and observed.outcome == "returned" and ran > seconds + TOLERANCE:
        raise InvariantError(
            f"{named(record, call)} ran for {ran:g} s, but did not exceed its timeout of {seconds:g} s", call
        )


def _may_wait_for_worker(observed: ObservedCall) -> bool:
    """Return whether a call may wait for a free worker, which it does after it is observed to begin."""
    where = None if observed.policies is None else observed.policies.where
    return observed.in_thread if where is None else where not in ("task", "caller")


# ---- all calls of a session


def _check_totals(outcome: Outcome, calls: dict[CallKey, ObservedCall]) -> None:
    """Check how many calls each session has made in all, and how deep they are nested."""
    made: defaultdict[str, list[CallKey]] = defaultdict(list)
    for call, observed in calls.items():
        if observed.policies is not None and not observed.policies.is_own:
            made[call[0]].append(call)
    for session in outcome.sessions:
        name, config = session.info.session_id, session.config
        own = made[name]
        if config.max_calls is not None and len(own) > config.max_calls:
            raise InvariantError(f"{len(own)} calls ran in {name}, with max_calls={config.max_calls}", *own[-1:])
        for call in own if config.max_depth is not None else ():
            depth = 1 + sum(above[0] == name for above in _above(call, calls))
            if config.max_depth is not None and depth > config.max_depth:
                raise InvariantError(f"a call of {name} ran at depth {depth}, with max_depth={config.max_depth}", call)


def _above(call: CallKey, calls: dict[CallKey, ObservedCall]) -> Iterator[CallKey]:
    """Yield the calls above a call, the nearest first; also those in the sessions around its own."""
    above = calls[call].caller
    while above is not None and above in calls:
        yield above
        above = calls[above].caller


# ---- how many at once


@attrs.define
class _Slots:
    """A limit on how many calls run at once, and the calls that it is for."""

    name: str
    total: float
    calls: list[CallKey] = attrs.field(factory=list)


def _slots(outcome: Outcome, calls: dict[CallKey, ObservedCall]) -> Iterable[_Slots]:
    """Return all limits on how many calls run at once."""
    found: dict[Hashable, _Slots] = {}
    totals = {each.info.session_id: each.config.max_concurrency for each in outcome.sessions}
    for call, observed in calls.items():
        policies = observed.policies
        if policies is None or policies.is_own:
            continue
        most, limit = totals.get(call[0]), policies.limit
        if most is not None:
            name = f"max_concurrency={most}"
            found.setdefault(("session", call[0]), _Slots(name, most)).calls.append(call)
        if isinstance(limit, Limit):
            if limit.concurrency is not None:
                slots = _Slots(f"the limit {limit.name}, concurrency={limit.concurrency}", limit.concurrency)
                found.setdefault(("limit", limit.name, limit.concurrency), slots).calls.append(call)
        elif limit is not None:
            key = "node", call[0], id(_function(observed.target))
            known = found.setdefault(key, _Slots(f"limit={limit}", limit))
            known.calls.append(call)
            if limit > known.total:  # it differs for single calls, and the greatest one holds in any case
                known.name, known.total = f"limit={limit}", limit
    return found.values()


def _function(target: object) -> object:
    return target.__func__ if isinstance(target, MethodType) else target


def _check_slots(slots: _Slots, calls: dict[CallKey, ObservedCall]) -> None:
    """Check how many calls run at one time, without those below which another one runs."""
    moments = [(calls[call].begin_order, call, True) for call in slots.calls]
    moments += [(calls[call].order, call, False) for call in slots.calls if calls[call].outcome is not None]
    running: dict[CallKey, None] = {}
    for _, call, begins in sorted(moments):
        if not begins:
            del running[call]
            continue
        running[call] = None
        if len(running) <= slots.total:
            continue
        lenders = {above for each in running for above in _above(each, calls)}
        counted = [each for each in running if each not in lenders]
        if len(counted) > slots.total:
            raise InvariantError(f"{len(counted)} calls run at one time, with {slots.name}", *counted)


# ---- how many in a time


def _check_rates(calls: dict[CallKey, ObservedCall]) -> None:
    """Check that no more calls begin in any period than the rate of their limit allows."""
    begun: defaultdict[tuple[str, str, tuple[int, float]], list[tuple[float, CallKey]]] = defaultdict(list)
    for call, observed in calls.items():
        limit = None if observed.policies is None or observed.policies.is_own else observed.policies.limit
        if isinstance(limit, Limit) and limit.rate is not None and limit.per_period is not None:
            begun[limit.name, limit.rate, limit.per_period].append((observed.began, call))
    for (name, rate, (count, period)), beginnings in begun.items():
        beginnings.sort()
        for (first, _), (last, call) in zip(beginnings, beginnings[count:], strict=False):
            if last - first < period - TOLERANCE:
                raise InvariantError(
                    f"{count + 1} calls begin within {last - first:g} s, with the limit {name}, rate={rate!r}", call
                )


# ---- what is done once for equal calls


def _check_shared_work(calls: dict[CallKey, ObservedCall]) -> None:
    """Check that of equal calls whose node has ``cache`` one runs at a time."""
    last: dict[Hashable, tuple[CallKey, ObservedCall]] = {}
    for call, observed in sorted(calls.items(), key=lambda pair: pair[1].begin_order):
        above = next(_above(call, calls), None)
        outer = () if above is None else calls[above].work
        if not isinstance(observed.policies and observed.policies.cache, Cache) or len(observed.work) <= len(outer):
            continue  # it is cached by no one, or by itself, as waiting would never end
        work = observed.work[-1]
        before, known = last.get(work, (None, None))
        if before is not None and known is not None and (known.outcome is None or known.order > observed.begin_order):
            raise InvariantError("two equal calls run at one time, although their node has cache", before, call)
        last[work] = call, observed
