"""Call trees and strategies: their reprs are code, and the promise holds for whatever is drawn."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import FatalError
from railtracks.testing import check, faults, invariants, simulate, trees
from railtracks.testing.faults import Fault, Raise
from railtracks.testing.strategies import backends, executors, fault_plans, flows, policies, seeds, session_options
from tests.effort import examples

KINDS = {name: kind for name, kind in vars(trees).items() if name in trees.__all__}


@examples(200)
@given(flows())
def test_the_repr_of_a_tree_is_the_code_that_makes_it(tree):
    again = eval(repr(tree), {**KINDS, "rt": rt})
    assert again == tree
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert repr(again) == repr(tree)
    assert again.size == tree.size


@examples(200)
@given(fault_plans(["a", "b"], hang=True, returns={None: None}))
def test_so_is_that_of_a_plan(plan):
    assert repr(eval(repr(plan), vars(faults))) == repr(plan)


@examples(150)
@given(flows(), session_options(limits=True), fault_plans(hang=True, returns={None: None}), seeds(), backends())
def test_the_promise_holds_for_whatever_is_drawn(tree, options, plan, seed, backend):
    outcome = simulate(tree, seed=seed, backend=backend, faults=plan, **options)
    check(outcome, *[invariants.ends_at_node_timeouts] * ("Shield" not in repr(tree)))


@examples(60)
@given(
    flows(max_leaves=5, places=["pool"]),
    session_options(limits=True),
    fault_plans(max_size=1, hang=True, returns={None: None}),
    executors(),
    seeds(),
    backends(),
)
def test_the_promise_holds_for_parts_in_workers(tree, options, plan, executor, seed, backend):
    fresh = eval(repr(executor), {"Executor": faults.Executor})  # an executor counts its work
    check(simulate(tree, seed=seed, backend=backend, executors={"pool": fresh}, **options))


@examples(25)
@given(flows(), session_options(limits=True), fault_plans(hang=True, returns={None: None}), seeds(), backends())
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


parts = st.sampled_from([trees.Return(), trees.Sleep(1), trees.Hang()])
with_policies = st.builds(lambda part, given: trees.WithPolicies(part, **given), parts, policies(["pool"]))


@pytest.mark.parametrize(
    ("drawn", "kind", "smallest"),
    [
        (flows(max_leaves=2), trees.TreeError, "Raise()"),
        (with_policies, rt.exceptions.NodeTimeOutError, "WithPolicies(Hang(), timeout=3.25)"),
        (with_policies, rt.exceptions.ConfigError, "WithPolicies(Return(), where='pool')"),
    ],
    ids=["no policy", "a timeout", "a place"],
)
def test_a_failure_shrinks_to_the_policies_it_needs(drawn, kind, smallest):
    how = settings(max_examples=300, derandomize=True, database=None, deadline=None)
    found = find(drawn, lambda tree: isinstance(simulate(tree).exception, kind), settings=how)
    assert repr(found) == smallest


# ---- each kind

AGAIN = rt.Retry(attempts=2, wait_initial=1, wait_jitter=0)


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
        (trees.WithPolicies(trees.Sleep(1)), 1, 1, 2),
        (trees.WithPolicies(trees.Thread(1), timeout=2), 1, 1, 4),
        (trees.Batch(*[trees.WithPolicies(trees.Sleep(1), limit=1)] * 3), 3, 3, 7),
        (trees.Batch(*[trees.WithPolicies(trees.Sleep(1), cache=rt.Cache(key=repr))] * 3), 3, 1, 7),
        (trees.Try(trees.WithPolicies(trees.Raise(), retries=AGAIN)), "caught", 1, 4),
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
        (trees.WithPolicies(trees.Hang(), timeout=3), rt.exceptions.NodeTimeOutError, 3),
        (trees.WithPolicies(trees.Shield(4), timeout=3), rt.exceptions.NodeTimeOutError, 4),
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


def test_policies_of_each_kind_are_drawn():
    seen = set()

    @settings(max_examples=100, database=None, deadline=None, derandomize=True)
    @given(policies(["pool"]))
    def draw(given):
        seen.update(given)

    draw()
    assert seen == {"timeout", "retries", "limit", "cache", "where"}


@examples(50)
@given(fault_plans(["only"], store=False, max_size=2, exceptions=[KeyError], hang=True, returns={"only": None}))
def test_plans_are_as_they_were_asked_for(plan):
    assert len(plan) <= 2
    for fault in plan:
        assert isinstance(fault, Fault)
        assert fault.node == "only"
        if isinstance(fault.does, Raise):
            assert fault.does.exception is KeyError
