"""``--railtracks-leaks``: tests that leave something behind fail."""

from __future__ import annotations

import re

from tests.harness.suites import QUIET


def left_behind(result):
    """Return what each test left behind, as --railtracks-leaks reports it."""
    lines = [line for line in result.outlines if " left behind: " in line and not line.startswith("ERROR")]
    return dict(line.split(" left behind: ") for line in lines)


LEAKS = f"""
async def forgotten():
    await asyncio.sleep(1000)

@pytest.fixture(scope="module")
def later():
    "Ended when all tests are over."
    events = []
    yield events
    for event in events:
        event.set()

def stray(ended):
    threading.Thread(target=ended.wait, args=(20,), name="stray").start()

def test_session():
    async def main():
        await rt.Session(name="unended", {QUIET}).__aenter__()
    asyncio.run(main())

def test_task():
    async def main():
        main.task = asyncio.create_task(forgotten())
        await asyncio.sleep(0)
    asyncio.run(main())

def test_thread(later):
    ended = threading.Event()
    later.append(ended)
    stray(ended)

@pytest.mark.parametrize("rt_backend", ["asyncio"], scope="module")
async def test_task_beside_a_session(rt_session, later):
    later.append(type("", (), dict(task=asyncio.create_task(forgotten()), set=lambda self: None))())
    await asyncio.sleep(0)
"""


def test_what_a_test_leaves_behind_fails_it(suite):
    result = suite(LEAKS, "--railtracks-leaks")
    result.assert_outcomes(passed=4, errors=4)
    left = left_behind(result)
    assert left.pop("test_session") == "the session unended"
    assert left.pop("test_thread") == "the thread stray"
    assert re.fullmatch(r"a task that waits in forgotten \(test_it\.py:\d+\)", left.pop("test_task"))
    assert left.pop("test_task_beside_a_session[asyncio]").startswith("a task that waits in forgotten (test_it.py:")
    assert not left


def test_a_task_that_is_left_is_reported_once(suite):
    left = left_behind(suite(LEAKS, "--railtracks-leaks", "-k", "beside"))
    assert left["test_task_beside_a_session[asyncio]"].count("forgotten") == 1


def test_without_the_option_nothing_of_it_fails(suite):
    suite(LEAKS).assert_outcomes(passed=4)


def test_what_is_cleaned_up_in_time_is_not_a_leak(suite):
    result = suite(
        f"""
        from concurrent.futures import ThreadPoolExecutor

        @pytest.fixture
        def opened():
            session = rt.Session({QUIET})
            yield session
            session.__exit__(None, None, None)

        @pytest.fixture
        def ended():
            event = threading.Event()
            yield event
            event.set()

        def test_session(opened):
            opened.__enter__()
            assert rt.call_sync(child, 0) == 0

        def test_thread(ended):
            threading.Thread(target=ended.wait, args=(20,)).start()

        def test_pools():
            async def work():
                await anyio.to_thread.run_sync(threading.get_ident)
            anyio.run(work)
            anyio.run(work, backend="trio")
            test_pools.pool = ThreadPoolExecutor(1)
            test_pools.pool.submit(threading.get_ident).result()

        @rt.function_node
        def in_thread():
            return threading.get_ident()

        async def test_ours(rt_session):
            assert await rt.call(in_thread) != threading.get_ident()
            rt_session.start_soon(child, 5)

        def test_invoke():
            assert rt.Flow("flow", parent, {QUIET}).invoke(0) == [0]

        def test_simulated(simulated):
            simulated(in_thread)

        async def test_awaited(virtual_clock, rt_backend):
            if rt_backend == "asyncio":
                task = asyncio.create_task(asyncio.sleep(5))
                task.add_done_callback(lambda _: None)
                await task
        """,
        "--railtracks-leaks",
    )
    result.assert_outcomes(passed=10)


def test_a_failing_test_that_leaves_something_reports_both(suite):
    result = suite(LEAKS.replace("    stray(ended)", "    stray(ended)\n    assert 0"), "--railtracks-leaks")
    result.assert_outcomes(passed=3, failed=1, errors=4)
