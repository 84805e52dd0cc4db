"""How the adapters ask for objects: natively, by a tool, or in the system message; and what follows a refusal."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import json
import typing as t

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks._schema._arguments import structured_output
from railtracks.exceptions import ConfigError
from railtracks.llm import OutputDelta, OutputSchema, ToolCall, ToolSchema, UserMessage
from railtracks.llm._fitted_schemas import ANTHROPIC, OPENAI, UnfitError, fitted
from railtracks.llm._providers import _output_modes
from railtracks.llm._providers._output_modes import ability_of
from railtracks.llm._tool_schemas import output_schema
from tests.effort import examples
from tests.llm.rules import anthropic_schema, strict_schema
from tests.llm.server import Answer, Call
from tests.llm.test_adapters import (  # noqa: F401 (adapter is a fixture)
    ASKED,
    KEY,
    adapter,
    anthropic,
    anyllm_anthropic,
    both_ways,
    openai,
    responses,
    whole,
)
from tests.llm.test_arguments import KINDS

if t.TYPE_CHECKING:
    import pydantic
else:
    pydantic = pytest.importorskip("pydantic")

TOOL = ToolSchema("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})


@attrs.frozen
class Point:
    x: int
    y: int


POINT = output_schema(Point)
GIVEN = '{"x": 1, "y": 2}'


def in_mode(mode):
    return attrs.evolve(POINT, mode=mode)


def texts_of(body):
    """Return the system message of a request in any format."""
    said = body["system"] if "system" in body else (body.get("messages") or body["input"])[0]["content"]
    return said if isinstance(said, str) else "".join(block["text"] for block in said)


def is_native(body):
    return format_of(body) is not None


def format_of(body):
    """Return what a request in any format says of the schema; None: nothing."""
    chat = body.get("response_format") or {}
    return chat.get("json_schema") or (body.get("output_config") or body.get("text") or {}).get("format")


# ---- the modes


async def test_the_arguments_of_an_answer_come_as_they_are_written(adapter, server):  # noqa: F811
    given = {"x": 1, "y": 2}
    server.answers = [
        Answer(text="", calls=[Call(name="add", arguments=given), *[Call(name="give_answer", arguments=given)] * 2])
    ]
    pieces, _ = await whole(adapter(server.url), ASKED, tools=[TOOL], output=in_mode("tool"))
    assert [piece.text for piece in pieces] == ['{"x":', ' 1, "y": 2}']
    server.answers = [Answer(text="", calls=[Call(name="give_answer", arguments=given)])]
    agent = rt.agent_node(llm=adapter(server.url, output_mode="tool"), output_schema=Point)
    async with rt.Session(save_state=False):
        chunks = [chunk async for chunk in rt.astream(agent, "Where?")]
    assert [chunk.partial for chunk in chunks if chunk.kind == "partial"] == [given]
    assert chunks[-1].response.content == Point(1, 2)


@both_ways
async def test_a_native_schema_is_for_the_provider_alone(adapter, server, ask):  # noqa: F811
    server.answers = [Answer(text=GIVEN)]
    completion = await ask(adapter(server.url), ASKED, output=in_mode("native"))
    [request] = server.requests
    assert is_native(request.body)
    assert texts_of(request.body) == "Be brief."
    assert (completion.message.content, completion.output_mode) == (GIVEN, "native")


@both_ways
async def test_a_tool_gives_the_answer(adapter, server, ask):  # noqa: F811
    """Its arguments are the text, and no call of it is left for the agent."""
    server.answers = [Answer(text="", calls=[Call(name="give_answer", arguments={"x": 1, "y": 2})])]
    completion = await ask(adapter(server.url), ASKED, output=in_mode("tool"))
    [request] = server.requests
    [tool] = request.body["tools"]
    assert not is_native(request.body)
    assert (tool.get("input_schema") or tool.get("function", tool)["parameters"]) == POINT.schema
    choice = request.body["tool_choice"]
    assert choice.get("function", choice)["name"] == "give_answer"
    assert (completion.message.content, completion.message.tool_calls) == (GIVEN, ())
    await ask(adapter(server.url), [*ASKED, completion.message, UserMessage("And then?")])  # the history can be sent


async def test_a_stream_has_the_arguments_of_the_tool_as_text(adapter, server):  # noqa: F811
    """Remarks of the model before the call are left out."""
    server.answers = [Answer(text="So be it.", calls=[Call(name="give_answer", arguments={"x": 1, "y": 2})])]
    pieces, completion = await whole(adapter(server.url), ASKED, output=in_mode("tool"))
    assert [piece for piece in pieces if not isinstance(piece, OutputDelta)] == [GIVEN]
    assert completion.message.content == GIVEN


@both_ways
async def test_other_tools_come_before_the_tool_of_the_answer(adapter, server, ask):  # noqa: F811
    calls = [Call(name="add", arguments={"a": 1}), Call(name="give_answer", arguments={"x": 1, "y": 2})]
    server.answers = [Answer(text="", calls=calls)]
    completion = await ask(adapter(server.url), ASKED, tools=[TOOL], output=in_mode("tool"))
    choice = server.requests[0].body["tool_choice"]
    assert choice == "required" or choice["type"] == "any"
    assert completion.message.tool_calls == (ToolCall("id-0", "add", {"a": 1}),)
    assert completion.message.content == ""


async def test_a_tool_of_the_user_may_have_the_name(adapter, server):  # noqa: F811
    server.answers = [Answer(text="", calls=[Call(name="give_answer_", arguments={"x": 1, "y": 2})])]
    own = attrs.evolve(TOOL, name="give_answer")
    completion = await adapter(server.url).complete(ASKED, tools=[own], output=in_mode("tool"))
    assert completion.message.content == GIVEN


@both_ways
async def test_a_model_may_answer_in_text_in_place_of_the_tool(adapter, server, ask):  # noqa: F811
    server.answers = [Answer(text=GIVEN)]
    completion = await ask(adapter(server.url), ASKED, output=in_mode("tool"))
    assert completion.message.content == GIVEN


@both_ways
@pytest.mark.parametrize("messages", [ASKED, ASKED[1:]])
async def test_a_prompt_has_the_schema(adapter, server, messages, ask):  # noqa: F811
    server.answers = [Answer(text=GIVEN)]
    completion = await ask(adapter(server.url), messages, output=in_mode("prompted"))
    [request] = server.requests
    assert not is_native(request.body)
    assert "tools" not in request.body
    assert json.dumps(POINT.schema) in texts_of(request.body)
    assert completion.message.content == GIVEN


def test_a_tool_is_not_forced_on_a_model_that_thinks():
    """Anthropic refuses both at once, so the system message asks for the tool."""
    model = anthropic("http://127.0.0.1:1", thinking={"type": "adaptive"})
    plan = model._plans(in_mode("tool"))[0]
    request = model._request(ASKED, [], in_mode("tool"), plan)
    payload = model._payload(request)
    assert "tool_choice" not in payload
    assert payload["system"] == "Be brief.\n\nGive your final answer by calling the tool give_answer."


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("auto", "required"),
        ("required", "required"),
        ("none", {"type": "function", "function": {"name": "give_answer"}}),
        ({"type": "function", "function": {"name": "add"}}, {"type": "function", "function": {"name": "add"}}),
    ],
)
async def test_the_choice_of_the_user_holds_where_it_can(server, given, sent):
    await openai(server.url, tool_choice=given).complete(ASKED, tools=[TOOL], output=in_mode("tool"))
    assert server.requests[0].body["tool_choice"] == sent


@pytest.mark.parametrize("given", ["required", {"type": "function", "function": {"name": "add"}}])
async def test_a_choice_of_tools_that_are_not_there_is_dropped(server, given):
    await openai(server.url, tool_choice=given).complete(ASKED, output=in_mode("tool"))
    assert server.requests[0].body["tool_choice"] == {"type": "function", "function": {"name": "give_answer"}}


# ---- servers of which nothing is known


REFUSED = Answer(status=400, error="This response_format type is unavailable now")


@both_ways
async def test_a_server_may_ignore_a_schema(adapter, server, ask):  # noqa: F811
    """The system message has it, too."""
    server.answers = [Answer(text=GIVEN)]
    await ask(adapter(server.url), ASKED, output=POINT)
    [request] = server.requests
    assert is_native(request.body)
    assert '"x": {"type": "integer"}' in texts_of(request.body)


@both_ways
async def test_a_server_may_refuse_a_schema(adapter, server, ask):  # noqa: F811
    """It is asked in another way, and not asked in the old one again."""
    server.answers = [REFUSED, Answer(text=GIVEN), Answer(text=GIVEN)]
    model = adapter(server.url)
    for _ in range(2):
        completion = await ask(model, ASKED, output=POINT)
        assert completion.message.content == GIVEN
        assert completion.output_mode in ("prompted", "tool")
    assert [is_native(request.body) for request in server.requests] == [True, False, False]


@both_ways
async def test_a_request_that_stays_refused_is_an_error(adapter, server, ask):  # noqa: F811
    server.answers = [Answer(status=400, error="no such model")] * 4
    model = adapter(server.url)
    with pytest.raises(Exception, match="no such model"):
        await ask(model, ASKED, output=POINT)
    server.answers = [Answer(text=GIVEN)]
    await ask(model, ASKED, output=POINT)
    assert is_native(server.requests[-1].body)  # it was not for the schema


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_other_errors_are_raised_at_once(adapter, server, status):  # noqa: F811
    server.answers = [Answer(status=status)]
    with pytest.raises(Exception, match="it did not work"):
        await adapter(server.url).complete(ASKED, output=POINT)
    assert len(server.requests) == 1


@pytest.mark.parametrize("how", [{"output_mode": "native"}, {}])
async def test_a_mode_that_the_user_chose_is_the_only_one(adapter, server, how):  # noqa: F811
    server.answers = [REFUSED]
    output = POINT if how else in_mode("native")
    with pytest.raises(Exception, match="unavailable now"):
        await adapter(server.url, **how).complete(ASKED, output=output)
    assert len(server.requests) == 1


@pytest.mark.parametrize("mode", ["json", "", 3])
def test_a_mode_that_does_not_exist_is_refused(adapter, mode):  # noqa: F811
    with pytest.raises(ConfigError, match=r"output_mode is .*; expected 'native', 'tool' or 'prompted', or None"):
        adapter("http://127.0.0.1:1", output_mode=mode)


# ---- the table


@pytest.mark.parametrize(
    ("provider", "address", "modes", "is_enforced"),
    [
        ("openai", None, ("native", "prompted"), True),
        ("openai", "https://api.openai.com/v1", ("native", "prompted"), True),
        ("openai", "https://us.api.openai.com/v1", ("native", "prompted"), True),
        ("openai", "https://mine.openai.azure.com/openai/v1", ("native", "prompted"), True),
        ("openai", "https://api.deepseek.com", ("prompted",), False),
        ("openai", "http://localhost:8080/v1", ("native", "prompted"), False),
        ("openai", "http://openai:8080/v1", ("native", "prompted"), False),
        ("anthropic", None, ("native", "tool", "prompted"), True),
        ("anthropic", "https://gateway.example/v1", ("native", "tool", "prompted"), False),
        ("groq", None, ("tool", "prompted"), False),
        ("deepseek", None, ("prompted",), False),
        ("mistral", None, ("native", "prompted"), False),
    ],
)
def test_what_providers_can_do(monkeypatch, provider, address, modes, is_enforced):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    found = ability_of(provider, address)
    assert (found.modes, found.is_enforced) == (modes, is_enforced)


def test_the_address_may_stand_in_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.deepseek.com/v1")
    assert ability_of("openai", None).modes == ("prompted",)


# ---- schemas within the limits of the providers


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


@attrs.frozen
class Trip:
    """A trip.

    Args:
        towns: Where.
    """

    towns: list[str]
    days: int = 1
    note: str | None = None


@attrs.frozen
class Prices:
    by_name: dict[str, int]
    by_colour: dict[Colour, list[Point]] = attrs.Factory(dict)


@attrs.frozen
class Tree:
    name: str
    parts: list[Tree]


class Score(pydantic.BaseModel):
    points: int = pydantic.Field(ge=0, le=10)
    name: t.Annotated[str, pydantic.Field(min_length=1, pattern="^[a-z]+$")] = "x"
    limits: dict[str, float] = {}


class Options(t.TypedDict):
    depth: int
    wide: t.NotRequired[bool]


class Pair(t.NamedTuple):
    left: int
    right: str


@attrs.frozen
class Line:
    start: Point
    end: Point


TYPES: list[tuple[t.Any, t.Any, t.Any]] = [
    (Point, {"x": 1, "y": 2}, Point(1, 2)),
    (Trip, {"towns": ["Oslo"], "days": 2, "note": None}, Trip(["Oslo"], 2)),
    (Line, {"start": {"x": 1, "y": 2}, "end": {"x": 3, "y": 4}}, Line(Point(1, 2), Point(3, 4))),
    (list[int], {"value": [1, 2]}, [1, 2]),
    (int | None, {"value": None}, None),
    (Point | Trip, {"value": {"x": 1, "y": 2}}, Point(1, 2)),
    (t.Literal["a", 1], {"value": 1}, 1),
    (Mixed, {"value": "two"}, Mixed.TWO),
    (tuple[int, str], {"value": [1, "a"]}, (1, "a")),
    (set[Colour], {"value": ["red"]}, {Colour.RED}),
    (datetime.datetime, {"value": "2024-01-02T03:04:05Z"}, datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)),
    (decimal.Decimal, {"value": "1.50"}, decimal.Decimal("1.50")),
    (Options, {"depth": 1, "wide": True}, {"depth": 1, "wide": True}),
    (Pair, {"left": 1, "right": "b"}, Pair(1, "b")),
    (
        Prices,
        {
            "by_name": [{"key": "a", "value": 1}],
            "by_colour": [{"key": "red", "value": [{"x": 1, "y": 2}]}],
        },
        Prices({"a": 1}, {Colour.RED: [Point(1, 2)]}),
    ),
    (
        Score,
        {"points": 3, "name": "b", "limits": [{"key": "a", "value": 0.5}]},
        Score(points=3, name="b", limits={"a": 0.5}),
    ),
]
UNFIT: list[tuple[t.Any, t.Any, t.Any]] = [
    (t.Any, {"value": {"a": 1}}, {"a": 1}),
    (dict[str, t.Any], {"value": {"a": [1]}}, {"a": [1]}),
    (Tree, {"name": "a", "parts": [{"name": "b", "parts": []}]}, Tree("a", [Tree("b", [])])),
]


@pytest.fixture(params=[True, False], ids=["known", "unknown"])
def known(request, monkeypatch):
    """Whether the server counts as that of OpenAI, which enforces schemas."""
    if request.param:
        monkeypatch.setitem(_output_modes.ABILITIES, "127.0.0.1", _output_modes.ABILITIES["openai"])
    return request.param


@pytest.mark.either_backend
@pytest.mark.parametrize(("cls", "data", "value"), TYPES, ids=lambda each: getattr(each, "__name__", ""))
async def test_the_types_go_through_natively(adapter, server, known, cls, data, value):  # noqa: F811
    """The server refuses what the provider refuses, and is asked once."""
    if known and "anthropic" in adapter.__name__:
        pytest.skip("the limits of Anthropic hold for all servers in its format")
    if not known and adapter is responses:
        pytest.skip("the schema is that of chat completions")
    server.answers = [Answer(text=json.dumps(data))]
    output = output_schema(cls)
    completion = await adapter(server.url).complete(ASKED, output=output)
    [request] = server.requests
    assert is_native(request.body)
    if known:
        assert format_of(request.body)["strict"] is True
    assert structured_output(completion.message.content, cls, output.schema) == value


@both_ways
@pytest.mark.parametrize(("cls", "data", "value"), UNFIT, ids=["any", "dict", "tree"])
async def test_what_anthropic_cannot_enforce_goes_by_a_tool(server, cls, data, value, ask):
    server.answers = [Answer(text="", calls=[Call(name="give_answer", arguments=data)])]
    completion = await ask(anthropic(server.url), ASKED, output=output_schema(cls))
    assert not is_native(server.requests[0].body)
    assert structured_output(completion.message.content, cls, output_schema(cls).schema) == value


@pytest.mark.parametrize(("cls", "data", "value"), UNFIT[:2], ids=["any", "dict"])
async def test_what_openai_cannot_enforce_is_a_hint(server, monkeypatch, cls, data, value):
    monkeypatch.setitem(_output_modes.ABILITIES, "127.0.0.1", _output_modes.ABILITIES["openai"])
    server.answers = [Answer(text=json.dumps(data))]
    completion = await openai(server.url).complete(ASKED, output=output_schema(cls))
    sent = server.requests[0].body["response_format"]["json_schema"]
    assert (sent["strict"], sent["schema"]) == (False, output_schema(cls).schema)
    assert structured_output(completion.message.content, cls, output_schema(cls).schema) == value


async def test_openai_enforces_types_that_refer_to_themselves(server, monkeypatch):
    monkeypatch.setitem(_output_modes.ABILITIES, "127.0.0.1", _output_modes.ABILITIES["openai"])
    [(cls, data, value)] = UNFIT[2:]
    server.answers = [Answer(text=json.dumps(data))]
    completion = await openai(server.url).complete(ASKED, output=output_schema(cls))
    [request] = server.requests
    assert request.body["response_format"]["json_schema"]["strict"] is True
    assert structured_output(completion.message.content, cls, output_schema(cls).schema) == value


@pytest.mark.parametrize("make", [anthropic, anyllm_anthropic])
async def test_a_schema_that_cannot_be_enforced_says_so(make):
    model = make("http://127.0.0.1:1", output_mode="native")
    with pytest.raises(ConfigError, match="cannot enforce the schema Tree: a type in it refers to itself; write"):
        await model.complete(ASKED, output=output_schema(Tree))


@examples(100)
@given(st.data())
def test_fitted_schemas_are_within_the_limits(data):
    schema = output_schema(data.draw(KINDS).type).schema
    for limits, rules in ((OPENAI, strict_schema), (ANTHROPIC, anthropic_schema)):
        with contextlib.suppress(UnfitError):
            assert list(rules(fitted(schema, limits))) == []


def test_descriptions_have_what_the_provider_does_not_know():
    output = _output_modes.OutputModes(_output_modes.ABILITIES["openai"], None, "m").plans(output_schema(Score))[0]
    named = output.schema["properties"]
    assert named["points"] == {"type": "integer", "description": "{maximum: 10, minimum: 0}"}
    assert named["name"]["description"] == "{default: x, minLength: 1, pattern: ^[a-z]+$}"
    assert output.schema["required"] == ["points", "name", "limits"]


@pytest.mark.parametrize(
    "data",
    [
        {"by_name": {"a": 1}},
        {"by_name": [{"key": "a", "value": 1}]},
    ],
)
def test_a_map_may_be_an_object_or_a_list_of_entries(data):
    assert structured_output(json.dumps(data), Prices, output_schema(Prices).schema) == Prices({"a": 1})


@pytest.mark.parametrize(
    "data",
    [[{"key": "a", "value": 1}, {"key": "a", "value": 2}], [{"key": "a"}], [{"key": 1, "value": 1}], [["a", 1]]],
)
def test_other_lists_are_not_taken_for_maps(data):
    with pytest.raises(ValueError, match="by_name: expected an object"):
        structured_output(json.dumps({"by_name": data}), Prices, output_schema(Prices).schema)


def test_a_list_of_entries_stays_one_where_the_type_is_a_list():
    entries = [{"key": "a", "value": 1}]
    kind = list[dict[str, t.Any]]
    assert structured_output(json.dumps({"value": entries}), kind, output_schema(kind).schema) == entries


async def test_an_agent_gets_its_object_by_each_mode(adapter, server):  # noqa: F811
    model = adapter(server.url)
    for mode in (None, "native", "tool", "prompted"):
        by_tool = mode == "tool"
        calls = [Call(name="give_answer", arguments={"x": 1, "y": 2})] if by_tool else []
        server.answers = [Answer(text="" if by_tool else GIVEN, calls=calls)]
        agent = rt.agent_node(llm=model, output_schema=Point, output_mode=mode)
        response = await rt.call(agent, "Where?")
        assert response.content == Point(1, 2)
        assert response.text == GIVEN


def test_the_mode_is_not_among_the_settings():
    """So a resumed run replays the answers that were given in another mode of the model."""
    model = openai("http://127.0.0.1:1", output_mode="tool", api_key=KEY)
    assert dict(model.settings) == {}
    assert repr(OutputSchema("a", {}, mode="tool")) == repr(OutputSchema("a", {}))
