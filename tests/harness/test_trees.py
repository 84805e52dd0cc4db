"""Call trees and strategies: their reprs are code, and the promise holds for whatever is drawn."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import FatalError
from railtracks.testing import check, faults, simulate, trees
from railtracks.testing.faults import Fault, Raise
from railtracks.testing.strategies import backends, fault_plans, flows, seeds, session_options
from tests.effort import examples

KINDS = {name: kind for name, kind in vars(trees).items() if name in trees.__all__}


@examples(200)
@given(flows())
def test_the_repr_of_a_tree_is_the_code_that_makes_it(tree):
    again = eval(repr(tree), dict(KINDS))
    assert again == tree
    assert repr(again) == repr(tree)
    assert again.size == tree.size


@examples(200)
@given(fault_plans(["a", "b"]))
def test_so_is_that_of_a_plan(plan):
    assert repr(eval(repr(plan), vars(faults))) == repr(plan)


@examples(150)
@given(flows(), session_options(), fault_plans(), seeds(), backends())
def test_the_promise_holds_for_whatever_is_drawn(tree, options, plan, seed, backend):
    check(simulate(tree, seed=seed, backend=backend, faults=plan, **options))


@examples(25)
@given(flows(), session_options(), fault_plans(), seeds(), backends())
def test_whatever_is_drawn_has_the_same_story_again(tree, options, plan, seed, backend):
    one, other = (simulate(tree, seed=seed, backend=backend, faults=plan, **options) for _ in range(2))
    assert one.story == other.story
    assert one.end == other.end
    assert one.tree == other.tree


@examples(30)
@given(flows(), seeds(), backends(), st.integers(1, 12))
def test_whatever_is_drawn_can_be_killed_and_resumed(tree, seed, backend, after):
    killed = simulate(tree, seed=seed, backend=backend, faults=[faults.Kill(after)], timeout=6.5)
    check(killed)
    if killed.store.read("s0").document is None:
        again = simulate(tree, seed=seed, backend=backend, store=killed.store, resume="s0", timeout=6.5)
        check(again)


@given(flows(max_leaves=3))
@settings(max_examples=20, deadline=None)
def test_a_tree_is_run_by_a_flow_as_well(tree):
    assert rt.Flow("Drawn", tree).entry_point.name


# ---- each kind


@pytest.mark.parametrize(
    ("tree", "result", "seconds", "calls"),
    [
        (trees.Return("a"), "a", 0, 1),
        (trees.Sleep(2), 2, 2, 1),
        (trees.Shield(2), 2, 2, 1),
        (trees.Swallow(2), 2, 2, 1),
        (trees.Thread(), 0, 0, 1),
        (trees.Thread(2), 2, 2, 2),
        (trees.Put("a", 1), 1, 0, 1),
        (trees.Broadcast(1), 1, 0, 1),
        (trees.Sequence(), [], 0, 1),
        (trees.Sequence(trees.Sleep(1), trees.Sleep(2)), [1, 2], 3, 3),
        (trees.Parallel(), None, 0, 1),
        (trees.Parallel(trees.Sleep(1), trees.Sleep(2)), None, 2, 3),
        (trees.Race(), None, 0, 1),
        (trees.Race(trees.Sleep(3), trees.Sleep(2)), 2, 2, 3),
        (trees.Batch(trees.Sleep(1), trees.Raise()), 2, 1, 3),
        (trees.Batch(*[trees.Sleep(1)] * 4, limit=2), 4, 2, 5),
        (trees.Try(trees.Raise()), "caught", 0, 2),
        (trees.Try(trees.Return(1)), 1, 0, 2),
        (trees.Retry(trees.Return(1), 3), 1, 0, 2),
        (trees.Timeout(trees.Sleep(1), 2), 1, 1, 2),
        (trees.Nested(trees.Sleep(1), name="inner"), 1, 1, 2),
    ],
    ids=repr,
)
def test_what_each_kind_does(backend, tree, result, seconds, calls):
    outcome = simulate(tree, backend=backend)
    check(outcome)
    assert (outcome.result, outcome.exception, outcome.duration) == (result, None, seconds)
    assert len(outcome.info.records) == calls


@pytest.mark.parametrize(
    ("tree", "error", "seconds"),
    [
        (trees.Raise("text"), trees.TreeError, 0),
        (trees.Fatal("text"), FatalError, 0),
        (trees.Try(trees.Fatal()), FatalError, 0),
        (trees.Batch(trees.Sleep(5), trees.Raise(), strict=True), trees.TreeError, 0),
        (trees.Retry(trees.Raise(), 3), trees.TreeError, 0),
        (trees.Timeout(trees.Sleep(3), 2), TimeoutError, 2),
        (trees.Timeout(trees.Shield(3), 2), None, 3),
        (trees.Hang(), rt.exceptions.GlobalTimeOutError, 50),
        (trees.Nested(trees.Hang(), timeout=4), rt.exceptions.GlobalTimeOutError, 4),
    ],
    ids=repr,
)
def test_how_each_kind_fails(backend, tree, error, seconds):
    outcome = simulate(tree, backend=backend, timeout=50)
    check(outcome)
    assert type(outcome.exception) is (type(None) if error is None else error)
    assert outcome.duration == seconds


def test_a_part_is_tried_again_as_often_as_it_says(backend):
    tree = trees.Retry(trees.Return(1), 3)
    plan = [Fault("Return", Raise(KeyError), call=1), Fault("Return", Raise(KeyError), call=2)]
    outcome = simulate(tree, backend=backend, faults=plan)
    assert outcome.result == 1
    assert len(outcome.info.records) == 4


def test_swallow_returns_as_if_nothing_had_been(backend):
    outcome = simulate(trees.Timeout(trees.Swallow(9), 2), backend=backend)
    check(outcome)
    assert outcome.result == "swallowed" or isinstance(outcome.exception, TimeoutError)


def test_equal_trees_are_equal_and_size_counts_calls():
    one, other = (trees.Sequence(trees.Nested(trees.Sleep(1), timeout=2), trees.Batch(trees.Hang())) for _ in range(2))
    assert one == other
    assert one != trees.Sequence(trees.Nested(trees.Sleep(1), timeout=3), trees.Batch(trees.Hang()))
    assert trees.Sequence(trees.Hang()) != trees.Parallel(trees.Hang())  # type: ignore[comparison-overlap]
    assert one.size == 5
    assert one.children == one.parts


# ---- what strategies draw


def test_trees_of_each_kind_are_drawn():
    seen = set()

    def walk(tree):
        seen.add(type(tree).__name__)
        for child in tree.children:
            walk(child)

    @settings(max_examples=300, database=None, deadline=None, derandomize=True)
    @given(flows())
    def draw(tree):
        walk(tree)

    draw()
    assert seen >= set(KINDS) - {"Tree", "TreeError"}


@examples(50)
@given(fault_plans(["only"], store=False, max_size=2, exceptions=[KeyError]))
def test_plans_are_as_they_were_asked_for(plan):
    assert len(plan) <= 2
    for fault in plan:
        assert isinstance(fault, Fault)
        assert fault.node == "only"
        if isinstance(fault.does, Raise):
            assert fault.does.exception is KeyError
