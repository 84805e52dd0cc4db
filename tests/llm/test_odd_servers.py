"""Servers that speak the providers' formats loosely: what comes is understood, or an error shows it."""

from __future__ import annotations

import json

import pytest

import railtracks as rt
from railtracks.exceptions import LLMError
from railtracks.llm import Reasoning, ToolCall, Usage
from railtracks.llm._providers._sse import EventReader
from tests.llm.server import Answer, Call
from tests.llm.test_adapters import (
    ASKED,
    TOOL,
    adapter,
    anthropic,
    both_ways,
    by_complete,
    by_stream,
    leave_nothing,
    openai,
    responses,
    sdk,
    whole,
)

__all__ = ["adapter", "sdk"]

CALLS = [Call(name="add", arguments={"a": 1}), Call(name="add", arguments={"a": 2})]


@both_ways
async def test_a_stream_or_a_whole_answer_comes_unasked(server, adapter, ask):
    """Some servers ignore ``stream``: kaito-project/kaito#1880, unslothai/unsloth#6570."""
    if "anyllm" in adapter.__name__:
        pytest.skip("its SDKs parse the answers")
    answer = Answer(text="Well, then", calls=CALLS, thinking="Hm.", reasoning="Hm.", streams=ask is by_complete)
    server.answers = [answer]
    completion = await ask(adapter(server.url), ASKED, tools=[TOOL])
    assert completion.message.content == "Well, then"
    assert completion.message.reasoning == "Hm."
    assert completion.message.tool_calls == (ToolCall("id-0", "add", {"a": 1}), ToolCall("id-1", "add", {"a": 2}))
    assert completion.finish_reason in ("tool_calls", "tool_use", "completed")
    assert completion.usage == (None if adapter is openai and ask is by_complete else Usage(3, 4))
    await leave_nothing()


@pytest.mark.parametrize("make", [openai, anthropic, responses])
async def test_a_whole_answer_to_a_stream_comes_in_pieces(server, make):
    server.answers = [Answer(text="Well, then", thinking="Hm.", reasoning="Hm.", streams=False)]
    pieces, completion = await whole(make(server.url), ASKED)
    assert pieces == [Reasoning("Hm."), "Well, then"]
    assert completion.message.content == "Well, then"


@both_ways
@pytest.mark.parametrize("make", [openai, anthropic, responses])
async def test_what_is_not_an_answer_is_shown(server, make, ask):
    """As where an address leads to a web page."""
    bodies = {"<html>\n\nWelcome</html>": "<html>", '{"detail": "Not found"}': "Not found", "[1, 2]": r"\[1, 2\]"}
    for body, shown in bodies.items():
        server.answers = [Answer(raw=body)]
        with pytest.raises(LLMError, match=shown):
            await ask(make(server.url), ASKED)
    await leave_nothing()


@both_ways
@pytest.mark.parametrize("make", [openai, anthropic, responses])
async def test_an_error_with_status_200_is_the_sdks(server, make, ask):
    import anthropic as other
    import openai as sdk

    body = json.dumps({"type": "error", "object": "error", "error": {"message": "overloaded"}})
    for raw in (body, f"data: {body}\n\n"):
        server.answers = [Answer(raw=raw)]
        with pytest.raises((sdk.APIError, other.APIError), match="overloaded"):
            await ask(make(server.url), ASKED)


async def test_vllm_sends_errors_as_objects(server):
    import openai as sdk

    server.answers = [Answer(raw='data: {"object": "error", "message": "too long", "code": 400}\n\n')]
    with pytest.raises(sdk.APIError, match="too long"):
        await by_stream(openai(server.url), ASKED)


async def test_an_event_that_is_not_json_is_shown(server):
    server.answers = [Answer(raw="data: upstream timed out\n\n")]
    with pytest.raises(LLMError, match="upstream timed out"):
        await by_stream(openai(server.url), ASKED)


# ---- streams, in the format of OpenAI


def chunk(delta=None, finish=None, **more):
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return f"data: {json.dumps({'id': '1', 'model': 'm', 'choices': choices, **more})}\n\n"


def call(arguments="", *, name=None, **more):
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return chunk({"tool_calls": [{**more, "function": function}]})


USED = {"prompt_tokens": 3, "completion_tokens": 4}
END = chunk({}, "tool_calls")


async def streamed(server, *parts):
    server.answers = [Answer(raw="".join(parts), headers={"content-type": "text/event-stream"})]
    return (await whole(openai(server.url), ASKED, tools=[TOOL]))[1]


@pytest.mark.parametrize(
    "parts",
    [
        [": OPENROUTER PROCESSING\n\n", "data: \n\n", "event: ping\n\n", chunk({"content": "Hi"}), chunk({}, "stop")],
        [chunk({"content": "Hi"}), chunk({}, "stop").rstrip()],
        [chunk({"content": "Hi"}), "data: [DONE]"],
        [chunk({"content": "Hi"}, "stop").replace("\n", "\r\n"), "data: [DONE]\r\n\r\n"],
        [chunk(prompt_filter_results=[]), chunk({"content": "Hi"}, ""), chunk({}, "stop"), chunk(usage=None)],
        [chunk({"content": [{"type": "text", "text": "Hi"}]}), chunk(None, choices=None), "data: [DONE]\n\n"],
    ],
)  # fmt: skip
async def test_a_stream_may_be_padded_and_end_as_it_likes(server, parts):
    completion = await streamed(server, *parts)
    assert (completion.message.content, completion.usage) == ("Hi", None)
    await leave_nothing()


@pytest.mark.parametrize(
    "parts",
    [
        [chunk({"content": "Hi"}, usage=USED), chunk({}, "stop", usage=None)],
        [chunk({"content": "Hi"}, usage={**USED, "completion_tokens": 1}), chunk({}, "stop", usage=USED)],
        [chunk({"content": "Hi"}), chunk({}, "stop"), chunk(usage=USED), "data: [DONE]\n\n"],
    ],
)
async def test_usage_may_come_in_any_chunk(server, parts):
    assert (await streamed(server, *parts)).usage == Usage(3, 4)


async def test_a_stream_without_choices_is_not_an_answer(server):
    with pytest.raises(LLMError, match="no 'choices'"):
        await streamed(server, chunk(), "data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # Ollama, https://github.com/ollama/ollama/issues/15457: one index
        ([call('{"a": 1}', index=0, id="x", name="add"), call('{"a": 2}', index=0, id="y", name="add")],
         [{"a": 1}, {"a": 2}]),
        # neither an index nor identifiers
        ([call('{"a": 1}', name="add"), call('{"a": 2}', name="add")], [{"a": 1}, {"a": 2}]),
        # with arguments in parts, and the name in each of them
        ([call('{"a"', index=0, name="add"), call(": 1}", index=0, name="add"), call('{"a": 2}', index=0, name="add")],
         [{"a": 1}, {"a": 2}]),
        # another identifier in each chunk
        ([call("", index=0, id="x", name="add"), call('{"a"', index=0, id="y"), call(": 1}", index=0, id="z")],
         [{"a": 1}]),
        # in turns, known by their identifiers alone
        ([call("", id="x", name="add"), call("", id="y", name="add"), call('{"a": 1}', id="x"),
          call('{"a": 2}', id="y")], [{"a": 1}, {"a": 2}]),
        # in turns, known by their indices
        ([call("", index=0, id="x", name="add"), call("", index=1, id="y", name="add"), call('{"a": 1}', index=0),
          call('{"a": 2}', index=1)], [{"a": 1}, {"a": 2}]),
        # one identifier for all
        ([call('{"a": 1}', index=0, id="x", name="add"), call('{"a": 2}', index=1, id="x", name="add")],
         [{"a": 1}, {"a": 2}]),
        # arguments that are not a text
        ([call({"a": 1}, index=0, id="x", name="add")], [{"a": 1}]),
        # no arguments, and other names
        ([call("", name="add"), call("", name="now")], [{}, {}]),
        # all in one chunk
        ([chunk({"tool_calls": [{"function": {"name": "add", "arguments": f'{{"a": {n}}}'}} for n in (1, 2)]})],
         [{"a": 1}, {"a": 2}]),
    ],
)  # fmt: skip
async def test_calls_are_kept_apart(server, parts, expected):
    completion = await streamed(server, *parts, END)
    assert [each.arguments for each in completion.message.tool_calls] == expected
    assert all(each.id and each.name for each in completion.message.tool_calls)


async def test_calls_with_one_identifier_are_both_answered(server):
    """The agent gives each its own result, and the identifiers differ when they are sent back."""
    parts = [call(f'{{"a": {n}}}', index=n, id="x", name="add") for n in (1, 2)]
    server.answers = [Answer(raw="".join([*parts, END])), Answer(text="Done.")]

    @rt.function_node
    async def add(a: int) -> int:
        return a + 1

    async with rt.Session(save_state=False):
        async for _ in rt.astream(rt.agent_node(llm=openai(server.url), tool_nodes=[add]), "Add."):
            pass
    answers = [each for each in server.requests[1].body["messages"] if each["role"] == "tool"]
    assert [each["content"] for each in answers] == ["2", "3"]
    assert len({each["tool_call_id"] for each in answers}) == 2


# ---- streams, in the format of Anthropic


def event(kind, **more):
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n"


async def test_blocks_of_anthropics_format_may_come_in_turns(server):
    start = event("message_start", message={"id": "1", "role": "assistant", "model": "m", "content": []})
    blocks = [{"type": "tool_use", "id": f"t{n}", "name": "add", "input": {}} for n in (0, 1)]
    opened = [event("content_block_start", index=n, content_block=block) for n, block in enumerate(blocks)]
    deltas = [
        event("content_block_delta", index=n, delta={"type": "input_json_delta", "partial_json": f'{{"a": {n}}}'})
        for n in (0, 1)
    ]
    end = event("message_delta", delta={"stop_reason": "tool_use"})  # no usage, and nothing after it
    server.answers = [Answer(raw="".join([start, *opened, *deltas, end]))]
    completion = (await whole(anthropic(server.url), ASKED, tools=[TOOL]))[1]
    assert [each.arguments for each in completion.message.tool_calls] == [{"a": 0}, {"a": 1}]
    assert completion.finish_reason == "tool_use"


async def test_a_stream_of_anthropics_that_breaks_off_is_an_error(server):
    import anthropic as sdk

    server.answers = [Answer(raw=event("ping") + event("message_start", message={"id": "1", "model": "m"}))]
    with pytest.raises(sdk.APIConnectionError, match="before the answer was complete"):
        await whole(anthropic(server.url), ASKED)


# ---- the reader


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data: a\n\ndata: b\ndata: c\r\n\r\n", ["a", "b\nc"]),
        (": hello\n\nid: 3\ndata:x\n\n", ["x"]),
        ('\n \n{"a":\n\n 1}\n', ['{"a":\n\n 1}']),
        ('data: {"a": 1}', ['{"a": 1}']),
        ('data: {"a": 1', []),
        ("data: [DONE]\n", ["[DONE]"]),
    ],
)
def test_events_are_read_however_they_are_cut(text, expected, size):
    reader = EventReader()
    for start in range(0, len(text), size):
        reader.feed(text[start : start + size].encode())
    reader.feed_end()
    assert list(reader.ready) == expected
