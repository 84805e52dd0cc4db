"""Calls whose nodes have ``cache``: which are equal, what they get, and what is not cached."""

from __future__ import annotations

import contextlib
import functools
import logging
import pickle
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.execution import _cached_calls
from railtracks.state import Status

runs: list[Any] = []


@pytest.fixture(autouse=True)
def _no_runs():
    runs.clear()


@rt.function_node(cache=True)
async def double(number: int, unit: str = "m") -> int:
    runs.append(number)
    return 2 * number


@rt.function_node(cache=True)
async def lists(number: int) -> list[int]:
    runs.append(number)
    return [number]


def cached_in(info) -> list[str | None]:
    return [None if record.policy is None else record.policy.cached for record in info.records]


def warnings(caplog) -> list[str]:
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [text for text in texts if "cache" in text.lower()]


# ---- which calls are equal


async def test_an_equal_call_gets_the_result_of_the_first():
    async with rt.Session() as session:
        assert [await rt.call(double, 2), await rt.call(double, 2), await rt.call(double, 3)] == [4, 4, 6]
    assert runs == [2, 3]
    assert cached_in(session.info) == [None, "session", None]
    assert {record.status for record in session.info.records} == {Status.COMPLETED}


async def test_how_arguments_are_passed_does_not_matter():
    async with rt.Session():
        for args, kwargs in (((2,), {}), ((), {"number": 2}), ((2, "m"), {}), ((), {"unit": "m", "number": 2})):
            assert await rt.call(double, *args, **kwargs) == 4
    assert runs == [2]


async def test_values_of_other_types_are_other_arguments():
    @rt.function_node(cache=True)
    async def kind(value: object) -> str:
        return type(value).__name__

    async with rt.Session():
        assert [await rt.call(kind, value) for value in (1, 1.0, True, "1", (1,), [1])] == [
            "int", "float", "bool", "str", "tuple", "list",
        ]  # fmt: skip


async def test_ignored_parameters_do_not_count():
    @rt.function_node(cache=True, ignore=["client"])
    async def fetch(url: str, client: object = None) -> str:
        runs.append(url)
        return url

    async with rt.Session():
        for args in (("a",), ("a", object()), ("a", object())):
            assert await rt.call(fetch, *args) == "a"
    assert runs == ["a"]


async def test_another_version_of_the_node_is_another_call():
    for version in ("1", "2", "1"):

        async def versioned(number: int) -> int:
            runs.append(number)
            return number

        node = rt.function_node(versioned, cache=rt.Cache(scope="store"), version=version, key="versioned")
        async with rt.Session():
            await rt.call(node, 1)
    assert len(runs) == 2


async def test_a_key_says_which_calls_are_equal():
    @rt.function_node(cache=rt.Cache(key=lambda url, client: url.lower()))
    async def fetch(url: str, client: object) -> str:
        runs.append(url)
        return url

    async with rt.Session():
        assert [await rt.call(fetch, url, object()) for url in ("A", "a", "b")] == ["A", "A", "b"]


async def test_what_a_key_function_raises_fails_the_call():
    @rt.function_node(cache=rt.Cache(key=lambda url: 1 / 0))
    async def fetch(url: str) -> str:
        return url

    async with rt.Session():
        with pytest.raises(ZeroDivisionError):
            await rt.call(fetch, "a")


# ---- what is not cached, and says so


async def test_arguments_without_a_written_form_are_not_cached(caplog):
    @rt.function_node(cache=True)
    async def use(client: object) -> int:
        runs.append(client)
        return 1

    async with rt.Session():
        await rt.call(use, object())
        await rt.call(use, object())
    assert len(runs) == 2
    [warning] = warnings(caplog)
    assert "use has cache=" in warning and "no written form" in warning and "key=" in warning


async def test_results_without_a_written_form_are_not_cached(caplog):
    @rt.function_node(cache=True)
    async def make(number: int) -> object:
        runs.append(number)
        return object()

    async with rt.Session():
        await rt.call(make, 1)
        await rt.call(make, 1)
    assert len(runs) == 2
    [warning] = warnings(caplog)
    assert "has returned what has no written form" in warning


@pytest.mark.parametrize("scope", ["session", "store"])
async def test_secrets_are_neither_cached_nor_in_keys(scope, caplog):
    secret = "sk-abcdefgh12345678ijklmnop"

    @rt.function_node(cache=rt.Cache(scope=scope))
    async def login(user: str, password: str) -> str:
        runs.append(user)
        return "ok"

    @rt.function_node(cache=rt.Cache(scope=scope))
    async def token(user: str) -> dict[str, str]:
        runs.append(user)
        return {"token": secret}

    async with rt.Session():
        for _ in range(2):
            await rt.call(login, "ada", secret)
            await rt.call(token, "ada")
    assert len(runs) == 4
    assert len([text for text in warnings(caplog) if "secret" in text]) == 2
    files = [path for path in Path(".railtracks").rglob("*") if path.is_file()]
    assert not any(secret.encode() in path.read_bytes() for path in files)


async def test_lambdas_without_a_key_are_not_cached(caplog):
    node = rt.function_node(lambda number: [*map(runs.append, [number])], cache=True, name="anonymous")
    async with rt.Session():
        await rt.call(node, 1)
        await rt.call(node, 1)
    assert runs == [1, 1]
    assert "key=" in warnings(caplog)[0]


async def test_failures_are_not_cached():
    @rt.function_node(cache=True)
    async def flaky(number: int) -> int:
        runs.append(number)
        if len(runs) == 1:
            raise OSError("no route")
        return number

    async with rt.Session():
        with pytest.raises(OSError, match="no route"):
            await rt.call(flaky, 1)
        assert [await rt.call(flaky, 1), await rt.call(flaky, 1)] == [1, 1]
    assert len(runs) == 2


# ---- what a call gets


async def test_each_call_gets_an_object_of_its_own():
    async with rt.Session():
        first = await rt.call(lists, 1)
        first.append(2)
        second = await rt.call(lists, 1)
        second.append(2)
        assert await rt.call(lists, 1) == [1]
    assert runs == [1]


@attrs.frozen
class Point:
    x: int
    y: int


async def test_results_keep_their_types():
    @rt.function_node(cache=True)
    async def point() -> Point:
        runs.append(1)
        return Point(1, 2)

    async with rt.Session():
        assert await rt.call(point) == await rt.call(point) == Point(1, 2)
    assert len(runs) == 1


async def test_none_is_a_result():
    @rt.function_node(cache=True)
    async def nothing() -> object:
        runs.append(1)
        return None

    async with rt.Session():
        assert await rt.call(nothing) is await rt.call(nothing) is None
    assert len(runs) == 1


async def test_changes_of_the_context_are_made_again():
    @rt.function_node
    async def below(number: int) -> None:
        rt.context.put("below", (number,))

    @rt.function_node(cache=True)
    async def settle(number: int) -> int:
        rt.context.put("own", number)
        rt.context.delete("gone")
        await rt.call(below, number)
        return number

    async with rt.Session(context={"gone": 1}) as session:
        await rt.call(settle, 1)
        rt.context.update({"own": 0, "below": 0, "gone": 1})
        await rt.call(settle, 1)
        assert (rt.context.get("own"), rt.context.get("below"), rt.context.get("gone", None)) == (1, (1,), None)
    assert len(session.info.records) == 3
    assert {change.key for change in session.info.records[2].changes} == {"own", "below", "gone"}


@rt.function_node(cache=True)
async def greeting(name: str) -> str:
    rt.context.put("own", name)
    assert rt.context.get("own") == name
    return await rt.call(in_language, name)


@rt.function_node
def in_language(name: str) -> str:
    return f"{rt.context.get('language', 'en')} {name} {rt.context.get('mood', 'glad')}"


async def test_reading_the_context_warns_once_and_names_key(caplog):
    async with rt.Session(context={"language": "fr"}):
        assert await rt.call(greeting, "ada") == "fr ada glad"
        rt.context.put("language", "de")
        assert await rt.call(greeting, "ada") == "fr ada glad"
        assert await rt.call(greeting, "bob") == "de bob glad"
    [text] = warnings(caplog)
    assert text.startswith("greeting has cache=, and reads 'language' from the context, which does not count")
    assert "rt.Cache(key=...)" in text


async def test_with_a_key_reading_the_context_does_not_warn(caplog):
    async with rt.Session(context={"language": "fr"}):
        node = rt.function_node(greeting.target, cache=rt.Cache(key=lambda name: [name, rt.context.get("language")]))
        assert await rt.call(node, "ada") == "fr ada glad"
        rt.context.put("language", "de")
        assert await rt.call(node, "ada") == "de ada glad"
        assert await rt.call(in_language, "ada") == "de ada glad"
    assert warnings(caplog) == []


async def test_context_values_that_are_lost_are_not_cached(caplog):
    @rt.function_node(cache=True)
    async def settle(number: int) -> int:
        runs.append(number)
        rt.context.put("client", object())
        return number

    async with rt.Session():
        await rt.call(settle, 1)
        await rt.call(settle, 1)
    assert len(runs) == 2
    assert "changed the context" in warnings(caplog)[0]


async def test_sync_nodes_are_cached():
    @rt.function_node(cache=True)
    def square(number: int) -> int:
        runs.append(number)
        rt.context.put("seen", number)
        return number * number

    async with rt.Session():
        assert await rt.call_batch(square, [3] * 5, return_exceptions=False) == [9] * 5
        rt.context.put("seen", 0)
        await rt.call(square, 3)
        assert rt.context.get("seen") == 3
    assert runs == [3]


# ---- how long


async def test_a_result_is_used_until_its_ttl_is_over():
    node = double.options(cache=rt.Cache(ttl=10))
    async with rt.Session():
        for wait in (0, 9.9, 0.2, 0):
            await anyio.sleep(wait)
            await rt.call(node, 1)
    assert len(runs) == 2


async def test_options_switch_the_cache_off():
    async with rt.Session():
        await rt.call(double, 1)
        await rt.call(double.options(cache=False), 1)
    assert len(runs) == 2


async def test_a_session_has_a_cache_for_its_nodes():
    async def plain(number: int) -> int:
        runs.append(number)
        return number

    node = rt.function_node(plain)
    async with rt.Session(cache=True):
        await rt.call(node, 1)
        await rt.call(node, 1)
    async with rt.Session():
        await rt.call(node, 1)
    assert len(runs) == 2


async def test_results_of_a_session_end_with_it():
    for _ in range(2):
        async with rt.Session():
            await rt.call(double, 1)
    assert len(runs) == 2


# ---- on record


async def test_a_resumed_run_replays_cached_calls():
    @rt.function_node(key="flow")
    async def flow(fails: bool) -> list[int]:
        found = [await rt.call(double, 1), await rt.call(double, 1)]
        if fails:
            raise OSError("later")
        return [*found, await rt.call(double, 1)]

    node = rt.function_node(flow.func, key="flow", ignore=["fails"])
    with pytest.raises(OSError, match="later"):
        async with rt.Session(run_identifier="r"):
            await rt.call(node, True)
    async with rt.Session(run_identifier="r", if_exists="resume") as session:
        assert await rt.call(node, False) == [2, 2, 2]
    assert runs == [1]  # what was replayed is in the cache of the session, too
    assert cached_in(session.info) == [None, None, "session", "session"]
    assert cached_in(rt.state.load_run("r")) == cached_in(session.info)
    assert cached_in(pickle.loads(pickle.dumps(session.info))) == cached_in(session.info)


async def test_expired_results_of_a_session_are_removed(monkeypatch):
    monkeypatch.setattr(_cached_calls, "_PRUNE_FROM", 10)
    async with rt.Session() as session:
        for number in range(100):
            await rt.call(double.options(cache=rt.Cache(ttl=5)), number)
            await anyio.sleep(1)
        assert len(session._coordinator.cached_calls._results) <= 10
        assert await rt.call(double, 99) == 198
    assert len(runs) == 100


async def test_results_below_replayed_calls_are_found_on_resume():
    """Those that later calls of the undisturbed run would have found."""
    made = []

    @rt.function_node(cache=True, key="below")
    async def below(number: int) -> int:
        made.append(number)
        rt.context.put("made", number)
        return await rt.call(lowest, number)

    @rt.function_node(key="lowest")
    async def lowest(number: int) -> int:
        rt.context.put("lowest", -number)
        return 2 * number

    @rt.function_node(key="around")
    async def around() -> list[int]:
        found = [await rt.call(below, 1), await rt.call(below, number=2)]
        rt.context.update({"made": 0, "lowest": 0})
        return found

    @rt.function_node(key="whole")
    async def whole() -> list[int]:
        found = await rt.call(around)
        if attempts.pop():
            raise KeyError("stop")
        return [*found, await rt.call(below, 2), rt.context.get("made"), rt.context.get("lowest")]

    attempts = [False, True]
    for _ in range(2):
        with contextlib.suppress(KeyError):
            async with rt.Session(run_identifier="mine", if_exists="resume") as session:
                result = await rt.call(whole)
    assert result == [2, 4, 4, 2, -2]
    assert made == [1, 2]
    assert [each.policy.cached for each in session.info.records if each.policy] == ["session"]


async def test_results_of_calls_that_are_given_up_are_found_on_resume():
    """They are below a call that the flow has cancelled, and that it gives up again."""

    @rt.function_node(key="around")
    async def around() -> None:
        await rt.call(double, 1)
        await anyio.sleep_forever()

    @rt.function_node(key="whole")
    async def whole() -> int:
        with anyio.move_on_after(0.05):
            await rt.call(around)
        if attempts.pop():
            raise KeyError("stop")
        return await rt.call(double, 1)

    attempts = [False, True]
    for _ in range(2):
        with contextlib.suppress(KeyError):
            async with rt.Session(run_identifier="mine", if_exists="resume") as session:
                result = await rt.call(whole)
    assert result == 2
    assert runs == [1]
    assert [each.policy.cached for each in session.info.records if each.policy] == ["session"]


async def test_results_that_are_replayed_later_are_found_on_resume():
    """Another task comes to an equal call before the one that had completed is made again."""

    @rt.function_node(key="whole")
    async def whole() -> list[int]:
        found = []

        async def call(after: float) -> None:
            await anyio.sleep(after)
            found.append(await rt.call(double, 1))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, 0.05)
            if not attempts.pop():
                tasks.start_soon(call, 0)
        if attempts:
            raise KeyError("stop")
        return found

    attempts = [False, True]
    for _ in range(2):
        with contextlib.suppress(KeyError):
            async with rt.Session(run_identifier="mine", if_exists="resume"):
                result = await rt.call(whole)
    assert result == [2, 2]
    assert runs == [1]


@pytest.mark.parametrize("options", [{"memo": False}, {"context_changes": "rerun"}])
async def test_what_is_to_run_again_does_not_get_its_recorded_result(options):
    made = []

    @rt.function_node(cache=True, key="below", **options)
    async def below(number: int) -> int:
        made.append(rt.context.get("unit"))
        return number

    @rt.function_node(key="whole")
    async def whole() -> None:
        assert [await rt.call(below, 1), await rt.call(below, 1)] == [1, 1]
        raise KeyError("stop")

    for unit in ("m", "km"):
        with contextlib.suppress(KeyError):
            async with rt.Session(run_identifier="mine", if_exists="resume", context={"unit": unit}):
                await rt.call(whole)
    assert made == ["m", "km"]


def adds(number, **policies):
    """Return a node that is defined in a function, as another one is by the next call."""

    def more(value):
        return value + number

    @rt.function_node(cache=rt.Cache(**policies))
    async def add(value):
        return more(value)

    return add


def appends_to(found):
    @rt.function_node(cache=True)
    async def append(value):
        found.append(value)
        return len(found)

    return append


async def test_nodes_of_other_closures_have_other_results():
    async with rt.Session():
        assert [await rt.call(adds(number), 1) for number in (1, 2, 2)] == [2, 3, 3]
        first, second = [], [0]
        assert [await rt.call(appends_to(found), 1) for found in (first, second, first)] == [1, 2, 1]


async def test_closures_of_partials_and_classes_count():
    def adds_two(number):
        def add(first, second):
            return first + second + number

        class Add(rt.nodes.Node[int]):
            def __init__(self, value: int) -> None:
                self.value = value

            @classmethod
            def policies(cls):
                return {"cache": True}

            def invoke(self) -> int:
                return self.value + number

        return rt.function_node(functools.partial(add, 1), name="add", cache=True), Add

    async with rt.Session():
        for kind in (0, 1):
            assert [await rt.call(adds_two(number)[kind], 1) - (1 - kind) for number in (1, 2, 2)] == [2, 3, 3]


async def test_closures_count_in_the_store(tmp_path):
    for _ in range(2):
        async with rt.Session(store=rt.state.FileStore(tmp_path)) as session:
            nodes = [adds(number, scope="store") for number in (1, 2, 2)]
            assert [await rt.call(node, 1) for node in nodes] == [2, 3, 3]
    assert [record.policy is not None and record.policy.cached for record in session.info.records] == ["store"] * 3


async def test_a_key_says_that_closures_do_not_count():
    async with rt.Session():
        nodes = [adds(number, key=lambda value: value) for number in (1, 2)]
        assert [await rt.call(node, 1) for node in nodes] == [2, 2]


async def test_objects_of_closures_do_not_count_in_the_store(tmp_path, caplog):
    def node_of(found):
        @rt.function_node(cache=rt.Cache(scope="store"))
        async def append(value):
            found.append(value)
            return len(found)

        return append

    async with rt.Session(store=rt.state.FileStore(tmp_path)):
        assert [await rt.call(node_of(found), 1) for found in ([], [0])] == [1, 1]
    assert [each.getMessage() for each in caplog.records if "uses found of the function around it" in each.getMessage()]
