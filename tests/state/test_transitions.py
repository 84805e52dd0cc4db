"""RTState as a table: from each status, what may follow."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from railtracks.exceptions import StateError
from railtracks.state import CallRecord, Reason, Status
from railtracks.state._transitions import RTState

ERROR = ValueError("boom")

TRANSITIONS = {
    Status.COMPLETED: lambda state, record: state.succeeded(record, "result", 2.0),
    Status.FAILED: lambda state, record: state.failed(record, ERROR, 2.0),
    Status.CANCELLED: lambda state, record: state.cancelled(record, Reason.TIMEOUT, 2.0),
    Status.SUSPENDED: lambda state, record: state.suspended(record, 2.0),
}


def create(state, parent=None, name="node"):
    return state.created(name, "Tool", (1,), {"a": 2}, parent, 1.0)


def fields(record):
    return attrs.asdict(record, recurse=False)


@pytest.mark.parametrize("end", TRANSITIONS)
def test_while_a_session_is_suspended_each_end_is_a_suspension(end):
    state = RTState()
    record = create(state)
    state.is_suspending = True
    TRANSITIONS[end](state, record)
    assert (record.status, record.reason) == (Status.SUSPENDED, Reason.SUSPENDED)
    assert (record.result, record.exception, record.ended, record.ended_step) == (None, None, 2.0, 1)
    assert state.open_calls == 0


@pytest.mark.parametrize("target", TRANSITIONS)
@pytest.mark.parametrize("origin", Status)
def test_only_an_open_call_can_end(origin, target):
    """A transition that is refused changes nothing."""
    state = RTState()
    record = create(state)
    if origin is Status.OPEN:
        TRANSITIONS[target](state, record)
        assert record.status is target
        return
    TRANSITIONS[origin](state, record)
    before, step = fields(record), state.step
    with pytest.raises(StateError, match=rf"call 0 \(node\) is {origin}; it cannot become {target}"):
        TRANSITIONS[target](state, record)
    assert (fields(record), state.step) == (before, step)


@pytest.mark.parametrize(
    ("target", "outcome"),
    [
        (Status.COMPLETED, ("result", None, None)),
        (Status.FAILED, (None, ERROR, None)),
        (Status.CANCELLED, (None, None, Reason.TIMEOUT)),
    ],
)
def test_the_end_of_a_call_sets_its_own_outcome_and_no_other(target, outcome):
    state = RTState()
    record = create(state)
    TRANSITIONS[target](state, record)
    assert (record.result, record.exception, record.reason) == outcome
    assert (record.started_step, record.started, record.ended_step, record.ended) == (0, 1.0, 1, 2.0)


def test_a_new_call_is_open_and_has_no_outcome():
    record = create(RTState())
    assert fields(record) == fields(CallRecord(0, None, 0, "node", "Tool", (1,), {"a": 2}, 0, 1.0))
    assert (record.status, record.ended, record.ended_step, record.abandoned) == (Status.OPEN, None, None, False)


def test_a_call_that_returned_none_is_completed():
    state = RTState()
    record = create(state)
    state.succeeded(record, None, 2.0)
    assert record.status is Status.COMPLETED


def test_an_abandoned_call_takes_no_step_until_it_is_cancelled():
    state = RTState()
    record = create(state)
    state.abandoned(record)
    assert (record.abandoned, record.status, state.step) == (True, Status.OPEN, 1)
    state.cancelled(record, Reason.OUTSIDE, 2.0)
    assert (record.abandoned, record.status, record.ended_step) == (True, Status.CANCELLED, 1)


@pytest.mark.parametrize("ended", TRANSITIONS)
def test_a_call_that_has_ended_cannot_be_abandoned_any_more(ended):
    state = RTState()
    record = create(state)
    TRANSITIONS[ended](state, record)
    with pytest.raises(StateError):
        state.abandoned(record)
    assert not record.abandoned


def test_a_nested_call_knows_its_parent_and_its_run():
    state = RTState()
    create(state)
    top = create(state)
    child = create(state, top)
    grandchild = create(state, child)
    assert [(r.index, r.parent, r.run) for r in state.records] == [(0, None, 0), (1, None, 1), (2, 1, 1), (3, 2, 1)]
    assert state.records[3] is grandchild


@pytest.mark.parametrize("target", TRANSITIONS)
def test_a_snapshot_stays_as_it_was_taken(target):
    state = RTState()
    ended, still_open = create(state), create(state)
    TRANSITIONS[target](state, ended)
    snapshot = state.snapshot()
    before = [fields(record) for record in snapshot]
    TRANSITIONS[target](state, still_open)
    create(state)
    assert [fields(record) for record in snapshot] == before
    assert [record.status for record in snapshot] == [target, Status.OPEN]


@given(st.lists(st.tuples(st.sampled_from(["create", *TRANSITIONS]), st.integers(0, 20))))
def test_any_legal_history_has_contiguous_steps(history):
    """Parents stand before their children."""
    state, running = RTState(), []
    for what, pick in history:
        if what == "create":
            running.append(create(state, running[pick % len(running)] if running and pick % 2 else None))
        elif running:
            TRANSITIONS[what](state, running.pop(pick % len(running)))
    records = state.records
    steps = [r.started_step for r in records] + [r.ended_step for r in records if r.ended_step is not None]
    assert sorted(steps) == list(range(state.step))
    assert [r.index for r in records] == list(range(len(records)))
    assert {r.index for r in records if r.status is Status.OPEN} == {r.index for r in running}
    assert state.have_all_ended is (not running)
    for record in records:
        assert record.ended_step is None or record.started_step < record.ended_step
        if record.parent is None:
            assert record.run == record.index
        else:
            assert record.parent < record.index
            assert record.run == records[record.parent].run
