"""Server-sent events, as the providers stream their answers."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any, Protocol

import anyio

from railtracks._concurrency._cancellation import shielded

BROKEN_OFF = "The connection was closed before the answer was complete."
DRAIN_DEADLINE = 1.0
"""Seconds that the end of a stream may take to come after its last event; else its connection is not used again."""


class Response(Protocol):
    """What this needs of the response of httpx, and of its successors, whose body is not read yet."""

    @property
    def request(self) -> Any: ...

    def aiter_bytes(self) -> Any: ...

    async def aclose(self) -> None: ...


class Events:
    """The server-sent events of a response, each the text of its ``data``.

    The SDKs have iterators for this. They are generators inside generators, which stay suspended when the outermost is
    left, and with OpenAI's also at the ordinary end of every stream; trio warns of each of them.

    Args:
        response: Closed by ``aclose``.
        sdk: Its ``APIConnectionError`` and ``APITimeoutError`` are raised for what breaks on the way.
    """

    def __init__(self, response: Response, sdk: Any) -> None:
        self._response = response
        self._sdk = sdk
        self._chunks = response.aiter_bytes()
        self._rest = b""
        self._data: list[str] = []
        self._ready: deque[str] = deque()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> str:
        while not self._ready:
            self._feed(await self._read())
        return self._ready.popleft()

    async def _read(self) -> bytes:
        try:
            return await self._chunks.__anext__()  # type: ignore[no-any-return]
        except Exception as exc:
            bases = {base.__name__ for base in type(exc).__mro__ if base.__module__.startswith("httpx")}
            if "TimeoutException" in bases:
                raise self._sdk.APITimeoutError(request=self._response.request) from exc
            if "TransportError" in bases:
                raise self._sdk.APIConnectionError(request=self._response.request) from exc
            raise

    def _feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode("utf-8", "replace").rstrip("\r").partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            elif not name and not value and self._data:  # an empty line ends the event; one with ":" is a comment
                self._ready.append("\n".join(self._data))
                self._data.clear()

    async def finish(self) -> None:
        """There are no more events: read what little of the response is left, so that its connection can be kept."""
        with anyio.move_on_after(DRAIN_DEADLINE), contextlib.suppress(Exception):  # the answer is complete all the same
            while True:
                await self._chunks.__anext__()

    async def aclose(self) -> None:
        """Close the response, and its connection if there is more to come on it. Runs to its end when cancelled."""
        await shielded(self._close)

    async def _close(self) -> None:
        await self._response.aclose()
        # httpx's generators are suspended inside each other. Reading from what is closed fails, and unwinds them all;
        # there is nobody whom that failure concerns.
        with contextlib.suppress(Exception):
            while True:
                await self._chunks.__anext__()
