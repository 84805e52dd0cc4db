"""MCP over real processes and sockets: servers of the SDK and ours, with our client and the SDK's, in real time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import anyio
import anyio.abc
import mcp
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, MCPError
from railtracks.mcp import Client
from tests.integration.server import COMMANDS

pytestmark = [
    pytest.mark.integration,
    # The SDK leaves responses that it has not read to the end to the garbage collector, which trio warns of.
    pytest.mark.filterwarnings("ignore:Async generator 'http(x|core)2:ResourceWarning"),
]

ROOT = Path(rt.__file__).parents[1]
COMMANDS_OF = {
    "ours": [sys.executable, "-m", "tests.integration.mcp_program"],
    "reference": [sys.executable, "-m", "tests.integration.mcp_program", "reference"],
    "command line": [sys.executable, "-m", "railtracks", "mcp", f"{ROOT}/tests/integration/mcp_program.py:ours"],
}
ENV = {"PYTHONPATH": str(ROOT), "API_TOKEN": "t0ken-of-the-server"}


def program(kind):
    return Client("program", command=COMMANDS_OF[kind], env=ENV)


def children():
    found = subprocess.run(["ps", "-o", "args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [line for line in found.stdout.splitlines() if "mcp_program" in line]


async def until(holds):
    with anyio.fail_after(30):
        while not holds():
            await anyio.sleep(0.02)


async def check_tools(tools, folder):
    """Call all tools of a server, and return what they broadcast."""
    items = []
    path = folder / "note"
    async with rt.Session(broadcast_callback=items.append, logging_setting="NONE") as session:
        assert await rt.call(tools["noisy"], text="a") == "A"
        assert await rt.call(tools["work"]) == "done"
        handle = session.start_soon(tools["wait"], path=str(path))
        await until(path.exists)
        handle.cancel()
        await handle.wait()
        await until(lambda: path.read_text() == "cancelled")
        assert await rt.call(tools["noisy"], text="b") == "B"
    return [(each.progress, each.total) for each in items]


@pytest.mark.parametrize("kind", list(COMMANDS_OF))
def test_a_program_is_used_and_leaves_nothing(backend, kind, tmp_path, caplog):
    async def main():
        tools = {node.name: node for node in await program(kind).tools()}
        assert children() == []
        assert await check_tools(tools, tmp_path) == [(1, 3), (2, 3), (3, 3)]
        assert children() == []
        assert await rt.call(tools["who"]) == "t0ken-of-the-server"

    anyio.run(main, backend=backend)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("mcp")] == []


@pytest.mark.parametrize("kind", ["ours", "reference"])
def test_a_program_that_dies_is_started_again(backend, kind):
    async def main():
        tools = {node.name: node for node in await program(kind).tools()}
        async with rt.Session(logging_setting="NONE"):
            with pytest.raises(MCPError, match="was lost while it should call die"):
                await rt.call(tools["die"])
            assert await rt.call(tools["noisy"], text="a") == "A"
        assert children() == []

    anyio.run(main, backend=backend)


def test_a_program_that_cannot_start_is_named(backend):
    with pytest.raises(ConfigError, match="the MCP server 'no' cannot be started by the command 'no-such-program'"):
        anyio.run(Client("no", command=["no-such-program"]).tools, backend=backend)
    with pytest.raises(MCPError, match="it ended, or closed the connection, before it had answered"):
        anyio.run(Client("no", command=[sys.executable, "-c", "raise SystemExit(3)"]).tools, backend=backend)
    with pytest.raises(MCPError, match=r"the MCP server 'no' \(http://127\.0\.0\.1:9/mcp\) cannot be used"):
        anyio.run(Client("no", url="http://127.0.0.1:9/mcp").tools, backend=backend)


def test_a_web_server_that_refuses_is_named(backend):
    refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    async def refuse(stream):
        async with stream:
            await stream.receive()
            await stream.send(refusal)

    async def main():
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, refuse)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            with pytest.raises(MCPError, match="the latest HTTP error was 401 Unauthorized"):
                await Client("web", url=f"http://127.0.0.1:{port}/mcp").tools()
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)


def test_the_sdk_uses_our_program(backend):
    """Prints and logs do not disturb the protocol."""

    async def main():
        command, *args = COMMANDS_OF["ours"]
        parameters = mcp.StdioServerParameters(command=command, args=args, env=ENV)
        for mode in ("legacy", "auto"):
            async with mcp.Client(parameters, mode=mode) as client:
                result = await client.call_tool("noisy", {"text": "a"})
                assert result.content[0].text == "A"

    anyio.run(main, backend=backend)


@pytest.fixture(params=list(COMMANDS))
def address(request, tmp_path):
    """The address of a web server that serves our program by streamable HTTP."""
    with socket.socket() as listening, (tmp_path / "errors").open("w") as errors:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        number = str(listening.fileno())
        where = f"fd://{number}" if request.param.startswith("hypercorn") else number
        process = subprocess.Popen(
            [sys.executable, "-m", *COMMANDS[request.param], where, "tests.integration.mcp_program:app"],
            pass_fds=[listening.fileno()], env={**os.environ, **ENV}, cwd=tmp_path, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        process.terminate()
        process.wait(60)
    assert "Traceback" not in (tmp_path / "errors").read_text()


def test_a_web_server_is_used(address, backend, tmp_path):
    async def main():
        client = Client("web", url=address, headers={"Authorization": "Bearer t0ken"}, exclude=["die"])
        async with client:
            tools = {node.name: node for node in await client.tools()}
            assert await rt.call(tools["noisy"], text="a") == "A"
        assert await check_tools(tools, tmp_path) == [(1, 3), (2, 3), (3, 3)]

    anyio.run(main, backend=backend)
