"""Flows: named, reusable work; a session and a deep copy of the context for each run."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
import threading
from typing import Any

import anyio
import pytest

import railtracks as rt
import railtracks.testing
from railtracks.exceptions import ConfigError, ContextError, GlobalTimeOutError, NodeCreationError, SessionError
from railtracks.execution import running_library
from railtracks.state import Status


@rt.function_node
async def greet(name, mark="!"):
    await anyio.sleep(0)
    return f"Hello, {name}{mark}"


async def library():
    return running_library()


async def read(key):
    return rt.context.get(key)


async def append(item):
    rt.context.get("items").append(item)
    rt.context.put("last", item)
    return rt.context.get("items")


OPTIONS: dict[str, Any] = {
    "timeout": 12.0,
    "end_on_error": True,
    "logging_setting": "NONE",
    "log_file": "flow.log",
    "broadcast_callback": print,
    "ask_callback": input,
    "executors": {},
    "default_llm": rt.testing.ScriptedModel([]),
    "run_identifier": "a-flow",
    "prompt_injection": False,
    "save_state": False,
    "durability": "exit",
    "store": "sqlite:runs.db",
    "backend": "trio",
    "max_threads": 3,
    "if_exists": "fail",
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
    "suspend": False,
    "max_value_bytes": 1_000,
    "on_write_error": "stop",
}


# ---- running


def test_invoke_returns_what_the_entry_point_returns(backend):
    flow = rt.Flow("Greeting", entry_point=greet, backend=backend)
    assert flow.invoke("Ada") == "Hello, Ada!"
    assert flow.invoke("Bob", mark="?") == "Hello, Bob?"


async def test_ainvoke_returns_what_the_entry_point_returns():
    flow = rt.Flow("Greeting", entry_point=greet)
    assert await flow.ainvoke("Ada") == "Hello, Ada!"
    assert await flow.ainvoke("Bob", mark="?") == "Hello, Bob?"
    assert rt.session_id() is None


def test_invoke_runs_on_the_backend_that_is_configured(backend):
    """A flow is invoked on its own backend, or else on that of the configuration."""
    assert rt.Flow("Library", library, backend=backend).invoke() == backend
    rt.set_config(backend=backend)
    assert rt.Flow("Library", library).invoke() == backend


def test_invoke_leaves_no_session_and_no_thread(backend):
    flow = rt.Flow("Greeting", greet, backend=backend, save_state=False)
    flow.invoke("Ada")  # the first one starts the thread of the process that watches for stalls
    before = threading.active_count()
    assert flow.invoke("Ada")
    assert rt.session_id() is None
    assert threading.active_count() == before


def test_flow_runs_async_and_sync_functions_and_node_classes(backend):
    class Shout(rt.nodes.Node):
        def __init__(self, text):
            self.text = text

        async def invoke(self):
            return self.text.upper()

    assert rt.Flow("Sync", len, backend=backend).invoke("abc") == 3
    assert rt.Flow("Class", Shout, backend=backend).invoke("abc") == "ABC"
    assert rt.Flow("Partial", functools.partial(greet.func, mark="?"), backend=backend).invoke("a") == "Hello, a?"


async def test_invoke_in_a_running_loop_shows_the_await_to_write(backend):
    """Invoking in a running loop raises an error that names the flow, the loop and the await to write."""
    flow = rt.Flow("Greeting", greet)
    with pytest.raises(SessionError, match=rf"'Greeting'.*running {backend} event loop.*`await flow.ainvoke"):
        flow.invoke("Ada")
    with pytest.raises(SessionError, match=r"await flow.ainvoke"):
        flow.connect().invoke("Ada")


def test_an_exception_of_the_entry_point_comes_out_as_itself(backend):
    error = ValueError("mine")

    async def fail():
        raise error

    with pytest.raises(ValueError) as caught:
        rt.Flow("Fail", fail, backend=backend).invoke()
    assert caught.value is error


async def test_a_flow_times_out():
    flow = rt.Flow("Slow", anyio.sleep_forever, timeout=60)
    with pytest.raises(GlobalTimeOutError) as caught:
        await flow.ainvoke()
    assert caught.value.timeout == 60
    assert anyio.current_time() == pytest.approx(60)


# ---- the context


async def test_each_run_gets_a_deep_copy_of_the_context():
    given = {"items": []}
    flow = rt.Flow("Append", append, context=given)
    first, second = flow.connect(), flow.connect()
    assert await first.ainvoke(1) == [1]
    assert await second.ainvoke(2) == [2]
    assert first.context == {"items": [1], "last": 1}
    assert second.context == {"items": [2], "last": 2}
    assert given == {"items": []}


async def test_flow_does_not_see_later_changes_of_its_context_mapping():
    given = {"key": "before"}
    flow = rt.Flow("Read", read, context=given)
    given["key"] = "after"
    assert await flow.ainvoke("key") == "before"


async def test_context_that_cannot_be_copied_is_refused_with_the_flow():
    """A context that cannot be copied is refused with the name of the flow."""
    flow = rt.Flow("Locked", read, context={"lock": threading.Lock()})
    with pytest.raises(ContextError, match=r"'Locked'.*cannot be copied.*rt.context.put") as caught:
        await flow.ainvoke("lock")
    assert isinstance(caught.value.__cause__, TypeError)


async def test_update_context_makes_a_new_flow_and_leaves_the_old_one():
    old = rt.Flow("Read", read, context={"key": "old", "other": 1}, timeout=60)
    new = old.update_context({"key": "new"})
    assert await old.ainvoke("key") == "old"
    connection = new.connect()
    assert await connection.ainvoke("key") == "new"
    assert connection.context == {"key": "new", "other": 1}
    assert (new.name, new.entry_point) == (old.name, old.entry_point)
    assert connection.session.executor_config.timeout == 60


async def test_concurrent_runs_of_one_flow_do_not_see_each_other():
    meet = anyio.Event()
    connections = []

    async def work(i):
        rt.context.put("mine", i)
        if i == 2:
            meet.set()
        await meet.wait()
        return rt.context.get("mine"), rt.session_id()

    flow = rt.Flow("Work", work)

    async def go(i):
        connections.append((i, connection := flow.connect()))
        assert await connection.ainvoke(i) == (i, connection.session_id)

    async with anyio.create_task_group() as group:
        for i in range(3):
            group.start_soon(go, i)
    assert {i: c.context["mine"] for i, c in connections} == {0: 0, 1: 1, 2: 2}
    assert len({c.session_id for _, c in connections}) == 3


# ---- connections


def test_a_connection_shows_nothing_before_the_first_run():
    connection = rt.Flow("Greeting", greet).connect()
    for name in ("session", "session_id", "context"):
        with pytest.raises(SessionError, match=r"has not run yet.*invoke"):
            getattr(connection, name)


def test_a_connection_shows_the_session_of_its_latest_run(backend):
    connection = rt.Flow("Greeting", greet, backend=backend, context={"a": 1}).connect()
    assert isinstance(connection, rt.FlowConnection)
    connection.invoke("Ada")
    first = connection.session
    connection.invoke("Bob")
    assert first.info.answer == "Hello, Ada!"
    assert connection.session.info.answer == "Hello, Bob!"
    assert connection.session_id == connection.session.identifier != first.identifier
    assert connection.context == {"a": 1}


async def test_a_connection_shows_the_session_of_a_run_that_failed():
    async def fail():
        raise ValueError

    connection = rt.Flow("Fail", fail).connect()
    with pytest.raises(ValueError):
        await connection.ainvoke()
    assert connection.session.info.records[0].status is Status.FAILED


# ---- the record


async def test_the_record_names_the_flow(tmp_path):
    payloads: list[dict[str, Any]] = []
    flow = rt.Flow("My Flow", greet, payload_callback=payloads.append, run_identifier="run")
    connection = flow.connect()
    await connection.ainvoke("Ada")
    payload = connection.session.payload()
    assert (payload["flow_name"], payload["flow_id"]) == ("My Flow", flow.equality_hash())
    assert payloads == [payload]
    saved = rt.ExecutionInfo.load(tmp_path / ".railtracks/run.json")
    assert (saved.flow_name, saved.flow_id) == ("My Flow", flow.equality_hash())


def test_a_session_outside_a_flow_names_none():
    assert (rt.Session().payload()["flow_name"], rt.Session().payload()["flow_id"]) == (None, None)


# ---- options


async def test_a_flow_takes_every_option_of_a_session():
    assert set(OPTIONS) == set(rt.SessionOptions.__annotations__)
    connection = rt.Flow("Greeting", greet, **OPTIONS).connect()
    await connection.ainvoke("Ada")
    config = connection.session.executor_config
    assert {name: getattr(config, name) for name in OPTIONS} == OPTIONS


def test_options_that_are_left_out_are_settled_at_each_run(backend):
    flow = rt.Flow("Greeting", greet, backend=backend)
    connection = flow.connect()
    rt.set_config(timeout=7)
    connection.invoke("Ada")
    assert connection.session.executor_config.timeout == 7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": math.nan}, "timeout"),
        ({"tiemout": 1}, "tiemout"),
        ({"backend": "curio"}, "'asyncio' or 'trio'"),
        ({"run_identifier": "../x"}, "run_identifier"),
        ({"context": ["no mapping"]}, "context"),
        ({"context": 5}, "context"),
        ({"payload_callback": "no function"}, "payload_callback"),
    ],
)
def test_wrong_option_is_refused_where_the_flow_is_made(options, message):
    with pytest.raises(ConfigError, match=message):
        rt.Flow("Greeting", greet, **options)


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_flow_needs_a_name(name):
    with pytest.raises(ConfigError, match=r"rt.Flow\('My Flow'"):
        rt.Flow(name, greet)


def test_wrong_entry_point_is_refused_where_the_flow_is_made():
    """An entry point that is not a node is refused where the flow is made."""
    with pytest.raises(NodeCreationError, match="'text'"):
        rt.Flow("Greeting", entry_point="text")  # type: ignore[call-overload]


@pytest.mark.parametrize("wrong", [None, 5, "text", [1]])
def test_update_context_refuses_what_is_not_a_mapping(wrong):
    with pytest.raises(ConfigError, match="context"):
        rt.Flow("Greeting", greet).update_context(wrong)


# ---- equality_hash

SCRIPT = """
import railtracks as rt
async def entry(): ...
def heard(item): ...
flow = rt.Flow("F", entry, timeout=60, end_on_error=True, broadcast_callback=heard, context={"a": object()})
print(flow.equality_hash())
"""


def test_the_hash_is_the_same_in_all_processes():
    hashes = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            check=True,
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1
    assert hashes.pop().strip()


@pytest.mark.parametrize(
    "other",
    [
        rt.Flow("F", greet, context={"a": object()}),
        rt.Flow("F", library),
        rt.Flow("F", greet, timeout=1),
        rt.Flow("F", greet).update_context({"b": 1}),
    ],
    ids=["context", "entry point", "option", "later context"],
)
def test_the_hash_depends_on_the_name_alone(other):
    assert other.equality_hash() == rt.Flow("F", greet).equality_hash()
    assert other.equality_hash() != rt.Flow("G", greet).equality_hash()


# ---- flows in nodes


async def test_flow_in_an_async_node_has_a_session_of_its_own():
    """A flow in an async node has a session of its own, and the outer one is active afterwards."""
    inner = rt.Flow("Inner", read, context={"who": "inner"}).connect()

    async def outer():
        return await inner.ainvoke("who"), rt.context.get("who")

    connection = rt.Flow("Outer", outer, context={"who": "outer"}).connect()
    assert await connection.ainvoke() == ("inner", "outer")
    assert [record.name for record in connection.session.info.records] == ["outer", "Inner"]  # not "read"
    assert [record.name for record in inner.session.info.records] == ["read"]


async def test_invoke_in_an_async_node_says_what_to_write():
    async def outer():
        rt.Flow("Inner", greet).invoke("Ada")

    with pytest.raises(SessionError, match=r"'Inner'.*await flow.ainvoke"):
        await rt.Flow("Outer", outer).ainvoke()


@pytest.mark.parametrize("inner_backend", ["asyncio", "trio"])
async def test_invoke_in_a_sync_node_runs_on_a_loop_of_its_own(inner_backend):
    inner = rt.Flow("Inner", library, backend=inner_backend, context={"who": "inner"}).connect()

    def outer():
        return inner.invoke(), rt.context.get("who")

    connection = rt.Flow("Outer", outer, context={"who": "outer"}).connect()
    assert await connection.ainvoke() == (inner_backend, "outer")
    assert [record.name for record in connection.session.info.records] == ["outer", "Inner"]  # not "read"


async def test_the_timeout_of_the_outer_flow_cancels_the_inner_one():
    inner = rt.Flow("Inner", anyio.sleep_forever, timeout=math.inf).connect()

    async def outer():
        await inner.ainvoke()

    with pytest.raises(GlobalTimeOutError):
        await rt.Flow("Outer", outer, timeout=60).ainvoke()
    assert inner.session.info.records[0].status is Status.CANCELLED


async def test_error_that_ends_the_inner_flow_spares_the_outer_one():
    async def fail():
        raise ValueError

    inner = rt.Flow("Inner", fail, end_on_error=True)

    async def outer():
        with pytest.raises(ValueError):
            await inner.ainvoke()
        return await rt.call(greet, "Ada")

    assert await rt.Flow("Outer", outer, end_on_error=True).ainvoke() == "Hello, Ada!"
