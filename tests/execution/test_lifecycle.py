"""The life of a session as a table: no event loop, no session."""

from __future__ import annotations

import itertools

import pytest

from railtracks.exceptions import SessionEndedError, SessionError
from railtracks.execution._lifecycle import ALLOWED, Lifecycle, Operation, Phase

ENTER, LEAVE, CALL, START, STREAM, SUBSCRIBE, BROADCAST, ACTIVATE = Operation

TABLE = [
    # phase            enter leave call start stream subscribe broadcast activate
    (Phase.NEW,        "x     -     -    -     -      x         -         -"),
    (Phase.ENTERING,   "-     -     -    -     -      x         -         -"),
    (Phase.OPEN,       "-     x     x    x     x      x         x         x"),
    (Phase.DRAINING,   "-     -     x    x     x      x         x         x"),
    (Phase.JOINING,    "-     -     x    -     -      -         x         x"),
    (Phase.FAILED,     "-     x     -    -     -      x         x         -"),
    (Phase.CLOSING,    "-     -     -    -     -      x         x         -"),
    (Phase.SAVING,     "-     -     -    -     -      -         -         -"),
    (Phase.OVER,       "-     -     -    -     -      -         -         -"),
]  # fmt: skip
CELLS = [
    (phase, operation, mark == "x")
    for phase, marks in TABLE
    for operation, mark in zip(Operation, marks.split(), strict=True)
]


def at(phase: Phase) -> Lifecycle:
    lifecycle = Lifecycle()
    if phase is Phase.FAILED:
        lifecycle.advance(Phase.OPEN)
        lifecycle.fail(KeyError("first"))
    else:
        lifecycle.advance(phase)
    return lifecycle


def test_the_table_has_all_phases_and_operations():
    assert list(ALLOWED) == [phase for phase, _ in TABLE] == list(Phase)


@pytest.mark.parametrize(("phase", "operation", "is_allowed"), CELLS, ids=lambda value: getattr(value, "name", None))
def test_each_phase_allows_what_the_table_says(phase, operation, is_allowed):
    lifecycle = at(phase)
    if is_allowed:
        lifecycle.require(operation, "it")
        return
    with pytest.raises(SessionError) as caught:
        lifecycle.require(operation, "the thing")
    text = str(caught.value)
    assert text.startswith("the thing ")
    assert "; " in text, "it says what to write instead"
    is_late = phase > Phase.OPEN and operation not in (ENTER, LEAVE)
    assert caught.value.__cause__ is (lifecycle.failure if is_late else None)
    assert isinstance(caught.value, SessionEndedError) is is_late


REFUSALS = [
    (Phase.OPEN, ENTER, "was entered before and is open; create a new rt.Session"),
    (Phase.OVER, ENTER, "was entered before and is over; create a new rt.Session"),
    (Phase.NEW, LEAVE, "is left, but it is not entered yet"),
    (Phase.OVER, LEAVE, "is left, but it is over"),
    (Phase.CLOSING, LEAVE, "is left, but it is being left"),
    (Phase.NEW, START, "came before the session was entered; call it inside `async with"),
    (Phase.NEW, CALL, "came before the session was entered; enter the session first, with `async with session:`"),
    (Phase.ENTERING, CALL, "came before the session was open; enter the session first"),
    (Phase.JOINING, START, "came after the session had waited for its children; call it inside"),
    (Phase.FAILED, START, "came after an error had ended the session; open a new session"),
    (Phase.OVER, START, "came after the session had ended; call it inside"),
    (Phase.FAILED, CALL, "came after an error had ended the session; open a new session"),
    (Phase.CLOSING, CALL, "came after its session had ended; wait for the task that makes it"),
    (Phase.OVER, SUBSCRIBE, "came after the session had ended; subscribe before it ends"),
    (Phase.SAVING, BROADCAST, "came after its session had ended; wait for the task, or the thread, that broadcasts"),
]


@pytest.mark.parametrize(("phase", "operation", "text"), REFUSALS)
def test_a_refusal_says_when_it_came_and_what_to_write(phase, operation, text):
    with pytest.raises(SessionError, match=text):
        at(phase).require(operation, "it")


@pytest.mark.parametrize(("first", "second"), list(itertools.product(Phase, Phase)))
def test_a_session_never_goes_back(first, second):
    lifecycle = at(first)
    lifecycle.advance(second)
    assert lifecycle.phase is max(first, second)


@pytest.mark.parametrize("phase", list(Phase))
def test_a_failure_ends_what_is_not_ended_yet(phase):
    lifecycle = at(phase)
    before = lifecycle.failure
    error = ValueError("mine")
    lifecycle.fail(error)
    assert lifecycle.failure is (error if before is None else before)
    assert lifecycle.phase is max(phase, Phase.FAILED)
    with pytest.raises(SessionError):
        lifecycle.require(CALL, "it")


@pytest.mark.parametrize("phase", list(Phase))
def test_what_the_phase_implies(phase):
    lifecycle = at(phase)
    assert lifecycle.is_closed is (phase >= Phase.CLOSING)
    assert lifecycle.is_recorded is (phase < Phase.SAVING)
    assert lifecycle.has_body_ended is (phase >= Phase.DRAINING and phase is not Phase.FAILED)
