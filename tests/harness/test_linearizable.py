"""Linearizability: the checker against brute force, and invariants of flows."""

from __future__ import annotations

import itertools
import math
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import Fault, Violation, check, linearizability, linearizable, operation, simulate
from railtracks.testing.faults import Raise
from railtracks.testing.linearizability import Operation, find_unexplained


class Register:
    """A value that is read, written, and compared and set."""

    def init(self):
        return 0

    def apply(self, state, operation, args):
        if operation == "read":
            return state, state
        if operation == "write":
            return args[0], None
        old, new = args
        return (new, True) if state == old else (state, False)


# ---- the checker


VALUES = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("read"), st.just(()), VALUES),
    st.tuples(st.just("write"), st.tuples(VALUES), st.none()),
    st.tuples(st.just("set"), st.tuples(VALUES, VALUES), st.booleans()),
)


@st.composite
def histories(draw, most=5):
    """Draw operations that overlap in any way, some of them with an unknown effect."""
    steps = draw(st.lists(STEPS, max_size=most))
    moments = draw(st.permutations([index for index in range(len(steps)) for _ in range(2)]))
    found = []
    for index, (name, args, result) in enumerate(steps):
        begin, end = [moment for moment, each in enumerate(moments) if each == index]
        known = draw(st.booleans()) or draw(st.booleans())
        found.append(Operation(name, args, result, begin, end if known else math.inf))
    return found


def is_explained(operations):
    """Return whether one of all orders explains what the operations returned."""
    needed = [each for each in operations if each.is_known]
    unknown = [each for each in operations if not each.is_known]
    for count in range(len(unknown) + 1):
        for happened in itertools.combinations(unknown, count):
            for order in itertools.permutations([*needed, *happened]):
                if any(later.end < earlier.begin for earlier, later in itertools.combinations(order, 2)):
                    continue
                state, right = 0, True
                for each in order:
                    state, result = Register().apply(state, each.name, each.args)
                    right = right and (result == each.result or not each.is_known)
                if right:
                    return True
    return False


@settings(max_examples=200)
@given(histories())
def test_the_checker_agrees_with_brute_force(operations):
    assert (find_unexplained(Register(), operations) is None) == is_explained(operations)


@pytest.mark.slow
@settings(max_examples=1000)
@given(histories(most=6))
def test_the_checker_agrees_with_brute_force_on_longer_ones(operations):
    assert (find_unexplained(Register(), operations) is None) == is_explained(operations)


@settings(max_examples=40)
@given(st.data())
def test_what_a_model_really_did_is_linearizable(data):
    state, operations = 0, []
    for index, (name, args, _) in enumerate(data.draw(st.lists(STEPS, max_size=12))):
        state, result = Register().apply(state, name, args)
        early, late = data.draw(st.integers(0, 30)), data.draw(st.integers(0, 30))
        operations.append(Operation(name, args, result, 10 * index - early - 0.25, 10 * index + late + 0.25))
    assert find_unexplained(Register(), operations) is None


def overlapping(value):
    writes = [Operation("write", (index,), None, index, 1000 + index) for index in range(40)]
    return [*writes, Operation("read", (), value, 2000, 2001)]


def test_many_operations_that_overlap_are_explained_quickly():
    assert find_unexplained(Register(), overlapping(39)) is None


def test_a_search_that_takes_too_long_says_so(monkeypatch):
    monkeypatch.setattr(linearizability, "MAX_STATES", 500)
    with pytest.raises(ConfigError, match="41 operations overlap in too many ways, 500 of them were tried; write key"):
        find_unexplained(Register(), overlapping(-1))


# ---- flows


@rt.function_node
async def read(cell):
    await anyio.sleep(1)
    return cell["value"]


@rt.function_node
async def write(cell, value):
    await anyio.sleep(1)
    cell["value"] = value


@rt.function_node
async def write_late(cell, value):
    async def later():
        await anyio.sleep(5)
        cell["value"] = value

    cell["later"].start_soon(later)


def writer(node):
    @rt.function_node
    async def flow():
        cell: dict[str, Any] = {"value": 0}
        async with anyio.create_task_group() as group:
            cell["later"] = group
            await rt.call(node, cell, 1)
            return await rt.call(read, cell)

    return flow


class Cell(Register):
    def apply(self, state, operation, args):
        return super().apply(state, operation.removesuffix("_late"), args[1:])


def test_a_flow_that_is_linearizable_passes(backend):
    check(simulate(writer(write), backend=backend), linearizable(Cell, nodes=[read, write]))


def test_a_write_that_takes_effect_after_its_end_is_found(backend):
    with pytest.raises(Violation) as raised:
        check(simulate(writer(write_late), backend=backend), linearizable(Cell(), nodes=["read", write_late]))
    text = str(raised.value)
    assert text.startswith(
        "calls are linearizable: no order of the calls explains what they returned; after write_late("
    )
    assert "-> 0 would have returned 1\n" in text
    marked = [line for line in text.splitlines() if line.startswith(">")]
    assert any("s0.1 write_late" in line for line in marked)
    assert any("s0.2 read" in line for line in marked)


def test_a_write_that_failed_may_have_happened_or_not(backend):
    @rt.function_node
    async def flow():
        cell = {"value": 0}
        try:
            await rt.call(write, cell, 1)
        except ConnectionError:
            return await rt.call(read, cell)

    for after, value in ((False, 0), (True, 1)):
        outcome = simulate(flow, backend=backend, faults=[Fault(write, Raise(ConnectionError, after=after))])
        assert outcome.result == value
        check(outcome, linearizable(Cell, nodes=[read, write]))


def test_blocks_are_operations(backend):
    @rt.function_node
    async def flow(wrong):
        value = 0
        with operation("write", 1):
            value = 1 - wrong
        with operation("read") as reading:
            reading.result = value
        with pytest.raises(ValueError, match="lost"), operation("write", 2):
            raise ValueError("lost")

    rule = linearizable(Register, nodes=["read", "write"])
    check(simulate(flow, 0, backend=backend), rule)
    with pytest.raises(Violation, match=r"after write\(1\) -> None, read\(\) -> 0 would have returned 1"):
        check(simulate(flow, 1, backend=backend), rule)
    assert [each.order is None for each in simulate(flow, 0).operations] == [False, False, True]


def test_outside_of_a_run_a_block_is_just_run():
    with operation("write", 1) as block:
        block.result = 1
    assert block.order is None


def test_keys_are_checked_on_their_own(backend):
    @rt.function_node
    async def flow():
        for name in ("a", "b"):
            with operation("write", name):
                pass

    class Counted:
        def init(self):
            return 0

        def apply(self, state, operation, args):
            assert state < 1, "one operation of each key"
            return state + 1, None

    rule = linearizable(Counted, nodes=["write"], key=lambda name, args: args[0])
    check(simulate(flow, backend=backend), rule)


class Unhashable(Register):
    def init(self):
        return []


@pytest.mark.parametrize(
    ("model", "nodes", "text"),
    [
        (Register, [], "nodes is empty"),
        (Register, "read", "nodes is 'read'; write a list of nodes"),
        (object(), ["read"], "has no method init; write init"),
        (Unhashable, ["read"], r"the state \[\] of the model is not hashable; use a tuple"),
    ],
    ids=["none", "text", "model", "state"],
)
def test_wrong_arguments_are_refused(model, nodes, text):
    with pytest.raises(ConfigError, match=text):
        check(simulate(writer(write)), linearizable(model, nodes=nodes))


def test_keyword_arguments_are_refused(backend):
    @rt.function_node
    async def flow():
        await rt.call(write, {}, value=1)

    with pytest.raises(ConfigError, match=r"write was called with value=1; pass all arguments by position"):
        check(simulate(flow, backend=backend), linearizable(Cell, nodes=[write]))
