"""The promise of design.md, over generated trees of calls and generated configurations, on both backends.

A tree is plain data, so that Hypothesis shrinks it to something a person can read; ``run_tree`` is its interpreter and
keeps a log of its own of what really happened to each call, which is what the records are compared with.
"""

from __future__ import annotations

import asyncio
import math
import time

import anyio
import attrs
import pytest
import trio
from hypothesis import example, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks import _threads
from railtracks._scope import current
from railtracks.exceptions import GlobalTimeOutError
from railtracks.state import Status
from tests import virtual
from tests.effort import examples


@attrs.frozen
class Leaf:
    does: str  # return, raise, sleep, hang, shield, swallow, thread, fatal
    seconds: int = 0


@attrs.frozen
class Branch:
    does: str  # sequence, parallel, batch, limited, strict, catch, scope, session
    children: tuple
    options: dict = attrs.field(factory=dict, hash=False)


seconds = st.integers(0, 4)
leaves = st.builds(
    Leaf,
    st.sampled_from(["return", "sleep", "raise", "hang", "shield", "swallow", "thread", "fatal"]),
    seconds,
)
configurations = st.fixed_dictionaries(
    {
        "timeout": st.sampled_from([math.inf, 2.5, 6.5]),
        "end_on_error": st.booleans(),
        "save_state": st.booleans(),
    }
)


def branches(children):
    many = st.lists(children, max_size=4).map(tuple)
    one = st.tuples(children)
    return (
        st.builds(Branch, st.sampled_from(["sequence", "parallel", "batch", "limited", "strict"]), many)
        | st.builds(Branch, st.sampled_from(["catch", "scope"]), one)
        | st.builds(Branch, st.just("session"), one, configurations)
    )


trees = st.recursive(leaves, branches, max_leaves=10)


class World:
    """What really happened, seen from inside the nodes."""

    def __init__(self):
        self.log = {}  # (session, index of the record) -> (status, value)
        self.errors = {}  # session -> errors of its nodes, in the order of their failing
        self.sessions = []

    def enter(self):
        frame = current.get()
        return frame.coordinator.session_id, frame.record.index

    def leave(self, key, status, value):
        assert key not in self.log, "a call ended twice"
        self.log[key] = status, value
        if status is Status.FAILED:
            self.errors.setdefault(key[0], []).append(value)


async def run_tree(world, tree):
    key = world.enter()
    try:
        result = await (run_leaf if isinstance(tree, Leaf) else run_branch)(world, tree)
    except Exception as exc:
        world.leave(key, Status.FAILED, exc)
        raise
    except BaseException:
        world.leave(key, Status.CANCELLED, None)
        raise
    world.leave(key, Status.COMPLETED, result)
    return result


node = rt.function_node(run_tree, name="node")


async def run_leaf(world, leaf):
    if leaf.does == "raise":
        raise ValueError("leaf")
    if leaf.does == "fatal":
        raise rt.exceptions.FatalError("leaf")
    if leaf.does == "shield":
        with anyio.CancelScope(shield=True):
            await anyio.sleep(leaf.seconds)
    elif leaf.does == "swallow":
        try:
            await anyio.sleep(leaf.seconds)
        except anyio.get_cancelled_exc_class():
            return "swallowed"
    elif leaf.does == "thread":
        return await rt.call(in_thread, world)
    elif leaf.does == "hang":
        await anyio.sleep(1e5)
    elif leaf.does == "sleep":
        await anyio.sleep(leaf.seconds)
    return leaf.seconds


@rt.function_node
def in_thread(world):
    key = world.enter()
    time.perf_counter()
    world.leave(key, Status.COMPLETED, "thread")
    return "thread"


async def run_branch(world, branch):
    children = branch.children
    if branch.does == "sequence":
        return [await rt.call(node, world, child) for child in children]
    if branch.does == "parallel":
        async with anyio.create_task_group() as group:
            for child in children:
                group.start_soon(rt.call, node, world, child)
        return None
    if branch.does in ("batch", "limited", "strict"):
        worlds = [world] * len(children)
        limit = 2 if branch.does == "limited" else None
        results = await rt.call_batch(node, worlds, children, limit=limit, return_exceptions=branch.does != "strict")
        return len(results)
    if branch.does == "catch":
        try:
            return await rt.call(node, world, children[0])
        except Exception:
            return "caught"
    if branch.does == "scope":
        with anyio.move_on_after(3.5):
            return await rt.call(node, world, children[0])
        return "moved on"
    session = rt.Session(**branch.options)
    world.sessions.append(session)
    async with session:
        return await rt.call(node, world, children[0])


def leaves_of(exc):
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for each in exc.exceptions for leaf in leaves_of(each)]
    return [exc]


def living_tasks():
    if trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_statistics().tasks_living
    return len(asyncio.all_tasks())


async def run_session(tree, options):
    """Run the tree in a session of its own; check what must hold whatever the tree does."""
    world = World()
    session = rt.Session(**options)
    world.sessions.append(session)
    tasks, start = living_tasks(), anyio.current_time()
    outcome = error = None
    try:
        async with session:
            outcome = await rt.call(node, world, tree)
    except Exception as exc:
        error = exc
    elapsed = anyio.current_time() - start
    await anyio.lowlevel.checkpoint()
    assert living_tasks() == tasks, "something is still running"
    assert current.get() is None
    return world, session, outcome, error, elapsed


def check_records(world, session):
    info = session.info
    by_index = {record.index: record for record in info.records}
    for record in info.records:
        if record.name == "in_thread" and record.status is Status.CANCELLED:
            continue  # before its thread began, or while it was about to report: nobody has its result
        status, value = world.log[info.session_id, record.index]
        assert record.status is status, "the record does not say what happened"
        assert record.exception is (value if status is Status.FAILED else None)
        assert status is not Status.COMPLETED or record.result == value
        assert (record.reason is not None) == (status is Status.CANCELLED)
        if record.parent is not None:
            parent = by_index[record.parent]
            assert parent.run == record.run
            assert parent.started_step < record.started_step < record.ended_step < parent.ended_step
            assert parent.started <= record.started <= record.ended <= parent.ended
    steps = sorted(step for record in info.records for step in (record.started_step, record.ended_step))
    assert steps == list(range(len(steps)))
    if session.executor_config.save_state:
        assert rt.ExecutionInfo.load(f".railtracks/{session.identifier}.json") == info


def check_outcome(world, session, outcome, error, elapsed):
    """The caller has the real result or the real exception."""
    config = session.executor_config
    if not session.info.records:
        pytest.fail("the call was not recorded")
    status, value = world.log[session.identifier, 0]
    errors = world.errors.get(session.identifier, [])
    ending = [e for e in errors if config.end_on_error or isinstance(e, rt.exceptions.FatalError)]
    if ending:
        assert error is ending[0], "not the error that ended the session"
    elif isinstance(error, GlobalTimeOutError) and error is not value:
        assert elapsed >= config.timeout
    elif error is not None:
        assert (status, error) == (Status.FAILED, value)
    else:
        assert (status, outcome) == (Status.COMPLETED, value)
    if error is None:
        assert elapsed <= config.timeout


@examples(150)
@given(trees, configurations)
@example(
    Branch("parallel", (Leaf("raise"), Leaf("shield", 2))), {"timeout": 2.5, "end_on_error": True, "save_state": True}
)
@example(
    Branch("session", (Leaf("hang"),), {"timeout": 2.5}), {"timeout": 2.5, "end_on_error": False, "save_state": False}
)
def test_a_session_keeps_its_promise(backend, tree, options):
    world, session, outcome, error, elapsed = virtual.run(backend, run_session, tree, options)
    for each in world.sessions:
        check_records(world, each)
    assert world.log.keys() <= {(s.identifier, r.index) for s in world.sessions for r in s.info.records}
    check_outcome(world, session, outcome, error, elapsed)
    assert _threads.running() == 0


@examples(60)
@given(st.lists(st.tuples(trees, seconds, configurations), min_size=2, max_size=3))
def test_sessions_side_by_side_keep_it_each_for_itself(backend, plans):
    async def main():
        results = []

        async def one(tree, delay, options):
            await anyio.sleep(delay)
            world = World()
            session = rt.Session(**options)
            world.sessions.append(session)
            start = anyio.current_time()
            outcome = error = None
            try:
                async with session:
                    outcome = await rt.call(node, world, tree)
            except Exception as exc:
                error = exc
            results.append((world, session, outcome, error, anyio.current_time() - start))

        async with anyio.create_task_group() as group:
            for plan in plans:
                group.start_soon(one, *plan)
        return results

    for world, session, outcome, error, elapsed in virtual.run(backend, main):
        for each in world.sessions:
            check_records(world, each)
        check_outcome(world, session, outcome, error, elapsed)


@examples(60)
@given(trees, configurations, st.floats(0, 8))
def test_a_session_cancelled_at_any_moment_keeps_it_too(backend, tree, options, moment):
    async def main():
        world = World()
        session = rt.Session(**options)
        world.sessions.append(session)
        tasks = living_tasks()
        try:
            with anyio.move_on_after(moment):
                async with session:
                    session.start_soon(node, world, tree)
                    await rt.call(node, world, tree)
        except Exception as exc:
            # trio takes the cancellations out of a group of the node's own making, and the rest goes on as a new group
            known = [error for errors in world.errors.values() for error in errors]
            assert isinstance(exc, GlobalTimeOutError) or all(any(leaf is e for e in known) for leaf in leaves_of(exc))
        await anyio.lowlevel.checkpoint()
        assert living_tasks() == tasks
        return world

    world = virtual.run(backend, main)
    for each in world.sessions:
        check_records(world, each)
