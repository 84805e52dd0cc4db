"""One run of an agent: ask its model, call the tools that it asks for, and repeat until it has answered.

Each request to the model is a call of its own, ``chat MODEL``, nested in the agent's call like the calls of its tools.
So it is recorded with its input and output, its duration and its error, and a resumed run replays the answers on
record. A request is found again by the messages that are new since the previous request (so that the record grows
with the length of the conversation, not with its square), and by ``after``, a digest of all that came before them.

For the same reason the texts that a model reads must not change: corrections, and why a tool was not run.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, TypeGuard, TypeVar

import attrs

from railtracks import context
from railtracks._calls._batch import gather_calls
from railtracks._calls._call import call
from railtracks._context_variable import current
from railtracks._policies import OWN_POLICIES
from railtracks._schema._arguments import ArgumentError, structured_output
from railtracks.agents import _attributes as attributes
from railtracks.agents._response import Chunk, LLMResponse
from railtracks.agents._sink import Sink, reachable_sink
from railtracks.agents._spec import AgentSpec, digest
from railtracks.agents._tools import Arguments, as_text
from railtracks.exceptions import ContextError, LLMError
from railtracks.execution import Frame
from railtracks.execution._streams import note_streamed
from railtracks.llm._messages import (
    AssistantMessage,
    Message,
    MessageHistory,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)  # fmt: skip
from railtracks.llm._model import Completion, Usage
from railtracks.llm._prompt import fill
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord
from railtracks.state._serialization._encoder import Encoder

M = TypeVar("M", SystemMessage, Message)

CHAT_ATTRIBUTE = '"gen_ai.operation.name": "chat"'
"""What marks the call of a request, in the text of its attributes."""
MAX_RETRIES = 2
"""How often a model may try again after an answer that does not fit the output schema, or too many tool calls."""


class Conversation:
    """One run of an agent, in the current call.

    Attributes:
        history: The messages so far, without the agent's own system message.
    """

    def __init__(self, agent: AgentSpec, given: Iterable[Message]) -> None:
        frame: Frame | None = current.get()
        if frame is None or frame.record is None:
            raise ContextError(
                f"the agent {agent.name} was invoked outside of a call; write `await rt.call({agent.name}, ...)`"
            )
        self._frame, self._record, self._coordinator = frame, frame.record, frame.coordinator
        self._agent = agent
        self._system = None if agent.system is None else self._inject(agent.system)
        self.history = MessageHistory(map(self._inject, given))
        self._usage = Usage()
        self._tool_calls = 0
        self._retries = 0
        self._validated: tuple[AssistantMessage, tuple[Any, str | None]] | None = None  # the last answer
        self._digest = digest(repr(self._system))
        self._sink: Sink | None = reachable_sink()
        self._streamed = False  # True once a piece of the current answer was sent

    def _inject(self, message: M) -> M:
        """Fill in the names in a message; only once: in later runs that are given the history, it stays as it is."""
        if not isinstance(message, SystemMessage | UserMessage) or not message.inject_prompt:
            return message
        if not self._coordinator.config.prompt_injection:
            return message
        return attrs.evolve(message, content=fill(message.content, context), inject_prompt=False)

    async def run(self) -> LLMResponse[Any]:
        """Ask the model, and call its tools, until it has answered.

        Raises:
            LLMError: The model still gave no valid answer after the last retry, or returned no ``Completion``.
            Exception: What the model raises, unchanged, or what a tool raises whose error is fatal.

        Cancellation: Cancels the request, or the tools, in progress.
        """
        self._set_attributes(None)
        chat = self._chat_node()  # not an attribute: it refers to self, and only the garbage collector would free both
        new: list[Message] = list(self.history)
        while True:
            answer = await self._ask(chat, new)
            content, problem = self._validate(answer)
            if not answer.tool_calls and problem is None:
                self._set_attributes(self._usage)
                return LLMResponse(content, self.history, self._usage)
            if problem is not None:
                self._retries += 1
            if answer.tool_calls:
                new = list(await self._run_tools(answer.tool_calls))
            else:
                new = [UserMessage(f"That is not what was asked for: {problem}", inject_prompt=False)]
            self.history += new

    def _set_attributes(self, usage: Usage | None) -> None:
        agent = self._agent
        own = attributes.of_agent(agent.name, agent.model, self._system, usage)
        self._coordinator.set_attributes(self._record, own)

    # ---- the model

    async def _ask(self, chat: FunctionNode[..., Any], new: list[Message]) -> AssistantMessage:
        self._streamed = False
        completion: Completion = await call(chat, MessageHistory(new), after=self._digest)
        answer = completion.message
        if self._sink is not None and not self._streamed and answer.content:  # the answer was replayed
            await self._send(answer.content)
        self._digest = digest(self._digest, *map(repr, new), repr(answer))
        self._usage += completion.usage or Usage()
        self.history.append(answer)
        return answer

    def _chat_node(self) -> FunctionNode[..., Any]:
        """Return the node of the requests. Its arguments are recorded, for a resumed run to compare."""
        agent, model = self._agent, self._agent.model

        async def chat(messages: MessageHistory, *, after: str) -> Completion:  # noqa: ARG001 (only recorded)
            record, own = current.get().record, attributes.of_request(model, self._sink is not None, agent.output)
            self._coordinator.set_attributes(record, own)
            completion = await self._complete()
            self._coordinator.set_attributes(record, {**own, **attributes.of_response(completion)})
            # Here, so that this call fails: a resumed run then asks again instead of replaying an invalid answer.
            if self._retries >= MAX_RETRIES and (problem := self._validate(completion.message)[1]):
                raise LLMError(f"the model {model.name} of the agent {agent.name} gave no valid answer: {problem}",
                               MessageHistory([*self.history, completion.message]))  # fmt: skip
            return completion

        return FunctionNode(
            chat,
            name=f"chat {model.name}",
            node_type="Other",
            is_async=True,
            version=agent.fingerprint,
            memo=agent.memo,
            origin="railtracks.chat",
            policies=OWN_POLICIES,
        )

    async def _complete(self) -> Completion:
        """Request one answer from the model; if there is a sink, stream its text there."""
        agent, model = self._agent, self._agent.model
        messages = [*self.history] if self._system is None else [self._system, *self.history]
        tools = [tool.schema for tool in agent.tools.values()]
        completion: object = None
        if self._sink is None:
            completion = await model.complete(messages, tools=tools, output=agent.output)
        else:
            stream: object = model.stream(messages, tools=tools, output=agent.output)
            if not isinstance(stream, AsyncGenerator):
                if inspect.iscoroutine(stream):
                    stream.close()  # otherwise Python warns that it was never awaited
                raise LLMError(
                    f"stream() of the model {model.name} must be an async generator; write `async def` and `yield`"
                )
            async with aclosing(stream) as pieces:
                async for completion in pieces:
                    if not isinstance(completion, str):
                        break
                    await self._send(completion)
        if not _is_complete(completion):
            raise LLMError(
                f"the model {model.name} of the agent {agent.name} returned {completion!r}; complete() must return an "
                f"rt.llm.Completion with an AssistantMessage, and stream() must yield one at its end"
            )
        return completion

    async def _send(self, text: str) -> None:
        self._streamed = True
        assert self._sink is not None
        await self._sink.send(Chunk(text, self._agent.name, self._frame.node_id))
        note_streamed(self._coordinator, self._record)

    def _validate(self, answer: AssistantMessage) -> tuple[Any, str | None]:
        """Return the content of an answer, and what is wrong with it, for the model; None if nothing is.

        Done once for each answer: making the content may run code of the user.
        """
        if self._validated is None or self._validated[0] is not answer:
            self._validated = answer, self._validate_uncached(answer)
        return self._validated[1]

    def _validate_uncached(self, answer: AssistantMessage) -> tuple[Any, str | None]:
        agent = self._agent
        if answer.tool_calls:
            limit = agent.max_tool_calls
            is_over = limit is not None and self._tool_calls >= limit
            return None, f"no more than {limit} tool calls are allowed" if is_over else None
        if agent.output is None:
            return answer.content, None
        try:
            return structured_output(answer.content, agent.result_type), None
        except ArgumentError as exc:
            return None, str(exc)

    # ---- the tools

    async def _run_tools(self, tool_calls: Sequence[ToolCall]) -> list[ToolMessage]:
        """Make all calls that can be made, concurrently, and return the answers in the order of the calls."""
        prepared = [self._prepare_call(each) for each in tool_calls]
        calls = [each for each in prepared if not isinstance(each, str)]
        results = iter(await gather_calls(calls))
        return [
            _answer(each, what, is_error=True) if isinstance(what, str) else self._result(each, next(results))
            for each, what in zip(tool_calls, prepared, strict=True)
        ]

    def _prepare_call(self, tool_call: ToolCall) -> tuple[FunctionNode[..., Any], *Arguments] | str:
        """Return the call to make; or, for the model, why it is not made."""
        agent = self._agent
        if agent.max_tool_calls is not None and self._tool_calls >= agent.max_tool_calls:
            return f"not run: no more than {agent.max_tool_calls} tool calls are allowed; answer with what you have"
        self._tool_calls += 1
        tool = agent.tools.get(tool_call.name)
        if tool is None:
            return f"there is no tool {tool_call.name!r}; the tools are {', '.join(agent.tools) or 'none'}"
        try:
            return (tool.node, *tool.bind(tool_call.arguments))
        except ArgumentError as exc:
            return f"{tool_call.name} was not run: {exc}"

    def _result(self, tool_call: ToolCall, result: Any) -> ToolMessage:
        if not isinstance(result, BaseException):
            return _answer(tool_call, as_text(result))
        if self._coordinator.failure is not None:  # the error was fatal, or the session ends on any error
            raise result
        # Encoded as for the record, without secrets: an error may contain more than its author intended, such as a URL
        # with a password.
        error = Encoder(self._coordinator.redactor).encode_error(result)
        return _answer(tool_call, f"{type(result).__name__}: {error['$message']}", is_error=True)


def is_request(record: CallRecord) -> bool:
    """Return whether a call is a request to a model, as ``_chat_node`` makes them."""
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


def _answer(tool_call: ToolCall, text: str, is_error: bool = False) -> ToolMessage:
    return ToolMessage(text, tool_call.id, tool_call.name, is_error)
