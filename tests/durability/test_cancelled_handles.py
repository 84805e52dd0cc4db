"""Runs with a call that its handle cancelled: such a run is not cancelled itself, and can be started again."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.state import Reason, Status
from railtracks.state._stores._messages import reasons_of_end

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Crash(Exception):
    pass


@pytest.fixture
def program():
    """A program with two steps and a worker beside them, which it cancels between the steps; and what has run."""
    done: list[object] = []

    @rt.function_node
    async def step(number: int) -> int:
        done.append(number)
        return number

    @rt.function_node
    async def worker() -> None:
        await rt.call(step, 0)
        done.append("worker")
        await anyio.sleep_forever()

    async def run(crash=False, **options):
        async with rt.Session(run_identifier="run", **{"if_exists": "resume", **options}) as session:
            handle = session.start_soon(worker)
            found = [await rt.call(step, 1)]
            await anyio.sleep(1)
            handle.cancel()
            assert await handle.wait() is Status.CANCELLED
            if crash:
                raise Crash
            return [*found, await rt.call(step, 2)]

    return run, done


async def test_run_whose_handle_was_cancelled_has_completed(program):
    run, done = program
    assert await run() == [1, 2]
    [summary] = rt.state.list_runs()
    assert summary.status is Status.COMPLETED
    assert {(r.name, r.reason) for r in rt.state.load_run("run").records} == {
        ("worker", Reason.HANDLE), ("step", None),
    }  # fmt: skip
    assert sorted(map(str, done)) == ["0", "1", "2", "worker"]


async def test_run_whose_handle_was_cancelled_starts_again(program):
    run, done = program
    assert await run() == [1, 2]
    done.clear()
    assert await run() == [1, 2]
    assert done == ["worker"]  # what it had completed is replayed, and it is cancelled again


async def test_run_that_failed_after_that_goes_on(program):
    run, done = program
    with pytest.raises(Crash):
        await run(crash=True)
    done.clear()
    assert await run() == [1, 2]
    assert done == ["worker", 2]


async def test_run_whose_handle_was_cancelled_is_overwritten(program):
    run, _ = program
    for _ in range(2):
        assert await run(if_exists="replace") == [1, 2]
    assert [summary.identifier for summary in rt.state.list_runs()] == ["run"]


# That of a batch is there only beside the failure of another call, which counts.
@pytest.mark.parametrize("reason", [each for each in Reason if each not in (Reason.HANDLE, Reason.BATCH)])
async def test_other_reasons_count_beside_that_of_a_handle(reason):
    async with rt.Session() as session:
        handles = [session.start_soon(anyio.sleep_forever) for _ in range(2)]
        await anyio.sleep(1)
        for handle in handles:
            handle.cancel()
    info = session.info
    assert reasons_of_end(info) == set()
    info.records[0].reason = reason
    assert reasons_of_end(info) == {reason}
    assert info.payload()["status"] == "Cancelled"
