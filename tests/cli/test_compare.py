"""Two runs of a flow side by side: which calls belong together, what each node took, what failed in one only."""

from contextlib import suppress

import anyio
import pytest

import railtracks as rt
from railtracks.state import load_run
from railtracks.state._comparison import _pairs, compare, signed_seconds

pytestmark = pytest.mark.either_backend


@rt.function_node
async def load(name, seconds=0.0):
    if seconds < 0:
        raise ValueError(f"{name} is late")
    await anyio.sleep(seconds)
    return name


@rt.function_node
async def extra():
    return None


@rt.function_node
async def both(plan, with_extra=False):
    for name, seconds in plan:
        with suppress(ValueError):
            await rt.call(load, name, seconds)
    if with_extra:
        await rt.call(extra)


async def info_of(*args, **kwargs):
    async with rt.Session(flow_name="Both", save_state=False, logging_setting="NONE") as session:
        await rt.call(both, *args, **kwargs)
    return session.info


def arguments(record):
    return record and (record.name, *record.args[:1])


async def test_calls_are_matched_by_arguments_then_by_order():
    first = await info_of([("a", 1), ("b", 2), ("c", 3)])
    second = await info_of([("c", 3), ("x", 1), ("a", 1), ("y", 5)], with_extra=True)
    pairs = [(arguments(pair.first), arguments(pair.second)) for pair in _pairs(first, second)]
    assert pairs[1:] == [
        (("load", "a"), ("load", "a")), (("load", "b"), ("load", "x")), (("load", "c"), ("load", "c")),
        (None, ("load", "y")), (None, ("extra",)),
    ]  # fmt: skip


async def test_a_comparison_says_where_two_runs_differ():
    first = await info_of([("a", 1), ("b", -1), ("c", 3)])
    second = await info_of([("a", 5), ("b", 1), ("c", -1)], with_extra=True)
    found = compare(first, second)
    assert found.matched == 4
    assert [node.name for node in found.nodes] == ["both", "load", "extra"]
    assert [(name, cells[:4]) for name, cells, _ in found.node_rows()] == [
        ("both", ["1", "1", "0", "0"]), ("load", ["3", "3", "1", "1"]), ("extra", ["", "1", "", "0"]),
    ]  # fmt: skip
    heads, table, *rest = str(found).split("\n\n")
    assert heads.splitlines()[2:] == ["4 calls are in both runs"]
    assert table.splitlines() == [
        "node   calls  failed  total A  total B  B − A  p95 A  p95 B",
        "both       1       0      4 s      6 s   +2 s    4 s    6 s",
        "load       3       1      4 s      6 s   +2 s    3 s    5 s",
        "extra  0 → 1       0              0 µs  +0 µs          0 µs",
    ]
    assert rest == [
        'failed in A only:\nload("b", -1)  ValueError: b is late  (in B: Completed)',
        'failed in B only:\nload("c", -1)  ValueError: c is late  (in A: Completed)',
        (
            "where the time differs:\n"
            "         A     B\n"
            '+4 s   1 s   5 s  load("a", 1)\n'
            '−3 s   3 s  0 µs  load("c", 3)\n'
            '+2 s   4 s   6 s  both([["a", 1], ["b", -1], ["c", 3]])\n'
            '+1 s  0 µs   1 s  load("b", -1)'
        ),
    ]  # fmt: skip


@rt.function_node
async def shop(name, is_open):
    with suppress(ValueError):
        await rt.call(load, "list", 0 if is_open else -1)


@rt.function_node
async def shops_with_names_that_are_too_long_for_a_terminal(are_open):
    for name in ("alpha", "beta"):
        await rt.call(shop, name, is_open=are_open)
        await rt.call(load, name, 70.0)


async def test_calls_that_look_alike_are_told_apart():
    infos = []
    for are_open in (False, True):
        async with rt.Session(flow_name="Shops", save_state=False, logging_setting="NONE") as session:
            await rt.call(shops_with_names_that_are_too_long_for_a_terminal, are_open)
        infos.append(session.info)
    _, table, failures, *_ = str(compare(*infos)).split("\n\n")
    assert failures.splitlines() == [
        "failed in A only:",
        'load("list", -1) in shop("alpha", is_open=false)  ValueError: list is late  (in B: Completed)',
        'load("list", -1) in shop("beta", is_open=false)  ValueError: list is late  (in B: Completed)',
    ]
    assert max(map(len, table.splitlines())) == 80


async def test_two_equal_runs_do_not_differ():
    first, second = [await info_of([("a", 1)]) for _ in range(2)]
    found = compare(first, second)
    assert (found.matched, found.failed_first, found.failed_second, found.slowest) == (2, (), (), ())
    nothing = rt.ExecutionInfo("nothing", flow_name="Both")
    assert compare(nothing, nothing).matched == 0
    assert compare(first, nothing).matched == compare(nothing, first).matched == 0


async def test_many_calls_are_compared_in_a_moment():
    plan = [(str(number), 0) for number in range(3_000)]
    first, second = await info_of(plan), await info_of(plan[::-1])
    assert compare(first, second).matched == 3_001


def test_a_difference_has_a_sign():
    assert [signed_seconds(seconds) for seconds in (1.5, -0.25, 0.0)] == ["+1.5 s", "−250 ms", "+0 µs"]


def test_the_command_prints_a_comparison(command, runs):
    expected = compare(load_run("good"), load_run("bad"))
    assert command("compare", "good", "bad") == (0, f"{expected}\n", "")
    assert command("compare", "good", "nothing")[0] == 2


def test_runs_of_two_flows_are_not_compared(command, runs):
    code, _, err = command("compare", "good", "waiting")
    assert code == 2
    assert err == (
        "railtracks: runs of one flow can be compared, and these are of 'Pages' and 'Asking'; choose two of one flow\n"
    )
