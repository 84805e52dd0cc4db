"""Invariants: what must be true of every run, whatever its interleaving and whatever goes wrong in it.

``check(outcome)`` asserts the promise of Railtracks, and what users add to it::

    @invariant
    def no_charge_without_an_order(outcome):
        assert charged <= ordered

The others here are not part of the promise, as there are flows that rightly break them; give them to ``check``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

import attrs

from railtracks.exceptions import ConfigError, FatalError, GlobalTimeOutError, NodeInvocationError
from railtracks.state import CallRecord, Status
from railtracks.state._records import REUSED
from railtracks.testing import _report
from railtracks.testing._clock import Deadlock
from railtracks.testing._injection import ProcessKilled
from railtracks.testing._outcome import Outcome, SessionSeen
from railtracks.testing._trace import stable_repr
from railtracks.testing._witness import Seen
from railtracks.testing.faults import StoreFault

__all__ = [
    "PROMISE", "Violation", "check", "ends_within", "invariant", "is_cleaned_up", "passes_cancellation_on",
]  # fmt: skip

Invariant = Callable[[Outcome], None]
F = TypeVar("F", bound=Invariant)
STATUS = {"returned": Status.COMPLETED, "raised": Status.FAILED, "cancelled": Status.CANCELLED}


class Violation(AssertionError):
    """A run broke an invariant. Its text tells which, how to see it again, and the story around it.

    Attributes:
        outcome: The run.
        broken: The name of the invariant.
    """

    def __init__(self, text: str, outcome: Outcome, broken: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.broken = broken


class _BrokenAt(AssertionError):
    """An assertion that knows the calls it is about."""

    def __init__(self, text: str, *calls: tuple[str, int]) -> None:
        super().__init__(text)
        self.calls = calls


@attrs.frozen
class _Registered:
    function: Invariant
    of: Any = None  # the flow or node whose runs it is about; None: all


_registered: list[_Registered] = []


@overload
def invariant(function: F, /) -> F: ...
@overload
def invariant(*, of: Any) -> Callable[[F], F]: ...
def invariant(function: Any = None, /, *, of: Any = None) -> Any:
    """Have ``check`` call a function with each outcome; it raises AssertionError if something is wrong.

    Args:
        function: The invariant, when the decorator is written bare.
        of: The flow or node whose runs it is about; without it, it is checked for all runs in this process.

    Returns: the function, unchanged; it can also be given to ``check`` by itself.
    """
    if function is not None and not callable(function):
        raise ConfigError(f"@invariant was given {function!r}; write `@invariant` or `@invariant(of=flow)`")

    def register(given: F) -> F:
        _registered.append(_Registered(given, of))
        return given

    return register if function is None else register(function)


def check(outcome: Outcome, *more: Invariant) -> None:
    """Assert the promise of Railtracks for one run, then the invariants that users registered, then ``more``.

    Raises:
        Violation: one does not hold; it tells the story. It is an AssertionError.
    """
    added = [known.function for known in _registered if known.of is None or known.of is outcome.target]
    for each in (*PROMISE, *added, *more):
        try:
            each(outcome)
        except Violation:
            raise
        except AssertionError as exc:
            name = getattr(each, "__name__", repr(each))
            raise Violation(_told(name, exc, outcome), outcome, name) from (None if each in PROMISE else exc)


def _told(name: str, exc: AssertionError, outcome: Outcome) -> str:
    calls = set(getattr(exc, "calls", ()))
    about = [place for place, event in enumerate(outcome.trace) if (event.session, event.call) in calls]
    what = str(exc) or "the assertion failed"
    return (
        f"{name.replace('_', ' ')}: {what}\n\n{_report.timeline(outcome.trace, about)}\n\n"
        f"the run {outcome.end} after {outcome.duration:g} s; to see it again:\n  {outcome.code}"
    )


# ---- the promise


def nothing_is_left_running(outcome: Outcome) -> None:
    """When a session ends, by any road, nothing it started is still running."""
    if isinstance(outcome.exception, Deadlock):
        raise _BrokenAt(f"it hangs for ever; {outcome.exception}", *_cancelled(outcome))
    if outcome.left_running:
        raise AssertionError(f"left behind: {', '.join(outcome.left_running)}")
    for session, record in _records(outcome):
        if record.status is Status.OPEN:
            raise _BrokenAt(f"{record.name} is still open in the record", (session, record.index))


def the_caller_has_the_real_result_or_the_real_exception(outcome: Outcome) -> None:
    """The caller has the real result or the real exception: never a wrapped one, never a lost one."""
    session, top = outcome.info.session_id, _top(outcome)
    error, config = outcome.exception, outcome.config
    if top is None or config is None or isinstance(error, Deadlock | ProcessKilled) or outcome.was_cancelled:
        return
    call = (session, 0)
    elapsed = outcome.duration
    ending = _ending(outcome, session) if config.end_on_error else _fatal(outcome, session)
    if ending is not None:
        if error is not ending:
            raise _BrokenAt(f"{stable_repr(ending)} ended the session, but what came out is {_shown(error)}", call)
    elif isinstance(error, GlobalTimeOutError) and error is not top.value:
        if elapsed < config.timeout:
            raise _BrokenAt(f"it timed out after {elapsed:g} s, but the timeout is {config.timeout:g} s", call)
    elif error is not None:
        if not (top.how == "raised" and _is_or_is_of(error, top.value)):
            raise _BrokenAt(f"the call {_ended(top)}, but what came out is {_shown(error)}", call)
    elif top.how != "returned" or top.value is not outcome.result:
        raise _BrokenAt(f"the call {_ended(top)}, but what came out is {stable_repr(outcome.result)}", call)
    elif elapsed > config.timeout:
        raise _BrokenAt(f"it returned after {elapsed:g} s, but the timeout is {config.timeout:g} s", call)


def every_call_is_on_record_as_it_was(outcome: Outcome) -> None:
    """Every call is on record with what really happened to it, and the record is saved."""
    for session in outcome.sessions:
        if not _was_killed(outcome):
            _check_records(outcome, session)
            _check_saved(outcome, session)


def _check_records(outcome: Outcome, session: SessionSeen) -> None:
    name = session.info.session_id
    records = session.info.records
    steps: list[int] = []
    for place, record in enumerate(records):
        call = (name, record.index)
        steps += [record.started_step, *([] if record.ended_step is None else [record.ended_step])]
        if record.index != place:
            raise _BrokenAt(f"the record of {record.name} has the index {record.index} at place {place}", call)
        if record.parent is not None:
            _check_within(record, records[record.parent], call)
        if record.reuse == REUSED:
            continue
        seen = outcome.calls.get(call)
        if seen is None or seen.how is None:
            continue
        if record.status is not STATUS[seen.how]:
            raise _BrokenAt(f"{record.name} {_ended(seen)}, but the record says {record.status.value}", call)
        value = record.exception if seen.how == "raised" else record.result
        if seen.how != "cancelled" and value is not seen.value:
            raise _BrokenAt(f"{record.name} {_ended(seen)}, but the record has {stable_repr(value)}", call)
        if (record.reason is not None) != (record.status is Status.CANCELLED):
            raise _BrokenAt(f"{record.name} is {record.status.value}, with the reason {record.reason}", call)
    if sorted(steps) != list(range(len(steps))):
        raise AssertionError(f"the steps of session {name} are not 0, 1, 2, ...: {sorted(steps)}")
    recorded = {record.index for record in records}
    if lost := [call for call in outcome.calls if call[0] == name and call[1] not in recorded]:
        raise _BrokenAt("a call ran that is not on record", *lost)


def _check_within(record: CallRecord, parent: CallRecord, call: tuple[str, int]) -> None:
    above = (call[0], parent.index)
    if parent.run != record.run:
        raise _BrokenAt(f"{record.name} is of another run than {parent.name}, which called it", above, call)
    if record.started_step <= parent.started_step or record.started < parent.started:
        raise _BrokenAt(f"{record.name} began before {parent.name}, which called it", above, call)
    if parent.ended is None or record.ended is None or parent.ended_step is None or record.ended_step is None:
        return
    if record.ended_step >= parent.ended_step or record.ended > parent.ended:
        raise _BrokenAt(f"{record.name} went on after {parent.name}, which called it, had ended", above, call)


def _check_saved(outcome: Outcome, session: SessionSeen) -> None:
    if session.stored is None or any(isinstance(fault, StoreFault) for fault in outcome.faults):
        return
    if session.saved != session.info and (session.info.records or session.info.resumed):
        raise AssertionError(f"what was saved of session {session.info.session_id} is not what happened in it")


def the_sessions_around_it_noticed_nothing(outcome: Outcome) -> None:
    """The session around a session, and the sessions beside it, notice nothing of it."""
    for call, seen in outcome.calls.items():
        if seen.misplaced:
            raise _BrokenAt("when the call ended, another session or call was current than when it began", call)


PROMISE: tuple[Invariant, ...] = (
    nothing_is_left_running,
    the_caller_has_the_real_result_or_the_real_exception,
    every_call_is_on_record_as_it_was,
    the_sessions_around_it_noticed_nothing,
)


# ---- more, to be asked for


def passes_cancellation_on(outcome: Outcome) -> None:
    """No call that was cancelled returns as if nothing had been, once time has passed since.

    For flows whose nodes should not catch a cancellation. One in a shielded scope that finishes its work and
    returns breaks it too.
    """
    for session in outcome.sessions:
        for record in session.info.records:
            run = session.info.records[record.run]
            end = run.started + session.config.timeout
            if record.ended is not None and record.ended > end and record.status is not Status.CANCELLED:
                raise _BrokenAt(
                    f"{record.name} {record.status.value.lower()} at {record.ended:g} s, although its run was "
                    f"cancelled at {end:g} s; let the cancellation through: `raise` at the end of `except`",
                    (session.info.session_id, record.index),
                )


def is_cleaned_up(outcome: Outcome) -> None:
    """No call that a node makes in an ``except`` or ``finally`` while it is being cancelled is cut off."""
    for call, seen in outcome.calls.items():
        if seen.in_cleanup and seen.how == "cancelled":
            raise _BrokenAt(
                "a call made for cleanup was itself cancelled before it could do anything; put it in "
                "`with anyio.CancelScope(shield=True):`",
                call,
            )


def ends_within(seconds: float) -> Invariant:
    """An invariant: the run takes no more virtual seconds than that."""

    def in_time(outcome: Outcome) -> None:
        assert outcome.duration <= seconds, f"the run took {outcome.duration:g} s, more than {seconds:g} s"

    in_time.__name__ = f"ends_within_{seconds:g}_seconds"
    return in_time


# ---- looking at an outcome


def _records(outcome: Outcome) -> Iterator[tuple[str, CallRecord]]:
    if not _was_killed(outcome):
        for session in outcome.sessions:
            for record in session.info.records:
                yield session.info.session_id, record


def _was_killed(outcome: Outcome) -> bool:
    return isinstance(outcome.exception, ProcessKilled)


def _cancelled(outcome: Outcome) -> list[tuple[str, int]]:
    return [call for call, seen in outcome.calls.items() if seen.how == "cancelled"]


def _top(outcome: Outcome) -> Seen | None:
    return outcome.calls.get((outcome.info.session_id, 0))


def _failed(outcome: Outcome, session: str) -> list[BaseException]:
    """What the calls of a session raised, in the order of their ending."""
    seen = [seen for call, seen in outcome.calls.items() if call[0] == session and seen.how == "raised"]
    return [each.value for each in sorted(seen, key=lambda each: each.order)]


def _ending(outcome: Outcome, session: str) -> BaseException | None:
    return next(iter(_failed(outcome, session)), None)


def _fatal(outcome: Outcome, session: str) -> BaseException | None:
    def is_fatal(exc: BaseException) -> bool:
        return isinstance(exc, FatalError) or (isinstance(exc, NodeInvocationError) and exc.fatal)

    return next(filter(is_fatal, _failed(outcome, session)), None)


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


def _ended(seen: Seen) -> str:
    if seen.how == "cancelled":
        return "was cancelled"
    return "still runs" if seen.how is None else f"{seen.how} {stable_repr(seen.value)}"


def _shown(error: BaseException | None) -> str:
    return "no exception" if error is None else stable_repr(error)
