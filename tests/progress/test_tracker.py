"""The counts of calls, compared with a recount of the records."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from railtracks._progress._tracker import CallTracker
from railtracks._progress._tree import SHOWN_ENDED, live_tree
from railtracks.state import Reason, Status
from railtracks.state._replayed_calls import ReplayedCalls
from railtracks.state._transitions import RTState
from railtracks.state._views._folds import FOLD_FROM

ENDS = (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.SUSPENDED)


@st.composite
def programs(draw: st.DrawFn) -> list[tuple[str, int, Any]]:
    """Steps: make a call below the n-th open one, end the n-th open one, or read."""
    step = st.one_of(
        st.tuples(st.just("create"), st.integers(0, 10), st.sampled_from("abc")),
        st.tuples(st.just("many"), st.integers(0, 10), st.sampled_from("abc")),
        st.tuples(st.just("end"), st.integers(0, 60), st.sampled_from(ENDS)),
        st.tuples(st.just("read"), st.just(0), st.none()),
    )
    return draw(st.lists(step, max_size=60))


def end(state: RTState, record: Any, status: Status) -> None:
    if status is Status.COMPLETED:
        state.succeeded(record, None, 2.0)
    elif status is Status.FAILED:
        state.failed(record, ValueError(), 2.0)
    elif status is Status.CANCELLED:
        state.cancelled(record, Reason.OUTSIDE, 2.0)
    else:
        state.suspended(record, 2.0)


def run(program: list[tuple[str, int, Any]]) -> tuple[RTState, CallTracker]:
    """Run a program in which each call outlives those that it made, as nodes do that wait for what they start."""
    state = RTState()
    tracker = CallTracker(state)
    for kind, number, what in program:
        opened = state.open_records()
        if kind in ("create", "many"):
            caller = opened[number % len(opened)] if opened and number else None
            for _ in range(1 if kind == "create" else FOLD_FROM + 2):
                state.created(what, "Other", (), {}, caller, 1.0)
        elif kind == "read":
            tracker.update()
        elif opened:
            callers = {record.parent for record in opened}
            innermost = [record for record in opened if record.index not in callers]
            end(state, innermost[number % len(innermost)], what)
    tracker.update()
    return state, tracker


@given(programs())
def test_the_counts_are_those_of_the_records(program):
    state, tracker = run(program)
    opened = {record.index: record for record in state.open_records()}
    assert tracker.open == opened
    assert list(tracker.open) == list(opened)
    for caller in (None, *opened):
        of_caller = [record for record in state.records if record.parent == caller]
        groups = {group.name: group for group in tracker.groups(caller)}
        assert list(groups) == list(dict.fromkeys(record.name for record in of_caller))
        for name, group in groups.items():
            records = [record for record in of_caller if record.name == name]
            counts = Counter(record.status for record in records)
            assert {status: count for status, count in group.ends.by_status.items() if count} == counts
            assert group.total == len(records)
            assert list(group.open.values()) == [record for record in records if record.status is Status.OPEN]


@given(programs())
def test_nothing_is_kept_of_calls_that_have_ended(program):
    state, tracker = run(program)
    opened = {record.index for record in state.open_records()}
    assert set(tracker._groups) <= {None, *opened}


@given(programs(), st.integers(0, 40))
def test_a_tree_fits_and_counts_every_open_call(program, height):
    state, tracker = run(program)
    lines = live_tree(tracker, lambda record: f"call {record.index}", str, height)
    assert len(lines) <= height
    if not height:
        return
    shown, left = set[int](), 0
    above: list[tuple[int, bool]] = []  # the indents of the lines around, and whether each is a fold
    in_folds = 0
    for line in lines:
        while above and above[-1][0] >= len(line.indent):
            above.pop()
        if found := re.fullmatch(r"call (\d+)", line.text):
            shown.add(int(found[1]))
            in_folds += bool(above and above[-1][1])
        elif found := re.fullmatch(r"… and (\d+) more running", line.text):
            left = int(found[1])
        elif found := re.search(r"(\d+) running", line.text):
            in_folds -= int(found[1])
        above.append((len(line.indent), " × " in line.text))
    opened = [record.index for record in state.open_records()]
    assert shown <= set(opened)
    assert len(shown) - in_folds + left == len(opened)


@given(programs())
def test_a_tree_that_fits_shows_each_call_below_its_caller(program):
    state, tracker = run(program)
    lines = live_tree(tracker, lambda record: f"call {record.index}", str, 10_000)
    path: list[tuple[int, str]] = []
    for line in lines:
        while path and path[-1][0] >= len(line.indent):
            path.pop()
        if found := re.fullmatch(r"call (\d+)", line.text):
            caller = state.entries[int(found[1])].parent
            above = [text for _, text in path if text.startswith("call ")]
            assert (above[-1] if above else None) == (None if caller is None else f"call {caller}")
        path.append((len(line.indent), line.text))


def texts(tracker: CallTracker, height: int = 50) -> list[str]:
    return [str(line) for line in live_tree(tracker, lambda record: f"{record.name}()", str, height)]


def make(state: RTState, name: str, caller: Any, *statuses: Status) -> None:
    for status in statuses:
        record = state.created(name, "Other", (), {}, caller, 1.0)
        if status is not Status.OPEN:
            end(state, record, status)


def test_many_calls_fold():
    state = RTState()
    tracker = CallTracker(state)
    root = state.created("all", "Other", (), {}, None, 1.0)
    make(state, "fetch", root, *[Status.COMPLETED] * 120, Status.FAILED, *[Status.OPEN] * 8)
    make(state, "parse", root, Status.OPEN, Status.OPEN)
    tracker.update()
    assert texts(tracker) == [
        "└─ all()",
        "   ├─ fetch × 129: 120 ok, 1 failed, 8 running",
        "   │  ├─ fetch()",
        "   │  ├─ fetch()",
        "   │  └─ fetch()",
        "   ├─ parse()",
        "   └─ parse()",
    ]


def test_steps_that_have_ended_long_ago_share_a_line():
    state = RTState()
    tracker = CallTracker(state)
    for number in range(2 + SHOWN_ENDED):
        make(state, f"step{number}", None, Status.COMPLETED)
    make(state, "last", None, Status.OPEN)
    tracker.update()
    assert texts(tracker) == [
        "├─ 2 calls of 2 nodes: 2 ok",
        "├─ step2 × 1: 1 ok",
        "├─ step3 × 1: 1 ok",
        "├─ step4 × 1: 1 ok",
        "└─ last()",
    ]


def test_the_deepest_calls_are_left_out_first():
    state = RTState()
    tracker = CallTracker(state)
    caller = None
    for depth in range(10):
        caller = state.created(f"level{depth}", "Other", (), {}, caller, 1.0)
    make(state, "other", None, Status.OPEN)
    tracker.update()
    assert texts(tracker, 4) == ["├─ level0()", "│  └─ level1()", "├─ other()", "└─ … and 8 more running"]


def test_a_call_that_outlives_its_caller_is_counted():
    state = RTState()
    tracker = CallTracker(state)
    root = state.created("root", "Other", (), {}, None, 1.0)
    middle = state.created("middle", "Other", (), {}, root, 1.0)
    tracker.update()
    make(state, "task", middle, Status.OPEN)
    tracker.update()
    end(state, middle, Status.COMPLETED)
    tracker.update()
    make(state, "late", middle, Status.OPEN)
    tracker.update()
    assert texts(tracker) == ["├─ root()", "│  └─ middle × 1: 1 ok", "└─ … and 2 more running"]


def test_calls_below_a_replayed_one_are_left_out():
    past = RTState()
    old = past.created("root", "Other", (), {}, None, 1.0)
    make(past, "child", old, Status.COMPLETED, Status.COMPLETED)
    end(past, old, Status.COMPLETED)
    from railtracks.state._call_tree import CallTree, Descendants

    state = RTState()
    tracker = CallTracker(state)
    record = state.created("root", "Other", (), {}, None, 3.0)
    state.reused(record, old, Descendants(CallTree(past.records), old), None)
    assert isinstance(state._replayed[0], ReplayedCalls)
    make(state, "next", None, Status.OPEN)
    tracker.update()
    assert texts(tracker) == ["├─ root × 1: 1 ok", "└─ next()"]


def test_a_reading_can_be_cut_short_and_goes_on_next_time():
    state = RTState()
    tracker = CallTracker(state)
    make(state, "call", None, *[Status.OPEN] * 5_000)
    answers = iter([False, True, True])
    tracker.update(lambda: next(answers))
    assert 0 < len(tracker.open) < 5_000
    tracker.update()
    assert len(tracker.open) == 5_000
    for record in state.open_records():
        end(state, record, Status.COMPLETED)
    answers = iter([False, True])
    tracker.update(lambda: next(answers))
    assert 0 < len(tracker.open) < 5_000
    tracker.update()
    assert not tracker.open
    [group] = tracker.groups(None)
    assert group.completed == 5_000
