"""A failure that the flow had handled is raised again in a resumed run. One that ended the run is tried again."""

from __future__ import annotations

import asyncio
import contextlib

import anyio
import pytest

import railtracks as rt
from railtracks.llm import AssistantMessage
from railtracks.testing import ScriptedModel, tool_call
from tests.durability.world import failing, flow_of, keep_journal, reasons, resumed, resumed_badly, reused

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Declined(ValueError):
    def __init__(self, order, *, code):
        super().__init__(f"{order} was declined")
        self.code = code


# ---- ways to go on after a failure: each takes the world, whose step "flaky" fails at first


async def retry(world):
    for _ in range(3):
        with contextlib.suppress(ValueError):
            return await rt.call(world.step, "flaky")
    return "no luck"


async def fallback(world):
    try:
        return await rt.call(world.step, "flaky")
    except ValueError:
        return await rt.call(world.step, "instead")


async def default(world):
    try:
        return await rt.call(world.step, "flaky")
    except ValueError as exc:
        return f"without {exc}"


async def saved_for_later(world):
    error = None
    try:
        await rt.call(world.step, "flaky")
    except ValueError as exc:
        error = exc
    return await rt.call(world.step, "b"), str(error)


async def in_nested_call(world):
    @rt.function_node
    async def careful():
        return await fallback(world)

    return await rt.call(careful), await rt.call(world.step, "b")


async def of_nested_call(world):
    @rt.function_node
    async def careless(name):
        await rt.call(world.step, "before")
        return await rt.call(world.step, name)

    try:
        return await rt.call(careless, "flaky")
    except ValueError:
        return await rt.call(careless, "instead")


async def in_batch(world):
    return [str(each) for each in await rt.call_batch(world.step, ["a", "flaky", "b"])]


async def in_batch_one_by_one(world):
    return [str(each) for each in await rt.call_batch(world.step, ["flaky", "a", "b"], limit=1)]


async def in_batch_that_raises(world):
    try:
        return await rt.call_batch(world.step, ["a", "flaky"], return_exceptions=False, limit=1)
    except ValueError as exc:
        return str(exc)


async def in_tasks(world):
    found = {}

    async def ask(name):
        try:
            found[name] = await rt.call(world.step, name)
        except ValueError as exc:
            found[name] = str(exc)

    async with anyio.create_task_group() as group:
        for name in ("a", "flaky", "b"):
            group.start_soon(ask, name)
    return [found[name] for name in ("a", "flaky", "b")]


async def group_of_tasks(world):
    found = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, world.step, "flaky")
    except* ValueError as exc:
        found = str(exc.exceptions[0])
    return found


async def gathered(world):
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return None
    names = ["a", "flaky", "b"]
    return [str(e) for e in await asyncio.gather(*(rt.call(world.step, n) for n in names), return_exceptions=True)]


async def in_thread(world):
    @rt.function_node
    def sync():
        try:
            return rt.call_sync(world.step, "flaky")
        except ValueError:
            return rt.call_sync(world.step, "instead")

    return await rt.call(sync), await rt.call(world.step, "b")


async def of_thread(world):
    try:
        return await rt.call(world.in_thread, "flaky")
    except ValueError:
        return await rt.call(world.in_thread, "instead")


async def alternative_fails_too(world):
    with contextlib.suppress(ValueError):
        try:
            return await rt.call(world.step, "flaky")
        except ValueError:
            return await rt.call(world.step, "flaky")
    return "neither"


async def wrapped_and_handled(world):
    @rt.function_node
    async def wrapping():
        try:
            await rt.call(world.step, "flaky")
        except ValueError as exc:
            raise ValueError("wrapped") from exc

    try:
        return await rt.call(wrapping)
    except ValueError as exc:
        assert exc.__cause__ is not None
        return f"{exc}: {exc.__cause__}"


class Interrupt(BaseException):
    """Not an ``Exception``, as an event loop's own ones."""


async def not_an_exception(world):
    @rt.function_node
    async def interrupts():
        world.note("interrupts")
        if "flaky" in world.broken:
            raise Interrupt("flaky")

    try:
        await rt.call(interrupts)
    except Interrupt as exc:
        return repr(exc)


async def as_declared_by_a_class(world):
    @rt.function_node
    async def charge(order):
        world.note(order)
        if "flaky" in world.broken:
            raise Declined(order, code=51)
        return "charged"

    try:
        return await rt.call(charge, "o1")
    except Declined as exc:
        return exc.args, exc.code, type(exc).__name__


HANDLED = [
    retry, fallback, default, saved_for_later, in_nested_call, of_nested_call, in_batch, in_batch_one_by_one,
    in_batch_that_raises, in_tasks, group_of_tasks, gathered, in_thread, of_thread, alternative_fails_too,
    wrapped_and_handled, as_declared_by_a_class, not_an_exception,
]  # fmt: skip


def named(function):
    return function.__name__


@pytest.mark.parametrize("way", HANDLED, ids=named)
async def test_handled_failure_is_raised_again(world, way):
    """The flow takes the same way, however often it is resumed, although what had failed would succeed by now."""
    seen = []

    @rt.function_node
    async def main():
        seen.append(await way(world))
        await rt.call(world.gate)
        return seen[-1]

    world.broken |= {"flaky", "gate"}
    await failing(flow_of(main))
    world.broken -= {"flaky"}
    world.ran()
    await resumed_badly(flow_of(main))
    assert world.ran() == ["gate"]
    world.broken.clear()
    result, session = await resumed(flow_of(main))
    assert world.ran() == ["gate"]
    assert seen == [result] * 3
    assert set(reasons(session.info)) == {"main", "gate"}


@pytest.mark.parametrize("way", HANDLED, ids=named)
async def test_handled_failure_is_raised_again_after_kill(world, way):
    seen = []

    @rt.function_node
    async def main():
        seen.append(await way(world))
        await rt.call(world.die)
        return seen[-1]

    world.broken.add("flaky")
    await flow_of(main).ainvoke()
    world.broken.clear()
    world.ran()
    result, _ = await resumed(flow_of(main), "dead")
    assert world.ran() == ["die"]
    assert seen == [result] * 2


DIRECTLY = [
    retry, fallback, default, saved_for_later, in_batch, in_batch_one_by_one, in_batch_that_raises, in_tasks,
    group_of_tasks, alternative_fails_too,
]  # fmt: skip


@pytest.mark.parametrize("way", DIRECTLY, ids=named)
async def test_retry_on_resume_tries_handled_failures_again(world, way):
    @rt.function_node
    async def main():
        result = await way(world)
        await rt.call(world.gate)
        return result

    world.step = rt.function_node(world.step, retry_on_resume=True)
    world.broken |= {"flaky", "gate"}
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    _, session = await resumed(flow_of(main))
    assert world.ran()[0] == "flaky"
    assert "it had failed, and its node has retry_on_resume=True" in [d.why for d in session.info.resumed]


# ---- ways to fail because of a failure


async def passed_on(world):
    await rt.call(world.step, "flaky")


async def raised_from(world):
    try:
        await rt.call(world.step, "flaky")
    except ValueError as exc:
        raise ValueError("other") from exc


async def raised_while_handling(world):
    try:
        await rt.call(world.step, "flaky")
    except ValueError:
        raise ValueError("other")  # noqa: B904


async def raised_from_none(world):
    try:
        await rt.call(world.step, "flaky")
    except ValueError:
        raise ValueError("other") from None


async def after_cleanup(world):
    try:
        await rt.call(world.step, "flaky")
    except ValueError:
        await rt.call(world.step, "cleanup")
        raise


async def finally_cleanup(world):
    try:
        await rt.call(world.step, "flaky")
    finally:
        await rt.call(world.step, "cleanup")


async def other_after_cleanup(world):
    try:
        await rt.call(world.step, "flaky")
    except ValueError as exc:
        await rt.call(world.step, "cleanup")
        raise ValueError("other") from exc


async def raised_later(world):
    error = None
    try:
        await rt.call(world.step, "flaky")
    except ValueError as exc:
        error = exc
    await rt.call(world.step, "cleanup")
    if error is not None:
        raise error


async def raised_in_a_group(world):
    errors = [e for e in await rt.call_batch(world.step, ["a", "flaky", "b"]) if isinstance(e, Exception)]
    await rt.call(world.step, "cleanup")
    if errors:
        raise ValueError("not all") from ExceptionGroup("not all", errors)


async def raised_by_a_batch(world):
    await rt.call_batch(world.step, ["a", "flaky"], return_exceptions=False, limit=1)


async def found_in_a_batch(world):
    results = await rt.call_batch(world.step, ["flaky", "a", "b"], limit=1)
    if any(isinstance(each, Exception) for each in results):
        raise ValueError("not all")


async def raised_by_a_task(world):
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, world.step, "flaky")
    except* ValueError as exc:
        raise ValueError("in a task") from exc


async def raised_by_a_thread(world):
    await rt.call(world.in_thread, "flaky")


async def three_levels_down(world):
    @rt.function_node
    async def inner():
        await passed_on(world)

    @rt.function_node
    async def outer():
        try:
            await rt.call(inner)
        except ValueError as exc:
            raise ValueError("outer") from exc

    await rt.call(outer)


async def summed_up_at_the_end(world):
    try:
        await rt.call(world.step, "flaky")
        failed = False
    except ValueError:
        failed = True
    if failed:
        raise ValueError("it failed")


ENDED = [
    passed_on, raised_from, raised_while_handling, raised_from_none, after_cleanup, finally_cleanup,
    other_after_cleanup, raised_later, raised_in_a_group, raised_by_a_batch, found_in_a_batch, raised_by_a_task,
    raised_by_a_thread, three_levels_down, summed_up_at_the_end,
]  # fmt: skip


@pytest.mark.parametrize("way", ENDED, ids=named)
@pytest.mark.parametrize("resumes", [1, 2])
async def test_failure_that_ended_the_run_is_tried_again(world, way, resumes):
    @rt.function_node
    async def main():
        await rt.call(world.step, "first")
        await way(world)
        return "done"

    world.broken.add("flaky")
    await failing(flow_of(main))
    for _ in range(resumes - 1):
        await resumed_badly(flow_of(main))
    world.broken.clear()
    world.ran()
    result, session = await resumed(flow_of(main))
    assert result == "done"
    assert "flaky" in world.ran()
    assert "it had failed" in reasons(session.info).values()


# ---- stories


async def test_retried_payment_is_not_made_again(world):
    bank, tries = [], []

    @rt.function_node
    async def pay(order):
        tries.append(order)
        if len(tries) == 1:
            raise ConnectionError("the gateway is down")
        bank.append(order)
        return f"receipt {len(bank)}"

    @rt.function_node
    async def checkout(order):
        for _ in range(3):
            with contextlib.suppress(ConnectionError):
                receipt = await rt.call(pay, order)
                break
        await rt.call(world.gate)
        return receipt

    world.broken.add("gate")
    await failing(flow_of(checkout, durability="sync"), "o1")
    world.broken.clear()
    assert (await resumed(flow_of(checkout, durability="sync")))[0] == "receipt 1"
    assert (tries, bank) == (["o1", "o1"], ["o1"])


async def test_batch_whose_failures_end_the_run_is_tried_again(world):
    """What comes after the failure is replayed, and says that it had read another value."""

    @rt.function_node
    async def book(amount):
        world.note(amount)
        if amount in world.broken:
            raise ConnectionError("try later")
        rt.context.put("total", rt.context.get("total", 0) + amount)
        return amount

    @rt.function_node
    async def day():
        results = await rt.call_batch(book, [3, 5, 7], limit=1)
        if any(isinstance(each, Exception) for each in results):
            raise ValueError("not all booked")
        return results

    world.broken.add(3)
    await failing(flow_of(day))
    world.broken.clear()
    assert world.ran() == [3, 5, 7]
    result, session = await resumed(flow_of(day))
    assert (result, world.ran()) == ([3, 5, 7], [3])
    _, three, five, seven = session.info.resumed
    assert (three.why, seven.why) == ("it had failed", "")
    assert five.reused
    assert five.why == "it had read 'total' from the context as nothing, which is 3 now"


@pytest.mark.parametrize("form", ["async", "plain"])
def test_failure_handled_by_the_body_of_a_session(world, form, backend):
    """The body goes on after a failed top-level call, and is killed later."""

    def body(call):
        with contextlib.suppress(ValueError):
            call(world.step, "flaky")
        call(world.step, "instead")
        keep_journal()

    async def async_body(options):
        async with rt.Session(backend=backend, **options) as session:
            with contextlib.suppress(ValueError):
                await rt.call(world.step, "flaky")
            await rt.call(world.step, "instead")
            keep_journal(f"dead-{rt.session_id()}")
        return session

    def run(**options):
        if form == "async":
            return anyio.run(async_body, options, backend=backend)
        with rt.Session(backend=backend, **options) as session:
            body(rt.call_sync)
            keep_journal(f"dead-{rt.session_id()}")
        return session

    world.broken.add("flaky")
    run(run_identifier="run")
    assert world.ran() == ["flaky", "instead"]
    world.broken.clear()
    session = run(resume="dead-run")
    assert world.ran() == []
    assert reused(session.info) == ["step", "step"]


async def test_failure_of_the_last_top_level_call_is_tried_again(world):
    world.broken.add("flaky")
    async with rt.Session(run_identifier="run"):
        with contextlib.suppress(ValueError):
            await rt.call(world.step, "flaky")
    world.broken.clear()
    world.ran()
    async with rt.Session(resume="run"):
        assert await rt.call(world.step, "flaky") == "flaky!"
    assert world.ran() == ["flaky"]


async def test_failures_of_concurrent_top_level_calls(world):
    """A top-level call says nothing about the failure of another one that runs beside it."""
    world.broken.add("flaky")
    world.delays["later"] = 1.0

    async def late():
        await anyio.sleep(0.5)
        await rt.call(world.step, "b")

    with contextlib.suppress(ValueError):
        async with rt.Session(run_identifier="run") as session, anyio.create_task_group() as group:
            group.start_soon(rt.call, world.step, "later")
            group.start_soon(late)
            session.start_soon(world.step, "flaky")
    world.broken.clear()
    world.ran()
    async with rt.Session(resume="run") as session:
        assert await rt.call(world.step, "flaky") == "flaky!"
    assert reasons(session.info) == {"step": "it had failed"}


async def test_failed_tool_of_an_agent_is_not_called_again(world):
    """The model has seen the failure, and asked for something else. It gets the same messages again."""

    @rt.function_node
    async def weather(city: str) -> str:
        """Return the weather."""
        return await rt.call(world.step, city)

    script = [
        [tool_call("weather", city="flaky"), tool_call("weather", city="Bonn")],
        [tool_call("weather", city="Rome")],
        "rain",
    ]
    seen = []

    def respond(messages):
        seen.append([message.role for message in messages])
        return script[sum(isinstance(message, AssistantMessage) for message in messages)]

    agent = rt.agent_node("Guide", llm=ScriptedModel(respond), tool_nodes=[weather])

    @rt.function_node
    async def main():
        answer = await rt.call(agent, "What is it like?")
        await rt.call(world.gate)
        return answer.text

    world.broken |= {"flaky", "Rome", "gate"}
    await failing(flow_of(main))
    assert sorted(world.ran()) == ["Bonn", "Rome", "flaky", "gate"]
    world.broken.clear()
    assert len(seen) == 3
    assert (await resumed(flow_of(main)))[0] == "rain"
    assert world.ran() == ["gate"]
    assert len(seen) == 3


async def test_agent_that_is_cut_off_after_a_failed_tool(world):
    @rt.function_node
    async def weather(city: str) -> str:
        """Return the weather."""
        return await rt.call(world.step, city)

    script = [[tool_call("weather", city="flaky")], [tool_call("weather", city="Rome")], "rain"]

    def respond(messages):
        turn = sum(isinstance(message, AssistantMessage) for message in messages)
        return ConnectionError("lost") if turn in world.broken else script[turn]

    agent = rt.agent_node("Guide", llm=ScriptedModel(respond), tool_nodes=[weather])
    world.broken |= {"flaky", 1}
    with pytest.raises(ConnectionError):
        await flow_of(agent).ainvoke("What is it like?")
    world.broken.clear()
    world.ran()
    await flow_of(agent).aresume("run")
    assert world.ran() == ["Rome"]


async def test_one_exception_that_two_calls_raise(world):
    """Only the last one of them has ended the run."""
    shared = ValueError("shared")

    @rt.function_node
    async def fails(name):
        world.note(name)
        if name in world.broken:
            raise shared

    @rt.function_node
    async def main():
        with contextlib.suppress(ValueError):
            await rt.call(fails, "handled")
        await rt.call(fails, "ends")

    world.broken |= {"handled", "ends"}
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    await resumed(flow_of(main))
    assert world.ran() == ["ends"]


async def test_failure_that_cannot_be_made_again_runs_again(world, logged):
    class Local(ValueError):
        pass

    @rt.function_node
    async def charge(name):
        world.note(name)
        if name in world.broken:
            raise Local(name)

    @rt.function_node
    async def main():
        for name in ("flaky", "other"):
            with contextlib.suppress(ValueError):
                await rt.call(charge, name)
        await rt.call(world.gate)

    world.broken |= {"flaky", "other", "gate"}
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    _, session = await resumed(flow_of(main))
    assert world.ran() == ["flaky", "other", "gate"]
    (warning,) = logged("WARNING")[-1:]
    assert warning.startswith(
        "The call of charge runs again: its caller had gone on after it failed, but its exception"
    )
    assert sum("its caller had gone on" in each for each in logged("WARNING")) == 1, "one for each node"
    assert "its caller had gone on" in reasons(session.info)["charge"]


async def test_run_that_fails_again_names_the_replayed_failures(world, logged):
    """The failure is not linked with the error that ends the run, so it counts as handled, and nothing can help."""

    @rt.function_node
    async def main():
        missing = []
        for name in ("a", "flaky", "b"):
            try:
                await rt.call(world.step, name)
            except ValueError:
                missing.append(name)
        if missing:
            raise ValueError(f"missing: {missing}")
        return "done"

    world.broken.add("flaky")
    await failing(flow_of(main))
    assert logged("WARNING") == []
    world.broken.clear()
    await resumed_badly(flow_of(main))
    (warning,) = [each for each in logged("WARNING") if "retry_on_resume" in each]
    assert "were replayed: step." in warning
    world.step = rt.function_node(world.step, retry_on_resume=True)
    assert (await resumed(flow_of(main)))[0] == "done"


async def test_replayed_failure_is_the_exception_that_it_was(world):
    seen = []

    @rt.function_node
    async def charge(order):
        error = Declined(order, code=51)
        error.add_note("ask the bank")
        raise error from ConnectionError("refused")

    @rt.function_node
    async def main():
        try:
            await rt.call(charge, "o1")
        except Declined as exc:
            seen.append((exc.args, vars(exc), exc.__notes__, repr(exc.__cause__), exc.__suppress_context__))
        await rt.call(world.gate)

    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    _, session = await resumed(flow_of(main))
    assert seen[0] == seen[1]
    assert [(r.name, r.status.value) for r in session.info.records][1] == ("charge", "Failed")
    assert isinstance(session.info.records[1].exception, Declined)


async def test_failure_handled_in_one_attempt_ends_a_later_one(world):
    """The caller handles it in the first attempt, and raises it in the second: then it is tried again."""
    strict = []

    @rt.function_node
    async def main():
        try:
            await rt.call(world.step, "flaky")
        except ValueError:
            if strict:
                raise
        await rt.call(world.gate)

    world.broken |= {"flaky", "gate"}
    await failing(flow_of(main))
    strict.append(True)
    await resumed_badly(flow_of(main))
    world.broken.clear()
    world.ran()
    await resumed(flow_of(main))
    assert world.ran() == ["flaky", "gate"]


async def test_handled_failure_in_a_fork(world):
    @rt.function_node
    async def main():
        result = await fallback(world)
        return result, await rt.call(world.step, "b")

    world.broken.add("flaky")
    await flow_of(main).ainvoke()
    world.broken.clear()
    world.ran()
    info = rt.state.load_run("run")
    assert await flow_of(main).afork("run", before=info.records[-1].started_step) == ("instead!", "b!")
    assert world.ran() == ["b"]


async def test_changes_of_the_context_by_a_handled_call_come_back(world):
    @rt.function_node
    async def counts():
        rt.context.put("tries", rt.context.get("tries", 0) + 1)
        await rt.call(world.step, "flaky")

    @rt.function_node
    async def main():
        for _ in range(3):
            with contextlib.suppress(ValueError):
                await rt.call(counts)
        await rt.call(world.gate)
        return rt.context.get("tries")

    world.broken |= {"flaky", "gate"}
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    result, session = await resumed(flow_of(main))
    assert (result, world.ran()) == (3, ["gate"])
    assert [d.why for d in session.info.resumed if d.name == "counts"] == ["", "", ""]


@pytest.mark.parametrize("attempts", [1, 2])
async def test_failure_that_ended_an_attempt_before_the_latest(world, attempts):
    """The latest attempts did not come to that, so what the earlier one says holds."""

    @rt.function_node
    async def main():
        await rt.call(world.gate)
        try:
            return await rt.call(world.step, "flaky")
        except ValueError:
            await rt.call(world.step, "cleanup")
            raise

    world.broken.add("flaky")
    await failing(flow_of(main))
    world.broken = {"gate"}
    for _ in range(attempts):
        await resumed_badly(flow_of(main))
    world.broken.clear()
    world.ran()
    assert (await resumed(flow_of(main)))[0] == "flaky!"
    assert world.ran() == ["gate", "flaky"]


# ---- calls that the flow had cancelled, and went on


async def timeout(world):
    try:
        with anyio.fail_after(5):
            return await rt.call(world.step, "hangs")
    except TimeoutError:
        return await rt.call(world.step, "instead")


async def timeout_in_silence(world):
    found = "too late"
    with anyio.move_on_after(5):
        found = await rt.call(world.step, "hangs")
    return found


async def timeout_of_a_caller(world):
    @rt.function_node
    async def asks():
        return await rt.call(world.step, "hangs")

    with anyio.move_on_after(5):
        return await rt.call(asks)
    return "too late"


async def first_answer_cancels_the_rest(world):
    found = []

    async def ask(name):
        found.append(await rt.call(world.step, name))
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for name in ("hangs", "a"):
            group.start_soon(ask, name)
    return found


async def failure_cancels_the_rest(world):
    try:
        return await rt.call_batch(world.step, ["hangs", "flaky"], return_exceptions=False)
    except ValueError:
        return "one failed"


GIVEN_UP = [timeout, timeout_in_silence, timeout_of_a_caller, first_answer_cancels_the_rest, failure_cancels_the_rest]


@pytest.mark.parametrize("way", GIVEN_UP, ids=named)
async def test_call_that_the_flow_gave_up_is_given_up_again(world, way):
    """It would succeed now, and the flow would take another way."""
    seen = []

    @rt.function_node
    async def main():
        seen.append(await way(world))
        await rt.call(world.gate)
        return seen[-1]

    world.hanging.add("hangs")
    world.broken |= {"flaky", "gate"}
    await failing(flow_of(main))
    world.hanging.clear()
    world.broken.remove("flaky")
    world.ran()
    await resumed_badly(flow_of(main))
    world.broken.clear()
    result, _ = await resumed(flow_of(main))
    assert seen == [result] * 3
    assert world.ran() == ["gate", "gate"]


async def test_call_that_is_not_cancelled_again_runs(world):
    """The flow waits longer now. So the call waits for as long as it had run, and a second, and then runs."""
    seconds = [5]

    @rt.function_node
    async def main():
        with anyio.move_on_after(seconds[-1]):
            await rt.call(world.step, "hangs")
        await rt.call(world.gate)

    world.hanging.add("hangs")
    world.broken.add("gate")
    await failing(flow_of(main))
    world.hanging.clear()
    world.broken.clear()
    world.ran()
    seconds.append(50)
    started = anyio.current_time()
    _, session = await resumed(flow_of(main))
    assert world.ran() == ["hangs", "gate"]
    assert anyio.current_time() - started == pytest.approx(6)
    assert reasons(session.info)["step"] == "it had been cancelled"


@pytest.mark.parametrize("way", ["cancelled", "failed", "cleanup", "retry_on_resume"])
async def test_cancelled_call_that_runs_again_at_once(world, way):
    """The whole run was cancelled, or a failure that is tried again was why, or its node says so."""
    step = rt.function_node(world.step, retry_on_resume=way == "retry_on_resume")

    @rt.function_node
    async def main():
        if way == "retry_on_resume":
            with anyio.move_on_after(5):
                await rt.call(step, "hangs")
            await rt.call(world.gate)
            return
        try:
            await rt.call_batch(step, ["hangs", "flaky"], return_exceptions=False)
        finally:
            if way != "failed":
                with anyio.CancelScope(shield=True):
                    await rt.call(world.step, "cleanup")

    world.hanging.add("hangs")
    world.broken |= {"gate", "flaky"} if way != "cancelled" else set()
    if way == "cancelled":
        with anyio.move_on_after(5):
            await flow_of(main).ainvoke()
    else:
        await failing(flow_of(main))
    world.hanging.clear()
    world.broken.clear()
    world.ran()
    started = anyio.current_time()
    await resumed(flow_of(main))
    assert "hangs" in world.ran()
    assert anyio.current_time() == started


async def test_what_is_below_a_call_that_is_given_up(world, logged):
    @rt.function_node
    async def asks(name):
        await rt.call(world.step, name)
        return await rt.call(world.step, "hangs")

    @rt.function_node
    async def main():
        async def work():
            with anyio.move_on_after(5):
                await rt.call(asks, "x")

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            group.start_soon(rt.call, world.step, "slow")
        await rt.call(world.gate)

    world.delays["slow"] = 2.0
    world.hanging.add("hangs")
    world.broken.add("gate")
    await failing(flow_of(main))
    world.broken.clear()
    world.ran()
    started = anyio.current_time()
    _, session = await resumed(flow_of(main))
    assert world.ran() == ["gate"]
    assert anyio.current_time() - started == pytest.approx(5)
    assert not [each for each in logged("WARNING") if "was not made again" in each]
    ended = {r.args: r.ended - session.info.records[0].started for r in session.info.records if r.ended is not None}
    assert ended["slow",] < 1
