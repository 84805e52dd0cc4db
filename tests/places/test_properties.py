"""Trees of calls that Hypothesis draws do in a worker what they do in the task of their caller."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks.state import ExecutionInfo
from tests.places.helpers import at, shape_of


@attrs.frozen
class Plan:
    """What a call does."""

    name: str
    is_async: bool
    puts: tuple[tuple[str, int | None], ...]
    reads: tuple[str, ...]
    below: tuple[Plan, ...]
    in_batch: bool
    fails: bool
    catches: bool


@rt.function_node
async def run_async(plan):
    done = _begin(plan)
    if plan.in_batch:
        results = await rt.call_batch(run_async, plan.below, limit=1)  # or the order is a matter of chance
        done += [repr(each) for each in results]
    else:
        for each in plan.below:
            try:
                done.append(await rt.call(run_async if each.is_async else run_sync, each))
            except ValueError as exc:
                if not plan.catches:
                    raise
                done.append(str(exc))
    return _end(plan, done)


@rt.function_node
def run_sync(plan):
    done = _begin(plan)
    for each in plan.below:
        try:
            done.append(rt.call_sync(run_async if each.is_async else run_sync, each))
        except ValueError as exc:
            if not plan.catches:
                raise
            done.append(str(exc))
    return _end(plan, done)


def _begin(plan):
    done = [rt.context.get(key, "nothing") for key in plan.reads]
    for key, value in plan.puts:
        if value is not None:
            rt.context.put(key, value)
        elif key in rt.context.keys():  # noqa: SIM118 (a function)
            rt.context.delete(key)
    return done


def _end(plan, done):
    if plan.fails:
        raise ValueError(plan.name)
    return done


keys = st.sampled_from(["a", "b"])
plans = st.recursive(
    st.builds(
        Plan,
        name=st.sampled_from(["x", "y"]),
        is_async=st.booleans(),
        puts=st.lists(st.tuples(keys, st.none() | st.integers(0, 3)), max_size=2).map(tuple),
        reads=st.lists(keys, max_size=2).map(tuple),
        below=st.just(()),
        in_batch=st.just(False),
        fails=st.booleans(),
        catches=st.booleans(),
    ),
    lambda inner: st.builds(
        Plan,
        name=st.sampled_from(["x", "y"]),
        is_async=st.booleans(),
        puts=st.lists(st.tuples(keys, st.none() | st.integers(0, 3)), max_size=2).map(tuple),
        reads=st.lists(keys, max_size=2).map(tuple),
        below=st.lists(inner, max_size=3).map(tuple),
        in_batch=st.booleans(),
        fails=st.booleans(),
        catches=st.booleans(),
    ),
    max_leaves=8,
)


async def do(plan, where, pool):
    items = []
    async with rt.Session({"a": 0}, name="drawn", executors={"pool": pool}, logging_setting="NONE") as session:
        session.subscribe(lambda event: items.append(type(event).__name__), kinds=(rt.state.CallEvent,))
        try:
            result = await rt.call(at(run_async if plan.is_async else run_sync, where), plan)
        except ValueError as exc:
            result = str(exc)
    return result, session.context, shape_of(ExecutionInfo.load(".railtracks/drawn.json")), sorted(items)


@pytest.mark.either_backend
@pytest.mark.parametrize("where", ["thread", "pool"])
def test_a_tree_in_a_worker_is_that_in_the_task(where, backend):
    with ThreadPoolExecutor(1) as pool:

        @given(plan=plans)
        @settings(max_examples=40)
        def property(plan):
            async def main():
                assert await do(plan, None, pool) == await do(plan, where, pool)

            anyio.run(main, backend=backend)

        property()
