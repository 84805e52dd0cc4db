"""The prices of models that the extra ``prices`` lists."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from decimal import Decimal

import anyio
import pytest

import railtracks as rt
from railtracks.llm import AssistantMessage, Completion, Price, Usage
from railtracks.llm import _prices as prices
from railtracks.testing import ScriptedModel
from tests import virtual
from tests.llm.server import Answer
from tests.llm.test_adapters import ASKED, anthropic, both_ways, openai

genai_prices = pytest.importorskip("genai_prices")
MILLION = Usage(1_000_000, 0)


def listed(usage, name, provider):
    counts = usage.counts()
    counts.pop("reasoning_tokens", None)
    return genai_prices.calc_price(genai_prices.Usage(**counts), name, provider_id=provider).total_price


class Named(ScriptedModel):
    """A model that anyone may have written, of a provider."""

    def __init__(self, name, provider, usage=MILLION, **fields):
        super().__init__([Completion(AssistantMessage("So."), usage, **fields)], name=name)
        self.provider = provider


async def cost(model):
    return (await rt.call(rt.agent_node("Teller", llm=model), "So?")).cost


@pytest.mark.parametrize(
    ("name", "provider", "its_provider"),
    [
        ("gpt-5", "openai", "openai"),
        ("claude-sonnet-4-5", "anthropic", "anthropic"),
        ("gpt-5", "azure.ai.openai", "azure"),
        ("gemini-2.5-flash", "gcp.gemini", "google"),
        ("mistral-small-latest", "mistral_ai", "mistral"),
    ],
)
async def test_a_model_costs_what_is_listed(name, provider, its_provider):
    found = await cost(Named(name, provider))
    assert found == listed(MILLION, name, its_provider) > 0


def test_the_providers_are_those_of_the_list():
    from genai_prices.data_snapshot import get_snapshot

    assert {*prices._PROVIDERS.values()} <= {provider.id for provider in get_snapshot().providers}


@pytest.mark.parametrize(("name", "provider"), [("some-model", "openai"), ("gpt-5", "scripted"), ("qwen3", "openai")])
async def test_what_is_not_listed_has_no_cost(name, provider):
    assert await cost(Named(name, provider)) is None


async def test_the_model_that_has_answered_counts():
    """That of a deployment, or an alias, has another name."""
    assert await cost(Named("my-deployment", "azure.ai.openai", model="gpt-5-2025-08-07")) == Decimal("1.25")


async def test_parts_of_the_tokens_have_their_prices():
    usage = Usage(1000, 100, cache_read_tokens=500, reasoning_tokens=50)
    plain = await cost(Named("gpt-5", "openai", Usage(1000, 100)))
    assert await cost(Named("gpt-5", "openai", usage)) == listed(usage, "gpt-5", "openai") < plain
    hour, minutes = (Usage(1000, 0, cache_write_tokens=1000, cache_write_1h_tokens=n) for n in (1000, 0))
    of = [await cost(Named("claude-sonnet-4-5", "anthropic", each)) for each in (hour, minutes)]
    assert of == [Decimal("0.006"), Decimal("0.00375")]


async def test_the_price_of_the_user_comes_first():
    model = Named("gpt-5", "openai")
    model.price = Price(input=3, output=3)
    assert await cost(model) == 3


@both_ways
@pytest.mark.parametrize(
    ("make", "name", "answer", "usage"),
    [
        (openai, "gpt-5", Answer(usage=(1000, 100), details={"prompt_tokens_details": {"cached_tokens": 500}}),
         Usage(1000, 100, cache_read_tokens=500)),
        (anthropic, "claude-sonnet-4-5", Answer(usage=(500, 100), details={"cache_read_input_tokens": 500}),
         Usage(1000, 100, cache_read_tokens=500)),
    ],
)  # fmt: skip
async def test_answers_of_the_adapters_have_their_cost(server, ask, make, name, answer, usage):
    sdk = pytest.importorskip(make.__name__)
    server.answers = [answer, answer]
    model = make(server.url)
    model._name = name
    completion = await ask(model, ASKED)
    assert completion.cost == listed(usage, name, sdk.__name__)
    own = make(server.url, price=Price(input=1, output=1))
    assert (await ask(own, ASKED)).cost == Decimal("0.0011")


async def test_the_tier_of_the_answer_has_its_price(server):
    pytest.importorskip("openai")
    server.answers = [Answer(usage=(1000, 0), fields={"service_tier": tier}) for tier in ("default", "priority")]
    model = openai(server.url)
    model._name = "gpt-5"
    costs = [(await model.complete(ASKED)).cost for _ in range(2)]
    assert costs == [Decimal("0.00125"), Decimal("0.0025")]


async def test_an_address_comes_before_the_name_of_the_provider():
    model = Named("deepseek-chat", "openai")
    assert await cost(model) is None
    model = Named("deepseek-chat", "openai")
    vars(model)["base_url"] = "https://api.deepseek.com/v1"
    assert await cost(model) == listed(MILLION, "deepseek-chat", "deepseek")


def test_a_wrong_price_is_refused():
    pytest.importorskip("openai")
    with pytest.raises(rt.exceptions.ConfigError, match=r"OpenAI: price is 1; expected rt.llm.Price\(input=1.25"):
        openai("http://127.0.0.1:1", price=1)


async def test_the_model_that_gave_an_answer_has_its_price():
    def failing():
        return ScriptedModel([TimeoutError()], name="gpt-5", price=Price(input=1, output=1))

    def fallback(other):
        return rt.llm.Fallback(failing(), other, on=TimeoutError)

    assert await cost(fallback(Named("claude-sonnet-4-5", "anthropic"))) == listed(
        MILLION, "claude-sonnet-4-5", "anthropic"
    )
    assert await cost(fallback(Named("some-model", "openai"))) is None
    first = Named("gpt-5", "openai")
    assert await cost(rt.llm.Fallback(first, failing())) == Decimal("1.25")
    assert rt.agent_node(llm=rt.llm.Fallback(first, failing()), max_cost=1)
    with pytest.raises(rt.exceptions.NodeCreationError, match="the price of the model some-model"):
        rt.agent_node(llm=fallback(Named("some-model", "openai")), max_cost=1)


@pytest.fixture
def unloaded(monkeypatch):
    """The list as it is before it is needed."""
    prices._package.cache_clear()
    prices.is_installed.cache_clear()
    yield monkeypatch
    prices._package.cache_clear()
    prices.is_installed.cache_clear()


async def test_without_the_extra_nothing_is_known(unloaded):
    unloaded.setitem(sys.modules, "genai_prices", None)
    assert await cost(Named("gpt-5", "openai")) is None
    with pytest.raises(rt.exceptions.NodeCreationError, match=r"pip install '.\[prices\]'"):
        rt.agent_node(llm=Named("gpt-5", "openai"), max_cost=1)


@pytest.mark.parametrize("is_simulated", [False, True])
def test_the_list_is_loaded_once_and_in_a_thread(backend, unloaded, is_simulated):
    """Only then can a harness run it again in the same order."""
    threads = []

    def load(name):
        threads.append(threading.get_ident())
        return importlib.import_module(name)

    async def main():
        assert await cost(ScriptedModel(["So."])) is None
        assert threads == []
        assert await cost(Named("gpt-5", "openai")) == await cost(Named("gpt-5", "openai")) == Decimal("1.25")

    unloaded.setattr(prices, "import_module", load)
    run = virtual.run if is_simulated else lambda backend, main: anyio.run(main, backend=backend)
    run(backend, main)
    assert len(threads) == 1
    assert (threads[0] == threading.get_ident()) is is_simulated


def test_importing_the_library_does_not_load_the_list():
    code = """
import sys, railtracks as rt
from railtracks.testing import ScriptedModel
rt.call_sync(rt.agent_node(llm=ScriptedModel(["So."])), "So?")
print("genai_prices" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_bound_of_a_listed_model_is_accepted():
    assert rt.agent_node(llm=Named("gpt-5", "openai"), max_cost=0.5)
