"""What a model reads of the results and the errors of tools."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, Protocol

from railtracks._identifiers import node_id, run_id
from railtracks._logging import SessionLog
from railtracks.agents._response import LLMResponse
from railtracks.exceptions import ConfigError, ContextError, ModelRetry, NodeCreationError
from railtracks.llm._attachments import Attachment
from railtracks.state import CallRecord
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._encoder import Encoder, encode_for_model

FOR_THE_DEVELOPER = (ConfigError, ContextError, NodeCreationError)
"""Errors that no model can do anything about: what a session lacks, or a mistake in the use of the library."""
_MISTAKES = (NameError, TypeError, AttributeError, ImportError, NotImplementedError)
"""Errors that mostly are mistakes in the code of a tool."""


class LoggedSession(Protocol):
    """The coordinator of a session, as far as this module needs it."""

    session_id: str
    log: SessionLog


def as_text(result: object) -> str:
    """Return a result as a model reads it: a text unchanged, anything else as JSON; for an agent, its content."""
    return as_message(result)[0]


def as_message(result: object) -> tuple[str, list[Attachment]]:
    """Return a result as a model reads it, and the attachments in it. In the text a note stands in place of each.

    A text stays as it is, and for an agent its content counts. A list in which there are attachments becomes lines,
    and everything else JSON.
    """
    content = result.content if isinstance(result, LLMResponse) else result
    if isinstance(content, str):
        return content, []
    found: list[Attachment] = []

    def note(value: object) -> object:
        if not isinstance(value, Attachment):
            return value
        found.append(value)
        return str(value)

    if isinstance(content, Attachment):
        return str(note(content)), found
    if isinstance(content, list | tuple) and any(isinstance(each, Attachment) for each in content):
        lines = [_json(each, note) if not isinstance(each, str | Attachment) else str(note(each)) for each in content]
        return "\n".join(lines), found
    return _json(content, note), found


def _json(content: object, note: Callable[[object], object]) -> str:
    return json.dumps(_readable(encode_for_model(content, note)), ensure_ascii=False)


def _readable(data: Any) -> Any:
    """Return encoded data without the marks that say which type a value had: for a model they are noise."""
    if isinstance(data, list):
        return [_readable(each) for each in data]
    if not isinstance(data, dict):
        return data
    if "$type" in data:
        for mark in ("$repr", "$base64", "$message"):
            if mark in data:
                return data[mark]
        if isinstance(items := data.get("$items"), list):
            return {_key(key): _readable(value) for key, value in items}
    return {name: _readable(value) for name, value in data.items()}


def _key(data: Any) -> str:
    return data if isinstance(data, str) else json.dumps(_readable(data), ensure_ascii=False)


def error_text(error: BaseException, redactor: Redactor) -> str:
    """Return what the model reads of an error of a tool.

    Encoded as for the record, without secrets: an error may contain more than its author intended, such as a URL with
    a password.

    Args:
        error: The error.
        redactor: The secrets that the session knows.
    """
    message = str(Encoder(redactor).encode_error(error)["$message"])
    return message if isinstance(error, ModelRetry) else f"{type(error).__name__}: {message}"


def log_mistake(session: LoggedSession, record: CallRecord, tool: str, agent: str, error: BaseException) -> None:
    """Log the traceback of an error that looks like a mistake in the code of a tool: the model alone reads it else.

    Args:
        session: The session.
        record: The call of the agent.
        tool: The name of the tool.
        agent: The name of the agent.
        error: The error.
    """
    if isinstance(error, _MISTAKES):
        session.log.log(
            logging.WARNING,
            "the tool %s of the agent %s raised what looks like a mistake in its code, and only the model reads it; "
            "tool_errors='raise' of the agent raises it",
            tool,
            agent,
            run_id=run_id(session.session_id, record.run),
            node_id=node_id(session.session_id, record.index),
            exc_info=error,
        )
