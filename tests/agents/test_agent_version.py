"""The version of an agent and the fingerprint of its requests follow from what it is made of."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.testing import ScriptedModel


class Set(ScriptedModel):
    def __init__(self, settings=None, name="m"):
        super().__init__([], name=name)
        self.settings = {} if settings is None else settings


def nested(value, levels=70):
    for _ in range(levels):
        value = {"inner": [value]}
    return value


def with_tool(annotation=str, description="", version="1"):
    def tool(password) -> str:
        return "known"

    tool.__annotations__["password"] = annotation
    tool.__doc__ = description
    return rt.agent_node(llm=Set(), tool_nodes=[rt.function_node(tool, name="tool", version=version)])


def with_agent(prompt="You help.", name="m"):
    return rt.agent_node(llm=Set(), tool_nodes=[rt.agent_node("inner", llm=Set(name=name), system_message=prompt)])


LONG = "word " * 220_000

MADE_OF = {
    "the type of a parameter called password": (with_tool, {"annotation": str}, {"annotation": int}),
    "the end of a long description": (with_tool, {"description": f"{LONG}A"}, {"description": f"{LONG}B"}),
    "the version of a tool": (with_tool, {"version": "1"}, {"version": "2"}),
    "a setting far inside": (
        lambda value: rt.agent_node(llm=Set({"extra": nested(value)})), {"value": 1}, {"value": 2},
    ),
    "a setting called as a secret": (
        lambda value: rt.agent_node(llm=Set({"max_tokens": value})), {"value": 1}, {"value": 2},
    ),
    "the name of the model": (lambda name: rt.agent_node(llm=Set(name=name)), {"name": "m"}, {"name": "n"}),
    "the prompt of an agent below": (with_agent, {"prompt": "You help."}, {"prompt": "You help"}),
    "the end of a long prompt of an agent below": (with_agent, {"prompt": f"{LONG}A"}, {"prompt": f"{LONG}B"}),
    "the model of an agent below": (with_agent, {"name": "m"}, {"name": "n"}),
}  # fmt: skip


@pytest.mark.parametrize(("make", "one", "other"), MADE_OF.values(), ids=MADE_OF)
def test_an_agent_is_another_when_what_it_is_made_of_is(make, one, other):
    assert make(**one).version() == make(**one).version()
    assert make(**one).version() != make(**other).version()


def test_a_request_is_another_when_its_content_is():
    """The fingerprint covers the schemas of the tools and the settings of the model."""
    one, other = with_tool(str), with_tool(int)
    assert one.definition.fingerprint != other.definition.fingerprint
    one, other = (rt.agent_node(llm=Set({"extra": nested(value)})) for value in (1, 2))
    assert one.definition.fingerprint != other.definition.fingerprint  # type: ignore[attr-defined]
