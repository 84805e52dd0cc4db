"""Where an agent runs: in sessions, flows, batches and nodes, at once, and without a session."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ContextError
from railtracks.state import Status
from railtracks.testing import tool_call
from tests.agents.helpers import agent_of, hello, records


async def test_an_agent_runs_without_a_session():
    assert str(await rt.call(hello(), "Ada")) == "Hello, Ada"


async def test_an_agent_runs_in_a_plain_session_in_async_code():
    with rt.Session() as session:
        assert str(await rt.call(hello(), "Ada")) == "Hello, Ada"
    assert [record.name for record in session.info.records] == ["Greeter", "chat scripted"]


def test_an_agent_runs_in_a_plain_session_in_synchronous_code(backend):
    with rt.Session({"who": "Ada"}, backend=backend) as session:
        assert str(rt.call_sync(hello(), "{who}")) == "Hello, Ada"
    assert [record.status for record in session.info.records] == [Status.COMPLETED] * 2


def test_an_agent_runs_by_call_sync_without_a_session(backend):
    rt.set_config(backend=backend)
    assert str(rt.call_sync(hello(), "Ada")) == "Hello, Ada"


async def test_an_agent_runs_in_a_batch():
    async with rt.Session() as session:
        responses = await rt.call_batch(hello(), ["Ada", "Bob"])
    assert [str(response) for response in responses] == ["Hello, Ada", "Hello, Bob"]
    assert len(records(session, "Greeter")) == 2


async def test_a_batch_of_agents_keeps_the_error_of_one_in_its_place():
    def answer(messages):
        return ValueError("no") if messages[-1].content == "bad" else "fine"

    agent, _ = agent_of(answer)
    fine, bad = await rt.call_batch(agent, ["good", "bad"])
    assert str(fine) == "fine"
    assert type(bad) is ValueError


async def test_an_agent_is_the_entry_point_of_a_flow():
    flow = rt.Flow("Greeting", entry_point=hello(), context={"who": "Ada"})
    assert str(await flow.ainvoke("{who}")) == "Hello, Ada"


def test_an_agent_is_the_entry_point_of_a_flow_in_sync_code(backend):
    flow = rt.Flow("Greeting", entry_point=hello(), context={"who": "Ada"}, backend=backend)
    assert str(flow.invoke("{who}")) == "Hello, Ada"


async def test_an_agent_runs_below_the_session_decorator():
    @rt.session(context={"who": "Ada"})
    async def main():
        return str(await rt.call(hello(), "{who}"))

    result, session = await main()
    assert result == "Hello, Ada"
    assert len(session.info.records) == 2


async def test_an_agent_runs_below_a_node():
    async def node():
        return await rt.call(hello(), "Ada")

    async with rt.Session() as session:
        assert str(await rt.call(node)) == "Hello, Ada"
    assert [record.parent for record in session.info.records] == [None, 0, 1]


async def test_an_agent_runs_below_a_sync_node():
    def node():
        return str(rt.call_sync(hello(), "Ada"))

    async with rt.Session() as session:
        assert await rt.call(node) == "Hello, Ada"
    assert [record.parent for record in session.info.records] == [None, 0, 1]


async def test_an_agent_is_started_beside_the_body():
    async with rt.Session() as session:
        session.start_soon(hello(), "Ada")
    assert str(session.info.answer) == "Hello, Ada"


async def test_an_agent_is_not_invoked_by_hand():
    with pytest.raises(
        ContextError, match=r"the agent Greeter was invoked outside of a call; write `await rt.call\(Greeter"
    ):
        await hello()("Ada").invoke()


async def test_agents_of_two_sessions_at_once_do_not_see_each_other():
    met = anyio.Event()
    waiting = 0

    async def answer(messages):
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            met.set()
        await met.wait()
        return messages[-1].content

    agent, _ = agent_of(answer)
    found = {}

    async def run(who):
        async with rt.Session({"who": who}) as session:
            found[who] = str(await rt.call(agent, "I am {who}.")), len(session.info.records)

    async with anyio.create_task_group() as group:
        for who in "ab":
            group.start_soon(run, who)
    assert found == {"a": ("I am a.", 2), "b": ("I am b.", 2)}


async def test_one_agent_runs_many_times_at_once_without_mixing_up():
    async def answer(messages):
        number = int(messages[0].content)
        if len(messages) == 1:
            await anyio.sleep(1 / (1 + number))
            return tool_call("echo", number=number)
        assert messages[-1].content == str(number)
        return f"{number}!"

    async def echo(number: int) -> int:
        await anyio.sleep(number)
        return number

    agent, model = agent_of(answer, tool_nodes=[echo])
    async with rt.Session():
        responses = await rt.call_batch(agent, map(str, range(5)))
    assert [str(response) for response in responses] == [f"{number}!" for number in range(5)]
    assert len(model.calls) == 10
