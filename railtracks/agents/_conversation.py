"""One run of an agent: ask its model, call the tools that it asks for, and repeat until it has answered.

Each request to the model is a call of its own, ``chat MODEL``, nested in the agent's call like the calls of its tools.
So it is recorded with its input and output, its duration and its error, and a resumed run replays the answers on
record. A request is found again by the messages that are new since the previous request (so that the record grows
with the length of the conversation, not with its square), and by ``after``, a digest of all that came before them.

For the same reason the texts that a model reads must not change: corrections, and why a tool was not run.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import attrs

from railtracks import context
from railtracks._calls._batch import gather_calls
from railtracks._context_variable import current
from railtracks._policies import OWN_POLICIES
from railtracks._schema._arguments import ArgumentError, structured_output
from railtracks.agents import _attributes as attributes
from railtracks.agents._approval import approved_call
from railtracks.agents._checks import Checks
from railtracks.agents._endings import CUT_CALL, UNREADABLE, bound_error, ending_error, truncated
from railtracks.agents._hand_off import HandOff, Spent
from railtracks.agents._requests import Requests
from railtracks.agents._response import LLMResponse, chunks_of_round
from railtracks.agents._results import FOR_THE_DEVELOPER, as_message, error_text, log_mistake
from railtracks.agents._spec import AgentSpec, digest
from railtracks.agents._token_budget import Draw
from railtracks.agents._tools import Arguments
from railtracks.exceptions import ContextError, LimitExceeded, LLMError, ModelRetry
from railtracks.execution import Frame
from railtracks.llm._finish import Ending, ending_of
from railtracks.llm._messages import (
    Message,
    MessageHistory,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)  # fmt: skip
from railtracks.llm._model import Completion, Usage
from railtracks.llm._output import REJECTED
from railtracks.llm._prices import prepare_prices, sum_of
from railtracks.llm._prompt import fill
from railtracks.nodes import FunctionNode

M = TypeVar("M", SystemMessage, Message)
_NOTHING: Decimal | None = Decimal(0)  # None: what something has cost is not known


class Conversation:
    """One run of an agent, in the current call.

    Attributes:
        history: The messages so far, without the agent's own system message.
    """

    def __init__(self, agent: AgentSpec, given: Iterable[Message], spent: Spent | None = None) -> None:
        frame: Frame | None = current.get()
        if frame is None or frame.record is None:
            raise ContextError(
                f"the agent {agent.name} was invoked outside of a call; write `await rt.call({agent.name}, ...)`"
            )
        self._record, self._coordinator = frame.record, frame.coordinator
        self._agent = agent
        self._system = None if agent.system is None else self._inject(agent.system)
        self.history = MessageHistory(map(self._inject, given))
        self._requests = Requests(agent, self._system, frame)
        self._checks = Checks(agent, self._requests)
        spent = spent or Spent(cost=_NOTHING)
        self._made = spent.requests  # requests of this run, and of the agents that have handed the conversation over
        self._usage, self._cost = spent.usage, spent.cost  # likewise
        self._own_usage, self._own_cost = Usage(), _NOTHING
        self._tool_calls = 0
        self._hand_off: HandOff | None = None  # once the model has handed the conversation over
        self._repairs = 0
        self._validated: tuple[Completion, tuple[Any, str | None]] | None = None  # the last answer
        self._digest = digest(repr(self._system))

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
            LLMError: The model gave no valid answer, also after the last repair, or none that is whole; it reached a
                bound of the agent; or it returned no ``Completion``.
            Exception: What the model raises, unchanged, or what a tool raises whose error is not for the model.

        Cancellation: Cancels the request, or the tools, in progress.
        """
        self._set_attributes(None)
        await prepare_prices(self._agent.model)
        chat = self._chat_node()  # not an attribute: it refers to self, and only the garbage collector would free both
        new: list[Message] = list(self.history)
        while True:
            completion = await self._ask(chat, new)
            answer = completion.message
            content, problem = self._validate(completion)
            if self._agent.output_guards:
                problem = await self._guard_answer(completion, content, problem)
            if problem is not None:
                self._repairs += 1
            if answer.tool_calls:
                await self._send_round(answer.tool_calls)
                new = list(await self._run_tools(answer.tool_calls, ending_of(completion) is Ending.CUT))
            elif problem is not None:
                new = [UserMessage(REJECTED + problem, inject_prompt=False)]
            elif ending_of(completion) is Ending.PAUSED:  # the provider's own tools work; it goes on when it is asked
                new = []
            else:
                self._set_attributes(self._own_usage)
                return LLMResponse(
                    content,
                    self.history,
                    self._usage,
                    finish_reason=completion.finish_reason,
                    agent=self._agent.name,
                    cost=self._cost,
                )
            await self._send_round(new)
            self.history += new
            if self._hand_off is not None:
                return await self._hand_over(self._hand_off)

    async def _hand_over(self, hand_off: HandOff) -> LLMResponse[Any]:
        """Have another agent go on, and return its answer as that of this one."""
        self._set_attributes(self._own_usage)
        node = hand_off.target(self._agent.result_type)
        given = await hand_off.messages(self.history)
        try:
            response = await self._checks.hand_over(node, given, self._spent)
        except LLMError as exc:
            if exc.message_history is not None:
                exc.message_history = self._whole(given, exc.message_history)
            raise
        response = attrs.evolve(response, message_history=self._whole(given, response.message_history))
        spent = Spent(self._made, response.usage, response.cost)
        await self._checks.answer(response.content, response.message_history, spent)
        await self._checks.end(is_shown=True)
        return response

    def _whole(self, given: Sequence[Message], continued: Sequence[Message]) -> MessageHistory:
        return MessageHistory([*self.history, *continued[len(given) :]])

    async def _send_round(self, messages: Iterable[Message | ToolCall]) -> None:
        for chunk in chunks_of_round(messages, self._agent.name, self._requests.node_id):
            await self._requests.send(chunk)

    def _set_attributes(self, usage: Usage | None) -> None:
        agent = self._agent
        own = attributes.of_agent(agent.name, agent.model, self._system, usage, self._own_cost)
        self._coordinator.set_attributes(self._record, {**own, **attributes.of_guards(agent)})

    # ---- the model

    async def _ask(self, chat: FunctionNode[..., Any], new: list[Message]) -> Completion:
        if error := bound_error(self._agent, self._made, self.history, self._usage, self._cost):
            raise error
        self._made += 1
        self._requests.has_streamed = False
        request = chat, (MessageHistory(new),), {"after": self._digest}
        completion = await self._checks.request(request, self.history, self._spent)
        answer = completion.message
        if not self._requests.has_streamed:  # the answer was replayed
            await self._requests.replay(answer)
        self._digest = digest(self._digest, *map(repr, new), repr(answer))
        self._usage += completion.usage or Usage()
        self._own_usage += completion.usage or Usage()
        self._cost = sum_of(self._cost, completion.cost)
        self._own_cost = sum_of(self._own_cost, completion.cost)
        self.history.append(answer)
        return completion

    async def _guard_answer(self, completion: Completion, content: Any, problem: str | None) -> str | None:
        """Have the output guards decide about an answer, if it is the last one. Return what is wrong with it."""
        is_last = not completion.message.tool_calls and ending_of(completion) is not Ending.PAUSED
        if problem is None and is_last:
            try:
                await self._checks.answer(content, self.history, self._spent, may_retry=True)
            except ModelRetry as exc:
                problem = exc.message
                if self._repairs >= self._agent.repairs:
                    raise self._no_valid_answer(problem, self.history, self._usage, self._cost) from exc
        await self._checks.end(is_shown=problem is None and is_last)
        return problem

    @property
    def _spent(self) -> Spent:
        return Spent(self._made, self._usage, self._cost)

    def _no_valid_answer(
        self, problem: str, history: MessageHistory, usage: Usage, cost: Decimal | None = None
    ) -> LLMError:
        agent = self._agent
        what = f"the model {agent.model.name} of the agent {agent.name} gave no valid answer: {problem}"
        return LLMError(what, history, usage, cost)

    def _chat_node(self) -> FunctionNode[..., Any]:
        """Return the node of the requests. Its arguments are recorded, for a resumed run to compare."""
        agent = self._agent

        async def chat(messages: MessageHistory, *, after: str) -> Completion:  # noqa: ARG001 (only recorded)
            async with Draw(agent.name, agent.model, self._requests.consumer, self._limit_exceeded) as draw:
                completion = await self._requests.make(self.history)
                draw.count(completion)
            # Here, so that this call fails: a resumed run then asks again instead of replaying an invalid answer.
            if error := self._error(completion):
                error.cost = sum_of(self._cost, completion.cost)
                raise error
            return completion

        return FunctionNode(
            chat,
            name=f"chat {agent.model.name}",
            node_type="Other",
            is_async=True,
            version=agent.fingerprint,
            memo=agent.memo,
            origin="railtracks.chat",
            policies=OWN_POLICIES,
        )

    def _limit_exceeded(self, text: str) -> LLMError:
        return LimitExceeded(text, self.history, self._usage, self._cost)

    def _error(self, completion: Completion) -> LLMError | None:
        """Return the error of an answer that the agent cannot go on with; None if it can."""
        agent = self._agent
        history, usage = (
            MessageHistory([*self.history, completion.message]),
            self._usage + (completion.usage or Usage()),
        )
        if error := ending_error(agent, completion, history, usage):
            return error
        problem = None if self._repairs < agent.repairs else self._validate(completion)[1]
        if problem is None:
            return None
        if ending_of(completion) is Ending.CUT:
            return truncated(agent, completion, history, usage)
        return self._no_valid_answer(problem, history, usage)

    def _validate(self, completion: Completion) -> tuple[Any, str | None]:
        """Return the content of an answer, and what is wrong with it, for the model; None if nothing is.

        Done once for each answer: making the content may run code of the user.
        """
        if self._validated is None or self._validated[0] is not completion:
            self._validated = completion, self._validate_uncached(completion)
        return self._validated[1]

    def _validate_uncached(self, completion: Completion) -> tuple[Any, str | None]:
        agent, answer = self._agent, completion.message
        if answer.tool_calls:
            limit = agent.max_tool_calls
            if ending_of(completion) is Ending.CUT:
                return None, "it was cut off"
            is_over = limit is not None and self._tool_calls >= limit
            return None, f"no more than {limit} tool calls are allowed" if is_over else None
        if ending_of(completion) is Ending.MALFORMED:
            return None, UNREADABLE
        if agent.output is None or ending_of(completion) is Ending.PAUSED:
            return answer.content, None
        try:
            return structured_output(answer.content, agent.result_type, agent.output.schema), None
        except ArgumentError as exc:
            return None, str(exc)

    # ---- the tools

    async def _run_tools(self, tool_calls: Sequence[ToolCall], is_cut: bool) -> list[ToolMessage]:
        """Make all calls that can be made, concurrently, and return the answers in the order of the calls.

        Args:
            tool_calls: What the model asks for.
            is_cut: Whether the answer was cut off, in the midst of the last call.
        """
        last = len(tool_calls) - 1
        prepared = [
            CUT_CALL if is_cut and place == last else self._prepare_call(each) for place, each in enumerate(tool_calls)
        ]
        calls = [each for each in prepared if not isinstance(each, str | ToolMessage)]
        results = iter(await gather_calls(calls))
        answers = []
        for each, what in zip(tool_calls, prepared, strict=True):
            if isinstance(what, str):
                answers.append(_answer(each, what, is_error=True))
            else:
                answers.append(what if isinstance(what, ToolMessage) else self._outcome(each, next(results)))
        return answers

    def _prepare_call(self, tool_call: ToolCall) -> tuple[FunctionNode[..., Any], *Arguments] | ToolMessage | str:
        """Return the call to make; or, for the model, its answer, or why it is not made."""
        agent = self._agent
        if agent.max_tool_calls is not None and self._tool_calls >= agent.max_tool_calls:
            return f"not run: no more than {agent.max_tool_calls} tool calls are allowed; answer with what you have"
        self._tool_calls += 1
        if tool_call.name in agent.hand_offs:
            if self._hand_off is not None:
                return f"not run: the conversation was handed over by {self._hand_off.schema.name}"
            self._hand_off = agent.hand_offs[tool_call.name]
            return _answer(tool_call, "the conversation was handed over")
        tool = agent.tools.get(tool_call.name)
        if tool is None:
            names = ", ".join((*agent.tools, *agent.hand_offs))
            return f"there is no tool {tool_call.name!r}; the tools are {names or 'none'}"
        try:
            bound = tool.bind(tool_call.arguments)
        except ArgumentError as exc:
            return f"{tool_call.name} was not run: {exc}"
        if tool.needs_approval:
            answer = functools.partial(self._result, tool_call)
            return approved_call(tool, tool_call, bound, agent.name, self._coordinator.redactor, answer)
        return (tool.node, *bound)

    def _outcome(self, tool_call: ToolCall, result: Any) -> ToolMessage:
        if not self._agent.tools[tool_call.name].needs_approval:
            return self._result(tool_call, result)
        if isinstance(result, BaseException):  # of the approval; that of the tool is an answer
            raise result
        answer: ToolMessage = result
        return attrs.evolve(answer, tool_call_id=tool_call.id)  # a replayed one answers what the model asked before

    def _result(self, tool_call: ToolCall, result: Any) -> ToolMessage:
        if not isinstance(result, BaseException):
            text, attachments = as_message(result)
            return ToolMessage(text, tool_call.id, tool_call.name, attachments=attachments)
        if self._coordinator.failure is not None:  # the error was fatal, or the session ends on any error
            raise result
        is_for_model = self._agent.tool_errors == "model" or isinstance(result, ModelRetry)
        if not is_for_model or isinstance(result, FOR_THE_DEVELOPER):
            raise result
        log_mistake(self._coordinator, self._record, tool_call.name, self._agent.name, result)
        return _answer(tool_call, error_text(result, self._coordinator.redactor), is_error=True)


def _answer(tool_call: ToolCall, text: str, is_error: bool = False) -> ToolMessage:
    return ToolMessage(text, tool_call.id, tool_call.name, is_error)
