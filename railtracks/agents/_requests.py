"""The requests of an agent to its model, as one answer or as a stream."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeGuard

from railtracks._context_variable import current
from railtracks.agents import _attributes as attributes
from railtracks.agents._partials import Partials
from railtracks.agents._response import Chunk, chunks_of_answer
from railtracks.agents._sink import Gate, reachable_sink
from railtracks.agents._spec import AgentSpec
from railtracks.exceptions import LLMError, NodeInvocationError
from railtracks.execution import Frame
from railtracks.execution._streams import note_streamed
from railtracks.llm._attachments import Attachment
from railtracks.llm._messages import AssistantMessage, Message, SystemMessage, ToolCall
from railtracks.llm._model import Completion, OutputDelta, Reasoning, Usage, attachment_types_of
from railtracks.llm._output import Asked, ask_in
from railtracks.llm._prices import with_cost
from railtracks.llm._sendable import sendable
from railtracks.state import CallRecord

CHAT_ATTRIBUTE = '"gen_ai.operation.name": "chat"'
"""What marks the call of a request, in the text of its attributes."""


class Requests:
    """The requests of one run of an agent.

    Args:
        agent: The agent.
        system: Its system message, with what was filled in.
        frame: The frame of its call.

    Attributes:
        has_streamed: Whether a piece of the current answer was sent to the consumer of the stream.
        consumer: That consumer. None if nothing is streamed.
        gate: On the way to it; None if nothing is streamed.
    """

    def __init__(self, agent: AgentSpec, system: SystemMessage | None, frame: Frame) -> None:
        assert frame.record is not None
        self._agent, self._system = agent, system
        self._frame, self._record, self._coordinator = frame, frame.record, frame.coordinator
        self.consumer = consumer = reachable_sink()
        on_sent = functools.partial(note_streamed, self._coordinator, self._record)
        self.gate = None if consumer is None else Gate(consumer, on_sent)
        self._not_shown: set[str] = set()  # attachments that it was warned of
        self.has_streamed = False

    async def make(self, history: Sequence[Message]) -> Completion:
        """Request one answer to a conversation, in the current call, and record what is known of it.

        Raises:
            LLMError: The model returned no ``Completion``.
            Exception: What the model raises, unchanged, or a history processor.

        Cancellation: Cancels the request.
        """
        agent, record = self._agent, current.get().record
        own = attributes.of_request(agent.model, self.gate is not None, agent.output)
        self._coordinator.set_attributes(record, own)
        completion = with_cost(agent.model, await self._complete(await self._processed(history)))
        self._coordinator.set_attributes(record, {**own, **attributes.of_response(completion)})
        return completion

    async def _processed(self, history: Sequence[Message]) -> list[Message]:
        """Return the messages to send: what the history processors of the agent make of the conversation."""
        messages = [*history] if self._system is None else [self._system, *history]
        for process in self._agent.history_processors:
            given = process([*messages])
            chosen = await given if inspect.isawaitable(given) else given
            if not isinstance(chosen, Sequence) or not all(isinstance(each, Message) for each in chosen):
                raise NodeInvocationError(
                    f"the history processor {getattr(process, '__name__', process)!r} of the agent "
                    f"{self._agent.name} returned {chosen!r}; expected a list of messages"
                )
            messages = [*chosen]
        return messages

    async def _complete(self, messages: list[Message]) -> Completion:
        """Request one answer from the model; if there is a sink, stream its text there."""
        agent, model = self._agent, self._agent.model
        asked = self._asked(
            sendable(messages, f"{model.name} of the agent {agent.name}", self._problem, self._not_shown)
        )
        completion: object = None
        if self.gate is None:
            completion = await model.complete(asked.messages, tools=asked.tools, output=asked.output)
            if isinstance(completion, Completion):
                completion = asked.answer(completion)
        else:
            completion = await self._streamed(asked)
        if not _is_complete(completion):
            raise LLMError(
                f"the model {model.name} of the agent {agent.name} returned {completion!r}; complete() must return an "
                f"rt.llm.Completion with an AssistantMessage, and stream() must yield one at its end"
            )
        return completion

    def _problem(self, attachment: Attachment) -> str | None:
        """Return why the model cannot be sent an attachment: one that does not know of it would leave it out."""
        known = attachment_types_of(self._agent.model)
        if attachment.type in known:
            return None
        return f"it takes {', '.join(map(repr, known)) or 'no attachments'} (attachment_types of the model)"

    async def _streamed(self, asked: Asked) -> object:
        """Send the pieces of one answer to the sink, and return what comes last."""
        agent, model = self._agent, self._agent.model
        stream: object = model.stream(asked.messages, tools=asked.tools, output=asked.output)
        if not isinstance(stream, AsyncGenerator):
            if inspect.iscoroutine(stream):
                stream.close()  # otherwise Python warns that it was never awaited
            raise LLMError(
                f"stream() of the model {model.name} must be an async generator; write `async def` and `yield`"
            )
        partials, piece = Partials(agent, self.node_id), None
        async with aclosing(asked.pieces(stream)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Reasoning):
                    await self.send(Chunk(piece.text, agent.name, self.node_id, kind="reasoning"))
                elif isinstance(piece, str | OutputDelta):
                    if isinstance(piece, str):
                        await self.send(Chunk(piece, agent.name, self.node_id))
                    for chunk in partials.of(piece if isinstance(piece, str) else piece.text):
                        await self.send(chunk)
                else:
                    break
        return piece

    async def replay(self, answer: AssistantMessage) -> None:
        """Send the chunks of an answer that was not requested, but replayed."""
        if self.gate is None:
            return
        partials = Partials(self._agent, self.node_id).of(answer.content)
        for chunk in (*chunks_of_answer(answer, self._agent.name, self.node_id), *partials):
            await self.send(chunk)

    def _asked(self, messages: Sequence[Message]) -> Asked:
        """Return what to ask the model, which need not know of the agent's ``output_mode`` itself."""
        agent, output = self._agent, self._agent.output
        tools = agent.schemas
        mode = None if output is None else output.mode
        if output is None or mode is None or mode == "native" or mode in getattr(agent.model, "output_modes", ()):
            return Asked(messages, tools, output)
        return ask_in(mode, messages, tools, output)

    async def send(self, chunk: Chunk) -> None:
        """Send a chunk to the consumer of the stream, if there is one.

        Cancellation: The chunk is not sent.
        """
        if self.gate is not None:
            self.has_streamed = True
            await self.gate.send(chunk)

    @property
    def node_id(self) -> str:
        """The node identifier of the agent's call."""
        return str(self._frame.node_id)


def is_request(record: CallRecord) -> bool:
    """Return whether a call is a request of an agent to its model."""
    return record.attributes is not None and CHAT_ATTRIBUTE in record.attributes


def _is_complete(completion: object) -> TypeGuard[Completion]:
    """Return whether this is a valid ``Completion``: anyone may write a model, so what it returns is checked first."""
    if not isinstance(completion, Completion) or not isinstance(completion.usage, Usage | None):
        return False
    message = completion.message
    return (
        isinstance(message, AssistantMessage)
        and isinstance(message.content, str)
        and all(isinstance(each, ToolCall) for each in message.tool_calls)
    )
