"""Anthropic's format of messages: conversations to requests, and events to answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from railtracks.llm._attachments import Attachment
from railtracks.llm._media_types import is_textual
from railtracks.llm._messages import AssistantMessage, Message, SystemMessage, ToolCall, ToolMessage, UserMessage
from railtracks.llm._model import Completion, OutputDelta, Reasoning, Usage
from railtracks.llm._providers._chat_format import parse_arguments, special_tier
from railtracks.llm._providers._request import Request, is_forced
from railtracks.llm._providers._sse import not_an_answer


def to_anthropic(request: Request, name: str, settings: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Write a request.

    Args:
        request: The request.
        name: The provider's name for the model.
        settings: Sent as they are.
        origin: Whom it goes to. What belongs to this provider in messages goes along.
    """
    payload = {
        **request.settings(settings),
        "model": name,
        "messages": _messages(request.messages, origin),
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
    return payload


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


def from_anthropic(message: Mapping[str, Any], origin: str, place: int) -> Completion:
    """Parse a whole answer.

    Args:
        message: The answer.
        origin: Whom it comes from.
        place: The number of the message in its conversation, for the identifiers of calls that the server left out.
    """
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
class AnthropicStream:
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
