"""One run of an agent: ask its model, call the tools that it asks for, and repeat until it has answered.

Each request to the model is a call of its own, ``chat MODEL``, nested in the agent's call like the calls of its tools.
So it is recorded with its input and output, its duration and its error, and a resumed run replays the answers on
record. A request is found again by the messages that are new since the previous request (so that the record grows
with the length of the conversation, not with its square), and by ``after``, a digest of all that came before them.

For the same reason the texts that a model reads must not change, such as corrections.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import attrs

from railtracks import context
from railtracks._context_variable import current
from railtracks._policies import OWN_POLICIES
from railtracks._schema._arguments import ArgumentError, structured_output
from railtracks.agents import _attributes as attributes
from railtracks.agents._checks import Checks
from railtracks.agents._endings import UNREADABLE, bound_error, ending_error, truncated
from railtracks.agents._hand_off import HandOff, Spent
from railtracks.agents._requests import Requests
from railtracks.agents._response import LLMResponse, chunks_of_round
from railtracks.agents._spec import AgentSpec, digest
from railtracks.agents._token_budget import Draw
from railtracks.agents._tool_calls import ToolCalls
from railtracks.exceptions import ContextError, LimitExceeded, LLMError, ModelRetry
from railtracks.execution import Frame
from railtracks.llm._finish import Ending, ending_of
from railtracks.llm._messages import Message, MessageHistory, SystemMessage, ToolCall, UserMessage
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
        self._tools = ToolCalls(agent, frame)
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
                new = list(await self._tools.run(answer.tool_calls, ending_of(completion) is Ending.CUT))
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
            if self._tools.hand_off is not None:
                return await self._hand_over(self._tools.hand_off)

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
        history = MessageHistory([*self.history, completion.message])
        usage = self._usage + (completion.usage or Usage())
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
            if ending_of(completion) is Ending.CUT:
                return None, "it was cut off"
            is_at_limit = self._tools.is_at_limit
            return None, f"no more than {agent.max_tool_calls} tool calls are allowed" if is_at_limit else None
        if ending_of(completion) is Ending.MALFORMED:
            return None, UNREADABLE
        if agent.output is None or ending_of(completion) is Ending.PAUSED:
            return answer.content, None
        try:
            return structured_output(answer.content, agent.result_type, agent.output.schema), None
        except ArgumentError as exc:
            return None, str(exc)
