"""What an agent is given and what it returns: a text, a message or a conversation; a response with its history."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.exceptions import NodeInvocationError
from railtracks.llm import AssistantMessage, Image, MessageHistory, SystemMessage, ToolCall, ToolMessage, UserMessage
from railtracks.testing import ScriptedModel, tool_call
from tests.agents.helpers import agent_of, asked, forecast

# ---- what an agent is given


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("Hello", [asked("Hello")]),
        ("", [asked("")]),
        (UserMessage("Hello"), [asked("Hello")]),
        (SystemMessage("Be brief."), [SystemMessage("Be brief.", inject_prompt=False)]),
        ([UserMessage("a"), AssistantMessage("b"), UserMessage("c")], [asked("a"), AssistantMessage("b"), asked("c")]),
        ((UserMessage("a"),), [asked("a")]),
        (MessageHistory([UserMessage("a")]), [asked("a")]),
    ],
)
async def test_an_agent_takes_a_text_a_message_or_a_conversation(given, sent):
    agent, model = agent_of("Hi.")
    response = await rt.call(agent, given)
    assert model.calls == [sent]
    assert response.message_history == [*sent, AssistantMessage("Hi.")]


async def test_an_agent_takes_what_yields_messages():
    agent, model = agent_of("Hi.")
    await rt.call(agent, (UserMessage(text) for text in "ab"))
    assert model.calls == [[asked("a"), asked("b")]]


async def test_a_conversation_goes_on_with_the_history_of_the_response():
    agent, model = agent_of("One.", "Two.", system_message="Count.")
    first = await rt.call(agent, "Begin.")
    second = await rt.call(agent, [*first.message_history, UserMessage("Go on.")])
    said = [asked("Begin."), AssistantMessage("One."), asked("Go on."), AssistantMessage("Two.")]
    assert second.message_history == said
    assert model.calls[1] == [SystemMessage("Count.", inject_prompt=False), *said[:-1]]


async def test_the_conversation_that_was_given_is_not_changed():
    agent, _ = agent_of("Hi.")
    given = MessageHistory([UserMessage("{who}")])
    async with rt.Session({"who": "me"}):
        await rt.call(agent, given)
    assert given == [UserMessage("{who}")]


@pytest.mark.parametrize("given", [None, 7, [], MessageHistory(), ["Hello"], [UserMessage("a"), "b"], {"a": 1}, b"a"])
async def test_what_is_not_a_conversation_is_refused(given):
    """The error says what was passed."""
    agent, model = agent_of("Hi.", name="Helper")
    with pytest.raises(
        NodeInvocationError, match=r"the agent Helper was given .*; expected a text, a message with a text such as"
    ):
        await rt.call(agent, given)
    assert model.calls == []


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ([{"role": "user", "content": "Hi"}], r"become such a list by rt\.llm\.MessageHistory\.from_json\(text\)$"),
        (["What is it?", Image(b"\x89PNG\r\n\x1a\n")], r"rt\.llm\.UserMessage\('\.\.\.', attachments=\[\.\.\.\]\)$"),
    ],
)
async def test_the_error_says_how_messages_are_made(given, hint):
    agent, _ = agent_of("Hi.")
    with pytest.raises(NodeInvocationError, match=hint):
        await rt.call(agent, given)


@pytest.mark.parametrize("given", [UserMessage(7), UserMessage(None), [AssistantMessage(None)]])  # type: ignore[arg-type]
async def test_a_message_whose_content_is_not_text_is_refused(given):
    """The error says what was passed instead of a text."""
    agent, model = agent_of("Hi.", name="Helper")
    with pytest.raises(NodeInvocationError, match=r"the agent Helper was given .*; expected a text"):
        await rt.call(agent, given)
    assert model.calls == []


async def test_an_agent_without_an_argument_says_what_is_missing():
    agent, _ = agent_of("Hi.")
    with pytest.raises(TypeError, match="user_input"):
        await rt.call(agent)


# ---- what it returns


async def test_a_response_prints_as_its_content_and_counts_tokens():
    agent, _ = agent_of(tool_call("forecast", city="Oslo"), "Take a coat.", tool_nodes=[forecast])
    response = await rt.call(agent, "Do I need a coat?")
    assert (str(response), response.content, response.text) == ("Take a coat.",) * 3
    assert "message_history" not in repr(response)
    assert response.usage.output_tokens == 3
    assert response.usage.input_tokens == 5 + (5 + 3)


async def test_the_history_holds_all_but_the_system_message_in_order():
    agent, _ = agent_of(["Let me see.", tool_call("forecast", city="Oslo")], "Snow.", tool_nodes=[forecast],
                        system_message="You know the weather.")  # fmt: skip
    response = await rt.call(agent, "Well?")
    call = ToolCall("call_0", "forecast", {"city": "Oslo"})
    assert response.message_history == [
        asked("Well?"),
        AssistantMessage("Let me see.", [call]),
        ToolMessage("snow in Oslo", "call_0", "forecast"),
        AssistantMessage("Snow."),
    ]
    assert str(response.message_history) == (
        "user: Well?\nassistant: Let me see.; forecast(city='Oslo')\ntool: snow in Oslo\nassistant: Snow."
    )


async def test_an_empty_answer_is_an_answer():
    agent, _ = agent_of("")
    assert (await rt.call(agent, "Say nothing.")).content == ""


async def test_a_model_gets_a_list_of_its_own():
    class Greedy(ScriptedModel):
        async def complete(self, messages, **options):
            result = await super().complete(list(messages), **options)
            messages.clear()
            return result

    agent = rt.agent_node(llm=Greedy([tool_call("forecast", city="a"), "Done."]), tool_nodes=[forecast])
    response = await rt.call(agent, "Go.")
    assert len(response.message_history) == 4
