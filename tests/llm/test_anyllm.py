"""What is particular to any-llm: its many providers, and the asyncio event loop that it has beside trio's."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading

import anyio
import anyio.to_thread
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, LLMError
from railtracks.llm._messages import UserMessage
from railtracks.llm._model import OutputSchema
from tests import virtual
from tests.llm.server import Answer
from tests.llm.test_adapters import ASKED, KEY, anyllm_openai, both_ways, in_thread

pytest.importorskip("any_llm")


@pytest.fixture(autouse=True)
def real_time(request):
    """The event loop that any-llm has under trio is in a thread that the clock does not know of."""
    callspec = getattr(request.node, "callspec", None)
    on_trio = callspec is not None and callspec.params.get("backend") == "trio"
    with virtual.hold_clock() if on_trio else contextlib.nullcontext():
        yield


@both_ways
async def test_requests_are_those_of_chat_completions(server, ask):
    schema = {"type": "object", "properties": {}}
    model = anyllm_openai(server.url, temperature=0.5, output_mode="native")
    await ask(model, ASKED, output=OutputSchema("person", schema))
    body = server.requests[0].body
    assert body.pop("messages") == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}]
    assert body.pop("response_format") == {
        "type": "json_schema",
        "json_schema": {"name": "person", "schema": schema, "strict": False},
    }
    assert body.pop("stream", None) in (None, True)
    assert body.pop("stream_options", None) in (None, {"include_usage": True})
    assert body == {"model": "some-model", "temperature": 0.5}  # and nothing that any-llm would add of its own


@pytest.mark.parametrize(
    ("written", "provider", "name"),
    [
        ("openai/gpt", "openai", "gpt"),
        ("openai:gpt", "openai", "gpt"),
        ("openai/gpt:8b", "openai", "gpt:8b"),
        ("anthropic:library/gpt", "anthropic", "library/gpt"),
    ],
)
def test_the_provider_stands_before_the_model(written, provider, name):
    pytest.importorskip(provider)
    model = rt.llm.AnyLLM(written, api_key=KEY)
    assert (model.provider, model.name) == (provider, name)


def test_the_provider_may_be_an_argument_of_its_own():
    model = rt.llm.AnyLLM("vendor/gpt:8b", provider="openai", api_key=KEY)
    assert (model.provider, model.name) == ("openai", "vendor/gpt:8b")


def test_headers_are_refused_with_the_adapter_that_takes_them():
    with pytest.raises(ConfigError, match=r"default_headers is not a setting; .*rt\.llm\.OpenAI .*default_headers="):
        rt.llm.AnyLLM("openai/gpt", api_key=KEY, default_headers={"X-Corp": "token"})


@pytest.mark.parametrize("written", ["gpt", "/gpt", "openai/", ""])
def test_a_model_without_provider_is_refused(written):
    with pytest.raises(ConfigError, match="does not name a provider; write 'provider/model'"):
        rt.llm.AnyLLM(written, api_key=KEY)


def test_an_unknown_provider_is_refused():
    with pytest.raises(ConfigError, match="'nobody' is not a supported provider"):
        rt.llm.AnyLLM("nobody/gpt", api_key=KEY)


def test_a_missing_package_is_an_error_with_the_command(monkeypatch):
    """The error has the command that installs the package."""
    monkeypatch.setitem(sys.modules, "any_llm", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[any-llm\]'` in a checkout"):
        anyllm_openai("http://127.0.0.1:1")


def test_a_missing_package_of_a_provider_is_an_error():
    if "mistralai" in sys.modules:
        pytest.skip("it is installed")
    with pytest.raises(ConfigError, match=r"pip install 'any-llm-sdk\[mistral\]'"):
        rt.llm.AnyLLM("mistral/small", api_key=KEY)


async def test_an_error_of_any_llm_itself_comes_as_it_is(server):
    from any_llm.exceptions import UnsupportedParameterError

    with pytest.raises(UnsupportedParameterError):
        await rt.llm.AnyLLM("anthropic/x", api_key=KEY, api_base=server.url, n=2).complete([UserMessage("Hi!")])


async def test_a_stream_that_ends_without_saying_why_is_an_error(server):
    server.answers = [Answer(cut=True)]  # the server closes it as if that were all
    got = []
    with pytest.raises(
        LLMError, match="the stream of some-model ended without a finish reason: the answer may be incomplete"
    ):
        async with contextlib.aclosing(anyllm_openai(server.url).stream(ASKED)) as stream:
            async for piece in stream:
                got.append(piece)
    assert got == ["Hello ", "dear "]


async def test_groq_is_reached_at_the_address_that_is_given(server):
    pytest.importorskip("groq")
    await rt.llm.AnyLLM("groq/some-model", api_base=server.url, api_key=KEY).complete(ASKED)
    assert server.requests[0].path == "/openai/v1/chat/completions"


async def test_a_key_may_be_a_marked_secret(server):
    model = anyllm_openai(server.url, api_key=rt.Secret(KEY))
    await model.complete(ASKED)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert model.api_key == rt.Secret(KEY)


@pytest.mark.parametrize("name", [None, "", 5])
def test_a_model_without_a_name_is_refused(name):
    with pytest.raises(ConfigError, match=r"AnyLLM: the model is .*; expected the provider's name for it"):
        rt.llm.AnyLLM(name, provider="openai", api_key=KEY)


@pytest.mark.parametrize("name", [None, 5])
def test_a_model_that_is_not_text_is_refused(name):
    with pytest.raises(ConfigError, match="AnyLLM: the model"):
        rt.llm.AnyLLM(name, api_key=KEY)


def test_the_repr_shows_no_secret_wherever_it_is():
    model = anyllm_openai("http://127.0.0.1:1", seed=17, extra_body={"inner": [{"password": "hunter-22"}]})
    assert "17" in repr(model)
    assert not [text for text in (KEY, "hunter-22") if text in repr(model)]


async def test_a_session_ends_the_thread_that_it_started(server, backend):
    before = set(threading.enumerate())
    async with rt.Session(save_state=False):
        await anyllm_openai(server.url).complete(ASKED)
        started = [each for each in set(threading.enumerate()) - before if each.name == "railtracks-session"]
        assert len(started) == (backend == "trio")
    assert not [each for each in started if each.is_alive()]


# ---- the bridge itself, under trio


def on_trio(func):
    with virtual.hold_clock():
        virtual.run("trio", func)


@contextlib.asynccontextmanager
async def asyncio_thread():
    from railtracks._concurrency._asyncio_thread import AsyncioThread

    thread = AsyncioThread()
    try:
        yield thread
    finally:
        with anyio.CancelScope(shield=True):
            await thread.close()


def test_a_cancellation_waits_for_the_cleanup_there():
    async def main():
        begun, released, ended = threading.Event(), threading.Event(), []

        async def work():
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(released.wait)
                ended.append("there")

        async def run(scope):
            with scope:
                await thread.run(work)
            ended.append("here")

        async with asyncio_thread() as thread, anyio.create_task_group() as group:
            scope = anyio.CancelScope()
            group.start_soon(run, scope)
            await in_thread(begun.wait)
            scope.cancel()
            try:
                await anyio.wait_all_tasks_blocked()
                assert ended == []
            finally:
                released.set()
        assert ended == ["there", "here"]

    on_trio(main)


def test_a_cancellation_before_the_task_began_is_not_lost():
    async def main():
        async with asyncio_thread() as thread:
            for count in range(20):
                async with anyio.create_task_group() as group:
                    group.start_soon(thread.run, asyncio.Event().wait)
                    for _ in range(count):
                        await anyio.lowlevel.checkpoint()
                    group.cancel_scope.cancel()

    on_trio(main)


def test_errors_and_results_come_over_as_the_same_objects():
    async def main():
        error, result = ValueError("mine"), object()

        async def fail():
            raise error

        async def give():
            return result

        async with asyncio_thread() as thread:
            with pytest.raises(ValueError, match="mine") as caught:
                await thread.run(fail)
            assert caught.value is error
            assert await thread.run(give) is result

    on_trio(main)


def test_pieces_are_not_made_far_ahead_of_who_takes_them():
    from railtracks._concurrency._asyncio_thread import MAX_BUFFERED

    async def main():
        made, closed = [], []

        async def pieces():
            try:
                for number in range(1000):
                    made.append(number)
                    yield number
            finally:
                with anyio.CancelScope(shield=True):
                    await asyncio.sleep(0)
                closed.append(1)

        async def let_it_run():
            for _ in range(200):
                await asyncio.sleep(0)

        async with asyncio_thread() as thread:
            async with contextlib.aclosing(thread.iterate(pieces)) as taken:
                for number in range(3):
                    assert await anext(taken) == number
                    await thread.run(let_it_run)
                    assert len(made) <= number + MAX_BUFFERED + 3
            assert closed == [1]
            async with contextlib.aclosing(thread.iterate(pieces)) as taken:
                assert [piece async for piece in taken] == list(range(1000))

    on_trio(main)


def test_an_error_after_some_pieces_comes_after_them():
    async def main():
        async def pieces():
            yield 1
            raise ValueError("mine")

        async with asyncio_thread() as thread:
            got = []
            with pytest.raises(ValueError, match="mine"):
                async with contextlib.aclosing(thread.iterate(pieces)) as taken:
                    async for piece in taken:
                        got.append(piece)
            assert got == [1]

    on_trio(main)
