"""Threads of a run lose their turns inside user code under some seeds, so that races at a variable are found."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
import logging
import math
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import anyio
import pytest

import railtracks as rt
from railtracks.testing import explore, replay, simulate
from railtracks.testing._simulation._simulate import simulate_with
from railtracks.testing._virtual_time import _switches
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._held_locks import holds_real_lock
from railtracks.testing._virtual_time._switches import SwitchPlan

DRAWN = range(20, 120)
"""A hundred seeds that are not among the simple ones."""
pytestmark = pytest.mark.skipif(sys.gettrace() is not None, reason="no thread is interrupted that is traced already")


class Box:
    """What the threads of a run share."""

    def __init__(self, value):
        self.value = value
        self.lock = threading.Lock()
        self.others = {}


def at_once(function, value, times=2):
    """Return a flow that calls a sync node several times at once, and returns the value that is left."""

    async def main():
        box = Box(value)
        await rt.call_batch(function, [box] * times)
        return box.value

    return main


def results(flow, backend, seeds=DRAWN):
    return (simulate(flow, seed=seed, backend=backend).unwrap() for seed in seeds)


# ---- what is found


def read_and_write(box):
    value = box.value
    box.value = value + 1


def increment(box):
    box.value += 1


def check_and_take(box):
    if box.value < 1:
        box.value += 1


def increment_item(box):
    box.others["n"] = box.others.get("n", 0) + 1
    box.value = box.others["n"]


@pytest.mark.parametrize(
    ("function", "right"), [(read_and_write, 2), (increment, 2), (check_and_take, 1), (increment_item, 2)]
)
def test_a_race_at_a_variable_is_found(backend, function, right):
    assert any(value != right for value in results(at_once(function, 0), backend))


def test_a_race_at_a_variable_of_a_closure_is_found(backend):
    async def main():
        count = 0

        def step(_):
            nonlocal count
            count += 1

        await rt.call_batch(step, range(2))
        return count

    assert 1 in results(main, backend)


async def by_pool(step):
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            pool.submit(step)


async def by_threads(step):
    threads = [threading.Thread(target=step) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def by_a_node_that_works_on(step):
    def node():
        thread = threading.Thread(target=step)
        thread.start()
        step()
        thread.join()

    await rt.call(node)


@pytest.mark.parametrize("way", [by_pool, by_threads, by_a_node_that_works_on])
def test_other_threads_race_as_well(backend, way):
    async def main():
        box = Box(0)
        await way(functools.partial(read_and_write, box))
        return box.value

    assert 1 in results(main, backend)


def test_locks_in_different_orders_are_a_deadlock(backend):
    async def main():
        locks = [threading.Lock(), threading.Lock()]

        def work(first):
            with locks[first], locks[1 - first]:
                pass

        await rt.call_batch(work, range(2), return_exceptions=False)

    outcomes = (simulate(main, seed=seed, backend=backend, timeout=math.inf) for seed in DRAWN)
    assert any(type(outcome.exception).__name__ == "Deadlock" for outcome in outcomes)


# ---- what is right stays right

OLD = threading.Lock()
"""A lock that was made before the run, and so is a real one."""


def under_a_lock(box):
    with box.lock:
        read_and_write(box)


def under_an_old_lock(box):
    with OLD:
        value = box.value
        box.value = value + 1


@pytest.mark.parametrize("function", [under_a_lock, under_an_old_lock])
def test_no_update_is_lost_under_a_lock(backend, function):
    outcomes = [simulate(at_once(function, 0, 3), seed=seed, backend=backend) for seed in range(20, 32)]
    assert {(outcome.result, outcome.undetermined) for outcome in outcomes} == {(3, ())}
    assert any(outcome.decisions.switches.made for outcome in outcomes)


def test_a_variable_of_a_closure_keeps_what_others_write(backend):
    async def main():
        count, lock = 0, threading.Lock()

        def step(_):
            nonlocal count
            for _ in range(3):
                with lock:
                    count += 1

        await rt.call_batch(step, range(3))
        return count

    assert set(results(main, backend, range(20, 32))) == {9}


class Handler(logging.Handler):
    """Code that the standard library calls with a lock."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        lines = list(self.lines)
        self.lines = [*lines, record.msg]


def test_what_the_standard_library_calls_is_not_interrupted(backend, monkeypatch):
    handler = Handler()
    logger = logging.getLogger("switches")
    logger.propagate = False
    monkeypatch.setattr(logger, "handlers", [handler])

    async def main():
        handler.lines = []
        await rt.call_batch(logger.warning, ["a", "b"])
        return len(handler.lines)

    outcomes = [simulate(main, seed=seed, backend=backend) for seed in range(20, 30)]
    assert {(outcome.result, outcome.undetermined) for outcome in outcomes} == {(2, ())}


class WithSlots:
    __slots__ = ("lock", "missing")


@pytest.mark.either_backend
@pytest.mark.parametrize("kind", [threading.Lock, threading.RLock, threading.Condition])
def test_real_locks_that_code_has_a_name_for_are_seen(kind):
    def by_variable():
        with lock:
            return holds_real_lock([sys._getframe()])

    def by_attribute():
        with owner.lock:
            return owner.missing if False else holds_real_lock([sys._getframe()])

    lock, owner = kind(), cast(Any, WithSlots())
    owner.lock = lock
    assert by_variable()
    assert by_attribute()
    assert not holds_real_lock([sys._getframe()])


# ---- when, and that it is repeated


def places(flow, backend, seeds):
    return [simulate(flow, seed=seed, backend=backend).decisions.switches.made for seed in seeds]


def test_simple_seeds_do_not_interrupt_threads(backend):
    assert not any(places(at_once(increment, 0), backend, range(0, 20, 4)))


def test_a_real_world_does_not_interrupt_threads(backend):
    flow = at_once(increment, 0)
    assert not any(
        simulate(flow, seed=seed, backend=backend, world="real").decisions.switches.made for seed in range(20, 32)
    )


def test_a_thread_that_is_alone_is_not_interrupted(backend):
    assert not any(places(at_once(increment, 0, 1), backend, range(20, 30)))


def test_threads_are_interrupted_at_the_same_places_each_time(backend):
    flow = at_once(read_and_write, 0, 3)
    first = places(flow, backend, range(20, 30))
    assert places(flow, backend, range(20, 30)) == first
    assert any(first)


def test_a_replay_interrupts_threads_where_the_run_did(backend, tmp_path):
    path, flow = tmp_path / "run.json", at_once(read_and_write, 0)
    found = next(o for o in (simulate(flow, seed=seed, backend=backend) for seed in DRAWN) if o.result == 1)
    found.save_replay(path)
    again = replay(path, flow)
    assert (again.result, again.story) == (1, found.story)
    assert again.decisions.switches.made == found.decisions.switches.made


def test_a_replay_that_interrupts_too_often_warns(backend, tmp_path):
    path, flow = tmp_path / "run.json", at_once(read_and_write, 0)
    simulate(flow, backend=backend).save_replay(path)
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "switches": [1000]}))
    with pytest.warns(UserWarning, match="the file has 1 decision about switches that the run did not need"):
        replay(path, flow)


def test_explore_does_not_interrupt_threads(backend):
    seen = []
    explore(
        at_once(increment, 0),
        max_runs=20,
        invariants=[lambda o: seen.append(o.decisions.switches.made)],
        backend=backend,
    )
    assert not any(seen)


def test_a_debugger_keeps_its_thread(backend):
    lines = []

    def debugger(frame, event, arg):
        lines.append(frame.f_code.co_name)
        return debugger

    def traced(box):
        sys.settrace(debugger)
        try:
            read_and_write(box)
            time.sleep(1)
            read_and_write(box)
        finally:
            assert sys.gettrace() is debugger
            sys.settrace(None)

    for value in results(at_once(traced, 0), backend, range(20, 32)):
        assert value in (2, 3, 4)
    assert lines.count("read_and_write") > 0


def test_no_thread_is_traced_after_a_run(backend):
    for seed in range(20, 32):
        simulate(at_once(read_and_write, 0), seed=seed, backend=backend)

    async def main():
        return await anyio.to_thread.run_sync(sys.gettrace)

    assert anyio.run(main, backend=backend) is None
    if sys.version_info >= (3, 12):
        assert [sys.monitoring.get_tool(number) for number in (3, 4)] == [None, None]


def test_calls_of_the_standard_library_end_the_tracing(backend):
    """Tracing them takes long, and no thread is interrupted there."""
    data = [[] for _ in range(_switches._MAX_OTHER_CALLS)]

    @rt.function_node
    def copy_all(box):
        traced = [sys.gettrace() is not None]
        copy.deepcopy(data)
        return [*traced, sys.gettrace() is not None]

    async def main():
        return await rt.call_batch(copy_all, [None] * 2)

    decisions = Decisions(0)
    decisions.switches = SwitchPlan({100_000})
    traced = simulate_with(decisions, main, (), {"backend": backend}).unwrap()
    assert sorted(traced) == [[False, False], [True, False]]


def shapes(box):
    try:
        others = {
            key: [each + box.value for each in range(key)]
            for key in range(3)
        }  # fmt: skip
        with contextlib.suppress(KeyError):
            del box.others[
                "none"
            ]  # fmt: skip
    finally:
        box.value += len(others)
    for each in (item for item in others):
        if (
            each
            and others[each]
        ):  # fmt: skip
            box.others[each] = sum(others[each])
    with box.lock:
        box.value = max(others, key=lambda key: -key)


PLACES = [2, 6, 7, 6, 11, 11, 12, 12, 17, 17, 12, 17, 17, 12, 18, 18, 19, 19, 19, 19, 19, 18]
"""The lines at which a thread could lose its turn, from the first of the function on: on each version of Python."""


@pytest.mark.either_backend
def test_the_places_are_the_same_on_each_python(monkeypatch):
    lines, first = [], shapes.__code__.co_firstlineno
    reach = _switches.Switcher.reach

    def note(self, frame):
        if frame.f_code is not note.__code__:  # which is user code as well
            lines.append(frame.f_lineno - first)
        reach(self, frame)

    monkeypatch.setattr(_switches.Switcher, "reach", note)
    decisions = Decisions(0)
    decisions.switches = SwitchPlan({1000})
    simulate_with(decisions, at_once(shapes, 0), (), {})
    assert lines == PLACES
