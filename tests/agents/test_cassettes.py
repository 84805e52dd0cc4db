"""Cassettes: exchanges with a model are recorded without secrets, and replayed without the model."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal
from pathlib import Path

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, Truncated
from railtracks.llm import Message, OutputSchema, Price, Reasoning, SystemMessage, ToolSchema, Usage, UserMessage
from railtracks.testing import (
    Cassette,
    CassetteError,
    ScriptedModel,
    answer,
    check,
    conformance,
    simulate,
    tool_call,
)  # fmt: skip
from tests.agents.helpers import forecast, texts_of

PATH = "cassettes/weather.json"
ASKED: list[Message] = [SystemMessage("Be brief."), UserMessage("Coat?")]
KEY = "key-0123456789-abcdefghij"
TOOL = ToolSchema("login", "Logs in.", {"type": "object", "properties": {"password": {"type": "string"}}})


class Refused(Exception):
    def __init__(self, text, *, response):
        super().__init__(text)
        self.response, self.status_code, self.body = response, 429, {"error": text}


class Keyed(ScriptedModel):
    api_key = rt.Secret(KEY)


def agent_of(model, **options):
    return rt.agent_node("Weather", llm=model, tool_nodes=[forecast], **options)


def script():
    return ScriptedModel([tool_call("forecast", city="Oslo"), "Yes,\na warm one."])


def written(path=PATH):
    return json.loads(Path(path).read_text(encoding="utf-8"))


async def pieces_of(model, messages=ASKED):
    async with contextlib.aclosing(model.stream(messages)) as stream:
        return [piece async for piece in stream]


# ---- recording and replaying


async def test_what_was_recorded_is_replayed_without_the_model():
    first = await rt.call(agent_of(Cassette(PATH, script(), mode="missing")), "Coat?")
    cassette = Cassette(PATH)
    second = await rt.call(agent_of(cassette), "Coat?")
    assert second == first
    assert second.usage == first.usage
    assert (cassette.name, cassette.provider, cassette.settings) == ("scripted", "scripted", {})
    assert cassette.unused == []


async def test_what_an_answer_has_cost_is_replayed():
    model = ScriptedModel([answer("A warm one.", usage=Usage(1000, 10))], price=Price(input=2, output=10))
    first = await rt.call(agent_of(Cassette(PATH, model, mode="anew")), "Coat?")
    assert first.cost == Decimal("0.0021")
    assert await rt.call(agent_of(Cassette(PATH)), "Coat?") == first


async def test_a_stream_is_replayed_piece_by_piece():
    def streaming():
        return ScriptedModel([answer("Yes, a warm one.", reasoning="It snows.", usage=Usage(7, 9))])

    recorded = await pieces_of(Cassette(PATH, streaming(), mode="anew"))
    assert recorded == await pieces_of(streaming())
    assert await pieces_of(Cassette(PATH)) == recorded
    assert await Cassette(PATH).complete(ASKED) == recorded[-1]


async def test_an_answer_that_came_whole_can_be_streamed():
    await Cassette(PATH, ScriptedModel([answer("A warm one.", reasoning="Snow.")]), mode="anew").complete(ASKED)
    *pieces, completion = await pieces_of(Cassette(PATH))
    assert pieces == [Reasoning("Snow."), "A warm one."]
    assert completion.finish_reason == "stop"


async def test_an_agent_that_is_streamed_can_be_recorded():
    async with rt.Session():
        recorded = await texts_of(rt.astream(agent_of(Cassette(PATH, script(), mode="missing")), "Coat?"))
        assert await texts_of(rt.astream(agent_of(Cassette(PATH)), "Coat?")) == recorded


async def test_errors_and_cut_answers_are_replayed():
    error = Refused("slow down", response=object())
    model = ScriptedModel([error, answer("Once upon a time", max_tokens=2), answer("one two", error=error)])
    cassette = Cassette(PATH, model, mode="anew")
    with pytest.raises(Refused):
        await cassette.complete(ASKED)
    with pytest.raises(Refused) as caught:
        await Cassette(PATH).complete(ASKED)
    replayed = caught.value
    assert (str(replayed), replayed.status_code, replayed.body) == ("slow down", 429, {"error": "slow down"})
    assert not hasattr(replayed, "response")
    with pytest.raises(Truncated):
        await rt.call(rt.agent_node("Teller", llm=cassette), "A story!")
    with pytest.raises(Truncated):
        await rt.call(rt.agent_node("Teller", llm=Cassette(PATH)), "A story!")
    got = []
    with pytest.raises(Refused):
        await pieces_of(cassette, [UserMessage("Stream!")])
    with pytest.raises(Refused):
        async with contextlib.aclosing(Cassette(PATH).stream([UserMessage("Stream!")])) as stream:
            async for piece in stream:
                got.append(piece)
    assert got == ["one", " two"]


async def test_an_error_whose_class_is_not_there_says_so():
    class Local(Exception):
        pass

    with pytest.raises(Local):
        await Cassette(PATH, ScriptedModel([Local("no")]), mode="anew").complete(ASKED)
    with pytest.raises(CassetteError, match=r"Local cannot be made here; install its package"):
        await Cassette(PATH).complete(ASKED)


async def test_the_errors_of_an_sdk_are_those_that_it_raises():
    openai, httpx = pytest.importorskip("openai"), pytest.importorskip("httpx")
    response = httpx.Response(429, request=httpx.Request("POST", "http://127.0.0.1/"))
    error = openai.RateLimitError("slow down", response=response, body={"code": "rate"})
    with pytest.raises(openai.RateLimitError):
        await Cassette(PATH, ScriptedModel([error]), mode="anew").complete(ASKED)
    with pytest.raises(openai.RateLimitError, match="slow down") as caught:
        await Cassette(PATH).complete(ASKED)
    assert (caught.value.status_code, caught.value.body) == (429, {"code": "rate"})


async def test_requests_at_one_time_are_recorded_in_their_order():
    model = ScriptedModel(lambda messages: answer(messages[-1].content, delay=9 - int(messages[-1].content)))
    cassette = Cassette(PATH, model, mode="anew")
    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(cassette.complete, [UserMessage(str(number))])
            await anyio.sleep(0.1)
    said = [each["request"]["messages"][0]["content"] for each in written()["exchanges"]]
    assert said == ["0", "1", "2", "3"]


async def test_a_request_that_is_cancelled_is_not_recorded():
    cassette = Cassette(PATH, ScriptedModel([answer("late", delay=60), answer("a b c"), "in time"]), mode="anew")
    with anyio.move_on_after(1):
        await cassette.complete(ASKED)
    async with contextlib.aclosing(cassette.stream(ASKED)) as stream:
        assert await anext(stream) == "a"
    await cassette.complete(ASKED)
    assert [each["outcome"]["completion"]["message"]["content"] for each in written()["exchanges"]] == ["in time"]


async def test_what_is_left_or_cancelled_can_be_replayed_again():
    await Cassette(PATH, ScriptedModel([answer("a b c")]), mode="anew").complete(ASKED)
    cassette = Cassette(PATH)
    async with contextlib.aclosing(cassette.stream(ASKED)) as stream:
        await anext(stream)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await cassette.complete(ASKED)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pieces_of(cassette)
    assert len(cassette.unused) == 1
    assert (await cassette.complete(ASKED)).message.content == "a b c"
    assert cassette.unused == []


def test_a_cassette_can_be_simulated(backend):
    simulate(agent_of(Cassette(PATH, script(), mode="missing")), "Coat?", backend=backend).unwrap()
    for seed in range(3):
        outcome = simulate(agent_of(Cassette(PATH)), "Coat?", backend=backend, seed=seed)
        check(outcome)
        assert outcome.result.content == "Yes,\na warm one."


@pytest.mark.parametrize("name", conformance.CHECKS)
async def test_a_cassette_that_records_conforms(name):
    await conformance.check(lambda given: Cassette(PATH, ScriptedModel(given), mode="anew"), only=name)


# ---- the file


async def test_the_file_shows_a_conversation_once():
    await rt.call(agent_of(Cassette(PATH, script(), mode="missing"), system_message="Be brief."), "Coat?")
    data = written()
    assert data["model"] == {"provider": "scripted", "name": "scripted", "settings": {}}
    first, second = data["exchanges"]
    assert first["request"]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Coat?"},
    ]
    assert [tool["name"] for tool in first["request"]["tools"]] == ["forecast"]
    assert second["request"]["continues"] == 1
    assert [message["role"] for message in second["request"]["messages"]] == ["tool"]
    assert second["outcome"]["completion"]["message"]["content"] == ["Yes,\n", "a warm one."]
    assert list(Path("cassettes").iterdir()) == [Path(PATH)]


async def test_no_secret_is_in_the_file():
    token, known = "ghp_" + "aB3dE6gH9j" * 4, "swordfish-7"
    model = Keyed([[f"Use {KEY} and {token}", tool_call("login", password="hunter22", user="ada")]], name="gpt")
    cassette = Cassette(PATH, model, mode="anew", secrets=["blue-moon"])
    asked = [UserMessage(f"I am {known} of blue-moon with {KEY}")]
    async with rt.Session(context={"pass": rt.Secret(known)}):

        async def ask():
            rt.context.get("pass")
            return await cassette.complete(asked, tools=[TOOL], output=OutputSchema("o", {"type": "object"}))

        said = await rt.call(ask)
        text = Path(PATH).read_text(encoding="utf-8")
        assert not [each for each in (KEY, token, "hunter22", known, "blue-moon") if each in text]
        assert KEY in said.message.content
        assert written()["exchanges"][0]["request"]["tools"][0]["parameters"] == TOOL.parameters
        assert KEY not in repr(cassette) + repr(vars(cassette))

        async def replay():
            again = Cassette(PATH, secrets=[rt.Secret("blue-moon"), KEY])
            return await again.complete(asked, tools=[TOOL], output=OutputSchema("o", {"type": "object"}))

        replayed = await rt.call(replay)
    assert replayed.message.tool_calls[0].arguments == {"password": "***", "user": "ada"}


# ---- what does not match


async def test_a_request_that_is_not_there_shows_the_difference():
    await rt.call(agent_of(Cassette(PATH, script(), mode="missing")), "Coat?")
    with pytest.raises(CassetteError) as caught:
        await rt.call(agent_of(Cassette(PATH)), "Boots?")
    text = str(caught.value)
    assert text.startswith(f"the cassette {PATH} has no exchange for this request. The nearest one differs:\n--- exch")
    assert '\n-      "content": "Coat?"\n+      "content": "Boots?"\n' in text
    assert text.endswith("all, mode='anew'. cassette.rewind() replays all exchanges once more")
    assert "mode='missing'" in text


async def test_tools_and_schemas_are_part_of_a_request():
    await Cassette(PATH, ScriptedModel(["yes"]), mode="anew").complete(ASKED, tools=[TOOL])
    with pytest.raises(CassetteError, match=r'-      "name": "login"'):
        await Cassette(PATH).complete(ASKED)
    with pytest.raises(CassetteError, match=r'\+      "name": "logout"'):
        await Cassette(PATH).complete(ASKED, tools=[attrs.evolve(TOOL, name="logout")])
    with pytest.raises(CassetteError, match=r'\+  "output"'):
        await Cassette(PATH).complete(ASKED, tools=[TOOL], output=OutputSchema("o", {}))


async def test_each_exchange_is_replayed_once_until_it_is_rewound():
    recording = Cassette(PATH, ScriptedModel(["one", "two"]), mode="anew")
    for _ in range(2):
        await recording.complete(ASKED)
    cassette = Cassette(PATH)
    assert [list(history) for history in cassette.unused] == [ASKED] * 2
    for _ in range(2):
        assert [(await cassette.complete(ASKED)).message.content for _ in range(2)] == ["one", "two"]
        with pytest.raises(CassetteError, match="it was made 2 times before, which is as often as it is recorded"):
            await cassette.complete(ASKED)
        cassette.rewind()


async def test_missing_exchanges_are_added():
    await Cassette(PATH, ScriptedModel(["one"]), mode="missing").complete(ASKED)
    model = ScriptedModel(["two"])
    cassette = Cassette(PATH, model, mode="missing")
    assert (await cassette.complete(ASKED)).message.content == "one"
    assert (await cassette.complete([UserMessage("Boots?")])).message.content == "two"
    assert len(model.calls) == 1
    assert (await Cassette(PATH).complete([UserMessage("Boots?")])).message.content == "two"
    assert len(written()["exchanges"]) == 2


async def test_recording_anew_replaces_the_file():
    await Cassette(PATH, ScriptedModel(["one"]), mode="missing").complete(ASKED)
    await Cassette(PATH, ScriptedModel(["two"]), mode="anew").complete([UserMessage("Boots?")])
    with pytest.raises(CassetteError):
        await Cassette(PATH).complete(ASKED)
    assert (await Cassette(PATH).complete([UserMessage("Boots?")])).message.content == "two"


async def test_another_model_than_the_recorded_one_is_an_error():
    await Cassette(PATH, ScriptedModel(["one"]), mode="missing").complete(ASKED)
    for mode in ("replay", "missing"):
        with pytest.raises(CassetteError, match=r"recorded with another model: .*'scripted'.* and not .*'gpt'"):
            Cassette(PATH, ScriptedModel([], name="gpt"), mode=mode)
    Cassette(PATH, ScriptedModel([]))


def test_what_cannot_be_a_cassette_is_an_error():
    with pytest.raises(
        CassetteError, match=r"there is no cassette x.json; record it: Cassette\('x.json', model, mode="
    ):
        Cassette("x.json")
    with pytest.raises(ConfigError, match=r"mode='anew' needs a model to ask; write Cassette\('x.json', model"):
        Cassette("x.json", mode="anew")
    with pytest.raises(ConfigError, match="mode is 'all'; use one of 'replay', 'missing', 'anew'"):
        Cassette("x.json", mode="all")  # type: ignore[arg-type]
    Path("x.json").write_text("[]")
    with pytest.raises(CassetteError, match=r"x.json is not a cassette, or was damaged"):
        Cassette("x.json")
    Path("x.json").write_text('{"railtracks_cassette": 2}')
    with pytest.raises(CassetteError, match="a cassette of version 2; this release reads version 1"):
        Cassette("x.json")


async def test_costs_and_failed_models_are_replayed():
    priced = ScriptedModel(["Hi"], price=rt.llm.Price(input=1, output=2_000_000))
    model = rt.llm.Fallback(ScriptedModel(lambda _: ConnectionError("lost"), name="first"), priced)
    recorded = await Cassette(PATH, model, mode="anew").complete(ASKED)
    assert recorded.failed == ("scripted first: ConnectionError",)
    assert await Cassette(PATH).complete(ASKED) == recorded


async def test_settings_of_a_call_are_part_of_its_request():
    model = ScriptedModel(lambda _: f"answer {len(model.calls)}")

    async def ask(cassette, **settings):
        agent = rt.agent_node(llm=cassette)
        async with rt.Session():
            return (await rt.call(agent.options(**settings) if settings else agent, "Hello")).content

    recorded = Cassette(PATH, model, mode="anew")
    assert [await ask(recorded), await ask(recorded, temperature=0)] == ["answer 1", "answer 2"]
    assert model.all_settings == [{}, {"temperature": 0}]
    replayed = Cassette(PATH)
    assert [await ask(replayed, temperature=0), await ask(replayed)] == ["answer 2", "answer 1"]
    assert (replayed.unused, replayed.with_settings(temperature=0).settings) == ([], {"temperature": 0})
    replayed.rewind()
    with pytest.raises(CassetteError, match='"temperature": 1'):
        await ask(replayed, temperature=1)
