"""What belongs to a provider travels with the messages, and goes back to that provider alone."""

from __future__ import annotations

import json

import pytest

import railtracks as rt
from railtracks.llm import AssistantMessage, Reasoning, ToolCall, ToolMessage, UserMessage
from tests.llm.server import Answer, Call
from tests.llm.test_adapters import KEY, TOOL, anthropic, both_ways, openai

SIGNED = {"extra_content": {"google": {"thought_signature": "QUJD"}}}
ASKED = [UserMessage("1 + 2?")]


def after(completion):
    call = completion.message.tool_calls[0]
    return [*ASKED, completion.message, ToolMessage("3", call.id, call.name)]


@both_ways
async def test_what_a_model_thinks_goes_back_within_its_turn(server, ask):
    server.answers = [Answer(text="", reasoning="I add them.", calls=[Call(name="add")])]
    model = openai(server.url)
    completion = await ask(model, ASKED, tools=[TOOL])
    assert completion.message.reasoning == "I add them."
    await ask(model, after(completion), tools=[TOOL])
    await ask(model, [*after(completion), AssistantMessage("3"), UserMessage("Sure?")], tools=[TOOL])
    second, third = (request.body["messages"][1] for request in server.requests[1:])
    assert second["reasoning_content"] == "I add them."
    assert "reasoning_content" not in third


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
