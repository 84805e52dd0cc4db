"""What the seed does not decide is said by the outcome, and an invariant asserts that there is nothing of the kind."""

from __future__ import annotations

import threading
import time

import anyio
import pytest

import railtracks as rt
from railtracks.testing import Violation, check, simulate
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
    lock = threading.Lock()  # made before the run, so that it is in C

    @rt.function_node
    def locked(seconds):
        with lock:
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
