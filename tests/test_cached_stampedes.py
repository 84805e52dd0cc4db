"""Equal calls at the same time whose nodes have ``cache``: who runs, and who waits for whom."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks.state import Status
from tests import virtual

runs: list[Any] = []


@pytest.fixture(autouse=True)
def _no_runs():
    runs.clear()


@rt.function_node(cache=True)
async def lists(number: int) -> list[int]:
    runs.append(number)
    return [number]


def cached_in(info) -> list[str | None]:
    return [None if record.policy is None else record.policy.cached for record in info.records]


# ---- calls at the same time


@pytest.mark.parametrize("scope", ["session", "store"])
async def test_of_a_stampede_of_equal_calls_one_runs(scope):
    @rt.function_node(cache=rt.Cache(scope=scope))
    async def slow(number: int) -> int:
        runs.append(number)
        await anyio.sleep(5)
        return number

    async with rt.Session() as session:
        assert await rt.call_batch(slow, [1] * 20, return_exceptions=False) == [1] * 20
    assert runs == [1]
    assert sorted(map(str, cached_in(session.info))) == ["None"] + [scope] * 19
    assert [r.policy.waited for r in session.info.records[1:]] == [pytest.approx(5)] * 19


@pytest.mark.parametrize("scope", ["session", "store"])
async def test_if_the_first_fails_the_next_one_runs(scope):
    @rt.function_node(cache=rt.Cache(scope=scope))
    async def flaky(number: int) -> int:
        runs.append(number)
        await anyio.sleep(1)
        if len(runs) <= 2:
            raise OSError("no route")
        return number

    async with rt.Session() as session:
        results = await rt.call_batch(flaky, [1] * 6)
    assert [type(each) for each in results] == [OSError, OSError, int, int, int, int]  # first come, first served
    assert len(runs) == 3
    assert cached_in(session.info)[3:] == [scope] * 3


async def test_if_the_first_is_cancelled_the_next_one_runs():
    @rt.function_node(cache=True)
    async def slow(number: int) -> int:
        runs.append(number)
        await anyio.sleep(5)
        return number

    async with rt.Session() as session:
        handles = []
        for _ in range(3):
            handles.append(session.start_soon(slow, 1))
            await anyio.sleep(1)
        first, second, third = handles
        second.cancel()  # it waits
        first.cancel()
        await anyio.sleep(1)
        assert await third.wait() is Status.COMPLETED
    assert len(runs) == 2


async def test_one_that_gets_its_turn_and_is_cancelled_passes_it_on():
    @rt.function_node(cache=True)
    async def slow(number: int) -> int:
        runs.append(number)
        await anyio.sleep(5)
        return number

    async with rt.Session() as session:
        handles = []
        for _ in range(3):
            handles.append(session.start_soon(slow, 1))
            await anyio.sleep(1)
        first, second, third = handles
        first.cancel()
        second.cancel()
        assert await third.wait() is Status.COMPLETED
    assert len(runs) == 2


async def test_a_timeout_does_not_run_while_a_call_waits():
    @rt.function_node(cache=True, timeout=6)
    async def slow(number: int) -> int:
        runs.append(number)
        await anyio.sleep(5)
        if len(runs) == 1:
            raise OSError
        return number

    async with rt.Session():
        first, second = await rt.call_batch(slow, [1] * 2)
    assert isinstance(first, OSError)
    assert second == 1


@pytest.mark.parametrize("scope", ["session", "store"])
async def test_a_call_that_makes_an_equal_call_does_not_wait(scope):
    @rt.function_node(cache=rt.Cache(scope=scope), key="again")
    async def again(number: int) -> int:
        runs.append(number)
        return number if len(runs) > 2 else await rt.call(again, number)

    with anyio.fail_after(60):
        async with rt.Session():
            assert await rt.call(again, 1) == 1
    assert len(runs) == 3


@settings(max_examples=60)
@given(
    calls=st.dictionaries(st.integers(0, 4), st.lists(st.integers(0, 4), max_size=3), min_size=5, max_size=5),
    waits=st.lists(st.integers(0, 3), min_size=5, max_size=5),
    first=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    scope=st.sampled_from(["session", "store"]),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_no_calls_wait_for_each_other_for_ever(calls, waits, first, scope, backend):
    """Each call makes others at the same time, equal ones and those above it among them, down to some depth."""

    @rt.function_node(cache=rt.Cache(scope=scope, key=lambda number, depth: number), key="model")
    async def work(number: int, depth: int) -> int:
        await anyio.sleep(waits[number])
        if depth:
            below = [(each, depth - 1) for each in calls[number]]
            await rt.call_batch(work, *zip(*below, strict=True), return_exceptions=False) if below else None
        return number

    async def main() -> None:
        with anyio.fail_after(1_000):
            async with rt.Session(timeout=900, store=rt.state.MemoryStore()):
                assert await rt.call_batch(work, first, [3] * len(first), return_exceptions=False) == first

    virtual.run(backend, main)


@pytest.mark.parametrize("scope", ["session", "store"])
async def test_calls_that_would_wait_for_each_other_do_not(scope):
    """a(1) calls b(1) while another b(1) calls a(1): each would wait for the other."""
    both = anyio.Event()

    @rt.function_node(cache=rt.Cache(scope=scope), key="ping")
    async def ping(deep: int) -> int:
        runs.append("ping")
        await both.wait()
        return 1 if len(runs) > 2 else 1 + await rt.call(pong, deep)

    @rt.function_node(cache=rt.Cache(scope=scope), key="pong")
    async def pong(deep: int) -> int:
        runs.append("pong")
        both.set()
        return 1 if len(runs) > 2 else 1 + await rt.call(ping, deep)

    with anyio.fail_after(60):
        async with rt.Session() as session:
            handles = [session.start_soon(ping, 1), session.start_soon(pong, 1)]
            assert [await handle.wait() for handle in handles] == [Status.COMPLETED] * 2
    assert len(session.info.records) == 4


async def test_a_session_in_a_call_does_not_wait_for_that_call():
    @rt.function_node(cache=rt.Cache(scope="store"), key="outer")
    async def outer(number: int) -> int:
        runs.append(number)
        if len(runs) > 1:
            return number
        async with rt.Session():
            return await rt.call(outer, number)

    with anyio.fail_after(60):
        async with rt.Session():
            assert await rt.call(outer, 1) == 1
    assert len(runs) == 2


def test_a_session_in_a_thread_does_not_wait_for_its_call():
    @rt.function_node(cache=rt.Cache(scope="store"), key="outer2")
    def outer(number: int) -> int:
        runs.append(number)
        if len(runs) > 1:
            return number
        with rt.Session():
            return rt.call_sync(outer, number)

    with rt.Session(timeout=30):
        assert rt.call_sync(outer, 1) == 1
    assert len(runs) == 2


def test_sessions_in_several_event_loops_wait_for_each_other():
    @rt.function_node(cache=rt.Cache(scope="store"), key="slow-store")
    def slow(number: int) -> int:
        runs.append(number)
        import time

        time.sleep(0.5)  # for real, so that the other threads come meanwhile
        return number

    from concurrent.futures import ThreadPoolExecutor

    def one(backend):
        with rt.Session(backend=backend):
            return rt.call_sync(slow, 7)

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(one, ["asyncio", "trio"] * 2)] == [7] * 4
    assert runs == [7]


async def test_a_run_is_suspended_while_calls_wait_for_an_equal_one():
    @rt.function_node(cache=True, key="asks")
    async def asks(topic: str) -> str:
        return str(await rt.receive(topic))

    @rt.function_node(key="asking")
    async def asking() -> list[str]:
        return await rt.call_batch(asks, ["a"] * 3, return_exceptions=False)

    with pytest.raises(rt.exceptions.RunSuspended):
        async with rt.Session(run_identifier="r", suspend=True, timeout=100):
            await rt.call(asking)
    rt.state.send("r", "a", "yes")
    async with rt.Session(run_identifier="r", if_exists="resume", suspend=True, timeout=100):
        assert await rt.call(asking) == ["yes"] * 3


async def test_a_call_that_waits_is_shown_as_waiting():
    @rt.function_node(cache=True)
    async def slow(number: int) -> int:
        await anyio.sleep(5)
        return number

    async with rt.Session() as session:
        first = session.start_soon(slow, 1)
        await anyio.sleep(1)
        second = session.start_soon(slow, 1)
        await anyio.sleep(1)
        assert "Open (waiting for an equal call)" in str(session.info)
        third = session.start_soon(slow, 1)
        await anyio.sleep(1)
        third.cancel()
        await first.wait()
        await second.wait()
    assert "waiting" not in str(session.info).splitlines()[2]
    assert "Cancelled (handle, waiting for an equal call)" in str(session.info)
    assert [r.policy.waited for r in session.info.records[1:]] == [pytest.approx(4), pytest.approx(1)]
