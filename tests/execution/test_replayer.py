"""Matching and replaying: why a recorded call runs again, and what a replayed one leaves in state and context."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from railtracks._logging import SessionLog
from railtracks._resume._canonical import CanonicalForms
from railtracks._resume._history import build_history
from railtracks._resume._matching import match_call
from railtracks._resume._replayer import Replayer
from railtracks._resume._reruns import ResumePolicy
from railtracks.nodes._function import FunctionNode
from railtracks.nodes._resolve import as_node
from railtracks.state import Form, Status
from railtracks.state._records import REUSED
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._transitions import RTState
from tests.execution.records import Call, new_record, records_of, tree_of


def f(argument=None):
    return argument


def typed(argument=None) -> Point:
    return argument


@dataclass
class Point:
    x: int


NODE = as_node(f, "test")
FORMS = CanonicalForms(f)
LOG = SessionLog("NONE", None, "s", lambda: 0.0)
POLICY = ResumePolicy("run", allow_rerun=True)
PUT: list[tuple[int, str, str | None, Form]] = [(0, "k", "1", Form.PLAIN)]
ROWS = [
    # recorded                                              new call       reuse
    (None,                                                  ("f", 1),      "the call that made it is not on record"),
    ([Call("f", 1)],                                        ("<f>", 1),    "its node has no key"),
    ([Call("f", 1)],                                        ("f", print),  "its arguments cannot be compared"),
    ([],                                                    ("f", 1),      "it is not on record"),
    ([Call("f", 2)],                                        ("f", 1),      "it is not on record"),
    ([Call("g", 1)],                                        ("f", 1),      "it is not on record"),
    ([Call("f", True)],                                     ("f", 1),      "it is not on record"),
    ([Call("f", (1,))],                                     ("f", [1]),    "it is not on record"),
    ([Call("g", below=[Call("f", 1)])],                     ("f", 1),      "it is not on record"),
    ([Call("f", 1, "Failed")],                              ("f", 1),      "it had failed"),
    ([Call("f", 1, "Cancelled")],                           ("f", 1),      "it had been cancelled"),
    ([Call("f", 1, "Open")],                                ("f", 1),      "it had not ended"),
    ([Call("f", 1, below=[Call("g", 1, "Open")])],          ("f", 1),      "a call below it had not ended"),
    ([Call("f", 1, changes=[(0, "k", "[1]", Form.TYPED)])], ("f", 1),      "the type of the value that it put into"),
    ([Call("f", 1, below=[Call("g", changes=[(0, "k", "0", Form.OPAQUE)])])], ("f", 1), "the value that it put into"),
    ([Call("f", 1, result=Point(1))],                       ("f", 1),      "its result is of a type"),
    ([Call("f", 1, result=object())],                       ("f", 1),      "its result is not all on record"),
    ([Call("f", 1)],                                        ("f", 1),      REUSED),
    ([Call("f", (1,))],                                     ("f", (1,)),   REUSED),
    ([Call("f", 1, result={"a": [1]})],                     ("f", 1),      REUSED),
    ([Call("f", 1, result=(1, 2))],                         ("f", 1),      REUSED),
    ([Call("f", 1, below=[Call("g", 1, "Failed")])],        ("f", 1),      REUSED),
    ([Call("f", 1, changes=PUT)],                           ("f", 1),      REUSED),
    ([Call("f", 1), Call("f", 1, "Failed")],                ("f", 1),      REUSED),
]  # fmt: skip


@pytest.mark.parametrize(("recorded", "call", "reuse"), ROWS)
def test_match_says_whether_and_why_a_call_runs(recorded, call, reuse):
    root = None if recorded is None else build_history(records_of(recorded))
    match = match_call(root, new_record(RTState(), *call), NODE, FORMS)
    assert match.reuse.startswith(reuse)
    assert match.is_replayed is (reuse == REUSED)
    if match.is_replayed:
        assert match.result == recorded[0].result
        assert match.node.record.index == 0
    else:
        assert (match.result, match.descendants, match.changes) == (None, (), ())


HANDLED = [
    # recorded calls, of a caller that has not ended       the first one is replayed
    ([Call("f", 1, "Failed"), Call("f", 1)],                True),
    ([Call("f", 1, "Failed"), Call("g", 1, "Failed")],      True),
    ([Call("f", 1, "Failed")],                              False),
    ([Call("g", 1), Call("f", 1, "Failed")],                False),
]  # fmt: skip


@pytest.mark.parametrize(("recorded", "is_replayed"), HANDLED)
def test_failure_is_replayed_if_its_caller_had_gone_on(recorded, is_replayed):
    match = match_call(build_history(records_of(recorded)), new_record(RTState(), "f", 1), NODE, FORMS)
    assert match.is_replayed is is_replayed
    assert (type(match.result), str(match.result)) == (ValueError, "boom") if is_replayed else match.result is None


def test_node_with_memo_false_runs_and_its_children_match():
    root = build_history(records_of([Call("f", 1, below=[Call("g", 2)])]))
    match = match_call(
        root, new_record(RTState(), "f", 1), FunctionNode(f, name="f", is_async=False, memo=False), FORMS
    )
    assert match.reuse == "its node has memo=False"
    assert match_call(match.node, new_record(RTState(), "g", 2), NODE, FORMS).is_replayed


def test_return_annotation_restores_the_type_of_the_result():
    root = build_history(records_of([Call("f", 1, result=Point(2))]))
    assert match_call(
        root, new_record(RTState(), "f", 1), as_node(typed, "test"), CanonicalForms(typed)
    ).result == Point(2)


def test_equal_calls_are_matched_in_order():
    root = build_history(records_of([Call("f", 1, result=i) for i in range(3)]))
    state = RTState()
    matches = [match_call(root, new_record(state, "f", 1), NODE, FORMS) for _ in range(4)]
    assert [match.result for match in matches] == [0, 1, 2, None]
    assert matches[3].reuse == "it is not on record"


# ---- replaying


@pytest.fixture
def state():
    return RTState()


def replay(replayer, state, context, *call, orders=()):
    record = new_record(state, *call)
    match = replayer.match(record, NODE, None)
    assert match.is_replayed
    replayer.replay(record, match, list(orders), context)
    return record


def test_replayed_call_stands_in_the_state_with_its_descendants(state):
    known = [Call("f", 1, result="r", below=[Call("g", 2, below=[Call("h", 3)]), Call("g", 4, "Failed")])]
    replayer = Replayer(records_of(known), state, Redactor(), LOG, POLICY)
    new_record(state, "other")
    record = replay(replayer, state, {}, "f", 1)
    assert tree_of(state.records)[1:] == tree_of(records_of(known))
    assert record.result == "r"
    assert [r.reuse for r in state.records[1:]] == [REUSED] * 4


def test_replayed_calls_have_the_recorded_times(state):
    history = records_of([Call("f", 1, below=[Call("g", 2)])])
    replayer = Replayer(history, state, Redactor(), LOG, POLICY)
    replay(replayer, state, {}, "f", 1)
    assert [(r.started, r.ended) for r in state.records] == [(0.0, 3.0), (1.0, 2.0)]


def test_match_is_recorded_as_the_reuse_of_the_call(state):
    replayer = Replayer(records_of([Call("f", 1, "Failed")]), state, Redactor(), LOG, POLICY)
    first, second = new_record(state, "f", 1), new_record(state, "f", 2)
    match = replayer.match(first, NODE, None)
    replayer.match(second, NODE, None)
    assert (first.reuse, second.reuse) == ("it had failed", "it is not on record")
    nested = new_record(state, "g", 1, first)
    assert replayer.match(nested, NODE, match.node).reuse == "it is not on record"
    assert replayer.match(new_record(state, "g", 1, second), NODE, None).reuse.startswith("the call that made it")


def put(order, value):
    return (order, "k", value, Form.PLAIN)


CHANGES = [
    # changes of f(1)                  changes of f(2)      before      after f(1), f(2)    after f(2), f(1)
    ([put(0, "1")],                    [],                  {},         {"k": 1},           {"k": 1}),
    ([put(0, None)],                   [],                  {"k": 0},   {},                 {}),
    ([put(0, None)],                   [],                  {},         {},                 {}),
    ([put(0, "1"), put(1, "2")],       [],                  {},         {"k": 2},           {"k": 2}),
    ([put(0, "1")],                    [put(1, "2")],       {},         {"k": 2},           {"k": 2}),
    ([put(0, "1"), put(2, "3")],       [put(1, "2")],       {},         {"k": 3},           {"k": 3}),
    ([put(0, "1")],                    [put(1, None)],      {},         {},                 {}),
    ([(0, "a", "1", Form.PLAIN)],      [put(1, '{"b": 2}')], {}, {"a": 1, "k": {"b": 2}}, {"a": 1, "k": {"b": 2}}),
]  # fmt: skip


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize(("first", "second", "before", "forward", "backward"), CHANGES)
def test_context_changes_are_applied_in_their_recorded_order(state, first, second, before, forward, backward, order):
    history = records_of([Call("f", 1, changes=first), Call("f", 2, changes=second)])
    replayer, context, numbers = (
        Replayer(history, state, Redactor(), LOG, POLICY),
        dict(before),
        iter(range(10, 20)),
    )
    for argument in order:
        changes = {1: first, 2: second}[argument]
        record = replay(replayer, state, context, "f", argument, orders=[next(numbers) for _ in changes])
        assert [c[1:] for c in record.changes or ()] == [(*c[1:], None) for c in changes]
    assert context == (forward if order == (1, 2) else backward)
    assert sorted(c.order for r in state.records for c in r.changes or ()) == list(range(10, 10 + len(first + second)))


def test_texts_of_the_history_are_settled(state):
    history = records_of([Call("f", 1, result=2), Call("f", 3, "Open")])
    for record in history:
        record.inputs = record.output = None
    Replayer(history, state, Redactor(), LOG, POLICY)
    assert [r.output for r in history] == ['"output": 2', '"output": null']
    assert all(r.inputs for r in history)
    assert history[1].status is Status.OPEN
