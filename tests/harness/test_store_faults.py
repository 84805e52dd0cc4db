"""Stores that fail for a while, and that take long."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.testing import check, simulate, sweep
from railtracks.testing.faults import DelaySave, FailSave


@rt.function_node
async def step(number):
    await anyio.sleep(2)
    return number


@rt.function_node
async def steps(count=4):
    return [await rt.call(step, number) for number in range(count)]


def events(outcome, what):
    return [event for event in outcome.trace if event.what == what]


# ---- that fail for a while


@pytest.mark.parametrize("at", ["open", "append"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_journal_that_failed_for_a_while_is_whole_again(backend, at, times):
    outcome = simulate(steps, backend=backend, faults=[FailSave(at=at, times=times), FailSave(at="save")])
    check(outcome)
    assert outcome.result == [0, 1, 2, 3]
    assert len(events(outcome, "fault")) == 2
    assert outcome.sessions[0].saved == outcome.info, "the journal has all, as the document could not be saved"


def test_a_store_fails_as_often_as_it_says(backend):
    def saved(times):
        @rt.function_node
        async def three_sessions():
            for number in range(3):
                async with rt.Session():
                    await rt.call(step, number)

        outcome = simulate(three_sessions, backend=backend, faults=[FailSave(times=times)])
        check(outcome)
        return [each.stored is not None and each.stored.document is not None for each in outcome.sessions]

    # The session of the run ends last.
    assert [saved(times) for times in (1, 2, 3, None)] == [
        [True, False, True, True], [True, False, False, True], [True, False, False, False], [False] * 4,
    ]  # fmt: skip


# ---- that take long


@pytest.mark.parametrize("world", ["virtual", "real"])
def test_saving_takes_long(backend, world):
    outcome = simulate(steps, backend=backend, faults=[DelaySave(30)], world=world)
    check(outcome)
    assert (outcome.result, outcome.duration) == ([0, 1, 2, 3], 38)
    assert outcome.sessions[0].saved == outcome.info
    assert [event.detail for event in events(outcome, "fault")] == ["DelaySave(30)"]


def test_other_work_goes_on_while_a_store_is_late(backend):
    @rt.function_node
    async def main():
        times = []

        async def other_session():
            async with rt.Session():
                await rt.call(step, 1)
            times.append(anyio.current_time())

        async with anyio.create_task_group() as group:
            group.start_soon(other_session)
            await rt.call(steps)
            times.append(anyio.current_time())
        return times

    outcome = simulate(main, backend=backend, faults=[DelaySave(30, times=1)], start=0, schedule="shuffled")
    check(outcome)
    assert (outcome.result, outcome.duration) == ([8, 32], 32)


def test_a_call_waits_until_its_journal_is_on_disk(backend):
    outcome = simulate(steps, backend=backend, faults=[DelaySave(30, "sync", after=1, times=2)], durability="sync")
    check(outcome)
    assert outcome.duration == 8 + 2 * 30


def test_a_timeout_holds_while_the_journal_is_late(backend):
    outcome = simulate(steps, backend=backend, faults=[DelaySave(30, "sync")], durability="sync", timeout=40)
    check(outcome)
    assert type(outcome.exception).__name__ == "GlobalTimeOutError"


@pytest.mark.parametrize("seed", [0, 3, 25])
def test_a_late_store_is_the_same_each_time(backend, seed):
    def story():
        faults = [DelaySave(5, "sync"), DelaySave(7)]
        outcome = simulate(steps, backend=backend, seed=seed, faults=faults, durability="sync")
        assert outcome.undetermined == ()
        return outcome.story

    assert len({story() for _ in range(4)}) == 1


# ---- in a sweep


def test_a_sweep_tries_stores_that_fail_once_and_are_late(backend):
    result = sweep(steps, 2, backend=backend, exceptions=[], pairs=0, kills=False, durability="sync")
    result.check()
    assert 4 <= result.tried["the store fails once"] < result.tried["the store fails"]
    assert result.tried["the store is late"] == 6
