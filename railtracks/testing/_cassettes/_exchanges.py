"""Exchanges with a model as plain data: requests, answers, streams and errors, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib import import_module
from operator import attrgetter
from typing import Any

import attrs

from railtracks.llm import (
    AssistantMessage,
    Completion,
    Message,
    MessageHistory,
    OutputDelta,
    OutputSchema,
    Reasoning,
    ToolSchema,
    Usage,
)
from railtracks.testing._trace import stable_repr

Plain = dict[str, Any]
Part = str | Reasoning | OutputDelta
"""What a stream yields before its end."""


class CassetteError(AssertionError):
    """A request is not on a cassette, or a cassette cannot be replayed. The text says how they differ."""


@attrs.define
class Exchange:
    """A request and what came of it, without secrets.

    Args:
        number: Its place among the requests, counted from 1 in the order in which they began.
        request: The messages, the tools and the output schema.
        outcome: The pieces of a stream, and the completion or the error.
        is_used: Whether it was recorded or replayed by this cassette.
    """

    number: int
    request: Plain
    outcome: Plain
    is_used: bool = False


def plain_request(messages: Sequence[Message], tools: Sequence[ToolSchema], output: OutputSchema | None) -> Plain:
    """Return a request as plain data, without what does not reach the model.

    Raises:
        TypeError: A message holds what JSON cannot.
    """
    request: Plain = {"messages": _plain_messages(messages)}
    if tools:
        request["tools"] = [attrs.asdict(tool, recurse=False) for tool in tools]
    if output is not None:
        request["output"] = attrs.asdict(output, recurse=False)
    return as_json(request)


def as_json(data: Plain) -> Plain:
    """Return data as it is when it has been written to JSON and read again."""
    found: Plain = json.loads(json.dumps(data, default=stable_repr))
    return found


def _plain_messages(messages: Sequence[Message]) -> list[Plain]:
    found: list[Plain] = json.loads(MessageHistory(messages).to_json())
    for message in found:
        message.pop("inject_prompt", None)  # it has been filled by now, or is not to be filled
    return found


def messages_of(plain: Sequence[Plain]) -> MessageHistory:
    """Return the messages that ``plain_request`` has written."""
    return MessageHistory.from_json(json.dumps(plain))


def plain_outcome(pieces: Sequence[Part] | None, end: Completion | Exception) -> Plain:
    """Return what came of a request as plain data.

    Args:
        pieces: The pieces of a stream. None: it was no stream.
        end: The completion or the error.
    """
    found: Plain = {}
    if pieces is not None:
        found["pieces"] = list(map(_plain_piece, pieces))
    if isinstance(end, Completion):
        fields = {field.name: getattr(end, field.name) for field in attrs.fields(Completion)}
        fields["message"] = _plain_messages([end.message])[0]
        fields["cost"] = None if end.cost is None else str(end.cost)
        fields["usage"] = None if end.usage is None else end.usage.counts()
        found["completion"] = {name: value for name, value in fields.items() if value not in (None, 0, ())}
    else:
        found["error"] = _plain_error(end)
    return as_json(found)


def pieces_of(outcome: Plain) -> list[Part]:
    """Return the pieces of a stream. An answer that was no stream comes as a whole."""
    if (pieces := outcome.get("pieces")) is not None:
        return list(map(_piece, pieces))
    message: Plain = outcome.get("completion", {}).get("message", {})
    thoughts = [Reasoning(text) for text in [message.get("reasoning", "")] if text]
    return [*thoughts, *(text for text in [message.get("content", "")] if text)]


def _plain_piece(piece: Part) -> str | Plain:
    if isinstance(piece, str):
        return piece
    return {"reasoning" if isinstance(piece, Reasoning) else "output": piece.text}


def _piece(plain: str | Plain) -> Part:
    if isinstance(plain, str):
        return plain
    return Reasoning(plain["reasoning"]) if "reasoning" in plain else OutputDelta(plain["output"])


def end_of(outcome: Plain) -> Completion:
    """Return the completion.

    Raises:
        Exception: The error that was recorded in its place.
        CassetteError: Its class cannot be imported.
    """
    if (error := outcome.get("error")) is not None:
        raise _error(error)
    fields = dict(outcome["completion"])
    (message,) = messages_of([fields.pop("message")])
    assert isinstance(message, AssistantMessage)
    usage, cost, failed = fields.pop("usage", None), fields.pop("cost", None), tuple(fields.pop("failed", ()))
    return Completion(
        message,
        usage=None if usage is None else Usage(**usage),
        cost=None if cost is None else Decimal(cost),
        failed=failed,
        **fields,
    )


# ---- errors


def _plain_error(error: Exception) -> Plain:
    kind = type(error)
    found: Plain = {"type": f"{kind.__module__}:{kind.__qualname__}", "args": [*map(_plain_argument, error.args)]}
    attributes = {name: value for name, value in vars(error).items() if _is_plain(value)}
    return {**found, "attributes": attributes} if attributes else found


def _plain_argument(value: Any) -> Any:
    return value if _is_plain(value) else stable_repr(value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(part) for name, part in value.items())
    return value is None or type(value) in (str, int, float, bool)


def _error(plain: Mapping[str, Any]) -> Exception:
    """Return the error as far as it is plain data. Its class is not called, as it may need more, such as a response."""
    module, _, name = plain["type"].partition(":")
    try:
        kind = attrgetter(name)(import_module(module))
        error = kind.__new__(kind, *plain["args"])
        error.args = tuple(plain["args"])
        vars(error).update(plain.get("attributes", {}))
    except Exception as exc:
        error = exc
    if not isinstance(error, Exception) or type(error).__qualname__ != name:
        raise CassetteError(
            f"the recorded error {module}.{name} cannot be made here; install its package, and define its class at the "
            f"top level of a module"
        ) from error
    return error
