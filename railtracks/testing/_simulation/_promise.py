"""The promise of Railtracks ("What you get" in the README), as invariants of an outcome.

The records are compared with what the witness observed, which stands outside of the runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from railtracks._test_probe import is_item_call, is_replayed, is_retried, leaves_of
from railtracks.exceptions import GlobalTimeOutError, LimitExceededError, NodeTimeOutError, RunLostError, RunSuspended
from railtracks.state import CallRecord, Reason, Status
from railtracks.testing._simulation._injection import ProcessKilled
from railtracks.testing._simulation._observed import CallKey, ObservedCall
from railtracks.testing._simulation._outcome import ObservedSession, Outcome
from railtracks.testing._simulation._policy_promise import every_policy_holds
from railtracks.testing._simulation._questions import (
    InvariantError,
    ending_error,
    hangs_by_plan,
    is_cached,
    may_lose_run,
    named,
    was_killed,
)
from railtracks.testing._trace import stable_repr
from railtracks.testing._virtual_time._stuck_errors import NEVER_ENDS, Deadlock, EndlessRun, Livelock
from railtracks.testing.faults import StoreFault

STATUS = {"returned": Status.COMPLETED, "raised": Status.FAILED, "cancelled": Status.CANCELLED}


def nothing_is_left_running(outcome: Outcome) -> None:
    """Check that when a session ends, however it ends, nothing that it started is still running.

    A run that hangs because a fault of its plan makes a call hang has not broken this.
    """
    if isinstance(outcome.exception, Deadlock | EndlessRun) and hangs_by_plan(outcome):
        return
    if isinstance(outcome.exception, Deadlock):
        raise InvariantError(f"the flow hangs for ever: {outcome.exception.problem}", *_cancelled_last(outcome))
    if isinstance(outcome.exception, Livelock | EndlessRun):
        places = ", ".join(outcome.exception.running)
        raise InvariantError(
            f"the flow never ends: {outcome.exception.problem}; running: {places}", *_cancelled_last(outcome)
        )
    if was_killed(outcome):
        return  # a process that was killed leaves nothing
    if outcome.left_running:
        raise AssertionError(f"left behind: {', '.join(outcome.left_running)}")
    for session in outcome.sessions:
        for record in session.info.records:
            if record.status is Status.OPEN:
                call = session.info.session_id, record.index
                raise InvariantError(f"{named(record, call)} is still open in the record", call)


def the_caller_has_the_real_result_or_the_real_exception(outcome: Outcome) -> None:
    """Check that the caller has the real result or the real exception: never a wrapped one, never a lost one."""
    session, config, error = outcome.info.session_id, outcome.config, outcome.exception
    attempts = [record for record in outcome.info.records if record.parent is None]
    if attempts and (is_retried(attempts[-1]) or is_cached(attempts[-1])):
        return  # it was cancelled between two attempts; or it did not run
    call = session, attempts[-1].index if attempts and is_retried(attempts[0]) else 0
    top, first = outcome.calls.get(call), outcome.calls.get((session, 0))
    if top is None or first is None or config is None or outcome.was_cancelled:
        return
    if isinstance(error, (*NEVER_ENDS, ProcessKilled)):
        return
    elapsed = top.time - first.began  # what follows the call, such as delivery to subscribers, has its own deadlines
    if isinstance(error, RunSuspended):
        return
    if isinstance(error, RunLostError):
        if not may_lose_run(outcome):
            raise InvariantError(f"the run was lost, but no other session could take it: {error}", call)
        return
    ending = ending_error(outcome, session, config.end_on_error)
    if ending is not None:
        if error is not ending.value:
            expected = stable_repr(ending.value)
            raise InvariantError(
                f"{expected} should have ended the session, but the outcome is {_result(outcome, expected)}", call
            )
    elif isinstance(error, GlobalTimeOutError) and error is not top.value:
        if elapsed < config.timeout:
            raise InvariantError(f"it timed out after {elapsed:g} s, but the timeout is {config.timeout:g} s", call)
    elif isinstance(error, LimitExceededError) and error is not top.value:
        if config.budget is None or error.limit != "budget":
            raise InvariantError(f"it exceeded {error.limit}, which its session does not have", call)
    elif elapsed > config.timeout:
        raise InvariantError(
            f"it ended after {elapsed:g} s, but not because of the timeout of {config.timeout:g} s", call
        )
    elif isinstance(error, NodeTimeOutError) and error is not top.value and error is attempts[-1].exception:
        if attempts[-1].reason is not Reason.NODE_TIMEOUT:
            raise InvariantError(f"it timed out, but the record has the reason {attempts[-1].reason}", call)
    elif error is not None:
        if not _is_same_error(error, top.value):
            raise InvariantError(
                f"the call {_end(top)}, but the outcome is {_result(outcome, stable_repr(top.value))}", call
            )
    elif top.outcome != "returned" or top.value is not outcome.result:
        raise InvariantError(
            f"the call {_end(top)}, but the outcome is {_result(outcome, stable_repr(top.value))}", call
        )


def every_call_is_on_record_as_it_was(outcome: Outcome) -> None:
    """Check that every call is on record with what really happened to it, and that the record is saved."""
    if was_killed(outcome):
        return
    for session in outcome.sessions:
        name, records = session.info.session_id, session.info.records
        for index, record in enumerate(records):
            if record.index != index:
                raise InvariantError(f"the record of {record.name} has the index {record.index} instead of {index}")
            _check_record(outcome, (name, index), record, records)
        _check_steps(name, records)
        _check_callers(name, records)
        calls = [call for call in outcome.calls if call[0] == name and not is_item_call(call[1])]
        if lost := [call for call in calls if call[1] not in range(len(records))]:
            raise InvariantError("a call ran that is not on record", *lost)
        _check_saved(outcome, session)


def _check_record(outcome: Outcome, call: CallKey, record: CallRecord, records: tuple[CallRecord, ...]) -> None:
    observed = outcome.calls.get(call)
    if is_replayed(record) or observed is None:
        return
    name = named(record, call)
    if record.parent is not None:
        _check_caller(outcome, call, record, records)
    elif observed.caller is not None and observed.caller[0] == call[0]:
        raise InvariantError(
            f"{name} is on record as a top-level call, but another call made it", observed.caller, call
        )
    if observed.outcome is None:
        return
    if record.status is Status.SUSPENDED:  # however its code was unwound
        return
    if record.reason is Reason.NODE_TIMEOUT and record.timeout is not None:
        _check_timeout(record, call)
        return
    if record.status is not STATUS[observed.outcome]:
        raise InvariantError(f"{name} {_end(observed)}, but the record says {record.status.value}", call)
    value = record.exception if observed.outcome == "raised" else record.result
    if observed.outcome != "cancelled" and value is not observed.value:
        recorded = _distinguish(value, stable_repr(observed.value))
        raise InvariantError(f"{name} {_end(observed)}, but the record has {recorded}", call)
    if (record.reason is not None) != (record.status is Status.CANCELLED):
        raise InvariantError(f"{name} is {record.status.value}, with the reason {record.reason}", call)


def _check_callers(name: str, records: tuple[CallRecord, ...]) -> None:
    """Check that each call is below one that began before it, also where a worker made it."""
    for record in records:
        above = None if record.parent is None else records[record.parent]
        if above is not None and (above.index >= record.index or above.run != record.run):
            raise InvariantError(
                f"{record.name} is on record below {above.name}, which began later or is of another top-level call",
                (name, above.index),
                (name, record.index),
            )


def _check_timeout(record: CallRecord, call: CallKey) -> None:
    """Check a call that exceeded the timeout of its node, which cancels what it does and makes an error of that."""
    if record.status is not Status.FAILED or not isinstance(record.exception, NodeTimeOutError):
        raise InvariantError(
            f"{named(record, call)} exceeded the timeout of its node, but the record says {record.status.value}, with "
            f"{stable_repr(record.exception)}", call
        )  # fmt: skip


def _check_caller(outcome: Outcome, call: CallKey, record: CallRecord, records: tuple[CallRecord, ...]) -> None:
    parent = records[record.parent or 0]
    above = call[0], parent.index
    child_name, parent_name = named(record, call), named(parent, above)
    observed, caller = outcome.calls[call], outcome.calls.get(above)
    if observed.caller != above:
        raise InvariantError(
            f"{child_name} is on record as called by {parent_name}, which did not call it", above, call
        )
    if parent.run != record.run:
        raise InvariantError(
            f"{child_name} is recorded below another top-level call than {parent_name}, which called it", above, call
        )
    if record.started_step <= parent.started_step or record.started < parent.started:
        raise InvariantError(f"{child_name} began before {parent_name}, which called it", above, call)
    # A call in a task of its own may outlast its caller; only the top-level call waits for it.
    nested = caller is not None and (caller.in_thread or caller.task is observed.task)
    if (
        nested
        and parent.ended_step is not None
        and (record.ended_step is None or record.ended_step > parent.ended_step)
    ):
        raise InvariantError(f"{child_name} continued after {parent_name}, which called it, had ended", above, call)


def _check_steps(name: str, records: tuple[CallRecord, ...]) -> None:
    steps = sorted(
        (step, record.index)
        for record in records
        for step in (record.started_step, record.ended_step)
        if step is not None
    )
    for expected, (step, index) in enumerate(steps):
        if step != expected:
            raise InvariantError(
                f"the steps of session {name} are not 0, 1, 2, ...: {step} instead of {expected}", (name, index)
            )


def _check_saved(outcome: Outcome, session: ObservedSession) -> None:
    info = session.info
    unused = {id(fault) for fault in outcome.unused_faults}  # by identity: equal faults are different faults
    if not session.keeps or any(isinstance(fault, StoreFault) and id(fault) not in unused for fault in outcome.faults):
        return
    if not info.records and (info.end_time is None or outcome.options.get("resume") is not None):
        return  # it was cancelled while it was entered; or it resumed a run and did nothing new
    if isinstance(outcome.exception, RunLostError) and may_lose_run(outcome):
        return  # what is saved is another session's
    name = info.session_id
    if session.stored is None or session.stored.document is None:
        raise AssertionError(f"session {name} was not saved")
    if session.saved != info:
        assert session.saved is not None
        different = _first_difference(session.saved.payload(), info.payload())
        raise AssertionError(f"what was saved of session {name} is not what happened in it: {different}")


def _first_difference(saved: Any, real: Any, path: str = "") -> str:
    if isinstance(saved, dict) and isinstance(real, dict):
        for key in {**saved, **real}:
            if saved.get(key) != real.get(key):
                return _first_difference(saved.get(key), real.get(key), f"{path}.{key}" if path else key)
    if isinstance(saved, list) and isinstance(real, list) and len(saved) == len(real):
        for index, (one, other) in enumerate(zip(saved, real, strict=True)):
            if one != other:
                return _first_difference(one, other, f"{path}[{index}]")
    return f"{path} is {stable_repr(saved)}, and was {stable_repr(real)}"


def the_sessions_around_it_noticed_nothing(outcome: Outcome) -> None:
    """Check that a session does not affect the sessions around it and beside it."""
    for call, observed in outcome.calls.items():
        if observed.context_leaked:
            raise InvariantError("when the call ended, another session or call was current than when it began", call)


def nothing_fails_unseen(outcome: Outcome) -> None:
    """Check that no failure is lost: that each coroutine is awaited, and each exception reaches some code."""
    if outcome.unseen and not was_killed(outcome):
        raise AssertionError("; ".join(outcome.unseen))


PROMISE: tuple[Callable[[Outcome], None], ...] = (
    nothing_is_left_running,
    the_caller_has_the_real_result_or_the_real_exception,
    every_call_is_on_record_as_it_was,
    every_policy_holds,
    the_sessions_around_it_noticed_nothing,
    nothing_fails_unseen,
)


def _cancelled_last(outcome: Outcome) -> list[CallKey]:
    """Return the innermost of the calls that were cancelled when the run ended."""
    cancelled = {call: observed for call, observed in outcome.calls.items() if observed.outcome == "cancelled"}
    latest = max((observed.time for observed in cancelled.values()), default=0.0)
    last = {call: observed for call, observed in cancelled.items() if observed.time == latest}
    callers = {observed.caller for observed in last.values()}
    return [call for call in last if call not in callers]


def _is_same_error(error: BaseException, value: Any) -> bool:
    """Return whether they are one object; or, on trio, groups of the same errors, one without its cancellations."""
    if error is value:
        return True
    if not (isinstance(error, BaseExceptionGroup) and isinstance(value, BaseExceptionGroup)):
        return False
    inner = list(leaves_of(value))
    return all(any(leaf is each for each in inner) for leaf in leaves_of(error))


def _end(observed: ObservedCall) -> str:
    if observed.outcome == "cancelled":
        return "was cancelled"
    return "still runs" if observed.outcome is None else f"{observed.outcome} {stable_repr(observed.value)}"


def _result(outcome: Outcome, expected: str) -> str:
    """Return the result or the exception of the run as text that differs from ``expected``."""
    if outcome.exception is not None:
        return _distinguish(outcome.exception, expected)
    return f"the result {_distinguish(outcome.result, expected)}"


def _distinguish(value: Any, expected: str) -> str:
    """Return the repr of ``value``, marked as another object if the expected object has the same repr."""
    text = stable_repr(value)
    return f"another object, {text}" if text == expected else text
