"""What ``SessionMachine`` checks of limits and cached results: no call waits in vain, and no more run than may."""

from __future__ import annotations

from collections.abc import Iterable

from railtracks._test_probe import Cache, Limit
from railtracks.state import CallRecord, Status
from railtracks.testing._machine_model import LiveCall, LiveSession, began

_EQUAL = "an equal call"


def check_waits(sessions: Iterable[LiveSession], now: float) -> None:
    """Check how many calls run under each limit, what each call waits for, and from where cached results come.

    Raises:
        AssertionError: something is wrong.
    """
    calls = [(call, attempts[-1]) for live in sessions for call in live.calls if (attempts := call.attempts)]
    for live in sessions:
        most = live.session.executor_config.max_concurrency
        if most is not None:
            own = [(call, last) for call, last in calls if call.live is live]
            label = f"max_concurrency={most}"
            # A call that waits for something else has its slot, unless that is an equal call.
            running = [call for call, last in own if _is_open(last) and _waits_for(last) not in (label, _EQUAL)]
            _check_count(label, most, running, [call for call, last in own if _waits(last, label)])
    _check_limits(calls, now)
    for call, last in calls:
        equal = [other for each, other in calls if each is not call and _are_equal(each, call)]
        if last.policy is not None and last.policy.cached is not None:
            assert any(each.status is Status.COMPLETED for each in equal), f"{call} got a result that no call had"
        if _waits(last, _EQUAL):
            assert any(_is_open(each) and _waits_for(each) != _EQUAL for each in equal), f"{call} waits for no call"
        elif equal and _is_open(last) and isinstance(call.policies.get("cache"), Cache):
            others = [each for each in equal if _is_open(each) and _waits_for(each) != _EQUAL]
            assert not others, f"{call} runs beside an equal call, although its node has cache"


def _check_limits(calls: list[tuple[LiveCall, CallRecord]], now: float) -> None:
    for limit in {call.policies["limit"] for call, _ in calls if isinstance(call.policies.get("limit"), Limit)}:
        label = f"limit {limit.name}"
        own = [(call, last) for call, last in calls if call.policies.get("limit") == limit]
        waiting = [call for call, last in own if _waits(last, label)]
        if limit.concurrency is not None:
            running = [call for call, last in own if _is_open(last) and _waits_for(last) is None]
            _check_count(label, limit.concurrency, running, waiting)
        if limit.per_period is not None:
            count, period = limit.per_period
            begun = [began(each) for call, _ in own for each in call.attempts if _has_run(each)]
            recent = [time for time in begun if time > now - period]
            assert len(recent) <= count, f"{len(recent)} calls began within {period:g} s, with {label}"
            assert not waiting or len(recent) == count, f"{waiting} wait in vain for the {label}"


def _check_count(label: str, most: int, running: list[LiveCall], waiting: list[LiveCall]) -> None:
    assert len(running) <= most, f"{running} run at one time, with {label}"
    assert not waiting or len(running) == most, f"{waiting} wait in vain for {label}, while {running} run"


def _is_open(attempt: CallRecord) -> bool:
    return attempt.status is Status.OPEN


def _waits_for(attempt: CallRecord) -> str | None:
    return None if attempt.policy is None else attempt.policy.waiting


def _waits(attempt: CallRecord, label: str) -> bool:
    return _is_open(attempt) and _waits_for(attempt) == label


def _has_run(attempt: CallRecord) -> bool:
    return attempt.policy is None or (attempt.policy.waiting is None and attempt.policy.cached is None)


def _are_equal(one: LiveCall, other: LiveCall) -> bool:
    """Return whether the calls are equal, so that one gets the result of the other."""
    has_cache = all(isinstance(each.policies.get("cache"), Cache) for each in (one, other))
    return has_cache and one.live is other.live and repr(one.target) == repr(other.target)
