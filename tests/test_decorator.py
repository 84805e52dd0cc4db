"""``@rt.session``: each call of an async function in a session of its own."""

from __future__ import annotations

import functools
import inspect
import logging
from typing import Any

import anyio
import pytest

import railtracks as rt
import railtracks.testing
from railtracks.exceptions import ConfigError, GlobalTimeOutError
from railtracks.state import Status


async def double(x):
    await anyio.sleep(0)
    return 2 * x


async def test_written_bare_it_gives_the_result_and_the_session():
    @rt.session
    async def main(x):
        return await rt.call(double, x)

    result, session = await main(2)
    assert result == 4
    assert isinstance(session, rt.Session)
    assert session.info.answer == 4


async def test_called_without_options_it_does_the_same():
    @rt.session()
    async def main(x, *, y):
        return await rt.call(double, x + y)

    result, session = await main(2, y=1)
    assert (result, session.info.answer) == (6, 6)


async def test_it_takes_every_option_of_a_session(tmp_path):
    heard: list[str] = []
    payloads: list[dict[str, Any]] = []
    options: dict[str, Any] = {
        "timeout": 12.0,
        "end_on_error": True,
        "logging_setting": "NONE",
        "log_file": str(tmp_path / "main.log"),
        "broadcast_callback": heard.append,
        "ask_callback": input,
        "executors": {},
        "default_llm": rt.testing.ScriptedModel([]),
        "run_identifier": "decorated",
        "prompt_injection": False,
        "save_state": True,
        "durability": "exit",
        "store": "file:.railtracks",
        "backend": "trio",
        "max_threads": 3,
        "if_exists": "resume",
        "code_changes": "rerun",
        "allow_rerun": True,
        "slow_callback_seconds": 2.0,
        "tracing": "values",
        "progress": False,
        "node_timeout": 4.0,
        "retries": rt.Retry(attempts=2),
        "limit": 5,
        "cache": rt.Cache(ttl=6.0),
        "where": "task",
        "max_concurrency": 7,
        "max_calls": 1000,
        "max_depth": 90,
        "budget": 100.0,
        "suspend": True,
        "max_value_bytes": 1_000,
        "on_write_error": "stop",
    }
    assert set(options) == set(rt.SessionOptions.__annotations__)

    @rt.session(context={"key": "value"}, name="my name", payload_callback=payloads.append, **options)
    async def main():
        await rt.broadcast(rt.context.get("key"))

    _, session = await main()
    assert {name: getattr(session.executor_config, name) for name in options} == options
    assert (session.name, session.identifier, heard) == ("my name", "decorated", ["value"])
    assert payloads == [session.payload()]
    assert (tmp_path / ".railtracks/decorated.json").exists()


async def test_the_session_is_over_when_the_function_returned():
    ended = []

    async def child():
        try:
            await anyio.sleep(60)
        finally:
            ended.append(True)

    @rt.session
    async def main():
        current.append(rt.session_id())

    current = []
    _, session = await main()
    assert current == [session.identifier]
    assert rt.session_id() is None
    assert session.payload()["end_time"] is not None
    with pytest.raises(rt.exceptions.SessionEndedError):
        session.start_soon(child)
    assert ended == []


async def test_a_result_of_none_is_a_result():
    @rt.session
    async def main():
        pass

    result, session = await main()
    assert result is None
    assert session.info.answer is None


async def test_an_exception_comes_out_as_itself():
    error = ExceptionGroup("mine", [ValueError(1)])

    @rt.session
    async def main():
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        await main()
    assert caught.value is error
    assert rt.session_id() is None


async def test_timeout_counts_for_calls_not_for_the_function_itself():
    @rt.session(timeout=10)
    async def main():
        await anyio.sleep(60)
        return await rt.call(double, 1)

    assert (await main())[0] == 2

    @rt.session(timeout=10)
    async def slow():
        await rt.call(anyio.sleep, 60)

    with pytest.raises(GlobalTimeOutError):
        await slow()


async def test_concurrent_calls_have_sessions_of_their_own():
    meet = anyio.Event()
    results = {}

    @rt.session(context={"mine": None})
    async def main(i):
        rt.context.put("mine", i)
        if i == 2:
            meet.set()
        await meet.wait()
        await rt.call(double, i)
        return rt.context.get("mine")

    async def go(i):
        results[i] = await main(i)

    async with anyio.create_task_group() as group:
        for i in range(3):
            group.start_soon(go, i)
    assert {i: result for i, (result, _) in results.items()} == {0: 0, 1: 1, 2: 2}
    assert {i: session.info.answer for i, (_, session) in results.items()} == {0: 0, 1: 2, 2: 4}
    assert len({session.identifier for _, session in results.values()}) == 3


async def test_context_changes_are_not_seen_by_the_next_call():
    """What a function changes in the context is not seen by its next call."""
    given = {"count": 0}

    @rt.session(context=given)
    async def main():
        rt.context.put("count", rt.context.get("count") + 1)
        return rt.context.get("count")

    assert [(await main())[0], (await main())[0]] == [1, 1]
    assert given == {"count": 0}


async def test_decorated_function_inside_another_has_an_inner_session():
    @rt.session(context={"who": "inner"})
    async def inner():
        return rt.context.get("who")

    @rt.session(context={"who": "outer"})
    async def outer():
        (who, session) = await inner()
        return who, rt.context.get("who"), session.identifier != rt.session_id()

    assert (await outer())[0] == ("inner", "outer", True)


async def test_a_cancelled_function_ends_its_session():
    sessions = []

    @rt.session(payload_callback=sessions.append)
    async def main():
        await rt.call(anyio.sleep_forever)

    with anyio.move_on_after(60) as scope:
        await main()
    assert scope.cancelled_caught
    assert sessions[0]["runs"][0]["status"] == Status.CANCELLED


@pytest.mark.parametrize("save", [True, False])
async def test_the_same_identifier_again_overwrites_with_a_warning(caplog, save):
    @rt.session(run_identifier="my-unique-run", save_state=save)
    async def main(x):
        return await rt.call(double, x)

    await main(1)
    assert caplog.records == []
    await main(2)
    warnings = [(r.name, r.levelno, r.getMessage()) for r in caplog.records]
    text = "File .railtracks/my-unique-run.json already exists, overwriting..."
    assert warnings == ([("RT.Session", logging.WARNING, text)] if save else [])


# ---- what it looks like


def test_the_metadata_of_the_function_is_kept():
    async def main(x: int, *, y: str = "a") -> str:
        """What it does."""
        return y * x

    decorated = rt.session(timeout=1)(main)
    assert (decorated.__name__, decorated.__doc__, decorated.__module__) == ("main", "What it does.", __name__)
    assert decorated.__wrapped__ is main  # type: ignore[attr-defined]
    assert list(inspect.signature(decorated).parameters) == ["x", "y"]
    assert inspect.iscoroutinefunction(decorated)


async def test_it_decorates_methods():
    class Service:
        factor = 3

        @rt.session
        async def main(self, x):
            return self.factor * x

    assert (await Service().main(2))[0] == 6


async def test_it_decorates_a_partial_of_an_async_function():
    async def main(x, y):
        return x + y

    assert (await rt.session(functools.partial(main, 1))(2))[0] == 3


# ---- misuse


@pytest.mark.parametrize(
    "decorate", [rt.session, rt.session(), rt.session(timeout=1)], ids=["bare", "called", "options"]
)
def test_sync_function_is_refused_with_what_to_write(decorate):
    """A sync function is refused with its name and with what to write."""

    def my_function():
        raise AssertionError("never called")

    with pytest.raises(TypeError, match=r"my_function.*`async def my_function"):
        decorate(my_function)


def test_an_async_generator_function_is_refused():
    async def my_generator():
        yield 1

    with pytest.raises(TypeError, match="my_generator"):
        rt.session(my_generator)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": -1}, "timeout"),
        ({"tiemout": 1}, "tiemout"),
        ({"run_identifier": "a/b"}, "run_identifier"),
        ({"context": 5}, "context"),
        ({"name": ""}, "name"),
    ],
)
def test_wrong_option_is_refused_where_the_decorator_is_written(options, message):
    with pytest.raises(ConfigError, match=message):
        rt.session(**options)


@pytest.mark.parametrize("wrong", [{"key": "value"}, 30, "name"])
def test_what_is_not_a_function_is_refused_with_what_to_write(wrong):
    with pytest.raises(TypeError, match=r"write `@rt.session"):
        rt.session(wrong)
