"""Servers made with the SDK, whose tools do what servers do."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import mcp_types as types
from mcp.server import Server
from mcp.shared.exceptions import MCPError
from mcp.shared.memory import create_client_server_memory_streams

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
ADD = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a"],
}
WRAPPED = {"type": "object", "properties": {"result": {"type": "integer"}}, "required": ["result"]}


def text(*texts, structured=None, is_error=False):
    blocks: list = [types.TextContent(type="text", text=each) for each in texts]
    return types.CallToolResult(content=blocks, structured_content=structured, is_error=is_error)


class Reference:
    """A server of the SDK, what it was asked, and what has happened in it.

    Attributes:
        calls: The names and arguments of the calls that it got.
        cancelled: The names of the calls that were cancelled in it.
        opened, closed: How many connections over ``wire`` were opened and closed.
        tools: What it lists.
    """

    def __init__(self):
        self.calls, self.cancelled, self.lists = [], [], 0
        self.opened = self.closed = 0
        self.started = anyio.Event()
        self.tools = {
            "add": types.Tool(name="add", description="The sum.", input_schema=ADD, output_schema=WRAPPED),
            **{
                each: types.Tool(name=each, input_schema={"type": "object"})
                for each in (
                    "weather",
                    "data",
                    "picture",
                    "parts",
                    "broken",
                    "refuse",
                    "wait",
                    "count",
                    "die",
                    "read.file",
                )
            },
        }
        self.sdk = Server("reference", on_list_tools=self.list_tools, on_call_tool=self.call_tool)

    @asynccontextmanager
    async def wire(self):
        """A connection over streams in memory, in the form of messages. ``cut`` ends the server."""
        self.opened += 1
        try:
            async with create_client_server_memory_streams() as (client, server), anyio.create_task_group() as group:
                scope = anyio.CancelScope()
                self.cut = scope.cancel

                async def serve():
                    with scope:
                        await self.sdk.run(*server, self.sdk.create_initialization_options())

                group.start_soon(serve)
                yield client
                scope.cancel()
        finally:
            self.closed += 1

    async def list_tools(self, context, params):
        self.lists += 1
        tools = list(self.tools.values())
        if params is None or params.cursor is None:
            return types.ListToolsResult(tools=tools[:3], next_cursor="more")
        return types.ListToolsResult(tools=tools[3:])

    async def call_tool(self, context, params):
        name, arguments = params.name, params.arguments or {}
        self.calls.append((name, arguments))
        return await getattr(self, name.replace(".", "_"))(context, **arguments)

    async def add(self, context, a, b=1):
        return text(str(a + b), structured={"result": a + b})

    async def weather(self, context):
        return text("rain", "and wind")

    async def data(self, context):
        return text('{"a": 1}', structured={"a": 1})

    async def picture(self, context):
        picture = types.ImageContent(type="image", data=PNG, mime_type="image/png")
        return types.CallToolResult(content=[types.TextContent(type="text", text="Here:"), picture])

    async def parts(self, context):
        """A result of all kinds of parts."""
        text_resource = types.TextResourceContents(uri="file:///a.txt", text="a text")
        pdf = types.BlobResourceContents(uri="file:///a.pdf", blob="JVBERi0=", mime_type="application/pdf")
        odd = types.BlobResourceContents(uri="file:///a", blob="AAAA")
        blocks: list = [
            types.AudioContent(type="audio", data="AAAA", mime_type="audio/wav"),
            *(types.EmbeddedResource(type="resource", resource=each) for each in (text_resource, pdf, odd)),
            types.ResourceLink(type="resource_link", name="b", uri="file:///b"),
            types.ImageContent(type="image", data=PNG, mime_type="video/mp4"),
        ]
        return types.CallToolResult(content=blocks)

    async def broken(self, context):
        return text("there is no such city", is_error=True)

    async def refuse(self, context):
        raise MCPError(code=-32602, message="not today")

    async def count(self, context):
        await context.session.report_progress(1, 2, "half")
        await anyio.sleep(1)
        await context.session.report_progress(2, 2)
        await anyio.sleep(1)
        return text("counted")

    async def read_file(self, context):
        return text("read")

    async def die(self, context):
        self.cut()
        await anyio.sleep_forever()

    async def wait(self, context):
        self.started.set()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            self.cancelled.append("wait")
            raise
