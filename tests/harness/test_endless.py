"""Runs in which virtual time passes for ever: they end after very many steps, and say what ran."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from functools import partial

import anyio
import anyio.to_thread
import pytest

import railtracks as rt
from railtracks.state import Status
from railtracks.testing import (
    Deadlock,
    EndlessRun,
    Fault,
    Violation,
    VirtualClock,
    check,
    compare,
    explore,
    replay,
    resume,
    run,
    simulate,
    sweep,
)
from railtracks.testing._virtual_time import _stepping
from railtracks.testing.faults import Hang, Kill, Raise

MOST = 20_000
"""As many steps as take less than a tenth of a second."""


@rt.function_node
async def beats():
    while True:
        await anyio.sleep(1)


@rt.function_node
def beats_in_a_thread():
    while True:
        time.sleep(1)


@rt.function_node
def waits_in_a_thread():
    done = threading.Event()
    while not done.wait(1):
        pass


@rt.function_node
async def blocks():
    while True:
        time.sleep(1)


@rt.function_node
async def blocks_at_an_event():
    done = threading.Event()
    while not done.wait(1):
        pass


@rt.function_node
async def starts_threads():
    while True:
        await anyio.to_thread.run_sync(time.sleep, 1)


@rt.function_node
async def ticks():
    await anyio.sleep(1)


@rt.function_node
async def calls_for_ever():
    while True:
        await rt.call(ticks)


@rt.function_node
async def work():
    await anyio.sleep(10)


@rt.function_node
async def works_beside_a_heartbeat():
    async with anyio.create_task_group() as group:
        group.start_soon(beats.target)
        await rt.call(work)
        group.cancel_scope.cancel()


# ---- what is found


@pytest.mark.parametrize(
    "node",
    [beats, beats_in_a_thread, waits_in_a_thread, blocks, blocks_at_an_event, starts_threads, calls_for_ever],
    ids=lambda node: node.name,
)
def test_a_run_that_goes_on_and_on_ends(node, backend):
    options = {"backend": backend, "timeout": math.inf, "max_total_steps": MOST, "max_steps": 5_000}
    outcome = simulate(node, **options)
    error = outcome.exception
    assert isinstance(error, EndlessRun)
    assert " s of virtual time the run has taken 20_000 steps, and has not ended; end what goes on and on" in str(error)
    assert "write max_total_steps=200_000\n" in str(error)
    places = [place.partition(" (test_endless.py:")[0] for place in error.running]
    assert {node.name} <= {*places} <= {node.name, "ticks"}
    assert outcome.end == "did not end (EndlessRun)"
    with pytest.raises(Violation, match=rf"the flow never ends: at \d+ s .*; running: .*{node.name} \(test_endless"):
        check(outcome)
    again = simulate(node, **options)
    assert again.story == outcome.story
    assert str(again.exception) == str(error)


def test_it_is_cancelled_and_saved(backend):
    cleaned = []

    async def heart():
        try:
            await beats.target()
        finally:
            with anyio.CancelScope(shield=True):
                await rt.call(ticks)
            cleaned.append(True)

    async def node():
        async with anyio.create_task_group() as group:
            group.start_soon(heart)
            await rt.call(waits_for_ever)

    outcome = simulate(node, backend=backend, timeout=math.inf, max_total_steps=MOST)
    assert isinstance(outcome.exception, EndlessRun)
    assert [place.partition(" (")[0] for place in outcome.exception.running] == ["beats"]
    assert [place.partition(" (")[0] for place in outcome.exception.waiting] == ["waits_for_ever"]
    assert cleaned == [True]
    statuses = [record.status for record in outcome.info.records]
    assert statuses == [Status.CANCELLED, Status.CANCELLED, Status.COMPLETED]
    assert outcome.sessions[0].saved == outcome.info
    assert "the run                  hangs     at " in outcome.story


@rt.function_node
async def waits_for_ever():
    await anyio.sleep_forever()


def test_one_that_cannot_be_cancelled_ends_too(backend):
    async def node():
        while True:
            with contextlib.suppress(BaseException):
                await anyio.sleep(1)

    outcome = simulate(node, backend=backend, timeout=math.inf, max_total_steps=MOST, max_steps=5_000)
    assert isinstance(outcome.exception, EndlessRun)
    assert outcome.left_running == ("the session s0",)


def test_a_run_is_cleaned_up_beside_a_thread_that_goes_on(backend):
    async def node():
        threading.Thread(target=beats_in_a_thread.target, name="heart", daemon=True).start()
        await anyio.sleep_forever()

    outcome = simulate(node, backend=backend, timeout=math.inf, max_total_steps=MOST, max_steps=5_000)
    assert isinstance(outcome.exception, EndlessRun)
    assert [place.partition(" (")[0] for place in outcome.exception.running] == ["beats_in_a_thread"]
    assert [place.partition(" (")[0] for place in outcome.exception.waiting] == ["node"]
    assert outcome.info.records[0].status is Status.CANCELLED
    assert outcome.left_running == ("the thread heart",)


def test_run_raises_it(backend):
    with pytest.raises(EndlessRun, match=r"running: beats \(test_endless.py"):
        run(beats.target, backend=backend, clock=VirtualClock(max_total_steps=MOST))


def test_a_loop_that_is_stepped_ends_such_a_step(backend, monkeypatch):
    monkeypatch.setattr(_stepping, "VirtualClock", partial(VirtualClock, max_total_steps=MOST))
    stepped = _stepping.SteppedLoop(backend, seed=0)
    stepped.start(beats.target)
    for _ in range(10):
        stepped.advance(50)  # each step has the whole budget
    with pytest.raises(EndlessRun, match="beats"):
        stepped.advance(2000)
    stepped.close()


# ---- what is not


def test_a_timeout_ends_a_heartbeat(backend):
    outcome = simulate(beats, backend=backend, timeout=500, max_total_steps=MOST)
    check(outcome)
    assert isinstance(outcome.exception, rt.exceptions.GlobalTimeOutError)


def test_long_flows_end_as_they_do(backend):
    async def waits_daily(years):
        for _ in range(365 * years):
            await anyio.sleep(86_400)
        await anyio.sleep(365 * 86_400)
        return anyio.current_time()

    assert simulate(waits_daily, 10, backend=backend, timeout=math.inf).result == 11 * 365 * 86_400


def test_a_hundred_thousand_calls_are_no_such_run(backend):
    """A hundredth of them takes less than a hundredth of the steps."""

    async def node():
        for _ in range(1000):
            await rt.call(ticks)

    outcome = simulate(node, backend=backend, timeout=math.inf, max_total_steps=VirtualClock().max_total_steps // 100)
    assert outcome.exception is None


def test_a_deadlock_is_still_one(backend):
    outcome = simulate(waits_for_ever, backend=backend, timeout=math.inf, max_total_steps=MOST)
    assert isinstance(outcome.exception, Deadlock)


def test_a_call_that_a_fault_keeps_does_not_count(backend):
    outcome = simulate(
        works_beside_a_heartbeat, backend=backend, faults=[Fault("work", Hang())], timeout=math.inf,
        max_total_steps=MOST,
    )  # fmt: skip
    assert isinstance(outcome.exception, EndlessRun)
    check(outcome)


# ---- in many runs


@rt.function_node
async def hangs_after_an_error():
    async with anyio.create_task_group() as group:
        group.start_soon(beats.target)
        try:
            await rt.call(work)
        except ConnectionError:
            await anyio.sleep_forever()
        group.cancel_scope.cancel()


def test_a_sweep_ends_with_such_a_run(backend):
    result = sweep(
        hangs_after_an_error, backend=backend, kills=False, timeout=math.inf, max_total_steps=MOST,
        exceptions=[ConnectionError("lost")],
    )  # fmt: skip
    assert result.runs == 2
    assert "a call is late: " in result.left_out
    assert "(a run did not end)" in result.left_out
    with pytest.raises(Violation, match="the flow never ends"):
        result.check()


def test_an_exploration_ends_with_such_a_run(backend):
    faults = [Fault("work", Raise(ConnectionError("lost")))]
    result = explore(
        hangs_after_an_error, backend=backend, faults=faults, timeout=math.inf, max_total_steps=MOST
    )  # fmt: skip
    assert result.runs == 1
    assert result.why_not == "a run did not end (EndlessRun), and others may take as long"
    with pytest.raises(Violation, match="the flow never ends"):
        result.check()


def test_a_comparison_ends_with_such_a_run(backend):
    result = compare(work, beats, backend=backend, timeout=math.inf, max_total_steps=MOST)
    assert result.runs == 1
    with pytest.raises(AssertionError, match=r"the old version returned None, and the new one did not end"):
        result.check()
    with pytest.raises(EndlessRun):
        compare(beats, beats, backend=backend, timeout=math.inf, max_total_steps=MOST)


# ---- the option


def test_the_limit_is_on_record_wherever_a_run_is_repeated(backend, tmp_path):
    killed = simulate(work, backend=backend, faults=[Kill(1)], max_total_steps=MOST)
    assert killed.max_total_steps == MOST
    assert "max_total_steps=20000" in killed.code
    assert resume(killed).max_total_steps == MOST
    killed.save_replay(tmp_path / "run.json")
    assert replay(tmp_path / "run.json", work).max_total_steps == MOST
    clock = VirtualClock(max_total_steps=MOST)
    assert repr(clock) == "VirtualClock(max_total_steps=20000)"
    outcome = simulate(work, backend=backend, clock=clock, faults=[Kill(1)])
    assert resume(outcome).max_total_steps == outcome.max_total_steps == MOST
