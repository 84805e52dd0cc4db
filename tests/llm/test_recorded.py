"""Cassettes of the adapters: what the SDKs send and raise is recorded without the key, and replayed without them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

import railtracks as rt
from railtracks.llm import ToolMessage
from railtracks.testing import Cassette
from tests.llm.server import Answer, Call
from tests.llm.test_adapters import (  # noqa: F401 (fixtures)
    ASKED,
    KEY,
    TOOL,
    adapter,
    anthropic,
    both_ways,
    by_complete,
    sdk,
    whole,
)

PATH = "exchanges.json"


@both_ways
async def test_an_exchange_is_replayed_as_it_was(adapter, server, ask):  # noqa: F811 (a fixture)
    calls = [Call(name="add", arguments={"a": 1, "b": ["é", None]}), Call(name="now")]
    server.answers = [Answer(calls=calls), Answer(text=f"Your key is {KEY}.\nDone.", finish="length")]
    model = adapter(server.url)
    recording = Cassette(PATH, model, mode="anew")
    first = await ask(recording, ASKED, tools=[TOOL])
    results = [ToolMessage("3", call.id, call.name) for call in first.message.tool_calls]
    second = await ask(recording, [*ASKED, first.message, *results], tools=[TOOL])
    assert KEY in second.message.content
    assert KEY not in Path(PATH).read_text(encoding="utf-8")
    cassette = Cassette(PATH)
    assert await ask(cassette, ASKED, tools=[TOOL]) == first
    replayed = await ask(cassette, [*ASKED, first.message, *results], tools=[TOOL])
    assert replayed.message.content == "Your key is ***.\nDone."
    assert replayed.finish_reason == second.finish_reason
    assert len(server.requests) == 2
    assert (cassette.name, cassette.provider, cassette.api_key) == (model.name, model.provider, None)
    assert dict(cassette.settings) == dict(model.settings)


async def test_the_pieces_are_replayed_as_they_came(adapter, server):  # noqa: F811 (a fixture)
    recorded = await whole(Cassette(PATH, adapter(server.url), mode="anew"), ASKED)
    assert await whole(Cassette(PATH), ASKED) == recorded
    assert len(recorded[0]) > 1


@both_ways
@pytest.mark.parametrize("status", [401, 429, 500])
async def test_an_error_is_replayed_as_the_sdks_own(adapter, sdk, server, status, ask):  # noqa: F811 (fixtures)
    server.answers = [Answer(status=status, error="the key {key} did not work")]
    with pytest.raises(sdk.APIStatusError) as recorded:
        await ask(Cassette(PATH, adapter(server.url), mode="anew"), ASKED)
    with pytest.raises(type(recorded.value)) as replayed:
        await ask(Cassette(PATH), ASKED)
    assert str(replayed.value) == str(recorded.value)
    assert replayed.value.status_code == status
    assert KEY not in Path(PATH).read_text(encoding="utf-8")


async def test_what_belongs_to_the_provider_stays(server):
    pytest.importorskip("anthropic")
    server.answers = [Answer(thinking="I add.", calls=[Call(name="add")])]
    model = anthropic(server.url, thinking={"type": "enabled", "budget_tokens": 1024})
    first = await Cassette(PATH, model, mode="anew").complete(ASKED, tools=[TOOL])
    assert first.message.extra is not None
    replayed = await Cassette(PATH).complete(ASKED, tools=[TOOL])
    assert replayed.message == first.message
    assert replayed.message.extra == first.message.extra
    await Cassette(PATH, model).complete(ASKED, tools=[TOOL])  # it has the settings that are recorded


@both_ways
async def test_an_agent_with_an_output_schema_is_replayed(adapter, server, ask):  # noqa: F811 (a fixture)
    server.answers = [Answer(text='{"value": [1, 2]}')]

    def counter(model):
        return rt.agent_node("Counter", llm=model, output_schema=list[int])

    async def run(model):
        if ask is by_complete:
            return (await rt.call(counter(model), "Count!")).content
        async with rt.Session(save_state=False), contextlib.aclosing(rt.astream(counter(model), "Count!")) as stream:
            return [chunk async for chunk in stream][-1].response.content

    assert await run(Cassette(PATH, adapter(server.url), mode="missing")) == [1, 2]
    assert await run(Cassette(PATH)) == [1, 2]
    assert len(server.requests) == 1
