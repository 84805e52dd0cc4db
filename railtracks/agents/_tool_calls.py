"""The tool calls of one run of an agent: which are made, and what the model reads of them.

The texts that a model reads must not change: they are on record.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import attrs

from railtracks._calls._batch import gather_calls
from railtracks._schema._arguments import ArgumentError
from railtracks.agents._approval import approved_call
from railtracks.agents._endings import CUT_CALL
from railtracks.agents._hand_off import HandOff
from railtracks.agents._results import FOR_THE_DEVELOPER, as_message, error_text, log_mistake
from railtracks.agents._spec import AgentSpec
from railtracks.agents._tools import Arguments
from railtracks.exceptions import ModelRetry
from railtracks.execution import Frame
from railtracks.llm._messages import ToolCall, ToolMessage
from railtracks.nodes import FunctionNode


class ToolCalls:
    """The calls of tools in one run of an agent.

    Args:
        agent: The agent.
        frame: The frame of its call.

    Attributes:
        hand_off: The hand-off that the model has called; None if it has called none.
    """

    def __init__(self, agent: AgentSpec, frame: Frame) -> None:
        assert frame.record is not None
        self._agent = agent
        self._record, self._coordinator = frame.record, frame.coordinator
        self._made = 0
        self.hand_off: HandOff | None = None

    async def run(self, tool_calls: Sequence[ToolCall], is_cut: bool) -> list[ToolMessage]:
        """Make all calls that can be made, concurrently, and return the answers in the order of the calls.

        Args:
            tool_calls: What the model asks for.
            is_cut: Whether the answer was cut off, in the midst of the last call.

        Raises:
            Exception: What a tool raises whose error is not for the model, or what the approval of one raises.

        Cancellation: Cancels all calls.
        """
        last = len(tool_calls) - 1
        prepared = [
            CUT_CALL if is_cut and place == last else self._prepared(each) for place, each in enumerate(tool_calls)
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

    @property
    def is_at_limit(self) -> bool:
        """Whether the model may make no other call."""
        limit = self._agent.max_tool_calls
        return limit is not None and self._made >= limit

    def _prepared(self, tool_call: ToolCall) -> tuple[FunctionNode[..., Any], *Arguments] | ToolMessage | str:
        """Return the call to make; or, for the model, its answer, or why it is not made."""
        agent = self._agent
        if self.is_at_limit:
            return f"not run: no more than {agent.max_tool_calls} tool calls are allowed; answer with what you have"
        self._made += 1
        if tool_call.name in agent.hand_offs:
            if self.hand_off is not None:
                return f"not run: the conversation was handed over by {self.hand_off.schema.name}"
            self.hand_off = agent.hand_offs[tool_call.name]
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
