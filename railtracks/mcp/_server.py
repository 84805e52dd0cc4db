"""``rt.mcp_server``: flows, nodes and agents as the tools of an MCP server."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any, Unpack, final

import attrs

from railtracks._concurrency._event_loop import check_no_event_loop
from railtracks._concurrency._termination import run_event_loop
from railtracks._config import resolve_config
from railtracks._flow import Flow
from railtracks._options import SessionOptions
from railtracks._schema._builder import safe_name
from railtracks.agents._agent import manifest_of
from railtracks.agents._tools import Tool, tools_of
from railtracks.exceptions import ConfigError, NodeCreationError
from railtracks.mcp._sdk import import_sdk
from railtracks.mcp._serving import run_tool
from railtracks.nodes._resolve import as_node

LOCAL_HOSTS = ("127.0.0.1:*", "localhost:*", "[::1]:*")
"""The values of the header ``Host`` of requests to this machine."""


@final
class Server:
    """An MCP server whose tools are flows, nodes and agents; made by ``rt.mcp_server``.

    Each call of a tool runs in a session of its own. It is cancelled if its client cancels the request or leaves.
    ``rt.broadcast`` in it reaches the client as progress, if the client asked for that: a :class:`Progress` as it is,
    anything else as a text, counted.

    Attributes:
        name: The name for clients.
        sdk: The server of the SDK, for other transports and for tests.
    """

    def __init__(self, name: str, instructions: str | None, version: str, flows: Mapping[str, Served]) -> None:
        import_sdk("rt.mcp_server")
        from mcp.server import Server as SDKServer

        self.name = name
        self._flows = flows
        self.sdk: Any = SDKServer(
            name,
            version=version,
            instructions=instructions,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
        )

    def run(self) -> None:
        """Serve one client over standard input and output, until it leaves.

        What nodes print goes to standard error, with the log: standard output belongs to the protocol. At Ctrl-C and
        SIGTERM all calls are cancelled.

        Raises:
            SessionError: An event loop is running in this thread; write ``await server.serve()``.
            KeyboardInterrupt: Ctrl-C came.
            SystemExit: SIGTERM came.
        """
        check_no_event_loop(f"run() of the MCP server {self.name!r}", "await server.serve()")
        run_event_loop(self.serve, resolve_config({}).backend)

    async def serve(self) -> None:
        """Do as ``run``, in async code.

        Cancellation: All calls are cancelled, and the streams are given back.
        """
        from mcp.server.stdio import stdio_server

        async with stdio_server() as (incoming, outgoing):  # it gives standard output's descriptor another target
            buffered = sys.stdout
            try:
                with redirect_stdout(sys.stderr):
                    await self.sdk.run(incoming, outgoing, self.sdk.create_initialization_options())
            finally:
                buffered.flush()  # before the descriptor is given back, or what was printed would follow the protocol

    def app(self, path: str = "/mcp", *, allowed_hosts: Sequence[str] | None = LOCAL_HOSTS) -> Any:
        """Return the server as an ASGI application, which serves any number of clients by streamable HTTP.

        ::

            app = server.app()  # uvicorn module:app, or hypercorn --worker-class trio module:app

        To mount it in another application, let that run its lifespan too: ``lifespan=app.router.lifespan_context``.

        Args:
            path: The path of the endpoint.
            allowed_hosts: The values of the header ``Host`` that are answered, such as "tools.example.com" and
                "127.0.0.1:*"; by default those of this machine, which keeps web pages from reaching a local server by
                names of their own. None: any.

        Returns:
            A ``Starlette`` application.
        """
        from mcp.server.transport_security import TransportSecuritySettings

        hosts = None if allowed_hosts is None else list(allowed_hosts)
        security = TransportSecuritySettings(
            enable_dns_rebinding_protection=hosts is not None,
            allowed_hosts=hosts or [],
            allowed_origins=[f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts or []],
        )
        return self.sdk.streamable_http_app(streamable_http_path=path, transport_security=security)

    async def _list_tools(self, context: Any, params: Any) -> Any:
        import mcp_types

        tools = [
            mcp_types.Tool(
                name=each.tool.schema.name,
                description=each.tool.schema.description or None,
                input_schema=dict(each.tool.schema.parameters),
            )
            for each in self._flows.values()
        ]
        return mcp_types.ListToolsResult(tools=tools)

    async def _call_tool(self, context: Any, params: Any) -> Any:
        served = self._flows.get(params.name)
        if served is None:
            from mcp import MCPError as SDKError
            from mcp_types import INVALID_PARAMS

            names = ", ".join(self._flows) or "none"
            raise SDKError(INVALID_PARAMS, f"there is no tool {params.name!r}; the tools are {names}")
        return await run_tool(served.flow, served.tool, params.arguments or {}, context)

    def __repr__(self) -> str:
        return f"<mcp server {self.name}: {', '.join(self._flows)}>"


@attrs.frozen
class Served:
    """A flow, and its description as a tool."""

    flow: Flow[..., Any]
    tool: Tool


def mcp_server(
    *targets: Any,
    name: str = "railtracks",
    instructions: str | None = None,
    version: str = "",
    **options: Unpack[SessionOptions],
) -> Server:
    """Make an MCP server whose tools are flows, nodes and agents.

    ::

        server = rt.mcp_server(flow, forecast, WeatherAgent, name="weather")
        server.run()  # over standard input and output; server.app() is an ASGI application

    The name of a tool is that of the flow or node, in the characters that all clients take. Its description and
    parameters are those that a model reads of the node: from its docstring and its signature, or the manifest of an
    agent. Arguments are checked, with readings that lose nothing.

    What is returned reaches the client as text and as structured content; an exception as an error that has its type
    and text, without secrets.

    Args:
        *targets: Flows, which run with their own options, and anything that ``rt.call`` takes.
        name: The name of the server, for clients.
        instructions: What clients should know of the server as a whole, for their models. None: nothing.
        version: The version of the server, for clients.
        **options: As for :class:`Session`, for the sessions of targets that are not flows.

    Raises:
        ConfigError: The package is not installed, or an option is unknown or has a wrong value.
        NodeCreationError: There is no target, one cannot be called or described, or two have the same name.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"rt.mcp_server: the name is {name!r}; expected a text, such as 'weather'")
    found = [*targets[0]] if len(targets) == 1 and isinstance(targets[0], list | tuple) else [*targets]
    if not found:
        raise NodeCreationError("rt.mcp_server() expected flows or nodes; write rt.mcp_server(my_flow, my_node)")
    flows: dict[str, Served] = {}
    for target in found:
        served = _served(target, options)
        own_name = served.tool.schema.name
        if own_name in flows:
            raise NodeCreationError(f"rt.mcp_server: two tools are called {own_name!r}; rename one of them")
        flows[own_name] = served
    return Server(name, instructions, version, flows)


def _served(target: Any, options: SessionOptions) -> Served:
    flow = target if isinstance(target, Flow) else Flow(as_node(target, "rt.mcp_server").name, target, **options)
    [tool] = tools_of([flow.entry_point], lambda node: manifest_of(node.target)).values()
    return Served(flow, attrs.evolve(tool, schema=attrs.evolve(tool.schema, name=safe_name(flow.name))))
