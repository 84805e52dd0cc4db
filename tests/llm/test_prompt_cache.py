"""Anthropic's cache gets all that the next request repeats, within the limits of its API."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.llm import AssistantMessage, ToolCall, ToolMessage, UserMessage
from tests.llm.rules import problem_with
from tests.llm.server import Answer, Call
from tests.llm.test_adapters import ASKED, TOOL, anthropic, both_ways, openai

pytest.importorskip("anthropic")
MARK = {"type": "ephemeral"}


def marked(body):
    """Return where the breakpoints of a request are."""
    places: list[tuple[str | int, int]] = [
        ("tools", n) for n, tool in enumerate(body.get("tools", ())) if "cache_control" in tool
    ]
    system = body.get("system", ())
    places += [("system", n) for n, block in enumerate(system) if "cache_control" in block]
    for n, message in enumerate(body["messages"]):
        places += [(n, at) for at, block in enumerate(message["content"]) if "cache_control" in block]
    return places


@both_ways
@pytest.mark.parametrize(("given", "mark"), [(True, MARK), ("5m", MARK), ("1h", MARK | {"ttl": "1h"})])
async def test_tools_system_and_last_message_are_cached(server, ask, given, mark):
    other = rt.llm.ToolSchema("multiply", "Multiplies.", {"type": "object", "properties": {}})
    await ask(anthropic(server.url, cache_prompt=given), ASKED, tools=[TOOL, other])
    body = server.requests[0].body
    assert marked(body) == [("tools", 1), ("system", 0), (0, 0)]
    assert body["tools"][1]["cache_control"] == mark
    assert body["system"] == [{"type": "text", "text": "Be brief.", "cache_control": mark}]
    assert body["messages"][0]["content"][0]["cache_control"] == mark


async def test_each_request_reads_what_the_one_before_has_written(server):
    """The last breakpoint of a request is the last but one of the next, however many blocks come in between."""
    calls = [Call(name="add", arguments={"a": n}) for n in range(30)]
    server.answers = [Answer(text="", calls=calls), Answer(text="", calls=calls[:1])]
    add = rt.function_node(lambda a: a, name="add")
    agent = rt.agent_node(
        "Adder", llm=anthropic(server.url, cache_prompt=True), system_message="Add.", tool_nodes=[add]
    )
    await rt.call(agent, "Add all.")
    assert [marked(request.body)[2:] for request in server.requests] == [[(0, 0)], [(0, 0), (2, 29)], [(2, 29), (4, 0)]]


async def test_what_the_model_thinks_has_no_breakpoint(server):
    server.answers = [Answer(text="", thinking="Hm.", calls=[Call(name="add", arguments={"a": 1})])]
    model = anthropic(server.url, cache_prompt=True)
    first = (await model.complete(ASKED, tools=[TOOL])).message
    await model.complete([*ASKED, first, ToolMessage("1", "id-0", "add"), UserMessage("So?")], tools=[TOOL])
    assert marked(server.requests[1].body) == [("tools", 0), ("system", 0), (0, 0), (2, 1)]
    await model.complete([*ASKED, AssistantMessage("It is")])
    assert marked(server.requests[2].body) == [("system", 0), (0, 0), (1, 0)]


async def test_without_it_nothing_is_marked(server):
    await anthropic(server.url).complete([*ASKED, AssistantMessage("", [ToolCall("1", "add")])], tools=[TOOL])
    assert marked(server.requests[0].body) == []


def test_the_cache_is_not_a_setting():
    """A resumed run replays what another cache has answered."""
    assert anthropic("http://127.0.0.1:1", cache_prompt="1h").settings == anthropic("http://127.0.0.1:1").settings


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"cache_prompt": "2h"}, "cache_prompt is '2h'; expected True, False, '5m' or '1h'"),
        ({"cache_prompt": None}, "cache_prompt is None"),
        ({"cache_prompt": True, "cache_control": MARK}, "do the same; leave out one"),
    ],
)
def test_other_values_are_refused(options, problem):
    with pytest.raises(ConfigError, match=problem):
        anthropic("http://127.0.0.1:1", **options)


async def test_openais_cache_is_a_setting(server):
    pytest.importorskip("openai")
    await openai(server.url, prompt_cache_key="coats").complete(ASKED)
    assert server.requests[0].body["prompt_cache_key"] == "coats"


def test_the_server_refuses_what_anthropic_does():
    def problem(*blocks, **more):
        body = {"max_tokens": 1, "messages": [{"role": "user", "content": list(blocks)}], **more}
        return problem_with("/v1/messages", body)

    text = {"type": "text", "text": "Hi!", "cache_control": MARK}
    long = text | {"cache_control": MARK | {"ttl": "1h"}}
    assert problem(*[text] * 4) is None
    assert "maximum of 4" in problem(*[text] * 5)
    assert "maximum of 4" in problem(*[text] * 4, cache_control=MARK)
    assert problem(long, text) is None
    assert "must not come after" in problem(text, long)
    assert "'5m' or '1h'" in problem(text | {"cache_control": MARK | {"ttl": "1d"}})
    assert "not permitted" in problem(
        {"type": "thinking", "thinking": "", "signature": "s", "cache_control": MARK}, text
    )
