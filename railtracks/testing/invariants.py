"""Invariants: what must be true of every run, whatever its interleaving and whatever goes wrong in it.

``check(outcome)`` asserts the promise of Railtracks, and the invariants that users add::

    @invariant
    def no_charge_without_an_order(outcome):
        assert charged <= ordered

The other invariants here are not part of the promise, because some flows rightly break them. Pass them to ``check``.
"""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Callable
from typing import Any, TypeVar, overload

import attrs

from railtracks import Flow
from railtracks.exceptions import ConfigError
from railtracks.state import Reason
from railtracks.testing._arguments import as_list, check_function
from railtracks.testing._simulation import _report
from railtracks.testing._simulation._outcome import Outcome, earlier_stories
from railtracks.testing._simulation._policy_promise import TOLERANCE
from railtracks.testing._simulation._promise import PROMISE
from railtracks.testing._simulation._questions import InvariantError, ending_error
from railtracks.testing._trace import stable_repr
from railtracks.testing._virtual_time._tasks import is_user_code, place_of
from railtracks.testing.faults import DelaySave

__all__ = [
    "PROMISE", "Violation", "check", "ends_at_node_timeouts", "ends_within", "invariant", "is_cleaned_up",
    "is_determined",
    "passes_cancellation_on",
]  # fmt: skip

Invariant = Callable[[Outcome], None]
F = TypeVar("F", bound=Invariant)


class Violation(AssertionError):
    """A run broke an invariant. The text says which one and how to repeat the run, and shows the story around it.

    Attributes:
        outcome: The run.
        broken: The name of the invariant.
    """

    def __init__(self, text: str, outcome: Outcome, broken: str) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.broken = broken


@attrs.frozen
class _Registered:
    """A registered invariant, and the flow or node for whose runs it is checked; None for all."""

    function: Invariant
    of: Any = None


_registered: list[_Registered] = []


@overload
def invariant(function: F, /) -> F: ...
@overload
def invariant(*, of: Any) -> Callable[[F], F]: ...
def invariant(function: Any = None, /, *, of: Any = None) -> Any:
    """Register a function that ``check`` calls with each outcome; it raises AssertionError if something is wrong.

    Args:
        function: The function, if the decorator is written without arguments.
        of: The flow or node for whose runs it is checked; without it, it is checked for all runs in this process.

    Returns:
        The function, unchanged; it can also be passed to ``check``.

    Raises:
        ConfigError: ``function`` is not a function, or async, or ``of`` is not a flow or a node.
    """
    if of is not None and not isinstance(of, Flow) and not callable(of):
        raise ConfigError(f"invariant: of is {stable_repr(of)}; write a flow or a node: `@invariant(of=flow)`")

    def register(given: F) -> F:
        check_function(
            "@invariant", "the function", given, "write `@invariant` or `@invariant(of=flow)` before a `def`"
        )
        _registered.append(_Registered(given, of))
        return given

    return register if function is None else register(function)


def check(outcome: Outcome, *more: Invariant) -> None:
    """Assert the promise of Railtracks for one run, then the registered invariants, then ``more``.

    Args:
        outcome: The run.
        *more: More invariants.

    Raises:
        Violation: one of them does not hold, or an invariant of yours has raised another exception, such as KeyError.
            It is an AssertionError.
        ConfigError: ``outcome`` is not an outcome, or an invariant is async, returns True or False, or is not used as
            it should be.
    """
    __tracebackhide__ = True  # pytest shows the code of the test, and not this one
    if not isinstance(outcome, Outcome):
        raise ConfigError(f"check: {stable_repr(outcome)} is not an outcome; write check(simulate(flow))")
    for each in more:
        _check_invariant("check", each, "write check(outcome, function_of_an_outcome)")
    added = [known.function for known in _registered if known.of is None or known.of is outcome.target]
    for each in (*PROMISE, *added, *more):
        try:
            answer: object = each(outcome)
            if isinstance(answer, bool):
                raise ConfigError(_answered(each, answer))
        except Violation:
            raise
        except AssertionError as exc:
            name = getattr(each, "__name__", repr(each))
            what = str(exc) or _source_of(exc)
            raise Violation(_describe(name, what, exc, outcome), outcome, name) from (None if each in PROMISE else exc)
        except ConfigError:  # the rule is used wrongly
            raise
        except Exception as exc:
            if each in PROMISE:
                raise
            name = getattr(each, "__name__", repr(each))
            what = f"it raised {stable_repr(exc)}{_place_of(exc)}"
            raise Violation(_describe(name, what, exc, outcome), outcome, name) from exc


def _answered(invariant: Invariant, answer: bool) -> str:
    name = getattr(invariant, "__name__", repr(invariant))
    return f"check: the invariant {name} has returned {answer}, which means nothing; write `assert ...` in it"


def as_invariants(owner: str, given: Any) -> tuple[Invariant, ...]:
    """Return the argument ``invariants`` of ``owner`` as a tuple; ConfigError if it is not a list of functions."""
    write = "write invariants=[function_of_an_outcome]"
    invariants = tuple(as_list(owner, "invariants", given, write))
    for each in invariants:
        _check_invariant(owner, each, write)
    return invariants


def _check_invariant(owner: str, given: Any, write: str) -> None:
    if not callable(given):
        raise ConfigError(f"{owner}: {stable_repr(given)} is not an invariant; {write}")
    check_function(owner, "an invariant", given, write)


def _describe(name: str, what: str, exc: Exception, outcome: Outcome) -> str:
    calls = set(getattr(exc, "calls", ()))
    chance = () if getattr(exc, "has_chance", False) else outcome.undetermined
    about = [index for index, event in enumerate(outcome.trace) if (event.session, event.call) in calls]
    story = _report.timeline(outcome.trace, outcome.calls, about)
    return (
        f"{name.replace('_', ' ')}: {what}\n\n{earlier_stories(outcome)}{story}\n\n"
        f"the run {outcome.end_after}; to see it again:\n  {outcome.code}"
        + "".join(f"\nnot decided by the seed: {text}" for text in chance)
    )


def _place_of(exc: Exception) -> str:
    """Return the innermost line of user code that an exception has passed."""
    traceback, found = exc.__traceback__, None
    while traceback is not None:
        if is_user_code(traceback.tb_frame):
            found = traceback
        traceback = traceback.tb_next
    if found is None:
        return ""
    code, line = found.tb_frame.f_code, found.tb_lineno
    source = linecache.getline(code.co_filename, line).strip()
    return f" in {place_of(code, line)}{source and f': `{source}`'}"


def _source_of(exc: AssertionError) -> str:
    """Return the source line of a bare ``assert``."""
    frames = traceback.extract_tb(exc.__traceback__)
    return f"`{frames[-1].line}` failed" if frames and frames[-1].line else "the assertion failed"


# ---- invariants that are not part of the promise

_FINAL = (Reason.TIMEOUT, Reason.BUDGET, Reason.END_ON_ERROR)


def passes_cancellation_on(outcome: Outcome) -> None:
    """Check that no call that a timeout or an ending session cancelled ends as if it had not been cancelled.

    This is for flows whose nodes should not catch a cancellation. It notices those where a call below was cancelled as
    well, or where time has passed since. A node that finishes its work in a shielded scope and returns breaks it too.
    """
    for session in outcome.sessions:
        name, config = session.info.session_id, session.config
        ending = ending_error(outcome, name, config.end_on_error)
        for record in session.info.records:
            observed = outcome.calls.get((name, record.index))
            if observed is None or observed.outcome in (None, "cancelled"):
                continue
            top = outcome.calls[name, record.run]
            end = top.began + config.timeout
            if ending is not None:
                end = min(end, ending.time)
            cut = [r for r in session.info.records if r.parent == record.index and r.reason in _FINAL]
            nested = [r for r in cut if outcome.calls[name, r.index].task is observed.task]
            if observed.time > end or nested:
                raise InvariantError(
                    f"{record.name} {observed.outcome} at {observed.time:g} s, although it was cancelled at {end:g} s; "
                    f"pass the cancellation on: `raise` at the end of `except`",
                    (name, record.index),
                    *((name, r.index) for r in nested),
                )


def ends_at_node_timeouts(outcome: Outcome) -> None:
    """Check that no call runs longer than the ``timeout`` of its node; waiting for a limit does not count.

    This is for flows whose nodes should end at once when they are cancelled. One that finishes its work in a shielded
    scope, or that waits for a thread, breaks it.
    """
    for call, observed in outcome.calls.items():
        seconds = None if observed.policies is None else observed.policies.timeout
        if seconds is None or observed.outcome is None or observed.time - observed.began <= seconds + TOLERANCE:
            continue
        raise InvariantError(
            f"a call ran for {observed.time - observed.began:g} s, with a timeout of {seconds:g} s; "
            f"end it soon when it is cancelled",
            call,
        )


def is_cleaned_up(outcome: Outcome) -> None:
    """Check that no call that a node makes in ``except`` or ``finally``, while it is being cancelled, is cut off."""
    calls = outcome.calls.items()
    cut = [call for call, observed in calls if observed.in_cleanup and observed.outcome == "cancelled"]
    if cut or outcome.cut_off:
        raise InvariantError(
            "a call made for cleanup was itself cancelled; put it in `with anyio.CancelScope(shield=True):`",
            *cut,
            *outcome.cut_off,
        )


def is_determined(outcome: Outcome) -> None:
    """Check that the seed has decided all of the run, as far as that is known, so that it is the same the next time.

    What is known: threads that stood still, so that others went on; threads and sockets that are not part of the run; a
    real world.
    """
    if outcome.undetermined:
        error = InvariantError(f"the seed did not decide: {'; '.join(outcome.undetermined)}")
        error.has_chance = True
        raise error


def ends_within(seconds: float) -> Invariant:
    """Return an invariant that holds if the run takes at most that many virtual seconds.

    What the harness adds does not count: by how much it lets timers be late, and, if the store is made late
    (``DelaySave``), what is saved after the last call has ended.

    Raises:
        ConfigError: ``seconds`` is not a number of at least 0.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise ConfigError(f"ends_within: {stable_repr(seconds)} is not a number of seconds; write ends_within(5)")

    def ends_in_time(outcome: Outcome) -> None:
        if (taken := _seconds_of(outcome)) > seconds:
            text = f"the run took {taken:g} s, more than {seconds:g} s"
            raise InvariantError(text, *_longest(outcome))

    ends_in_time.__name__ = f"ends_within_{seconds:g}_seconds"
    return ends_in_time


def _seconds_of(outcome: Outcome) -> float:
    """Return how long a run took, without what the harness added to timers, and to a store that was made late."""
    scheduler = outcome.decisions.scheduler_of_run
    added = 0.0 if scheduler is None else sum(scheduler.latenesses)
    if not any(isinstance(fault, DelaySave) for fault in outcome.faults):
        return outcome.duration - added
    ends = [event.time for event in outcome.trace if event.what in ("completed", "failed", "cancelled")]
    return max(ends, default=outcome.duration) - added


def _longest(outcome: Outcome) -> list[tuple[str, int]]:
    """Return the call that took longest, of those that made no other calls."""
    info = outcome.info
    callers = {record.parent for record in info.records}
    ended = [(record.ended - record.started, record.index) for record in info.records if record.ended is not None]
    leaves = [pair for pair in ended if pair[1] not in callers]
    return [(info.session_id, max(leaves)[1])] if leaves else []
