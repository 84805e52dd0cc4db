"""``rt.mcp.Client``: the tools of an MCP server as nodes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, final

from anyio.lowlevel import EventLoopToken, current_token

from railtracks._concurrency._cancellation import shielded
from railtracks._concurrency._event_loop import check_no_event_loop
from railtracks._concurrency._termination import run_event_loop
from railtracks._config import resolve_config
from railtracks._context_variable import current
from railtracks._logging import SESSION
from railtracks._schema._builder import safe_name
from railtracks.agents._schema_tools import SchemaNode, schema_node
from railtracks.exceptions import (
    ConfigError,
    MCPError,
    MCPToolError,
    NodeCreationError,
    SessionEndedError,
    SessionError,
)
from railtracks.execution._broadcasts import publish_broadcast
from railtracks.execution._resources import shared
from railtracks.llm._attachments import Attachment
from railtracks.mcp._connection import Connection, Link, list_tools
from railtracks.mcp._contents import text_of, value_of
from railtracks.mcp._errors import call_error, opening_error
from railtracks.mcp._progress import Progress
from railtracks.mcp._sdk import import_sdk
from railtracks.mcp._selection import Selection
from railtracks.mcp._target import Target
from railtracks.nodes import FunctionNode
from railtracks.state import Secret


@final
class Client:
    """An MCP server whose tools are nodes. Needs the extra: ``pip install '.[mcp]'`` in a checkout.

    ::

        files = rt.mcp.Client("files", command=["python", "server.py"])
        Reader = rt.agent_node("Reader", llm=model, tool_nodes=files.tools_sync())  # in async code: await files.tools()

    Nothing happens before a tool is called or listed. The calls of a session share one connection, which is opened by
    the first of them and closed when the session ends, with the server's process if it has one. In a block of
    ``async with files:`` all sessions on its event loop share the connection of the block.

    A call that is cancelled is cancelled at the server too. One whose connection is lost fails with ``MCPError``, and
    the next one connects again. Progress that the server reports is broadcast as :class:`Progress`.

    Args:
        name: The name of the server in records and errors. Recorded calls of its tools are found again by it.
        command: The program that is the server, and its arguments. It speaks over its standard input and output; its
            standard error is that of this process.
        url: The address of a server that is reached by streamable HTTP, in place of ``command``.
        server: An ``rt.mcp.Server``, a server of the SDK, or a function that returns a transport of the SDK, in place
            of ``command``; as for tests.
        env: Environment variables for ``command``. Beside them it gets only a few, such as ``PATH`` and ``HOME``.
        cwd: The folder in which ``command`` runs. None: the current one.
        headers: Headers for every request to ``url``.
        auth: How requests to ``url`` are authorised, as ``httpx2`` takes it, such as an OAuth provider of the SDK.
        prefix: What begins the names of the tools for models and in records, such as "files_".
        include: Names of the tools that are wanted, or patterns such as "read_*". None: all.
        exclude: Names and patterns of tools that are not wanted.
        timeout: Seconds that connecting may take.

    Values of ``env`` and ``headers`` that are an ``rt.Secret``, or whose name is that of a secret, such as
    ``Authorization``, are never written.

    Raises:
        ConfigError: The package is not installed, or an argument has a wrong value.
    """

    def __init__(
        self,
        name: str,
        *,
        command: Sequence[str] | None = None,
        url: str | None = None,
        server: Any = None,
        env: Mapping[str, str | Secret[str]] | None = None,
        cwd: str | None = None,
        headers: Mapping[str, str | Secret[str]] | None = None,
        auth: Any = None,
        prefix: str = "",
        include: Iterable[str] | None = None,
        exclude: Iterable[str] = (),
        timeout: float = 30.0,
    ) -> None:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise ConfigError(f"rt.mcp.Client: the name is {name!r}; expected a text of one line, such as 'files'")
        if not isinstance(prefix, str):
            raise ConfigError(f"rt.mcp.Client: prefix is {prefix!r}; expected a text such as 'files_'")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
            raise ConfigError(f"rt.mcp.Client: timeout is {timeout!r}; expected seconds, such as 30.0")
        self.name = name
        self._target = Target(command, url, server, env, cwd, headers, auth)
        self._prefix, self._timeout = prefix, timeout
        self._selection = Selection(name, include, exclude)
        self._held: tuple[EventLoopToken, Link] | None = None  # while a block holds a connection
        self._is_held = False
        import_sdk("rt.mcp.Client")

    # ---- the tools

    async def tools(self) -> list[FunctionNode[..., Any]]:
        """Return the tools that the server offers now, as nodes for ``tool_nodes`` of an agent and for ``rt.call``.

        A node takes the arguments of its tool as keywords. It returns the structured content, or else the text; with
        attachments, a list. Where the tool fails, it raises ``MCPToolError``.

        Raises:
            ConfigError: The server's command cannot be started, or ``include`` or ``exclude`` names no tool.
            MCPError: The server cannot be reached, or does not speak the protocol.

        Cancellation: Ends it; a connection that it has opened for itself is closed.
        """
        async with self._connection() as connection:
            try:
                listed = await list_tools(connection.client)
            except Exception as exc:
                raise call_error(exc, self.name, "list its tools", connection, self._target) from exc
        return [self._node(tool) for tool in self._selection.of(listed)]

    def tools_sync(self) -> list[FunctionNode[..., Any]]:
        """Do as ``tools``, in synchronous code, such as a module. It connects, and closes the connection again.

        Raises:
            SessionError: An event loop is running in this thread; write ``await client.tools()``.
            Exception: As ``tools``.
        """
        check_no_event_loop(f"tools_sync() of the MCP client {self.name!r}", "await client.tools()")
        return run_event_loop(self.tools, resolve_config({}).backend)

    def _node(self, tool: Any) -> SchemaNode[..., Any]:
        return _tool_node(self, tool.name, tool.description or tool.title or "", dict(tool.input_schema))

    # ---- the connection

    async def __aenter__(self) -> Self:
        if self._is_held:
            raise SessionError(
                f"the MCP client {self.name!r} is in an `async with` already; use it there, or make another client"
            )
        self._is_held = True
        link = Link(self._connect)
        try:
            await self._open(link)
        except BaseException:
            self._is_held = False
            await shielded(link.close)
            raise
        self._held = current_token(), link
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._held is not None
        link = self._held[1]
        self._held = None
        self._is_held = False
        await shielded(link.close)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        """Yield a connection: that of the block around, that of the session, or one for this block alone."""
        held = self._held
        if held is not None and held[0] == current_token():
            yield await self._open(held[1])
            return
        link = shared(self, lambda: Link(self._connect), Link.close)
        if link is not None:
            yield await self._open(link)
            return
        own = Link(self._connect)
        try:
            yield await self._open(own)
        finally:
            await shielded(own.close)

    async def _open(self, link: Link) -> Connection:
        try:
            return await link.connection()
        except Exception as exc:
            raise opening_error(exc, self.name, self._target) from exc

    def _connect(self) -> Connection:
        return Connection(self.name, self._target.client, self._timeout)

    async def _call(self, name: str, parameters: Mapping[str, Any], arguments: dict[str, Any]) -> Any:
        frame = current.get()

        async def broadcast(progress: float, total: float | None, message: str | None) -> None:
            item = Progress(progress=progress, total=total, message=message, tool=name, server=self.name)
            try:
                await publish_broadcast(frame.coordinator, item, frame)
            except SessionEndedError:  # it came too late
                return

        async with self._connection() as connection:
            await self._check_listed(name, parameters, connection)
            try:
                on_progress = None if frame is None else broadcast
                result = await connection.client.call_tool(name, arguments, progress_callback=on_progress)
            except Exception as exc:
                raise call_error(exc, self.name, f"call {name}", connection, self._target) from exc
            if result.is_error:
                raise MCPToolError(text_of(result) or f"the tool {name} of the MCP server {self.name!r} has failed")
            return value_of(result, connection.tools.get(name))

    async def _check_listed(self, name: str, parameters: Mapping[str, Any], connection: Connection) -> None:
        """Check that the server still has a tool, and warn once if it is another one than the model knows.

        Raises:
            MCPError: It has not.
        """
        if name not in connection.tools:
            try:
                connection.tools = await list_tools(connection.client)
            except Exception as exc:
                raise call_error(exc, self.name, "list its tools", connection, self._target) from exc
        if name not in connection.tools:
            names = ", ".join(connection.tools) or "none"
            raise MCPError(f"the MCP server {self.name!r} has no tool {name!r} any more; it has {names}")
        frame = current.get()
        if frame is not None and name not in connection.checked and connection.tools[name].input_schema != parameters:
            frame.coordinator.log.log(
                logging.WARNING, "the tool %s of the MCP server %r has other parameters now than when it was listed; "
                "call tools() again", name, self.name, logger=SESSION,
            )  # fmt: skip
        connection.checked.add(name)

    # ---- the object

    def __railtracks_node__(self) -> FunctionNode[..., Any]:
        raise NodeCreationError(
            f"the MCP client {self.name!r} is not a node; its tools are: write tool_nodes=[*await client.tools()], or "
            f"tool_nodes=client.tools_sync() in synchronous code"
        )

    def __repr__(self) -> str:
        return f"<mcp client {self.name}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled of it: all but its connection."""
        return {**self.__dict__, "_held": None, "_is_held": False}


def _tool_node(client: Client, name: str, description: str, parameters: dict[str, Any]) -> SchemaNode[..., Any]:
    """Return the node of a tool. It is pickled by a call of this function."""

    async def call_tool(**arguments: Any) -> Any | Attachment:  # which names the classes that a record may have
        return await client._call(name, parameters, arguments)

    call_tool.__name__ = call_tool.__qualname__ = name
    call_tool.__doc__ = description
    own_name = f"{client._prefix}{name}"
    node: FunctionNode[..., Any] = FunctionNode(
        call_tool, name=own_name, is_async=True, origin=f"railtracks.mcp:{client.name}:{name}"
    )
    node.secrets = client._target.secrets
    own = schema_node(
        node, description, parameters, f"rt.mcp.Client({client.name!r}, prefix='{safe_name(client.name)}_')"
    )
    own.reduced = _tool_node, (client, name, description, parameters)
    return own
