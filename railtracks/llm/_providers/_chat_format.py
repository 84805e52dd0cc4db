"""The format of OpenAI's chat completions, which most servers speak, some of them loosely."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from railtracks.exceptions import LLMError
from railtracks.llm._messages import AssistantMessage, Message, ToolCall, ToolMessage
from railtracks.llm._model import Completion, Usage
from railtracks.llm._providers._sdk import Request

MAX_ANSWER_LENGTH = 500
"""Characters of an answer that an error shows."""


def to_chat(request: Request, model: str, settings: Mapping[str, Any], *, streams: bool) -> dict[str, Any]:
    """Return the arguments of a request whose answer comes as a stream or as a whole."""
    payload: dict[str, Any] = {**settings, "model": model, "messages": list(map(_message, request.messages))}
    if streams:
        payload = {"stream_options": {"include_usage": True}, **payload, "stream": True}
    else:
        payload.pop("stream_options", None)  # servers refuse it for an answer that is not a stream
    if request.tools:
        payload["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": dict(tool.parameters),
                },
            }
            for tool in request.tools
        ]
    if (output := request.output) is not None:
        schema = {"name": output.name, "schema": dict(output.schema), "strict": _is_strict(output.schema)}
        payload["response_format"] = {"type": "json_schema", "json_schema": schema}
    return payload


_STRICT_KEYWORDS = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs",
    "description", "title",
}  # fmt: skip
"""The keywords of schemas that OpenAI enforces. With any others a schema is only a hint for the model."""


def _is_strict(schema: Any) -> bool:
    """Return whether all properties of all objects are required, no others are allowed, and everything has a type."""
    if not isinstance(schema, Mapping) or not schema or not schema.keys() <= _STRICT_KEYWORDS:
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
    """Parse a whole answer. Servers may leave out the usage, the identifiers of calls, and the finish reason.

    Raises:
        LLMError: The answer is empty.
    """
    choices = answer.get("choices")
    if not choices:
        raise LLMError(
            f"the answer has no 'choices'; the server sent: {json.dumps(answer, default=str)[:MAX_ANSWER_LENGTH]}"
        )
    message = choices[0].get("message") or {}
    calls = [
        _parse_tool_call(number, call.get("id"), call.get("function") or {})
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
    """Return the text of a message, which some servers send as a list of parts."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return content or ""


def _parse_tool_call(number: int, identifier: str | None, function: Mapping[str, Any]) -> ToolCall:
    return ToolCall(
        identifier or f"call_{number}", function.get("name") or "", parse_arguments(function.get("arguments"))
    )


def parse_arguments(arguments: Any) -> dict[str, Any] | str:
    """Return the arguments of a call; the text itself if it is not a JSON object. An empty text stands for none."""
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
class _PartialCall:
    """A tool call of which only a part has arrived."""

    id: str | None
    name: str = ""
    arguments: str = ""


@attrs.define
class ChatStream:
    """Assembles a streamed answer from its chunks."""

    _text: list[str] = attrs.field(factory=list, init=False)
    _refusal: list[str] = attrs.field(factory=list, init=False)
    _calls: list[_PartialCall] = attrs.field(factory=list, init=False)
    _by_index: dict[Any, _PartialCall] = attrs.field(factory=dict, init=False)
    _head: dict[str, Any] = attrs.field(factory=dict, init=False)
    _finish_reason: str | None = attrs.field(default=None, init=False)

    def add(self, chunk: Mapping[str, Any]) -> Iterator[str]:
        """Add a chunk, and yield the text in it."""
        self._head.update({name: chunk[name] for name in ("id", "model", "usage") if chunk.get(name)})
        for choice in (chunk.get("choices") or ())[:1]:
            delta = choice.get("delta") or {}
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            for call in delta.get("tool_calls") or ():
                self._add_call(call)
            self._refusal.append(delta.get("refusal") or "")
            if text := _text(delta.get("content")):
                self._text.append(text)
                yield text

    def _add_call(self, delta: Mapping[str, Any]) -> None:
        part = self._by_index.get(delta.get("index"))
        identifier = delta.get("id")
        if part is None or (identifier and part.id and identifier != part.id):  # some servers do not number the calls
            part = self._by_index[delta.get("index")] = _PartialCall(identifier)
            self._calls.append(part)
        function = delta.get("function") or {}
        part.id = part.id or identifier
        part.name = function.get("name") or part.name
        part.arguments += function.get("arguments") or ""

    @property
    def is_complete(self) -> bool:
        """Whether the server sent the finish reason."""
        return self._finish_reason is not None

    def completion(self) -> Completion:
        """Return the whole answer."""
        calls = [{"id": part.id, "function": {"name": part.name, "arguments": part.arguments}} for part in self._calls]
        message = {
            "content": "".join(self._text) or None,
            "refusal": "".join(self._refusal),
            "tool_calls": calls,
        }
        return from_chat({**self._head, "choices": [{"message": message, "finish_reason": self._finish_reason}]})
