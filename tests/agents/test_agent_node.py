"""The arguments of ``rt.agent_node``, and what the node is."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.exceptions import NodeCreationError
from railtracks.llm import AssistantMessage, Completion, SystemMessage, UserMessage
from railtracks.testing import ScriptedModel
from tests.agents.helpers import add, forecast, scripted, texts_of


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": ""}, r"name is ''; expected a text"),
        ({"name": 7}, r"name is 7; expected a text"),
        ({"version": ""}, "version is ''"),
        ({"llm": "gpt-5"}, r"the llm of the agent Agent, a str, has no name; .*rt.llm.OpenAI"),
        ({"llm": []}, "the llm of the agent Agent is an empty list"),
        ({"llm": [ScriptedModel([]), "gpt-5"]}, "model 2 of the llm of the agent Agent, a str, has no name"),
        ({"llm": ScriptedModel}, "is the class ScriptedModel, not an instance"),
        ({"max_tool_calls": -1}, "max_tool_calls is -1; expected"),
        ({"max_tool_calls": True}, "max_tool_calls is True; expected"),
        ({"max_tool_calls": 1.5}, "max_tool_calls is 1.5; expected"),
        ({"system_message": 7}, "system_message is 7; expected"),
        ({"system_message": UserMessage("a")}, "system_message is UserMessage"),
        ({"tool_nodes": [7]}, "tool_nodes"),
        ({"tool_nodes": ["forecast"]}, "tool_nodes"),
        ({"tool_nodes": [forecast, rt.function_node(add, name="forecast")]}, "two tools are called 'forecast'; rename"),
        ({"tool_nodes": [lambda city: city, lambda town: town]}, "two tools are called '_lambda_'"),
    ],
)
def test_misuse_of_agent_node_is_refused_at_once(arguments, told):
    with pytest.raises(NodeCreationError, match=told):
        rt.agent_node(**{"llm": ScriptedModel([]), **arguments})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"tool_nodes": forecast}, "tool_nodes"),
        ({"tool_nodes": None}, "tool_nodes"),
        ({"manifest": "Knows the weather."}, "manifest"),
        ({"memo": "no"}, "memo"),
        ({"manifest": rt.ToolManifest("x", ["city"])}, "Parameter"),  # type: ignore[list-item]
        ({"manifest": rt.ToolManifest("x", [rt.Parameter("a b")])}, "a b"),
        ({"manifest": rt.ToolManifest("x", [rt.Parameter("a"), rt.Parameter("a")])}, "two parameters"),
        ({"system_message": SystemMessage(7)}, "text"),  # type: ignore[arg-type]
    ],
)
def test_misuse_that_would_only_show_later_is_refused_at_once(arguments, told):
    with pytest.raises(NodeCreationError, match=told):
        rt.agent_node(**{"llm": ScriptedModel([]), **arguments})


def test_a_tool_without_a_schema_for_a_parameter_is_refused():
    """The error names the parameter and the tool."""

    def tool(what: ScriptedModel) -> None: ...

    with pytest.raises(NodeCreationError, match=r"parameter 'what' of the tool 'tool'"):
        rt.agent_node(llm=ScriptedModel([]), tool_nodes=[tool])


def test_an_agent_belongs_to_the_module_that_makes_it():
    agent = rt.agent_node("Greeter", llm=ScriptedModel([]))
    assert (agent.__name__, agent.__module__, agent.name(), agent.type()) == ("Greeter", __name__, "Greeter", "Agent")  # type: ignore[attr-defined]
    assert rt.agent_node(llm=ScriptedModel([])).name() == "Agent"


def model_with(**parts):
    model = ScriptedModel([])
    for name, value in parts.items():
        setattr(model, name, value)
    return model


class Inherits(rt.llm.Model):
    """Without settings and without a key."""

    name = "mine"
    provider = "me"

    async def complete(self, messages, *, tools=(), output=None):
        return Completion(AssistantMessage("Hello."))

    async def stream(self, messages, *, tools=(), output=None):
        yield "Hello."
        yield Completion(AssistantMessage("Hello."))


def as_tool(*parameters):
    """An agent that takes these, as the tool of another."""
    return {"tool_nodes": [scripted(name="inner", manifest=rt.ToolManifest("x", parameters))]}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: {"llm": Inherits}, "is the class Inherits, not an instance; pass a model such as"),
        (lambda: {"llm": model_with(settings=None)}, "has a NoneType as its settings; pass"),
        (lambda: {"llm": model_with(settings=[("a", 1)])}, "has a list as its settings; pass"),
        (lambda: {"llm": model_with(api_key="abc")}, "has a str as its api_key; wrap the key in rt.Secret"),
        (lambda: {"llm": model_with(name=None)}, "has a NoneType as its name; pass"),
        (lambda: {"llm": model_with(complete=None)}, "has no method complete; pass"),
        (lambda: {"name": "a\0b"}, r"name is 'a\\x00b'; expected"),
        (lambda: {"name": "a\ud800"}, r"name is 'a\\ud800'; expected"),
        (lambda: {"name": "a\nb"}, r"name is 'a\\nb'; expected"),
        (lambda: {"manifest": rt.ToolManifest("x", [rt.Parameter("class")])}, "the parameter Parameter.name='class'"),
        (lambda: {"manifest": rt.ToolManifest(7)}, "manifest is ToolManifest"),  # type: ignore[arg-type]
        (lambda: as_tool(rt.Parameter("x", "Nowhere")), "Nowhere"),
        (lambda: as_tool(rt.Parameter("x", 5)), "parameter 'x' of the tool 'inner' is of the type 5, .*; use"),
        (lambda: as_tool(rt.Parameter("x", print, required=False)), "parameter 'x' of the tool 'inner' .*; use"),
        (lambda: as_tool(rt.Parameter("x", list["Nowhere"])), "is annotated as .Nowhere., which names nothing"),  # type: ignore[name-defined]  # noqa: F821
        (
            lambda: {"tool_nodes": [scripted(name=None), scripted(name=None)]},
            r"two tools are called 'Agent'; rename one of them: rt\.agent_node\('another', \.\.\.\)",
        ),
    ],
    ids=[
        "class", "no settings", "settings a list", "key a text", "no name", "no method", "NUL", "surrogate",
        "two lines",        "keyword", "description", "text",
        "annotation", "optional annotation", "text within", "one name",
    ],
)  # fmt: skip
def test_the_error_of_a_misuse_says_what_to_write(make, told):
    with pytest.raises(NodeCreationError, match=told):
        rt.agent_node(**{"llm": ScriptedModel([]), **make()})


async def test_a_model_that_inherits_the_protocol_needs_no_settings():
    """Neither settings nor a key."""
    agent = rt.agent_node(llm=Inherits())
    async with rt.Session():
        assert str(await rt.call(agent, "x")) == "Hello."
        assert await texts_of(rt.astream(agent, "x")) == ["Hello.", ""]
    assert (Inherits().settings, Inherits().api_key) == ({}, None)


def test_the_names_that_are_loaded_later_are_listed():
    assert {"agent_node", "astream", "llm", "ask"} <= {*dir(rt)}
    assert {"OpenAI", "Anthropic", "AnyLLM", "Model"} <= {*dir(rt.llm)}
