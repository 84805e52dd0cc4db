"""``output_mode`` of agents, with a model that knows nothing of it."""

from __future__ import annotations

import json

import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import LLMError, NodeCreationError
from railtracks.testing import tool_call
from tests.agents.helpers import Place, agent_of, forecast, records, texts_of

OSLO = '{"name": "Oslo", "height": 23}'


async def test_a_prompt_has_the_schema_and_the_answer_has_more_text():
    agent, model = agent_of(f"It is:\n```json\n{OSLO}\n```", output_schema=Place, output_mode="prompted")
    response = await rt.call(agent, "Where?")
    assert response.content == Place("Oslo", 23.0)
    assert model.outputs == [None]
    assert '"height": {"type": "number"}' in model.calls[0][0].content
    assert [message.role for message in response.message_history] == ["user", "assistant"]


async def test_braces_in_a_schema_are_no_names_of_the_context():
    @attrs.frozen
    class Braces:
        """{secret}"""

        x: int

    agent, model = agent_of('{"x": 1}', output_schema=Braces, output_mode="prompted", system_message="In {place}.")
    async with rt.Session(context={"secret": "s", "place": "Oslo"}):
        await rt.call(agent, "Where?")
    system = model.calls[0][0].content
    assert system.startswith("In Oslo.\n\nYour final answer")
    assert "{secret}" in system


async def test_a_tool_gives_the_answer():
    agent, model = agent_of(
        tool_call("give_answer", name="Oslo", height=23), output_schema=Place, output_mode="tool", tool_nodes=[forecast]
    )
    async with rt.Session() as session:
        response = await rt.call(agent, "Where?")
    assert response.content == Place("Oslo", 23.0)
    assert response.text == OSLO
    [call] = records(session, "chat scripted")
    assert json.loads(call.attributes)["railtracks.output_mode"] == "tool"
    assert [tool.name for tool in model.tools[0]] == ["forecast", "give_answer"]
    assert model.calls[0][0].content == "Give your final answer by calling the tool give_answer."


async def test_a_stream_has_the_answer_of_a_tool_as_text():
    agent, _ = agent_of(
        ["So be it.", tool_call("give_answer", name="Oslo", height=23)], output_schema=Place, output_mode="tool"
    )
    async with rt.Session():
        assert "".join(await texts_of(rt.astream(agent, "Where?"))) == OSLO


async def test_an_answer_by_a_tool_may_be_repaired():
    answers = [tool_call("give_answer", name="Oslo"), tool_call("give_answer", name="Oslo", height=23)]
    agent, model = agent_of(*answers, output_schema=Place, output_mode="tool")
    assert (await rt.call(agent, "Where?")).content == Place("Oslo", 23.0)
    assert model.calls[1][-1].content == "That is not what was asked for: height: missing"


async def test_the_tool_of_the_answer_does_not_count_as_a_call():
    agent, _ = agent_of(
        tool_call("forecast", city="Oslo"),
        tool_call("give_answer", name="Oslo", height=23),
        output_schema=Place,
        output_mode="tool",
        tool_nodes=[forecast],
        max_tool_calls=1,
    )
    assert (await rt.call(agent, "Where?")).content == Place("Oslo", 23.0)


async def test_a_map_may_come_as_entries():
    agent, _ = agent_of('{"value": [{"key": "a", "value": 1}]}', output_schema=dict[str, int])
    assert (await rt.call(agent, "Count.")).content == {"a": 1}


async def test_repairs_may_be_none():
    agent, model = agent_of("Oslo.", output_schema=Place, output_mode="prompted", repairs=0)
    with pytest.raises(LLMError, match="no valid answer"):
        await rt.call(agent, "Where?")
    assert len(model.calls) == 1


def test_a_mode_is_part_of_the_version():
    """An agent without one has the version that it has always had."""
    versions = {
        agent_of("x", output_schema=Place, output_mode=mode)[0].version()
        for mode in (None, "native", "tool", "prompted")
    }
    assert len(versions) == 4


@pytest.mark.parametrize("mode", ["json", "", 1])
def test_a_mode_that_does_not_exist_is_refused(mode):
    with pytest.raises(NodeCreationError, match=r"output_mode is .*; expected 'native', 'tool' or 'prompted', or None"):
        agent_of("x", output_schema=Place, output_mode=mode)


def test_a_mode_without_a_schema_is_refused():
    with pytest.raises(NodeCreationError, match="output_mode is 'tool', and there is no output_schema; write output_s"):
        agent_of("x", output_mode="tool")
