"""Models behind Anthropic's SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar, Literal

import attrs

from railtracks.llm._attachments import Attachment
from railtracks.llm._media_types import is_textual
from railtracks.llm._messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage
from railtracks.llm._model import Completion, OutputDelta, OutputMode, Piece, Reasoning, Usage
from railtracks.llm._prices import Price
from railtracks.llm._providers._chat_format import parse_arguments, special_tier
from railtracks.llm._providers._http_model import Connection, HTTPModel
from railtracks.llm._providers._keys import Key, KeyFunction
from railtracks.llm._providers._prompt_cache import cache_control, with_breakpoints
from railtracks.llm._providers._request import Request, is_forced
from railtracks.llm._providers._sdk import with_retries
from railtracks.llm._providers._sse import CONNECTION_CLOSED, Events, as_object, not_an_answer, read_body

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
        payload = {
            **request.settings(self._settings),
            "model": self._name,
            "messages": _messages(request.messages, self._origin),
        }
        if system := [message.content for message in request.messages if isinstance(message, SystemMessage)]:
            payload["system"] = "\n\n".join(system)
        if request.tools:
            payload["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
                for tool in request.tools
            ]
        if request.is_answer_forced:
            payload["tool_choice"] = _tool_choice(request, payload.get("tool_choice") or {})
        if (output := request.output) is not None:
            schema = {"type": "json_schema", "schema": dict(output.schema)}
            payload["output_config"] = {**payload.get("output_config", {}), "format": schema}
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
        answer = _Stream()
        for event in await read_body(response.http_response):
            answer.add(self._event(event, response.http_response))
        return with_retries(_completion(answer.whole(), self._origin, len(request.messages)), response)

    async def _collected(self, client: Any, request: Request) -> Completion:
        """Request an answer as a stream, and return it as a whole."""
        async with aclosing(self._stream(client, request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
        raise AssertionError("a stream ends with the completion, or raises")

    async def _stream(self, client: Any, request: Request) -> AsyncGenerator[Piece, None]:
        payload = {**self._payload(request), "stream": True}
        answer = _Stream(request.answer_tool)
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
        yield with_retries(_completion(answer.whole(), self._origin, len(request.messages)), response)

    def _event(self, event: dict[str, Any], response: Any) -> dict[str, Any]:
        """Return an event, or raise the error that it is."""
        if event.get("type") == "error" or event.get("error"):
            raise self._sdk.APIStatusError(str(event), response=response, body=event)
        return event


def _messages(messages: Any, origin: str) -> list[dict[str, Any]]:
    """Return all messages but the system's. Adjacent ones of one role become one, as the API requires for results."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, SystemMessage) or not (blocks := _blocks(message, origin)):
            continue
        role = "assistant" if isinstance(message, AssistantMessage) else "user"
        if found and found[-1]["role"] == role:
            found[-1]["content"] += blocks
        else:
            found.append({"role": role, "content": blocks})
    return found


def _blocks(message: Message, origin: str) -> list[dict[str, Any]]:
    if isinstance(message, ToolMessage):
        answer = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": _result(message)}
        return [answer | ({"is_error": True} if message.is_error else {})]
    if isinstance(message, AssistantMessage):
        return _assistant_blocks(message, origin)
    attachments = message.attachments if isinstance(message, UserMessage) else ()
    return [*_text_blocks(message.content), *map(_attachment_block, attachments)]


def _result(message: ToolMessage) -> str | list[dict[str, Any]]:
    if not message.attachments:
        return message.content
    return [*_text_blocks(message.content), *map(_attachment_block, message.attachments)]


def _attachment_block(attachment: Attachment) -> dict[str, Any]:
    media_type = attachment.media_type or ""
    source: dict[str, Any]
    if attachment.url is not None:
        source = {"type": "url", "url": attachment.url}
    elif is_textual(media_type):
        source = {"type": "text", "media_type": "text/plain", "data": attachment.data.decode("utf-8")}
    else:
        source = {"type": "base64", "media_type": media_type, "data": attachment.base64}
    is_titled = attachment.type == "document" and attachment.name is not None
    return {"type": attachment.type, "source": source, **({"title": attachment.name} if is_titled else {})}


def _text_blocks(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text.strip() else []  # the API refuses those without letters


def _assistant_blocks(message: AssistantMessage, origin: str) -> list[dict[str, Any]]:
    """Return the blocks of a message of the model: in their old order, if they came from this provider."""
    uses = list(map(_call, message.tool_calls))
    given = (message.extra or {}).get(origin, {}).get("content")
    if given is None:
        return _text_blocks(message.content) + uses
    blocks: list[dict[str, Any]] = []
    text, calls = message.content, iter(uses)
    is_same = len(text) == sum(block["length"] for block in given if block["type"] == "text")
    for block in given:
        if block["type"] == "tool_use":
            blocks += [use for use in [next(calls, None)] if use is not None]
        elif block["type"] == "text":
            length = block["length"] if is_same else len(text)
            others = {name: value for name, value in block.items() if name != "length"}
            blocks += [{**others, **each} for each in _text_blocks(text[:length])]
            text = text[length:]
        else:
            blocks.append(block)
    return blocks + _text_blocks(text) + list(calls)


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}


def _tool_choice(request: Request, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the choice that makes the model answer by its answer tool, or by calling another one before that."""
    if is_forced(given) and len(request.tools) > 1:  # without other tools, the choice cannot name one
        return dict(given)
    is_alone = len(request.tools) == 1 or given.get("type") == "none"
    return {**given, **({"type": "tool", "name": request.answer_tool} if is_alone else {"type": "any"})}


def _completion(message: Mapping[str, Any], origin: str, place: int) -> Completion:
    blocks = message.get("content") or ()
    uses = [block for block in blocks if block["type"] == "tool_use"]
    calls = [
        ToolCall(use.get("id") or f"call_{place}_{number}", use["name"], parse_arguments(use.get("input")))
        for number, use in enumerate(uses)
    ]
    text = "".join(block.get("text") or "" for block in blocks if block["type"] == "text")
    reasoning = "".join(block.get("thinking") or "" for block in blocks if block["type"] == "thinking")
    extra = _extra(blocks)
    return Completion(
        AssistantMessage(text, tuple(calls), reasoning=reasoning, extra={origin: extra} if extra else None),
        usage=_usage(message.get("usage")),
        model=message.get("model"),
        id=message.get("id"),
        finish_reason=message.get("stop_reason"),
        service_tier=special_tier((message.get("usage") or {}).get("service_tier")),
    )


def _extra(blocks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the blocks of an answer without what the message has of them: its text, and the tools that it asks for.

    Nothing, if they are but that: a text, and then the tools.
    """
    kept: list[dict[str, Any]] = []
    for block in blocks:
        said = {name: value for name, value in block.items() if value is not None}
        if isinstance(said.get("input"), str):  # it was streamed
            said["input"] = parse_arguments(said["input"])
        if block["type"] == "text":
            said["length"] = len(said.pop("text", ""))
        kept.append({"type": "tool_use"} if block["type"] == "tool_use" else said)
    kinds = [block["type"] for block in kept]
    is_plain = kinds == sorted(kinds) and {*kinds} <= {"text", "tool_use"}  # "text" comes before "tool_use"
    return {} if is_plain and all(block.keys() <= {"type", "length"} for block in kept) else {"content": kept}


_INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def _usage(usage: Mapping[str, Any] | None) -> Usage | None:
    """Return the tokens, including those that the provider's cache served, which it counts separately."""
    if not usage:
        return None
    return Usage(
        sum(usage.get(name) or 0 for name in _INPUT_COUNTS),
        usage.get("output_tokens") or 0,
        cache_read_tokens=usage.get("cache_read_input_tokens") or 0,
        cache_write_tokens=usage.get("cache_creation_input_tokens") or 0,
        cache_write_1h_tokens=(usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens") or 0,
        reasoning_tokens=(usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    )


@attrs.define
class _Stream:
    """Assembles a streamed answer from its events. A server that does not stream sends the message as a whole.

    Args:
        answer_tool: The tool whose arguments are the answer, if there is one.
    """

    _answer_tool: str | None = None
    _message: dict[str, Any] = attrs.field(factory=dict, init=False)
    _blocks: list[dict[str, Any]] = attrs.field(factory=list, init=False)
    _latest: dict[Any, dict[str, Any]] = attrs.field(factory=dict, init=False)  # the latest block of each index
    _has_begun: bool = attrs.field(default=False, init=False)

    def add(self, event: Mapping[str, Any]) -> Iterator[str | Reasoning | OutputDelta]:
        """Add an event, and return the text in it, and what the model thinks."""
        return iter([piece for piece in self._add(event) if piece])

    def _add(self, event: Mapping[str, Any]) -> Iterable[str | Reasoning | OutputDelta | None]:
        match event.get("type"):
            case "message_start":
                self._message, self._has_begun = {**event["message"], "content": []}, True
            case "content_block_start":
                block = dict(event["content_block"])
                block = block | {"input": ""} if "input" in block else block
                self._latest[event.get("index")] = block
                self._blocks.append(block)
                return [str(block.get("text") or "")]
            case "content_block_delta":
                return [self._grow(self._latest[event.get("index")], event["delta"])]
            case "message_delta":
                delta = event.get("delta") or {}
                self._message["stop_reason"] = delta.get("stop_reason") or self._message.get("stop_reason")
                counts = {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
                self._message["usage"] = {**(self._message.get("usage") or {}), **counts}
            case _ if isinstance(event.get("content"), list):
                self._message, self._has_begun = dict(event), True
                self._blocks = list(map(dict, event["content"]))
                return [piece for block in self._blocks for piece in _pieces(block)]
            case kind if kind != "ping" and not self._has_begun:
                self._message = dict(event)
        return []

    def _grow(self, block: dict[str, Any], delta: Mapping[str, Any]) -> str | Reasoning | OutputDelta | None:
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
                return str(delta["text"])
            case "input_json_delta":
                block["input"] += delta["partial_json"]
                answers = (each for each in self._blocks if each.get("name") == self._answer_tool)
                is_answer = self._answer_tool is not None and block is next(answers, None)
                return OutputDelta(delta["partial_json"]) if is_answer and delta["partial_json"] else None
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
                return Reasoning(delta["thinking"]) if delta["thinking"] else None
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        return None

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing: the server sent the reason for the end, or did not stream."""
        return bool(self._message) and (not self._has_begun or bool(self._message.get("stop_reason")))

    def whole(self) -> dict[str, Any]:
        """Return the answer as it would come as a whole, except that inputs of tools that were streamed are texts.

        Raises:
            LLMError: There was none among the events.
        """
        if not self._has_begun:
            raise not_an_answer(json.dumps(self._message))
        return {**self._message, "content": self._blocks}


def _pieces(block: Mapping[str, Any]) -> Iterable[str | Reasoning]:
    if block.get("type") == "thinking" and block.get("thinking"):
        return [Reasoning(block["thinking"])]
    return [str(block["text"])] if block.get("type") == "text" and block.get("text") else []
