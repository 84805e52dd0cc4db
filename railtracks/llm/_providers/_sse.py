"""Server-sent events, in which the providers stream their answers."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import Any, Protocol

import anyio

from railtracks._concurrency._cancellation import shielded

CONNECTION_CLOSED = "The connection was closed before the answer was complete."
DRAIN_DEADLINE = 1.0
"""Seconds that may pass between the last event of a stream and its end, for its connection to be used again."""


class Response(Protocol):
    """What is used of a response of httpx, or of its successors, whose body has not been read."""

    @property
    def request(self) -> Any: ...

    def aiter_bytes(self) -> Any: ...

    async def aclose(self) -> None: ...


class Events:
    """Iterates over the server-sent events of a response, and returns the ``data`` of each as a text.

    The SDKs' own iterators are generators inside generators. Those stay suspended when the outermost is closed early
    (OpenAI's also at the ordinary end of every stream), and trio warns of each of them.

    Args:
        response: The response; ``aclose`` closes it.
        sdk: The module whose ``APIConnectionError`` and ``APITimeoutError`` are raised when reading fails.
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
            elif (
                not name and not value and self._data
            ):  # an empty line ends the event; one that begins with ":" is a comment
                self._ready.append("\n".join(self._data))
                self._data.clear()

    async def finish(self) -> None:
        """Read the rest of the response after the last event, so that its connection can be used again."""
        with anyio.move_on_after(DRAIN_DEADLINE), contextlib.suppress(Exception):  # the answer is complete in any case
            while True:
                await self._chunks.__anext__()

    async def aclose(self) -> None:
        """Close the response, and its connection if the response has not been read to its end.

        Cancellation: Runs to its end.
        """
        await shielded(self._close)

    async def _close(self) -> None:
        await self._response.aclose()
        # httpx's generators are suspended inside each other. Reading from a closed response fails, which unwinds them;
        # the failure itself means nothing.
        with contextlib.suppress(Exception):
            while True:
                await self._chunks.__anext__()
