"""The promise of Railtracks ("What you get" in the README), for any calls, options, seeds and faults, on both backends.

``check`` compares the records, and what the caller got, with what really happened to each call. What is asked here
beyond that holds for these trees, whose nodes are known, but not for any flow.
"""

from __future__ import annotations

import math

import anyio
import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks._concurrency._kinds import leaves_of
from railtracks._context_variable import current
from railtracks.exceptions import GlobalTimeOutError, SessionEndedError
from railtracks.state import Reason
from railtracks.testing import check, simulate
from railtracks.testing._simulation._promise import the_caller_has_the_real_result_or_the_real_exception
from railtracks.testing._simulation._questions import ending_error
from railtracks.testing.faults import Cancel, Fault
from railtracks.testing.strategies import fault_plans, flows, seeds, session_options
from railtracks.testing.trees import Batch, Fatal, Hang, Nested, Parallel, Raise, Shield
from tests.effort import examples


def without_policies(tree):
    """Return whether all calls of a tree run: not those whose results are cached, or that wait for a limit."""
    return "WithPolicies" not in repr(tree)


siblings = st.lists(flows(max_leaves=4).filter(without_policies), min_size=2, max_size=4)
trees = flows().filter(without_policies) | siblings.map(
    lambda parts: Batch(*parts)
)  # of these no error cancels the others, but for the session
delays = st.integers(0, 4)
moments = st.floats(0, 8)


def the_end_is_heeded(outcome):
    """Calls do not go on after the error or the timeout that ends their session, and are cancelled for that reason."""
    for session in outcome.sessions:
        records, name = session.info.records, session.info.session_id
        error = ending_error(outcome, name, session.config.end_on_error)
        for record in records:
            if record.node is not None and record.node.startswith("railtracks.session"):  # a step, which nothing runs
                continue
            seen = outcome.calls[name, record.index]
            deadline = outcome.calls[name, record.run].began + session.config.timeout
            kind = type(record.args[0]).__name__ if record.name == "part" else record.name
            if kind in ("Sleep", "Swallow", "Hang", "Thread", "sleep"):  # these wait, and call nothing that is shielded
                assert seen.time <= max(seen.began, min(deadline, math.inf if error is None else error.time))
            if seen.outcome == "cancelled":
                has_error = error is not None and error.order < seen.order
                assert is_possible(record, records, seen.time >= deadline, has_error, name)


def is_possible(record, records, is_late, has_error, name):
    """Return whether the reason of a cancelled call can be true.

    A scope of user code may have begun what the timeout or the error would have done later, and for a session inside
    another one that is a scope around it.
    """
    if record.reason is Reason.TIMEOUT:
        return is_late
    if record.reason is Reason.END_ON_ERROR:
        return has_error
    if record.reason is Reason.OUTSIDE:
        callers = [record]
        while callers[-1].parent is not None:
            callers.append(records[callers[-1].parent])
        has_scope = name != "s0" or any(caller.name in ("Timeout", "Race", "Parallel", "Batch") for caller in callers)
        return has_scope or not (is_late or has_error)
    return True


options = st.builds(lambda drawn, more: {**drawn, **more}, session_options(), st.sampled_from([{}, {"store": "disk"}]))


def in_place(given):
    """The options, with the store that is meant: one on disk blocks, and so is written in a thread."""
    return {**given, "store": rt.state.FileStore()} if "store" in given else given


@examples(80)
@given(trees, options, fault_plans(hang=True, returns={None: None}), seeds())
@example(Parallel(Raise(), Shield(2)), {"timeout": 2.5, "end_on_error": True, "store": "disk"}, [], 0)
@example(Nested(Hang(), timeout=2.5), {"timeout": 2.5, "save_state": False}, [], 0)
def test_a_session_keeps_its_promise(backend, tree, options, faults, seed):
    check(simulate(tree, seed=seed, backend=backend, faults=faults, **in_place(options)), the_end_is_heeded)


# ---- sessions beside each other


async def side_by_side(plans):
    """Runs each tree in a session of its own, at the same time; returns what came of each, by identifier."""
    came = {}

    async def one(tree, delay, given):
        await anyio.sleep(delay)
        around, session, result, error = current.get(), rt.Session(**given), None, None
        began = anyio.current_time()
        try:
            async with session:
                result = await rt.call(tree)
        except Exception as exc:
            error = exc
        assert current.get() is around
        came[session.identifier] = {
            "result": result, "exception": error, "duration": anyio.current_time() - began, "info": session.info
        }  # fmt: skip

    async with anyio.create_task_group() as group:
        for plan in plans:
            group.start_soon(one, *plan)
    return came


def each_for_itself(outcome):
    """Each of their callers has the real result or the real exception."""
    assert outcome.exception is None
    for session in outcome.sessions:
        if facts := outcome.result.get(session.info.session_id):
            the_caller_has_the_real_result_or_the_real_exception(attrs.evolve(outcome, sessions=(session,), **facts))


@pytest.mark.either_backend
@examples(30)
@given(st.lists(st.tuples(trees, delays, session_options()), min_size=2, max_size=3), seeds())
def test_sessions_side_by_side_keep_it_each_for_itself(backend, plans, seed):
    outcome = simulate(side_by_side, plans, seed=seed, backend=backend, timeout=math.inf)
    check(outcome, the_end_is_heeded, each_for_itself)


# ---- cancelled from outside


async def cut_off(tree, given, moment, sooner):
    """Cancels a call, after which the session waits for its child, and then the session, wherever it is."""
    with anyio.move_on_after(moment):
        async with rt.Session(**given) as session:
            session.start_soon(tree)
            with anyio.move_on_after(sooner):
                await rt.call(tree)


def nothing_is_invented(outcome):
    """What leaves the session are errors of its nodes; of a group of a node's own making, what is no cancellation.

    Or that a call came too late, and the error of a node is why.
    """
    known = [e for call, seen in outcome.calls.items() if call[0] != "s0" and seen.outcome not in (None, "returned")
             for e in leaves_of(seen.value)]  # fmt: skip
    error = outcome.exception
    if error is not None and not isinstance(error, GlobalTimeOutError):
        leaves = [leaf.__cause__ if isinstance(leaf, SessionEndedError) else leaf for leaf in leaves_of(error)]
        assert all(any(leaf is each for each in known) for leaf in leaves)


@examples(40)
@example(tree=Fatal(), options={}, moment=1.0, sooner=0.0, seed=1)  # its child ends the session before the call comes
@given(trees, session_options(), moments, moments, seeds())
def test_a_session_cancelled_at_any_moment_keeps_it_too(backend, tree, options, moment, sooner, seed):
    check(
        simulate(cut_off, tree, options, moment, sooner, seed=seed, backend=backend),
        the_end_is_heeded,
        nothing_is_invented,
    )


@examples(30)
@given(trees, session_options(), st.integers(1, 12), seeds())
def test_a_run_cancelled_at_any_call_keeps_it_too(backend, tree, options, call, seed):
    outcome = simulate(tree, seed=seed, backend=backend, faults=[Fault(None, Cancel(), call=call)], **options)
    check(outcome, the_end_is_heeded)


# ---- batches


async def numbered(place, tree):
    return await rt.call(tree)


def in_their_places(outcome):
    """What stands in a batch is what came of the call at that place."""
    for place, call in outcome.calls.items():
        record = outcome.info.records[place[1]] if place[0] == "s0" else None
        if record is not None and record.name == "numbered" and outcome.exception is None:
            assert outcome.result[record.args[0]] is call.value


@pytest.mark.either_backend
@examples(20)
@given(st.lists(flows(max_leaves=3), max_size=5), st.none() | st.integers(1, 3), session_options(), seeds())
def test_a_batch_has_what_came_of_its_calls_in_order(backend, parts, limit, options, seed):
    async def batch():
        return await rt.call_batch(numbered, range(len(parts)), parts, limit=limit)

    check(simulate(batch, seed=seed, backend=backend, **options), in_their_places)
