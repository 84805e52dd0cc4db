"""The connections of clients: who shares one, what is left of it, and what happens when it is lost."""

from __future__ import annotations

import json

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import MCPError, SessionError
from railtracks.mcp import Client
from railtracks.testing import ScriptedModel, check, simulate, tool_call
from tests.agents.helpers import agent_of, tool_messages
from tests.mcp.servers import Reference


async def connected(**options):
    """Return a server, a client of it, and its tools by name. All connections so far are closed."""
    reference = Reference()
    client = Client("ref", server=reference.wire, **options)
    tools = {node.name: node for node in await client.tools()}
    assert reference.opened == reference.closed
    reference.opened = reference.closed = 0
    return reference, client, tools


async def test_the_calls_of_a_session_share_one_connection():
    reference, _, tools = await connected()
    async with rt.Session() as session:
        handles = [session.start_soon(tools["add"], a=number) for number in range(3)]
        for handle in handles:
            await handle.wait()
        assert [handle.result() for handle in handles] == [1, 2, 3]
        assert await rt.call(tools["weather"]) == "rain\nand wind"
        assert (reference.opened, reference.closed) == (1, 0)
    assert (reference.opened, reference.closed) == (1, 1)


async def test_sessions_have_connections_of_their_own():
    reference, _, tools = await connected()

    async def run():
        async with rt.Session():
            await rt.call(tools["count"])

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        group.start_soon(run)
    assert (reference.opened, reference.closed) == (2, 2)


async def test_in_a_block_sessions_share_a_connection():
    reference, client, tools = await connected()
    async with client:
        await rt.call(tools["add"], a=1)
        await rt.call(tools["add"], a=2)
        with pytest.raises(SessionError, match="is in an `async with` already"):
            await client.__aenter__()
    assert (reference.opened, reference.closed) == (1, 1)
    async with client:
        await client.tools()
    assert (reference.opened, reference.closed) == (2, 2)


async def test_a_cancelled_session_leaves_no_connection():
    reference, _, tools = await connected()

    async def run():
        async with rt.Session():
            await rt.call(tools["wait"])

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await reference.started.wait()
        group.cancel_scope.cancel()
    assert (reference.cancelled, reference.opened, reference.closed) == (["wait"], 1, 1)


async def test_a_session_that_ends_while_it_connects_leaves_nothing():
    _, _, tools = await connected()
    left = []

    class Silent:
        async def __aenter__(self):
            try:
                await anyio.sleep_forever()
            finally:
                left.append("left")

        async def __aexit__(self, *_):
            pass

    client = Client("ref", server=Silent)
    node = tools["add"].reduced[0](client, *tools["add"].reduced[1][1:])
    async with rt.Session() as session:
        handle = session.start_soon(node, a=1)
        await anyio.sleep(1)
        handle.cancel()
        await handle.wait()
        assert left == []
    assert left == ["left"]


async def test_a_server_that_dies_is_reported_and_connected_again():
    reference, _, tools = await connected()
    async with rt.Session():
        with pytest.raises(MCPError, match="the connection to the MCP server 'ref' was lost while it should call die"):
            await rt.call(tools["die"])
        assert await rt.call(tools["add"], a=1) == 2
        assert reference.opened == 2
    assert reference.closed == 2


async def test_a_server_that_died_between_calls_is_connected_again():
    reference, _, tools = await connected()
    async with rt.Session():
        await rt.call(tools["add"], a=1)
        reference.cut()
        await anyio.sleep(1)
        assert await rt.call(tools["add"], a=1) == 2
    assert (reference.opened, reference.closed) == (2, 2)


async def test_the_model_reads_that_a_server_died():
    _, _, tools = await connected()
    agent, model = agent_of(tool_call("die"), "Oh.", tool_nodes=tools.values())
    assert str(await rt.call(agent, "Go.")) == "Oh."
    assert tool_messages(model)[0].content.startswith("MCPError: the connection to the MCP server 'ref' was lost")


async def test_secrets_are_not_written(tmp_path):
    reference = Reference()
    client = Client("ref", server=reference.wire)
    web = Client(
        "web", url="https://user:pa55word@host/mcp?api_key=k3y-in-url",
        headers={"Authorization": "Bearer t0ken-in-header", "X-Team": rt.Secret("te4m-name")},
    )  # fmt: skip
    program = Client("program", command=["a"], env={"API_TOKEN": "t0ken-in-env", "MODE": "1"})
    assert [*web._target.secrets] == [
        "Bearer t0ken-in-header", "t0ken-in-header", "te4m-name", "pa55word", "k3y-in-url",
    ]  # fmt: skip
    assert [*program._target.secrets] == ["t0ken-in-env"]
    assert "pa55word" not in web._target.what
    client._target.secrets = web._target.secrets
    [weather] = [node for node in await client.tools() if node.name == "weather"]

    @rt.function_node
    async def top() -> str:
        return await rt.call(weather) + "t0ken-in-header and k3y-in-url"

    await rt.Flow("F", top, run_identifier="run").ainvoke()
    text = (tmp_path / ".railtracks" / "run.json").read_text()
    assert json.loads(text)
    assert "k3y-in-url" not in text
    assert "t0ken-in-header" not in text


def test_an_agent_with_a_server_holds_its_promises():
    tools = Client("ref", server=Reference().sdk).tools_sync()

    def answer(messages):
        return "5." if messages[-1].role == "tool" else tool_call("add", a=2, b=3)

    agent = rt.agent_node(llm=ScriptedModel(answer), tool_nodes=tools)
    for seed in range(3):
        outcome = simulate(agent, "2 + 3?", seed=seed)
        check(outcome)
