"""Models behind Anthropic's SDK."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar

import attrs

from railtracks._schema._json_schema import map_parts
from railtracks.llm._messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage
from railtracks.llm._model import Completion, OutputSchema, Usage
from railtracks.llm._providers._chat_format import parsed
from railtracks.llm._providers._sdk import HTTPModel, Request
from railtracks.llm._providers._sse import BROKEN_OFF, Events


class Anthropic(HTTPModel):
    """A model that the ``anthropic`` package reaches. Needs the extra: ``pip install '.[anthropic]'`` in a checkout.

    Each session has one client, which its calls share, and closes it; a call outside of sessions has one of its own.
    What the model thinks aloud is not part of its messages; with ``thinking`` switched on its tools cannot be used.

    Args:
        model: As the provider names it.
        api_key: Else ``ANTHROPIC_API_KEY`` of the environment (``ANTHROPIC_AUTH_TOKEN`` is not read). Servers
            that ask for none take any, such as "none".
        base_url: Of another server that speaks this format.
        timeout: Seconds that a request may take. None: the SDK's default.
        max_retries: How often the SDK repeats a request that failed for the moment. None: its default.
        default_headers: Sent with every request.
        settings: Go to every request, as ``client.messages.create`` takes them: ``stop_sequences``, ``thinking``, ...;
            ``max_tokens``, that an answer may have, is 4096 if it is not given.

    Raises:
        ConfigError: the package is not installed, there is no key, or a setting is not to be set here.
    """

    _package = "anthropic"
    _client = "AsyncAnthropic"
    _create = "resources.messages.AsyncMessages.create"
    _reserved: ClassVar = {"system": "write SystemMessage(...) among the messages"}
    _defaults: ClassVar = {"max_tokens": 4096}

    def _request(self, asked: Request) -> dict[str, Any]:
        request = {**self._settings, "model": self._name, "messages": _messages(asked.messages)}
        if system := [said.content for said in asked.messages if isinstance(said, SystemMessage)]:
            request["system"] = "\n\n".join(system)
        if asked.tools:
            request["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
                for tool in asked.tools
            ]
        if (output := asked.output) is not None:
            request["output_config"] = {**request.get("output_config", {}), "format": _format(output)}
        return request

    async def _complete(self, client: Any, asked: Request) -> Completion:
        answer = await client.messages.create(**self._request(asked))
        return _completion(answer.model_dump(warnings=False))

    async def _stream(self, client: Any, asked: Request) -> AsyncGenerator[str | Completion, None]:
        request = {**self._request(asked), "stream": True}
        whole = _Stream()
        async with (
            client.messages.with_streaming_response.create(**request) as response,
            aclosing(Events(response.http_response, self._sdk)) as events,
        ):
            async for data in events:
                event = json.loads(data)
                if event.get("type") == "error":
                    raise self._sdk.APIStatusError(str(event), response=response.http_response, body=event)
                if event.get("type") == "message_stop":
                    await events.finish()
                    break
                if text := whole.add(event):
                    yield text
            else:
                raise self._sdk.APIConnectionError(message=BROKEN_OFF, request=response.http_response.request)
        yield _completion(whole.message)


def _messages(messages: Any) -> list[dict[str, Any]]:
    """All but the system's. Neighbours of one role become one message, as the answers to several calls have to."""
    found: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, SystemMessage) or not (blocks := _blocks(message)):
            continue
        role = "assistant" if isinstance(message, AssistantMessage) else "user"
        if found and found[-1]["role"] == role:
            found[-1]["content"] += blocks
        else:
            found.append({"role": role, "content": blocks})
    return found


def _blocks(message: Message) -> list[dict[str, Any]]:
    if isinstance(message, ToolMessage):
        answer = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.content}
        return [answer | ({"is_error": True} if message.is_error else {})]
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content else []
    if isinstance(message, AssistantMessage):
        blocks += map(_call, message.tool_calls)
    return blocks


def _call(call: ToolCall) -> dict[str, Any]:
    """Arguments that are no JSON object have to become one."""
    arguments = {"malformed": call.arguments} if isinstance(call.arguments, str) else call.arguments
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments}


def _format(output: OutputSchema) -> dict[str, Any]:
    return {"type": "json_schema", "schema": _closed(output.schema)}


def _closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema, where every object says that it has no more properties than those: the provider insists."""
    closed = map_parts(dict(schema), _closed)
    if "$defs" in closed:
        closed["$defs"] = {name: _closed(each) for name, each in closed["$defs"].items()}
    if closed.get("type") == "object" and closed.get("additionalProperties", True) is True:
        closed["additionalProperties"] = False
    return closed


def _completion(message: Mapping[str, Any]) -> Completion:
    blocks = message.get("content") or ()
    uses = [block for block in blocks if block["type"] == "tool_use"]
    calls = [
        ToolCall(use.get("id") or f"call_{number}", use["name"], parsed(use.get("input")))
        for number, use in enumerate(uses)
    ]
    text = "".join(block.get("text") or "" for block in blocks if block["type"] == "text")
    return Completion(
        AssistantMessage(text, tuple(calls)),
        usage=_usage(message.get("usage")),
        model=message.get("model"),
        id=message.get("id"),
        finish_reason=message.get("stop_reason"),
    )


_INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def _usage(usage: Mapping[str, Any] | None) -> Usage | None:
    """Tokens that went through the provider's cache are counted apart there."""
    if not usage:
        return None
    return Usage(sum(usage.get(name) or 0 for name in _INPUT), usage.get("output_tokens") or 0)


@attrs.define
class _Stream:
    """Puts the events of a streamed answer together."""

    message: dict[str, Any] = attrs.field(factory=lambda: {"content": []}, init=False)
    """As it would have come in one piece, but that the input of tools is text."""

    def add(self, event: Mapping[str, Any]) -> str:
        """The text in it, or none."""
        match event.get("type"):
            case "message_start":
                self.message = {**event["message"], "content": []}
            case "content_block_start":
                block = dict(event["content_block"])
                self.message["content"].append(block | {"input": ""} if "input" in block else block)
                return str(block.get("text") or "")
            case "content_block_delta":
                return self._grow(self.message["content"][-1], event["delta"])
            case "message_delta":
                self.message["stop_reason"] = event["delta"].get("stop_reason")
                said = {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
                self.message["usage"] = {**(self.message.get("usage") or {}), **said}
        return ""

    @staticmethod
    def _grow(block: dict[str, Any], delta: Mapping[str, Any]) -> str:
        if delta["type"] == "text_delta":
            block["text"] += delta["text"]
            return str(delta["text"])
        if delta["type"] == "input_json_delta":
            block["input"] += delta["partial_json"]
        return ""
