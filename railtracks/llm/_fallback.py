"""``Fallback``: models of which the next one is asked when one fails."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from weakref import WeakKeyDictionary

import attrs

from railtracks._context_variable import current
from railtracks.exceptions import ConfigError, Filtered, LLMError, Refused, Truncated
from railtracks.llm._availability import is_unavailable
from railtracks.llm._finish import Ending, ending_of
from railtracks.llm._messages import Message, MessageHistory
from railtracks.llm._model import (
    Completion,
    Model,
    OutputMode,
    OutputSchema,
    Piece,
    ToolSchema,
    Usage,
    attachment_types_of,
)  # fmt: skip
from railtracks.llm._prices import prepare_prices, sum_of, with_cost
from railtracks.llm._settings import with_settings

OnFailure = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Of which exceptions another model is asked."""
_ERRORS: Mapping[Ending, type[LLMError]] = {
    Ending.CUT: Truncated,
    Ending.FILTERED: Filtered,
    Ending.REFUSED: Refused,
}
_warned: WeakKeyDictionary[Any, set[tuple[str, str]]] = WeakKeyDictionary()
"""The models of which each session was warned."""


class Fallback:
    """A model that asks the first of several models, and the next one when one fails.

    ::

        model = rt.llm.Fallback(rt.llm.OpenAI("gpt-5"), rt.llm.Anthropic("claude-sonnet-4-5"))

    It is asked anew with each request, from the first model on, after what the SDKs have repeated themselves
    (``max_retries``). In a stream the next model is asked only as long as nothing has come: what the consumer got is
    never followed by another model's answer. The record of a request says which models have failed, and a warning in
    the log says it of each once a session. If the last one fails, too, its exception is raised, with notes about the
    others.

    Args:
        *models: The models, two or more.
        on: Of which exceptions the next model is asked: classes, or a function of the exception that returns whether
            to. ``rt.exceptions.Filtered``, ``Refused`` and ``Truncated`` stand for answers that have ended so, whose
            error an agent raises otherwise. None: where the provider cannot answer now, as it is not reached, does not
            answer in time, takes no more requests, or has failed itself.

    Attributes:
        models: The models.

    Raises:
        ConfigError: There are fewer than two models, or an argument is something else.

    Its ``name`` and ``provider`` are those of the first model. Cancellation is never a reason to ask another one.
    """

    def __init__(self, *models: Model, on: OnFailure | None = None) -> None:
        wrong = [each for each in models if isinstance(each, type) or not callable(getattr(each, "complete", None))]
        if len(models) < 2 or wrong:
            what = f"was given a {type(wrong[0]).__name__}" if wrong else f"was given {len(models)} of them"
            raise ConfigError(f"rt.llm.Fallback needs two or more models, and {what}; write Fallback(first, second)")
        kinds = on if isinstance(on, tuple) else (on,) if isinstance(on, type) else ()
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds) or not (
            kinds or on is None or callable(on)
        ):
            raise ConfigError(
                f"rt.llm.Fallback: {on!r} is not allowed for on; expected a class of exceptions, a tuple of them, or a "
                f"function of one exception"
            )
        self.models: tuple[Model, ...] = models
        self._on = on

    def __repr__(self) -> str:
        return f"Fallback({', '.join(f'{model.provider} {model.name}' for model in self.models)})"

    @property
    def name(self) -> str:
        """The name of the first model."""
        return self.models[0].name

    @property
    def provider(self) -> str:
        """The provider of the first model."""
        return self.models[0].provider

    @property
    def settings(self) -> Mapping[str, Any]:
        """The models, with their settings."""
        return {
            "models": [
                {"provider": model.provider, "name": model.name, "settings": dict(model.settings)}
                for model in self.models
            ]
        }

    @property
    def api_key(self) -> None:
        """None: the models have their own keys, which are never written either."""
        return

    @property
    def output_modes(self) -> tuple[OutputMode, ...]:
        """The modes of asking for objects that all models know."""
        known = [tuple(getattr(model, "output_modes", ())) for model in self.models]
        return tuple(mode for mode in known[0] if all(mode in each for each in known))

    @property
    def attachment_types(self) -> Collection[str]:
        """The types of attachments that all models take."""
        known = [attachment_types_of(model) for model in self.models]
        return [kind for kind in known[0] if all(kind in each for each in known)]

    def with_settings(self, **settings: Any) -> Fallback:
        """Return it with other settings for all of its models.

        Raises:
            ConfigError: A model does not take them.
        """
        changed = (with_settings(model, settings, "rt.llm.Fallback") for model in self.models)
        return Fallback(*changed, on=self._on)

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> Completion:
        """Request one answer; see ``Model.complete``."""
        failed: list[tuple[Model, Exception]] = []
        for model in self.models:
            try:
                completion = await model.complete(messages, tools=tools, output=output)
                await self._check_ending(model, completion, messages, is_last=len(failed) == len(self.models) - 1)
            except Exception as exc:
                self._go_on(failed, model, exc)
            else:
                noted: Completion = await _noted(completion, model, failed)
                return noted
        raise AssertionError("the last model returns or raises")

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> AsyncGenerator[Piece, None]:
        """Request one answer piece by piece; see ``Model.stream``."""
        failed: list[tuple[Model, Exception]] = []
        for model in self.models:
            has_begun = False
            try:
                async with aclosing(model.stream(messages, tools=tools, output=output)) as pieces:
                    async for piece in pieces:
                        if not has_begun:
                            is_last = len(failed) == len(self.models) - 1
                            await self._check_ending(model, piece, messages, is_last=is_last)
                        has_begun = True
                        yield await _noted(piece, model, failed) if isinstance(piece, Completion) else piece
            except Exception as exc:
                if has_begun:
                    raise
                self._go_on(failed, model, exc)
            else:
                return

    def _go_on(self, failed: list[tuple[Model, Exception]], model: Model, error: Exception) -> None:
        """Note that a model has failed. Raise its error unless the next one is to be asked."""
        if len(failed) == len(self.models) - 1 or not self._is_wanted(error):
            for other, before in failed:
                error.add_note(f"before that, {_named(other)} has failed: {type(before).__name__}: {before}")
            raise error
        failed.append((model, error))
        _warn(model, error, self.models[len(failed)])

    def _is_wanted(self, error: Exception) -> bool:
        on = self._on
        if on is None:
            return is_unavailable(error)
        return isinstance(error, on) if isinstance(on, type | tuple) else bool(on(error))

    async def _check_ending(self, model: Model, answer: object, messages: Sequence[Message], *, is_last: bool) -> None:
        """Raise the error of an answer that is not whole, if the next model is to be asked for it.

        Cancellation: Raised when the list of prices is loaded.
        """
        if is_last or self._on is None or not isinstance(answer, Completion):
            return
        kind = _ERRORS.get(ending_of(answer))
        if kind is None or (kind is Truncated and answer.message.tool_calls):
            return
        history = MessageHistory([*messages, answer.message])
        what = f"the answer of {_named(model)} has ended with {answer.finish_reason!r}"
        await prepare_prices(model)
        error = kind(what, history, answer.usage or Usage(), with_cost(model, answer).cost)
        if self._is_wanted(error):
            raise error


def _named(model: Model) -> str:
    return f"the model {model.name} ({model.provider})"


async def _noted(completion: Any, model: Model, failed: Sequence[tuple[Model, Exception]]) -> Any:
    """Return an answer with its cost, which is that of the model that gave it, and the models that have failed before.

    The answers of those that were not whole were paid for, too, and are in its usage and its cost.

    Cancellation: Raised when the list of prices is loaded.
    """
    if not isinstance(completion, Completion):
        return completion
    await prepare_prices(model)
    completion = with_cost(model, completion)
    if not failed:
        return completion
    texts = [f"{each.provider} {each.name}: {type(error).__name__}" for each, error in failed]
    provider = model.provider if completion.provider is None else completion.provider
    usage, cost = completion.usage, completion.cost
    for _, error in failed:
        if isinstance(error, LLMError) and error.usage is not None:
            usage, cost = (usage or Usage()) + error.usage, sum_of(cost, error.cost)
    return attrs.evolve(completion, provider=provider, failed=(*texts, *completion.failed), usage=usage, cost=cost)


def _warn(model: Model, error: Exception, other: Model) -> None:
    frame = current.get()
    session = None if frame is None else frame.coordinator
    if session is not None:
        known = _warned.setdefault(session, set())
        if (model.provider, model.name) in known:
            return
        known.add((model.provider, model.name))
    log = logging.getLogger("RT").log if session is None else session.log.log
    text = "%s has failed with %s: %s, and %s is asked instead; further such failures are on record, and not logged"
    log(logging.WARNING, text, _named(model), type(error).__name__, error, _named(other))
