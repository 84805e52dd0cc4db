"""Objects in streams: what has come of them, as values of the types of their fields."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import itertools
from typing import Any, Literal, NamedTuple, TypedDict

import attrs
import pydantic
import pytest

import railtracks as rt
from railtracks._schema._json_prefix import PrefixReader
from railtracks.llm import AssistantMessage, Completion, OutputDelta
from railtracks.testing import ScriptedModel, tool_call


class Kind(enum.Enum):
    RAIN = "rain"
    SNOW = "snow"


@attrs.frozen
class Day:
    date: datetime.date
    kind: Kind
    text: str = attrs.field(default="", validator=attrs.validators.max_len(20))


@attrs.frozen
class Week:
    title: str
    days: list[Day]
    wind: float | None = None


WEEK = (
    '{"title": "Cold \\u00e9", "days": [{"date": "2026-01-02", "kind": "snow", "text": "white"}, '
    '{"date": "2026-01-03", "kind": "rain"}], "wind": 12.5}'
)


async def chunks_of(agent, *args):
    async with rt.Session(save_state=False):
        return [chunk async for chunk in rt.astream(agent, *args)]


async def partials_of(agent, *args):
    return [chunk.partial for chunk in await chunks_of(agent, *args) if chunk.kind == "partial"]


def by_character(text, **options):
    """Return a model that streams one character after the other."""

    class Model(ScriptedModel):
        async def stream(self, messages, **options):
            completion = await self.complete(messages, **options)
            for each in completion.message.content:
                yield each
            yield completion

    return Model([text])


async def test_an_object_grows_as_its_text_comes():
    agent = rt.agent_node("Forecaster", llm=by_character(WEEK), output_schema=Week)
    chunks = await chunks_of(agent, "Next week?")
    partials = [chunk.partial for chunk in chunks if chunk.kind == "partial"]
    days = [Day(datetime.date(2026, 1, 2), Kind.SNOW, "white"), Day(datetime.date(2026, 1, 3), Kind.RAIN)]
    assert partials[:3] == [{"title": ""}, {"title": "C"}, {"title": "Co"}]
    growing = [partial["days"] for partial in partials if "days" in partial]
    started = {"date": days[0].date, "kind": Kind.SNOW}
    assert growing[:6] == [[], [{}], [{"date": days[0].date}], [started], [{**started, "text": ""}],
                           [{**started, "text": "w"}]]  # fmt: skip
    assert days[:1] in growing
    assert partials[-1] == {"title": "Cold é", "days": days, "wind": 12.5}
    assert all(one != two for one, two in itertools.pairwise(partials))
    assert chunks[-1].response.content == Week("Cold é", days, 12.5)
    assert "".join(chunk.text for chunk in chunks) == WEEK


class Named(NamedTuple):
    name: str
    size: int


class Typed(TypedDict):
    name: str
    size: int


@dataclasses.dataclass
class Data:
    name: str
    size: int


class Model(pydantic.BaseModel):
    name: str
    size: int = pydantic.Field(alias="how_big", ge=0)


@pytest.mark.parametrize("kind", [Named, Typed, Data, Model])
async def test_each_kind_of_class_has_its_fields_in_a_dict(kind):
    size = "how_big" if kind is Model else "size"
    model = by_character(f'{{"{size}": 12, "name": "ab"}}')
    assert await partials_of(rt.agent_node("Sizer", llm=model, output_schema=kind), "How big?") == [
        {"size": 12}, {"size": 12, "name": ""}, {"size": 12, "name": "a"}, {"size": 12, "name": "ab"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (list[int], '{"value": [1, 23]}', [[], [1], [1, 23]]),
        (int, '{"value": 12}', [12]),
        (str | None, '{"value": "ab"}', ["", "a", "ab"]),
        (dict[str, int], '{"value": {"a": 1, "b": 2}}', [{}, {"a": 1}, {"a": 1, "b": 2}]),
        (dict[Kind, str], '{"value": {"rain": "a", "hail": ""}}', [{}, {Kind.RAIN: ""}, {Kind.RAIN: "a"}]),
        (dict[str, int], '{"value": [{"key": "a", "value": 1}]}', [{}, {"a": 1}]),
        (list[dict[str, int]], '{"value": [[{"key": "a", "value": 1}], {"b": 2}]}',
         [[], [{}], [{"a": 1}], [{"a": 1}, {}], [{"a": 1}, {"b": 2}]]),
        (tuple[int, str], '{"value": [1, "a"]}', [(1, "a")]),
        (tuple[int, ...], '{"value": [1, 2]}', [[], [1], (1, 2)]),
        (set[int], '{"value": [1, 1]}', [{1}]),
        (int | list[int], '{"value": [1]}', [[1]]),
        (Literal["ab", "cd"], '{"value": "ab"}', ["ab"]),
        (Any, '{"value": {"a": ["b"]}}', [{}, {"a": []}, {"a": [""]}, {"a": ["b"]}]),
        (list[int], '{"value": [1, "x", 3]}', [[], [1]]),
    ],
)  # fmt: skip
async def test_other_types_come_as_far_as_they_can(kind, text, expected):
    agent = rt.agent_node("Agent", llm=by_character(text), output_schema=kind, repairs=0)
    async with rt.Session(save_state=False, logging_setting="NONE"):
        found = []
        try:
            async for chunk in rt.astream(agent, "x"):
                found += [chunk.partial] if chunk.kind == "partial" else []
        except rt.exceptions.LLMError:
            assert kind in (list[int], dict[Kind, str])
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


async def test_text_around_the_object_is_passed_over():
    model = by_character('Here it is:\n```json\n{"name": "ab", "size": 1}\n```\nOr {"name": "c"}?')
    agent = rt.agent_node("Sizer", llm=model, output_schema=Data, output_mode="prompted", repairs=0)
    async with rt.Session(save_state=False, logging_setting="NONE"):
        found = []
        with pytest.raises(rt.exceptions.LLMError):  # two objects are none
            async for chunk in rt.astream(agent, "x"):
                found += [chunk.partial] if chunk.kind == "partial" else []
    assert found[-1] == {"name": "ab", "size": 1}


async def test_a_rejected_object_is_followed_by_its_rejection():
    agent = rt.agent_node("Sizer", llm=ScriptedModel(['{"name": "a", "size": "big"}', '{"name": "b", "size": 2}']),
                          output_schema=Data)  # fmt: skip
    kinds = [(chunk.kind, chunk.partial) for chunk in await chunks_of(agent, "How big?") if chunk.kind != "text"]
    assert [each for each in kinds if each[0] == "rejected" or each[1] == {"name": "b", "size": 2}] == [
        ("rejected", None), ("partial", {"name": "b", "size": 2}),
    ]  # fmt: skip
    assert ("partial", {"name": "a"}) in kinds[: kinds.index(("rejected", None))]


async def test_a_model_may_stream_the_arguments_of_its_answer():
    class Model(ScriptedModel):
        output_modes = ("tool",)

        async def stream(self, messages, **options):
            for each in ('{"name": "', 'a"', ', "size": 1}'):
                yield OutputDelta(each)
            yield '{"name": "a", "size": 1}'
            yield Completion(AssistantMessage('{"name": "a", "size": 1}'))

    agent = rt.agent_node("Sizer", llm=Model([]), output_schema=Data, output_mode="tool")
    chunks = await chunks_of(agent, "How big?")
    assert [(chunk.kind, chunk.partial) for chunk in chunks] == [
        ("partial", {"name": ""}), ("partial", {"name": "a"}), ("partial", {"name": "a", "size": 1}), ("text", None),
        ("final", None),
    ]  # fmt: skip


async def test_an_agent_that_answers_with_text_has_no_partial_objects():
    assert await partials_of(rt.agent_node("Agent", llm=ScriptedModel(['{"a": 1}'])), "x") == []


@pytest.mark.parametrize("whole", [True, False])
async def test_a_resumed_run_gives_the_object_in_one_piece(tmp_path, monkeypatch, whole):
    """Of an agent that is replayed, and of one that goes on."""
    monkeypatch.chdir(tmp_path)
    fails = iter([True, False])

    @rt.function_node
    async def check() -> str:
        if not whole and next(fails):
            raise rt.exceptions.FatalError("down")
        return "ok"

    model = ScriptedModel([[tool_call("check")], '{"name": "a", "size": 1}'])
    first = ScriptedModel(['{"name": "no", "size": 0}'])
    inner = rt.agent_node("Sizer", llm=model, tool_nodes=[check], output_schema=Data)
    early = rt.agent_node("Early", llm=first, output_schema=Data)

    @rt.function_node
    async def top():
        await rt.call(early, "x")
        found = await rt.call(inner, "x")
        if whole and next(fails):
            raise rt.exceptions.FatalError("down")
        return found.content.size

    flow = rt.Flow("Sizing", top, run_identifier="r", logging_setting="NONE")
    with pytest.raises(rt.exceptions.FatalError):
        await flow.ainvoke()
    async with rt.Session(resume="r", logging_setting="NONE"):
        chunks = [chunk async for chunk in rt.astream(top)]
    partials = [(chunk.agent, chunk.partial) for chunk in chunks if chunk.kind == "partial"]
    assert partials[0] == ("Early", {"name": "no", "size": 0})
    assert partials[-1] == ("Sizer", {"name": "a", "size": 1})
    if whole:
        assert len(partials) == 2
    assert (len(first.calls), len(model.calls)) == (1, 2)


# ---- the reader


def test_reading_takes_time_linear_in_the_text():
    """Each character is read once, however the text is cut."""
    text = '{"a": "' + "x\\n" * 5_000 + '", "b": [' + "1, " * 5_000 + "2]}"
    reader = PrefixReader()
    for each in text:
        reader.feed(each)
        assert len(reader._rest) < 20
    assert reader.top is not None
    assert reader.top.is_whole
    assert len(reader.top.value["b"].value) == 5_001


@pytest.mark.parametrize("text", ['{"a" 1}', '{"a": t}', '{"a": 1,}', '{"a": [1,]}', "{'a': 1}", '{"a": "\n"}',
                                  '{"a": NaN}', '{"a": "\\x"}', '{"a": 1 2}', '{"a":' * 200])  # fmt: skip
def test_reading_ends_where_the_text_is_not_json(text):
    reader = PrefixReader()
    for each in f"{text} ":
        reader.feed(each)
    assert reader.has_failed
