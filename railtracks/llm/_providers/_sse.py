"""Server-sent events, in which the providers stream their answers."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from typing import Any, Protocol

import anyio

from railtracks._concurrency._cancellation import shielded
from railtracks.exceptions import LLMError

MAX_SHOWN = 300
"""Characters of what a server has sent that an error shows."""
CONNECTION_CLOSED = "The connection was closed before the answer was complete."
DRAIN_DEADLINE = 1.0
"""Seconds that may pass between the last event of a stream and its end, for its connection to be used again."""


class Response(Protocol):
    """What is used of a response of httpx, or of its successors."""

    @property
    def request(self) -> Any: ...

    def aiter_bytes(self) -> Any: ...

    async def aread(self) -> bytes: ...

    async def aclose(self) -> None: ...


class EventReader:
    """Reads server-sent events from a text that comes piece by piece. It does no I/O.

    A server that does not stream sends JSON instead, which counts as one event.

    Attributes:
        ready: The ``data`` of the events that were not taken yet.
    """

    def __init__(self) -> None:
        self.ready: deque[str] = deque()
        self._rest = b""
        self._data: list[str] = []
        self._json: list[bytes] | None = None  # all that came, if it is JSON and no event
        self._start = b""  # what came before the first event

    def feed(self, chunk: bytes) -> None:
        """Add what came."""
        if self._json is None and not (self._start + chunk).lstrip().startswith(b"{"):
            self._start = (self._start + chunk)[:MAX_SHOWN]
            self._feed_lines(chunk)
        else:
            self._json = [self._start, chunk] if self._json is None else [*self._json, chunk]

    def _feed_lines(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode("utf-8", "replace").rstrip("\r").partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            elif not name and not value:  # an empty line ends the event; one that begins with ":" is a comment
                self._end_event()

    def _end_event(self) -> None:
        if data := "\n".join(self._data).strip():  # servers send empty ones to keep the connection
            self.ready.append(data)
        self._data.clear()

    def feed_end(self) -> None:
        """Note that nothing else comes. The last event may lack its end; if it is not whole, it is dropped."""
        if self._json is not None:
            self.ready.append(b"".join(self._json).decode("utf-8", "replace").strip())
            self._json = None
            return
        self._feed_lines(b"\n")
        last = "\n".join(self._data).strip()
        with contextlib.suppress(ValueError):
            if not last.startswith("[DONE]"):
                json.loads(last)
            self._end_event()

    @property
    def other_text(self) -> str:
        """The beginning of what came; "" if those are parts of events."""
        text = self._start.decode("utf-8", "replace").strip()
        names = {line.partition(":")[0] for line in text.splitlines() if line}
        return "" if names & {"data", "event", "id", "retry", ""} else text  # the last one is that of comments


def as_object(data: str) -> dict[str, Any]:
    """Return the JSON object that an event, or a whole answer, is.

    Raises:
        LLMError: It is something else. The text shows it.
    """
    try:
        found = json.loads(data)
    except ValueError as exc:
        raise not_an_answer(data) from exc
    if not isinstance(found, dict):
        raise not_an_answer(data)
    return found


async def read_body(response: Response) -> list[dict[str, Any]]:
    """Return what a response consists of: one answer, or its events, which some servers send without being asked to.

    Raises:
        LLMError: It is something else. The text shows it.
    """
    reader = EventReader()
    reader.feed(await response.aread())  # most releases of the SDKs have read it already
    reader.feed_end()
    if not reader.ready:
        raise not_an_answer(reader.other_text)
    return [as_object(data) for data in reader.ready if not data.startswith("[DONE]")]


def not_an_answer(text: str) -> LLMError:
    """Return the error for what a server has sent in place of an answer."""
    return LLMError(
        f"the server sent what is not an answer in the format of the provider, JSON or a stream of events; does its "
        f"address lead to the API, with a path such as /v1? It sent: {text[:MAX_SHOWN]!r}"
    )


class Events:
    """Iterates over the server-sent events of a response, and returns the ``data`` of each as a text.

    What a server sends that does not stream is one event; see ``EventReader``.

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
        self._reader = EventReader()
        self._has_begun = self._has_ended = False

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> str:
        while not self._reader.ready:
            await self._read_more()
        self._has_begun = True
        return self._reader.ready.popleft()

    async def _read_more(self) -> None:
        if self._has_ended:
            raise StopAsyncIteration
        try:
            self._reader.feed(await self._read())
        except StopAsyncIteration:
            self._has_ended = True
            self._reader.feed_end()
            if not self._has_begun and not self._reader.ready and self._reader.other_text:
                raise not_an_answer(self._reader.other_text) from None

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
