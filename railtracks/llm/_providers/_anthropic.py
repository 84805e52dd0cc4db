"""Models behind Anthropic's SDK."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Literal

from railtracks.llm._model import Completion, OutputMode, Piece
from railtracks.llm._prices import Price
from railtracks.llm._providers._anthropic_format import AnthropicStream, from_anthropic, to_anthropic
from railtracks.llm._providers._http_model import Connection, HTTPModel
from railtracks.llm._providers._keys import Key, KeyFunction
from railtracks.llm._providers._prompt_cache import cache_control, with_breakpoints
from railtracks.llm._providers._request import Request
from railtracks.llm._providers._sdk import with_retries
from railtracks.llm._providers._sse import CONNECTION_CLOSED, Events, as_object, read_body

_STREAMING_REQUIRED = "Streaming is required"
"""How the SDK refuses, before it sends anything, a request that may take longer than a connection lasts."""


class Anthropic(HTTPModel):
    """A model that the ``anthropic`` package reaches. Needs the extra: ``pip install '.[anthropic]'`` in a checkout.

    All calls on one event loop share one client. It is closed when it was not used for 10 seconds, and when the event
    loop ends.
    What the model thinks, and its signatures, stand in ``extra`` of the messages, and are sent back.

    Args:
        model: The provider's name for it.
        api_key: The key; by default that of the environment variable ``ANTHROPIC_API_KEY``. Servers that need none
            accept any, such as "none". A function, sync or async, returns the key for each request; a sync function is
            called in a worker thread.
        auth_token: A bearer token in place of a key, or a function that returns it; by default that of the environment
            variable ``ANTHROPIC_AUTH_TOKEN``.
        base_url: The address of another server that speaks this format.
        timeout: Seconds that a request may take. None: the SDK's default.
        max_retries: How often the SDK repeats a request that failed temporarily. None: its default. How often it did is
            among the attributes of the request, as ``railtracks.sdk.retries``.
        default_headers: Headers for every request.
        default_query: Parameters for the address of every request.
        http_client: An ``httpx.AsyncClient`` for the connections, with a proxy or certificates of yours, that works on
            one event loop, and that you close; or a function that makes one for each event loop, which is closed for
            you. Newer SDKs want one of ``httpx2``, and an error says so. None: one with the SDK's defaults.
        output_mode: How it is asked for objects: "native", "tool" or "prompted", as ``rt.agent_node`` says. None: as
            is best for the provider.
        cache_prompt: Whether the provider's cache keeps the tools, the system message and the conversation for the next
            request: for 5 minutes if this is True or "5m", for an hour if it is "1h". Writing to it costs more than
            other tokens, and reading costs a tenth. Not a setting: a change does not make a resumed run ask again.
        price: What its tokens cost. None: what is listed for the provider, if the extra ``prices`` is installed.
        settings: Sent with every request, as ``client.messages.create`` takes them: ``stop_sequences``, ``thinking``,
            ...; ``max_tokens``, the limit of an answer, is 4096 by default.

    Raises:
        ConfigError: The package is not installed, there is no key or there are two, an option has a value that cannot
            be right, or a setting is reserved or unknown.
    """

    _package = _provider = _origin_name = _ability_name = "anthropic"
    _client = "AsyncAnthropic"
    _resource = "messages"
    _create = "anthropic.resources.messages:AsyncMessages.create"
    _reserved: ClassVar = {"system": "put a SystemMessage(...) among the messages"}
    _defaults: ClassVar = {"max_tokens": 4096}

    def __init__(
        self,
        model: str,
        *,
        api_key: Key | KeyFunction | None = None,
        auth_token: Key | KeyFunction | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, object] | None = None,
        http_client: Any = None,
        output_mode: OutputMode | None = None,
        price: Price | None = None,
        cache_prompt: bool | Literal["5m", "1h"] = False,
        **settings: Any,
    ) -> None:
        self._cache_control = cache_control(cache_prompt, settings)
        options = {
            "base_url": base_url, "timeout": timeout, "max_retries": max_retries, "default_headers": default_headers,
            "default_query": default_query,
        }  # fmt: skip
        connection = Connection(
            keys={"api_key": api_key, "auth_token": auth_token},
            variables={"api_key": "ANTHROPIC_API_KEY", "auth_token": "ANTHROPIC_AUTH_TOKEN"},
            http_client=http_client,
            options=options,
        )
        super().__init__(model, connection, output_mode, price, settings)

    def _settled(self, client: Any) -> Any:
        if self._credential.option == "auth_token":
            client.api_key = None  # that of the environment
        return client

    def _payload(self, request: Request) -> dict[str, Any]:
        payload = to_anthropic(request, self._name, self._settings, self._origin)
        return payload if self._cache_control is None else with_breakpoints(payload, self._cache_control)

    @property
    def _can_force(self) -> bool:
        thinking = self._settings.get("thinking")
        kind = thinking.get("type") if isinstance(thinking, Mapping) else None
        return kind not in ("enabled", "adaptive")  # the API refuses both at once

    async def _complete(self, client: Any, request: Request) -> Completion:
        try:
            response = await client.messages.with_raw_response.create(**self._payload(request))
        except ValueError as exc:
            if not str(exc).startswith(_STREAMING_REQUIRED):
                raise
            return await self._collected(client, request)
        answer = AnthropicStream()
        for event in await read_body(response.http_response):
            answer.add(self._event(event, response.http_response))
        return with_retries(from_anthropic(answer.whole(), self._origin, len(request.messages)), response)

    async def _collected(self, client: Any, request: Request) -> Completion:
        """Request an answer as a stream, and return it as a whole."""
        async with aclosing(self._stream(client, request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
        raise AssertionError("a stream ends with the completion, or raises")

    async def _stream(self, client: Any, request: Request) -> AsyncGenerator[Piece, None]:
        payload = {**self._payload(request), "stream": True}
        answer = AnthropicStream(request.answer_tool)
        async with (
            client.messages.with_streaming_response.create(**payload) as response,
            aclosing(Events(response.http_response, self._sdk)) as events,
        ):
            async for data in events:
                event = self._event(as_object(data), response.http_response)
                if event.get("type") == "message_stop":
                    await events.finish()
                    break
                for piece in answer.add(event):
                    yield piece
            else:
                if not answer.is_complete:
                    raise self._sdk.APIConnectionError(
                        message=CONNECTION_CLOSED, request=response.http_response.request
                    )
        yield with_retries(from_anthropic(answer.whole(), self._origin, len(request.messages)), response)

    def _event(self, event: dict[str, Any], response: Any) -> dict[str, Any]:
        """Return an event, or raise the error that it is."""
        if event.get("type") == "error" or event.get("error"):
            raise self._sdk.APIStatusError(str(event), response=response, body=event)
        return event
