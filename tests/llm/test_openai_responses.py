"""OpenAI's Responses API: items go out and come back, and what the model thinks goes with them."""

from __future__ import annotations

import json

import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, Filtered, LLMError, Refused, Truncated
from railtracks.llm import AssistantMessage, OutputSchema, Reasoning, SystemMessage, ToolCall, ToolMessage, UserMessage
from tests.llm.responses import reasoning
from tests.llm.server import Answer, Call
from tests.llm.test_adapters import ASKED, KEY, TOOL, both_ways, openai, responses, whole

pytest.importorskip("openai")

SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}


def after(completion):
    answers = [ToolMessage("3", call.id, call.name) for call in completion.message.tool_calls]
    return [*ASKED, completion.message, *answers]


@both_ways
async def test_every_kind_of_message_goes_out_in_its_form(server, ask):
    messages = [
        SystemMessage("Be brief."),
        UserMessage("Add."),
        AssistantMessage("Well.", [ToolCall("1", "add", {"a": "é"}), ToolCall("2", "add", "{broken")]),
        ToolMessage("3", "1", "add"),
        ToolMessage("no JSON", "2", "add", is_error=True),
        UserMessage("Thanks."),
    ]
    await ask(responses(server.url), messages, tools=[TOOL])
    [request] = server.requests
    assert (request.path, request.key) == ("/v1/responses", KEY)
    assert request.body["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "Well."},
        {"type": "function_call", "call_id": "1", "name": "add", "arguments": '{"a": "é"}'},
        {"type": "function_call", "call_id": "2", "name": "add", "arguments": '{"malformed": "{broken"}'},
        {"type": "function_call_output", "call_id": "1", "output": "3"},
        {"type": "function_call_output", "call_id": "2", "output": "no JSON"},
        {"role": "user", "content": "Thanks."},
    ]
    parameters = {"name": "add", "description": "Adds.", "parameters": TOOL.parameters}
    assert request.body["tools"] == [{"type": "function", **parameters, "strict": False}]
    assert (request.body["store"], request.body["include"]) == (False, ["reasoning.encrypted_content"])


@both_ways
async def test_what_the_model_thinks_comes_and_goes_back(server, ask):
    thought = reasoning("I add.\n\nThen I stop.")
    server.answers = [Answer(text="Well.", items=[thought], calls=[Call(name="add", arguments={"a": 1})])]
    model = responses(server.url)
    completion = await ask(model, ASKED, tools=[TOOL])
    assert completion.message.reasoning == "I add.\n\nThen I stop."
    await ask(model, after(completion), tools=[TOOL])
    [given, message, call, answer] = server.requests[1].body["input"][2:]
    assert given == thought
    assert (message["id"], message["content"][0]["text"]) == ("msg_1", "Well.")
    assert (call["id"], call["call_id"], call["arguments"]) == ("fc_0", "id-0", '{"a": 1}')
    assert answer == {"type": "function_call_output", "call_id": "id-0", "output": "3"}


async def test_a_stream_shows_what_the_model_thinks(server):
    server.answers = [Answer(text="Yes.", thinking="I add.\n\nThen I stop.")]
    pieces, completion = await whole(responses(server.url), ASKED)
    assert "".join(each.text for each in pieces if isinstance(each, Reasoning)) == completion.message.reasoning
    assert completion.message.reasoning == "I add.\n\nThen I stop."
    assert [each for each in pieces if isinstance(each, str)] == ["Yes."]


@both_ways
async def test_tools_of_the_provider_are_a_setting(server, ask):
    """What they did goes back in its place."""
    cited = {"type": "message", "id": "msg_0", "role": "assistant", "status": "completed", "phase": "commentary"}
    part = {"type": "output_text", "text": "See: ", "annotations": [{"type": "url_citation", "url": "https://x.org"}]}
    server.answers = [Answer(text="yes", items=[reasoning("Hm."), SEARCH, cited | {"content": [part]}])]
    model = responses(server.url, tools=[{"type": "web_search"}], tool_choice="required")
    completion = await ask(model, ASKED)
    assert completion.message.content == "See: yes"
    await ask(model, [*after(completion), UserMessage("Sure?")], tools=[TOOL])
    first, second = (request.body for request in server.requests)
    assert (first["tools"], first["tool_choice"]) == ([{"type": "web_search"}], "required")
    assert [tool["type"] for tool in second["tools"]] == ["web_search", "function"]
    assert second["input"][3:5] == [SEARCH, cited | {"content": [part]}]
    assert second["input"][5]["content"][0]["text"] == "yes"


@both_ways
async def test_a_schema_goes_out_beside_other_settings_of_text(server, ask):
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    server.answers = [Answer(text='{"x": 1}')]
    model = responses(server.url, text={"verbosity": "low"}, output_mode="native")
    await ask(model, ASKED, output=OutputSchema("point", schema | {"additionalProperties": False}))
    sent = server.requests[0].body["text"]
    assert sent["verbosity"] == "low"
    assert (sent["format"]["type"], sent["format"]["name"], sent["format"]["strict"]) == ("json_schema", "point", True)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(finish="max_output_tokens"), Truncated),
        (Answer(finish="content_filter"), Filtered),
        (Answer(text="", refusal="I must not."), Refused),
    ],
)
async def test_an_answer_that_is_not_whole_is_an_error(server, answer, error):
    server.answers = [answer]
    with pytest.raises(error) as caught:
        await rt.call(rt.agent_node(llm=responses(server.url)), "Hi!")
    assert caught.value.usage == rt.llm.Usage(3, 4)


@both_ways
async def test_a_refusal_goes_back_as_one(server, ask):
    server.answers = [Answer(text="", refusal="I must not.", thinking="Hm.")]
    model = responses(server.url)
    completion = await ask(model, ASKED)
    assert (completion.message.content, completion.finish_reason) == ("I must not.", "refusal")
    await ask(model, [*after(completion), UserMessage("Please!")])
    assert server.requests[1].body["input"][3]["content"] == [{"type": "refusal", "refusal": "I must not."}]


@both_ways
async def test_thoughts_without_an_answer_stay_out(server, ask):
    """The API refuses them."""
    server.answers = [Answer(text="", thinking="Hm.", finish="max_output_tokens")]
    model = responses(server.url)
    completion = await ask(model, ASKED)
    await ask(model, [*after(completion), UserMessage("Go on!")])
    assert [item["role"] for item in server.requests[1].body["input"]] == ["system", "user", "user"]


async def test_an_edited_message_is_sent_as_it_is(server):
    server.answers = [Answer(text="Well, then.", thinking="Hm.", calls=[Call(name="add")])]
    model = responses(server.url)
    extra = (await model.complete(ASKED, tools=[TOOL])).message.extra
    await model.complete([*ASKED, AssistantMessage("Another text.", extra=extra), UserMessage("So?")])
    await model.complete([*ASKED, AssistantMessage("", extra=extra), UserMessage("So?")])
    second, third = (request.body["input"][2:-1] for request in server.requests[1:])
    assert [(item["type"], item.get("content", [{}])[0].get("text")) for item in second] == [
        ("reasoning", None),
        ("message", "Another text."),
    ]
    assert third == []


async def test_a_message_that_is_repeated_has_its_items_once(server):
    server.answers = [Answer(text="Yes.", thinking="Hm.")]
    model = responses(server.url)
    message = (await model.complete(ASKED)).message
    await model.complete([*ASKED, message, *ASKED, message, UserMessage("So?")])  # the server refuses them twice
    kinds = [item.get("type") for item in server.requests[1].body["input"]]
    assert kinds.count("reasoning") == 1


async def test_chat_and_responses_keep_what_is_theirs(server):
    server.answers = [Answer(text="Yes.", thinking="Hm."), Answer(reasoning="I add.")]
    one = await responses(server.url).complete(ASKED)
    other = await openai(server.url).complete([*ASKED, one.message, UserMessage("Sure?")])
    await responses(server.url).complete([*ASKED, other.message, UserMessage("Sure?")])
    sent = [json.dumps(request.body) for request in server.requests[1:]]
    assert not any(secret in text for text in sent for secret in ("sealed", "rs_1", "I add."))


async def test_a_resumed_run_sends_the_thoughts_of_its_record(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    server.answers = [
        Answer(text="", thinking="I add.", calls=[Call(name="add", arguments={"a": 1})]),
        Answer(status=400, error="down"),
    ]
    agent = rt.agent_node("Adder", llm=responses(server.url), tool_nodes=[rt.function_node(add)])
    flow = rt.Flow("Adding", agent, run_identifier="adding", logging_setting="NONE")
    with pytest.raises(Exception, match="down"):
        await flow.ainvoke("1 + 2?")
    await flow.aresume("adding")
    before, again = (request.body["input"] for request in server.requests[1:])
    assert before == again
    assert before[1] == reasoning("I add.")
    assert KEY not in (tmp_path / ".railtracks" / "adding.json").read_text()


def add(a: int) -> int:
    return a


@both_ways
async def test_a_request_that_has_failed_is_the_error_of_the_sdk(server, ask):
    import openai as sdk

    failed = {"status": "failed", "output": [], "error": {"code": "server_error", "message": f"no luck, {KEY}"}}
    server.answers = [Answer(text="", fields=failed)]
    with pytest.raises(sdk.APIError, match=r"no luck, \*\*\*"):
        await ask(responses(server.url), ASKED)


async def test_an_error_in_the_midst_of_a_stream_is_the_sdks(server):
    import openai as sdk

    server.answers = [Answer(event={"type": "error", "code": "overloaded", "message": f"overloaded, {KEY}"})]
    with pytest.raises(sdk.APIError, match=r"overloaded, \*\*\*"):
        await whole(responses(server.url), ASKED)


@pytest.mark.parametrize("how", [{"cut": True}, {"event": {"type": "response.in_progress"}}])
async def test_a_stream_that_breaks_off_is_a_connection_error(server, how):
    import openai as sdk

    server.answers = [Answer(**how)]
    with pytest.raises(sdk.APIConnectionError, match="closed before the answer was complete"):
        await whole(responses(server.url), ASKED)


async def test_the_last_event_of_a_stream_may_leave_the_items_out(server):
    server.answers = [Answer(thinking="Hm.", fields={"output": None}), Answer(thinking="Hm.")]
    with pytest.raises(LLMError, match="has no 'output'"):
        await responses(server.url).complete(ASKED)
    ended = {"type": "response.completed", "response": {"status": "completed", "output": []}}
    server.answers = [Answer(thinking="Hm.", event=ended)]
    _, completion = await whole(responses(server.url), ASKED)
    assert (completion.message.content, completion.message.reasoning) == ("Hello dear world", "Hm.")


@both_ways
async def test_what_an_agent_cannot_answer_is_an_error(server, ask):
    request = {"type": "mcp_approval_request", "id": "a", "name": "x", "arguments": "{}", "server_label": "y"}
    server.answers = [Answer(text="", items=[request])]
    with pytest.raises(LLMError, match=r"asks for a mcp_approval_request, which agents do not answer; .*'never'"):
        await ask(responses(server.url), ASKED)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"tools": [{"type": "function", "name": "add"}]}, "'add' in the settings is one that you run; .*tool_nodes"),
        ({"tools": ["web_search"]}, "tools has 'web_search'; expected such as {'type': 'web_search'}"),
        ({"previous_response_id": "x"}, "previous_response_id is not a setting; agents send the whole conversation"),
        ({"instructions": "x"}, r"put a SystemMessage\(...\) among the messages"),
        ({"background": True}, "background is not a setting"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(settings, text):
    with pytest.raises(ConfigError, match=text):
        responses("http://127.0.0.1:1", **settings)


@pytest.mark.parametrize(
    ("name", "settings", "included"),
    [
        ("gpt-5", {}, ["reasoning.encrypted_content"]),
        ("gpt-4.1", {}, None),  # it refuses to include what it does not have
        ("gpt-5", {"include": []}, []),
        ("gpt-5", {"include": ["web_search_call.results"]}, ["web_search_call.results", "reasoning.encrypted_content"]),
    ],
)
def test_encrypted_thoughts_are_included(name, settings, included):
    model = rt.llm.OpenAIResponses(name, api_key=KEY, **settings)
    assert model.settings.get("include") == included
