"""One run of an agent: asking its model, running the tools that it asks for, until there is an answer.

Each request to the model is a call of its own, ``chat MODEL``, nested in the agent's like the calls of its tools. So
it is on record with what went in and what came out, how long it took, and how it failed; and a run that is resumed uses
the answers that it has. It is found again by the messages that are new since the request before (what is on record
grows with the conversation, not with its square), and by ``after``, a digest of all that came before them.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeGuard, TypeVar

import attrs

from railtracks._calls._call import call, call_each
from railtracks._context_variable import current
from railtracks._schema._arguments import ArgumentError, structured_output
from railtracks.agents import _attributes as attributes
from railtracks.agents._response import Chunk, LLMResponse
from railtracks.agents._sink import Sink, sink_here
from railtracks.agents._tools import Arguments, Tool, as_text
from railtracks.exceptions import ContextError, LLMError
from railtracks.execution import Frame
from railtracks.llm._messages import (
    AssistantMessage,
    Message,
    MessageHistory,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)  # fmt: skip
from railtracks.llm._model import Completion, Model, OutputSchema, Usage
from railtracks.llm._prompt import fill
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord
from railtracks.state._serialization._encoder import Encoder

M = TypeVar("M", SystemMessage, Message)

CHAT = '"gen_ai.operation.name": "chat"'
"""In the attributes of a request, as they are saved."""
MAX_REPAIRS = 2
"""How often a model may try again that does not fit the output schema, or goes on past its limit of tools."""


@attrs.frozen(kw_only=True)
class Definition:
    """What ``agent_node`` was given."""

    name: str
    model: Model
    system: SystemMessage | None
    tools: Mapping[str, Tool]
    result_type: Any
    """What the content of the result is; ``str`` for text."""
    output: OutputSchema | None
    """The same, as the model is told; None for text."""
    max_tool_calls: int | None
    memo: bool

    @functools.cached_property
    def fingerprint(self) -> str:
        """What decides, beside the conversation itself, what a request to the model gives."""
        schemas = [tool.schema for tool in self.tools.values()]
        return digest(repr((self.model.provider, self.model.name, dict(self.model.settings), schemas, self.output)))


def digest(*texts: str) -> str:
    """The same in all processes."""
    return hashlib.blake2b("\n".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


class Conversation:
    """One run of an agent, in the call that is current.

    Attributes:
        history: What was said so far, without the agent's own system message.
    """

    def __init__(self, agent: Definition, given: Iterable[Message]) -> None:
        frame: Frame | None = current.get()
        if frame is None or frame.record is None:
            raise ContextError(f"the agent {agent.name} was invoked by hand; write `await rt.call({agent.name}, ...)`")
        self._frame, self._record, self._coordinator = frame, frame.record, frame.coordinator
        self._agent = agent
        self._system = None if agent.system is None else self._filled(agent.system)
        self.history = MessageHistory(map(self._filled, given))
        self._usage = Usage()
        self._tool_calls = 0
        self._repairs = 0
        self._judged: tuple[AssistantMessage, tuple[Any, str | None]] | None = None
        self._digest = digest(repr(self._system))
        self._sink: Sink | None = sink_here()
        self._streamed = False  # something of the latest answer

    def _filled(self, message: M) -> M:
        """With the names in it filled in. That is done once: where the message comes round again, it stays as it is."""
        if not isinstance(message, SystemMessage | UserMessage) or not message.inject_prompt:
            return message
        if not self._coordinator.config.prompt_injection:
            return message
        return attrs.evolve(message, content=fill(message.content, self._coordinator.context), inject_prompt=False)

    async def run(self) -> LLMResponse[Any]:
        """Go on until the model has answered.

        Raises: what the model raises, as it is; what a fatal tool raises; LLMError if the answers are of no use.
        Cancellation: of the request, or of the tools, that are under way.
        """
        self._describe(None)
        chat = self._chat_node()  # not kept: it refers to this, and the session would wait for the garbage collector
        new: list[Message] = list(self.history)
        while True:
            answer = await self._ask(chat, new)
            content, problem = self._judge(answer)
            if not answer.tool_calls and problem is None:
                self._describe(self._usage)
                return LLMResponse(content, self.history, self._usage)
            if problem is not None:
                self._repairs += 1
            if answer.tool_calls:
                new = list(await self._use_tools(answer.tool_calls))
            else:
                new = [UserMessage(f"That is not what was asked for: {problem}", inject_prompt=False)]
            self.history += new

    def _describe(self, usage: Usage | None) -> None:
        agent = self._agent
        said = attributes.of_agent(agent.name, agent.model, self._system, usage)
        self._coordinator.set_attributes(self._record, said)

    # ---- the model

    async def _ask(self, chat: FunctionNode[..., Any], new: list[Message]) -> AssistantMessage:
        self._streamed = False
        completion: Completion = await call(chat, MessageHistory(new), after=self._digest)
        answer = completion.message
        if self._sink is not None and not self._streamed and answer.content:  # it was on record
            await self._send(answer.content)
        self._digest = digest(self._digest, *map(repr, new), repr(answer))
        self._usage += completion.usage or Usage()
        self.history.append(answer)
        return answer

    def _chat_node(self) -> FunctionNode[..., Any]:
        agent, model = self._agent, self._agent.model

        async def chat(messages: MessageHistory, *, after: str) -> Completion:  # noqa: ARG001 (they are on record)
            record, said = current.get().record, attributes.of_request(model, self._sink is not None, agent.output)
            self._coordinator.set_attributes(record, said)
            completion = await self._complete()
            self._coordinator.set_attributes(record, {**said, **attributes.of_response(completion)})
            # Here, so that it is this call that fails: a run that is resumed asks again for what was of no use.
            if self._repairs >= MAX_REPAIRS and (problem := self._judge(completion.message)[1]):
                raise LLMError(f"the model {model.name} of the agent {agent.name} gave no answer of use: {problem}",
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
        )

    async def _complete(self) -> Completion:
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
                    stream.close()  # or Python would warn that nobody awaited it
                raise LLMError(
                    f"stream() of the model {model.name} is no async generator; write `async def` and `yield`"
                )
            async with aclosing(stream) as pieces:
                async for completion in pieces:
                    if not isinstance(completion, str):
                        break
                    await self._send(completion)
        if not _is_whole(completion):
            raise LLMError(
                f"the model {model.name} of the agent {agent.name} gave {completion!r}; complete() must return an "
                f"rt.llm.Completion with an AssistantMessage, and stream() must yield one at its end"
            )
        return completion

    async def _send(self, text: str) -> None:
        self._streamed = True
        assert self._sink is not None
        await self._sink.send(Chunk(text, self._agent.name, self._frame.node_id))

    def _judge(self, answer: AssistantMessage) -> tuple[Any, str | None]:
        """The content of an answer; and what the model has to be told about it, None if all is well.

        Once for each answer: making an object may run code of the user's.
        """
        if self._judged is None or self._judged[0] is not answer:
            self._judged = answer, self._judgement(answer)
        return self._judged[1]

    def _judgement(self, answer: AssistantMessage) -> tuple[Any, str | None]:
        agent = self._agent
        if answer.tool_calls:
            limit = agent.max_tool_calls
            over = limit is not None and self._tool_calls >= limit
            return None, f"no more than {limit} tool calls are allowed" if over else None
        if agent.output is None:
            return answer.content, None
        try:
            return structured_output(answer.content, agent.result_type), None
        except ArgumentError as exc:
            return None, str(exc)

    # ---- the tools

    async def _use_tools(self, asked: Sequence[ToolCall]) -> list[ToolMessage]:
        ready = [self._ready(each) for each in asked]
        calls = [each for each in ready if not isinstance(each, str)]
        results = iter(await call_each(calls))
        return [
            _answer(each, made, is_error=True) if isinstance(made, str) else self._result(each, next(results))
            for each, made in zip(asked, ready, strict=True)
        ]

    def _ready(self, asked: ToolCall) -> tuple[FunctionNode[..., Any], *Arguments] | str:
        """The call to make; or, for the model, why there is none."""
        agent = self._agent
        if agent.max_tool_calls is not None and self._tool_calls >= agent.max_tool_calls:
            return f"not run: no more than {agent.max_tool_calls} tool calls are allowed; answer with what you have"
        self._tool_calls += 1
        tool = agent.tools.get(asked.name)
        if tool is None:
            return f"there is no tool {asked.name!r}; the tools are {', '.join(agent.tools) or 'none'}"
        try:
            return (tool.node, *tool.bind(asked.arguments))
        except ArgumentError as exc:
            return f"{asked.name} was not run: {exc}"

    def _result(self, asked: ToolCall, result: Any) -> ToolMessage:
        if not isinstance(result, BaseException):
            return _answer(asked, as_text(result))
        if self._coordinator.failure is not None:  # it was fatal, or any error is
            raise result
        # As on record, without secrets: an error says more than its author thought of, such as a URL with a password.
        error = Encoder(self._coordinator.redactor).error(result)
        return _answer(asked, f"{type(result).__name__}: {error['$message']}", is_error=True)


def is_request(record: CallRecord) -> bool:
    """Is it a call as ``_chat_node`` makes them?"""
    return record.attributes is not None and CHAT in record.attributes


def _is_whole(completion: object) -> TypeGuard[Completion]:
    """Models are anybody's code: what they give is looked at before it is used."""
    if not isinstance(completion, Completion) or not isinstance(completion.usage, Usage | None):
        return False
    message = completion.message
    return (
        isinstance(message, AssistantMessage)
        and isinstance(message.content, str)
        and all(isinstance(asked, ToolCall) for asked in message.tool_calls)
    )


def _answer(asked: ToolCall, text: str, is_error: bool = False) -> ToolMessage:
    return ToolMessage(text, asked.id, asked.name, is_error)
