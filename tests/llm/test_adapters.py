"""What holds for every adapter, with the provider's real SDK, over real sockets. Each has details in another file.

The clock of these tests stands still while sockets are busy; with the server in a thread beside, they are all the time.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import socket
import traceback
from functools import partial

import anyio
import anyio.to_thread
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.llm._messages import Message, SystemMessage, UserMessage
from railtracks.llm._model import Completion, ToolSchema, Usage
from tests import virtual
from tests.effort import FACTOR
from tests.llm.server import Answer, Call

KEY = "test-key-0123456789"
ASKED: list[Message] = [SystemMessage("Be brief."), UserMessage("Hi!")]
TOOL = ToolSchema("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})


def openai(url, **options):
    from railtracks.llm._providers._openai import OpenAI

    return OpenAI("some-model", **{"base_url": f"{url}/v1", "api_key": KEY, "max_retries": 0, **options})


def responses(url, **options):
    from railtracks.llm._providers._openai_responses import OpenAIResponses

    return OpenAIResponses("some-model", **{"base_url": f"{url}/v1", "api_key": KEY, "max_retries": 0, **options})


def anthropic(url, **options):
    from railtracks.llm._providers._anthropic import Anthropic

    return Anthropic("some-model", **{"base_url": url, "api_key": KEY, "max_retries": 0, **options})


def anyllm_openai(url, **options):
    from railtracks.llm._providers._anyllm import AnyLLM

    return AnyLLM("openai/some-model", **{"api_base": f"{url}/v1", "api_key": KEY, "max_retries": 0, **options})


def anyllm_anthropic(url, **options):
    from railtracks.llm._providers._anyllm import AnyLLM

    return AnyLLM("anthropic:some-model", **{"api_base": url, "api_key": KEY, "max_retries": 0, **options})


ADAPTERS = {
    "openai": (openai, ["openai"]),
    "responses": (responses, ["openai"]),
    "anthropic": (anthropic, ["anthropic"]),
    "anyllm-openai": (anyllm_openai, ["any_llm", "openai"]),
    "anyllm-anthropic": (anyllm_anthropic, ["any_llm", "anthropic"]),
}


@pytest.fixture(params=ADAPTERS)
def adapter(request):
    """Makes a model of one provider: ``adapter(url, **options)``."""
    make, modules = ADAPTERS[request.param]
    for module in modules:
        pytest.importorskip(module)
    # The event loop that any-llm has under trio is in a thread that the clock does not know of.
    in_thread = "anyllm" in request.param and request.node.callspec.params.get("backend") == "trio"
    with virtual.hold_clock() if in_thread else contextlib.nullcontext():
        yield make


@pytest.fixture
def sdk(request, adapter):
    """The module of the SDK that does the work in the end."""
    return pytest.importorskip(ADAPTERS[request.node.callspec.params["adapter"]][1][-1])


async def in_thread(func):
    await anyio.to_thread.run_sync(func)


async def leave_nothing():
    """What the garbage collector finds now, trio and Python tell of as warnings, which are errors here."""
    gc.collect()
    for _ in range(3):
        await anyio.lowlevel.checkpoint()


async def whole(model, *args, **kwargs):
    """The pieces of a stream, and its end."""
    async with contextlib.aclosing(model.stream(*args, **kwargs)) as stream:
        *pieces, completion = [piece async for piece in stream]
    assert isinstance(completion, Completion)
    return pieces, completion


async def by_complete(model, *args, **kwargs):
    return await model.complete(*args, **kwargs)


async def by_stream(model, *args, **kwargs):
    return (await whole(model, *args, **kwargs))[1]


both_ways = pytest.mark.parametrize("ask", [by_complete, by_stream])


# ---- answers


@both_ways
async def test_an_answer_has_text_usage_and_names(adapter, server, ask):
    completion = await ask(adapter(server.url), ASKED)
    assert completion.message.content == "Hello dear world"
    assert completion.message.tool_calls == ()
    assert completion.usage == Usage(3, 4)
    if adapter is not anyllm_anthropic or ask is by_complete:  # any-llm gives its chunks names of its own there
        assert (completion.model, completion.id) == ("served-model", "answer-1")
    assert completion.finish_reason in ("stop", "end_turn", "completed")
    await leave_nothing()


async def test_a_stream_yields_the_pieces_and_the_completion_last(adapter, server):
    """The pieces come as the model sends them."""
    server.answers = [Answer(hold="body"), Answer()]
    model = adapter(server.url)
    async with contextlib.aclosing(model.stream(ASKED)) as stream:
        first = await anext(stream)
        assert first == "Hello "
        assert server.open_connections == 1
        server.release()
        *rest, completion = [piece async for piece in stream]
    assert [first, *rest] == ["Hello ", "dear ", "world"]
    if adapter is not anyllm_anthropic:  # any-llm gives its chunks names of its own there
        assert completion == await model.complete(ASKED)
    await leave_nothing()


@both_ways
async def test_several_tool_calls_come_with_their_arguments(adapter, server, ask):
    calls = [Call(name="add", arguments={"a": 1, "b": ["é", None]}), Call(name="now")]
    server.answers = [Answer(text="", calls=calls), Answer(text="I add.", calls=calls[:1])]
    completion = await ask(adapter(server.url), ASKED, tools=[TOOL])
    assert completion.message.content == ""
    assert [(call.id, call.name, call.arguments) for call in completion.message.tool_calls] == [
        ("id-0", "add", {"a": 1, "b": ["é", None]}),
        ("id-1", "now", {}),
    ]
    assert completion.finish_reason in ("tool_calls", "tool_use", "completed")
    completion = await ask(adapter(server.url), ASKED, tools=[TOOL])
    assert (completion.message.content, len(completion.message.tool_calls)) == ("I add.", 1)


def setting_of(adapter):
    """One that every version of its SDK knows."""
    return ("stop_sequences", ["x"]) if adapter is anthropic else ("temperature", 0.5)


async def test_settings_go_to_every_request(adapter, server):
    name, value = setting_of(adapter)
    model = adapter(server.url, **{name: value})
    await model.complete(ASKED)
    await whole(model, ASKED)
    assert [request.body[name] for request in server.requests] == [value, value]
    assert [request.body["model"] for request in server.requests] == ["some-model"] * 2
    assert model.settings[name] == value


# ---- errors

STATUS = {400: "BadRequestError", 401: "AuthenticationError", 429: "RateLimitError", 500: "InternalServerError"}


@both_ways
@pytest.mark.parametrize("status", STATUS)
async def test_an_error_is_the_sdks_own(adapter, sdk, server, status, ask):
    server.answers = [Answer(status=status)]
    with pytest.raises(getattr(sdk, STATUS[status])) as caught:
        await ask(adapter(server.url), ASKED)
    assert type(caught.value) is getattr(sdk, STATUS[status])
    assert caught.value.status_code == status
    assert "it did not work" in str(caught.value)
    assert len(server.requests) == 1
    await leave_nothing()


@both_ways
@pytest.mark.parametrize("status", [429, 500])
async def test_the_sdk_retries_what_may_pass(adapter, server, status, ask):
    failed = Answer(status=status, headers={"retry-after-ms": "1"})
    server.answers = [failed, failed]
    completion = await ask(adapter(server.url, max_retries=2), ASKED)
    assert completion.sdk_retries == (0 if "anyllm" in adapter.__name__ else 2)  # any-llm does not say
    assert completion.message.content == "Hello dear world"
    assert len(server.requests) == 3
    await leave_nothing()


@both_ways
async def test_an_error_never_shows_the_key(adapter, sdk, server, ask):
    server.answers = [Answer(status=401, error="the key {key} is wrong, " + repr("{key}"))]
    with pytest.raises(sdk.AuthenticationError) as caught:
        await ask(adapter(server.url), ASKED)
    error = caught.value
    assert server.requests[0].key == KEY
    texts = [str(error), repr(error), repr(error.args), repr(error.body), *traceback.format_exception(error)]
    assert "is wrong" in str(error)
    assert not [text for text in texts if KEY in text]
    assert not [name for name, value in vars(error).items() if KEY in repr(value)]


@both_ways
async def test_an_error_does_not_show_a_key_that_is_not_a_header(adapter, sdk, server, ask):
    """The HTTP library shows the header that it refuses."""
    with pytest.raises(sdk.APIConnectionError) as caught:
        await ask(adapter(server.url, api_key=f"{KEY}\n"), ASKED)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@both_ways
@pytest.mark.parametrize("where", ["headers", "body", "end"])
async def test_a_dropped_connection_is_the_error_of_the_sdk(adapter, sdk, server, where, ask):
    """No connection stays open."""
    server.answers = [Answer(drop=where)]
    if where == "end" and ask is by_stream and adapter is not anyllm_anthropic:  # all events are there
        assert (await ask(adapter(server.url), ASKED)).message.content == "Hello dear world"
        return
    with pytest.raises(Exception) as caught:
        await ask(adapter(server.url), ASKED)
    kinds = [f"{kind.__module__}.{kind.__name__}" for kind in type(caught.value).__mro__]
    home = "httpx" if adapter is anyllm_anthropic and ask is by_stream and where != "headers" else f"{sdk.__name__}."
    assert any(kind.startswith(home) for kind in kinds), kinds
    server.wait_all_closed()
    await leave_nothing()


# ---- cancellation

HOLDS = ["headers", "body", "end"]


async def cancel_when(condition, func):
    """Call ``func``, and cancel it when the condition has come about."""
    async with anyio.create_task_group() as group:

        async def run():
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await func()
            ended.append(scope.cancelled_caught)

        scopes, ended = [], []
        group.start_soon(run)
        await condition()
        scopes[0].cancel()
    assert ended == [True]


@both_ways
@pytest.mark.parametrize("in_session", [False, True])
@pytest.mark.parametrize("where", HOLDS)
async def test_a_cancelled_call_closes_its_connection(adapter, server, where, in_session, ask):
    server.answers = [Answer(hold=where)]
    model = adapter(server.url)
    async with rt.Session(save_state=False) if in_session else contextlib.nullcontext():
        await cancel_when(partial(in_thread, server.wait_held), partial(ask, model, ASKED))
        await in_thread(server.wait_all_closed)
        await leave_nothing()
        completion = await ask(model, ASKED)
        assert completion.message.content == "Hello dear world"
    assert server.connections == 2


# httpx leaves the generator of a request's body suspended, if it is cancelled while that is sent. It holds nothing.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx.?._content.ByteStream.__aiter__':ResourceWarning")
@both_ways
@pytest.mark.parametrize("in_session", [False, True])
async def test_wherever_a_call_is_cancelled_no_connection_stays_open(adapter, server, in_session, ask):
    """After every number of steps, of connecting, sending, and reading."""

    async def steps(count):
        for _ in range(count):
            await anyio.lowlevel.checkpoint()

    model = adapter(server.url)
    async with rt.Session(save_state=False) if in_session else contextlib.nullcontext():
        for count in (*range(1, 40, 1 if FACTOR > 1 else 4), *range(40, 200, 60)):
            async with anyio.create_task_group() as group:
                group.start_soon(ask, model, ASKED)
                await steps(count)
                group.cancel_scope.cancel()
            if in_session:
                assert (await model.complete(ASKED)).message.content == "Hello dear world"
                assert server.open_connections <= 2
            else:
                await in_thread(server.wait_all_closed)
        await leave_nothing()


@pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="sees by /proc which connections are being made")
@both_ways
async def test_a_call_cancelled_while_it_connects_stops_connecting(adapter, ask):
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        first.connect(full.getsockname())  # takes the one place that there is, and nobody accepts it

        def connecting():
            """A line of /proc/net/tcp: number, own address, other address, state; 02 is SYN_SENT."""
            with open("/proc/net/tcp") as file:
                return [line for line in file if line.split()[2:4] == [f"0100007F:{port:04X}", "02"]]

        async def is_connecting():
            while not connecting():
                await anyio.lowlevel.checkpoint()

        await cancel_when(is_connecting, partial(ask, adapter(f"http://127.0.0.1:{port}"), ASKED))
        assert not connecting()


@pytest.mark.parametrize("in_session", [False, True])
@pytest.mark.parametrize("where", ["body", "end"])
async def test_leaving_a_stream_closes_its_connection(adapter, server, where, in_session):
    server.answers = [Answer(hold=where)]
    async with rt.Session(save_state=False) if in_session else contextlib.nullcontext():
        async with contextlib.aclosing(adapter(server.url).stream(ASKED)) as stream:
            async for _ in stream:
                break
        await in_thread(server.wait_all_closed)
        await leave_nothing()


async def test_leaving_a_long_stream_does_not_read_it_to_its_end(adapter, server):
    server.answers = [Answer(text="word " * 5_000)]
    async with contextlib.aclosing(adapter(server.url).stream(ASKED)) as stream:
        assert await anext(stream) == "word "
    await in_thread(server.wait_all_closed)
    await leave_nothing()


# ---- clients


async def test_the_calls_of_a_session_share_a_connection(adapter, server):
    """The session closes it."""
    model = adapter(server.url)
    async with rt.Session(save_state=False):
        for ask in (by_complete, by_stream, by_complete, by_stream):
            await ask(model, ASKED)
        assert server.open_connections == 1
    server.wait_all_closed()
    assert server.connections == 1
    await leave_nothing()


async def test_calls_at_one_time_share_the_client(adapter, server):
    server.answers = [Answer(hold="headers")] * 3
    model = adapter(server.url)
    async with rt.Session(save_state=False), anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(model.complete, ASKED)
        await in_thread(partial(server.wait_requests, 3))
        server.release()
    assert server.connections == 3


@both_ways
async def test_outside_of_sessions_each_call_closes_its_own(adapter, server, ask):
    model = adapter(server.url)
    for count in (1, 2):
        await ask(model, ASKED)
        await in_thread(server.wait_all_closed)
        assert server.connections == count
    await leave_nothing()


# ---- what a model says of itself


def test_the_key_is_a_secret_and_nowhere_to_be_seen(adapter):
    name, value = setting_of(adapter)
    model = adapter("http://127.0.0.1:1", **{name: value})
    assert isinstance(model.api_key, rt.Secret)
    assert model.api_key.value == KEY
    assert KEY not in repr(model) + repr(dict(model.settings)) + repr(vars(model))
    assert "'some-model'" in repr(model)
    assert f"{name}={value!r}" in repr(model)


def test_a_setting_that_the_sdk_does_not_know_is_refused_at_once(adapter):
    if "anyllm" in adapter.__name__:
        pytest.skip("any-llm passes on what it does not know")
    with pytest.raises(
        ConfigError,
        match=r"the installed SDK does not know the setting temprature; .* write .*extra_body={'temprature': ...}",
    ):
        adapter("http://127.0.0.1:1", temprature=0.5)


def test_its_name_and_provider_stand_in_the_records(adapter, sdk):
    model = adapter("http://127.0.0.1:1")
    assert (model.name, model.provider) == ("some-model", sdk.__name__)


def test_a_missing_key_is_an_error_before_any_call(adapter, sdk, monkeypatch):
    """The error names the environment variable."""
    variable = f"{sdk.__name__.upper()}_API_KEY"
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError, match=f"{variable}.*api_key=.*'?none"):
        adapter("http://127.0.0.1:1", api_key=None)


def test_the_key_may_stand_in_the_environment(adapter, sdk, monkeypatch):
    monkeypatch.setenv(f"{sdk.__name__.upper()}_API_KEY", "from-the-environment")
    assert adapter("http://127.0.0.1:1", api_key=None).api_key.value == "from-the-environment"


def test_what_belongs_to_each_call_is_not_a_setting(adapter):
    with pytest.raises(ConfigError, match="messages is not a setting; it is part of each call"):
        adapter("http://127.0.0.1:1", messages=[])
    with pytest.raises(ConfigError, match="default_headers"):
        adapter("http://127.0.0.1:1", extra_headers={})


# ---- settings of single calls


async def test_other_settings_share_the_client_and_the_key(adapter, server):
    name, value = setting_of(adapter)
    another = ["y"] if adapter is anthropic else 0
    model = adapter(server.url, **{name: value})
    other = model.with_settings(**{name: another})
    assert {**model.settings, name: another} == other.settings
    assert model.settings[name] == value
    assert {*model.with_settings(**{name: None}).settings} == {*model.settings} - {name}
    assert (other.name, other.provider, other.api_key) == (model.name, model.provider, model.api_key)
    async with rt.Session():
        for each in (model, other):
            await by_complete(each, ASKED)
    assert [request.body[name] for request in server.requests] == [value, another]
    assert server.connections == 1


async def test_settings_are_checked_as_in_the_constructor(adapter, server):
    model = adapter(server.url)
    with pytest.raises(ConfigError, match="messages is not a setting; it is part of each call"):
        model.with_settings(messages=[])
    with pytest.raises(ConfigError, match=r"api_key is not a setting, but an argument of the model; make another"):
        model.with_settings(api_key="other")


async def test_a_model_is_pickled_with_its_settings(adapter, server):
    name, value = setting_of(adapter)
    model = pickle.loads(pickle.dumps(adapter(server.url).with_settings(**{name: value})))
    await by_complete(model, ASKED)
    assert server.requests[0].body[name] == value
    assert model.api_key.value == KEY
