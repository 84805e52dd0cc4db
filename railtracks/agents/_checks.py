"""The guards of one run of an agent, and what they keep back of its stream."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from railtracks._calls._call import call
from railtracks._calls._workers import Call
from railtracks.agents._guards import ANSWER, GIVEN, run_guards, tripped_error
from railtracks.agents._hand_off import Spent
from railtracks.agents._histories import call_through
from railtracks.agents._requests import Requests
from railtracks.agents._response import LLMResponse
from railtracks.agents._spec import AgentSpec
from railtracks.llm._messages import Message, MessageHistory
from railtracks.llm._model import Completion
from railtracks.nodes import FunctionNode


class Checks:
    """Calls the guards of an agent, and lets chunks pass when they have decided.

    Args:
        agent: The agent.
        requests: Its requests, which send the chunks.
    """

    def __init__(self, agent: AgentSpec, requests: Requests) -> None:
        self._agent = agent
        self._gate = requests.gate
        self._input_guards = agent.input_guards  # until they were called

    async def request(self, request: Call, history: Sequence[Message], spent: Spent) -> Completion:
        """Make a request, the first one beside the input guards. Its text is kept back until guards have passed.

        Raises:
            GuardTripped: A guard does not accept the conversation.
            Exception: What a guard or the request raises.

        Cancellation: Cancels the guards and the request.
        """
        gate, output_guards = self._gate, self._agent.output_guards
        guards, self._input_guards = self._input_guards, ()
        if gate is not None and (guards or output_guards):
            gate.close()
        if not guards:
            node, args, kwargs = request
            answer: Completion = await call(node, *args, **kwargs)
            return answer
        given = MessageHistory(history)
        tripped = functools.partial(tripped_error, self._agent.name, GIVEN, given, spent)
        on_passed = None if gate is None or output_guards else gate.open
        completion: Completion = await run_guards(guards, MessageHistory(given), tripped, request, on_passed)
        if gate is not None:
            await gate.flush()
        return completion

    async def answer(self, content: Any, history: MessageHistory, spent: Spent, may_retry: bool = False) -> None:
        """Call the output guards.

        Args:
            content: What they decide about.
            history: The conversation, with the answer.
            spent: What it has taken.
            may_retry: Whether the model may try again.

        Raises:
            GuardTripped: A guard does not accept the answer.
            ModelRetry: A guard wants another one.
            Exception: What a guard raises.

        Cancellation: Cancels the guards.
        """
        if guards := self._agent.output_guards:
            tripped = functools.partial(tripped_error, self._agent.name, ANSWER, history, spent)
            await run_guards(guards, content, tripped, may_retry=may_retry)

    async def end(self, is_shown: bool) -> None:
        """Send what the output guards have kept back of a stream, or forget it."""
        if self._gate is not None and self._agent.output_guards:
            if not is_shown:
                self._gate.drop()
            self._gate.open()
            await self._gate.flush()

    async def hand_over(self, node: FunctionNode[..., Any], given: MessageHistory, spent: Spent) -> LLMResponse[Any]:
        """Have another agent go on. What it writes is kept back, too, if there are output guards."""
        gate = self._gate if self._agent.output_guards else None
        if gate is not None:
            gate.close()
        response: LLMResponse[Any] = await call_through(gate, node, given, spent=spent)
        return response
