"""What belongs to a provider travels with the messages, and goes back to that provider alone."""

from __future__ import annotations

import json

import pytest

import railtracks as rt
from railtracks.llm import AssistantMessage, Message, Reasoning, ToolCall, ToolMessage, UserMessage
from railtracks.llm._providers._chat_format import to_chat
from railtracks.llm._providers._request import Request
from tests.llm.server import Answer, Call
from tests.llm.test_adapters import KEY, TOOL, anthropic, both_ways, openai

SIGNED = {"extra_content": {"google": {"thought_signature": "QUJD"}}}
ASKED = [UserMessage("1 + 2?")]


def after(completion):
    call = completion.message.tool_calls[0]
    return [*ASKED, completion.message, ToolMessage("3", call.id, call.name)]


@both_ways
async def test_what_a_model_thinks_goes_back_in_its_turn(server, ask):
    """Also later, if tools were called in that turn: DeepSeek refuses conversations without it."""
    server.answers = [
        Answer(text="", reasoning="I add them.", calls=[Call(name="add")]),
        Answer(text="3", reasoning="It was 3."),
        Answer(text="Yes.", reasoning="I am sure."),
    ]
    model = openai(server.url)
    history = after(await ask(model, ASKED, tools=[TOOL]))
    history += [(await ask(model, history, tools=[TOOL])).message, UserMessage("Sure?")]
    history += [(await ask(model, history, tools=[TOOL])).message, UserMessage("Quite?")]
    await ask(model, history, tools=[TOOL])
    sent = [message.get("reasoning_content") for message in server.requests[-1].body["messages"]]
    assert sent == [None, "I add them.", None, "It was 3.", None, None, None]


def test_deepseek_gets_the_field_with_each_call_of_a_tool():
    """It refuses calls without it also where the model did not think, or another one was asked."""
    messages: list[Message] = [
        *ASKED,
        AssistantMessage("", [ToolCall("1", "add")]),
        ToolMessage("3", "1", "add"),
        *ASKED,
    ]
    for origin, expected in {"deepseek": "", "openai api.deepseek.com": "", "openai": None}.items():
        payload = to_chat(Request(messages, [], None), "m", {}, streams=False, origin=origin)
        assert [each.get("reasoning_content") for each in payload["messages"]] == [None, expected, None, None]


@both_ways
async def test_the_signature_of_a_call_goes_back(server, ask):
    server.answers = [Answer(text="", calls=[Call(name="add", extra=SIGNED)])]
    model = openai(server.url)
    completion = await ask(model, ASKED, tools=[TOOL])
    await ask(model, after(completion), tools=[TOOL])
    assert server.requests[1].body["messages"][1]["tool_calls"][0]["extra_content"] == SIGNED["extra_content"]


@both_ways
async def test_anthropics_thinking_goes_back_in_its_place(server, ask):
    server.answers = [Answer(text="Well.", thinking="Hm.", calls=[Call(name="add", arguments={"a": 1})])]
    model = anthropic(server.url, thinking={"type": "enabled", "budget_tokens": 2000})
    completion = await ask(model, ASKED, tools=[TOOL])
    await ask(model, after(completion), tools=[TOOL])  # the server refuses a turn without its thinking
    assert server.requests[1].body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "Well."},
        {"type": "tool_use", "id": "id-0", "name": "add", "input": {"a": 1}},
    ]


async def test_another_provider_gets_none_of_it(server):
    server.answers = [
        Answer(text="", reasoning="I add.", calls=[Call(name="add", extra=SIGNED)]),
        Answer(thinking="Hm."),
    ]
    one = await openai(server.url).complete(ASKED, tools=[TOOL])
    await anthropic(server.url).complete(after(one), tools=[TOOL])
    other = await anthropic(server.url).complete(ASKED)
    await openai(server.url).complete([*ASKED, other.message, UserMessage("Sure?")])
    host = openai(server.url.replace("127.0.0.1", "localhost"))  # another host: maybe another provider
    await host.complete(after(one), tools=[TOOL])
    sent = [json.dumps(request.body) for request in server.requests]
    assert not any(secret in text for text in (sent[1], *sent[3:]) for secret in ("I add.", "QUJD", "Hm."))


async def test_an_edited_message_is_sent_as_it_is(server):
    """What a history processor has changed wins over what the provider sent."""
    server.answers = [Answer(text="Well, then.", thinking="Hm.")]
    model = anthropic(server.url)
    extra = (await model.complete(ASKED)).message.extra
    edited = AssistantMessage("Another text.", [ToolCall("new", "add")], extra=extra)
    await model.complete([*ASKED, edited, ToolMessage("3", "new", "add")], tools=[TOOL])
    kinds = [(block["type"], block.get("text")) for block in server.requests[1].body["messages"][1]["content"]]
    assert kinds == [("thinking", None), ("text", "Another text."), ("tool_use", None)]


@pytest.mark.parametrize("make", [openai, anthropic])
async def test_streams_show_what_a_model_thinks(server, make):
    server.answers = [Answer(text="Yes.", reasoning="I add them.", thinking="I add them.")]
    pieces = [piece async for piece in make(server.url).stream(ASKED)]
    assert "".join(piece.text for piece in pieces if isinstance(piece, Reasoning)) == "I add them."
    assert [piece for piece in pieces if isinstance(piece, str)] == ["Yes."]
    assert pieces[-1].message.reasoning == "I add them."


async def test_it_is_on_record_and_goes_back_in_a_resumed_run(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = Answer(text="", reasoning="I add.", calls=[Call(name="add", arguments={"a": 1}, extra=SIGNED)])
    server.answers = [first, Answer(status=400, error="down")]
    agent = rt.agent_node("Adder", llm=openai(server.url), tool_nodes=[rt.function_node(add)])
    flow = rt.Flow("Adding", agent, run_identifier="adding", logging_setting="NONE")
    with pytest.raises(Exception, match="down"):
        await flow.ainvoke("1 + 2?")
    await flow.aresume("adding")
    sent = [request.body["messages"][1] for request in server.requests[1:]]
    assert len(sent) == 2
    assert all(each["reasoning_content"] == "I add." for each in sent)
    assert all(each["tool_calls"][0]["extra_content"] == SIGNED["extra_content"] for each in sent)
    assert KEY not in (tmp_path / ".railtracks" / "adding.json").read_text()


def add(a: int) -> int:
    return a
