"""Connections to MCP servers, and who holds them open.

The SDK opens a connection as a context manager, with tasks below it, so the task that opens one has to close it. A call
of a tool cannot be that task: others use the connection too, and go on when the call has ended or was cancelled. So
each connection has a task of its own. Whoever made it ends it, and waits for its end: the session, or the block of
``async with client``. That closes files and sockets, and ends the process of the server.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Any

import anyio

from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._concurrency._free_tasks import start_free_task
from railtracks._concurrency._kinds import leaves_of
from railtracks._concurrency._task_groups import split_cancellation
from railtracks.exceptions import MCPError

MAX_PAGES = 1000
"""Pages of the list of tools that are read: a server whose list has no end is at fault."""

Open = Callable[[Callable[[], None]], AbstractAsyncContextManager[Any]]
"""Makes a client of the SDK, which connects when it is entered, and calls what it is given if the server has ended."""


class Connection:
    """One connection to a server. The task that opens it has begun when this is made.

    Args:
        name: The name of the server, for errors.
        open_client: Makes a client of the SDK.
        timeout: Seconds that opening may take.

    Attributes:
        client: The SDK's client, once it is open.
        tools: What the server offers, by name, once it is open.
        checked: The names of the tools whose schemas were compared with those that models know.
        is_over: Whether it was lost, or closed, or could not be opened.
    """

    client: Any
    tools: Mapping[str, Any]

    def __init__(self, name: str, open_client: Open, timeout: float) -> None:
        self._name, self._open_client, self._timeout = name, open_client, timeout
        self._opened, self._leave, self._ended = anyio.Event(), anyio.Event(), anyio.Event()
        self._scope = anyio.CancelScope()
        self._error: Exception | None = None
        self.checked: set[str] = set()
        self.is_over = False
        # In an empty context: the connection belongs to no call.
        Context().run(start_free_task, self._run, self._note_end)

    async def wait_opened(self) -> None:
        """Wait until the connection is open.

        Raises:
            Exception: It could not be opened.
        Cancellation: Ends the wait; the connection is opened all the same.
        """
        await self._opened.wait()
        if self._error is not None:
            raise self._error
        if self.is_over:
            raise MCPError(f"the connection to the MCP server {self._name!r} was closed before it was open")

    def lose(self) -> None:
        """Note that the connection is of no use any more. Its task ends soon."""
        self.is_over = True
        self._leave.set()

    async def close(self) -> None:
        """Close the connection, and wait until nothing of it is left.

        Cancellation: It is closed at once, without what is due between client and server, and waited for.
        """
        self._leave.set()
        if not self._opened.is_set():
            self._scope.cancel()
        try:
            await self._ended.wait()
        finally:
            if not self._ended.is_set():
                self._scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self._ended.wait()

    async def _run(self) -> None:
        try:
            with self._scope:
                self._scope.deadline = anyio.current_time() + self._timeout
                await self._serve()
            if self._scope.cancelled_caught and not self._leave.is_set():
                raise TimeoutError(f"it took more than {self._timeout:g} s")
        except BaseException as exc:
            cancellation, error = split_cancellation(exc)
            first = None if error is None else next(leaves_of(error))
            self._error = first if isinstance(first, Exception) else None
            if cancellation is not None and not is_stray_cancellation(cancellation):
                raise cancellation from None

    async def _serve(self) -> None:
        async with self._open_client(self.lose) as self.client:
            self.tools = await list_tools(self.client)
            self._scope.deadline = math.inf
            self._opened.set()
            await self._leave.wait()

    def _note_end(self) -> None:
        self.is_over = True
        self._opened.set()
        self._ended.set()


class Link:
    """The way of one session to one server: a connection that is opened when it is needed, and again if it was lost.

    Args:
        make: Makes a connection.
    """

    def __init__(self, make: Callable[[], Connection]) -> None:
        self._make = make
        self._connections: list[Connection] = []

    async def connection(self) -> Connection:
        """Return an open connection, which all calls share.

        Raises:
            Exception: It could not be opened. The next call tries again.
        """
        if not self._connections or self._connections[-1].is_over:
            self._connections = [each for each in self._connections if not each._ended.is_set()]
            self._connections.append(self._make())
        connection = self._connections[-1]
        await connection.wait_opened()
        return connection

    async def close(self) -> None:
        """Close all connections. Cancellation: they are closed at once."""
        for connection in self._connections:
            connection.lose()
        for connection in self._connections:
            await connection.close()


async def list_tools(client: Any) -> dict[str, Any]:
    """Return all tools that a server offers now, by name.

    Args:
        client: The SDK's client.

    Raises:
        MCPError: The list has no end.
    """
    if client.server_capabilities.tools is None:
        return {}
    tools: dict[str, Any] = {}
    cursor = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        tools |= {tool.name: tool for tool in page.tools}
        cursor = page.next_cursor
        if cursor is None:
            return tools
    raise MCPError(f"the list of tools of the MCP server has more than {MAX_PAGES} pages")
