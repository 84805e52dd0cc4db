"""Streamed answers in the format of OpenAI's chat completions, which many servers send in ways of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from railtracks.llm._model import Completion, OutputDelta, Reasoning
from railtracks.llm._providers._chat_format import (
    COMMON,
    COMMON_OF_CALL,
    extra_of,
    from_chat,
    parse_arguments,
    reasoning_of,
    text_of,
)


@attrs.define
class _PartialCall:
    """A tool call of which only a part has arrived."""

    id: str | None = None
    index: Any = None
    name: str = ""
    arguments: str = ""
    extra: dict[str, Any] = attrs.field(factory=dict)

    def add(self, delta: Mapping[str, Any]) -> None:
        """Add what a chunk has of the call."""
        function = delta.get("function") or {}
        arguments = function.get("arguments") or ""
        self.id = self.id or delta.get("id")
        self.name = self.name or function.get("name") or ""
        self.arguments += arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        _merge(self.extra, extra_of(delta, COMMON_OF_CALL))

    def is_continued_by(self, delta: Mapping[str, Any]) -> bool:
        """Return whether a chunk with the index of this call is about this call, and not about another one.

        Some servers give all calls one index, or none, and some give them no identifiers, or each chunk another one.
        A chunk without a name begins no call. A chunk with one does, unless it repeats the name of a call that has but
        a part of its arguments.
        """
        identifier, name = delta.get("id"), (delta.get("function") or {}).get("name")
        if not name or not self.name:
            return True
        if name != self.name or (identifier and self.id):
            return bool(name == self.name and identifier == self.id)
        is_whole = bool(self.arguments) and parse_arguments(self.arguments) != self.arguments
        return not is_whole


@attrs.define
class ChatStream:
    """Assembles a streamed answer from its chunks.

    Args:
        origin: As for ``from_chat``.
        place: As for ``from_chat``.
        answer_tool: The tool whose arguments are the answer, if there is one.
    """

    _origin: str
    _place: int
    _answer_tool: str | None = None
    _text: list[str] = attrs.field(factory=list, init=False)
    _refusal: list[str] = attrs.field(factory=list, init=False)
    _reasoning: dict[str, list[str]] = attrs.field(factory=dict, init=False)
    _extra: dict[str, Any] = attrs.field(factory=dict, init=False)
    _calls: list[_PartialCall] = attrs.field(factory=list, init=False)
    _head: dict[str, Any] = attrs.field(factory=dict, init=False)
    _finish_reason: str | None = attrs.field(default=None, init=False)
    _has_choices: bool = attrs.field(default=False, init=False)
    _whole: Mapping[str, Any] | None = attrs.field(default=None, init=False)

    def add(self, chunk: Mapping[str, Any]) -> Iterator[str | Reasoning | OutputDelta]:
        """Add a chunk, and yield the text in it, and what the model thinks.

        A server that does not stream sends a whole answer, or what is not an answer; either is taken for the end.
        """
        self._head.update({name: chunk[name] for name in ("id", "model", "usage", "service_tier") if chunk.get(name)})
        if "choices" not in chunk:
            self._whole = self._whole or chunk
        for choice in (chunk.get("choices") or ())[:1]:
            self._has_choices = True
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            delta = choice.get("delta") or {}
            if message := choice.get("message"):
                self._whole = chunk
            else:
                yield from self._add_delta(delta)
            thought, field = reasoning_of(message or delta)
            if thought:
                self._reasoning.setdefault(field, []).append(thought)
                yield Reasoning(thought)
            if text := text_of((message or delta).get("content")):
                self._text.append(text)
                yield text

    def _add_delta(self, delta: Mapping[str, Any]) -> Iterator[OutputDelta]:
        for call in delta.get("tool_calls") or ():
            part = self._find_call(call)
            before = len(part.arguments)
            part.add(call)
            answers = (each for each in self._calls if each.name == self._answer_tool)
            if part is next(answers, None) and part.arguments[before:]:
                yield OutputDelta(part.arguments[before:])
        self._refusal.append(delta.get("refusal") or "")
        _merge(self._extra, extra_of(delta, COMMON))

    def _find_call(self, delta: Mapping[str, Any]) -> _PartialCall:
        """Return the call that a chunk is about: one that has begun, or a new one."""
        index, identifier = delta.get("index"), delta.get("id")
        latest_first = [call for call in reversed(self._calls) if call.index == index]
        same = (call for call in latest_first if identifier and call.id == identifier)
        found = next((call for call in same if call.is_continued_by(delta)), None)
        if found is None and latest_first and latest_first[0].is_continued_by(delta):
            found = latest_first[0]
        if found is None:
            found = _PartialCall(index=index)
            self._calls.append(found)
        return found

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing: the server sent the finish reason, or did not stream."""
        return self._finish_reason is not None or self._is_whole

    @property
    def _is_whole(self) -> bool:
        return self._whole is not None and (not self._has_choices or bool(self._whole.get("choices")))

    def completion(self) -> Completion:
        """Return the whole answer.

        Raises:
            LLMError: There was none in the chunks.
        """
        if self._is_whole or not self._has_choices:
            return from_chat(self._whole or self._head, self._origin, self._place)
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
