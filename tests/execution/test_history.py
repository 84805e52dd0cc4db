"""The history of a resumed run: which recorded call is matched when, and how attempts are merged and truncated."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from railtracks._resume import _siblings
from railtracks._resume._canonical import CanonicalForms
from railtracks._resume._history import build_history
from railtracks._resume._merging import merge_attempts, truncate_at_step
from railtracks._resume._siblings import match_key
from railtracks.state import Form, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import inputs_text
from tests.execution.records import Call, records_of, tree_of

DONE, FAILED, CANCELLED, OPEN = "Completed", "Failed", "Cancelled", "Open"


def key(node, argument=None):
    return node, inputs_text((argument,), {}, Redactor())


@pytest.mark.parametrize(
    ("node", "argument", "has_key"),
    [
        ("f", 1, True),
        ("f", (1, 2), True),
        ("<lambda>", 1, False),
        ("f", object(), False),
        ("f", json.loads("[" * 100 + "]" * 100), False),
    ],
    ids=["plain", "typed", "no key", "opaque", "cut"],
)
def test_match_key_needs_a_node_and_all_arguments(node, argument, has_key):
    [record] = records_of([Call(node, argument)])
    assert match_key(record) == (key(node, argument) if has_key else None)


POPS = [
    # recorded children           popped in this order         indices of the records that are returned
    ("f1 f2",                     "f1 f2",                     [0, 1]),
    ("f1 f2",                     "f2 f1",                     [1, 0]),
    ("f1 g1",                     "g1 f1",                     [1, 0]),
    ("f1 f1 f1",                  "f1 f1 f1",                  [0, 1, 2]),
    ("f1 f2 f1",                  "f2 f1 f1",                  [1, 0, 2]),
    ("f1",                        "f1 f1",                     [0, None]),
    ("f1",                        "f2 g1",                     [None, None]),
    ("",                          "f1",                        [None]),
]  # fmt: skip


@pytest.mark.parametrize(("children", "popped", "indices"), POPS)
def test_each_child_is_popped_once_and_equal_ones_in_order(children, popped, indices):
    root = build_history(records_of([Call(word[0], int(word[1])) for word in children.split()]))
    found = [root.pop_child(key(word[0], int(word[1]))) for word in popped.split()]
    assert [None if node is None else node.record.index for node in found] == indices


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([DONE], 0),
        ([FAILED], 0),
        ([DONE, FAILED], 0),
        ([FAILED, DONE], 1),
        ([FAILED, OPEN], 0),
        ([OPEN, FAILED, OPEN, OPEN], 1),
        ([FAILED, CANCELLED, OPEN], 2),
        ([DONE, DONE], 1),
        ([DONE, OPEN, FAILED], 0),
    ],
)
def test_which_attempt_of_the_run_counts_for_a_call(statuses, expected):
    attempts = [records_of([Call("f", 1, status=status)]) for status in statuses]
    node = build_history(*attempts).pop_child(key("f", 1))
    assert node.record is attempts[expected][0]
    assert node.attempt.children(None) == attempts[expected]


def test_children_of_all_attempts_are_found_below_their_parent():
    first = records_of([Call("main", status=FAILED, below=[Call("f", 1), Call("f", 2)])])
    second = records_of([Call("main", status=OPEN, below=[Call("f", 1, status=FAILED), Call("f", 3)])])
    main = build_history(first, second).pop_child(key("main"))
    assert [main.pop_child(key("f", i)).record for i in (1, 2, 3)] == [first[1], first[2], second[2]]


def main(*below, status=DONE):
    return [Call("main", status=status, below=[Call(name, status=status) for name, status in below])]


MERGES = {
    "nothing": ([], []),
    "empty attempts": ([[], []], []),
    "one attempt": ([main(("f", DONE))], main(("f", DONE))),
    "one that is not empty": ([[], main(("f", DONE)), []], main(("f", DONE))),
    "completed again": ([main(("f", DONE)), main(("f", DONE))], main(("f", DONE))),
    "completed later": ([main(("f", FAILED), status=FAILED), main(("f", DONE))], main(("f", DONE))),
    "lost later": ([main(("f", DONE), status=FAILED), main(status=OPEN)], main(("f", DONE), status=FAILED)),
    "failed again": (
        [main(("f", FAILED), status=FAILED), main(("f", OPEN), status=OPEN)],
        main(("f", FAILED), status=FAILED),
    ),
    "completed, then incomplete children": ([main(("f", DONE)), main(("g", FAILED), status=FAILED)], main(("f", DONE))),
    "completed, then other children": (
        [main(("f", DONE)), main(("g", DONE), status=FAILED)],
        main(("g", DONE), ("f", DONE)),
    ),
    "no key": ([main(("<lambda>", DONE), status=OPEN), main(("<lambda>", DONE))], main(("<lambda>", DONE))),
}


@pytest.mark.parametrize("case", MERGES)
def test_attempts_are_merged_into_the_records_of_one_session(case):
    attempts, expected = MERGES[case]
    merged = merge_attempts(*(records_of(calls) for calls in attempts))
    assert tree_of(merged) == tree_of(records_of(expected))
    assert [r.index for r in merged] == list(range(len(merged)))
    assert all(r.run == (0 if r.parent is not None else r.index) for r in merged)
    steps = [step for r in merged for step in (r.started_step, r.ended_step) if step is not None]
    assert sorted(steps) == list(range(len(steps)))


def test_merged_context_changes_are_numbered_through():
    """What only the older attempt did was not reached by the newer one, and comes after what that did."""

    def change(node, *orders):
        return Call(node, status=DONE, changes=[(order, "k", str(order), Form.PLAIN) for order in orders])

    merged = merge_attempts(records_of([change("f", 0, 1)]), records_of([change("g", 0)]))
    assert [[(c.order, c.value) for c in r.changes] for r in merged] == [[(0, "0")], [(1, "0"), (2, "1")]]


def test_merging_leaves_the_records_as_they_were():
    attempts = [records_of(main(("f", DONE), status=FAILED)), records_of(main(("g", DONE)))]
    before = [[(r.index, r.parent, r.started_step, r.ended_step) for r in records] for records in attempts]
    merge_attempts(*attempts)
    assert [[(r.index, r.parent, r.started_step, r.ended_step) for r in records] for records in attempts] == before


@pytest.mark.parametrize(
    ("step", "expected"),
    # steps: main 0 .. 5, f 1 .. 2, g 3 .. 4
    [
        (0, []),
        (1, main(status=OPEN)),
        (2, main(("f", OPEN), status=OPEN)),
        (3, main(("f", DONE), status=OPEN)),
        (4, main(("f", DONE), ("g", OPEN), status=OPEN)),
        (5, main(("f", DONE), ("g", DONE), status=OPEN)),
        (6, main(("f", DONE), ("g", DONE))),
        (99, main(("f", DONE), ("g", DONE))),
    ],
)
def test_truncated_records_are_those_before_the_step(step, expected):
    records = records_of(main(("f", DONE), ("g", DONE)))
    truncated = truncate_at_step(records, step)
    assert tree_of(truncated) == tree_of(records_of(expected))
    for record in truncated:
        if record.status is Status.OPEN:
            assert (record.ended, record.ended_step, record.result, record.output) == (None, None, None, None)
    assert all(r.status is Status.COMPLETED for r in records)


# ---- what is seen quickly is what comparing all siblings would find

VALUES = st.sampled_from([1, 1.0, True, None, "a", "1", "a, b", '"]', [1], {"a": 1}, 2**70])
PLACE = f"{__name__}.key"
NODES = st.sampled_from([PLACE, f"{PLACE}@2", f"{__name__}.main", f"{__name__}.gone", None])
CALLS = st.tuples(
    NODES, st.lists(VALUES, min_size=1, max_size=2), st.dictionaries(st.sampled_from(["node", "argument"]), VALUES)
)
FORMS = CanonicalForms(key)


def described(record, call):
    """Give a record the node and the arguments of a drawn call, as far as they fit together."""
    node, args, kwargs = call
    record.node = node
    record.inputs = inputs_text(tuple(args), kwargs, Redactor())
    return record


def outcomes(recorded, made):
    """Return which calls are found for some new calls, and which calls are below what these are linked with."""
    records = records_of([Call("key", below=[Call("below")]) for _ in recorded])
    for record, call in zip(records[::2], recorded, strict=True):
        described(record, call)
    root, found = build_history(records), []
    for call in made:
        [new] = records_of([Call("key")])
        new_key = match_key(described(new, call))
        match = None if new_key is None else root.pop_child(new_key, FORMS)
        linked = root.link_child(new, match, FORMS)
        below = [] if linked is None else [record.index for record in linked.child_records()]
        found.append((None if match is None else match.record.index, below))
    return found


@example([(PLACE, ["a"], {})], [(PLACE, ["a", None], {})], False)  # the default of the second
@given(st.lists(CALLS, max_size=6), st.lists(CALLS, max_size=6), st.booleans())
def test_simple_arguments_are_told_apart_as_all_are(recorded, made, is_uniform):
    if is_uniform:  # mostly the calls of one node with one argument
        recorded, made = ([(PLACE, args[:1], {}) for _, args, _ in calls] for calls in (recorded, made))
    quick = outcomes(recorded, made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_siblings.Siblings, "have_no_links", lambda *_: False)
        patch.setattr(_siblings.Siblings, "_are_simple", lambda *_: False)
        assert outcomes(recorded, made) == quick


def test_where_all_is_simple_nothing_is_compared(monkeypatch):
    monkeypatch.setattr(CanonicalForms, "of", lambda *_: pytest.fail("compared"))
    monkeypatch.setattr(CanonicalForms, "by_parameter", lambda *_: pytest.fail("compared"))
    recorded = [(PLACE, [number], {}) for number in range(5)]
    assert outcomes(recorded, [(PLACE, [number], {}) for number in (3, 7, 0)]) == [(6, [7]), (None, []), (0, [1])]
