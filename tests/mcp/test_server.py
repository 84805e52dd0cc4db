"""Flows, nodes and agents as the tools of a server, as the SDK's client sees them."""

from __future__ import annotations

import anyio
import attrs
import mcp
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, NodeCreationError
from railtracks.mcp import Client, Progress
from railtracks.testing import ScriptedModel
from tests.agents.helpers import Place, forecast
from tests.llm.media import AT_ADDRESS, IMAGE, PAPER, SOUND


@rt.function_node
async def fail(password: str) -> str:
    raise ValueError(f"wrong password {password}")


@rt.function_node
def highest(places: list[Place]) -> Place:
    """The highest place.

    Args:
        places: Some places.
    """
    return max(places, key=lambda place: place.height)


async def total(numbers: list[int]) -> int:
    return sum(numbers)


Greeter = rt.agent_node("Greeter", llm=ScriptedModel(lambda messages: f"Hello, {messages[-1].content}!"))


@pytest.fixture(params=["legacy", "auto"])
def mode(request):
    """Each protocol: with messages over streams in memory, and as it is since 2026."""
    return request.param


async def test_a_client_sees_tools_and_their_schemas(mode):
    flow = rt.Flow("The flow", total)
    server = rt.mcp_server(flow, forecast, highest, Greeter, name="all", instructions="Ask.", version="2")
    async with mcp.Client(server.sdk, mode=mode) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert client.instructions == "Ask."
    assert [*tools] == ["The_flow", "forecast", "highest", "Greeter"]
    assert tools["forecast"].description == "The weather of tomorrow."
    assert tools["forecast"].input_schema["properties"] == {"city": {"type": "string", "description": "Where."}}
    assert tools["highest"].input_schema["properties"]["places"]["type"] == "array"
    assert tools["Greeter"].input_schema["required"] == ["request"]


@pytest.mark.parametrize(
    ("name", "arguments", "text", "structured"),
    [
        ("forecast", {"city": "Oslo"}, "snow in Oslo", None),
        ("total", {"numbers": [1, "2"]}, "3", {"result": 3}),
        (
            "highest",
            {"places": [{"name": "A", "height": 2}]},
            '{"name": "A", "height": 2.0}',
            {"name": "A", "height": 2},
        ),
        ("Greeter", {"request": "you"}, "Hello, you!", None),
    ],
)
async def test_results_come_as_text_and_structured(mode, name, arguments, text, structured):
    server = rt.mcp_server(forecast, highest, total, Greeter)
    async with mcp.Client(server.sdk, mode=mode) as client:
        result = await client.call_tool(name, arguments)
    assert [block.text for block in result.content] == [text]
    assert (result.structured_content, result.is_error) == (structured, False)


async def test_images_and_documents_reach_the_client(mode):
    @rt.function_node
    async def show() -> list[object]:
        return ["See:", IMAGE, SOUND, PAPER, AT_ADDRESS]

    async with mcp.Client(rt.mcp_server(show).sdk, mode=mode) as client:
        text, image, sound, paper, link = (await client.call_tool("show", {})).content
    assert text.text.startswith("See:\n[image: dot.png, ")
    assert (image.data, image.mime_type) == (IMAGE.base64, "image/png")
    assert (sound.data, sound.mime_type) == (SOUND.base64, "audio/wav")
    assert (paper.resource.blob, paper.resource.mime_type) == (PAPER.base64, "application/pdf")
    assert link.uri == AT_ADDRESS.url


async def test_what_a_server_sends_comes_back_as_it_was():
    @rt.function_node
    async def show() -> list[object]:
        return [IMAGE, SOUND, PAPER]

    client = Client("own", server=rt.mcp_server(show).sdk)
    [node] = await client.tools()
    _, image, sound, paper = await rt.call(node)
    assert (image.data, sound, paper) == (IMAGE.data, SOUND, PAPER)


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("fail", {"password": "hunter22"}, "ValueError: wrong password ***"),
        ("forecast", {}, "forecast was not run: city: missing"),
        ("total", {"numbers": ["x"]}, 'total was not run: numbers[0]: expected an integer, got "x"'),
    ],
)
async def test_errors_are_told_without_secrets(mode, name, arguments, text):
    server = rt.mcp_server([fail, forecast, total], logging_setting="NONE")
    async with mcp.Client(server.sdk, mode=mode) as client:
        result = await client.call_tool(name, arguments)
    assert ([block.text for block in result.content], result.is_error) == ([text], True)


async def test_an_unknown_tool_is_an_error_of_the_protocol(mode):
    async with mcp.Client(rt.mcp_server(forecast).sdk, mode=mode) as client:
        with pytest.raises(mcp.MCPError, match="there is no tool 'x'; the tools are forecast"):
            await client.call_tool("x", {})


async def test_a_call_runs_in_a_session_with_the_options_of_its_flow(mode):
    seen = []

    @rt.function_node
    async def who() -> str:
        seen.append(rt.session_id())
        return rt.context.get("who")

    payloads = []
    flow = rt.Flow("who", who, context={"who": "Ada"}, payload_callback=lambda each: payloads.append(each))
    async with mcp.Client(rt.mcp_server(flow).sdk, mode=mode) as client:
        assert [(await client.call_tool("who", {})).content[0].text for _ in range(2)] == ["Ada", "Ada"]
    assert len({*seen}) == 2
    assert [each["flow_name"] for each in payloads] == ["who", "who"]


async def test_a_cancelled_request_cancels_the_session(mode):
    started, ended = anyio.Event(), []

    @rt.function_node
    async def wait() -> None:
        started.set()
        await anyio.sleep_forever()

    flow = rt.Flow("wait", wait, payload_callback=lambda payload: ended.append(payload["runs"][0]["status"]))
    async with mcp.Client(rt.mcp_server(flow).sdk, mode=mode) as client, anyio.create_task_group() as group:
        group.start_soon(client.call_tool, "wait", {})
        await started.wait()
        group.cancel_scope.cancel()
    assert ended == ["Cancelled"]


async def test_broadcasts_are_progress(mode):
    @rt.function_node
    async def work() -> None:
        await rt.broadcast("reading")
        await rt.broadcast(Progress(progress=5, total=10, message="half"))
        await rt.broadcast(Progress(progress=1, total=2))
        await rt.broadcast({"left": 1})

    reports = []

    async def note(*report):
        reports.append(report)

    async with mcp.Client(rt.mcp_server(work).sdk, mode=mode) as client:
        await client.call_tool("work", {}, progress_callback=note)
    assert reports == [(1, None, "reading"), (5, 10, "half"), (6, None, None), (7, None, '{"left": 1}')]


async def test_a_call_does_not_belong_to_the_session_of_its_client():
    server = rt.mcp_server(total)
    [tool] = await Client("ours", server=server).tools()
    async with rt.Session() as session:
        assert await rt.call(tool, numbers=[1]) == 1
    assert [record.name for record in session.info.records] == ["total"]


async def test_our_client_and_our_server_understand_each_other():
    server = rt.mcp_server(total, highest, Greeter, fail, logging_setting="NONE")
    tools = {node.name: node for node in await Client("ours", server=server).tools()}
    assert await rt.call(tools["total"], numbers=[1, 2]) == 3
    assert await rt.call(tools["highest"], places=[attrs.asdict(Place("A", 2))]) == {"name": "A", "height": 2}
    assert await rt.call(tools["Greeter"], request="you") == "Hello, you!"
    with pytest.raises(rt.exceptions.MCPToolError, match="ValueError: wrong password no"):
        await rt.call(tools["fail"], password="no")


@pytest.mark.parametrize(
    ("targets", "options", "error", "problem"),
    [
        ([], {}, NodeCreationError, r"write rt\.mcp_server\(my_flow, my_node\)"),
        ([5], {}, NodeCreationError, "5 is not a node"),
        ([forecast, forecast], {}, NodeCreationError, "two tools are called 'forecast'"),
        ([forecast], {"name": ""}, ConfigError, "the name is ''"),
        ([forecast], {"timeuot": 5}, ConfigError, "timeuot"),
    ],
)
def test_what_cannot_be_served_is_refused(targets, options, error, problem):
    with pytest.raises(error, match=problem):
        rt.mcp_server(*targets, **options)
