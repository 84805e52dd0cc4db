"""OpenAI's chat completions: the form of requests and answers that most servers speak, some of them loosely."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from railtracks.exceptions import LLMError
from railtracks.llm._messages import AssistantMessage, Message, ToolCall, ToolMessage
from railtracks.llm._model import Completion, Usage
from railtracks.llm._providers._sdk import Request

SHOWN = 500
"""Characters of an answer that an error shows."""


def to_chat(asked: Request, model: str, settings: Mapping[str, Any], *, streams: bool) -> dict[str, Any]:
    """A request, whose answer comes as a stream or as a whole."""
    request: dict[str, Any] = {**settings, "model": model, "messages": list(map(_message, asked.messages))}
    if streams:
        request = {"stream_options": {"include_usage": True}, **request, "stream": True}
    else:
        request.pop("stream_options", None)  # servers refuse it with an answer that is no stream
    if asked.tools:
        request["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                },
            }
            for tool in asked.tools
        ]
    if (output := asked.output) is not None:
        schema = {"name": output.name, "schema": dict(output.schema), "strict": _is_strict(output.schema)}
        request["response_format"] = {"type": "json_schema", "json_schema": schema}
    return request


_STRICT = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs",
    "description", "title",
}  # fmt: skip
"""What a schema may say to which OpenAI holds a model exactly. To others the model only tries to keep."""


def _is_strict(schema: Any) -> bool:
    """All properties of all objects are required, there are no others, and everything has a type."""
    if not isinstance(schema, Mapping) or not schema or not schema.keys() <= _STRICT:
        return False
    named = schema.get("properties", {})
    if schema.get("type") == "object" and (
        schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(named)
    ):
        return False
    items = [schema["items"]] if "items" in schema else []
    parts = [*named.values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ()), *items]
    return all(map(_is_strict, parts))


def _message(message: Message) -> dict[str, Any]:
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if isinstance(message, AssistantMessage) and message.tool_calls:
        calls = list(map(_call, message.tool_calls))
        return {"role": "assistant", "content": message.content or None, "tool_calls": calls}
    return {"role": message.role, "content": message.content}


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def from_chat(answer: Mapping[str, Any]) -> Completion:
    """The answer as a whole. Servers may leave out the usage, the ids of calls, and why it ended.

    Raises:
        LLMError: there is nothing in it.
    """
    choices = answer.get("choices")
    if not choices:
        raise LLMError(f"the answer has no 'choices'; the server said: {json.dumps(answer, default=str)[:SHOWN]}")
    message = choices[0].get("message") or {}
    calls = [
        _made(number, call.get("id"), call.get("function") or {})
        for number, call in enumerate(message.get("tool_calls") or ())
    ]
    text = _text(message.get("content"))
    if message.get("content") is None:
        text = message.get("refusal") or ""
    return Completion(
        AssistantMessage(text, tuple(calls)),
        usage=_usage(answer.get("usage")),
        model=answer.get("model"),
        id=answer.get("id"),
        finish_reason=choices[0].get("finish_reason"),
    )


def _text(content: Any) -> str:
    """Some servers answer in parts."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return content or ""


def _made(number: int, identifier: str | None, function: Mapping[str, Any]) -> ToolCall:
    return ToolCall(identifier or f"call_{number}", function.get("name") or "", parsed(function.get("arguments")))


def parsed(arguments: Any) -> dict[str, Any] | str:
    """The arguments of a call; as they came, where they are no JSON object. No text at all means none."""
    if not arguments:
        return {}
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return str(arguments)
    return value if isinstance(value, dict) else str(arguments)


def _usage(usage: Mapping[str, Any] | None) -> Usage | None:
    if not usage:
        return None
    return Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)


@attrs.define
class _Part:
    """A tool call that is coming in."""

    id: str | None
    name: str = ""
    arguments: str = ""


@attrs.define
class ChatStream:
    """Puts the chunks of a streamed answer together."""

    _text: list[str] = attrs.field(factory=list, init=False)
    _refusal: list[str] = attrs.field(factory=list, init=False)
    _calls: list[_Part] = attrs.field(factory=list, init=False)
    _by_index: dict[Any, _Part] = attrs.field(factory=dict, init=False)
    _head: dict[str, Any] = attrs.field(factory=dict, init=False)
    _finish: str | None = attrs.field(default=None, init=False)

    def add(self, chunk: Mapping[str, Any]) -> Iterator[str]:
        """Yield the text in it."""
        self._head.update({name: chunk[name] for name in ("id", "model", "usage") if chunk.get(name)})
        for choice in (chunk.get("choices") or ())[:1]:
            delta = choice.get("delta") or {}
            self._finish = choice.get("finish_reason") or self._finish
            for call in delta.get("tool_calls") or ():
                self._add_call(call)
            self._refusal.append(delta.get("refusal") or "")
            if text := _text(delta.get("content")):
                self._text.append(text)
                yield text

    def _add_call(self, delta: Mapping[str, Any]) -> None:
        part = self._by_index.get(delta.get("index"))
        identifier = delta.get("id")
        if part is None or (identifier and part.id and identifier != part.id):  # servers exist that count none
            part = self._by_index[delta.get("index")] = _Part(identifier)
            self._calls.append(part)
        function = delta.get("function") or {}
        part.id = part.id or identifier
        part.name = function.get("name") or part.name
        part.arguments += function.get("arguments") or ""

    @property
    def is_complete(self) -> bool:
        """Did the server say why the answer ended?"""
        return self._finish is not None

    def completion(self) -> Completion:
        calls = [{"id": part.id, "function": {"name": part.name, "arguments": part.arguments}} for part in self._calls]
        message = {
            "content": "".join(self._text) or None,
            "refusal": "".join(self._refusal),
            "tool_calls": calls,
        }
        return from_chat({**self._head, "choices": [{"message": message, "finish_reason": self._finish}]})
