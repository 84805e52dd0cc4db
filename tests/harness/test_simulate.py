"""``simulate``: the same story for the same seed, other interleavings for other seeds, and what an outcome has."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import anyio
import pytest
import trio

import railtracks as rt
from railtracks.exceptions import ConfigError, GlobalTimeOutError, NodeCreationError, SessionError
from railtracks.state import Status
from railtracks.testing import Deadlock, Livelock, check, simulate
from railtracks.testing.faults import Delay, Fault
from railtracks.testing.trees import (
    Batch,
    Broadcast,
    Nested,
    Parallel,
    Put,
    Race,
    Raise,
    Retry,
    Return,
    Sequence,
    Shield,
    Sleep,
    Swallow,
    Thread,
    Timeout,
    Try,
)

ROOT = Path(__file__).parents[2]

FLOW = Sequence(
    Parallel(Put("a", 1), Sleep(2), Thread(1), Thread(2), Broadcast({"x", "y", "z"})),
    Try(Raise("x")),
    Race(Sleep(1), Sleep(1), Thread(1)),
    Batch(Return(1), Swallow(2), Thread(1), limit=2),
    Nested(Try(Timeout(Shield(2), 1.5)), timeout=20),
    Retry(Return(object)),
)
FAULTS = [Fault(None, Delay(1), probability=0.3)]

DIGESTS = {
    "asyncio": "5d42ed09e7a6baffe5ce0662b52f0e4bd521e0a237582455ba588c7d250ef248",
    "trio": "c2e2c25a5a1e67e57a2080f2a7d3e792b3c954398c84a3c488b1ac92e692dfff",
}
"""The digests of ``stories``. If the runtime schedules differently than before, write the new ones here."""


def stories(backend):
    return "\n".join(simulate(FLOW, seed=seed, backend=backend, faults=FAULTS).story for seed in range(3))


# ---- determinism


def test_the_same_seed_has_the_same_story_byte_for_byte(backend):
    assert stories(backend) == stories(backend)


def test_the_story_is_the_same_on_every_python_and_machine(backend):
    assert hashlib.sha256(stories(backend).encode()).hexdigest() == DIGESTS[backend]


@pytest.mark.parametrize("hash_seed", ["1", "4294967295"])
def test_the_story_is_the_same_in_every_process(backend, hash_seed):
    program = f"import sys; from tests.harness.test_simulate import stories; sys.stdout.write(stories({backend!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.decode() == stories(backend)


def test_it_does_not_depend_on_what_ran_before(backend):
    alone = simulate(FLOW, seed=5, backend=backend).story
    simulate(Parallel(Thread(3), Thread(1)), seed=9, backend=backend)
    assert simulate(FLOW, seed=5, backend=backend).story == alone


def test_simulations_in_several_threads_do_not_interfere(backend):
    alone = [simulate(FLOW, seed=seed, backend=backend).story for seed in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda seed: simulate(FLOW, seed=seed, backend=backend).story, range(6)))
    assert together == alone


def test_cancelling_many_tasks_has_the_same_story_too(backend):
    """Event loops cancel them in the order of a set, which depends on addresses."""
    flow = Race(Sleep(1), *[Swallow(3)] * 10, *[Shield(2)] * 5)
    first, *others = [simulate(flow, seed=2, backend=backend).story for _ in range(4)]
    assert all(other == first for other in others)


@pytest.fixture
def hectic():
    """Let threads interrupt each other all the time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_abandoned_before_they_began_are_in_the_story(backend, hectic):
    """The story is the same each time."""

    async def echo(number):
        await anyio.sleep(0)
        return number

    async def flow():
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(rt.call, abs, number)
                for _ in range(3):
                    await anyio.sleep(0)
                scope.cancel()
        return await rt.call_batch(echo, range(8))

    assert len({simulate(flow, seed=1, backend=backend).story for _ in range(40)}) == 1


def test_a_thread_may_hand_over_while_the_next_order_is_made(backend, hectic):
    async def step():
        for _ in range(20):
            await anyio.sleep(0)

    async def flow():
        token, stop = anyio.lowlevel.current_token(), threading.Event()

        def knock():
            while not stop.is_set():
                anyio.from_thread.run_sync(int, token=token)

        threads = [threading.Thread(target=knock) for _ in range(3)]
        for thread in threads:
            thread.start()
        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(step)
        stop.set()
        await anyio.to_thread.run_sync(lambda: [thread.join() for thread in threads])  # type: ignore[func-returns-value]

    for seed in range(5):
        assert simulate(flow, seed=seed, backend=backend).exception is None


def test_a_story_has_no_addresses(backend):
    class Plain:
        pass

    async def node(x):
        raise ValueError(x)

    assert "0x" not in simulate(node, Plain(), backend=backend).story


# ---- interleavings


def lost_update(step):
    async def both():
        counter = {"value": 0}
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(rt.call, step, counter)
        return counter["value"]

    return both


async def async_increment(counter):
    seen = counter["value"]
    await anyio.lowlevel.checkpoint()
    counter["value"] = seen + 1


def sync_increment(counter):
    seen = counter["value"]
    rt.call_sync(anyio.lowlevel.checkpoint)
    counter["value"] = seen + 1


async def first_of_two():
    order = []

    async def come(name):
        order.append(name)

    async with anyio.create_task_group() as group:
        for name in "ab":
            group.start_soon(rt.call, come, name)
    return "".join(order)


async def first_thread_of_two():
    order = []

    def come(name):
        order.append(name)

    async with anyio.create_task_group() as group:
        for name in "ab":
            group.start_soon(rt.call, come, name)
    return "".join(order)


@pytest.mark.parametrize(
    ("flow", "outcomes"),
    [
        (lost_update(async_increment), {1, 2}),
        (lost_update(sync_increment), {1, 2}),
        (first_of_two, {"ab", "ba"}),
        (first_thread_of_two, {"ab", "ba"}),
    ],
    ids=["tasks", "threads", "order of tasks", "order of threads"],
)
def test_both_ends_of_a_race_show_within_twenty_seeds(backend, flow, outcomes):
    seen = [simulate(flow, seed=seed, backend=backend).result for seed in range(20)]
    assert set(seen) == outcomes
    assert seen == [simulate(flow, seed=seed, backend=backend).result for seed in range(20)]


def test_all_orders_of_three_threads_show(backend):
    async def flow():
        order: list[str] = []
        await rt.call_batch(order.append, "abc")
        return "".join(order)

    assert len({simulate(flow, seed=seed, backend=backend).result for seed in range(60)}) == 6


def test_threads_take_turns(backend):
    """With a seed, no two sync nodes are at work at once, so that their race can be repeated."""
    at_work, most = [], []

    def node(_):
        at_work.append(1)
        most.append(len(at_work))
        for _ in range(10_000):  # long enough for Python to switch threads
            most.append(len(at_work))
        at_work.pop()

    outcome = simulate(rt.call_batch, node, range(5), backend=backend)
    assert outcome.exception is None
    assert max(most) == 1


def test_a_waiting_thread_does_not_keep_another_from_its_turn(backend):
    async def flow():
        told = threading.Event()

        async def wait():
            assert await rt.call(told.wait, 20)

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            group.start_soon(rt.call, told.set)

    for seed in range(4):
        assert simulate(flow, seed=seed, backend=backend).exception is None


# ---- what it runs, and how


async def greet(name="you"):
    await rt.broadcast("hello")
    rt.context.put("greeted", name)
    return f"{rt.context.get('greeting', 'Hi')}, {name}"


def test_a_flow_with_its_options_and_its_context(backend):
    heard: list[str] = []
    flow = rt.Flow("Greeting", greet, context={"greeting": "Hello"}, timeout=7, broadcast_callback=heard.append)
    outcome = simulate(flow, "Ada", backend=backend)
    check(outcome)
    assert outcome.result == "Hello, Ada"
    assert outcome.config.timeout == 7
    assert heard == ["hello"]
    assert outcome.info.payload()["flow_name"] == "Greeting"
    assert flow._context == {"greeting": "Hello"}


def test_an_argument_comes_before_the_options_of_the_flow(backend):
    flow = rt.Flow("Greeting", greet, context={"greeting": "Hello"}, timeout=7)
    outcome = simulate(flow, backend=backend, timeout=9, context={"greeting": "Ahoy"}, name="mine")
    assert outcome.result == "Ahoy, you"
    assert outcome.config.timeout == 9
    assert outcome.info.session_name == "mine"


def test_session_options_of_a_node(backend):
    outcome = simulate(greet, "Ada", backend=backend, context={"greeting": "Ahoy"}, run_identifier="mine", timeout=9)
    assert outcome.result == "Ahoy, Ada"
    assert outcome.info.session_id == "mine"
    assert outcome.store.exists("mine")


def test_anything_that_can_be_called_as_a_node(backend):
    class Double(rt.nodes.Node):
        def __init__(self, x):
            self.x = x

        async def invoke(self):
            return 2 * self.x

    assert simulate(Double, 2, backend=backend).result == 4
    assert simulate(rt.function_node(len), "four", backend=backend).result == 4
    assert simulate(len, "four", backend=backend).result == 4


def test_a_session_that_ends_at_its_first_error(backend):
    outcome = simulate(Sequence(Try(Raise("first"))), backend=backend, end_on_error=True)
    check(outcome)
    assert str(outcome.exception) == "first"


def test_nothing_is_written_to_the_disk(backend, tmp_path):
    async def outer():
        async with rt.Session(name="inner"):
            await rt.call(greet)
        await rt.Flow("Inner", greet).ainvoke()
        return sorted(os.listdir())

    outcome = simulate(outer, backend=backend)
    assert outcome.result == []
    assert not list(tmp_path.iterdir())
    assert [each.info.session_name for each in outcome.sessions] == [None, "inner", None]
    assert all(each.saved == each.info for each in outcome.sessions)


def test_unless_a_store_says_so(backend, tmp_path):
    outcome = simulate(greet, backend=backend, store=rt.state.FileStore(tmp_path / "kept"))
    check(outcome)
    assert (tmp_path / "kept" / "s0.json").exists()


def test_a_second_run_in_one_store_gets_an_identifier_of_its_own(backend):
    store = rt.state.MemoryStore()
    first, second = (simulate(greet, backend=backend, store=store) for _ in range(2))
    assert first.info.session_id != second.info.session_id


def test_nothing_is_logged(backend, capfd, caplog):
    caplog.set_level(logging.DEBUG)

    async def outer():
        async with rt.Session():
            await rt.call(greet)
        raise ValueError

    simulate(outer, backend=backend)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("RT")]


def test_nothing_is_said_whatever_flows_say(backend, capfd, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    options = {"logging_setting": "VERBOSE", "log_file": "flow.log", "progress": True, "backend": backend}
    inner = rt.Flow("Inner", Try(Raise("x")), **options)

    async def outer():
        await rt.call_batch(rt.call, [inner, inner], progress="flows")
        async with rt.Session(logging_setting="VERBOSE", log_file="session.log", progress=True):
            await rt.call(greet)

    simulate(rt.Flow("Outer", outer, **options)).unwrap()
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("RT")]
    assert list(tmp_path.iterdir()) == []


def test_unless_it_is_asked_for(backend, caplog, tmp_path):
    path = tmp_path / "run.log"
    flow = rt.Flow("Greet", greet, logging_setting="NONE", backend=backend)
    simulate(flow, logging_setting="VERBOSE", log_file=path)
    assert "greet DONE" in caplog.text
    assert "greet DONE" in path.read_text()


# ---- what came of it


def test_the_outcome_of_a_run_that_returns(backend):
    outcome = simulate(Sequence(Sleep(2), Put("k", 1)), seed=4, backend=backend)
    assert (outcome.result, outcome.exception, outcome.duration) == ([2, 1], None, 2)
    assert (outcome.seed, outcome.backend, outcome.was_cancelled) == (4, backend, False)
    assert outcome.left_running == ()
    assert [record.name for record in outcome.info.records] == ["Sequence", "Sleep", "Put"]
    assert [(e.time, e.who, e.what) for e in outcome.trace] == [
        (0, "s0", "opened"), (0, "s0.0 Sequence", "created"), (0, "s0.1 Sleep", "created"),
        (2, "s0.1 Sleep", "completed"), (2, "s0.2 Put", "created"), (2, "s0.2 Put", "put"),
        (2, "s0.2 Put", "completed"), (2, "s0.0 Sequence", "completed"), (2, "s0", "closed"),
    ]  # fmt: skip
    assert outcome.end == "returned [2, 1]"
    assert all(line in str(outcome) for line in outcome.story.splitlines())
    assert outcome.tree in str(outcome)
    assert "└─ Put()  Completed" in outcome.tree


def test_the_outcome_of_a_run_that_raises_has_the_same_exception(backend):
    error = ValueError("mine")

    async def node():
        raise error

    outcome = simulate(node, backend=backend)
    assert outcome.exception is error
    assert outcome.result is None
    assert outcome.end == "raised ValueError: mine"


def test_the_outcome_of_a_run_that_takes_too_long(backend):
    outcome = simulate(Sleep(10), backend=backend, timeout=3)
    assert isinstance(outcome.exception, GlobalTimeOutError)
    assert outcome.duration == 3


def test_the_outcome_of_a_run_that_hangs_for_ever(backend):
    async def node():
        await anyio.Event().wait()

    outcome = simulate(node, backend=backend, timeout=float("inf"))
    assert isinstance(outcome.exception, Deadlock)
    assert "node (test_simulate.py:" in str(outcome.exception)
    assert outcome.info.records[0].status is Status.CANCELLED


def test_the_outcome_of_a_run_that_spins_for_ever(backend):
    async def spins():
        while True:
            await anyio.sleep(0)

    async def node():
        await rt.call(Sleep(1))
        await rt.call(spins)

    outcome = simulate(node, backend=backend, max_steps=10_000, timeout=5)
    assert isinstance(outcome.exception, Livelock)
    assert outcome.end == "ran for ever without time passing (Livelock)"
    assert outcome.duration == 1
    assert [record.status for record in outcome.info.records] == [
        Status.CANCELLED,
        Status.COMPLETED,
        Status.CANCELLED,
    ]
    assert outcome.sessions[0].saved == outcome.info
    assert "the run                  hangs     at 1 s of virtual time tasks run on and on" in outcome.story
    assert "spins (test_simulate.py:" in str(outcome)  # where it was cancelled
    assert "max_steps=10000" in outcome.code
    assert simulate(node, backend=backend, max_steps=10_000, timeout=5).story == outcome.story


def test_the_outcome_of_a_run_that_spins_and_cannot_be_cancelled(backend):
    async def node():
        await rt.call(Sleep(1))
        while True:
            with contextlib.suppress(BaseException):
                await anyio.sleep(0)

    outcome = simulate(node, backend=backend, max_steps=10_000)
    assert isinstance(outcome.exception, Livelock)
    assert outcome.duration == 1
    assert [record.status for record in outcome.info.records] == [Status.OPEN, Status.COMPLETED]
    assert outcome.left_running == ("the session s0",)


def test_calls_that_go_on_for_ever_spin_too(backend):
    @rt.function_node
    def is_ready():
        return False

    async def node():
        while not await rt.call(is_ready):
            pass

    outcome = simulate(node, backend=backend, max_steps=10_000)
    assert isinstance(outcome.exception, Livelock)
    assert outcome.exception.running == [mock.ANY]
    assert outcome.exception.running[0].startswith("node (test_simulate.py:")


def test_threads_that_tasks_spin_for_get_their_turns(backend):
    """They get them when no task can run, and here one always can."""

    @rt.function_node
    def step(number):
        return number

    async def node():
        results = []

        async def steps():
            for number in range(30):
                results.append(await rt.call(step, number))

        async with anyio.create_task_group() as group:
            group.start_soon(steps)
            while len(results) < 30:
                await anyio.sleep(0)

    outcome = simulate(node, backend=backend, max_steps=10_000)
    assert outcome.exception is None
    assert simulate(node, backend=backend, max_steps=10_000).story == outcome.story


def test_its_code_makes_the_same_outcome_again(backend):
    tree = Race(Sleep(1), Raise("x"), Thread(1))
    outcome = simulate(tree, seed=3, backend=backend, faults=FAULTS, timeout=9)
    names = {name: globals()[name] for name in ("simulate", "Race", "Sleep", "Raise", "Thread", "Fault", "Delay")}
    assert eval(outcome.code, names).story == outcome.story


@pytest.mark.parametrize("schedule", ["shuffled", "priorities", "late timers"])
def test_an_outcome_keeps_no_task_of_its_run(backend, schedule):
    tasks = []

    async def leaf(number):
        task = asyncio.current_task() if backend == "asyncio" else trio.lowlevel.current_task()
        tasks.append(weakref.ref(task))
        with anyio.move_on_after(number):
            await anyio.sleep(2)

    async def flow():
        await rt.call_batch(leaf, range(4))

    outcomes = [simulate(flow, seed=seed, backend=backend, schedule=schedule) for seed in range(5)]
    gc.collect()
    assert len(tasks) == 4 * len(outcomes)
    assert [task for task in tasks if task() is not None] == []


def test_an_outcome_says_which_calls_had_one_task(backend):
    async def leaf():
        pass

    async def flow():
        await rt.call(leaf)
        await rt.call_batch(leaf, [()])

    calls = simulate(flow, backend=backend).calls
    flow_task, leaf_task, item_task = (calls["s0", index].task for index in range(3))
    assert flow_task is leaf_task
    assert item_task is not leaf_task


def test_a_task_that_is_left_behind_is_reported(backend):
    started = []

    async def node():
        if backend == "trio":
            import trio

            trio.lowlevel.spawn_system_task(anyio.sleep, 5)
        else:
            import asyncio

            started.append(asyncio.create_task(asyncio.sleep(5)))

    outcome = simulate(node, backend=backend)
    if backend == "asyncio":
        assert len(outcome.left_running) == 1
        with pytest.raises(AssertionError, match="left behind: a task that waits in"):
            check(outcome)


def test_a_thread_that_is_left_behind_is_reported(backend):
    stop = threading.Event()

    async def node():
        threading.Thread(target=stop.wait, args=(10,), name="stray").start()

    try:
        assert simulate(node, backend=backend).left_running == ("the thread stray",)
    finally:
        stop.set()


# ---- misuse


@pytest.mark.parametrize("seed", ["1", 1.0, None, True])
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(ConfigError, match=f"seed is {seed!r}; use a whole number"):
        simulate(greet, seed=seed)


def test_any_whole_number_is_a_seed(backend):
    for seed in (-1, 2**200):
        assert simulate(greet, seed=seed, backend=backend).result == "Hi, you"


def test_a_backend_that_there_is_not():
    with pytest.raises(ConfigError, match="backend is 'curio'; use 'asyncio' or 'trio'"):
        simulate(greet, backend="curio")


@pytest.mark.parametrize(
    ("faults", "text"),
    [
        (Fault("a", Delay(1)), r"faults is one fault, .*; use a list: faults=\[Fault\('a', Delay\(1\)\)\]"),
        ([Delay(1)], r"faults: Delay\(1\) is not a fault; write Fault\('node', Delay\(1\)\)"),
        (["greet"], "faults: 'greet' is not a fault"),
        (3, "faults"),
        (None, "faults"),
    ],
    ids=repr,
)
def test_a_wrong_plan_is_refused(faults, text):
    with pytest.raises(ConfigError, match=text):
        simulate(greet, faults=faults)


def test_an_option_that_there_is_not():
    with pytest.raises((ConfigError, TypeError), match="timeot"):
        simulate(greet, timeot=3)


def test_a_target_that_is_not_a_node_is_refused():
    with pytest.raises(NodeCreationError):
        simulate(3)  # type: ignore[arg-type]


async def test_it_blocks_and_so_is_not_for_event_loops():
    with pytest.raises(SessionError, match="call this from a plain `def`"):
        simulate(greet)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupts_come_out_plain(backend, kind):
    async def node():
        raise kind

    with pytest.raises(kind) as raised:
        simulate(node, backend=backend)
    assert type(raised.value) is kind
