"""Conversations that an API would refuse are put right before they are sent; the server refuses what providers do."""

from __future__ import annotations

import json
import logging

import pytest

from railtracks.exceptions import LLMError
from railtracks.llm import AssistantMessage, SystemMessage, ToolCall, ToolMessage, UserMessage
from railtracks.llm._output import REJECTED
from railtracks.llm._providers import _output_modes
from tests.llm.test_adapters import TOOL, anthropic, openai

both_formats = pytest.mark.parametrize("make", [openai, anthropic])
ASKED = UserMessage("Add.")
LATER = UserMessage("Are you there?")

ODD = {
    "a call without an answer": [ASKED, AssistantMessage("", [ToolCall("1", "add")]), LATER],
    "at the end": [ASKED, AssistantMessage("", [ToolCall("1", "add")])],
    "one of two answers": [
        ASKED, AssistantMessage("", [ToolCall("1", "add"), ToolCall("2", "add")]), ToolMessage("3", "2", "add"), LATER,
    ],
    "answers in another order, after a question": [
        ASKED, AssistantMessage("", [ToolCall("1", "add"), ToolCall("2", "add")]), LATER, ToolMessage("4", "2", "add"),
        ToolMessage("3", "1", "add"),
    ],
    "an identifier twice": [
        ASKED, AssistantMessage("", [ToolCall("1", "add")]), ToolMessage("3", "1", "add"),
        AssistantMessage("", [ToolCall("1", "add")]), ToolMessage("4", "1", "add"),
    ],
    "no identifiers": [
        ASKED, AssistantMessage("", [ToolCall("", "add"), ToolCall("", "add")]), ToolMessage("3", "", "add"),
        ToolMessage("4", "", "add"),
    ],
    "a name that is none": [
        ASKED, AssistantMessage("", [ToolCall("1", "multi_tool_use.parallel"), ToolCall("2", "")]),
        ToolMessage("3", "1", "multi_tool_use.parallel"), ToolMessage("4", "2", ""),
    ],
    "a long identifier": [ASKED, AssistantMessage("", [ToolCall("é" * 99, "add")]), ToolMessage("3", "é" * 99, "add")],
    "arguments that are no JSON": [ASKED, AssistantMessage("", [ToolCall("1", "add", '{"a": ')]), LATER],
    "arguments that are no object": [ASKED, AssistantMessage("", [ToolCall("1", "add", "[1]")]), LATER],
    "an answer without a call": [ASKED, ToolMessage("3", "1", "add"), AssistantMessage("So."), LATER],
    "an empty answer": [ASKED, AssistantMessage(""), LATER],
    "a system message in the midst": [ASKED, AssistantMessage("Yes."), SystemMessage("Be brief."), LATER],
}  # fmt: skip


@both_formats
@pytest.mark.parametrize("case", ODD)
async def test_an_odd_conversation_is_taken(server, make, case):
    completion = await make(server.url).complete(ODD[case], tools=[TOOL])
    assert completion.message.content == "Hello dear world"
    body = json.dumps(server.requests[0].body)
    assert all(each.content in body for each in ODD[case] if isinstance(each, UserMessage))


async def test_what_has_no_answer_says_so(server):
    await openai(server.url).complete(ODD["a call without an answer"], tools=[TOOL])
    answer = {"role": "tool", "tool_call_id": "1", "content": "no result: the call was interrupted"}
    assert server.requests[0].body["messages"][2] == answer


async def test_answers_stay_with_their_calls(server):
    await openai(server.url).complete(ODD["an identifier twice"], tools=[TOOL])
    messages = server.requests[0].body["messages"]
    pairs = [(each["tool_call_id"], each["content"]) for each in messages if each["role"] == "tool"]
    assert pairs == [("1", "3"), ("1_2", "4")]
    assert [each["tool_calls"][0]["id"] for each in messages if each["role"] == "assistant"] == ["1", "1_2"]


@both_formats
async def test_an_answer_that_is_left_out_is_logged_once(server, make, caplog):
    with caplog.at_level(logging.WARNING, "RT"):
        model = make(server.url)
        for _ in range(2):
            await model.complete(ODD["an answer without a call"], tools=[TOOL])
    assert caplog.text.count("no call before it has its identifier '1'") == 1


@both_formats
@pytest.mark.parametrize("messages", [[], [SystemMessage("Be brief.")]])
async def test_a_conversation_without_a_question_is_not_sent(server, make, messages):
    with pytest.raises(LLMError, match="without a message of the user"):
        await make(server.url).complete(messages)
    assert server.requests == []


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (openai, {"tool_choice": "required", "parallel_tool_calls": False}),
        (openai, {"tool_choice": {"type": "function", "function": {"name": "add"}}}),
        (anthropic, {"tool_choice": {"type": "any"}}),
    ],
)
async def test_settings_about_tools_need_tools(server, make, settings):
    model, answered = make(server.url, **settings), ToolMessage("3", "1", "add")
    await model.complete([ASKED])
    await model.complete([ASKED], tools=[TOOL])
    await model.complete([ASKED, AssistantMessage("", [ToolCall("1", "add")]), answered], tools=[TOOL])
    rejected, again = UserMessage(REJECTED + "no."), UserMessage("Again!")
    called = [ASKED, AssistantMessage("", [ToolCall("1", "add")]), answered, AssistantMessage("3")]
    await model.complete([*called, rejected], tools=[TOOL])
    await model.complete([*called, again], tools=[TOOL])
    await model.complete([ASKED, AssistantMessage("3"), rejected], tools=[TOOL])
    choices = [request.body.get("tool_choice") for request in server.requests]
    forced = settings["tool_choice"]
    assert choices == [None, forced, None, None, forced, forced]


async def test_calls_stay_one_by_one_when_a_choice_is_reset(server):
    model = anthropic(server.url, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    answered = ToolMessage("3", "1", "add")
    await model.complete([ASKED, AssistantMessage("", [ToolCall("1", "add")]), answered], tools=[TOOL])
    assert server.requests[0].body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


@pytest.mark.parametrize("case", ODD)
async def test_mistral_takes_the_conversations_of_others(server, monkeypatch, case):
    monkeypatch.setitem(_output_modes.ABILITIES, "127.0.0.1", _output_modes.ABILITIES["api.mistral.ai"])
    model = openai(f"{server.url}/mistral")
    for _ in range(2):
        assert (await model.complete(ODD[case], tools=[TOOL])).message.content == "Hello dear world"
    assert server.requests[0].body == server.requests[1].body


async def test_identifiers_that_mistral_gave_stay_as_they_are(server, monkeypatch):
    monkeypatch.setitem(_output_modes.ABILITIES, "127.0.0.1", _output_modes.ABILITIES["api.mistral.ai"])
    messages = [
        ASKED,
        AssistantMessage("", [ToolCall("D681PevKs", "add")]),
        ToolMessage("3", "D681PevKs", "add"),
        LATER,
    ]
    await openai(f"{server.url}/mistral").complete(messages, tools=[TOOL])
    assert [each["role"] for each in server.requests[0].body["messages"]] == [
        "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    assert server.requests[0].body["messages"][2]["tool_call_id"] == "D681PevKs"
