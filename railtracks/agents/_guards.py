"""Guards: nodes that decide whether an agent may go on with what it was given, or return what it answers.

Guards run beside each other, and input guards beside the first request. They are a batch of calls in which each verdict
counts at once: the first guard that trips or fails cancels the other ones, and the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from railtracks._calls._workers import NO_KWARGS, Call, CallWorkers
from railtracks._context_variable import on_replayed
from railtracks.agents._hand_off import Spent, spec_of
from railtracks.agents._response import LLMResponse
from railtracks.agents._results import as_text
from railtracks.agents._sink import sink
from railtracks.exceptions import GuardTripped, ModelRetry, NodeCreationError, NodeInvocationError
from railtracks.llm._messages import MessageHistory, UserMessage
from railtracks.llm._model import Completion, Usage
from railtracks.llm._prices import sum_of
from railtracks.nodes import FunctionNode
from railtracks.nodes._resolve import as_node

GIVEN, ANSWER = "what it was given", "its answer"
"""What guards decide about, in errors."""
Tripped = Callable[[str, str, Any], Exception]


@attrs.frozen
class Guard:
    """A node that is a guard of an agent."""

    node: FunctionNode[..., Any]
    is_agent: bool

    def call(self, subject: Any) -> Call:
        """Return the call of the guard.

        Args:
            subject: The conversation that the agent was given, or the content of its answer.
        """
        if self.is_agent and not isinstance(subject, MessageHistory):
            # A model wrote this, so names in braces must not be filled from the context.
            return self.node, (UserMessage(as_text(subject), inject_prompt=False),), NO_KWARGS
        return self.node, (subject,), NO_KWARGS


def guards_of(given: Any, label: str) -> tuple[Guard, ...]:
    """Return the guards that were passed to ``rt.agent_node``.

    Args:
        given: Anything that ``rt.call`` takes, in a list.
        label: The name of the argument.

    Raises:
        NodeCreationError: One of them cannot be a guard.
    """
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise NodeCreationError(f"{label} is {given!r}; expected a list of nodes: {label}=[...]")
    found = []
    for each in given:
        spec = spec_of(each)
        if spec is not None and spec.output is None:
            raise NodeCreationError(
                f"{label} has the agent {spec.name}, which answers with a text, and so would always trip; give it "
                f"output_schema=str | None, for the reason, or None where there is none"
            )
        found.append(Guard(as_node(each, label, in_list=True), spec is not None))
    return tuple(found)


class _Guards(CallWorkers):
    """The calls of guards, and of what runs beside them."""

    def __init__(
        self,
        guards: Sequence[Guard],
        subject: Any,
        request: Call | None,
        tripped: Tripped,
        on_passed: Callable[[], object] | None,
        may_retry: bool,
    ) -> None:
        calls = [guard.call(subject) for guard in guards]
        calls += [] if request is None else [request]
        super().__init__(guards[0].node.name, iter(calls), return_exceptions=True, limit=None)
        self._guards, self._tripped, self._on_passed = guards, tripped, on_passed
        self._left = len(guards)
        self._may_retry = may_retry
        self.outcome: Any = None  # of the request, once it has ended

    def _put(self, index: int, result: Any) -> None:
        """Take the outcome of a call. What this raises ends the others, and is raised in the end."""
        super()._put(index, result)
        if index >= len(self._guards):  # the request, whose error waits for the verdicts, too
            self.outcome = result
            return
        guard = self._guards[index]
        if isinstance(result, ModelRetry) and not self._may_retry:
            raise self._tripped(guard.node.name, result.message, self.outcome)
        if isinstance(result, BaseException):
            raise result
        reason = result.content if guard.is_agent and isinstance(result, LLMResponse) else result
        if reason is not None:
            if not isinstance(reason, str) or not reason:
                raise NodeInvocationError(
                    f"the guard {guard.node.name} returned {reason!r}; expected None if it has nothing against it, or "
                    f"the reason as a text"
                )
            raise self._tripped(guard.node.name, reason, self.outcome)
        self._left -= 1
        if not self._left and self._on_passed is not None:
            self._on_passed()


async def run_guards(
    guards: Sequence[Guard],
    subject: Any,
    tripped: Tripped,
    request: Call | None = None,
    on_passed: Callable[[], object] | None = None,
    may_retry: bool = False,
) -> Any:
    """Call guards, and something beside them, and return its result when all guards have passed.

    What guards write is not part of a stream.

    Args:
        guards: The guards; one at least.
        subject: What they decide about.
        tripped: Makes the error of a guard that has tripped, of its name, its reason, and the answer to the request if
            that has come.
        request: What runs beside them; None if nothing does.
        on_passed: Called when all have passed, maybe before the request has ended. None: nothing is.
        may_retry: Whether a guard may raise ``ModelRetry``. If not, it has tripped then.

    Raises:
        Exception: That of the first guard which has tripped, or what it has raised; and what the request raises, if
            all guards have passed.

    Cancellation: Cancels all calls.
    """
    streamed, replayed = sink.set(None), on_replayed.set(None)
    calls = _Guards(guards, subject, request, tripped, on_passed, may_retry)
    try:
        await calls.run()
    finally:
        on_replayed.reset(replayed)
        sink.reset(streamed)
    if isinstance(calls.outcome, BaseException):
        raise calls.outcome
    return calls.outcome


def tripped_error(
    agent: str, what: str, history: MessageHistory, spent: Spent, guard: str, reason: str, outcome: object = None
) -> GuardTripped:
    """Return the error of a guard that has tripped.

    Args:
        agent: The name of the agent.
        what: What the guard has decided about: ``GIVEN`` or ``ANSWER``.
        history: The conversation.
        spent: What it has taken before.
        guard: The name of the guard.
        reason: What it has returned.
        outcome: The answer to the request beside it, if that has ended.
    """
    usage, cost = spent.usage, spent.cost
    if isinstance(outcome, Completion):
        usage, cost = usage + (outcome.usage or Usage()), sum_of(cost, outcome.cost)
    message = f"the guard {guard} of the agent {agent} does not accept {what}: {reason}"
    return GuardTripped(message, history, usage, cost, guard, reason)
