"""The tools of a server of the SDK as nodes: what they return and raise, how they are chosen and cancelled."""

from __future__ import annotations

import subprocess
import sys

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, MCPError, MCPToolError, NodeCreationError
from railtracks.llm import Image
from railtracks.mcp import Client, Progress
from railtracks.testing import tool_call
from tests.agents.helpers import agent_of, records, tool_messages
from tests.mcp.servers import ADD, PNG, Reference


async def tools_of(reference, **options):
    """Return the tools of a server, by name."""
    client = Client("ref", server=reference.sdk, **options)
    return {node.name: node for node in await client.tools()}


async def test_a_model_calls_the_tools_of_a_server():
    reference = Reference()
    tools = await tools_of(reference)
    agent, model = agent_of(tool_call("add", a=2, b=3), "5.", tool_nodes=tools.values())
    async with rt.Session() as session:
        assert str(await rt.call(agent, "2 + 3?")) == "5."
    schema = model.tools[0][0]
    assert (schema.name, schema.description, schema.parameters) == ("add", "The sum.", ADD)
    assert tool_messages(model)[0].content == "5"
    assert reference.calls == [("add", {"a": 2, "b": 3})]
    [record] = records(session, "add")
    assert (record.kwargs, record.result) == ({"a": 2, "b": 3}, 5)


@pytest.mark.parametrize(
    ("tool", "value"),
    [
        ("weather", "rain\nand wind"),
        ("data", {"a": 1}),
        ("picture", ["Here:", Image(base64=PNG, media_type="image/png")]),
    ],
)
async def test_results_are_values(tool, value):
    tools = await tools_of(Reference())
    assert await rt.call(tools[tool]) == value


async def test_each_kind_of_part_is_kept_or_noted():
    tools = await tools_of(Reference())
    assert await rt.call(tools["parts"]) == [
        rt.llm.Audio(base64="AAAA", media_type="audio/wav"),
        "a text",
        rt.llm.Document(base64="JVBERi0=", media_type="application/pdf", name="a.pdf"),
        "[resource file:///a: unknown type, 3 bytes]",
        "[resource b: file:///b]",
        "[image: video/mp4, 69 bytes]",
    ]


async def test_what_a_tool_says_of_its_failure_reaches_the_model():
    tools = await tools_of(Reference())
    with pytest.raises(MCPToolError, match=r"^there is no such city$"):
        await rt.call(tools["broken"])
    agent, model = agent_of([tool_call("broken"), tool_call("refuse")], "Oh.", tool_nodes=tools.values())
    await rt.call(agent, "Go.")
    assert [(each.content, each.is_error) for each in tool_messages(model)] == [
        ("MCPToolError: there is no such city", True),
        ("MCPError: the MCP server 'ref' could not call refuse: not today", True),
    ]


async def test_arguments_that_do_not_fit_are_not_sent():
    reference = Reference()
    agent, model = agent_of(tool_call("add", b=1), "Oh.", tool_nodes=(await tools_of(reference)).values())
    await rt.call(agent, "Go.")
    assert tool_messages(model)[0].content == "add was not run: a: missing"
    assert reference.calls == []


# ---- which tools


async def test_include_and_exclude_choose_by_name_or_pattern():
    tools = await tools_of(Reference(), include=["add", "w*"], exclude=["wait"], prefix="ref_")
    assert [*tools] == ["ref_add", "ref_weather"]
    assert await rt.call(tools["ref_add"], a=1) == 2


@pytest.mark.parametrize("option", ["include", "exclude"])
async def test_a_name_that_no_tool_has_is_refused(option):
    with pytest.raises(
        ConfigError, match=f"{option} names 'sub', and the server has no such tool; it has add, weather"
    ):
        await tools_of(Reference(), **{option: ["sub"]})


async def test_names_that_models_do_not_take_are_changed():
    tools = await tools_of(Reference(), include=["read.file"])
    agent, model = agent_of(tool_call("read_file"), "Read.", tool_nodes=tools.values())
    await rt.call(agent, "Go.")
    assert tool_messages(model)[0].content == "read"


async def test_names_that_collide_are_refused():
    tools = [*(await tools_of(Reference())).values(), *(await tools_of(Reference())).values()]
    with pytest.raises(NodeCreationError, match=r"two tools are called 'add'; .*Client\('ref', prefix='ref_'\)"):
        agent_of("Oh.", tool_nodes=tools)


async def test_tools_are_listed_anew():
    reference = Reference()
    client = Client("ref", server=reference.sdk)
    async with client:
        before = len(await client.tools())
        del reference.tools["add"]
        assert len(await client.tools()) == before - 1


async def test_a_tool_that_is_gone_is_named():
    reference = Reference()
    tools = await tools_of(reference)
    del reference.tools["add"]
    with pytest.raises(MCPError, match="the MCP server 'ref' has no tool 'add' any more; it has weather, data"):
        await rt.call(tools["add"], a=1)


async def test_a_tool_that_has_changed_is_warned_of_once(caplog):
    reference = Reference()
    tools = await tools_of(reference)
    reference.tools["weather"].input_schema = ADD
    async with rt.Session():
        assert await rt.call(tools["weather"]) == await rt.call(tools["weather"]) == "rain\nand wind"
    assert [each.getMessage() for each in caplog.records] == [
        "the tool weather of the MCP server 'ref' has other parameters now than when it was listed; call tools() again"
    ]


# ---- calls


async def test_a_cancelled_call_is_cancelled_at_the_server():
    reference = Reference()
    tools = await tools_of(reference)
    async with rt.Session() as session:
        handle = session.start_soon(tools["wait"])
        await reference.started.wait()
        handle.cancel()
        await handle.wait()
        assert await rt.call(tools["add"], a=1) == 2  # the others' connection is whole
    assert reference.cancelled == ["wait"]


async def test_policies_of_tools_work():
    reference = Reference()
    tools = await tools_of(reference)
    with pytest.raises(rt.exceptions.NodeTimeOutError):
        await rt.call(tools["wait"].options(timeout=1))
    assert reference.cancelled == ["wait"]
    with pytest.raises(MCPToolError):
        await rt.call(tools["broken"].options(retries=2))
    assert [name for name, _ in reference.calls].count("broken") == 3


async def test_progress_is_broadcast():
    tools = await tools_of(Reference())
    items = []
    async with rt.Session(broadcast_callback=items.append):
        assert await rt.call(tools["count"]) == "counted"
    half = Progress(progress=1, total=2, message="half", tool="count", server="ref")
    assert items == [half, Progress(progress=2, total=2, tool="count", server="ref")]


async def test_a_resumed_run_calls_nothing_again():
    reference = Reference()
    tools = await tools_of(reference)
    agent, model = agent_of(tool_call("add", a=1), ValueError("down"), "2.", tool_nodes=tools.values())
    flow = rt.Flow("F", agent, run_identifier="run", logging_setting="NONE")
    with pytest.raises(ValueError, match="down"):
        await flow.ainvoke("1 + 1?")
    lists = reference.lists
    assert str(await flow.aresume("run")) == "2."
    assert (reference.calls, reference.lists, len(model.calls)) == ([("add", {"a": 1})], lists, 3)


async def test_a_model_is_shown_images_also_when_resumed():
    reference = Reference()
    tools = await tools_of(reference, include=["picture"])
    agent, model = agent_of(tool_call("picture"), ValueError("down"), "A dot.", tool_nodes=tools.values())
    flow = rt.Flow("F", agent, run_identifier="run", logging_setting="NONE")
    with pytest.raises(ValueError, match="down"):
        await flow.ainvoke("Look.")
    assert str(await flow.aresume("run")) == "A dot."
    assert reference.calls == [("picture", {})]
    for messages in model.calls[1:]:
        assert messages[-1].attachments == (Image(base64=PNG, media_type="image/png"),)


async def test_changed_schemas_make_another_agent():
    reference = Reference()
    first = agent_of("Oh.", tool_nodes=(await tools_of(reference)).values())[0]
    assert agent_of("Oh.", tool_nodes=(await tools_of(reference)).values())[0].version() == first.version()
    reference.tools["add"].input_schema = {**ADD, "required": ["a", "b"]}
    assert agent_of("Oh.", tool_nodes=(await tools_of(reference)).values())[0].version() != first.version()


def test_tools_of_a_module_work_in_flows(backend):
    reference = Reference()
    tools = Client("ref", server=reference.sdk).tools_sync()
    agent, _ = agent_of(tool_call("add", a=1), "2.", tool_call("add", a=2), "3.", tool_nodes=tools)
    flow = rt.Flow("F", agent, backend=backend)
    assert [str(flow.invoke("?")), str(flow.invoke("?"))] == ["2.", "3."]


# ---- what is refused


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "expected one of command=, url= and server=, got none of them"),
        ({"command": ["a"], "url": "https://a"}, "got command and url"),
        ({"command": "python server.py"}, "command is 'python server.py'; expected a list of texts"),
        ({"url": "host/mcp"}, "url is 'host/mcp'; expected an address"),
        ({"url": "https://a", "env": {"A": "b"}}, "env is only for servers that are given by command="),
        ({"command": ["a"], "headers": {"A": "b"}}, "headers is only for servers that are given by url="),
        ({"command": ["a"], "env": {"A": 5}}, "the value of 'A' in env is not a text"),
        ({"command": ["a"], "timeout": 0}, "timeout is 0; expected seconds"),
        ({"command": ["a"], "include": 5}, "include is 5; expected a list of names"),
        ({"command": ["a"], "prefix": None}, "prefix is None; expected a text"),
    ],
)
def test_wrong_arguments_are_refused(options, problem):
    with pytest.raises(ConfigError, match=problem):
        Client("a", **options)


def test_a_client_in_place_of_its_tools_is_refused():
    with pytest.raises(NodeCreationError, match=r"the MCP client 'ref' is not a node; .*client\.tools_sync\(\)"):
        agent_of("Oh.", tool_nodes=[Client("ref", server=Reference().sdk)])


async def test_in_an_event_loop_the_sync_form_shows_what_to_write():
    with pytest.raises(rt.exceptions.SessionError, match=r"write `await client\.tools\(\)`"):
        Client("ref", server=Reference().sdk).tools_sync()


async def test_a_server_that_cannot_be_used_is_named():
    class Down:
        async def __aenter__(self):
            raise ConnectionRefusedError("nobody listens")

        async def __aexit__(self, *_):
            pass

    with pytest.raises(MCPError, match=r"the MCP server 'down' \(its server\) cannot be used: nobody listens"):
        await Client("down", server=Down()).tools()


async def test_a_server_that_never_answers_is_given_up():
    class Silent:
        async def __aenter__(self):
            await anyio.sleep_forever()

        async def __aexit__(self, *_):
            pass

    with pytest.raises(MCPError, match="it took more than 30 s"):
        await Client("silent", server=Silent()).tools()


WITHOUT_SDK = """
import sys
import railtracks as rt
rt.mcp.Progress
assert "mcp" not in sys.modules
sys.modules["mcp"] = None
for make in (lambda: rt.mcp.Client("a", url="https://a"), lambda: rt.mcp_server(len)):
    try:
        make()
    except rt.exceptions.ConfigError as error:
        print(error)
"""


def test_a_missing_package_is_named():
    done = subprocess.run([sys.executable, "-c", WITHOUT_SDK], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["rt.mcp.Client", "rt.mcp_server"]
    assert all("install it with `pip install '.[mcp]'`" in line for line in lines)
