"""Stories: where a lock was acquired, why calls were cancelled, what was of one turn, where threads were switched."""

from __future__ import annotations

import asyncio
import math
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.testing import simulate
from railtracks.testing._simulation._simulate import simulate_with
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._switches import SwitchPlan


def cancelled(outcome):
    """Return where and why each call was cancelled, with the source of lines in place of their numbers."""
    return {event.who: with_sources(event.place) for event in outcome.trace if event.what == "cancelled"}


def with_sources(text):
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    return re.sub(r"\(test_story_causes\.py:(\d+)\)", lambda found: f"(`{source[int(found[1]) - 1].strip()}`)", text)


def margins(outcome):
    """Return the second column of the story, with the names of the calls."""
    story = str(outcome).split("\n\n")[1].splitlines()
    return [(line[1], line[15:40].strip()) for line in story]


# ---- where a lock was acquired


class Account:
    def __init__(self, lock):
        self.lock = lock
        self.locks = {"a": lock}


async def by_block(account):
    async with account.lock:
        await anyio.sleep(100)


async def by_call(account):
    await account.lock.acquire()
    await anyio.sleep(100)


async def by_key(account):
    async with account.locks["a"]:
        await anyio.sleep(100)


async def in_a_function(account):
    async def inner(lock):
        async with lock, anyio.create_task_group():
            await anyio.sleep(100)

    await inner(account.lock)


async def by_two_locks(account):
    other = anyio.Lock()
    async with other, account.lock, anyio.Lock():  # of which one is waited for
        await anyio.sleep(100)


HOLDERS = {
    by_block: "by_block (`async with account.lock:`)",
    by_call: "by_call (`await account.lock.acquire()`)",
    by_key: 'by_key (`async with account.locks["a"]:`)',
    in_a_function: "inner (`async with lock, anyio.create_task_group():`)",
    by_two_locks: "by_two_locks (`async with other, account.lock, anyio.Lock():  # of which one is waited for`)",
}


def waiting_for(holder, lock):
    @rt.function_node
    async def waits(account):
        await anyio.sleep(1)
        async with account.lock:
            raise AssertionError("it is not acquired")

    @rt.function_node
    async def both():
        account = Account(lock())
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, rt.function_node(holder, name="holds"), account)
            group.start_soon(rt.call, waits, account)
            await anyio.sleep(3)
            async with anyio.create_task_group() as inner:
                inner.start_soon(rt.call, waits, account)

    return both


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda holder: holder.__name__)
def test_a_story_says_where_a_lock_was_acquired(backend, holder):
    outcome = simulate(waiting_for(holder, anyio.Lock), backend=backend, timeout=5, start=0)
    found = [place for who, place in cancelled(outcome).items() if " waits" in who]
    [who] = {event.who for event in outcome.trace if event.name == "holds"}
    expected = f"waits (`async with account.lock:`), for a lock that {who} acquired in {HOLDERS[holder]}"
    assert found == [f"{expected}, since the timeout of s0.0 both ended"] * 2


@pytest.mark.either_backend
def test_a_lock_of_asyncio_has_a_holder_too():
    outcome = simulate(waiting_for(by_block, asyncio.Lock), timeout=5)
    assert re.search(r"for a lock that s0\.\d holds acquired in by_block \(`", str(cancelled(outcome)))


def test_where_a_lock_was_acquired_may_not_be_known(backend):
    def the_same(lock):
        return lock

    async def by_helper(account):
        async with the_same(account.lock):
            await anyio.sleep(100)

    found = str(simulate(waiting_for(by_helper, anyio.Lock), backend=backend, timeout=5))
    assert "for a lock" in found
    assert "acquired in" not in found


def test_a_lock_that_was_released_is_not_held(backend):
    @rt.function_node
    async def main():
        one, other = anyio.Lock(), anyio.Lock()
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, keeps, one)
            group.start_soon(rt.call, moves_on, one, other)

    @rt.function_node
    async def keeps(lock):
        await anyio.sleep(1)
        async with lock:
            await anyio.sleep(100)

    @rt.function_node
    async def moves_on(one, other):
        async with one:
            pass
        await anyio.sleep(2)
        async with one, other:
            raise AssertionError("it is not acquired")

    outcome = simulate(main, backend=backend, timeout=5)
    assert re.search(r"for a lock that s0\.\d keeps acquired in keeps \(", str(outcome))
    assert "moves_on acquired" not in str(outcome)


def test_a_deadlock_says_where_each_lock_was_acquired(backend):
    @rt.function_node
    async def takes(first, second):
        async with first:
            await anyio.sleep(1)
            async with second:
                raise AssertionError("it is not acquired")

    @rt.function_node
    async def both():
        one, other = anyio.Lock(), anyio.Lock()
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, takes, one, other)
            group.start_soon(rt.call, takes, other, one)

    found = cancelled(simulate(both, backend=backend, timeout=math.inf))
    for one, other in ((1, 2), (2, 1)):
        place = (
            f"takes (`async with second:`), for a lock that s0.{other} takes acquired in takes (`async with first:`)"
        )
        assert found[f"s0.{one} takes"] == place


def takes_in_a_thread(first, second):
    with first:
        time.sleep(1)
        with second:
            raise AssertionError("it is not acquired")


@rt.function_node
async def threads_that_lock():
    one, other = threading.Lock(), threading.Lock()
    await rt.call_batch(takes_in_a_thread, [one, other], [other, one])


@pytest.mark.parametrize("timeout", [5, math.inf])
def test_a_thread_says_where_it_waits_for_a_lock(backend, timeout):
    found = cancelled(simulate(threads_that_lock, backend=backend, timeout=timeout))
    places = {place.partition(", since")[0] for who, place in found.items() if "takes_in_a_thread" in who}
    assert places == {"takes_in_a_thread (`with second:`), for a lock acquired in takes_in_a_thread (`with first:`)"}
    assert len(found) == 3


def test_a_thread_that_sleeps_says_so(backend):
    def naps():
        time.sleep(100)

    @rt.function_node
    async def main():
        await rt.call(naps)

    found = cancelled(simulate(main, backend=backend, timeout=5))
    assert found["s0.1 naps"] == "naps (`time.sleep(100)`), asleep, since the timeout of s0.0 main ended"


# ---- why calls were cancelled


@rt.function_node
async def slow():
    await anyio.sleep(10)


@rt.function_node
async def bad(seconds=1):
    await anyio.sleep(seconds)
    raise ValueError("x")


@rt.function_node
async def calls(node):
    await rt.call(node)


async def in_a_task_group():
    async with anyio.create_task_group() as group:
        group.start_soon(rt.call, slow)
        group.start_soon(rt.call, calls, slow)
        group.start_soon(rt.call, bad)


async def in_a_batch():
    await rt.call_batch(calls, [slow, bad], return_exceptions=False)


def causes(outcome):
    found = ((event.who, event.place.rpartition("since ")[2]) for event in outcome.trace if event.what == "cancelled")
    return {re.sub(r"s\d+\.\d+ ", "", f"{who}: {cause}") for who, cause in found}


def test_the_failure_of_a_sibling_is_the_cause(backend):
    found = causes(simulate(rt.function_node(in_a_task_group), backend=backend))
    assert found == {"slow: bad failed", "calls: bad failed"}


def test_the_failure_in_a_batch_is_the_cause(backend):
    found = causes(simulate(rt.function_node(in_a_batch), backend=backend))
    assert found == {"slow: calls failed", "calls: calls failed"}


def test_the_timeout_of_a_node_is_the_cause_for_calls_below(backend):
    @rt.function_node(timeout=2)
    async def timed():
        await rt.call(calls, slow)

    @rt.function_node
    async def main():
        await rt.call(timed)

    found = causes(simulate(main, backend=backend))
    assert found == {"slow: the timeout of timed ended", "calls: the timeout of timed ended"}


def test_the_timeout_of_the_session_is_the_cause_for_calls_below(backend):
    outcome = simulate(calls, slow, backend=backend, timeout=3)
    assert "slow: the timeout of calls ended" in causes(outcome)


def test_the_error_that_ended_the_session_is_the_cause(backend):
    outcome = simulate(rt.function_node(in_a_task_group), backend=backend, end_on_error=True)
    assert causes(outcome) == {f"{name}: bad failed" for name in ("slow", "calls", "in_a_task_group")}


@pytest.mark.either_backend
def test_the_failure_in_a_task_group_of_asyncio_is_the_cause():
    @rt.function_node
    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(rt.call(slow))
            group.create_task(rt.call(bad))

    assert causes(simulate(main)) == {"slow: bad failed"}


def test_a_failure_that_was_handled_is_not_the_cause(backend):
    @rt.function_node
    async def handles():
        try:
            await rt.call(bad)
        except ValueError:
            await anyio.sleep(1)

    @rt.function_node
    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, slow)
            group.start_soon(rt.call, handles)
            await anyio.sleep(1)
            group.cancel_scope.cancel()

    for seed in range(4):
        assert "since" not in str(simulate(main, backend=backend, seed=seed))


# ---- what was of one turn


def test_events_of_one_turn_have_a_line_beside_them(backend):
    outcome = simulate(rt.function_node(in_a_task_group), backend=backend)
    found = margins(outcome)
    marked = [mark for mark, _ in found]
    assert "┌" in marked
    for begin, end in zip(
        [place for place, mark in enumerate(marked) if mark == "┌"],
        [place for place, mark in enumerate(marked) if mark == "└"],
        strict=True,
    ):
        group = outcome.trace[begin : end + 1]
        assert len({event.turn for event in group}) == 1
        assert len({outcome.calls[event.session, event.call].task for event in group if event.call is not None}) > 1
        assert set(marked[begin + 1 : end]) <= {"│"}


def test_a_flow_without_tasks_has_no_lines(backend):
    assert {mark for mark, _ in margins(simulate(calls, bad, backend=backend))} == {" "}


def test_lines_stand_beside_marks_of_calls(backend):
    from railtracks.testing import Violation, check

    def about_all(outcome):
        error = AssertionError("look")
        error.calls = [*outcome.calls]  # type: ignore[attr-defined]
        raise error

    with pytest.raises(Violation) as caught:
        check(simulate(rt.function_node(in_a_task_group), backend=backend), about_all)
    assert "\n>┌ " in str(caught.value)


# ---- where threads were switched


def increment(box):
    value = box[0]
    box[0] = value + 1


def test_a_story_says_where_a_thread_was_switched(backend):
    @rt.function_node
    async def main():
        box = [0]
        await rt.call_batch(increment, [box, box])
        return box[0]

    decisions = Decisions(0)
    decisions.switches = SwitchPlan({2})
    outcome = simulate_with(decisions, main, (), {"backend": backend})
    assert outcome.result == 1
    [event] = [event for event in outcome.trace if event.what == "switched"]
    assert event.name == "increment"
    assert with_sources(event.place) == "increment (`box[0] = value + 1`)"
    assert f"{event.who:<24} switched in increment (" in str(outcome)


# ---- the same each time


@pytest.mark.slow
def test_causes_are_the_same_in_each_process():
    code = (
        "from tests.harness import test_story_causes as t; import anyio, railtracks as rt\n"
        "from railtracks.testing import simulate\n"
        "for backend in ('asyncio', 'trio'):\n"
        "    for seed in range(4):\n"
        "        print(simulate(rt.function_node(t.in_a_task_group), seed=seed, backend=backend))\n"
        "        print(simulate(t.waiting_for(t.by_block, anyio.Lock), seed=seed, backend=backend, timeout=5))\n"
    )
    root = Path(__file__).parents[2]
    texts = set()
    for hash_seed in ("0", "1"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8"}
        texts.add(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout)
    assert len(texts) == 1
