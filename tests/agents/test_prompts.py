"""Prompts that are filled in from the context: which messages, when, and how that is switched off."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.llm import AssistantMessage, SystemMessage, ToolCall, ToolMessage, UserMessage
from railtracks.testing import tool_call
from tests.agents.helpers import Odd, Place, agent_of, tool_messages


async def sent(text, context, *, message=UserMessage, system=None, **options):
    """What the model got."""
    agent, model = agent_of("Done.", system_message=system)
    async with rt.Session(context, **options):
        await rt.call(agent, text)
    return [message.content for message in model.calls[0]]


async def test_system_and_user_messages_are_filled_from_the_context():
    found = await sent("I am {who}, {age}; {unknown}", {"who": "Ada", "age": 36, "city": "Oslo"}, system="In {city}.")
    assert found == ["In Oslo.", "I am Ada, 36; {unknown}"]


async def test_messages_of_models_and_tools_are_not_filled():
    given = [AssistantMessage("{who}", [ToolCall("1", "t", {"a": "{who}"})]), ToolMessage("{who}", "1", "t")]
    agent, model = agent_of("Done.")
    async with rt.Session({"who": "Ada"}):
        await rt.call(agent, given)
    assert model.calls == [given]


async def test_a_session_may_switch_injection_off():
    assert await sent("{who}", {"who": "Ada"}, prompt_injection=False) == ["{who}"]


async def test_a_flow_may_switch_injection_off():
    agent, model = agent_of("Done.", system_message="{who}")
    await rt.Flow("F", entry_point=agent, context={"who": "Ada"}, prompt_injection=False).ainvoke("{who}")
    assert [message.content for message in model.calls[0]] == ["{who}"] * 2


async def test_the_configuration_may_switch_injection_off():
    rt.set_config(prompt_injection=False)
    assert await sent("{who}", {"who": "Ada"}) == ["{who}"]
    assert await sent("{who}", {"who": "Ada"}, prompt_injection=True) == ["Ada"]


async def test_the_environment_may_switch_injection_off(monkeypatch):
    monkeypatch.setenv("RAILTRACKS_PROMPT_INJECTION", "false")
    assert await sent("{who}", {"who": "Ada"}) == ["{who}"]


async def test_a_message_may_switch_injection_off():
    found = await sent(
        [UserMessage("{who}", inject_prompt=False), UserMessage("{who}")], {"who": "Ada"},
        system=SystemMessage("{who}", inject_prompt=False),
    )  # fmt: skip
    assert found == ["{who}", "{who}", "Ada"]


async def test_values_are_not_filled_again():
    assert await sent("{a} {b}", {"a": "{b}", "b": "{a}"}) == ["{b} {a}"]


async def test_values_are_not_filled_again_by_another_agent():
    """The history of a response goes to a second agent, and only the new message is filled."""
    first, _ = agent_of("Said {secret}.")
    second, model = agent_of("Done.")
    async with rt.Session({"name": "{secret}", "secret": "hidden"}):
        response = await rt.call(first, "I am {name} {{secret}}")
        await rt.call(second, [*response.message_history, UserMessage("And {name}?")])
    assert [message.content for message in model.calls[0]] == [
        "I am {secret} {secret}", "Said {secret}.", "And {secret}?",
    ]  # fmt: skip


async def test_what_a_model_wrote_for_an_agent_is_not_filled():
    helper, model = agent_of("Done.", "Done.", name="helper", system_message="For {who}.")
    other, others_model = agent_of("Done.", name="other", manifest=rt.ToolManifest("x", [rt.Parameter("what")]))
    agent, _ = agent_of(
        [tool_call("helper", request="{secret}"), tool_call("other", what="{secret}")], "Done.",
        tool_nodes=[helper, other],
    )  # fmt: skip
    async with rt.Session({"secret": "hidden", "who": "Ada"}):
        await rt.call(agent, "Go.")
    assert [message.content for message in model.calls[0]] == ["For Ada.", "{secret}"]
    assert [message.content for message in others_model.calls[0]] == ["what: {secret}"]


async def test_what_a_tool_gave_is_not_filled():
    async def tool():
        return "{secret}"

    agent, model = agent_of(tool_call("tool"), "Done.", tool_nodes=[tool])
    async with rt.Session({"secret": "hidden"}):
        await rt.call(agent, "Go.")
    assert tool_messages(model)[0].content == "{secret}"


async def test_what_is_wrong_with_an_answer_is_not_filled():
    """The message to the model quotes its answer."""
    agent, model = agent_of('{"{secret}": 1}', '{"name": "a", "height": 1}', output_schema=Place)
    async with rt.Session({"secret": "hidden"}):
        await rt.call(agent, "Go.")
    assert '"{secret}"' in model.calls[1][-1].content


@pytest.mark.parametrize(
    "text", ['{"who": 1}', '{ "a": {"b": [1, {}]} }', "{}", "{ who }", "{who.real}", "{who[0]}", "{who!r}", "{who:>10}",
             "{0}", "{", "}", "{who", "who}", "{{", "}}"]
)  # fmt: skip
async def test_braces_that_hold_no_bare_name_survive(text):
    assert await sent(text, {"who": "Ada", "a": 1, "b": 2, "0": 3}, system=f"x{text}") == [f"x{text}", text]


async def test_a_doubled_brace_is_a_literal_name():
    assert await sent("{{who}} {who} {{{who}}}", {"who": "Ada"}) == ["{who} Ada {{who}}"]


async def test_a_tool_does_not_change_the_prompts_of_its_own_run():
    """What a tool puts into the context fills the prompts of the next run only."""

    async def change():
        rt.context.put("who", "Bob")
        rt.context.put("new", "x")

    agent, model = agent_of(tool_call("change"), "Done.", "Done.", tool_nodes=[change], system_message="{who} {new}")
    async with rt.Session({"who": "Ada"}):
        await rt.call(agent, "{who} {new}")
        await rt.call(agent, "{who} {new}")
    assert [[message.content for message in call[:2]] for call in model.calls] == [
        ["Ada {new}", "Ada {new}"], ["Ada {new}", "Ada {new}"], ["Bob x", "Bob x"],
    ]  # fmt: skip


async def test_a_value_that_has_no_text_fails_the_agent_with_its_error():
    with pytest.raises(RuntimeError, match="no text"):
        await sent("{odd}", {"odd": Odd()})


async def test_escaped_text_comes_through_as_it_is():
    text = '{who} {{who}} {"a": {who}} {who.x} { {who} }'
    assert await sent(rt.escape_braces(text), {"who": "Ada"}) == [text]
