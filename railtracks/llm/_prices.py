"""What answers cost: by the prices that users give, and by those that the package ``genai-prices`` lists.

The package takes a third of a second to load. So it is loaded in a thread, and only for providers that it may know. It
does not use the network, unless the program has it update its prices.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import attrs

from railtracks._concurrency._threads import run_in_thread
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import ConfigError
from railtracks.llm._model import Completion, Model, Usage

_PACKAGE = "genai_prices"
_MILLION = 1_000_000
_SAME_NAMES = (
    "anthropic", "cerebras", "cohere", "deepseek", "fireworks", "groq", "openai", "openrouter", "perplexity",
    "together",
)  # fmt: skip
_PROVIDERS = dict(zip(_SAME_NAMES, _SAME_NAMES, strict=True)) | {
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "aws.bedrock": "aws",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
}
"""The package's names of providers, by those of OpenTelemetry."""


def dollars(value: object, what: str) -> Decimal:
    """Return an amount of dollars.

    Args:
        value: A number.
        what: What it is, for the error.

    Raises:
        ConfigError: It is not a number, or negative or infinite.
    """
    amount = Decimal(str(value)) if type(value) in (int, float, Decimal) else None
    if amount is None or not amount.is_finite() or amount < 0:
        raise ConfigError(f"{what} is {value!r}; expected a number of dollars that is not negative")
    return amount


def show_dollars(amount: Decimal) -> str:
    """Return an amount for people, such as "$0.0125": exact to a millionth."""
    return f"${round(amount, 6).normalize():f}"


def _amount(value: float | Decimal) -> Decimal:
    return dollars(value, "an amount of an rt.llm.Price")


@attrs.frozen(kw_only=True)
class Price:
    """What the tokens of a model cost, in dollars per million: ``rt.llm.OpenAI("qwen3", price=rt.llm.Price(...))``.

    The amounts are kept as ``Decimal``.

    Args:
        input: Tokens of the question.
        output: Tokens of the answer, with those of the reasoning.
        cache_read: Tokens of the question that the provider's cache had. None: as ``input``.
        cache_write: Tokens that were written to the cache. None: as ``input``.
        cache_write_1h: Tokens that the cache keeps for an hour. None: as ``cache_write``.
        input_audio: Tokens of sound in the question. None: as ``input``.

    Raises:
        ConfigError: An amount is not a number, or negative.
    """

    input: Decimal = attrs.field(converter=_amount)
    output: Decimal = attrs.field(converter=_amount)
    cache_read: Decimal | None = attrs.field(default=None, converter=attrs.converters.optional(_amount))
    cache_write: Decimal | None = attrs.field(default=None, converter=attrs.converters.optional(_amount))
    cache_write_1h: Decimal | None = attrs.field(default=None, converter=attrs.converters.optional(_amount))
    input_audio: Decimal | None = attrs.field(default=None, converter=attrs.converters.optional(_amount))

    def cost(self, usage: Usage) -> Decimal:
        """Return what these tokens cost, in dollars."""
        read = self.input if self.cache_read is None else self.cache_read
        write = self.input if self.cache_write is None else self.cache_write
        hour = write if self.cache_write_1h is None else self.cache_write_1h
        audio = self.input if self.input_audio is None else self.input_audio
        special = usage.cache_read_tokens + usage.cache_write_tokens + usage.input_audio_tokens
        amount = (
            max(usage.input_tokens - special, 0) * self.input
            + usage.cache_read_tokens * read
            + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * write
            + usage.cache_write_1h_tokens * hour
            + usage.input_audio_tokens * audio
            + usage.output_tokens * self.output
        )
        return amount / _MILLION


def sum_of(cost: Decimal | None, other: Decimal | None) -> Decimal | None:
    """Return the sum of two costs; None if one is not known."""
    return None if cost is None or other is None else cost + other


async def prepare_prices(model: Model) -> None:
    """Load the list of prices in a thread, unless it was, or is not needed for the model.

    Under a harness it is loaded at once: with a thread, the first run in a process would be another one than the next.

    Cancellation: Raised when it is loaded.
    """
    if _package.cache_info().currsize or not _may_be_listed(model) or not is_installed():
        return
    if runtime_hooks.get().hold_clock is None:
        await run_in_thread(_package, name="load the list of prices")
    else:
        _package()


def cost_of(model: Model, completion: Completion) -> Decimal | None:
    """Return what an answer costs, in dollars; None if that is not known.

    Args:
        model: The model that was asked. Its attribute ``price``, if it has one, is used rather than the list. One that
            asks others, its ``models``, has priced their answers itself.
        completion: The answer. If it has a cost, it is that.
    """
    usage, price = completion.usage, getattr(model, "price", None)
    if completion.cost is not None or usage is None or isinstance(getattr(model, "models", None), tuple):
        return completion.cost
    if price is not None:
        return price.cost(usage)  # type: ignore[no-any-return]
    return _listed_cost(model, completion, usage)


def with_cost(model: Model, completion: Completion) -> Completion:
    """Return an answer with what it costs. The arguments are those of ``cost_of``."""
    cost = cost_of(model, completion)
    return completion if cost is completion.cost else attrs.evolve(completion, cost=cost)


def unpriced(model: Model) -> str | None:
    """Return what to say of a model whose price is not known before it is asked, and what to do; None if it is.

    Args:
        model: The model. If it asks others, its attribute ``models``, it is about them.
    """
    others = getattr(model, "models", None)
    if isinstance(others, tuple):
        return next((problem for problem in map(unpriced, others) if problem is not None), None)
    if getattr(model, "price", None) is not None or _listed_cost(model, None, Usage(1, 1)) is not None:
        return None
    install = "" if is_installed() else "; or install the list of prices: `pip install '.[prices]'` in a checkout"
    return (
        f"the price of the model {model.name} (provider {model.provider}) is not known; give the model the argument "
        f"price=rt.llm.Price(input=..., output=...), in dollars per million tokens{install}"
    )


@functools.cache
def is_installed() -> bool:
    """Return whether the package with the list of prices is installed."""
    return find_spec(_PACKAGE) is not None


@functools.cache
def _package() -> Any:
    """Return the package, whose list is loaded with the first price that is looked up."""
    package: Any = import_module(_PACKAGE)
    with suppress(LookupError):
        package.calc_price(package.Usage(), "none", provider_id="openai")
    return package


def _may_be_listed(model: Model) -> bool:
    """Return whether the list may have a model. One that asks others, its ``models``, is not meant by its name."""
    is_single = not isinstance(getattr(model, "models", None), tuple)
    return is_single and getattr(model, "price", None) is None and any(_places_of(model))


def _places_of(model: Model) -> Iterator[dict[str, str]]:
    """Yield where the list may have a model: first by its address, then as one of its provider."""
    if address := getattr(model, "base_url", None):
        yield {"provider_api_url": address}
    if provider := _PROVIDERS.get(model.provider):
        yield {"provider_id": provider}


def _listed_cost(model: Model, completion: Completion | None, usage: Usage) -> Decimal | None:
    """Return what the list says; None if it does not have the model, or has no price for what was counted."""
    if not _may_be_listed(model) or not is_installed():
        return None
    package = _package()
    counted = package.Usage(**{name: count for name, count in usage.counts().items() if name != "reasoning_tokens"})
    tier = None if completion is None else completion.service_tier
    context = {} if tier is None else {"price_context": {"service_tier": tier}}
    names = [model.name] if completion is None or completion.model is None else [completion.model, model.name]
    for place in _places_of(model):
        for name in names:
            with suppress(LookupError, ValueError):
                return package.calc_price(counted, name, **place, **context).total_price  # type: ignore[no-any-return]
    return None
