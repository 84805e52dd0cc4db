"""The parts of what people see of a run, on records of every shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks.state import Reason, Status
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._shown_data import shown_data
from railtracks.state._transitions import RTState
from railtracks.state._views._critical_path import critical_path
from railtracks.state._views._folds import FOLD_FROM
from railtracks.state._views._summary import max_concurrency, percentile
from railtracks.state._views._texts import shown_seconds
from railtracks.state._views._times import began_at
from railtracks.state._views._tree import Tree, TreeOptions

SECONDS = {
    0.0: "0 µs", 0.000_25: "250 µs", 0.000_999_4: "999 µs", 0.000_999_6: "1 ms", 0.012_34: "12.3 ms", 0.999_4: "999 ms",
    0.999_6: "1 s", 1.9: "1.9 s", 59.94: "59.9 s", 59.96: "1 min 00 s", 185: "3 min 05 s", 3599.4: "59 min 59 s",
    3600: "1 h 00 min", 7800: "2 h 10 min", 170_000: "47 h 13 min", 360_000: "4 d 04 h", -0.001: "0 µs",
}  # fmt: skip


@pytest.mark.parametrize("seconds", SECONDS)
def test_durations_are_written_as_people_do(seconds):
    assert shown_seconds(seconds) == SECONDS[seconds]


DATA = {
    "null": None,
    "true": True,
    "1.5": 1.5,
    '"żółw"': "żółw",
    "[1, [2, [3, [4, […]]]]]": [1, [2, [3, [4, [5]]]]],
    "{}": {},
    "[]": [],
    "<Order 7>": {"$type": "app.Order", "$repr": "<Order 7 at 0x7f00>"},
    "…": {"$ignored": True},
    "<bytes of 3 bytes>": {"$type": "bytes", "$base64": "YWJj"},
    "<bytes of 1 bytes>": {"$type": "bytes", "$base64": "YQ=="},
    r'"\u202e\ud800"': "\u202e\ud800",
    "<2000 bytes>": {"$large": "d", "$size": 2000},
    '{1: "a"}': {"$type": "dict", "$items": [[1, "a"]]},
    '{1: "a", …}': {"$type": "dict", "$items": [[1, "a"], {"$cut": 3}]},
    "{…}": {"$type": "dict", "$items": [{"$cut": 3}]},
    "ValueError('no')": {"$type": "builtins.ValueError", "$message": "no", "$traceback": ""},
    '{"x": 1}': {"$type": "app.Point", "$value": {"x": 1}},
    '"1/2"': {"$type": "fractions.Fraction", "$value": "1/2"},
    '{"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, …}': {letter: number for number, letter in enumerate("abcdefg")},
}


@pytest.mark.parametrize("text", DATA)
def test_data_is_shown_on_one_line(text):
    assert shown_data(DATA[text], 100) == text


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["$type", "$items", "$value"]), inner),
)


@given(json, st.integers(1, 200))
def test_any_data_is_shown_within_its_limit(data, limit):
    has_odd_mark = "'$" in repr(data)
    if not has_odd_mark:  # the library writes none that is not whole
        text = shown_data(data, limit)
        assert len(text) <= limit
        assert "\n" not in text


@st.composite
def trees(draw):
    """Return the records of a session: calls that begin and end at any time, in any of the ways."""
    state, opened, now = RTState(), [], 0.0
    for begins, pick, outcome in draw(
        st.lists(st.tuples(st.booleans(), st.integers(0, 99), st.integers(0, 9)), max_size=80)
    ):
        now += pick
        if begins or not opened:
            parent = opened[pick % len(opened)] if opened and outcome else None
            opened.append(state.created("ab"[pick % 2], "Tool", (pick,), {}, parent, now))
            continue
        record = opened.pop(pick % len(opened))
        if outcome == 0:
            state.failed(record, ValueError(pick), now)
        elif outcome == 1:
            state.cancelled(record, Reason.TIMEOUT, now)
        else:
            state.succeeded(record, pick, now)
    return state.snapshot()


@given(trees(), st.integers(0, 50), st.booleans(), st.booleans())
def test_a_tree_shows_or_counts_each_call(records, max_calls, folds, failed):
    lines = [str(line) for line in Tree(records, Redactor(), TreeOptions(max_calls, True, folds, failed)).lines()]
    left = 0
    if lines and lines[-1].startswith("… and"):
        left = int(lines.pop().split()[2])
        assert len(lines) == max_calls
    assert len(lines) <= max_calls
    if not folds and not failed:
        assert len(lines) + left == len(records)
    if not failed:
        assert (left > 0) <= (len(records) > max_calls)
    if failed and left == 0 and not folds:
        unusual = sum(record.status is not Status.COMPLETED for record in records)
        assert sum("Completed" not in line for line in lines) == unusual


@given(st.integers(1, 40), st.integers(0, 40))
def test_many_calls_of_one_name_are_one_line(count, fails):
    state = RTState()
    for number in range(count):
        record = state.created("f", "Tool", (number,), {}, None, 0.0)
        (state.failed if number < fails else state.succeeded)(record, ValueError(number), 1.0 + number)
    lines = list(map(str, Tree(state.snapshot(), Redactor(), TreeOptions()).lines()))
    if count < FOLD_FROM:
        assert len(lines) == count
        return
    assert lines[0].startswith(f"└─ f × {count}: ")
    failed = min(fails, count)
    assert sum("  Failed  " in line for line in lines) in (min(failed, 5), min(failed, 5) + (failed == count > 5))
    assert any(line.endswith("(slowest)") for line in lines)
    assert any("that did not complete" in line for line in lines) == (failed > 6 or 5 < failed < count)


@given(st.integers(FOLD_FROM, 40), st.integers(1, 40))
def test_a_fold_of_failures_is_without_the_slowest(count, fails):
    state = RTState()
    for number in range(count):
        record = state.created("f", "Tool", (number,), {}, None, 0.0)
        (state.failed if number < fails else state.succeeded)(record, ValueError(number), 1.0 + number)
    lines = list(map(str, Tree(state.snapshot(), Redactor(), TreeOptions(failed=True)).lines()))
    failed = min(fails, count)
    assert sum("  Failed  " in line for line in lines) == min(failed, 5)
    assert not any("Completed" in line or "(slowest)" in line for line in lines)
    assert len(lines) == 1 + min(failed, 5) + (failed > 5)
    if failed > 5:
        assert lines[-1].endswith(
            f"… and {failed - 5} more call{'s' * (failed > 6)} that did not complete, or in which one did not"
        )


@given(trees())
def test_the_critical_path_is_never_longer_than_the_session(records):
    path = critical_path(records)
    ended = [record for record in records if record.ended is not None]
    assert len({step.record.index for step in path}) == len(path)
    assert all(step.seconds >= 0 for step in path)
    if not ended:
        assert path == ()
        return
    top = [record for record in ended if record.parent is None]
    if top:
        whole = max(record.ended for record in top) - min(record.started for record in top)
        assert sum(step.seconds for step in path) <= whole + 1e-6
        last = max(top, key=lambda record: (record.ended, record.ended_step))
        assert any(step.record is last for step in path)


@given(trees())
def test_concurrency_is_counted_as_by_hand(records):
    greatest = 0
    for moment in range(2 * len(records)):
        running = {
            r.index: r.parent for r in records
            if r.started_step <= moment and (r.ended_step is None or r.ended_step > moment)
        }  # fmt: skip
        greatest = max(greatest, len(running.keys() - set(running.values())))
    assert max_concurrency(records) == greatest


@given(st.lists(st.floats(0, 100), min_size=1).map(sorted), st.sampled_from([0.5, 0.95]))
def test_a_percentile_is_the_nearest_rank(ordered, share):
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(each <= found for each in ordered) >= share * len(ordered) > sum(each < found for each in ordered)
    assert percentile([], share) is None


def test_a_run_begins_as_recorded_or_with_its_first_call():
    state = RTState()
    state.created("f", "Tool", (), {}, None, 3.0)
    records = tuple(state.snapshot())
    assert began_at(2.0, records) == 2.0
    assert began_at(None, records) == 3.0
    assert began_at(None, ()) == 0.0
