"""Agents as tools of other agents: their parameters, results and errors."""

from __future__ import annotations

import json

import railtracks as rt
from railtracks.llm import ToolMessage
from railtracks.testing import ScriptedModel, tool_call
from tests.agents.helpers import Place, agent_of, asked, hello, scripted, tool_messages


async def test_an_agent_takes_a_request_as_a_tool_by_default():
    helper, helpers_model = agent_of("Forty-two.", name="helper")
    agent, model = agent_of(tool_call("helper", request="What is it?"), "42", tool_nodes=[helper])
    async with rt.Session() as session:
        response = await rt.call(agent, "Ask the helper.")
    assert helpers_model.calls == [[asked("What is it?")]]
    assert tool_messages(model) == [ToolMessage("Forty-two.", "call_0", "helper")]
    assert response.usage.output_tokens == 1
    (schema,) = model.tools[0]
    assert schema.description == "Ask the agent helper."
    assert list(schema.parameters["properties"]) == ["request"]
    assert [(r.name, r.node_type, r.parent) for r in session.info.records] == [
        ("Agent", "Agent", None), ("chat scripted", "Other", 0), ("helper", "Agent", 0), ("chat scripted", "Other", 2),
        ("chat scripted", "Other", 0),
    ]  # fmt: skip


MANIFEST = rt.ToolManifest(
    "Knows the weather.",
    [
        rt.Parameter("city", str, "Where."), rt.Parameter("days", int, "How many."),
        rt.Parameter("unit", str, "Of the temperature.", required=False),
    ],
)  # fmt: skip


async def test_a_manifest_is_sent_word_by_word():
    text = "Finds papers.\n\nArgs:\n    Give it a topic: such as physics.\n\nReturns:\n    A list."
    finder, _ = agent_of("None.", manifest=rt.ToolManifest(text))
    caller, model = agent_of("Fine.", tool_nodes=[finder])
    async with rt.Session():
        await rt.call(caller, "x")
    assert model.tools[0][0].description == text


async def test_an_agent_takes_the_parameters_of_its_manifest():
    weather, weathers_model = agent_of("Snow.", name="weather", manifest=MANIFEST)
    agent, model = agent_of(tool_call("weather", city="Oslo", days=2, unit="K"), "Done.", tool_nodes=[weather])
    await rt.call(agent, "Go.")
    assert weathers_model.calls == [[asked("city: Oslo\ndays: 2\nunit: K")]]
    (schema,) = model.tools[0]
    assert schema.description == "Knows the weather."
    assert schema.parameters["properties"]["days"] == {"type": "integer", "description": "How many."}
    assert schema.parameters["required"] == ["city", "days"]


async def test_an_optional_parameter_of_an_agent_may_be_left_out():
    weather, weathers_model = agent_of("Snow.", name="weather", manifest=MANIFEST)
    agent, _ = agent_of(tool_call("weather", city="Oslo", days=2), "Done.", tool_nodes=[weather])
    await rt.call(agent, "Go.")
    assert weathers_model.calls == [[asked("city: Oslo\ndays: 2")]]


async def test_wrong_arguments_for_an_agent_go_back_to_the_caller():
    """They go back to the calling model as an error, and the model of the agent is not asked."""
    weather, weathers_model = agent_of("Snow.", name="weather", manifest=MANIFEST)
    agent, model = agent_of(tool_call("weather", city="Oslo", days="two"), "Done.", tool_nodes=[weather])
    await rt.call(agent, "Go.")
    (message,) = tool_messages(model)
    assert message.is_error
    assert "days: expected an integer" in message.content
    assert weathers_model.calls == []


async def test_an_agent_with_a_schema_returns_json_to_the_caller():
    finder, _ = agent_of('{"name": "Oslo", "height": 23}', name="finder", output_schema=Place)
    agent, model = agent_of(tool_call("finder", request="Oslo"), "Done.", tool_nodes=[finder])
    await rt.call(agent, "Go.")
    assert json.loads(tool_messages(model)[0].content) == {"name": "Oslo", "height": 23}


async def test_the_error_of_an_agent_as_a_tool_goes_back():
    """The calling model gets it as the result of the tool."""
    helper, _ = agent_of(ConnectionError("lost"), name="helper")
    agent, model = agent_of(tool_call("helper", request="x"), "Done.", tool_nodes=[helper])
    assert str(await rt.call(agent, "Go.")) == "Done."
    assert tool_messages(model) == [ToolMessage("ConnectionError: lost", "call_0", "helper", is_error=True)]


async def test_agents_call_each_other_three_deep():
    inner = hello("inner")
    middle, _ = agent_of(tool_call("inner", request="deep"), lambda messages: messages[-1].content, name="middle",
                         tool_nodes=[inner])  # fmt: skip
    outer, _ = agent_of(tool_call("middle", request="x"), lambda messages: messages[-1].content, tool_nodes=[middle])
    assert str(await rt.call(outer, "Go.")) == "Hello, deep"


async def test_an_agent_with_a_schema_returns_its_object_not_its_text():
    """The calling model gets the JSON of the object, without the fence around the answer."""
    finder = scripted('```json\n{"name":   "Oslo", "height": 1.5}\n```', name="finder", output_schema=Place)
    model = ScriptedModel([tool_call("finder", request="x"), "Done."])
    await rt.call(rt.agent_node(llm=model, tool_nodes=[finder]), "Go.")
    text = model.calls[1][-1].content
    assert json.loads(text) == {"name": "Oslo", "height": 1.5}
    assert "`" not in text
