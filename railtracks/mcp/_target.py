"""Where an MCP server is, and how a client of the SDK reaches it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import anyio

from railtracks._addresses import http_address, shown_address
from railtracks._concurrency._threads import run_in_thread
from railtracks.exceptions import ConfigError
from railtracks.mcp._sdk import import_sdk
from railtracks.state import Secret
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._redaction._secret_names import is_secret_name

CONNECT_TIMEOUT = 30.0
"""Seconds that opening, sending and getting a connection may take over HTTP."""
READ_TIMEOUT = 300.0
"""Seconds between two pieces of an answer over HTTP: a server may take its time with a call."""


class Target:
    """Where a server is; see ``rt.mcp.Client`` for the arguments.

    Attributes:
        secrets: What must never be written.
        redactor: Removes it from texts.
        what: What it is, for errors.
        http_error: The latest response that was an error, such as "401 Unauthorized", since a client last connected by
            HTTP; "" if none was.
    """

    def __init__(
        self,
        command: Sequence[str] | None,
        url: str | None,
        server: Any,
        env: Mapping[str, str | Secret[str]] | None,
        cwd: str | None,
        headers: Mapping[str, str | Secret[str]] | None,
        auth: Any,
    ) -> None:
        given = {"command": command, "url": url, "server": server}
        if sum(each is not None for each in given.values()) != 1:
            named = " and ".join(name for name, each in given.items() if each is not None) or "none of them"
            raise ConfigError(
                f"rt.mcp.Client: expected one of command=, url= and server=, got {named}; write "
                f"rt.mcp.Client('files', command=['python', 'server.py']) or rt.mcp.Client('files', url='https://...')"
            )
        _check_unused(env=(env, command), cwd=(cwd, command), headers=(headers, url), auth=(auth, url))
        self._command = None if command is None else _checked_command(command)
        if url is not None and (not isinstance(url, str) or http_address(url) is None):
            raise ConfigError(
                f"rt.mcp.Client: url is {shown_address(url)}; expected an address such as 'https://host/mcp'"
            )
        self._url, self._cwd, self._auth = url, cwd, auth
        self.http_error = ""
        self._server = getattr(server, "sdk", server)  # an `rt.mcp.Server` has one
        self._env, self._headers = _texts("env", env), _texts("headers", headers)
        self.secrets = tuple(dict.fromkeys([*_secrets_in(env), *_secrets_in(headers), *_secrets_of_url(url)]))
        self.redactor = Redactor()
        for secret in self.secrets:
            self.redactor.add(secret)
        self.what = f"the command {self._command[0]!r}" if self._command else self.redactor.redact(url or "its server")

    def client(self, on_end: Callable[[], None]) -> AbstractAsyncContextManager[Any]:
        """Return a client of the SDK, which connects when it is entered.

        Args:
            on_end: Called if the stream of the server has ended.
        """
        sdk = import_sdk("rt.mcp.Client")
        if self._command is not None:
            program, *arguments = self._command
            process = sdk.StdioServerParameters(command=program, args=arguments, env=self._env, cwd=self._cwd)
            target: Any = _watched(sdk.stdio_client(process), on_end)
        elif self._url is not None:
            target = self._http_transport(self._url)
        else:
            target = _watched(self._server(), on_end) if callable(self._server) else self._server
        opened: AbstractAsyncContextManager[Any] = sdk.Client(target)
        return opened

    @asynccontextmanager
    async def _http_transport(self, url: str) -> AsyncIterator[Any]:
        import httpx2  # here, and below, because the extra brings it
        from mcp.client.streamable_http import streamable_http_client

        async def note(response: Any) -> None:  # the SDK's errors do not say it
            if response.status_code >= 400:
                self.http_error = f"{response.status_code} {response.reason_phrase}"

        make = partial(
            httpx2.AsyncClient,
            headers=self._headers,
            auth=self._auth,
            timeout=httpx2.Timeout(CONNECT_TIMEOUT, read=READ_TIMEOUT),
            event_hooks={"response": [note]},
        )
        self.http_error = ""
        # In a thread, because it reads the certificates of the system, which takes long.
        async with await run_in_thread(make) as http, streamable_http_client(url, http_client=http) as streams:
            yield streams


@asynccontextmanager
async def _watched(transport: Any, on_end: Callable[[], None]) -> AsyncIterator[Any]:
    async with transport as (incoming, outgoing):
        yield _Incoming(incoming, on_end), outgoing


class _Incoming:
    """The messages of a server, and a note when they have ended: the SDK notices that at the next request alone."""

    def __init__(self, stream: Any, on_end: Callable[[], None]) -> None:
        self._stream, self._on_end = stream, on_end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._on_end()
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()


def _check_unused(**options: tuple[object, object]) -> None:
    for name, (value, needed) in options.items():
        if value is not None and needed is None:
            where = "command" if name in ("env", "cwd") else "url"
            raise ConfigError(f"rt.mcp.Client: {name} is only for servers that are given by {where}=")


def _checked_command(command: object) -> list[str]:
    parts = list(command) if isinstance(command, Sequence) and not isinstance(command, str) else []
    if not parts or not all(isinstance(each, str) for each in parts):
        raise ConfigError(
            f"rt.mcp.Client: command is {command!r}; expected a list of texts, such as ['python', 'server.py']"
        )
    return [str(each) for each in parts]


def _texts(option: str, given: Mapping[str, str | Secret[str]] | None) -> dict[str, str]:
    texts = {}
    for name, value in (given or {}).items():
        text = value.value if isinstance(value, Secret) else value
        if not isinstance(name, str) or not isinstance(text, str):
            raise ConfigError(
                f"rt.mcp.Client: the value of {name!r} in {option} is not a text; expected one, or rt.Secret"
            )
        texts[name] = text
    return texts


def _secrets_in(given: Mapping[str, str | Secret[str]] | None) -> list[str]:
    """Return the secrets in variables or headers; of ``Bearer TOKEN`` the token, too."""
    found = []
    for name, value in (given or {}).items():
        if isinstance(value, Secret) or is_secret_name(name):
            text = value.value if isinstance(value, Secret) else value
            found += [text, *text.split(" ")[1:]]
    return found


def _secrets_of_url(url: str | None) -> list[str]:
    if url is None:
        return []
    parts = urlsplit(url)
    return [
        *([parts.password] if parts.password else []),
        *(value for name, value in parse_qsl(parts.query) if is_secret_name(name)),
    ]
