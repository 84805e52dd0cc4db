"""A budget of tokens, or of dollars, that several agents draw from.

What a request takes is known when it has been answered. If all requests of a batch began at once, they would be paid
before the first one is counted. So a request in progress counts with as much as the largest one so far, and the first
one runs alone.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, Self, final

import anyio
import attrs
from anyio.lowlevel import current_token

from railtracks._concurrency._event_loop import call_soon
from railtracks._context_variable import token_budgets
from railtracks.agents._requests import is_request
from railtracks.exceptions import ConfigError, ContextError, LLMError, NodeInvocationError
from railtracks.llm._model import Completion, Model, Usage
from railtracks.llm._prices import dollars, show_dollars, unpriced
from railtracks.state import CallRecord, Status

_drawing: ContextVar[frozenset[TokenBudget]] = ContextVar("railtracks_drawing", default=frozenset())
"""The budgets from which a request draws that the running code is part of, as that of a model which calls agents."""


@attrs.define(eq=False)
class _Waiter:
    """A request that waits for its turn, in an event loop."""

    token: Any = attrs.field(factory=current_token)
    event: anyio.Event = attrs.field(factory=anyio.Event)
    has_turn: bool = False

    def wake(self) -> None:
        """Let it go on, from any thread."""
        call_soon(self.token, self.event.set)


@final
class TokenBudget:
    """How many tokens, or dollars, all agents together may use that are called within it.

    ::

        with rt.TokenBudget(100_000) as budget:
            answers = await rt.call_batch(Support, questions)
        print(budget.usage, budget.cost)

    It counts all requests to models below the block, also those of agents that are tools. Once it is used up, no other
    request is made: an agent that would need one fails with ``LimitExceeded``, and what had been answered comes out. So
    that it is not exceeded by many requests at once, the first one runs alone, and then as many as it has room for if
    each takes as much as the largest one so far; others wait for their turn. Within an outer budget both hold.

    In a run that is resumed, what is on record counts. Results of ``cache=`` cost nothing. Agents in worker processes
    count when their call has come back, and are not stopped there. A budget may be used for several blocks, also at the
    same time, and goes on counting.

    Args:
        max_tokens: The tokens of questions and answers together. The request that exceeds it counts. None: any number.
        max_cost: The dollars, for models whose price is known; see ``rt.llm.Price``. None: any number.

    Raises:
        ConfigError: A bound is not a number above 0, or there is none.
        ContextError: At the end of a block, it is left in another task than it was entered in.
    """

    def __init__(self, max_tokens: int | None = None, *, max_cost: float | Decimal | None = None) -> None:
        if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
            raise ConfigError(
                f"rt.TokenBudget: max_tokens is {max_tokens!r}; expected an int that is at least 1, or None"
            )
        if max_tokens is None and max_cost is None:
            raise ConfigError("rt.TokenBudget() bounds nothing; write rt.TokenBudget(100_000) or max_cost=...")
        self.max_tokens: int | None = max_tokens
        self.max_cost: Decimal | None = None if max_cost is None else dollars(max_cost, "rt.TokenBudget: max_cost")
        if self.max_cost == 0:
            raise ConfigError(f"rt.TokenBudget: max_cost is {max_cost!r}; expected dollars above 0, or None")
        self._lock = threading.RLock()  # for several threads, and for requests that the garbage collector closes
        self._usage, self._cost = Usage(), Decimal(0)
        self._lacks_usage = self._lacks_cost = False  # whether that of an answer is not known
        self._largest: tuple[int, Decimal] | None = None  # of what a request took; None before the first
        self._running: dict[object, int] = {}  # the requests in progress, by the consumer of their streams
        self._waiting: dict[object, deque[_Waiter]] = {}
        self._is_admitting = self._has_ended = False  # whether waiting requests are let in, and one has ended since

    @property
    def usage(self) -> Usage:
        """The tokens that were used so far, as far as the providers counted them."""
        return self._usage

    @property
    def cost(self) -> Decimal | None:
        """What they cost, in dollars; None if that of an answer is not known."""
        return None if self._lacks_cost else self._cost

    def __repr__(self) -> str:
        bounds = {"max_tokens": self.max_tokens, "max_cost": self.max_cost}
        shown = (f"{name}={value}" for name, value in bounds.items() if value is not None)
        return f"rt.TokenBudget({', '.join(shown)})"

    def __enter__(self) -> Self:
        token_budgets.set((*token_budgets.get(), self))
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        entered = list(token_budgets.get())
        entered.reverse()
        if self not in entered:
            if kind is None:
                raise ContextError(f"the block of {self} is left in another task than it was entered in")
            return
        entered.remove(self)
        token_budgets.set(tuple(reversed(entered)))

    def count_records(self, records: Iterable[CallRecord]) -> None:
        """Count the requests among calls that were made before, or elsewhere."""
        from json import loads  # here: importing it takes long

        for record in records:
            if is_request(record):
                said = loads(record.attributes or "{}")
                given, made = (said.get(f"gen_ai.usage.{name}_tokens") for name in ("input", "output"))
                cost = said.get("railtracks.cost")
                if given is not None or record.status is Status.COMPLETED:
                    usage = None if given is None else Usage(given, made)
                    self._count(usage, None if cost is None else Decimal(str(cost)))

    def _count(self, usage: Usage | None, cost: Decimal | None) -> None:
        with self._lock:
            self._lacks_usage |= usage is None
            self._lacks_cost |= cost is None
            usage, cost = usage or Usage(), cost or Decimal(0)
            tokens, most = self._largest or (0, Decimal(0))
            self._largest = max(tokens, usage.total_tokens), max(most, cost)
            self._usage += usage
            self._cost += cost

    # ---- requests

    def _problem(self) -> str | None:
        """Return why no other request may be made; None if one may."""
        if self.max_tokens is not None and self._lacks_usage:
            return "a provider does not count the tokens, which it bounds"
        if self.max_tokens is not None and self._usage.total_tokens >= self.max_tokens:
            return f"{self._usage.total_tokens} tokens have been used"
        if self.max_cost is not None and self._lacks_cost:
            return "the cost of an answer is not known, which it bounds"
        if self.max_cost is not None and self._cost >= self.max_cost:
            return f"{show_dollars(self._cost)} have been used"
        return None

    def _has_room(self, key: object) -> bool:
        """Return whether a request may begin. It waits for those of its own stream alone.

        Those of another may be waiting for their consumer, which may be what makes the request.
        """
        if not self._running.get(key):
            return True
        if self._largest is None:
            return False
        count = sum(self._running.values())
        tokens, cost = self._largest
        return (self.max_tokens is None or self._usage.total_tokens + count * tokens < self.max_tokens) and (
            self.max_cost is None or self._cost + count * cost < self.max_cost
        )

    async def begin(self, model: Model, key: object) -> str | None:
        """Wait until a request may begin; return why it may not. After that, ``end`` must be called.

        Args:
            model: The model.
            key: The consumer of the stream that it is part of.

        Raises:
            NodeInvocationError: There is a ``max_cost``, and the price of the model is not known.

        Cancellation: It does not begin.
        """
        if self.max_cost is not None and (problem := unpriced(model)):
            raise NodeInvocationError(f"{self!r} has max_cost, and {problem}")
        with self._lock:
            if problem := self._problem():
                return problem
            if self in _drawing.get() or (not self._waiting.get(key) and self._has_room(key)):
                self._running[key] = self._running.get(key, 0) + 1
                return None
            waiter = _Waiter()
            self._waiting.setdefault(key, deque()).append(waiter)
        try:
            await waiter.event.wait()
        except BaseException:
            with self._lock:
                if not waiter.has_turn and waiter in self._waiting.get(key, ()):
                    self._waiting[key].remove(waiter)
            if waiter.has_turn:
                self.end(key)
            raise
        return None if waiter.has_turn else self._problem()

    def end(self, key: object) -> None:
        """Note that a request has ended, or did not begin after all, and let others begin."""
        admitted: list[_Waiter] = []
        with self._lock:
            self._running[key] -= 1
            if not self._running[key]:
                del self._running[key]
            self._has_ended = True
            if self._is_admitting:  # the garbage collector has closed a request in the middle of this
                return
            self._is_admitting = True
            try:
                while self._has_ended:
                    self._has_ended = False
                    self._admit(admitted)
            finally:
                self._is_admitting = False
        for waiter in admitted:
            waiter.wake()

    def _admit(self, admitted: list[_Waiter]) -> None:
        """Let those begin that can, or all that wait if no request may be made any more. Add them to ``admitted``."""
        is_over = self._problem() is not None
        for key, waiting in list(self._waiting.items()):
            while is_over or self._has_room(key):
                if not waiting:  # asked last, as others may leave meanwhile
                    break
                waiter = waiting.popleft()
                if not is_over:
                    waiter.has_turn = True
                    self._running[key] = self._running.get(key, 0) + 1
                admitted.append(waiter)
            if not waiting:
                self._waiting.pop(key, None)


class Draw:
    """One request, which draws from the budgets of the running code.

    Args:
        agent: The name of the agent.
        model: Its model.
        key: The consumer of the stream that it is part of; None if there is none.
        refused: Makes the error of a request that may not be made.
    """

    def __init__(self, agent: str, model: Model, key: object, refused: Callable[[str], LLMError]) -> None:
        self._budgets: tuple[TokenBudget, ...] = tuple(dict.fromkeys(token_budgets.get()))
        self._agent, self._model, self._key, self._refused = agent, model, key, refused
        self._begun: list[TokenBudget] = []

    async def __aenter__(self) -> Self:
        if not self._budgets:
            return self
        try:
            for budget in self._budgets:
                if problem := await budget.begin(self._model, self._key):
                    raise self._refused(
                        f"the agent {self._agent} may make no other request to its model {self._model.name}, as "
                        f"{budget!r} is used up: {problem}; write another bound, or ask less"
                    )
                self._begun.append(budget)
        except BaseException:
            self._end()
            raise
        self._token = _drawing.set(_drawing.get() | {*self._budgets})
        return self

    def count(self, completion: Completion) -> None:
        """Count an answer."""
        for budget in self._budgets:
            budget._count(completion.usage, completion.cost)

    async def __aexit__(self, *_: object) -> None:
        if self._budgets:
            _drawing.reset(self._token)
            self._end()

    def _end(self) -> None:
        for budget in self._begun:
            budget.end(self._key)
