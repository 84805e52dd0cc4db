"""Neither clock jumps while a worker is at work; and one that is idle holds none."""

import time

import anyio
import pytest

import railtracks as rt
import railtracks.testing
from railtracks.executors._executor_runner import runner_of
from railtracks.executors._outcome import unpack_outcome
from railtracks.executors._process_runner import process_runner
from railtracks.executors._worker import pack_work
from tests.executors.test_executor_runner import forkserver, loky, pebble, spawned, threads

REAL = 0.1


def own_processes():
    return None


@pytest.fixture(params=[threads, spawned, forkserver, loky, pebble, own_processes], ids=lambda make: make.__name__)
def make_runner(request):
    make = request.param
    return (lambda: process_runner(1)) if make is own_processes else lambda: runner_of(make, "pool")


async def test_the_clock_stands_still_while_a_worker_works(make_runner):
    runner = make_runner()
    try:
        with anyio.move_on_after(REAL / 10) as scope:
            answer = await runner.run(pack_work(time.sleep, (REAL,)))
        assert not scope.cancelled_caught
        assert unpack_outcome(answer).is_success
    finally:
        await runner.close()


def test_a_deadlock_beside_an_idle_process_is_noticed(backend):
    async def wait_for_ever():
        runner = process_runner(1)
        try:
            await runner.run(pack_work(time.sleep, (0,)))
            await anyio.Event().wait()
        finally:
            with anyio.CancelScope(shield=True):
                await runner.close()

    with pytest.raises(rt.testing.Deadlock):
        rt.testing.run(wait_for_ever, backend=backend)


async def test_an_idle_worker_does_not_hold_the_clock(make_runner):
    runner = make_runner()
    try:
        await runner.run(pack_work(time.sleep, (0,)))
        began = time.monotonic()
        await anyio.sleep(3600)
        assert time.monotonic() - began < 60
    finally:
        await runner.close()
