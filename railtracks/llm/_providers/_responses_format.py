"""The format of OpenAI's Responses API, in which a conversation is a list of items."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from railtracks.exceptions import LLMError
from railtracks.llm._attachments import Attachment
from railtracks.llm._finish import REFUSAL
from railtracks.llm._messages import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from railtracks.llm._model import Completion, OutputDelta, Reasoning, Usage
from railtracks.llm._providers._attachments import document_text, file_name
from railtracks.llm._providers._chat_format import MAX_ANSWER_LENGTH, parse_arguments, special_tier
from railtracks.llm._providers._request import Request, is_forced

_TEXTS = {"output_text": "text", "refusal": "refusal"}
"""The parts of a message, and the field that has the text of each."""
_PLAIN = {
    "message": {"type", "id", "role", "status", "content"},
    "output_text": {"type", "length", "annotations", "logprobs"},
    "function_call": {"type", "id", "status"},
}
"""What items have that says nothing which must go back."""
_FOR_THE_CLIENT = {
    "apply_patch_call", "computer_call", "custom_tool_call", "local_shell_call", "mcp_approval_request",
}  # fmt: skip
"""Items that wait for an answer which agents do not give."""
PARAGRAPH = "\n\n"
"""What stands between two parts of what a model has thought."""


def to_responses(request: Request, model: str, settings: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return the arguments of a request.

    Args:
        request: The request.
        model: The provider's name of the model.
        settings: Sent with each request. ``tools`` among them are those that the provider runs itself.
        origin: Whom the request goes to. The extras of messages are sent if they came from there.
    """
    hosted = list(settings.get("tools") or ())
    payload = {**(settings if hosted and not request.tools else request.settings(settings)), "model": model}
    payload["input"] = _items(request.messages, origin)
    if tools := hosted + list(map(_tool, request.tools)):
        payload["tools"] = tools
    if request.is_answer_forced:
        payload["tool_choice"] = _tool_choice(request, payload.get("tool_choice"), len(tools) == 1)
    if (output := request.output) is not None:
        schema = {"name": output.name, "schema": dict(output.schema), "strict": request.is_strict}
        payload["text"] = {**(payload.get("text") or {}), "format": {"type": "json_schema", **schema}}
    return payload


def _tool(tool: Any) -> dict[str, Any]:
    described = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", **described, "strict": False}  # by default it is true, and the schema is refused


def _tool_choice(request: Request, given: Any, is_alone: bool) -> Any:
    """Return the choice that makes the model answer by its answer tool, or by calling another one before that."""
    if is_forced(given) and not is_alone:
        return given
    is_alone = is_alone or given == "none"
    return {"type": "function", "name": request.answer_tool} if is_alone else "required"


def _items(messages: Iterable[Message], origin: str) -> list[dict[str, Any]]:
    """Return a conversation as items. No identifier of an item occurs twice, which the API refuses."""
    found: list[dict[str, Any]] = []
    used: set[str] = set()
    for message in messages:
        if isinstance(message, ToolMessage):
            content = _content(message.content, message.attachments)
            found.append({"type": "function_call_output", "call_id": message.tool_call_id, "output": content})
        elif isinstance(message, AssistantMessage):
            given = (message.extra or {}).get(origin, {}).get("items") or ()
            identifiers = {item["id"] for item in given if item.get("id")}
            is_repeated = bool(identifiers & used)
            used |= identifiers
            found += _plain_items(message) if is_repeated or not given else _given_items(message, given)
        else:
            attachments = message.attachments if isinstance(message, UserMessage) else ()
            found.append({"role": message.role, "content": _content(message.content, attachments)})
    return found


def _content(text: str, attachments: Sequence[Attachment]) -> str | list[dict[str, Any]]:
    if not attachments:
        return text
    return [*([{"type": "input_text", "text": text}] if text else []), *map(_attachment, attachments)]


def _attachment(attachment: Attachment) -> dict[str, Any]:
    if attachment.type == "image":
        return {"type": "input_image", "image_url": attachment.data_url, "detail": "auto"}
    if (text := document_text(attachment)) is not None:
        return {"type": "input_text", "text": text}
    if attachment.url is not None:
        return {"type": "input_file", "file_url": attachment.url}
    return {"type": "input_file", "filename": file_name(attachment), "file_data": attachment.data_url}


def _plain_items(message: AssistantMessage) -> list[dict[str, Any]]:
    text = [{"role": "assistant", "content": message.content}] if message.content else []
    return text + list(map(_call, message.tool_calls))


def _given_items(message: AssistantMessage, given: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the items that a message came as, with its text and its calls put back into them."""
    items: list[dict[str, Any]] = []
    text, calls = message.content, iter(message.tool_calls)
    lengths = [part.get("length", 0) for item in given for part in _parts(item)]
    is_same = len(text) == sum(lengths)
    for item in given:
        if item["type"] == "function_call":
            items += [{**item, **_call(call)} for call in [next(calls, None)] if call is not None]
        elif item["type"] == "message":
            parts = []
            for part in _parts(item):
                length = part.get("length", 0) if is_same else len(text)
                parts += _part(part, text[:length])
                text = text[length:] if "length" in part else text
            items += [{**item, "content": parts}] if parts else []
        else:
            items.append(dict(item))
    items += _plain_items(AssistantMessage(text, calls))
    while items and items[-1]["type"] == "reasoning":  # refused without what it led to
        items.pop()
    return items


def _part(part: Mapping[str, Any], text: str) -> list[dict[str, Any]]:
    """Return a part of a message with its text; nothing if it has none."""
    if "length" not in part:
        return [dict(part)]
    others = {name: value for name, value in part.items() if name != "length"}
    return [{**others, _TEXTS[part["type"]]: text}] if text else []


def _parts(item: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return (item.get("content") or ()) if item["type"] == "message" else ()


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments}


def from_responses(answer: Mapping[str, Any], origin: str, place: int) -> Completion:
    """Parse a whole answer.

    Args:
        answer: The answer.
        origin: Whom it comes from.
        place: The number of the message in its conversation, for the identifiers of calls that the server left out.

    Raises:
        LLMError: The answer has no items, or one that asks for what agents do not do.
    """
    items = answer.get("output")
    if items is None:
        raise LLMError(
            f"the answer has no 'output'; the server sent: {json.dumps(answer, default=str)[:MAX_ANSWER_LENGTH]}"
        )
    for item in items:
        if item["type"] in _FOR_THE_CLIENT:
            raise LLMError(
                f"the model asks for a {item['type']}, which agents do not answer; leave that tool out of the "
                f"settings, or have the provider run it (for the tool 'mcp': require_approval='never')"
            )
    calls = [item for item in items if item["type"] == "function_call"]
    parts = [part for item in items for part in _parts(item)]
    kind = next((kind for kind in _TEXTS if any(part["type"] == kind and part[_TEXTS[kind]] for part in parts)), "")
    extra = _extra(items, kind)
    message = AssistantMessage(
        "".join(part[_TEXTS[kind]] for part in parts if part["type"] == kind),
        [
            ToolCall(each.get("call_id") or f"call_{place}_{n}", each["name"], parse_arguments(each.get("arguments")))
            for n, each in enumerate(calls)
        ],
        reasoning=PARAGRAPH.join(text for item in items for text in _thoughts(item)),
        extra={origin: {"items": extra}} if extra else None,
    )
    return Completion(
        message,
        usage=_usage(answer.get("usage")),
        model=answer.get("model"),
        id=answer.get("id"),
        finish_reason=REFUSAL if kind == "refusal" else _finish_reason(answer),
        service_tier=special_tier(answer.get("service_tier")),
    )


def _finish_reason(answer: Mapping[str, Any]) -> str | None:
    return (answer.get("incomplete_details") or {}).get("reason") or answer.get("status")


def _thoughts(item: Mapping[str, Any]) -> list[str]:
    """Return the parts of what the model has thought: summaries of OpenAI, the full text of open models."""
    if item["type"] != "reasoning":
        return []
    return [part["text"] for part in (*(item.get("summary") or ()), *(item.get("content") or ())) if part.get("text")]


def _extra(items: Iterable[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the items of an answer without what the message has of them: its text, and the tools that it asks for.

    Nothing, if they are but that: a text, and then the tools.

    Args:
        items: The items.
        kind: The type of the parts that are the text of the message.
    """
    kept: list[dict[str, Any]] = []
    is_plain, has_calls = True, False
    for item in items:
        said = dict(item)
        if said["type"] == "function_call":
            has_calls = True
            said = {name: value for name, value in said.items() if name not in ("call_id", "name", "arguments")}
        elif said["type"] == "message":
            said["content"] = [_measured(part, kind) for part in _parts(item)]
            is_plain = is_plain and not has_calls and all(map(_is_plain, said["content"]))
        is_plain = is_plain and _is_plain(said)
        kept.append(said)
    return [] if is_plain else kept


def _measured(part: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if part["type"] != kind:
        return dict(part)
    field = _TEXTS[kind]
    return {**{name: value for name, value in part.items() if name != field}, "length": len(part[field])}


def _is_plain(said: Mapping[str, Any]) -> bool:
    """Return whether an item, or a part of a message, has nothing that must go back."""
    known = _PLAIN.get(said["type"])
    is_known = known is not None and all(name in known or value in (None, [], {}) for name, value in said.items())
    return is_known and not said.get("annotations")


def _usage(usage: Mapping[str, Any] | None) -> Usage | None:
    if not usage:
        return None
    asked, answered = usage.get("input_tokens_details") or {}, usage.get("output_tokens_details") or {}
    return Usage(
        usage.get("input_tokens") or 0,
        usage.get("output_tokens") or 0,
        cache_read_tokens=asked.get("cached_tokens") or 0,
        cache_write_tokens=asked.get("cache_write_tokens") or 0,
        input_audio_tokens=asked.get("audio_tokens") or 0,
        reasoning_tokens=answered.get("reasoning_tokens") or 0,
    )


_ENDS = ("response.completed", "response.incomplete", "response.failed")


@attrs.define
class ResponsesStream:
    """Assembles a streamed answer from its events.

    Args:
        answer_tool: The tool whose arguments are the answer, if there is one.

    Attributes:
        answer: The answer as it would come as a whole. None before the last event.
    """

    _answer_tool: str | None = None
    answer: dict[str, Any] | None = attrs.field(default=None, init=False)
    _answer_place: Any = attrs.field(default=None, init=False)  # of the first call of that tool
    _items: list[Any] = attrs.field(factory=list, init=False)
    _part: Any = attrs.field(default=None, init=False)  # of what the model thinks, as the last event has named it

    def add(self, event: Mapping[str, Any]) -> Iterator[str | Reasoning | OutputDelta]:
        """Add an event, and yield the text in it, or what the model thinks."""
        match event.get("type"):
            case "response.output_text.delta" if event.get("delta"):
                yield event["delta"]
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" if event.get("delta"):
                names = ("type", "item_id", "output_index", "summary_index", "content_index")
                part = [event.get(name) for name in names]
                if self._part not in (None, part):
                    yield Reasoning(PARAGRAPH)
                self._part = part
                yield Reasoning(event["delta"])
            case "response.output_item.added" if self._answer_place is None and self._answer_tool is not None:
                if event["item"].get("name") == self._answer_tool:
                    self._answer_place = event.get("output_index")
            case "response.function_call_arguments.delta" if event.get("delta"):
                if self._answer_place is not None and event.get("output_index") == self._answer_place:
                    yield OutputDelta(event["delta"])
            case "response.output_item.done":
                self._items.append(event["item"])
            case kind if kind in _ENDS:
                given = event["response"]
                self.answer = {**given, "output": given.get("output") or self._items}
            case None:  # a server that does not stream sends the answer as a whole
                self.answer = dict(event)
                items = event.get("output") or ()
                if thoughts := [text for item in items for text in _thoughts(item)]:
                    yield Reasoning(PARAGRAPH.join(thoughts))
                texts = (part.get("text") for item in items for part in _parts(item) if part["type"] == "output_text")
                if text := "".join(filter(None, texts)):
                    yield text
