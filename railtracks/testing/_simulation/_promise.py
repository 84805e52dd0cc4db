"""The promise of Railtracks (section 1 of docs/design.md), as invariants of an outcome.

The records are compared with what the witness saw, which stands outside the runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from railtracks.exceptions import GlobalTimeOutError, is_fatal
from railtracks.state import CallRecord, Status
from railtracks.state._records import REUSED
from railtracks.testing._simulation._injection import ProcessKilled
from railtracks.testing._simulation._outcome import Outcome, SessionSeen
from railtracks.testing._simulation._witness import Seen
from railtracks.testing._trace import stable_repr
from railtracks.testing._virtual_time._clock import Deadlock
from railtracks.testing.faults import StoreFault

Call = tuple[str, int]
"""A session's identifier, and a call's place in it."""
STATUS = {"returned": Status.COMPLETED, "raised": Status.FAILED, "cancelled": Status.CANCELLED}


class BrokenAt(AssertionError):
    """An assertion that knows the calls it is about."""

    def __init__(self, text: str, *calls: Call) -> None:
        super().__init__(text)
        self.calls = calls


def nothing_is_left_running(outcome: Outcome) -> None:
    """When a session ends, by any road, nothing it started is still running."""
    if isinstance(outcome.exception, Deadlock):
        raise BrokenAt(f"the flow hangs for ever: {outcome.exception.problem}", *_cancelled_last(outcome))
    if outcome.left_running:
        raise AssertionError(f"left behind: {', '.join(outcome.left_running)}")
    if was_killed(outcome):
        return
    for session in outcome.sessions:
        for record in session.info.records:
            if record.status is Status.OPEN:
                call = session.info.session_id, record.index
                raise BrokenAt(f"{_named(record, call)} is still open in the record", call)


def the_caller_has_the_real_result_or_the_real_exception(outcome: Outcome) -> None:
    """The caller has the real result or the real exception: never a wrapped one, never a lost one."""
    session, config, error = outcome.info.session_id, outcome.config, outcome.exception
    call = session, 0
    top = outcome.calls.get(call)
    if top is None or config is None or isinstance(error, Deadlock | ProcessKilled) or outcome.was_cancelled:
        return
    elapsed = top.time - top.began  # what comes after the call, such as delivery to subscribers, has its own deadlines
    ending = ending_error(outcome, session, config.end_on_error)
    if ending is not None:
        if error is not ending.value:
            shown = stable_repr(ending.value)
            raise BrokenAt(f"{shown} should have ended the session, but what came out is {_out(outcome, shown)}", call)
    elif isinstance(error, GlobalTimeOutError) and error is not top.value:
        if elapsed < config.timeout:
            raise BrokenAt(f"it timed out after {elapsed:g} s, but the timeout is {config.timeout:g} s", call)
    elif elapsed > config.timeout:
        raise BrokenAt(f"it ended after {elapsed:g} s, but not with a timeout, which is {config.timeout:g} s", call)
    elif error is not None:
        if not _is_or_is_of(error, top.value):
            raise BrokenAt(
                f"the call {_ended(top)}, but what came out is {_out(outcome, stable_repr(top.value))}", call
            )
    elif top.how != "returned" or top.value is not outcome.result:
        raise BrokenAt(f"the call {_ended(top)}, but what came out is {_out(outcome, stable_repr(top.value))}", call)


def every_call_is_on_record_as_it_was(outcome: Outcome) -> None:
    """Every call is on record with what really happened to it, and the record is saved."""
    if was_killed(outcome):
        return
    for session in outcome.sessions:
        name, records = session.info.session_id, session.info.records
        for place, record in enumerate(records):
            if record.index != place:
                raise BrokenAt(f"the record of {record.name} has the index {record.index} at place {place}")
            _check_record(outcome, (name, place), record, records)
        _check_steps(name, records)
        recorded = range(len(records))
        if lost := [call for call in outcome.calls if call[0] == name and call[1] not in recorded]:
            raise BrokenAt("a call ran that is not on record", *lost)
        _check_saved(outcome, session)


def _check_record(outcome: Outcome, call: Call, record: CallRecord, records: tuple[CallRecord, ...]) -> None:
    seen = outcome.calls.get(call)
    if record.reuse == REUSED or seen is None:
        return
    name = _named(record, call)
    if record.parent is not None:
        _check_caller(outcome, call, record, records)
    elif seen.caller is not None and seen.caller[0] == call[0]:
        raise BrokenAt(f"{name} is on record as a top-level call, but another made it", seen.caller, call)
    if seen.how is None:
        return
    if record.status is not STATUS[seen.how]:
        raise BrokenAt(f"{name} {_ended(seen)}, but the record says {record.status.value}", call)
    value = record.exception if seen.how == "raised" else record.result
    if seen.how != "cancelled" and value is not seen.value:
        raise BrokenAt(f"{name} {_ended(seen)}, but the record has {_shown(value, stable_repr(seen.value))}", call)
    if (record.reason is not None) != (record.status is Status.CANCELLED):
        raise BrokenAt(f"{name} is {record.status.value}, with the reason {record.reason}", call)


def _check_caller(outcome: Outcome, call: Call, record: CallRecord, records: tuple[CallRecord, ...]) -> None:
    parent = records[record.parent or 0]
    above = call[0], parent.index
    child_name, parent_name = _named(record, call), _named(parent, above)
    seen, caller = outcome.calls[call], outcome.calls.get(above)
    if seen.caller != above:
        raise BrokenAt(f"{child_name} is on record as called by {parent_name}, which did not call it", above, call)
    if parent.run != record.run:
        raise BrokenAt(f"{child_name} is of another run than {parent_name}, which called it", above, call)
    if record.started_step <= parent.started_step or record.started < parent.started:
        raise BrokenAt(f"{child_name} began before {parent_name}, which called it", above, call)
    # A call in a task of its own may outlast its caller; the top-level call waits for it.
    nested = caller is not None and (caller.in_thread or caller.task is seen.task)
    if (
        nested
        and parent.ended_step is not None
        and (record.ended_step is None or record.ended_step > parent.ended_step)
    ):
        raise BrokenAt(f"{child_name} went on after {parent_name}, which called it, had ended", above, call)


def _check_steps(name: str, records: tuple[CallRecord, ...]) -> None:
    steps = sorted(
        (step, record.index)
        for record in records
        for step in (record.started_step, record.ended_step)
        if step is not None
    )
    for place, (step, index) in enumerate(steps):
        if step != place:
            raise BrokenAt(
                f"the steps of session {name} are not 0, 1, 2, ...: {step} stands for {place}", (name, index)
            )


def _check_saved(outcome: Outcome, session: SessionSeen) -> None:
    info = session.info
    unused = {id(fault) for fault in outcome.unused_faults}  # two equal ones are two
    if not session.keeps or any(isinstance(fault, StoreFault) and id(fault) not in unused for fault in outcome.faults):
        return
    if not info.records and (info.end_time is None or outcome.options.get("resume") is not None):
        return  # it was cancelled while it was entered; or nothing was done that was not known before
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
    """The session around a session, and the sessions beside it, notice nothing of it."""
    for call, seen in outcome.calls.items():
        if seen.misplaced:
            raise BrokenAt("when the call ended, another session or call was current than when it began", call)


PROMISE: tuple[Callable[[Outcome], None], ...] = (
    nothing_is_left_running,
    the_caller_has_the_real_result_or_the_real_exception,
    every_call_is_on_record_as_it_was,
    the_sessions_around_it_noticed_nothing,
)


# ---- looking at an outcome


def was_killed(outcome: Outcome) -> bool:
    """Did its process die? Then its records are what a journal tells."""
    return isinstance(outcome.exception, ProcessKilled)


def ending_error(outcome: Outcome, session: str, end_on_error: bool) -> Seen | None:
    """The call whose error ended the session, by rights; None if none did."""
    failed = [seen for call, seen in outcome.calls.items() if call[0] == session and seen.how == "raised"]
    ending = [seen for seen in failed if end_on_error or is_fatal(seen.value)]
    return min(ending, key=lambda seen: seen.order, default=None)


def _cancelled_last(outcome: Outcome) -> list[Call]:
    """The calls that were cancelled when the run ended, and made no others that were."""
    cancelled = {call: seen for call, seen in outcome.calls.items() if seen.how == "cancelled"}
    latest = max((seen.time for seen in cancelled.values()), default=0.0)
    open_ones = {call: seen for call, seen in cancelled.items() if seen.time == latest}
    callers = {seen.caller for seen in open_ones.values()}
    return [call for call in open_ones if call not in callers]


def _is_or_is_of(error: BaseException, value: Any) -> bool:
    """The same; or, on trio, a group that a node raised, without its cancellations."""
    if error is value:
        return True
    if not (isinstance(error, BaseExceptionGroup) and isinstance(value, BaseExceptionGroup)):
        return False
    inner = list(_leaves(value))
    return all(any(leaf is each for each in inner) for leaf in _leaves(error))


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from _leaves(each)
    else:
        yield exc


def _named(record: CallRecord, call: Call) -> str:
    return f"{call[0]}.{call[1]} {record.name}"


def _ended(seen: Seen) -> str:
    if seen.how == "cancelled":
        return "was cancelled"
    return "still runs" if seen.how is None else f"{seen.how} {stable_repr(seen.value)}"


def _out(outcome: Outcome, expected: str) -> str:
    """What came out of the run."""
    error = outcome.exception
    return _shown(error, expected) if error is not None else f"the result {_shown(outcome.result, expected)}"


def _shown(value: Any, expected: str) -> str:
    text = stable_repr(value)
    return f"another object, {text}" if text == expected else text
