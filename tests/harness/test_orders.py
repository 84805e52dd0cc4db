"""How many orders of tasks were tried: a digest of each run, and a summary of a test run."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import pytest

import railtracks as rt
from railtracks.pytest_plugin._orders import summary
from railtracks.testing import simulate


async def leaf(number):
    return number


async def leaf_that_waits(number):
    await anyio.sleep(0)
    return number


async def batch(leaf, count):
    return await rt.call_batch(leaf, range(count))


async def in_turn(leaf, count):
    return [await rt.call(leaf, number) for number in range(count)]


def orders(node, *args, backend, seeds):
    return {simulate(node, *args, seed=seed, backend=backend).order for seed in seeds}


@pytest.mark.parametrize(("node", "called", "count", "expected"), [
    (in_turn, leaf_that_waits, 5, 1),
    (batch, leaf, 1, 1),
    (batch, leaf, 2, 2),
])  # fmt: skip
def test_equal_orders_have_equal_digests_and_others_differ(backend, node, called, count, expected):
    assert len(orders(node, called, count, backend=backend, seeds=range(30))) == expected


def test_two_tasks_of_two_steps_have_at_most_six_orders(backend):
    assert 2 < len(orders(batch, leaf_that_waits, 2, backend=backend, seeds=range(60))) <= 6


def test_steps_of_tasks_that_are_no_calls_count(backend):
    async def main():
        async def works():
            await anyio.sleep(1)

        async with anyio.create_task_group() as group:
            group.start_soon(works)
            group.start_soon(works)

    assert len(orders(main, backend=backend, seeds=range(60))) == 4  # two orders of beginning, two of continuing


def test_the_order_of_one_seed_is_the_same_each_time(backend):
    for seed in range(18, 26):
        assert len({simulate(batch, leaf_that_waits, 3, seed=seed, backend=backend).order for _ in range(3)}) == 1


SEEDS = """
    import railtracks as rt
    from railtracks.testing import simulate

    @rt.function_node
    async def both():
        return await rt.call_batch(child, [0, 0])

    def test_concurrent():
        for seed in range(20):
            simulate(both, seed=seed)

    def test_sequential(simulated):
        for seed in range(20):
            simulated(parent, 1, 2, seed=seed)

    def test_few_seeds():
        for seed in range(3):
            simulate(parent, 1, seed=seed)

    def test_one_seed():
        for _ in range(20):
            simulate(parent, 1)
"""


def lines_of(result):
    return [line for line in result.outlines if " order" in line and "::" in line]


def test_many_seeds_that_gave_one_order_are_worth_a_hint(suite):
    hint = "1 order in 20 runs of parent; if nothing in it runs at the same time, one seed is enough"
    assert lines_of(suite(SEEDS)) == [
        f"test_it.py::test_sequential[{backend}]: {hint}" for backend in ("asyncio", "trio")
    ]


def test_verbose_shows_the_orders_of_each_flow_that_ran_often(suite):
    lines = [line.partition(": ")[::2] for line in lines_of(suite(SEEDS, "-v"))]
    counts = {name.partition("::")[2]: text.partition(";")[0] for name, text in lines}
    assert counts.pop("test_concurrent").endswith(" orders in 20 runs of both")
    assert counts == {
        "test_sequential[asyncio]": "1 order in 20 runs of parent",
        "test_sequential[trio]": "1 order in 20 runs of parent",
        "test_few_seeds": "1 order in 3 runs of parent",
        "test_one_seed": "1 order in 20 runs of parent",
    }


def test_no_more_than_ten_hints_are_shown():
    reports = [
        SimpleNamespace(nodeid=f"test_{number}", railtracks_orders=[("flow", 20, 20, 1)]) for number in range(12)
    ]
    assert len(summary(reports, verbose=True)) == 12
    lines = summary(reports, verbose=False)
    assert (len(lines), lines[-1]) == (11, "and 2 more; pytest -v shows all")


def test_a_suite_without_simulations_has_no_summary(suite):
    assert "orders of tasks" not in str(suite("def test_it():\n    pass", "-v").stdout)
