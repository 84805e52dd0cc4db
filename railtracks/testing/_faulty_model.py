"""A model whose provider fails: limits, timeouts, lost connections, and answers that are not as they should be."""

from __future__ import annotations

import copy
import itertools
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from random import Random
from typing import Any, Literal, Self, get_args

import anyio
import attrs
from anyio.lowlevel import checkpoint

from railtracks import llm
from railtracks._test_probe import attachment_types_of, with_settings
from railtracks.exceptions import ConfigError
from railtracks.state import Secret
from railtracks.testing._answers import halved, pieces, words
from railtracks.testing._numbered_faults import note_fault

ModelFault = Literal[
    "rate_limit", "timeout", "lost", "cut", "filtered", "empty", "malformed", "wrong_tool", "repeated_ids"
]
"""What goes wrong with a request to a model; see :class:`Model`."""
_FAULTS: tuple[str, ...] = get_args(ModelFault)


class ModelRateLimit(Exception):
    """What a request raises whose fault is "rate_limit"."""

    status_code = 429


_ERRORS: dict[str, Exception] = {
    "rate_limit": ModelRateLimit("injected: too many requests"),
    "timeout": TimeoutError("injected: the provider does not answer"),
    "lost": ConnectionError("injected: the connection is lost"),
}
"""What is raised by default."""


class Model:
    """A model for tests, in front of another one: ``rt.agent_node(llm=faults.Model(model, {1: "rate_limit"}))``.

    What goes wrong with a request:

    ============== ================================================================================================
    "rate_limit"   the provider takes no more requests: it raises ``faults.ModelRateLimit``, and the model is not asked
    "timeout"      the provider does not answer: it raises TimeoutError after ``delay`` seconds
    "lost"         the connection is lost: half of a stream comes, and then ConnectionError; nothing of a whole answer
    "cut"          the second half of the text and of the last tool call is missing: the limit of tokens is reached
    "filtered"     the provider's filter withholds the answer
    "empty"        the answer has neither a text nor tool calls
    "malformed"    the arguments of the tool calls are not JSON
    "wrong_tool"   the first tool call has a name that no tool has
    "repeated_ids" all tool calls have the same identifier, in this and in other answers
    ============== ================================================================================================

    The last three do nothing where no tool is asked for. Use a new one for each run: it counts its requests.

    Args:
        model: The model that is asked.
        plan: What goes wrong, by the number of the request, counted from 1.
        chances: Of requests that are not in the plan: the share that goes wrong, by what goes wrong. Their sum is at
            most 1.
        seed: Decides which share that is.
        delay: After how many virtual seconds a request times out.
        errors: The exceptions to raise for "rate_limit", "timeout" and "lost", such as those of an SDK. Copies of them
            are raised.

    Attributes:
        happened: What went wrong so far: the number of the request, and what it was.

    Raises:
        ConfigError: An argument is not allowed.
    """

    def __init__(
        self,
        model: llm.Model,
        plan: Mapping[int, ModelFault] | None = None,
        *,
        chances: Mapping[ModelFault, float] | None = None,
        seed: int = 0,
        delay: float = 60.0,
        errors: Mapping[Literal["rate_limit", "timeout", "lost"], Exception] | None = None,
    ) -> None:
        self._model, self._plan, self._chances = model, dict(plan or {}), dict(chances or {})
        self._delay = delay
        self._errors: dict[str, Exception] = _ERRORS | {str(fault): error for fault, error in (errors or {}).items()}
        _validate(self._plan, self._chances, delay, errors or {})
        self._random = Random(f"{seed}/model")  # noqa: S311 (repeatable, not secret)
        self._numbers = itertools.count(1)
        self.happened: list[tuple[int, ModelFault]] = []

    @property
    def name(self) -> str:
        """The name of the model that is asked."""
        return self._model.name

    @property
    def provider(self) -> str:
        """The provider of the model that is asked."""
        return self._model.provider

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the model that is asked."""
        return self._model.settings

    @property
    def api_key(self) -> Secret[str] | None:
        """The key of the model that is asked."""
        return self._model.api_key

    @property
    def price(self) -> llm.Price | None:
        """What the tokens cost of the model that is asked, as its user says."""
        return getattr(self._model, "price", None)

    @property
    def base_url(self) -> str | None:
        """The address of the server of the model that is asked."""
        return getattr(self._model, "base_url", None)

    def with_settings(self, **settings: Any) -> Self:
        """Return this in front of the model with other settings. They count their requests together.

        Raises:
            ConfigError: The model does not take them.
        """
        made = copy.copy(self)
        made._model = with_settings(self._model, settings, "faults.Model")
        return made

    @property
    def attachment_types(self) -> Collection[str]:
        """The types of attachments that the model takes which is asked."""
        return attachment_types_of(self._model)

    async def complete(
        self,
        messages: Sequence[llm.Message],
        *,
        tools: Sequence[llm.ToolSchema] = (),
        output: llm.OutputSchema | None = None,
    ) -> llm.Completion:
        """Return the answer of the model, or what becomes of it; see ``rt.llm.Model``."""
        number, fault = self._next_fault()
        await self._refuse(number, fault)
        completion = await self._model.complete(messages, tools=tools, output=output)
        if fault == "lost":
            raise self._error(number, fault)
        return self._changed(number, fault, completion)

    async def stream(
        self,
        messages: Sequence[llm.Message],
        *,
        tools: Sequence[llm.ToolSchema] = (),
        output: llm.OutputSchema | None = None,
    ) -> AsyncGenerator[str | llm.Reasoning | llm.OutputDelta | llm.Completion, None]:
        """Yield the answer of the model, or what becomes of it. A changed one is yielded when it has come whole."""
        number, fault = self._next_fault()
        await self._refuse(number, fault)
        if fault is None:
            async with aclosing(self._model.stream(messages, tools=tools, output=output)) as stream:
                async for piece in stream:
                    yield piece
            return
        completion = await self._model.complete(messages, tools=tools, output=output)
        changed = completion if fault == "lost" else self._changed(number, fault, completion)
        parts = pieces(changed, by_words=True)
        for piece in parts[: (len(parts) + 1) // 2] if fault == "lost" else parts:
            await checkpoint()
            yield piece
        if fault == "lost":
            raise self._error(number, fault)
        yield changed

    # ---- what goes wrong

    def _next_fault(self) -> tuple[int, ModelFault | None]:
        number = next(self._numbers)
        if number in self._plan or not self._chances:
            return number, self._plan.get(number)
        point = self._random.random()
        for fault, chance in self._chances.items():
            point -= chance
            if point < 0:
                return number, fault
        return number, None

    async def _refuse(self, number: int, fault: ModelFault | None) -> None:
        """Raise the error of a request that never comes to the model."""
        if fault in ("rate_limit", "timeout"):
            await anyio.sleep(self._delay if fault == "timeout" else 0)
            raise self._error(number, fault)

    def _note(self, number: int, fault: ModelFault) -> None:
        self.happened.append((number, fault))
        note_fault(f"request {number}: {fault}")

    def _error(self, number: int, fault: ModelFault) -> Exception:
        self._note(number, fault)
        error: Exception = copy.copy(self._errors[fault])
        return error

    def _changed(self, number: int, fault: ModelFault | None, completion: llm.Completion) -> llm.Completion:
        changed = completion if fault is None else _CHANGES[fault](completion)
        if fault is not None and changed != completion:
            self._note(number, fault)
        return changed


def _validate(plan: Mapping[Any, Any], chances: Mapping[Any, Any], delay: float, errors: Mapping[Any, Any]) -> None:
    for number, fault in plan.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigError(f"Model: plan has the request {number!r}; requests are counted from 1")
        if fault not in _FAULTS:
            raise ConfigError(f"Model: plan has {fault!r}; use one of {', '.join(map(repr, _FAULTS))}")
    for fault, chance in chances.items():
        if fault not in _FAULTS:
            raise ConfigError(f"Model: chances has {fault!r}; use one of {', '.join(map(repr, _FAULTS))}")
        if isinstance(chance, bool) or not isinstance(chance, int | float) or not 0 <= chance <= 1:
            raise ConfigError(f"Model: the chance of {fault!r} is {chance!r}; use a number from 0 to 1")
    if sum(chances.values()) > 1:
        raise ConfigError(f"Model: the chances {dict(chances)} have a sum over 1")
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < 2**62:
        raise ConfigError(f"Model: delay is {delay!r}; use seconds, 0 or more")
    for fault, error in errors.items():
        if fault not in _ERRORS:
            raise ConfigError(f"Model: errors has {fault!r}; use one of {', '.join(map(repr, _ERRORS))}")
        if not isinstance(error, Exception):
            raise ConfigError(f"Model: the error for {fault!r} is {error!r}; use an exception")


# ---- answers that are not as they should be


def _with(completion: llm.Completion, finish_reason: str | None = None, **message: Any) -> llm.Completion:
    changed = attrs.evolve(completion.message, **message)
    return attrs.evolve(completion, message=changed, finish_reason=finish_reason or completion.finish_reason)


def _cut(completion: llm.Completion) -> llm.Completion:
    said, calls = [*words(completion.message.content)], completion.message.tool_calls
    kept = said if calls else said[: len(said) // 2]
    return _with(completion, "length", content="".join(kept), tool_calls=[*calls[:-1], *map(halved, calls[-1:])])


def _filtered(completion: llm.Completion) -> llm.Completion:
    return _with(completion, "content_filter", content="", tool_calls=())


def _empty(completion: llm.Completion) -> llm.Completion:
    return _with(completion, "stop", content="", tool_calls=())


def _malformed(completion: llm.Completion) -> llm.Completion:
    return _with(completion, tool_calls=map(halved, completion.message.tool_calls))


def _wrong_tool(completion: llm.Completion) -> llm.Completion:
    calls = completion.message.tool_calls
    wrong = [attrs.evolve(call, name=f"{call.name}_unknown") for call in calls[:1]]
    return _with(completion, tool_calls=[*wrong, *calls[1:]])


def _repeated_ids(completion: llm.Completion) -> llm.Completion:
    return _with(completion, tool_calls=[attrs.evolve(call, id="call_0") for call in completion.message.tool_calls])


_CHANGES = {
    "cut": _cut,
    "filtered": _filtered,
    "empty": _empty,
    "malformed": _malformed,
    "wrong_tool": _wrong_tool,
    "repeated_ids": _repeated_ids,
}
