"""What the seed does not decide is said by the outcome, and an invariant asserts that there is nothing of the kind."""

from __future__ import annotations

import asyncio
import functools
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import weakref

import anyio
import pytest

import railtracks as rt
from railtracks.testing import Violation, check, run, simulate
from railtracks.testing._virtual_time import _garbage
from railtracks.testing.invariants import is_determined


@rt.function_node
async def sleep():
    await anyio.sleep(1)


@rt.function_node
def nap(seconds):
    time.sleep(seconds)


@rt.function_node
async def many():
    await rt.call_batch(nap, [1, 2, 3])
    await rt.call(sleep)


@pytest.mark.parametrize("node", [sleep, many])
def test_the_seed_decides_all_of_tasks_and_threads(backend, node):
    outcome = simulate(node, backend=backend)
    assert outcome.undetermined == ()
    check(outcome, is_determined)
    assert "not decided" not in str(outcome)


def test_threads_that_block_in_another_way_are_noted(backend):
    locks = [threading.Lock()]  # made before the run, so that it is in C, and without a name

    @rt.function_node
    def locked(seconds):
        with locks[0]:
            time.sleep(seconds)

    @rt.function_node
    async def main():
        await rt.call_batch(locked, [1, 2])
        return anyio.current_time()

    outcome = simulate(main, backend=backend)
    assert outcome.result == 3
    assert any("a thread stood still" in text for text in outcome.undetermined)
    assert any("make the lock in the run" in text for text in outcome.undetermined)
    with pytest.raises(Violation, match=r"is determined: the seed did not decide: .*stood still") as caught:
        check(outcome, is_determined)
    assert all(str(caught.value).count(text) == 1 for text in outcome.undetermined)
    assert "\nnot decided by the seed: " in str(outcome)


def test_a_real_world_is_noted(backend):
    assert simulate(sleep, backend=backend, world="real").undetermined == (
        "clocks, chance and threads of user code, as the world is real",
    )


# ---- processes

PROGRAM = [sys.executable, "-S", "-c", "pass"]
A_PROCESS = "what a process does that was started in the run, and when it ends"


async def by_subprocess():
    subprocess.run(PROGRAM, check=True)


async def by_anyio():
    await anyio.run_process(PROGRAM)


async def by_asyncio():
    process = await asyncio.create_subprocess_exec(*PROGRAM)
    await process.wait()


async def by_multiprocessing():
    process = multiprocessing.get_context("fork").Process(target=time.time)
    process.start()
    process.join()


async def by_system():
    assert os.system("exit 0") == 0


async def by_spawning():
    os.waitpid(os.posix_spawn(PROGRAM[0], PROGRAM, {}), 0)


async def by_forking():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)


async def by_node():
    await rt.call(subprocess.check_call, PROGRAM)


@pytest.mark.either_backend
@pytest.mark.parametrize(
    "start",
    [by_subprocess, by_anyio, by_asyncio, by_multiprocessing, by_system, by_spawning, by_forking, by_node],
)
def test_a_process_that_is_started_is_noted(start):
    outcome = simulate(start)
    assert outcome.exception is None
    assert A_PROCESS in outcome.undetermined


@pytest.mark.either_backend
def test_a_process_of_another_thread_is_not_noted():
    begun, ended = threading.Event(), threading.Event()

    def start():
        begun.wait(10)
        subprocess.run(PROGRAM, check=True)
        ended.set()

    async def main():
        begun.set()
        ended.wait()

    thread = threading.Thread(target=start)
    thread.start()
    assert A_PROCESS not in simulate(main).undetermined
    thread.join()


# ---- what the garbage collector discards


class Node:
    """Has a finalizer, and is part of a reference cycle."""

    def __init__(self, note):
        self.itself, self._note = self, note

    def __del__(self):
        self._note()


def waste(count):
    for _ in range(count):
        cycle = []
        cycle.append(cycle)


async def with_finalizers():
    log, steps = [], []

    def note(step):
        log.append((step, len(steps)))

    for step in range(450):
        Node(functools.partial(note, step))
        cycle = Node(int)
        weakref.finalize(cycle, note, -step)
        steps.append(step)
        await anyio.lowlevel.checkpoint()
    return list(log)  # more of them run after the run


def test_finalizers_run_at_the_same_step_each_time(backend):
    logs, texts = [], []
    for before in (0, 150, 433):
        waste(before)
        kept = [[] for _ in range(before)]
        outcome = simulate(with_finalizers, backend=backend)
        logs.append(outcome.result)
        texts.append(outcome.undetermined)
        assert len(kept) == before
    assert logs[0]
    assert logs[0] == logs[1] == logs[2]
    assert texts == [()] * 3


@pytest.mark.either_backend
def test_garbage_of_very_many_objects_is_noted(monkeypatch):
    monkeypatch.setattr(_garbage, "MANY_OBJECTS", 2_000)

    async def main():
        waste(3_000)

    assert simulate(main).undetermined == (_garbage.NOTE,)


def of_collector():
    return gc.get_threshold(), gc.isenabled(), len(gc.callbacks)


def test_the_garbage_collector_is_as_before_after_a_run(backend):
    async def inner():
        return of_collector()

    async def main():
        return simulate_in_thread(inner), of_collector()

    def simulate_in_thread(function):
        found = []
        thread = threading.Thread(target=lambda: found.append(simulate(function, backend=backend).result))
        thread.start()
        thread.join()
        return found[0]

    before = of_collector()
    inside, outside = simulate(main, backend=backend).unwrap()
    assert inside[0][0] == outside[0][0] == _garbage.MANY_OBJECTS
    assert of_collector() == before


@pytest.mark.either_backend
def test_a_collector_that_is_off_stays_off():
    async def main():
        return of_collector()

    gc.disable()
    try:
        before = of_collector()
        assert run(main, seed=0) == before == of_collector()
    finally:
        gc.enable()


@pytest.mark.either_backend
def test_what_code_of_a_run_sets_stays():
    async def main():
        gc.set_threshold(1234)

    before = gc.get_threshold()
    try:
        simulate(main)
        assert gc.get_threshold()[0] == 1234
    finally:
        gc.set_threshold(*before)
