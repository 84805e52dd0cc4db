"""Tools whose parameters a JSON Schema describes: what the model gets, what reaches the function, what is refused."""

from __future__ import annotations

import pickle

import pytest

import railtracks as rt
from railtracks.exceptions import NodeCreationError
from railtracks.testing import tool_call
from tests.agents.helpers import agent_of, records, tool_messages

CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where."},
        "days": {"type": "integer", "minimum": 1},
        "units": {"enum": ["metric", "us"]},
    },
    "required": ["city"],
    "additionalProperties": False,
}


EITHER = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "anyOf": [
        {"properties": {"path": {"type": "string"}, "size": {"type": "integer"}}, "required": ["path", "title"]},
        {"$ref": "#/$defs/address", "required": ["title"]},
    ],
    "$defs": {"address": {"properties": {"url": {"type": "string"}, "size": {"type": "string"}}, "required": ["url"]}},
}


async def call_service(**arguments):
    """Ask the service."""
    return arguments


def weather(**options):
    return rt.tool_from_schema(call_service, name="weather", parameters=CITY, **options)


async def test_the_model_gets_the_schema_and_the_function_keywords():
    agent, model = agent_of(tool_call("weather", city="Oslo", days=2), "Rain.", tool_nodes=[weather()])
    async with rt.Session() as session:
        await rt.call(agent, "Well?")
    [schema] = model.tools[0]
    assert (schema.name, schema.description, schema.parameters) == ("weather", "Ask the service.", CITY)
    assert tool_messages(model)[0].content == '{"city": "Oslo", "days": 2}'
    [record] = records(session, "weather")
    assert record.kwargs == {"city": "Oslo", "days": 2}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "city: missing"),
        ({"city": 5}, "city: expected a string, got 5"),
        ({"city": "Oslo", "days": 0}, "days: expected a number that is at least 1, got 0"),
        ({"city": "Oslo", "days": "soon"}, 'days: expected an integer, got "soon"'),
        ({"city": "Oslo", "units": "K"}, 'units: expected "metric" or "us", got "K"'),
        ({"city": "Oslo", "when": "now"}, "when: there is nothing of this name; the names are city, days, units"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, problem):
    agent, model = agent_of(tool_call("weather", **arguments), "Well.", tool_nodes=[weather()])
    rt.call_sync(agent, "Well?")
    [answer] = tool_messages(model)
    assert (answer.content, answer.is_error) == (f"weather was not run: {problem}", True)


def test_readings_that_lose_nothing_are_taken():
    agent, model = agent_of(tool_call("weather", city="Oslo", days="2"), "Rain.", tool_nodes=[weather()])
    rt.call_sync(agent, "Well?")
    assert tool_messages(model)[0].content == '{"city": "Oslo", "days": 2}'


def test_alternatives_at_the_top_are_sent_as_one_object():
    tool = rt.tool_from_schema(call_service, name="attach", description="Attach.", parameters=EITHER)
    agent, model = agent_of(
        [tool_call("attach", title="A"), tool_call("attach", title="A", url="u"), tool_call("attach", path="p")],
        "Done.", tool_nodes=[tool],
    )  # fmt: skip
    rt.call_sync(agent, "Go.")
    schema = model.tools[0][0]
    assert schema.description.startswith('Attach.\n\nThe arguments must also fit this JSON Schema: {"anyOf":')
    assert schema.parameters == {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "path": {"type": "string"},
            "size": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "url": {"type": "string"},
        },
        "required": ["title"],
        "$defs": EITHER["$defs"],
    }
    assert [each.content for each in tool_messages(model)] == [
        "attach was not run: path: missing",
        '{"title": "A", "url": "u"}',
        "attach was not run: title: missing",
    ]


def test_policies_and_their_changes_keep_the_schema():
    once = weather(timeout=3).options(retries=2)
    agent, model = agent_of(tool_call("weather", city="Oslo"), "Rain.", tool_nodes=[once])
    rt.call_sync(agent, "Well?")
    assert model.tools[0][0].parameters == CITY
    assert (once.policies.timeout, once.policies.retries.attempts) == (3, 3)


def test_it_can_be_pickled():
    again = pickle.loads(pickle.dumps(weather().options(timeout=3)))
    assert (again.name, again.tool_schema.parameters, again.policies.timeout) == ("weather", CITY, 3)


def test_a_changed_schema_makes_another_agent():
    more = {**CITY, "required": ["city", "days"]}
    others = rt.tool_from_schema(call_service, name="weather", parameters=more)
    first, second = (agent_of("Rain.", tool_nodes=[tool])[0] for tool in (weather(), others))
    assert first.version() != second.version()


def test_a_resumed_run_does_not_call_it_again():
    calls = []

    def note(**arguments):
        calls.append(arguments)

    tool = rt.tool_from_schema(note, parameters={})
    agent, model = agent_of(tool_call("note", text="a"), ValueError("down"), "Done.", tool_nodes=[tool])
    flow = rt.Flow("F", agent, run_identifier="run", logging_setting="NONE")
    with pytest.raises(ValueError, match="down"):
        flow.invoke("Go.")
    assert str(flow.resume("run")) == "Done."
    assert (calls, len(model.calls)) == ([{"text": "a"}], 3)


def no_arguments():
    return "done"


def needs(city, other):
    return city + other


@pytest.mark.parametrize(
    ("func", "parameters", "problem"),
    [
        (call_service, "city", "expected the JSON Schema of an object, such as"),
        (call_service, {"type": "string"}, "expected the JSON Schema of an object"),
        (call_service, {"properties": ["city"]}, "'properties' of the tool 'call_service'"),
        (call_service, {"default": object()}, "are no JSON Schema"),
        (no_arguments, CITY, "has the parameter 'city' in its schema, which its function does not take"),
        (needs, {"properties": {"city": {}}}, "needs 'other', which is not in its schema"),
    ],
)
def test_a_schema_that_cannot_work_is_refused(func, parameters, problem):
    with pytest.raises(NodeCreationError, match=problem):
        rt.tool_from_schema(func, parameters=parameters)


def test_two_of_the_same_name_are_refused():
    with pytest.raises(NodeCreationError, match=r"rename one of them: rt\.tool_from_schema"):
        agent_of("Rain.", tool_nodes=[weather(), weather()])
