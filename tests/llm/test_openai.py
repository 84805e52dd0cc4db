"""The wire format of OpenAI's chat completions, as the OpenAI SDK sends it, and the servers that speak it loosely."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from typing import Any

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.llm._messages import AssistantMessage, SystemMessage, ToolCall, ToolMessage, UserMessage
from railtracks.llm._model import OutputSchema, ToolSchema
from railtracks.llm._tool_schemas import output_schema
from tests import virtual
from tests.llm import server as server_module
from tests.llm.server import Answer, Call
from tests.llm.test_adapters import ASKED, KEY, both_ways, in_thread, openai, whole

pytest.importorskip("openai")

TOOL = ToolSchema("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})
OUTPUT = OutputSchema("person", {"type": "object", "properties": {"name": {"type": "string"}}})


@both_ways
async def test_every_kind_of_message_goes_out_in_its_form(server, ask):
    messages = [
        SystemMessage("Be brief."),
        UserMessage("Add."),
        AssistantMessage("Well.", [ToolCall("1", "add", {"a": "é"}), ToolCall("2", "add", "{broken")]),
        ToolMessage("3", "1", "add"),
        ToolMessage("no JSON", "2", "add", is_error=True),
        AssistantMessage("", [ToolCall("3", "add")]),
        ToolMessage("4", "3", "add"),
        AssistantMessage("Done."),
        UserMessage("Thanks."),
    ]
    await ask(openai(server.url), messages)
    request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"

    def call(identifier, arguments):
        return {"id": identifier, "type": "function", "function": {"name": "add", "arguments": arguments}}

    malformed = call("2", '{"malformed": "{broken"}')  # servers read the arguments
    assert request.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "Well.", "tool_calls": [call("1", '{"a": "é"}'), malformed]},
        {"role": "tool", "tool_call_id": "1", "content": "3"},
        {"role": "tool", "tool_call_id": "2", "content": "no JSON"},
        {"role": "assistant", "content": None, "tool_calls": [call("3", "{}")]},
        {"role": "tool", "tool_call_id": "3", "content": "4"},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": "Thanks."},
    ]
    assert "tools" not in request.body
    assert "response_format" not in request.body


@both_ways
async def test_tools_and_output_go_out_in_their_form(server, ask):
    server.answers = [Answer(text='{"name": "Ada"}')]
    completion = await ask(openai(server.url), ASKED, tools=[TOOL], output=OUTPUT)
    function = {"name": "add", "description": "Adds.", "parameters": TOOL.parameters}
    body = server.requests[0].body
    assert body["tools"] == [{"type": "function", "function": function}]
    schema = {"name": "person", "schema": OUTPUT.schema, "strict": False}
    assert body["response_format"] == {"type": "json_schema", "json_schema": schema}
    assert json.loads(completion.message.content) == {"name": "Ada"}


async def test_usage_is_asked_for_in_streams_alone(server):
    await openai(server.url).complete(ASKED)
    await whole(openai(server.url), ASKED)
    await openai(server.url, stream_options={"x": 1}).complete(ASKED)
    await whole(openai(server.url, stream_options={"x": 1}), ASKED)
    asked = [request.body.get("stream_options") for request in server.requests]
    assert asked == [None, {"include_usage": True}, None, {"x": 1}]


async def test_settings_headers_and_extra_body_reach_the_server(server):
    model = openai(server.url, seed=1, extra_body={"top_k": 3}, default_headers={"x-team": "blue"})
    await model.complete(ASKED)
    request = server.requests[0]
    assert (request.body["seed"], request.body["top_k"], request.headers["x-team"]) == (1, 3, "blue")
    assert dict(model.settings) == {"seed": 1, "extra_body": {"top_k": 3}}


@both_ways
async def test_arguments_that_are_not_a_json_object_come_unchanged(server, ask):
    texts = ['{"a": 1', "[1]", "3"]
    server.answers = [Answer(text="", calls=[Call(name="add", arguments=text) for text in texts])]
    completion = await ask(openai(server.url), ASKED)
    assert [call.arguments for call in completion.message.tool_calls] == texts


@both_ways
async def test_a_server_may_leave_out_usage_ids_reasons_and_arguments(server, ask):
    calls = [Call(name="add", id=None, arguments=""), Call(name="now", id=None)]
    left_out = {"model": None, "id": None}
    server.answers = [Answer(text="", calls=calls, usage=None, finish=False, fields=left_out)]
    completion = await ask(openai(server.url), ASKED)
    assert completion.message.tool_calls == (ToolCall("call_2_0", "add"), ToolCall("call_2_1", "now"))
    assert (completion.usage, completion.finish_reason, completion.model, completion.id) == (None,) * 4


@both_ways
async def test_a_refusal_is_the_answer(server, ask):
    server.answers = [Answer(text="", refusal="I must not.")]
    completion = await ask(openai(server.url), ASKED)
    assert completion.message == AssistantMessage("I must not.")
    assert completion.finish_reason == "refusal"


@both_ways
async def test_an_answer_without_choices_says_so(server, ask):
    import openai as sdk

    server.answers = [Answer(fields={"choices": None, "error": {"message": f"overloaded, {KEY}"}})]
    with pytest.raises(sdk.APIError, match="overloaded") as caught:
        await ask(openai(server.url), ASKED)
    assert KEY not in str(caught.value)


async def test_an_error_in_the_midst_of_a_stream_is_the_sdks(server):
    import openai as sdk

    server.answers = [Answer(fields={"error": {"message": f"overloaded, {KEY}", "code": 529}})]
    with pytest.raises(sdk.APIError, match=r"overloaded, \*\*\*") as caught:
        await whole(openai(server.url), ASKED)
    assert caught.value.body == {"message": "overloaded, ***", "code": 529}


async def test_what_breaks_in_a_stream_is_a_connection_error(server):
    import openai as sdk

    server.answers = [Answer(drop="body")]
    with pytest.raises(sdk.APIConnectionError):
        await whole(openai(server.url), ASKED)


@both_ways
@pytest.mark.parametrize("where", ["headers", "body"])
async def test_a_timeout_is_the_sdks(server, where, ask):
    import openai as sdk

    server.answers = [Answer(hold=where)]

    async def time_passes():
        await in_thread(server.wait_held)
        while True:  # as the client may just be reading what came before
            virtual.clock().jump(31)
            await in_thread(lambda: None)

    async with anyio.create_task_group() as group:
        group.start_soon(time_passes)
        with pytest.raises(sdk.APITimeoutError):
            await ask(openai(server.url, timeout=30), ASKED)
        group.cancel_scope.cancel()


def test_a_missing_package_is_an_error_with_the_command(monkeypatch):
    """The error has the command that installs the package."""
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[openai\]'` in a checkout"):
        openai("http://127.0.0.1:1")


def test_secret_headers_are_kept_out_of_errors_too():
    model = openai("http://127.0.0.1:1", default_headers={"x-api-key": "another-secret", "x-team": "blue-team"})
    error = ValueError("another-secret of blue-team")
    with pytest.raises(ValueError, match=r"\*\*\* of blue-team"), model._key_redactor:
        raise error


def test_keys_are_cut_out_of_all_that_an_error_comes_from():
    model = openai("http://127.0.0.1:1")

    class Deep(Exception):
        def __init__(self):
            super().__init__({"a": [KEY]}, (KEY, b"x" + KEY.encode()))
            self.body = {KEY: [KEY]}
            self.inner = ValueError(KEY)

    try:
        with model._key_redactor:
            try:
                try:
                    raise KeyError(KEY)
                except KeyError as exc:
                    raise ExceptionGroup("several", [Deep(), OSError(KEY)]) from exc
            except ExceptionGroup as exc:
                exc.add_note(f"with {KEY}")
                raise RuntimeError("at last") from None
    except RuntimeError as exc:
        group = exc.__context__
    deep, other = group.exceptions
    found = [deep.args, deep.body, deep.inner, other, group.__notes__, group.__cause__]
    assert KEY not in repr(found)
    assert deep.args == ({"a": ["***"]}, ("***", b"x***"))


def test_an_error_without_keys_stays_the_same_object():
    """So does everything that it holds."""
    model, data = openai("http://127.0.0.1:1"), [{"a": ("b", b"c")}]
    error: Any = ValueError(data)
    around: Any = KeyError("handled")
    error.data = around.data = data
    around.cyclic = {"data": data}
    around.cyclic["self"] = around.cyclic
    cyclic = around.cyclic
    with pytest.raises(ValueError, match="b") as caught:
        try:
            raise around
        except KeyError:
            with model._key_redactor:
                raise error  # noqa: B904 (the one that is being handled is its context)
    assert caught.value is error
    assert error.args[0] is error.data is around.data is data  # type: ignore[attr-defined]
    assert around.cyclic is cyclic


def test_a_token_in_a_header_is_a_secret_without_its_scheme_too():
    model = openai("http://127.0.0.1:1", default_headers={"Authorization": "Bearer corp-token"})
    with pytest.raises(ValueError, match=r"no \*\*\*, \*\*\*"), model._key_redactor:
        raise ValueError("no Bearer corp-token, corp-token")


def test_a_model_does_not_show_its_key_in_a_setting():
    assert repr(openai("http://127.0.0.1:1", user=KEY)) == "OpenAI('some-model', user='***')"


# ---- streams that end early, and settings


async def test_a_stream_without_a_stop_reason_is_a_connection_error(server):
    import openai as sdk

    server.answers = [Answer(cut=True)]  # the server closes it as if that were all
    got = []
    with pytest.raises(sdk.APIConnectionError, match="closed before the answer was complete"):
        async with contextlib.aclosing(openai(server.url).stream(ASKED)) as stream:
            async for piece in stream:
                got.append(piece)
    assert got == ["Hello ", "dear "]


async def test_a_stream_that_says_why_it_ends_needs_no_done(server, monkeypatch):
    events = server_module._events
    monkeypatch.setattr(
        server_module, "_events", lambda *args: (each for each in events(*args) if each != "data: [DONE]\n\n")
    )
    pieces, completion = await whole(openai(server.url), ASKED)
    assert pieces == ["Hello ", "dear ", "world"]
    assert (completion.message.content, completion.finish_reason) == ("Hello dear world", "stop")


@attrs.frozen
class Town:
    name: str


@attrs.frozen
class Journey:
    """All of it is required."""

    towns: list[Town]
    days: int | None


@attrs.frozen
class Trip:
    towns: list[Town]
    days: int = 1


@attrs.frozen
class Tour:
    trips: list[Trip]


@pytest.mark.parametrize(("cls", "strict"), [(Town, True), (Journey, True), (Trip, False), (Tour, False)])
async def test_a_schema_is_strict_where_all_is_required(server, cls, strict):
    server.answers = [Answer(text="{}")]
    await openai(server.url).complete(ASKED, output=output_schema(cls))
    sent = server.requests[0].body["response_format"]["json_schema"]
    assert sent["strict"] is strict
    assert sent["schema"] == output_schema(cls).schema


async def test_a_key_may_be_a_marked_secret(server):
    model = openai(server.url, api_key=rt.Secret(KEY))
    await model.complete(ASKED)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert model.api_key == rt.Secret(KEY)


@pytest.mark.parametrize("name", [None, "", 5, b"gpt"])
def test_a_model_without_a_name_is_refused(name):
    with pytest.raises(ConfigError, match=r"OpenAI: the model is .*; expected the provider's name for it"):
        rt.llm.OpenAI(name, api_key=KEY)


def test_the_repr_shows_no_secret_wherever_it_is():
    inside = {"top_k": 3, "metadata": [{"password": "hunter-22"}], "api_key": "another-secret"}
    model = openai("http://127.0.0.1:1", seed=17, extra_body=inside)
    shown = repr(model)
    assert "OpenAI('some-model'" in shown
    assert "17" in shown
    assert "top_k" in shown
    assert not [text for text in (KEY, "hunter-22", "another-secret") if text in shown]


def test_a_name_is_loaded_when_it_is_first_used():
    code = (
        "import sys, railtracks as rt; names = dir(rt.llm); assert 'OpenAI' in names and 'agent_node' in dir(rt);"
        "assert 'railtracks.llm._providers._openai' not in sys.modules; rt.llm.OpenAI; rt.agent_node;"
        "assert 'railtracks.llm._providers._openai' in sys.modules and 'openai' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
