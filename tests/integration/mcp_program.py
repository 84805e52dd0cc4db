"""A program that is an MCP server, made with Railtracks or with the SDK."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

import railtracks as rt

EARLY_OUTPUT = sys.stdout


@rt.function_node
def noisy(text: str) -> str:
    """Say something on standard output, which belongs to the protocol."""
    print("printed")
    EARLY_OUTPUT.write("printed")
    os.write(1, b"written\n")
    return text.upper()


@rt.function_node
async def wait(path: str) -> None:
    """Wait for ever; leave a note when that is cancelled."""
    try:
        Path(path).write_text("waiting")
        await anyio.sleep_forever()
    finally:
        Path(path).write_text("cancelled")


@rt.function_node
async def work() -> str:
    for step in range(3):
        await rt.broadcast(rt.mcp.Progress(progress=step + 1, total=3))
    return "done"


@rt.function_node
async def die() -> None:
    os._exit(3)


@rt.function_node
async def who() -> str:
    return os.environ.get("API_TOKEN", "")


ours = rt.mcp_server(noisy, wait, work, die, who, name="ours", logging_setting="VERBOSE", save_state=False)
app = ours.app()


def reference():
    server = MCPServer("reference")

    @server.tool()
    def noisy(text: str) -> str:
        return text.upper()

    @server.tool()
    async def work(context: Context) -> str:
        for step in range(3):
            await context.report_progress(step + 1, 3)
        return "done"

    @server.tool()
    async def die() -> None:
        os._exit(3)

    @server.tool()
    async def who() -> str:
        return os.environ.get("API_TOKEN", "")

    @server.tool()
    async def wait(path: str) -> None:
        try:
            Path(path).write_text("waiting")
            await anyio.sleep_forever()
        finally:
            Path(path).write_text("cancelled")

    server.run()


if __name__ == "__main__":
    reference() if "reference" in sys.argv else ours.run()
