"""Random flows that are killed at random points, resumed and forked end like undisturbed ones.

Of each history the model (``tests/durability/model``) says which answers of the world outside its run has seen, and in
which order. An undisturbed run that sees the same must end in the same way.
"""

from __future__ import annotations

import pytest

from railtracks._concurrency._single_flight import SingleFlight
from railtracks._resume import _replayer
from railtracks._resume._context_order import ContextOrder
from railtracks._resume._matching import Match
from railtracks._resume._order import ReplayOrder
from railtracks._session import _run_messages
from railtracks.execution._mailbox import SessionMailbox
from railtracks.execution._recorded_results import RecordedResults
from railtracks.execution._recording._failed_calls import FailedCalls
from railtracks.state._call_tree import CallTree
from tests.durability.model.__main__ import attempt, describe, shrink
from tests.durability.model.drawing import History, Kill, draw
from tests.durability.model.programs import Batch, Below, Branches, Context, Leaf, Raise, Sleep, Try, Wait, smaller
from tests.effort import FACTOR

COUNT = 250
FIRST = {"asyncio": 0, "trio": 1_000_000}
"""The seed of the first history."""

# ---- what the model has found: a history of each kind, as small as it can be

CASES = {
    "killed while a handled failure is replayed": History(
        (Try((Leaf(1), Leaf(2, fails=1)), (Leaf(3), Leaf(4)), times=3),), 7, (Kill("effect", 8), Kill("write", 14))
    ),
    "equal calls of several attempts": History(
        (Batch((Leaf(1), Leaf(1), Leaf(1))), Leaf(2)), 0, (Kill("effect", 4), Kill("write", 6))
    ),
    "retries that were used up": History((Leaf(1, fails=99, tries=1),), 19, ()),
    "attempt that was cancelled": History((Branches(((Leaf(1, fails=1, tries=1),), (Leaf(2, fails=1),))),), 30, ()),
    "fallback in other tasks": History(
        (Try((Leaf(1, fails=2),), (Branches(((Leaf(2), Leaf(3, fails=1)),)),)),), 5057, ()
    ),
    "fallback in a batch": History(
        (Try((Leaf(1, fails=2),), (Batch((Below((Leaf(2), Leaf(3, fails=1))),), returns_exceptions=False),)),), 75, ()
    ),
    "retried in other tasks": History(
        (Try((Branches(((Leaf(1), Leaf(2, fails=99)),)),), times=3),), 10040, (Kill("effect", 4),)
    ),
    "failed item of a batch in another task": History(
        (Branches(((Batch((Below((Leaf(1, fails=1),)),)), Leaf(2), Leaf(3, fails=1)),)),), 10063, ()
    ),
    "failure handled before other tasks": History(
        (Try((Leaf(1, fails=1),)), Branches(((Leaf(2, fails=1),), (Leaf(3),)))), 127, ()
    ),
    "sleep that is over": History((Sleep(193),), 354, (Kill("write", 5),)),
    "inner flow before what is replayed": History(
        (Branches(((Below((Leaf(1, fails=2),), 1, "flow"),), (Leaf(2),))),), 2061, ()
    ),
    "change in the middle of a replayed call": History(
        (
            Branches((
                (Leaf(1), Context("put", "a"), Leaf(2), Leaf(3)), (Below((Leaf(4), Context("put", "a"), Leaf(5)), 4),)
            )),
            Raise(),
        ), 3, (None, None)
    ),
    "changes in the middle of two replayed calls": History(
        (
            Branches((
                (Below((Leaf(4), Leaf(4), Context("put", "a"), Leaf(5)), 4),),
                (Below((Leaf(4), Context("put", "a"), Leaf(5)), 5),),
            )),
            Raise(),
        ), 0, (None, None)
    ),
    "change of a call that is tried again": History(
        (
            Branches((
                (Below((Try((Leaf(4, fails=1, puts="a"),), (Leaf(9),), times=3),), 2), Leaf(10, fails=1)),
                (Leaf(17, fails=1, puts="a"),),
            )),
        ), 50341, ()
    ),
    "equal items of a batch": History(
        (Leaf(0), Batch((Leaf(1), Leaf(1), Leaf(1, fails=1), Leaf(1))), Leaf(2)), 0, (Kill("effect", 5),)
    ),
    "item of a batch that begins because another one has failed": History(
        (Batch((Leaf(2), Leaf(3, fails=1), Leaf(4)), limit=2), Leaf(5)), 3, (Kill("write", 9),)
    ),
    "failed item that is replayed before an attempt is killed": History(
        (Batch((Leaf(1, fails=99), Leaf(2)), limit=1), Leaf(2, fails=2)), 0, (None, Kill("write", 7))
    ),
    "change of the context in an attempt that is killed soon": History(
        (Try((Context("add", "b"), Leaf(1, fails=1)), (Leaf(2, puts="b"),)), Leaf(3, fails=2)),
        0, (None, Kill("write", 3))
    ),
    "change of the context by what is replayed after something new": History(
        (Try((Leaf(4, fails=1), Leaf(7, puts="b"), Leaf(8, fails=99)), (Leaf(11, puts="b"),), reraises=True),), 0, ()
    ),
    "handler that is not called again, beside another task": History(
        (
            Batch((
                Below((Try((Leaf(5, fails=2),), (Leaf(6), Leaf(7)), reraises=True),), 1),
                Below((Leaf(9), Leaf(10), Leaf(11)), 1),
            ), limit=2, returns_exceptions=False),
        ), 0, ()
    ),
    "change of the context by a handler that is not called again": History(
        (
            Below((Try((Leaf(5, fails=1),), (Leaf(6, puts="a"),), reraises=True),), 1), Leaf(13, fails=1),
        ), 0, ()
    ),
    "call with completed ones below that is given up again": History(
        (
            Try((
                Branches((
                    (Leaf(1), Leaf(2, fails=99)), (Leaf(3), Below((Leaf(4), Leaf(5), Leaf(6), Leaf(7)))),
                )),
            )),
            Leaf(8, fails=1),
        ), 0, ()
    ),
    "handler in another task than what had failed": History(
        (
            Branches((
                (Try((Branches(((Leaf(11, fails=1),),)),), (Leaf(22), Leaf(23)), reraises=True),), (Leaf(25), Leaf(26)),
            )),
        ), 9318, ()
    ),
    "change of the context before a call that was cancelled soon": History(
        (
            Below((
                Branches((
                    (Leaf(2), Try((Context("put", "a"), Branches(((Leaf(5), Leaf(6, fails=99)),))), times=3)),
                    (Leaf(15), Leaf(16)),
                ), first=True),
                Leaf(18, fails=1),
            ), 1),
        ), 7002911, ()
    ),
    "call that was cancelled before it had ended, and an equal one": History(
        (
            Try((Leaf(4, fails=2),), (
                Try((
                    Try((Branches(((Leaf(7),), (Leaf(8, fails=1),))),), times=2),
                ), None),
            ), reraises=True),
        ), 7003947, (Kill("effect", 3),)
    ),
    "deletion of nothing before another task changes the context": History(
        (
            Batch((
                Below((Batch((Leaf(8),)), Context("delete", "a"), Wait("message", "8", then=Leaf(9))), 1),
                Below((Leaf(20), Leaf(21), Leaf(21, puts="a")), 4),
            )),
        ), 9809, ()
    ),
    "equal items of a batch that are tried again": History(
        (Batch((Leaf(1, fails=2, tries=1), Leaf(1)), returns_exceptions=False), Leaf(3, fails=1)),
        8421, (None, Kill("write", 5))
    ),
    "killed when the failure that ended the run was on record": History(
        (Try((Leaf(3, fails=1),), (Leaf(4),), reraises=True),), 0, (Kill("write", 8),)
    ),
    "failure after which the call was only begun again": History(
        (Try((Leaf(8, fails=1), Leaf(8)), (Leaf(12),), reraises=True),), 0, (None, Kill("effect", 1))
    ),
    "call that was cancelled soon, before an equal one": History(
        (
            Try((
                Branches(((Leaf(8), Leaf(9, fails=1)), (Branches(((Leaf(25), Leaf(26)),)), Leaf(27)))),
            ), times=3),
            Leaf(28, fails=1),
        ), 9207, ()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_case(backend, name):
    assert attempt(CASES[name], backend) == []


# ---- any history


@pytest.mark.either_backend
@pytest.mark.parametrize("count", [30, pytest.param(COUNT, marks=pytest.mark.slow)])
def test_random_histories_end_like_undisturbed_runs(backend, count):
    for seed in range(FIRST[backend], FIRST[backend] + count * FACTOR):
        history = draw(seed)
        if problems := attempt(history, backend):
            less = shrink(history, backend, 100)
            again = f"python -m tests.durability.model --backend {backend} --seed {seed} --count 1"
            pytest.fail("\n".join([describe(less), *(attempt(less, backend) or problems), again]))


# ---- the model itself


def test_a_seed_is_one_history():
    assert all(draw(seed) == draw(seed) for seed in range(20))
    assert len({describe(draw(seed)) for seed in range(20)}) == 20


def test_each_smaller_program_is_another_one():
    program = draw(3).program
    assert all(less != program for less in smaller(program))


def forget_handled_failures(monkeypatch):
    monkeypatch.setattr(CallTree, "has_gone_on", lambda *_: False)
    return History((Try((Leaf(1, fails=1),), (Leaf(2),)), Leaf(3)), 1, (Kill("effect", 3),))


def replay_failures_that_ended_the_run(monkeypatch):
    monkeypatch.setattr(FailedCalls, "found_in", lambda *_: None)
    return History((Try((Leaf(1, fails=1),), (Leaf(2),), reraises=True),), 1, (None,))


def forget_changes_of_the_context(monkeypatch):
    monkeypatch.setattr(_replayer, "restore_change", lambda _: "lost")
    return History((Leaf(1, puts="a"), Leaf(2)), 1, (Kill("effect", 2),))


def run_again_what_completed(monkeypatch):
    monkeypatch.setattr(_replayer, "match_call", lambda *_: Match(None, "it is not on record"))
    return History((Leaf(1), Leaf(2)), 1, (Kill("effect", 2),))


def replay_in_any_order(monkeypatch):
    monkeypatch.setattr(ReplayOrder, "must_wait", lambda *_: False)
    monkeypatch.setattr(ContextOrder, "must_wait", lambda *_: False)
    blocks = (Leaf(1), Context("add", "a")), (Leaf(2), Context("add", "a"))
    return History((Branches(blocks), Raise()), 3, (None,))


def take_messages_twice(monkeypatch):
    monkeypatch.setattr(_run_messages, "numbers_on_record", lambda _: set())
    return History((Wait("message", "t"), Leaf(1), Wait("message", "t")), 1, (None, Kill("effect", 1)))


def remove_messages_before_they_are_on_record(monkeypatch):
    def read_and_remove(mailbox, removable):
        found = read(mailbox, removable)
        for number, _ in found:
            mailbox._mailbox.remove_message(mailbox._coordinator.session_id, number)
        return found

    read = SessionMailbox._read
    monkeypatch.setattr(SessionMailbox, "_read", read_and_remove)
    return History((Leaf(1, sends="u"), Wait("message", "t"), Leaf(2, fails=99)), 1, ())


def forget_results_of_calls_that_are_given_up(monkeypatch):
    monkeypatch.setattr(RecordedResults, "take", lambda *_: iter(()))
    cached = Leaf(-1, policy="cache")
    blocks = (Leaf(2), Leaf(3), Leaf(4)), (Below((cached, Leaf(5), Leaf(6))),)
    return History((Branches(blocks, first=True), Leaf(7, fails=1), Below((cached, Leaf(8)), 1)), 1, ())


def run_equal_calls_at_once(monkeypatch):
    monkeypatch.setattr(SingleFlight, "join", lambda *_: (None, None))
    return History((Batch((Leaf(-1, policy="cache in store"),) * 2), Leaf(1)), 1, ())


FAULTS = [
    forget_handled_failures, replay_failures_that_ended_the_run, forget_changes_of_the_context,
    run_again_what_completed, replay_in_any_order, take_messages_twice, remove_messages_before_they_are_on_record,
    forget_results_of_calls_that_are_given_up, run_equal_calls_at_once,
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_model_notices_a_fault_of_resuming(backend, monkeypatch, fault):
    history = fault(monkeypatch)
    histories = [History(history.program, seed, history.kills) for seed in range(10)]
    assert any(attempt(each, backend) for each in histories)
    monkeypatch.undo()
    assert [attempt(each, backend) for each in histories] == [[]] * 10


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_random_histories_find_each_fault(backend, monkeypatch, fault):
    fault(monkeypatch)
    first = FIRST[backend]
    assert any(attempt(draw(seed), backend) for seed in range(first, first + 500))
