"""``flow.astream_events``: the events of a run, consumed while it runs."""

import asyncio
import contextlib
import gc
import logging
import math

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, GlobalTimeOutError, SessionEndedError, SessionError
from railtracks.state import AgentText, Broadcast, CallCancelled, CallCreated, CallEvent, CallFailed
from railtracks.testing import ScriptedModel


@rt.function_node
async def leaf(number):
    await anyio.sleep(1)
    if number < 0:
        raise ValueError(number)
    await rt.broadcast(number)
    return number


@rt.function_node
async def work(*numbers):
    return [await rt.call(leaf, number) for number in numbers]


flow = rt.Flow("Work", work, run_identifier="work", logging_setting="QUIET")


def described(event):
    name = event.name if isinstance(event, CallEvent) else getattr(event, "item", None)
    return type(event).__name__, name


async def test_all_events_of_a_run_come_in_order():
    async with flow.astream_events(1, 2) as events:
        with pytest.raises(SessionError, match="the stream has no result"):
            _ = events.result
        got = [event async for event in events]
    once = [("CallCreated", "leaf"), ("Broadcast", 1), ("CallSucceeded", "leaf")]
    again = [(kind, 2 if name == 1 else name) for kind, name in once]
    assert [described(event) for event in got] == [("CallCreated", "work"), *once, *again, ("CallSucceeded", "work")]
    assert events.result == [1, 2]
    assert events.info.session_id == "work"
    assert [event async for event in events] == []
    assert rt.state.load_run("work").answer == [1, 2]


async def test_nothing_is_lost_for_a_slow_consumer(caplog):
    caplog.set_level(logging.WARNING, "RT")
    got = []
    patient = rt.Flow("Work", work, timeout=math.inf, logging_setting="QUIET")
    async for event in patient.astream_events(*range(30)):
        await anyio.sleep(3)
        got.append(event)
    assert len(got) == 2 + 3 * 30
    assert caplog.records == []


async def test_new_calls_wait_for_the_consumer():
    made = []

    @rt.function_node
    async def quick(number):
        made.append(number)

    @rt.function_node
    async def many():
        for number in range(200):
            await rt.call(quick, number)

    async with rt.Flow("Many", many, save_state=False).astream_events() as events:
        taken = 0
        async for event in events:
            await anyio.sleep(0.001)
            taken += isinstance(event, CallCreated)
            assert len(made) <= taken + 20
    assert len(made) == 200


@pytest.mark.parametrize("way", ["async with", "break", "cancelled", "raises"])
async def test_leaving_the_stream_cancels_the_run(way, backend):
    streams = []

    async def consume():
        if way == "async with":
            async with flow.astream_events(*range(99)) as events:
                streams.append(events.info)
                async for _ in events:
                    break
        else:
            async for event in flow.astream_events(*range(99)):
                if way == "break" and isinstance(event, Broadcast):
                    break
                if way == "raises" and isinstance(event, Broadcast):
                    raise KeyError

    if way == "raises":
        with pytest.raises(KeyError):
            await consume()
    else:
        with anyio.move_on_after(2.5 if way == "cancelled" else None):
            await consume()
    gc.collect()  # a traceback may hold the frame of the loop
    await anyio.sleep(1)
    info = rt.state.load_run("work")
    seconds = info.summary().seconds
    assert seconds is not None
    assert seconds < 3
    assert {record.status.value for record in info.records} <= {"Completed", "Cancelled"}
    with rt.Session(run_identifier="work", save_state=False):
        pass  # nobody holds it any more


async def test_the_error_of_the_flow_comes_after_its_events():
    got = []
    with pytest.raises(ValueError, match="-1") as caught:
        async for event in flow.astream_events(1, -1):
            got.append(event)
    assert isinstance(got[-2], CallFailed)
    assert got[-2].exception is caught.value
    assert [type(event) for event in got[-3:]] == [CallCreated, CallFailed, CallFailed]


async def test_a_timeout_counts_the_time_of_the_consumer():
    short = rt.Flow("Short", work, timeout=5, logging_setting="NONE")
    got = []
    with pytest.raises(GlobalTimeOutError):
        async for event in short.astream_events(*range(9)):
            await anyio.sleep(2)
            got.append(event)
    assert isinstance(got[-1], CallCancelled)


async def test_what_agents_write_is_among_the_events():
    model = ScriptedModel(["Once upon a time"])
    teller = rt.agent_node("Teller", llm=model, system_message="Tell a story.")

    @rt.function_node
    async def story():
        return (await rt.call(teller, "Please")).text

    events = [event async for event in rt.Flow("Story", story, logging_setting="NONE").astream_events()]
    texts = [event for event in events if isinstance(event, AgentText)]
    assert "".join(event.text for event in texts) == "Once upon a time"
    assert {event.agent for event in texts} == {"Teller"}
    created = next(event for event in events if isinstance(event, CallCreated) and event.name == "Teller")
    assert {event.node_id for event in texts} == {created.node_id}
    assert events.index(created) < events.index(texts[0])


async def test_a_wrong_option_is_an_error_at_once(monkeypatch):
    stream = flow.astream_events(1)
    await stream.aclose()
    assert [event async for event in stream] == []
    assert not rt.state.run_exists("work")
    monkeypatch.setenv("RAILTRACKS_TIMEOUT", "-1")
    with pytest.raises(ConfigError):
        flow.astream_events()


async def test_a_run_of_a_node_ends_with_the_call_that_streams_it():
    streams = []

    @rt.function_node
    async def leaves():
        events = flow.astream_events(*range(99))
        streams.append(events)
        return await anext(events)

    async with rt.Session(save_state=False, logging_setting="NONE") as session:
        await rt.call(leaves)
        await anyio.sleep(1)
        assert streams[0].info.end_time is not None
    seconds = session.info.summary().seconds
    assert seconds is not None
    assert seconds < 2


async def test_another_subscriber_that_is_stuck_is_not_waited_for():
    stuck = rt.Flow("Stuck", work, broadcast_callback=lambda item: anyio.sleep(9_999), logging_setting="NONE")
    began = anyio.current_time()
    async with stuck.astream_events(1) as events:
        async for _ in events:
            pass
    assert events.result == [1]
    assert anyio.current_time() - began < 15


async def test_a_resumed_run_streams_what_was_replayed():
    teller = rt.agent_node("Teller", llm=ScriptedModel(["Once upon a time"]))
    failing = [True]

    @rt.function_node
    async def story():
        answer = await rt.call(teller, "Please")
        if failing:
            raise ValueError(failing.pop())
        return answer.text

    again = rt.Flow("Story", story, run_identifier="again", if_exists="resume", logging_setting="NONE")
    texts = []
    for _ in range(2):
        stream = again.astream_events()
        with contextlib.suppress(ValueError):
            async for event in stream:
                texts.append((event.agent, event.text)) if isinstance(event, AgentText) else None
    assert stream.result == "Once upon a time"
    assert "".join(text for _, text in texts) == 2 * "Once upon a time"
    assert texts[-1] == ("Teller", "Once upon a time")


async def test_nothing_is_lost_if_the_wait_for_an_event_is_cancelled(backend):
    stream, got = flow.astream_events(*range(20)), 0
    while True:
        try:
            if backend == "asyncio":
                await asyncio.wait_for(anext(stream), 0.5)
            else:
                with anyio.fail_after(0.5):
                    await anext(stream)
            got += 1
        except TimeoutError:
            continue
        except StopAsyncIteration:
            break
    assert got == 2 + 3 * 20


async def test_a_run_cannot_wait_for_its_own_end():
    streams = []

    @rt.function_node
    async def closes():
        await streams[0].aclose()

    streams.append(rt.Flow("Closes", closes, logging_setting="NONE").astream_events())
    with pytest.raises(SessionError, match="a run cannot close the stream of its own events"):
        _ = [event async for event in streams[0]]


def test_a_stream_whose_event_loop_ends_says_so():
    async def main():
        stream = flow.astream_events(*range(99))
        await anext(stream)
        return stream

    stream = anyio.run(main)  # asyncio cancels what still runs
    assert rt.state.load_run("work").end_time is not None
    with pytest.raises(SessionEndedError):
        anyio.run(anext, stream)
