"""Invariants: what must be true of every run, whatever its interleaving and whatever goes wrong in it.

``check(outcome)`` asserts the promise of Railtracks, and what users add to it::

    @invariant
    def no_charge_without_an_order(outcome):
        assert charged <= ordered

The others here are not part of the promise, as there are flows that rightly break them; give them to ``check``.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, TypeVar, overload

import attrs

from railtracks.exceptions import ConfigError
from railtracks.state import Reason
from railtracks.testing._simulation import _report
from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing._simulation._promise import PROMISE, BrokenAt, ending_error

__all__ = [
    "PROMISE", "Violation", "check", "ends_within", "invariant", "is_cleaned_up", "passes_cancellation_on",
]  # fmt: skip

Invariant = Callable[[Outcome], None]
F = TypeVar("F", bound=Invariant)


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
    what = str(exc) or _assertion(exc)
    return (
        f"{name.replace('_', ' ')}: {what}\n\n{_report.timeline(outcome.trace, about)}\n\n"
        f"the run {outcome.end} after {outcome.duration:g} s; to see it again:\n  {outcome.code}"
    )


def _assertion(exc: AssertionError) -> str:
    """The line of a bare ``assert``."""
    frames = traceback.extract_tb(exc.__traceback__)
    return f"`{frames[-1].line}` failed" if frames and frames[-1].line else "the assertion failed"


# ---- more, to be asked for

_FINAL = (Reason.TIMEOUT, Reason.END_ON_ERROR)


def passes_cancellation_on(outcome: Outcome) -> None:
    """No call that was cancelled, by a timeout or by an error that ends the session, ends as if nothing had been.

    For flows whose nodes should not catch a cancellation. It is seen where a call of the node was cancelled, or where
    time passed since. A node that finishes its work in a shielded scope and returns breaks it too.
    """
    for session in outcome.sessions:
        name, config = session.info.session_id, session.config
        ending = ending_error(outcome, name, config.end_on_error)
        for record in session.info.records:
            seen = outcome.calls.get((name, record.index))
            if seen is None or seen.how in (None, "cancelled"):
                continue
            top = session.info.records[record.run]
            end = top.started + config.timeout
            if ending is not None:
                end = min(end, ending.time)
            cut = [r for r in session.info.records if r.parent == record.index and r.reason in _FINAL]
            nested = [r for r in cut if outcome.calls[name, r.index].task is seen.task]
            if seen.time > end or nested:
                raise BrokenAt(
                    f"{record.name} {seen.how} at {seen.time:g} s, although it was cancelled at {end:g} s; let the "
                    f"cancellation through: `raise` at the end of `except`",
                    (name, record.index),
                    *((name, r.index) for r in nested),
                )


def is_cleaned_up(outcome: Outcome) -> None:
    """No call that a node makes in an ``except`` or ``finally`` while it is being cancelled is cut off."""
    cut = [call for call, seen in outcome.calls.items() if seen.in_cleanup and seen.how == "cancelled"]
    if cut or outcome.cut_off:
        raise BrokenAt(
            "a call made for cleanup was itself cancelled; put it in `with anyio.CancelScope(shield=True):`",
            *cut,
            *outcome.cut_off,
        )


def ends_within(seconds: float) -> Invariant:
    """An invariant: the run takes no more virtual seconds than that."""

    def in_time(outcome: Outcome) -> None:
        if outcome.duration > seconds:
            text = f"the run took {outcome.duration:g} s, more than {seconds:g} s"
            raise BrokenAt(text, *_longest(outcome))

    in_time.__name__ = f"ends_within_{seconds:g}_seconds"
    return in_time


def _longest(outcome: Outcome) -> list[tuple[str, int]]:
    """Of the calls that made no others, the one that took longest."""
    info = outcome.info
    callers = {record.parent for record in info.records}
    ended = [(record.ended - record.started, record.index) for record in info.records if record.ended is not None]
    leaves = [pair for pair in ended if pair[1] not in callers]
    return [(info.session_id, max(leaves)[1])] if leaves else []
