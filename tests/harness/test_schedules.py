"""Under some seeds a task is held back for many turns, or sleeps for longer than it says: so slow sides are tried."""

from __future__ import annotations

import asyncio
import math
from random import Random

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import check, run, simulate
from railtracks.testing._virtual_time._choices import Choices, draw_from
from railtracks.testing._virtual_time._scheduler import MAX_HELD, PriorityScheduler, Scheduler, Step

DRAWN = range(20, 120)
"""A hundred seeds that are not among the simple ones."""
MANY = range(20, 1020)
"""More than enough, as other versions of the event loops have other orders; a test stops at the first that shows it."""
KINDS = {"shuffled", "priorities", "late timers"}


def kinds_of(node, backend, seeds=DRAWN):
    return {simulate(node, seed=seed, backend=backend).schedule for seed in seeds}


def aba(awaits, seconds=0.0):
    """Return a node that returns whether one task took ``awaits`` awaits while another took one."""

    async def refresh(document, found):
        if document["status"] != "free":
            return
        text = document["text"]
        await anyio.sleep(seconds)
        if document["status"] == "free" and document["text"] != text:
            found.append(text)

    async def edit(document):
        document["status"] = "locked"
        for _ in range(awaits):
            await anyio.sleep(seconds)
        document["text"] = "new"
        document["status"] = "free"

    async def main():
        document, found = {"status": "free", "text": "old"}, []
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, refresh, document, found)
            group.start_soon(rt.call, edit, document)
        return found

    return main


# ---- kinds


def test_simple_seeds_only_shuffle(backend):
    assert kinds_of(aba(1), backend, range(20)) == {"shuffled"}


def test_other_seeds_have_each_kind_of_schedule(backend):
    assert kinds_of(aba(1), backend, range(20, 60)) == KINDS
    assert kinds_of(aba(1), backend, range(-40, 0)) == KINDS


def test_a_story_says_how_its_order_was_decided():
    lines = {o.schedule: str(o).splitlines()[1] for o in (simulate(aba(1), seed=seed) for seed in range(19, 60))}
    assert lines["shuffled"].endswith("after 0 s")
    assert lines["priorities"].endswith("after 0 s (priorities)")
    assert lines["late timers"].endswith("after 0 s (late timers)")


def test_the_same_seed_gives_the_same_story(backend):
    node = aba(2, 0.5)
    for seed in range(20, 40):
        assert len({simulate(node, seed=seed, backend=backend).story for _ in range(2)}) == 1


# ---- what is found


@pytest.mark.parametrize("awaits", [2, 3])
def test_a_task_is_held_back_while_another_takes_several_steps(backend, awaits):
    outcomes = (simulate(aba(awaits), seed=seed, backend=backend) for seed in MANY)
    assert next(outcome for outcome in outcomes if outcome.result).schedule == "priorities"


def test_an_answer_that_takes_longer_is_overtaken(backend):
    async def main():
        stored = []

        async def save(value):
            await anyio.sleep(0.1)
            stored.append(value)

        async with anyio.create_task_group() as group:
            group.start_soon(save, 1)
            await anyio.sleep(0.05)
            group.start_soon(save, 2)
        return stored

    outcomes = (simulate(main, seed=seed, backend=backend) for seed in MANY)
    assert next(outcome for outcome in outcomes if outcome.result == [2, 1]).schedule == "late timers"


def test_a_sleep_outlasts_two_sleeps_of_another_task(backend):
    assert any(simulate(aba(2, 0.1), seed=seed, backend=backend).result for seed in MANY)


# ---- what is right stays right


async def never_too_early_and_never_much_too_late(seconds):
    began = anyio.current_time()
    await anyio.sleep(seconds)
    assert seconds <= anyio.current_time() - began <= 2.25 * seconds + 1e-9


async def no_timeout_fires_that_was_set_before(seconds):
    with anyio.fail_after(1.01 * seconds):
        await anyio.sleep(seconds)


async def no_timeout_fires_that_is_set_meanwhile(seconds):
    async with anyio.create_task_group() as group:
        event = anyio.Event()

        async def answer():
            await anyio.sleep(seconds)
            event.set()

        group.start_soon(answer)
        await anyio.sleep(seconds / 2)
        with anyio.fail_after(0.51 * seconds):
            await event.wait()


@pytest.mark.parametrize(
    "right",
    [
        never_too_early_and_never_much_too_late,
        no_timeout_fires_that_was_set_before,
        no_timeout_fires_that_is_set_meanwhile,
    ],
)
def test_late_sleeps_pass_no_deadline(backend, right):
    async def main():
        await rt.call(right, 2)

    for seed in DRAWN:
        check(outcome := simulate(main, seed=seed, backend=backend))
        assert outcome.exception is None, str(outcome)


def test_what_asyncio_itself_times_out_is_not_delayed_past_it():
    async def main():
        async with asyncio.timeout(1.1):
            await asyncio.sleep(1)
        await asyncio.wait_for(asyncio.sleep(1), 1.1)
        done, _ = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(1))], timeout=1.1)
        return len(done)

    assert {simulate(main, seed=seed).result for seed in DRAWN} == {1}


def test_a_task_that_never_pauses_does_not_starve_others(backend):
    async def main():
        done = []

        async def works():
            for _ in range(5):
                await anyio.sleep(0)
            done.append(True)

        async with anyio.create_task_group() as group:
            group.start_soon(works)
            while not done:
                await anyio.sleep(0)

    for seed in range(20, 50):
        assert simulate(main, seed=seed, backend=backend, timeout=math.inf, max_steps=50_000).exception is None


def test_nothing_counts_as_left_behind_because_it_was_held_back(backend):
    async def main():
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(anyio.sleep, 0)

    for seed in range(20, 60):
        check(simulate(main, seed=seed, backend=backend))


def test_a_callback_is_not_passed_by_a_step_that_was_held_back():
    async def main():
        log = []
        ready = asyncio.Event()

        async def waits():
            await ready.wait()
            log.append("step")

        async def busy():
            for _ in range(3):
                await asyncio.sleep(0)
            asyncio.get_running_loop().call_soon(log.append, "callback")

        async with asyncio.TaskGroup() as group:
            group.create_task(waits())
            await asyncio.sleep(1)
            group.create_task(busy())
            ready.set()
        return log

    assert {tuple(run(main, seed=seed)) for seed in DRAWN} == {("step", "callback")}


# ---- the parts


def steps(*ages, can_wait=True):
    return [Step(age, None, f"task {age}", can_wait) for age in ages]


def numbers(*drawn):
    """Return a source that draws these numbers, and then the last possibility each time."""
    left = list(drawn)
    return Choices(lambda count: left.pop(0) if left else count - 1)


def test_priorities_take_one_step_and_prefer_who_waits_too_long():
    scheduler = PriorityScheduler(numbers(12, 0, 255, 9, 5))
    for _ in range(MAX_HELD):
        arranged = steps(1, 2)
        assert (scheduler.arrange(arranged), arranged[0].age) == (1, 1)
    assert (scheduler.arrange(arranged := steps(1, 2)), arranged[0].age) == (1, 2)


def test_priorities_take_every_step_that_cannot_wait():
    scheduler = PriorityScheduler(numbers(12, 0, 255, 1, 2, 3))
    arranged = [*steps(1, can_wait=False), *steps(2, 3)]
    assert scheduler.arrange(arranged) == 2
    assert [step.age for step in arranged] == [3, 1, 2]


def test_the_last_possibility_of_each_choice_changes_nothing():
    scheduler = Scheduler(numbers())
    arranged = steps(1, 2, 3)
    assert scheduler.arrange(arranged) == 3
    assert arranged == steps(1, 2, 3)
    assert scheduler.choices.made == [(2, 3), (1, 2)]


def test_numbers_are_drawn_as_python_draws_them():
    draw, same = draw_from(Random(7)), Random(7)
    counts = [2, 3, 7, 8, 100] * 20
    assert [draw(count) for count in counts] == [same.randrange(count) for count in counts]


@pytest.mark.parametrize("schedule", ["shuffled", "priorities", "late timers"])
def test_the_kind_can_be_chosen(schedule, backend):
    outcome = simulate(anyio.sleep, 1, seed=50, backend=backend, schedule=schedule)
    assert outcome.schedule == schedule
    assert f"schedule={schedule!r}" in outcome.code


def test_a_kind_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="schedule is 'fair'; use one of 'shuffled', 'priorities', 'late timers', or"):
        simulate(anyio.sleep, 1, schedule="fair")


@pytest.mark.either_backend
@pytest.mark.parametrize("seed", range(20, 26))
def test_no_timer_is_taken_for_a_sleep_that_was_cancelled(seed):
    """A timer may be where another one was in memory."""

    async def nap():
        await asyncio.sleep(5)

    @rt.function_node
    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(20):
            napping = asyncio.create_task(nap())
            await asyncio.sleep(0)
            napping.cancel()
            await asyncio.wait([napping])
            is_over = loop.create_future()
            loop.call_later(1, is_over.set_result, None)
            await is_over

    outcome = simulate(main, seed=seed, backend="asyncio", schedule="late timers")
    assert outcome.duration == 20
    assert outcome.decisions.scheduler_of_run.latenesses == []
