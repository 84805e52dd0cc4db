"""Ask a model, both ways, and assert what holds for any answer."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import anyio

from railtracks.llm import AssistantMessage, Completion, Message, Model, OutputDelta, Reasoning, ToolCall, Usage

_Step = Callable[[], Awaitable[object]]


async def streamed(
    model: Model, messages: Sequence[Message], pieces: list[str | Reasoning | OutputDelta] | None = None, **options: Any
) -> Completion:
    """Return the completion at the end of a stream; put what comes before it into ``pieces``."""
    found: list[str | Reasoning | OutputDelta] = [] if pieces is None else pieces
    completion: Completion | None = None
    async with aclosing(open_stream(model, messages, **options)) as stream:
        async for piece in stream:
            assert completion is None, f"stream() yielded {piece!r} after the Completion, which must be the last"
            if isinstance(piece, Completion):
                completion = piece
            else:
                assert isinstance(piece, str | Reasoning | OutputDelta), (
                    f"stream() yielded {piece!r}; expected a str, an rt.llm.Reasoning, or an rt.llm.Completion"
                )
                found.append(piece)
    assert completion is not None, "stream() ended without a Completion; yield one at the end"
    assert_complete(completion, "stream() yielded")
    return completion


def open_stream(model: Model, messages: Sequence[Message], **options: Any) -> AsyncGenerator[Any, None]:
    """Return what ``stream()`` returns."""
    stream: Any = model.stream(messages, **options)
    if inspect.iscoroutine(stream):
        stream.close()  # otherwise Python warns that it was never awaited
    assert isinstance(stream, AsyncGenerator), "stream() must be an async generator; write `async def` and `yield`"
    return stream


async def whole(model: Model, messages: Sequence[Message], **options: Any) -> Completion:
    """Return what ``complete()`` returns."""
    completion = await model.complete(messages, **options)
    assert_complete(completion, "complete() returned")
    return completion


BOTH_WAYS = (whole, streamed)


def assert_complete(found: object, what: str) -> None:
    """Assert that this is a valid completion."""
    assert isinstance(found, Completion), f"{what} {found!r}; expected an rt.llm.Completion"
    message = found.message
    assert isinstance(message, AssistantMessage), f"{what} the message {message!r}; expected an AssistantMessage"
    assert isinstance(message.content, str), f"{what} the content {message.content!r}; expected a text"
    assert isinstance(found.usage, Usage | None), f"{what} the usage {found.usage!r}; expected rt.llm.Usage or None"
    for each in message.tool_calls:
        assert isinstance(each, ToolCall), f"{what} the tool call {each!r}; expected an rt.llm.ToolCall"
    ids = [each.id for each in message.tool_calls]
    is_each_its_own = all(ids) and len({*ids}) == len(ids)
    assert is_each_its_own, f"{what} tool calls with the identifiers {ids}; each needs its own"


async def error_of(func: _Step, what: str) -> Exception:
    """Return what ``func`` raises, and assert that it does. What an assertion raises is not the provider's."""
    try:
        found = await func()
    except AssertionError:
        raise
    except Exception as exc:
        return exc
    raise AssertionError(f"{what} returned {found!r}, although the provider failed; let its error through")


async def cancelled_when(func: _Step, when: _Step, what: str) -> None:
    """Call ``func``, cancel it when ``when`` has returned, and assert that it ends by that."""
    failed: list[Exception] = []
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            try:
                found = await func()
            except Exception as exc:
                failed.append(exc)
            else:
                failed.append(AssertionError(f"it returned {found!r}"))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await when()
        scope.cancel()
    assert scope.cancelled_caught, f"{what} was cancelled, and the cancellation did not come out: {failed!r}"


def assert_said(completion: Completion, text: str) -> None:
    """Assert that the text of an answer is what the provider has said."""
    said = completion.message.content
    assert said == text, f"the content is {said!r}; the provider has said {text!r}"


def assert_hidden(model: Model, error: Exception) -> None:
    """Assert that an error, with its traceback, does not show the key of the model."""
    text = "".join(traceback.format_exception(error))
    assert model.api_key is None or model.api_key.value not in text, "an error shows the key; take it out of the text"
