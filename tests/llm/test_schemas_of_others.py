"""Tools with JSON Schemas that others wrote: each provider takes the request, and the arguments are checked."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks._schema._flat_schema import flattened
from tests.agents.test_schema_tools import EITHER, call_service
from tests.llm.test_adapters import anthropic, openai, responses

SCHEMAS: dict[str, dict] = {
    "either": EITHER,
    "reference": {"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"x": {}}, "required": ["x"]}}},
    "nothing": {},
    "circle": {"anyOf": [{"$ref": "#"}, {"properties": {"x": {"type": "string"}}}]},
    "exclusion": {"type": "object", "not": {"required": ["x"]}, "enum": [{}]},
}


@pytest.mark.parametrize("make", [openai, anthropic, responses])
async def test_providers_take_them(server, make):
    tools = [rt.tool_from_schema(call_service, name=name, parameters=each) for name, each in SCHEMAS.items()]
    agent = rt.agent_node(llm=make(server.url), tool_nodes=tools)
    assert str(await rt.call(agent, "Hello")) == "Hello dear world"


def test_a_reference_at_the_top_is_followed():
    schema, note = flattened(SCHEMAS["reference"])
    assert (schema["properties"], schema["required"]) == ({"x": {}}, ["x"])
    assert note == 'The arguments must also fit this JSON Schema: {"$ref": "#/$defs/a"}'


def test_a_schema_without_alternatives_stays_as_it_is():
    schema = {"type": "object", "properties": {"a": {"anyOf": [{}, {}]}}, "title": "T"}
    assert flattened(schema) == (schema, "")
