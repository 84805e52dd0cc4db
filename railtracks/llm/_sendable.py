"""Conversations without the attachments that a model does not take.

What a user has attached is refused: the answer would be about something else. What a tool has returned is left out, as
the error of a tool would be: the model reads that it was, and may go on. So does a conversation that another model
began.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import attrs

from railtracks._context_variable import current
from railtracks.exceptions import LLMError
from railtracks.llm._attachments import Attachment
from railtracks.llm._messages import Message, ToolMessage, UserMessage

_CARRIERS = (UserMessage, ToolMessage)
"""What may have attachments."""


def sendable(
    messages: Sequence[Message], model: str, problem_of: Callable[[Attachment], str | None], warned: set[str]
) -> list[Message]:
    """Return a conversation in which the model takes all attachments.

    Args:
        messages: The conversation.
        model: The name of the model.
        problem_of: Returns why the model does not take an attachment; None if it does.
        warned: What was warned of already: one that is left out is logged once.

    Raises:
        LLMError: It does not take an attachment of a user's message.
    """
    if not any(isinstance(message, _CARRIERS) and message.attachments for message in messages):
        return list(messages)
    found: list[Message] = []
    for message in messages:
        if isinstance(message, UserMessage):
            _check(message, model, problem_of)
        elif isinstance(message, ToolMessage) and message.attachments:
            message = _shortened(message, model, problem_of, warned)
        found.append(message)
    return found


def _check(message: UserMessage, model: str, problem_of: Callable[[Attachment], str | None]) -> None:
    for each in message.attachments:
        if (problem := problem_of(each)) is not None:
            raise LLMError(f"the model {model} cannot be sent {each}: {problem}")


def _shortened(
    message: ToolMessage, model: str, problem_of: Callable[[Attachment], str | None], warned: set[str]
) -> ToolMessage:
    problems = [(each, problem) for each in message.attachments if (problem := problem_of(each)) is not None]
    if not problems:
        return message
    left_out = [each for each, _ in problems]
    notes = [f"{each} cannot be shown to you: {problem}" for each, problem in problems]
    for each, problem in problems:
        _warn(message, model, each, problem, warned)
    return attrs.evolve(
        message,
        content="\n".join([message.content, *notes]),
        attachments=[each for each in message.attachments if each not in left_out],
    )


def _warn(message: ToolMessage, model: str, attachment: Attachment, problem: str, warned: set[str]) -> None:
    text = f"the model {model} is not shown {attachment}, which the tool {message.name} has returned: {problem}"
    if text in warned:
        return
    warned.add(text)
    frame = current.get()
    log = logging.getLogger("RT").log if frame is None else frame.coordinator.log.log
    log(logging.WARNING, "%s", text)
