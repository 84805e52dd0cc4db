"""How a provider is reached: keys that functions return, HTTP clients of the user, Azure, and values that are wrong."""

from __future__ import annotations

import functools
import threading
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.llm._providers import _clients
from railtracks.llm._providers._clients import Clients
from railtracks.llm._providers._http_model import _http_library
from tests.llm.server import Answer, Server
from tests.llm.test_adapters import ASKED, KEY, anthropic, both_ways, openai, responses

sdk = pytest.importorskip("openai")
pytest.importorskip("anthropic")

TOKEN = "token-9876543210"
makers = pytest.mark.parametrize("make", [openai, responses, anthropic])


def azure(url, **options):
    given = {"azure_endpoint": url, "api_version": "2024-10-21", "api_key": KEY, "max_retries": 0}
    return rt.llm.AzureOpenAI("my-deployment", **{**given, **options})


def tokens(kind):
    """A function of one kind that returns another key each time, and a list of what it was called in."""
    called = []

    def sync():
        called.append(threading.current_thread())
        return f"{TOKEN}-{len(called)}"

    async def a_sync():
        await anyio.lowlevel.checkpoint()
        return rt.Secret(sync())

    return {"sync": sync, "async": a_sync, "partial": functools.partial(lambda make: make(), a_sync)}[kind], called


# ---- keys that a function returns


@makers
@both_ways
@pytest.mark.parametrize("kind", ["sync", "async", "partial"])
async def test_a_function_returns_the_key_of_each_request(make, server, kind, ask):
    function, called = tokens(kind)
    model = make(server.url, api_key=function)
    assert model.api_key is None
    async with rt.Session(save_state=False):
        await ask(model, ASKED)
        await ask(model, ASKED)
        assert server.connections == 1
    assert [request.key for request in server.requests] == [f"{TOKEN}-1", f"{TOKEN}-2"]
    assert model.api_key == rt.Secret(f"{TOKEN}-2")
    assert (called[0] is threading.current_thread()) == (kind != "sync")


async def test_what_it_returns_is_never_written(server, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)

    async def key():
        return TOKEN

    server.answers = [Answer(text=f"Your key is {TOKEN}."), Answer(status=401, error="{key} is wrong")]
    agent = rt.agent_node("Leaky", llm=openai(server.url, api_key=key))
    flow = rt.Flow("Leaks", agent, run_identifier="leaks")
    assert (await flow.ainvoke("Hi!")).content == f"Your key is {TOKEN}."
    with pytest.raises(sdk.AuthenticationError, match=r"\*\*\* is wrong"):
        await rt.call(agent, "Hi!")
    written = Path(".railtracks/leaks.json").read_text(encoding="utf-8")
    assert "Your key is ***" in written
    assert TOKEN not in written + caplog.text


@pytest.mark.parametrize(("given", "text"), [(None, "a NoneType"), ("", "an empty text"), (b"x", "a bytes")])
async def test_a_function_must_return_a_key(server, given, text):
    with pytest.raises(ConfigError, match=f"OpenAI: the function api_key returned {text}; expected a key"):
        await openai(server.url, api_key=lambda: given).complete(ASKED)
    assert server.requests == []


async def test_what_a_function_raises_comes_out(server):
    def key():
        raise LookupError("the vault is shut")

    with pytest.raises(LookupError, match="the vault is shut"):
        await anthropic(server.url, api_key=key).complete(ASKED)


async def test_a_token_takes_the_place_of_a_key_with_anthropic(server, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "of-the-environment")
    for token in (TOKEN, lambda: TOKEN):
        await anthropic(server.url, api_key=None, auth_token=token).complete(ASKED)
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", TOKEN)
    await anthropic(server.url, api_key=None).complete(ASKED)
    for request in server.requests:
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert "x-api-key" not in request.headers


# ---- options of the client


async def test_who_pays_and_parameters_go_to_every_request(server):
    given = {"organization": "org-1", "project": "proj-1", "default_query": {"tenant": "blue"}}
    for make in (openai, responses):
        await make(server.url, **given).complete(ASKED)
    await anthropic(server.url, default_query={"tenant": "blue"}).complete(ASKED)
    assert all(request.path.endswith("?tenant=blue") for request in server.requests)
    for request in server.requests[:2]:
        assert (request.headers["openai-organization"], request.headers["openai-project"]) == ("org-1", "proj-1")


@makers
async def test_an_http_client_of_the_user_stays_open(make, server):
    httpx = library_of(make)
    async with httpx.AsyncClient(headers={"x-team": "blue"}) as own:
        async with rt.Session(save_state=False):
            await make(server.url, http_client=own).complete(ASKED)
        assert not own.is_closed
        assert server.open_connections == 1
    assert server.requests[0].headers["x-team"] == "blue"


@makers
async def test_an_http_client_that_a_function_makes_is_closed(make, server):
    httpx, made = library_of(make), []

    def client():
        made.append(httpx.AsyncClient(headers={"x-team": "blue"}))
        return made[-1]

    async with rt.Session(save_state=False):
        for _ in range(2):
            await make(server.url, http_client=client).complete(ASKED)
    assert [each.is_closed for each in made] == [True, True]
    assert server.requests[0].headers["x-team"] == "blue"


def library_of(make):
    """The HTTP library that the SDK takes clients of."""
    model = make("http://127.0.0.1:1")
    return pytest.importorskip(_http_library(model._sdk.DefaultAsyncHttpxClient))


async def test_a_function_must_make_an_http_client(server):
    with pytest.raises(ConfigError, match=r"the function http_client returned a builtins.int; expected an httpx"):
        await openai(server.url, http_client=lambda: 5).complete(ASKED)


@makers
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"api_key": 5}, "api_key is of the type int; expected a text"),
        ({"base_url": "localhost:8080"}, "base_url is 'localhost:8080'; expected an address such as"),
        ({"base_url": "me:secret@host/v1"}, r"base_url is '\*\*\*@host/v1'; expected an address such as"),
        ({"base_url": "http://[::1"}, r"base_url is 'http://\[::1'; expected an address such as"),
        ({"timeout": 0}, "timeout is 0; expected a number of seconds above 0"),
        ({"timeout": "30"}, "timeout is '30'; expected a number of seconds"),
        ({"max_retries": -1}, "max_retries is -1; expected a number of times, 0 or more"),
        ({"default_headers": [("a", "b")]}, "default_headers is a list; expected a dict"),
        ({"default_query": "a=b"}, "default_query is a str; expected a dict"),
        ({"http_client": 5}, "http_client is a builtins.int; expected an httpx"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_at_once(make, options, text):
    with pytest.raises(ConfigError, match=text):
        make("http://127.0.0.1:1", **options)


def test_a_sync_http_client_is_refused():
    httpx = pytest.importorskip("httpx")
    with httpx.Client() as client, pytest.raises(ConfigError, match=r"http_client is a httpx.*; expected an httpx"):
        openai("http://127.0.0.1:1", http_client=client)


def test_a_secret_parameter_is_kept_out_of_errors():
    model = openai("http://127.0.0.1:1", default_query={"api_key": "in-the-address"})
    with pytest.raises(ValueError, match=r"\?api_key=\*\*\*"), model._key_redactor:
        raise ValueError("?api_key=in-the-address")


# ---- Azure


@both_ways
async def test_a_deployment_on_azure_is_asked_at_its_address(server, ask):
    completion = await ask(azure(server.url), ASKED)
    [request] = server.requests
    assert completion.message.content == "Hello dear world"
    assert request.path == "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"
    assert (request.headers["api-key"], request.body["model"]) == (KEY, "my-deployment")


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_azure_takes_tokens_that_expire(server, kind):
    function, _ = tokens(kind)
    model = azure(server.url, api_key=None, azure_ad_token_provider=function)
    await model.complete(ASKED)
    await model.complete(ASKED)
    assert [each.headers["authorization"] for each in server.requests] == [f"Bearer {TOKEN}-1", f"Bearer {TOKEN}-2"]
    assert all("api-key" not in each.headers for each in server.requests)


async def test_azures_newer_address_is_one_like_others(server):
    model = rt.llm.OpenAI("my-deployment", base_url=f"{server.url}/openai/v1/", api_key=KEY)
    await model.complete(ASKED)
    assert server.requests[0].path == "/openai/v1/chat/completions"


async def test_azure_is_set_by_the_environment_too(server, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.url)
    monkeypatch.setenv("OPENAI_API_VERSION", "2024-10-21")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    model = rt.llm.AzureOpenAI("my-deployment")
    await model.complete(ASKED)
    assert (model.name, model.provider, model.api_key) == ("my-deployment", "azure.ai.openai", rt.Secret(KEY))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"azure_endpoint": None}, "there is no azure_endpoint; write .* environment variable AZURE_OPENAI_ENDPOINT"),
        ({"azure_endpoint": "my-resource"}, "azure_endpoint is 'my-resource'; expected an address"),
        ({"api_version": None}, "there is no api_version; write .* environment variable OPENAI_API_VERSION"),
        ({"api_key": None}, "set the environment variable AZURE_OPENAI_AD_TOKEN or AZURE_OPENAI_API_KEY"),
        ({"azure_ad_token": "x"}, "both api_key and azure_ad_token are given"),
        ({"azure_ad_token": "x", "azure_ad_token_provider": str}, "both azure_ad_token and azure_ad_token_provider"),
    ],
)
def test_what_azure_lacks_is_an_error(monkeypatch, options, text):
    for name in ("AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION", "AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=text):
        azure("http://127.0.0.1:1", **options)


# ---- long answers


async def test_a_long_answer_of_anthropic_is_streamed(server):
    """The SDK refuses to wait for it in one piece."""
    completion = await anthropic(server.url, max_tokens=32_000).complete(ASKED)
    assert completion.message.content == "Hello dear world"
    assert server.requests[0].body["stream"] is True
    await anthropic(server.url, max_tokens=9).complete(ASKED)
    assert "stream" not in server.requests[1].body


# ---- clients are made in a worker thread


class Client:
    """Says where it was made."""

    def __init__(self):
        self.made_in = threading.current_thread()
        self.closed = 0

    async def close(self):
        self.closed += 1


def test_an_event_loop_goes_on_while_a_client_is_made(backend):
    begun, may_end, made = threading.Event(), threading.Event(), []

    def make():
        begun.set()
        may_end.wait()
        made.append(Client())
        return made[-1]

    async def use(found):
        async with pool.use() as client:
            found.append(client)

    async def main():
        found = []
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(use, found)
            await anyio.to_thread.run_sync(begun.wait)
            may_end.set()
        assert found == made * 3
        assert made[0].made_in is not threading.current_thread()

    pool = Clients(make)
    anyio.run(main, backend=backend)
    assert [each.closed for each in made] == [1]


def test_a_cancelled_call_leaves_its_client_to_others(backend):
    begun, may_end, made = threading.Event(), threading.Event(), []

    def make():
        begun.set()
        may_end.wait()
        made.append(Client())
        return made[-1]

    async def use():
        async with pool.use():
            pass

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(use)
            await anyio.to_thread.run_sync(begun.wait)
            group.cancel_scope.cancel()
            may_end.set()
        await use()

    pool = Clients(make)
    anyio.run(main, backend=backend)
    assert [each.closed for each in made] == [1]


def test_those_who_wait_for_a_client_try_it_themselves(backend):
    """It could not be made for the first one."""
    made = []

    def make():
        made.append(Client())
        if len(made) == 1:
            raise OSError("not yet")
        return made[-1]

    async def use(outcomes):
        try:
            async with pool.use() as client:
                outcomes.append(client)
        except OSError as exc:
            outcomes.append(str(exc))

    async def main():
        outcomes = []
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(use, outcomes)
        assert sorted(map(str, outcomes)) == sorted(["not yet", *[str(made[1])] * 2])

    pool = Clients(make)
    anyio.run(main, backend=backend)
    assert [each.closed for each in made] == [0, 1]


@makers
def test_models_make_their_clients_in_a_thread(make, backend, monkeypatch):
    places = []
    take = _clients._KeptClients.take

    async def noted(self, key, make_client, close, *, in_thread):
        def made():
            places.append(threading.current_thread())
            return make_client()

        return await take(self, key, made, close, in_thread=in_thread)

    async def main():
        await make(server.url, http_client=None).complete(ASKED)
        assert threading.current_thread() not in places
        assert len(places) == 1

    monkeypatch.setattr(_clients._KeptClients, "take", noted)
    with Server() as server:
        anyio.run(main, backend=backend)
        server.wait_all_closed()
