"""The format of OpenAI's chat completions, which most servers speak, some of them loosely."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from railtracks.exceptions import LLMError
from railtracks.llm._finish import REFUSAL
from railtracks.llm._messages import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from railtracks.llm._model import Completion, Reasoning, Usage
from railtracks.llm._providers._attachments import chat_parts
from railtracks.llm._providers._request import Request, is_forced

MAX_ANSWER_LENGTH = 500
"""Characters of an answer that an error shows."""
_REASONING = ("reasoning_content", "reasoning")
"""The fields of a message in which servers show what the model has thought."""
_COMMON = {"role", "content", "tool_calls", "refusal", "function_call", "audio", *_REASONING}
"""The fields of a message that are not the extras of a provider."""
_FROM_TOOL = "What the tool {message.name} has returned (call {message.tool_call_id}):"
_COMMON_OF_CALL = {"id", "type", "function", "index"}
_FIELD = "reasoning_field"
"""In the extras of a message: the field in which the provider wants its reasoning back."""


def to_chat(request: Request, model: str, settings: Mapping[str, Any], *, streams: bool, origin: str) -> dict[str, Any]:
    """Return the arguments of a request whose answer comes as a stream or as a whole.

    Args:
        request: The request.
        model: The provider's name of the model.
        settings: Sent with each request.
        streams: Whether the answer comes as a stream.
        origin: Whom the request goes to. The extras of messages are sent if they came from there.
    """
    payload: dict[str, Any] = {
        **request.settings(settings), "model": model, "messages": _messages(request.messages, origin),
    }  # fmt: skip
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
    if request.is_answer_forced:
        payload["tool_choice"] = _tool_choice(request, payload.get("tool_choice"))
    if (output := request.output) is not None:
        schema = {"name": output.name, "schema": dict(output.schema), "strict": request.is_strict}
        payload["response_format"] = {"type": "json_schema", "json_schema": schema}
    return payload


def _tool_choice(request: Request, given: Any) -> Any:
    """Return the choice that makes the model answer by its answer tool, or by calling another one before that."""
    if is_forced(given) and len(request.tools) > 1:  # without other tools, the choice cannot name one
        return given
    is_alone = len(request.tools) == 1 or given == "none"
    return {"type": "function", "function": {"name": request.answer_tool}} if is_alone else "required"


def _messages(messages: Sequence[Message], origin: str) -> list[dict[str, Any]]:
    """Return a conversation in the format.

    Messages of tools can hold only texts, so what is attached to them follows as a message of the user. It comes after
    the last of them, as the answers to the calls of one message must follow it without others in between.
    """
    turn = max((place for place, each in enumerate(messages) if isinstance(each, UserMessage)), default=-1)
    written: list[dict[str, Any]] = []
    attached: list[dict[str, Any]] = []
    for place, message in enumerate(messages):
        if attached and not isinstance(message, ToolMessage):
            written.append({"role": "user", "content": attached})
            attached = []
        written.append(_message(message, origin, place > turn))
        if isinstance(message, ToolMessage) and message.attachments:
            attached += chat_parts(_FROM_TOOL.format(message=message), message.attachments)
    return [*written, *([{"role": "user", "content": attached}] if attached else [])]


def _message(message: Message, origin: str, is_current: bool) -> dict[str, Any]:
    """Return a message in the format. ``is_current``: whether it came after the last message of the user.

    What the model thought is sent back in the current turn only. DeepSeek demands it there, and refuses or ignores it
    later (https://api-docs.deepseek.com/guides/thinking_mode).
    """
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if isinstance(message, UserMessage) and message.attachments:
        return {"role": "user", "content": chat_parts(message.content, message.attachments)}
    if not isinstance(message, AssistantMessage):
        return {"role": message.role, "content": message.content}
    extra = dict((message.extra or {}).get(origin, {}))
    field = extra.pop(_FIELD, None)
    if field is not None and is_current and message.reasoning:
        extra[field] = message.reasoning
    content = message.content or (None if message.tool_calls else "")
    written = {**extra, "role": "assistant", "content": content}
    if message.tool_calls:
        written["tool_calls"] = [_call(each, origin) for each in message.tool_calls]
    return written


def _call(call: ToolCall, origin: str) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    extra = (call.extra or {}).get(origin, {})
    return {**extra, "id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def from_chat(answer: Mapping[str, Any], origin: str, place: int) -> Completion:
    """Parse a whole answer. Servers may leave out the usage, the identifiers of calls, and the finish reason.

    Args:
        answer: The answer.
        origin: Whom it comes from.
        place: The number of the message in its conversation, for the identifiers of calls that the server left out.

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
        _parse_tool_call(call, f"call_{place}_{number}", origin)
        for number, call in enumerate(message.get("tool_calls") or ())
    ]
    text, finish_reason = _text(message.get("content")), choices[0].get("finish_reason")
    if message.get("content") is None and (refusal := message.get("refusal")):
        text, finish_reason = refusal, REFUSAL
    reasoning, field = _reasoning(message)
    extra = _extra(message, _COMMON) | ({_FIELD: field} if field else {})
    return Completion(
        AssistantMessage(text, tuple(calls), reasoning=reasoning, extra={origin: extra} if extra else None),
        usage=_usage(answer.get("usage")),
        model=answer.get("model"),
        id=answer.get("id"),
        finish_reason=finish_reason,
    )


def _reasoning(message: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the model has thought, and the field that it stands in."""
    for field in _REASONING:
        value = message.get(field)
        text = value.get("content") if isinstance(value, Mapping) else value
        if text and isinstance(text, str):
            return text, field
    return "", ""


def _extra(given: Mapping[str, Any], common: set[str]) -> dict[str, Any]:
    """Return the fields that have no place in common terms, without those that say nothing."""
    return {name: value for name, value in given.items() if name not in common and value not in (None, "", [], {})}


def _text(content: Any) -> str:
    """Return the text of a message, which some servers send as a list of parts."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return content or ""


def _parse_tool_call(call: Mapping[str, Any], identifier: str, origin: str) -> ToolCall:
    function, extra = call.get("function") or {}, _extra(call, _COMMON_OF_CALL)
    return ToolCall(
        call.get("id") or identifier,
        function.get("name") or "",
        parse_arguments(function.get("arguments")),
        extra={origin: extra} if extra else None,
    )


def parse_arguments(arguments: Any) -> dict[str, Any] | str:
    """Return the arguments of a call; the text itself if it is not a JSON object. An empty text stands for none."""
    if not arguments:
        return {}
    try:
        value = json.loads(arguments) if isinstance(arguments, str) else arguments
        value = json.loads(value) if isinstance(value, str) else value  # some models write the JSON of a text
    except ValueError:
        return str(arguments)
    return value if isinstance(value, dict) else str(arguments)


def _usage(usage: Mapping[str, Any] | None) -> Usage | None:
    """Return the tokens. Those of the cache are among ``prompt_tokens``."""
    if not usage:
        return None
    given, made = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    asked, answered = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    reasoning = answered.get("reasoning_tokens") or 0
    if reasoning and usage.get("total_tokens") == given + made + reasoning:  # xAI: they are not among the others
        made += reasoning
    return Usage(
        given,
        made,
        # DeepSeek: https://api-docs.deepseek.com/guides/kv_cache
        cache_read_tokens=asked.get("cached_tokens") or usage.get("prompt_cache_hit_tokens") or 0,
        cache_write_tokens=asked.get("cache_write_tokens") or 0,
        cache_write_1h_tokens=(asked.get("cache_creation_token_details") or {}).get("ephemeral_1h_input_tokens") or 0,
        input_audio_tokens=asked.get("audio_tokens") or 0,
        reasoning_tokens=reasoning,
    )


@attrs.define
class _PartialCall:
    """A tool call of which only a part has arrived."""

    id: str | None
    name: str = ""
    arguments: str = ""
    extra: dict[str, Any] = attrs.field(factory=dict)


@attrs.define
class ChatStream:
    """Assembles a streamed answer from its chunks.

    Args:
        origin: As for ``from_chat``.
        place: As for ``from_chat``.
    """

    _origin: str
    _place: int
    _text: list[str] = attrs.field(factory=list, init=False)
    _refusal: list[str] = attrs.field(factory=list, init=False)
    _reasoning: dict[str, list[str]] = attrs.field(factory=dict, init=False)
    _extra: dict[str, Any] = attrs.field(factory=dict, init=False)
    _calls: list[_PartialCall] = attrs.field(factory=list, init=False)
    _by_index: dict[Any, _PartialCall] = attrs.field(factory=dict, init=False)
    _head: dict[str, Any] = attrs.field(factory=dict, init=False)
    _finish_reason: str | None = attrs.field(default=None, init=False)

    def add(self, chunk: Mapping[str, Any]) -> Iterator[str | Reasoning]:
        """Add a chunk, and yield the text in it, and what the model thinks."""
        self._head.update({name: chunk[name] for name in ("id", "model", "usage") if chunk.get(name)})
        for choice in (chunk.get("choices") or ())[:1]:
            # A server that does not stream sends the message as a whole.
            delta = choice.get("delta") or choice.get("message") or {}
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            for call in delta.get("tool_calls") or ():
                self._add_call(call)
            self._refusal.append(delta.get("refusal") or "")
            _merge(self._extra, _extra(delta, _COMMON))
            thought, field = _reasoning(delta)
            if thought:
                self._reasoning.setdefault(field, []).append(thought)
                yield Reasoning(thought)
            if text := _text(delta.get("content")):
                self._text.append(text)
                yield text

    def _add_call(self, delta: Mapping[str, Any]) -> None:
        part = self._by_index.get(delta.get("index"))
        identifier, function = delta.get("id"), delta.get("function") or {}
        # Some servers do not number the calls, and some do not identify them: a name begins another call, then.
        is_other = part is not None and (
            identifier != part.id
            if identifier and part.id
            else bool(function.get("name") and part.arguments and parse_arguments(part.arguments) != part.arguments)
        )
        if part is None or is_other:
            part = self._by_index[delta.get("index")] = _PartialCall(identifier)
            self._calls.append(part)
        part.id = part.id or identifier
        part.name = function.get("name") or part.name
        part.arguments += function.get("arguments") or ""
        _merge(part.extra, _extra(delta, _COMMON_OF_CALL))

    @property
    def is_complete(self) -> bool:
        """Whether the server sent the finish reason."""
        return self._finish_reason is not None

    def completion(self) -> Completion:
        """Return the whole answer."""
        calls = [
            {**part.extra, "id": part.id, "function": {"name": part.name, "arguments": part.arguments}}
            for part in self._calls
        ]
        message = {
            **self._extra,
            **{field: "".join(pieces) for field, pieces in self._reasoning.items()},
            "content": "".join(self._text) or None,
            "refusal": "".join(self._refusal),
            "tool_calls": calls,
        }
        choice = {"message": message, "finish_reason": self._finish_reason}
        return from_chat({**self._head, "choices": [choice]}, self._origin, self._place)


def _merge(whole: dict[str, Any], piece: Mapping[str, Any]) -> None:
    """Add what a chunk has of the extras: lists grow, and their items with one ``index`` are one item."""
    for name, value in piece.items():
        known = whole.get(name)
        if isinstance(known, list) and isinstance(value, list):
            for item in value:
                _merge_item(known, item)
        elif isinstance(known, dict) and isinstance(value, dict):
            known.update(value)
        else:
            whole[name] = [*value] if isinstance(value, list) else value


def _merge_item(items: list[Any], item: Any) -> None:
    index = item.get("index") if isinstance(item, dict) else None
    last = items[-1] if items else None
    if (
        index is None
        or not isinstance(last, dict)
        or (last.get("index"), last.get("type")) != (index, item.get("type"))
    ):
        items.append(item)
        return
    for name, value in item.items():
        is_text = isinstance(value, str) and isinstance(last.get(name), str) and name in ("text", "summary", "data")
        last[name] = last[name] + value if is_text else value
