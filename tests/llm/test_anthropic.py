"""The wire format of Anthropic's messages, as the Anthropic SDK sends it."""

from __future__ import annotations

import json
import sys

import pytest

from railtracks.exceptions import ConfigError
from railtracks.llm._messages import AssistantMessage, SystemMessage, ToolCall, ToolMessage, UserMessage
from railtracks.llm._model import OutputSchema, ToolSchema
from tests.llm import server as server_module
from tests.llm.server import Answer, Call
from tests.llm.test_adapters import ASKED, KEY, anthropic, both_ways, whole

pytest.importorskip("anthropic")

TOOL = ToolSchema("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})


@both_ways
async def test_every_kind_of_message_goes_out_in_its_form(server, ask):
    messages = [
        SystemMessage("Be brief."),
        SystemMessage("Be kind."),
        UserMessage("Add."),
        AssistantMessage("Well.", [ToolCall("1", "add", {"a": 1}), ToolCall("2", "add", "{broken")]),
        ToolMessage("3", "1", "add"),
        ToolMessage("no JSON", "2", "add", is_error=True),
        UserMessage("Quick!"),
        AssistantMessage(""),
        UserMessage("Please!"),
        AssistantMessage("Done."),
    ]
    await ask(anthropic(server.url), messages)
    request = server.requests[0]
    assert (request.path, request.key) == ("/v1/messages", KEY)
    assert request.body["system"] == "Be brief.\n\nBe kind."
    assert request.body["max_tokens"] == 4096
    assert request.body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Add."}]},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Well."},
                {"type": "tool_use", "id": "1", "name": "add", "input": {"a": 1}},
                {"type": "tool_use", "id": "2", "name": "add", "input": {"malformed": "{broken"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "3"},
                {"type": "tool_result", "tool_use_id": "2", "content": "no JSON", "is_error": True},
                {"type": "text", "text": "Quick!"},
                {"type": "text", "text": "Please!"},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Done."}]},
    ]
    assert "tools" not in request.body


@both_ways
async def test_tools_and_output_go_out_in_their_form(server, ask):
    inner = {"type": "object", "properties": {"type": {"type": "string"}}}
    closed_inner = inner | {"required": [], "additionalProperties": False}
    schema = {
        "type": "object",
        "properties": {"one": {"$ref": "#/$defs/Inner"}, "many": {"type": "array", "items": inner}},
        "$defs": {"Inner": {"anyOf": [inner, {"type": "null"}]}},
        "default": {"type": "object"},
    }
    server.answers = [Answer(text='{"one": null}')]
    model = anthropic(server.url, output_config={"effort": "low"}, max_tokens=9)
    completion = await ask(model, ASKED, tools=[TOOL], output=OutputSchema("person", schema))
    body = server.requests[0].body
    assert body["tools"] == [{"name": "add", "description": "Adds.", "input_schema": TOOL.parameters}]
    assert body["output_config"] == {
        "effort": "low",
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"one": {"$ref": "#/$defs/Inner"}, "many": {"type": "array", "items": closed_inner}},
                "$defs": {"Inner": {"anyOf": [closed_inner, {"type": "null"}]}},
                "required": [],
                "additionalProperties": False,
                "description": "{default: {'type': 'object'}}",
            },
        },
    }
    assert body["max_tokens"] == 9
    assert json.loads(completion.message.content) == {"one": None}


@both_ways
async def test_what_the_model_thinks_is_not_its_answer(server, ask):
    server.answers = [Answer(thinking="Hm.", calls=[Call(name="add", arguments={"a": 1})])]
    completion = await ask(anthropic(server.url), ASKED)
    message = completion.message
    assert (message.content, message.reasoning) == ("Hello dear world", "Hm.")
    assert message.tool_calls == (ToolCall("id-0", "add", {"a": 1}),)


async def test_arguments_that_break_off_come_as_they_are(server):
    server.answers = [Answer(text="", calls=[Call(name="add", arguments='{"a": 1')])]
    _, completion = await whole(anthropic(server.url), ASKED)
    assert completion.message.tool_calls == (ToolCall("id-0", "add", '{"a": 1'),)


async def test_a_stream_skips_the_tools_of_the_provider(server, monkeypatch):
    own = {"type": "server_tool_use", "id": "own", "name": "web_search", "input": {}}
    query = [{"type": "input_json_delta", "partial_json": part} for part in ('{"query":', ' "x"}')]
    said = server_module._anthropic_events

    def events(answer):
        first, *rest = said(answer)
        return [first, *server_module._block(0, own, query), *rest]

    monkeypatch.setattr(server_module, "_anthropic_events", events)
    pieces, completion = await whole(anthropic(server.url), ASKED)
    assert pieces == ["Hello ", "dear ", "world"]
    assert completion.message.content == "Hello dear world"
    await whole(anthropic(server.url), [*ASKED, completion.message, UserMessage("And then?")])
    assert server.requests[1].body["messages"][1]["content"][0] == {**own, "input": {"query": "x"}}  # it goes back


async def test_an_error_in_the_midst_of_a_stream_is_the_sdks(server):
    import anthropic as sdk

    error = {"type": "error", "error": {"type": "overloaded_error", "message": f"overloaded, {KEY}"}}
    server.answers = [Answer(event=error)]
    with pytest.raises(sdk.APIStatusError, match=r"overloaded, \*\*\*") as caught:
        await whole(anthropic(server.url), ASKED)
    assert KEY not in repr(caught.value.body)


@pytest.mark.parametrize("how", [{"drop": "body"}, {"cut": True}])
async def test_a_stream_that_breaks_off_is_a_connection_error(server, how):
    import anthropic as sdk

    server.answers = [Answer(**how)]
    with pytest.raises(sdk.APIConnectionError):
        await whole(anthropic(server.url), ASKED)


def test_a_missing_package_is_an_error_with_the_command(monkeypatch):
    """The error has the command that installs the package."""
    monkeypatch.setitem(sys.modules, "anthropic", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[anthropic\]'` in a checkout"):
        anthropic("http://127.0.0.1:1")


def test_instructions_are_messages_not_settings():
    with pytest.raises(ConfigError, match="system is not a setting; put a SystemMessage"):
        anthropic("http://127.0.0.1:1", system="Be brief.")
