"""Runs that wait for people and messages are suspended when nothing else in them can go on."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import anyio
import anyio.to_thread
import pytest

import railtracks as rt
from railtracks.exceptions import ContextError, GlobalTimeOutError, RunSuspended, SessionEndedError
from railtracks.state import Status
from tests.durability.waiting import confirm, suspended
from tests.durability.world import FOLDER, check, flow_of, reused

pytestmark = pytest.mark.usefixtures("nothing_is_left")


# ---- when


async def never():
    await anyio.sleep_forever()


async def in_task_group():
    async with anyio.create_task_group() as group:
        group.start_soon(rt.call, confirm, "a")
        group.start_soon(rt.call, confirm, "b")


async def in_gather():
    await asyncio.gather(rt.call(confirm, "a"), rt.call(confirm, "b"))


async def in_asyncio_task():
    await asyncio.create_task(rt.call(confirm, "a"))


async def in_asyncio_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(rt.call(confirm, "a"))


async def in_batch():
    await rt.call_batch(confirm, ["a", "b"])


async def in_limited_batch():
    await rt.call_batch(confirm, ["a", "b", "c"], limit=2)


async def in_stream():
    async with rt.call_stream(confirm, itertools.count(), limit=2) as results:
        async for _ in results:
            pass


async def in_stream_of_async_items():
    async def letters():
        for letter in "abc":
            yield letter

    [each async for each in rt.call_stream(confirm, letters(), limit=5, ordered=False)]


async def in_thread():
    await rt.call(lambda: rt.call_sync(confirm))


async def in_thread_of_thread():
    await rt.call(lambda: rt.call_sync(lambda: rt.call_sync(rt.receive, "t")))


async def in_shield():
    with anyio.CancelScope(shield=True):
        await rt.call(confirm)


async def test_a_body_that_waits_for_a_handle_is_suspended():
    with pytest.raises(rt.exceptions.RunSuspended):
        async with rt.Session(run_identifier="run", suspend=True) as session:
            handle = session.start_soon(confirm)
            await handle.wait()
            handle.result()


ASYNCIO_ONLY = (in_gather, in_asyncio_task, in_asyncio_group)


@pytest.mark.parametrize(
    "main",
    [
        confirm.func, in_task_group, in_gather, in_asyncio_task, in_asyncio_group, in_batch, in_limited_batch,
        in_stream, in_stream_of_async_items, in_thread, in_thread_of_thread, in_shield,
    ],
)  # fmt: skip
async def test_run_in_which_everything_waits_is_suspended_at_once(main, backend):
    if main in ASYNCIO_ONLY and backend == "trio":
        pytest.skip("asyncio's own")
    started = anyio.current_time()
    error = await suspended(flow_of(main))
    assert anyio.current_time() - started < 0.2
    assert error.questions or error.topics


async def sleeping_call():
    await rt.sleep(10)


async def sleeping_task():
    await anyio.sleep(10)


async def thread_at_work():
    await anyio.to_thread.run_sync(threading.Event().wait, 0.05)


async def waiting_with_timeout():
    with pytest.raises(TimeoutError):
        await rt.receive("other", timeout=10)


async def call_with_scope():
    with anyio.move_on_after(10):
        await rt.receive("other")


async def call_with_asyncio_timeout():
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10):
            await rt.receive("other")


async def call_with_asyncio_wait_for():
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rt.receive("other"), 10)


async def waiting_for_a_task_that_sleeps():
    happened = anyio.Event()

    async def set_later():
        await anyio.sleep(10)
        happened.set()

    async with anyio.create_task_group() as group:
        group.start_soon(set_later)
        await happened.wait()


async def background_task():
    task = asyncio.create_task(asyncio.sleep(10))
    await asyncio.wait([task])


async def timer():
    called = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(10, called.set_result, None)
    await called


OTHERS_ON_ASYNCIO = (call_with_asyncio_timeout, call_with_asyncio_wait_for, background_task, timer)


@pytest.mark.parametrize(
    "other",
    [
        sleeping_call, sleeping_task, thread_at_work, waiting_with_timeout, call_with_scope,
        waiting_for_a_task_that_sleeps, *OTHERS_ON_ASYNCIO,
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["call", "task"])
async def test_run_is_not_suspended_while_something_can_go_on(other, how, backend):
    if other in OTHERS_ON_ASYNCIO and backend == "trio":
        pytest.skip("asyncio's own")
    ended = []

    async def beside():
        await (rt.call(other) if how == "call" else other())
        ended.append(anyio.current_time())

    @rt.function_node
    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, confirm)
            group.start_soon(beside)

    await suspended(flow_of(main))
    assert len(ended) == 1
    assert anyio.current_time() - ended[0] < 25


async def test_sync_node_that_works_can_go_on():
    ended = []

    def work():
        threading.Event().wait(0.05)
        ended.append(True)

    @rt.function_node
    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, confirm)
            group.start_soon(rt.call, work)

    await suspended(flow_of(main))
    assert ended == [True]


async def test_threads_that_wait_hold_no_place():
    def node(what):
        return rt.call_sync(confirm, what)

    @rt.function_node
    async def main():
        return await rt.call_batch(node, ["a", "b", "c"], return_exceptions=False)

    flow = flow_of(main, max_threads=1)
    questions = (await suspended(flow)).questions
    assert len(questions) == 3
    assert await flow.aresume("run", answers={each.id: each.text for each in questions}) == [
        "Do a?", "Do b?", "Do c?",
    ]  # fmt: skip


async def test_message_sent_while_something_else_runs_is_taken_live():
    @rt.function_node
    async def answering():
        await anyio.sleep(1)
        rt.state.send("run", "t", "hello")
        await anyio.sleep(1)

    @rt.function_node
    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, answering)
            return await rt.receive("t")

    started = anyio.current_time()
    flow = flow_of(main)
    assert await flow.ainvoke() == "hello"
    assert anyio.current_time() - started == 2


async def test_subscriber_that_has_something_to_deliver_can_go_on():
    heard = []

    async def slow(item):
        await anyio.sleep(10)
        heard.append(item)

    @rt.function_node
    async def main():
        await rt.broadcast("news")
        await rt.ask("Sure?")

    await suspended(flow_of(main, broadcast_callback=slow))
    assert heard == ["news"]


async def test_session_inside_can_go_on():
    with pytest.raises(RunSuspended):
        async with rt.Session(run_identifier="run", suspend=True) as session:
            session.start_soon(confirm)
            async with rt.Session():
                await anyio.sleep(10)
            assert session.info.records[0].status is Status.OPEN


async def test_what_runs_outside_of_the_session_does_not_count():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 1_000)
        started = anyio.current_time()
        await suspended(flow_of(confirm))
        assert anyio.current_time() - started < 0.2
        group.cancel_scope.cancel()


def test_call_that_outlasts_its_caller_is_waited_for():
    asked = []

    @rt.function_node
    async def main():
        asked.append(asyncio.create_task(rt.call(confirm)))
        await asyncio.sleep(0)

    async def run():
        flow = flow_of(main)
        [question] = (await suspended(flow)).questions
        assert await flow.aresume("run", answers={question.id: "yes"}) is None
        assert asked[-1].result() == "yes"

    anyio.run(run)


# ---- how it ends


async def test_code_sees_a_cancellation_and_no_error():
    seen: list[Any] = []

    async def leaf():
        try:
            await rt.ask("Sure?")
        except Exception as exc:
            seen.append(exc)
        except anyio.get_cancelled_exc_class():
            seen.append("cancelled")
            raise
        finally:
            seen.append("finally")

    async def main():
        try:
            await rt.call(leaf)
        except Exception as exc:
            seen.append(exc)

    await suspended(flow_of(main))
    assert seen == ["cancelled", "finally"]


async def swallows():
    try:
        await rt.ask("Sure?")
    except BaseException:
        return "swallowed"


async def translates():
    try:
        await rt.ask("Sure?")
    except BaseException as exc:
        raise ValueError("translated") from exc


async def cleans_up():
    try:
        await rt.ask("Sure?")
    finally:
        with anyio.CancelScope(shield=True):
            await rt.call(release)


released = []


@rt.function_node
async def release():
    released.append(True)
    return "released"


@pytest.mark.parametrize("node", [swallows, translates, cleans_up])
async def test_what_code_does_while_it_is_unwound_is_no_outcome(node):
    released.clear()

    async def main():
        return await rt.call(node)

    flow = flow_of(main)
    [question] = (await suspended(flow)).questions
    assert {record.status for record in rt.state.load_run("run").records} == {Status.SUSPENDED}
    before = len(released)
    await flow.aresume("run", answers={question.id: 1})
    assert len(released) == 2 * before  # the cleanup at the real end is not replaced by that of the suspension


async def test_end_on_error_does_not_take_it_for_an_error():
    flow = flow_of(confirm, end_on_error=True)
    [question] = (await suspended(flow)).questions
    assert await flow.aresume("run", answers={question.id: 1}) == 1


async def test_payload_callback_gets_the_suspended_run():
    payloads = []
    flow = flow_of(in_batch, payload_callback=payloads.append)
    await suspended(flow)
    assert [payload["status"] for payload in payloads] == ["Suspended"]


async def test_log_has_what_it_waits_for_and_no_error(caplog):
    caplog.set_level("INFO", logger="RT")
    await suspended(flow_of(confirm, logging_setting="REGULAR"))
    assert max(record.levelno for record in caplog.records) == 20
    messages = [record.getMessage() for record in caplog.records]
    assert any("the run 'run' is suspended, and waits for the answer to 'Do it?'" in message for message in messages)
    assert "confirm SUSPENDED" in messages


async def test_call_after_the_suspension_is_refused():
    async with rt.Session(run_identifier="run", suspend=True):
        with pytest.raises(RunSuspended):
            await rt.call(confirm)
        with pytest.raises(SessionEndedError):
            await rt.call(confirm)


async def test_replayed_calls_are_those_that_had_completed():
    @rt.function_node
    async def double(x):
        return 2 * x

    @rt.function_node
    async def main():
        return await rt.call(double, 2), await rt.call(confirm)

    flow = flow_of(main)
    [question] = (await suspended(flow)).questions
    connection = flow.connect()
    assert await connection.aresume("run", answers={question.id: 1}) == (4, 1)
    assert reused(connection.session.info) == ["double"]
    check(connection.session)


# ---- which runs


async def test_session_that_the_program_opens_waits():
    async with rt.Session(run_identifier="run", timeout=30):
        with pytest.raises(GlobalTimeOutError):
            await rt.call(rt.receive, "t")


async def test_session_without_a_callback_still_says_what_to_write():
    async with rt.Session(run_identifier="run"):
        with pytest.raises(ContextError, match="without an ask_callback"):
            await rt.ask("Sure?")


async def test_option_suspends_a_session_of_the_program():
    with pytest.raises(RunSuspended):
        async with rt.Session(run_identifier="run", suspend=True):
            await rt.ask("Sure?")
    with pytest.raises(RunSuspended):
        async with rt.Session(run_identifier="other", suspend=True) as session:
            session.start_soon(confirm)


async def test_body_of_a_session_can_go_on():
    async with rt.Session(run_identifier="run", suspend=True) as session:
        session.start_soon(confirm)
        await anyio.sleep(10)
        [question] = session.info.questions
        rt.state.send("run", question.id, 1)
    assert session.info.answer == 1


async def test_option_lets_a_session_wait_for_an_answer():
    async with rt.Session(run_identifier="run", suspend=False) as session:
        session.start_soon(confirm)
        await anyio.sleep(1)
        rt.state.send("run", session.info.questions[0].id, "yes")
    assert session.info.answer == "yes"


async def test_run_within_a_run_suspends_both():
    inner = rt.Flow("Inner", confirm, run_identifier="inner")

    @rt.function_node
    async def main():
        return await inner.ainvoke()

    flow = flow_of(main, end_on_error=True)
    connection = flow.connect()
    with pytest.raises(RunSuspended) as caught:
        await connection.ainvoke()
    assert caught.value.run_identifier == "inner"
    assert {run.identifier: run.status for run in rt.state.list_runs()} == dict.fromkeys(
        ("run", "inner"), Status.SUSPENDED
    )


@pytest.mark.parametrize("options", [{}, {"run_identifier": "inner"}])
async def test_run_within_a_run_goes_on_when_it_is_answered(options):
    inner = rt.Flow("Inner", confirm, **options)
    done = []

    @rt.function_node
    async def step():
        done.append(True)

    @rt.function_node
    async def main():
        await rt.call(step)
        return await inner.ainvoke("this")

    flow = flow_of(main)
    for _ in range(2):
        with pytest.raises(RunSuspended) as caught:
            await (flow.aresume("run") if done else flow.ainvoke())
    [question] = caught.value.questions
    rt.state.send(caught.value.run_identifier, question.id, "yes")
    assert await flow.aresume("run") == "yes"
    assert done == [True]


async def test_option_keeps_a_flow_waiting():
    flow = flow_of(rt.function_node(lambda: rt.call_sync(rt.receive, "t")), suspend=False, timeout=30)
    with pytest.raises(GlobalTimeOutError):
        await flow.ainvoke()


@pytest.mark.parametrize("form", ["with", "with in async code"])
def test_synchronous_sessions_are_suspended_if_they_say_so(form, backend):
    async def in_async_code():
        with rt.Session(run_identifier="run", suspend=True):
            await rt.call(confirm)

    with pytest.raises(RunSuspended):
        if form == "with":
            with rt.Session(run_identifier="run", suspend=True, backend=backend):
                rt.call_sync(confirm)
        else:
            anyio.run(in_async_code, backend=backend)
    assert rt.state.load_run("run").questions


async def test_flow_that_is_not_stored_raises():
    flow = flow_of(confirm, save_state=False)
    with pytest.raises(ContextError, match="ask_callback"):
        await flow.ainvoke()
    with pytest.raises(ContextError, match="needs a session whose run is stored"):
        await flow_of(in_thread_of_thread, save_state=False).ainvoke()


async def test_suspended_run_that_is_replaced_is_kept():
    flow = flow_of(confirm)
    await suspended(flow)
    rt.state.send("run", "t", "for the first")
    await suspended(flow)
    kept = [run.identifier for run in rt.state.list_runs() if run.identifier != "run"]
    assert len(kept) == 1
    assert len(list((FOLDER / f"{kept[0]}.mailbox").iterdir())) == 1
    assert not (FOLDER / "run.mailbox").exists()
