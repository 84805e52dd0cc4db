"""The format of OpenAI's chat completions, which most servers speak, some of them loosely."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from railtracks.exceptions import LLMError
from railtracks.llm._finish import REFUSAL
from railtracks.llm._messages import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from railtracks.llm._model import Completion, Usage
from railtracks.llm._providers._attachments import chat_parts
from railtracks.llm._providers._request import Request, is_forced

MAX_ANSWER_LENGTH = 500
"""Characters of an answer that an error shows."""
_REASONING = ("reasoning_content", "reasoning")
"""The fields of a message in which servers show what the model has thought."""
COMMON = {"role", "content", "tool_calls", "refusal", "function_call", "audio", *_REASONING}
"""The fields of a message that are not the extras of a provider."""
_FROM_TOOL = "What the tool {message.name} has returned (call {message.tool_call_id}):"
COMMON_OF_CALL = {"id", "type", "function", "index"}
_DEMANDING = "deepseek"
"""In the origin of a provider that refuses calls of tools without what the model thought."""
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

    Messages of tools can hold only texts, so what is attached to them follows in a message of the user: never between
    the answers to the calls of one message, and together with what the user says then, as many servers want roles to
    alternate.
    """
    written: list[dict[str, Any]] = []
    attached: list[dict[str, Any]] = []
    for message, wants_reasoning in zip(messages, _wants_reasoning(messages), strict=True):
        if attached and isinstance(message, UserMessage):
            attached += chat_parts(message.content, message.attachments)
            continue
        if attached and not isinstance(message, ToolMessage):
            written.append({"role": "user", "content": attached})
            attached = []
        written.append(_message(message, origin, wants_reasoning))
        if isinstance(message, ToolMessage) and message.attachments:
            attached += chat_parts(_FROM_TOOL.format(message=message), message.attachments)
    return [*written, *([{"role": "user", "content": attached}] if attached else [])]


def _wants_reasoning(messages: Sequence[Message]) -> list[bool]:
    """Return of each message whether what the model thought goes back with it: in the current turn, and where it calls.

    DeepSeek demands it in all turns in which tools were called, and ignores it in the others, where it would only be
    paid for (https://api-docs.deepseek.com/guides/thinking_mode).
    """
    found: list[bool] = []
    wants = True  # the current turn is the last one
    turn = 0
    for message in reversed(messages):
        turn += 1
        wants = wants or isinstance(message, ToolMessage)
        if isinstance(message, UserMessage):
            found += [wants] * turn
            wants, turn = False, 0
    return [*found, *[wants] * turn][::-1]


def _message(message: Message, origin: str, wants_reasoning: bool) -> dict[str, Any]:
    """Return a message in the format. ``wants_reasoning``: whether what the model thought goes back with it."""
    if isinstance(message, ToolMessage):
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    if isinstance(message, UserMessage) and message.attachments:
        return {"role": "user", "content": chat_parts(message.content, message.attachments)}
    if not isinstance(message, AssistantMessage):
        return {"role": message.role, "content": message.content}
    extra = dict((message.extra or {}).get(origin, {}))
    field = extra.pop(_FIELD, None)
    if wants_reasoning and field is not None:
        extra[field] = message.reasoning
    elif wants_reasoning and message.tool_calls and _DEMANDING in origin:
        extra.setdefault(_REASONING[0], "")  # also where it did not think, or another model was asked
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
    text, finish_reason = text_of(message.get("content")), choices[0].get("finish_reason")
    if message.get("content") is None and (refusal := message.get("refusal")):
        text, finish_reason = refusal, REFUSAL
    reasoning, field = reasoning_of(message)
    extra = extra_of(message, COMMON) | ({_FIELD: field} if field else {})
    return Completion(
        AssistantMessage(text, tuple(calls), reasoning=reasoning, extra={origin: extra} if extra else None),
        usage=_usage(answer.get("usage")),
        model=answer.get("model"),
        id=answer.get("id"),
        finish_reason=finish_reason,
        service_tier=special_tier(answer.get("service_tier")),
    )


def special_tier(tier: object) -> str | None:
    """Return the tier that an answer names; None for the ordinary one."""
    return tier if isinstance(tier, str) and tier not in ("auto", "default", "standard") else None


def reasoning_of(message: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the model has thought, and the field that it stands in."""
    for field in _REASONING:
        value = message.get(field)
        text = value.get("content") if isinstance(value, Mapping) else value
        if text and isinstance(text, str):
            return text, field
    return "", ""


def extra_of(given: Mapping[str, Any], common: set[str]) -> dict[str, Any]:
    """Return the fields that have no place in common terms, without those that say nothing."""
    return {name: value for name, value in given.items() if name not in common and value not in (None, "", [], {})}


def text_of(content: Any) -> str:
    """Return the text of a message, which some servers send as a list of parts."""
    if isinstance(content, Sequence) and not isinstance(content, str):
        return "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    return content or ""


def _parse_tool_call(call: Mapping[str, Any], identifier: str, origin: str) -> ToolCall:
    function, extra = call.get("function") or {}, extra_of(call, COMMON_OF_CALL)
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
