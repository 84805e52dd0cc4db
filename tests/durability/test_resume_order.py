"""Results come in the order in which they came before, so that a resumed flow takes the same way."""

from __future__ import annotations

import contextlib

import anyio
import pytest

import railtracks as rt
from railtracks._resume._order import LONG_PATIENCE, MAX_DELAY, PATIENCE
from tests.durability.world import failing, flow_of, keep_journal, reasons, resumed, resumed_badly

pytestmark = pytest.mark.usefixtures("nothing_is_left")


async def in_tasks(*functions):
    async with anyio.create_task_group() as group:
        for function in functions:
            group.start_soon(function)


async def answers(world, names):
    """Ask all at once, and return the names in the order in which the answers came."""
    came = []

    async def ask(name):
        with contextlib.suppress(ValueError):
            await rt.call(world.step, name)
        came.append(name)

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(ask, name)
    return came


async def in_steps(world, names):
    """Each task makes several calls, and the steps of all of them come in one order."""
    came = []

    async def ask(name):
        for part in ("ask", "pay"):
            await rt.call(world.step, f"{part} {name}")
            came.append(f"{part} {name}")

    async with anyio.create_task_group() as group:
        for name in names:
            group.start_soon(ask, name)
    return came


async def below_calls(world, names):
    """The calls that are replayed were made by calls that are not."""
    came = []

    @rt.function_node(memo=False)
    async def ask(name):
        await rt.call(world.step, name)
        came.append(name)

    await rt.call_batch(ask, names)
    return came


NAMES = ["slow", "fast", "flaky", "faster"]
DELAYS = {"slow": 4.0, "fast": 2.0, "flaky": 3.0, "faster": 1.0}


def delay(world):
    for name, seconds in DELAYS.items():
        world.delays[name] = world.delays[f"ask {name}"] = seconds
        world.delays[f"pay {name}"] = 5.0 - seconds


@pytest.mark.parametrize("way", [answers, in_steps, below_calls], ids=lambda way: way.__name__)
async def test_answers_come_in_the_recorded_order(world, way):
    """They do in every attempt, and nothing takes as long as it did."""
    seen = []

    @rt.function_node
    async def main():
        seen.append(await way(world, NAMES))
        await rt.call(world.gate)
        return seen[-1]

    delay(world)
    world.broken |= {"flaky", "gate"} if way is answers else {"gate"}
    await failing(flow_of(main))
    world.broken -= {"flaky"}
    await resumed_badly(flow_of(main))
    world.broken.clear()
    world.ran()
    started = anyio.current_time()
    result, _ = await resumed(flow_of(main))
    assert anyio.current_time() - started < PATIENCE
    assert world.ran() == ["gate"]
    assert seen == [result] * 3
    assert result != NAMES


async def test_calls_of_threads_end_in_the_recorded_order(world):
    """What the threads do next is not in any order, as they run at the same time."""

    @rt.function_node(memo=False)
    def ask(name):
        return rt.call_sync(world.step, name)

    @rt.function_node
    async def main():
        await rt.call_batch(ask, NAMES)
        await rt.call(world.gate)

    delay(world)
    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    _, session = await resumed(flow_of(main))
    assert world.ran() == ["gate"]
    steps = sorted((r for r in session.info.records if r.name == "step"), key=lambda r: r.ended_step)
    assert [r.args[0] for r in steps] == sorted(DELAYS, key=DELAYS.__getitem__)


async def test_first_answer_wins_again(world):
    """It is the same one, in a fork too, and what the flow does next is not done twice."""

    @rt.function_node
    async def main():
        first = (await answers(world, ["slow", "fast"]))[0]
        order = await rt.call(world.step, f"order from {first}")
        await rt.call(world.gate)
        return order

    delay(world)
    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    assert await flow_of(main).afork("run", before=world.gate) == "order from fast!"
    assert (await resumed(flow_of(main)))[0] == "order from fast!"
    assert world.ran() == ["gate", "gate"]


async def test_order_after_a_kill(world):
    seen = []

    @rt.function_node
    async def main():
        came = []

        async def ask(name):
            await rt.call(world.step, name)
            came.append(name)

        with contextlib.suppress(ExceptionGroup):
            async with anyio.create_task_group() as group:
                for name in ("slow", "fast", "faster"):
                    group.start_soon(ask, name)
                await anyio.sleep(2.5)
                if not seen:
                    keep_journal()
        seen.append(came)
        return came

    delay(world)
    await flow_of(main).ainvoke()
    world.ran()
    result, _ = await resumed(flow_of(main), "dead")
    assert world.ran() == ["slow"], "it was running"
    assert result == seen[0] == ["faster", "fast", "slow"]


async def test_attempts_that_are_merged_keep_the_order(world):
    """What the first attempt did comes before what the second one did, in the third."""
    seen = []

    @rt.function_node
    async def main():
        first = await answers(world, ["slow", "fast"])
        await rt.call(world.gate, "gate 1")
        second = await answers(world, ["fast 2", "slow 2"])
        await rt.call(world.gate, "gate 2")
        seen.append((first, second))
        return seen[-1]

    world.delays = {"slow": 2.0, "fast": 1.0, "slow 2": 2.0, "fast 2": 3.0}
    world.broken |= {"gate 1", "gate 2"}
    await failing(flow_of(main))
    world.broken -= {"gate 1"}
    await resumed_badly(flow_of(main))
    world.broken.clear()
    world.ran()
    result, _ = await resumed(flow_of(main))
    assert result == (["fast", "slow"], ["slow 2", "fast 2"])
    assert world.ran() == ["gate 1", "gate 2"]


async def test_call_that_is_not_made_again_is_not_waited_for(world, logged):
    """The flow has changed. What was in flight together waits for a while, and a warning says so."""
    names = ["fast", "slow", "fast 2", "slow 2"]

    @rt.function_node
    async def main():
        came = await answers(world, names)
        await rt.call(world.gate)
        return came

    world.delays = {"slow": 2.0, "slow 2": 4.0, "fast": 1.0, "fast 2": 3.0}
    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    names[:] = ["slow 2", "slow"]
    started = anyio.current_time()
    result, _ = await resumed(flow_of(main))
    assert result == ["slow", "slow 2"]
    assert anyio.current_time() - started <= 2 * LONG_PATIENCE + 2 * PATIENCE
    warnings = [each for each in logged("WARNING") if "was not made again" in each]
    (warning,) = warnings
    assert warning == (
        "The call of step is replayed before that of step, which had ended first, as that was not made again; what "
        "depends on the order may differ"
    )


async def test_nothing_waits_for_what_begins_after_a_failed_call(world, logged):
    """They had ended first, but a batch with a limit makes them when there is room."""

    async def die_soon():
        await anyio.sleep(4.5)
        keep_journal()

    @rt.function_node
    async def main():
        async with anyio.create_task_group() as group:
            if not died:
                group.start_soon(die_soon)
            return await rt.call_batch(step, ["flaky", "slow", "next", "last"], limit=2)

    @rt.function_node
    async def step(name):
        took.append((name, anyio.current_time()))
        await anyio.sleep(delays[name])
        if name in world.broken:
            raise ValueError(name)
        return name

    died, took = [], []
    delays = {"flaky": 1.0, "slow": 3.0, "next": 1.0, "last": 9.0}
    world.broken.add("flaky")
    await flow_of(main).ainvoke()
    died.append(True)
    world.broken.clear()
    took.clear()
    delays["flaky"] = 50.0
    started = anyio.current_time()
    result, _ = await resumed(flow_of(main), "dead")
    assert result == ["flaky", "slow", "next", "last"]
    assert took == [("flaky", started), ("last", started)], "neither waits for what is replayed"
    assert logged("WARNING") == []


async def test_nothing_waits_for_handlers_of_what_is_tried_again(world, logged):
    """The failure went on after the cleanup, which had ended before something else."""

    async def careful():
        try:
            await rt.call(world.step, "flaky")
        except ValueError:
            await rt.call(world.step, "cleanup")
            await anyio.sleep(1)
            raise

    async def beside():
        await rt.call(world.step, "other")
        ended.append(anyio.current_time())

    @rt.function_node
    async def main():
        await in_tasks(careful, beside)

    ended = []
    world.delays = {"flaky": 1.0, "cleanup": 0.2, "other": 1.5}
    world.broken.add("flaky")
    with contextlib.suppress(ExceptionGroup):
        await flow_of(main).ainvoke()
    world.broken.clear()
    started = anyio.current_time()
    await resumed(flow_of(main))
    assert ended[1:] == [started]
    assert logged("WARNING") == []


@pytest.mark.parametrize("beside", ["nothing", "early", "late"])
async def test_what_may_have_handled_a_failure_that_is_tried_again(world, logged, beside):
    """It is waited for, as it may have nothing to do with that; there is only a warning if it comes after all."""

    async def careful():
        try:
            await in_tasks(lambda: rt.call(world.step, "flaky"))
        except ExceptionGroup:
            await rt.call(world.step, "cleanup")
            await anyio.sleep(5)
            raise

    async def other():
        await rt.call(world.step, "other")
        ended.append("other")

    async def of_a_later_task():
        await anyio.sleep(sleeps.pop())
        await rt.call(world.step, "beside")
        ended.append("beside")

    @rt.function_node
    async def main():
        await in_tasks(careful, other, *([of_a_later_task] if beside != "nothing" else []))

    ended, sleeps = [], [15.0 if beside == "late" else 1.1, 1.1]
    world.delays = {"flaky": 1.0, "cleanup": 0.2, "beside": 0.2, "other": 1.5}
    world.broken.add("flaky")
    with pytest.raises(ExceptionGroup):
        await flow_of(main).ainvoke()
    assert ended == ["other"] if beside == "nothing" else ["beside", "other"]
    world.broken.clear()
    world.delays["flaky"] = 20.0
    world.ran()
    ended.clear()
    started = anyio.current_time()
    await resumed(flow_of(main))
    assert anyio.current_time() - started == 20.0
    assert world.ran() == ["flaky"]
    assert ended == {"nothing": ["other"], "early": ["beside", "other"], "late": ["other", "beside"]}[beside]
    assert len(logged("WARNING")) == (beside == "late")


async def test_cancelled_call_begins_again_before_what_cancels_it(world, logged):
    """Otherwise it is not made, and the next try, which makes an equal call, gets what is on record of this one."""

    async def two_steps():
        await rt.call(world.step, "before")
        for _ in range(9):
            await anyio.lowlevel.checkpoint()  # as leaving task groups does
        await rt.call(world.step, "after")

    @rt.function_node
    async def main():
        for seconds in (1.5, 3.0):
            world.delays["flaky"] = seconds
            with contextlib.suppress(ExceptionGroup):
                await in_tasks(two_steps, lambda: rt.call(world.step, "flaky"))
        await rt.call(world.gate)

    world.delays = {"before": 1.0, "after": 1.0}
    world.broken |= {"flaky", "gate"}
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    started = anyio.current_time()
    await resumed(flow_of(main))
    assert world.ran() == ["gate"]
    assert anyio.current_time() == started
    assert logged("WARNING") == []


async def test_call_that_begins_after_a_timeout_is_hardly_waited_for(world, logged):
    """The timeout takes as long as it did, and what had ended meanwhile in another task need not."""
    ended = []

    async def poll():
        for number in range(5):
            with anyio.move_on_after(10):
                await rt.call(world.step, f"poll {number}")

    async def beside():
        await rt.call(world.step, "beside")
        ended.append(anyio.current_time())

    @rt.function_node
    async def main():
        await in_tasks(poll, beside)
        await rt.call(world.gate)

    world.hanging |= {f"poll {number}" for number in range(5)}
    world.delays["beside"] = 45.0
    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    started = anyio.current_time()
    await resumed(flow_of(main))
    assert world.ran() == ["gate"]
    assert ended[1] - started < 2 * PATIENCE
    assert logged("WARNING") == []


async def test_sequential_call_that_is_not_made_again_costs_little(world, logged):
    """A call that had ended before another one began says nothing about the order of the two."""
    names = ["a", "b", "c", "d"]

    @rt.function_node
    async def main():
        for name in names:
            await rt.call(world.step, name)
        await rt.call(world.gate)

    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    names[:] = ["d", "x", "b"]
    started = anyio.current_time()
    await resumed(flow_of(main))
    assert world.ran() == ["x", "gate"]
    assert anyio.current_time() - started <= PATIENCE
    assert not [each for each in logged("WARNING") if "was not made again" in each]


async def test_many_calls_that_are_not_made_again_cost_little(world):
    """Half of what two tasks did is gone. The waits become shorter, so that they do not add up."""
    tasks = ["a", "b"]

    @rt.function_node
    async def main():
        async def work(task):
            for number in range(100):
                await rt.call(world.step, f"{task}{number}")

        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(work, task)
        await rt.call(world.gate)

    for number in range(100):
        world.delays[f"a{number}"] = 2.0
        world.delays[f"b{number}"] = 3.0
    world.broken.add("gate")
    flow = flow_of(main, timeout=1e6, logging_setting="QUIET")
    await failing(flow)
    world.broken.clear()
    world.ran()
    tasks.remove("a")
    started = anyio.current_time()
    await resumed(flow)
    assert world.ran() == ["gate"]
    assert anyio.current_time() - started < 2 * (LONG_PATIENCE + MAX_DELAY + PATIENCE)


async def test_loop_that_makes_one_call_less_does_not_wait(world):
    left_out = []

    @rt.function_node
    async def main():
        for number in range(100):
            if not left_out:
                await rt.call(world.step, f"log {number}")
            await rt.call(world.step, number)
        await rt.call(world.gate)

    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    left_out.append(True)
    started = anyio.current_time()
    await resumed(flow_of(main))
    assert world.ran() == ["gate"]
    assert anyio.current_time() == started


async def test_flow_that_waits_between_its_calls_keeps_the_order(world):
    """A call that comes late because the flow sleeps, within limits, is waited for."""
    came = []

    @rt.function_node
    async def main():
        came.clear()

        async def early_and_long():
            await rt.call(world.step, "long")
            came.append("long")

        async def late_and_short():
            await anyio.sleep(5)
            await rt.call(world.step, "short")
            came.append("short")

        await in_tasks(early_and_long, late_and_short)
        await rt.call(world.gate)
        return list(came)

    assert MAX_DELAY > 5
    world.delays = {"long": 7.0, "short": 1.0}
    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    assert (await resumed(flow_of(main)))[0] == ["short", "long"]


@pytest.mark.parametrize("count", [100, pytest.param(1_000, marks=pytest.mark.slow)])
async def test_many_calls_in_reverse_order_take_linear_time(world, monkeypatch, count):
    """They are counted, not timed: each call is woken once."""
    from railtracks._resume import _order

    looks = []
    is_late = _order.ReplayOrder._is_late

    def look(self, place):
        looks.append(place)
        return is_late(self, place)

    monkeypatch.setattr(_order.ReplayOrder, "_is_late", look)

    @rt.function_node
    async def main():
        came = await answers(world, list(range(count)))
        await rt.call(world.gate)
        return came

    world.delays = {number: float(count - number) for number in range(count)}
    world.broken.add("gate")
    connection = flow_of(main, timeout=1e6).connect()
    with pytest.raises(ValueError, match="gate"):
        await connection.ainvoke()
    world.broken.clear()
    world.ran()
    assert await flow_of(main, logging_setting="NONE").aresume("run") == list(reversed(range(count)))
    assert world.ran() == ["gate"]
    assert len(looks) <= 4 * count


async def test_cancelled_while_it_waits_for_its_turn(world):
    """The others do not wait for it, and it is on record as cancelled."""
    hurry = []

    @rt.function_node
    async def main():
        came = []

        async def ask(name):
            with anyio.move_on_after(0.01 if hurry and name == "slow" else 100):
                await rt.call(world.step, name)
                came.append(name)

        async def late():
            if hurry:
                await anyio.sleep(0.5)
            await ask("fast")

        await in_tasks(late, lambda: ask("slow"), lambda: ask("slower"))
        if hurry:
            keep_journal()
        await rt.call(world.gate)
        return came

    world.delays = {"fast": 1.0, "slow": 2.0, "slower": 3.0}
    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    hurry.append(True)
    result, session = await resumed(flow_of(main))
    assert result == ["fast", "slower"]
    assert world.ran() == ["gate"]
    slow = next(r for r in session.info.records if r.args == ("slow",))
    assert slow.status is rt.state.Status.CANCELLED
    dead = rt.state.load_run("dead").records
    assert [(r.name, r.args, r.parent, r.reuse) for r in dead] == [
        (r.name, r.args, r.parent, r.reuse) for r in session.info.records[:4]
    ]
    assert [r.status for r in dead[1:]] == [r.status for r in session.info.records[1:4]]


async def test_call_that_runs_again_is_not_waited_for(world):
    """Only what is replayed has an order: what runs again comes when it comes."""
    again = []

    @rt.function_node(memo=False)
    async def poll():
        await anyio.sleep(10 if again else 1)
        return "polled"

    @rt.function_node
    async def main():
        came = []

        async def ask(node, *args):
            came.append(await rt.call(node, *args))

        await in_tasks(lambda: ask(poll), lambda: ask(world.step, "slow"))
        await rt.call(world.gate)
        return came

    world.delays = {"slow": 2.0}
    world.broken.add("gate")
    await failing(flow_of(main))
    again.append(True)
    world.broken.clear()
    result, session = await resumed(flow_of(main))
    assert result == ["slow!", "polled"]
    assert reasons(session.info)["poll"] == "its node has memo=False"


async def test_values_do_not_wait_for_each_other(world):
    """``rt.now`` and its like are never delivered late, as their calls end where they begin."""

    @rt.function_node
    async def main():
        async def stamp(name):
            await rt.call(world.step, name)
            return rt.uuid4()

        found = {}

        async def note(name):
            found[name] = await stamp(name)

        await in_tasks(*(lambda name=name: note(name) for name in ("slow", "fast")))
        await rt.call(world.gate)
        return found

    world.delays = {"slow": 2.0, "fast": 1.0}
    world.broken.add("gate")
    session = await failing(flow_of(main))
    values = {str(r.result) for r in session.info.records if r.name == "uuid4"}
    world.broken.clear()
    result, _ = await resumed(flow_of(main))
    assert {str(value) for value in result.values()} == values
