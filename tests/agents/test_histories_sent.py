"""``history_processors``: what is sent in place of the whole conversation."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.exceptions import NodeInvocationError
from railtracks.llm import SystemMessage, UserMessage
from railtracks.testing import ScriptedModel, tool_call


@rt.function_node
async def count() -> int:
    return 3


def last_two(messages):
    return [*messages[:1], *messages[-2:]]


async def without_numbers(messages):
    return [each for each in messages if not isinstance(each, UserMessage) or not each.content.isdigit()]


async def test_they_choose_in_turn_what_is_sent():
    model = ScriptedModel(["One.", "Two."])
    agent = rt.agent_node(llm=model, system_message="Be brief.", history_processors=[last_two, without_numbers])
    first = await rt.call(agent, "Hello.")
    second = await rt.call(agent, [*first.message_history, UserMessage("7"), UserMessage("Bye.")])
    assert model.calls[1] == [SystemMessage("Be brief.", inject_prompt=False), UserMessage("Bye.", inject_prompt=False)]
    assert [each.content for each in second.message_history] == ["Hello.", "One.", "7", "Bye.", "Two."]


async def test_they_see_every_request():
    seen = []
    model = ScriptedModel([tool_call("count"), "Three."])

    def watch(messages):
        seen.append(len(messages))
        messages.clear()  # it is a list of its own
        return [UserMessage("Hello.")]

    response = await rt.call(rt.agent_node(llm=model, tool_nodes=[count], history_processors=[watch]), "How many?")
    assert seen == [1, 3]
    assert len(response.message_history) == 4


@pytest.mark.parametrize("returned", [None, "Hello.", [3]])
async def test_what_is_no_list_of_messages_is_refused(returned):
    def wrong(messages):
        return returned

    with pytest.raises(NodeInvocationError, match="the history processor 'wrong' of the agent Agent returned"):
        await rt.call(rt.agent_node(llm=ScriptedModel(["Hi."]), history_processors=[wrong]), "Hello.")
