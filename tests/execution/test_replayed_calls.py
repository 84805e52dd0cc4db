"""Calls below a replayed one: their records are made when they are asked for, and are those of a run that made them."""

import threading

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import StateError
from railtracks.state import MemoryStore, load_run
from railtracks.state import _replayed_calls as replayed_calls
from railtracks.state._call_tree import CallTree, changes_of
from railtracks.state._records import Change, Form
from railtracks.state._transitions import RTState


@rt.function_node
async def leaf(x):
    rt.context.put(f"leaf {x}", x)
    return [x]


@rt.function_node
async def branch(x):
    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(rt.call, leaf, 10 * x + number)
    return x


@rt.function_node
async def tree():
    rt.context.put("tree", 1)
    for number in range(2):
        await rt.call(branch, number)
    rt.context.put("tree", 2)


@rt.function_node
async def other():
    return "other"


@pytest.fixture
def made(monkeypatch):
    """The threads in which records were made."""
    threads = []
    make = replayed_calls.ReplayedCalls._make_copies

    def watched(self):
        threads.append(threading.current_thread())
        return make(self)

    monkeypatch.setattr(replayed_calls.ReplayedCalls, "_make_copies", watched)
    return threads


def shown(records):
    fields = ("index", "parent", "run", "name", "args", "result", "started_step", "ended_step", "status", "changes")
    return [{name: getattr(record, name) for name in fields} for record in records]


async def run(store, *nodes, **options):
    async with rt.Session(run_identifier="run", store=store, **options) as session:
        for node in nodes:
            await rt.call(node)
    return session


async def test_records_below_a_replayed_call_equal_those_of_the_run(made):
    store = MemoryStore()
    first = (await run(store, tree, other)).info
    again = (await run(store, tree, other, resume="run")).info
    assert shown(again.records) == shown(first.records)
    assert again.records[1] is again.records[1]
    assert {record.reuse for record in again.records} == {"reused"}
    assert load_run("run", store) == again


async def test_records_below_a_replayed_call_have_places_of_their_own(made):
    """Also if the call comes behind others, or in another order."""
    store = MemoryStore()
    first = (await run(store, tree, other)).info
    again = (await run(store, other, tree, resume="run")).info
    assert [record.index for record in again.records] == list(range(len(first.records)))
    assert sorted(step for r in again.records for step in (r.started_step, r.ended_step)) == list(range(20))
    assert again.records[0].result == "other"
    moved = {record.index: record.index + 1 for record in first.records[:-1]}
    assert [r.parent for r in again.records[1:]] == [moved.get(r.parent) for r in first.records[:-1]]
    assert {record.run for record in again.records[1:]} == {1}


async def test_the_event_loop_does_not_make_records(tmp_path, made):
    """The thread that saves the run does."""
    store = rt.state.FileStore(tmp_path)
    await run(store, tree)
    session = await run(store, tree, resume="run")
    assert made
    assert threading.current_thread() not in made
    count = len(made)
    assert len(session.info.records) == 9
    assert len(made) == count  # once


async def test_a_snapshot_does_not_change_when_records_are_made(made):
    store = MemoryStore()
    await run(store, tree)
    async with rt.Session(run_identifier="run", store=store, resume="run", save_state=False) as session:
        await rt.call(tree)
        before, later = session.info, session.info
        assert made == []
        await rt.call(other)
        assert len(session.info.records) == 10
        assert len(before.records) == len(later.records) == 9
        assert before.records[4] is session.info.records[4]
        assert session.info == session.info


def test_changes_of_the_calls_below_are_found():
    state = RTState()
    top = state.created("top", "Tool", (), {}, None, 0.0)
    below = [state.created("below", "Tool", (), {}, top, 0.0) for _ in range(5)]
    deep = state.created("deep", "Tool", (), {}, below[3], 0.0)
    for order, record in ((2, top), (0, deep), (1, below[1]), (3, deep)):
        record.changes = [*(record.changes or ()), Change(order, "k", "1", Form.PLAIN)]
    found = CallTree(state.records).descendants(top)
    assert [change.order for change in found.changes()] == [0, 1, 2, 3]
    assert found.changes() == [change for _, change in changes_of(top, found)]
    assert (len(found), found.have_open, found.steps) == (6, True, 6)
    assert list(found) == [*below, deep]
    assert found[1:3] == below[1:3]
    assert len(CallTree(state.records).descendants(deep)) == 0


def test_orders_that_do_not_fit_the_changes_are_an_error():
    state = RTState()
    known = state.created("top", "Tool", (), {}, None, 0.0)
    known.changes = [Change(0, "k", "1", Form.PLAIN)]
    state.succeeded(known, None, 1.0)
    below = CallTree(state.records).descendants(known)
    new = state.created("top", "Tool", (), {}, None, 0.0)
    with pytest.raises(StateError, match="expected 1 orders of context changes, not 2"):
        state.reused(new, known, below, None, [1, 2])
    assert new.ended is None
