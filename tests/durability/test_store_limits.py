"""Limits that several processes share through a store."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks._concurrency._background import wait_for_pending
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import LimitExceededError, StateError
from railtracks.state._stores._limits import find_limit_store
from railtracks.state._stores._settings import resolve_store
from tests import postgres, virtual
from tests.effort import examples
from tests.test_limits import Meter, assert_nothing_is_taken, shared

PROGRAM = """
import os, sys, time
import anyio
import railtracks as rt

backend, limit, count, seconds = sys.argv[1], eval(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
store = sys.argv[5]

@rt.function_node(limit=limit)
async def work(n):
    mark = f"running/{os.getpid()}-{n}"
    open(mark, "w").close()
    print(len(os.listdir("running")), time.time(), flush=True)
    await anyio.sleep(seconds)
    os.remove(mark)

async def main():
    async with rt.Session(store=store, timeout=60):
        print("ready", flush=True)
        sys.stdin.readline()
        await rt.call_batch(work, range(count), return_exceptions=False)

anyio.run(main, backend=backend)
"""


class Program:
    """A process that makes calls of a limit, once it is let."""

    def __init__(self, store, backend, limit, count, seconds):
        os.makedirs("running", exist_ok=True)
        command = [sys.executable, "-c", PROGRAM, backend, limit, str(count), str(seconds), store]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def begin(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def call(self):
        """Return how many calls ran in all processes when the next one began, and when that was."""
        running, began = self.process.stdout.readline().split()
        return int(running), float(began)

    def calls(self):
        lines = self.process.communicate(timeout=30)[0].split("\n")
        assert self.process.returncode == 0
        return [(int(line.split()[0]), float(line.split()[1])) for line in lines if line]


@pytest.fixture(params=["sqlite", postgres.POSTGRES])
def kind(request):
    return request.param


@pytest.fixture
def place(kind):
    """The store, as text."""
    return postgres.url_of(Path.cwd()) if kind == "postgres" else "sqlite:runs.db"


@pytest.fixture
def store(place):
    return resolve_store(place)


def taken_slots(store):
    wait_for_pending()
    if isinstance(store, rt.state.PostgresStore):
        return [name for name in store.all_locked() if name.startswith("limit+")]
    return [name for name in os.listdir() if ".limit+" in name]


@pytest.fixture
def programs(place):
    started = []

    def start(*args):
        started.append(Program(place, *args))
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()


# ---- several processes


@pytest.mark.either_backend
def test_processes_share_how_many_calls_run_at_once(backend, programs, store):
    both = [programs(backend, "rt.Limit('api', concurrency=2)", 12, 0.01) for _ in range(2)]
    for each in both:
        each.begin()
    found = [running for each in both for running, _ in each.calls()]
    assert len(found) == 24
    assert max(found) == 2
    assert taken_slots(store) == []


@pytest.mark.either_backend
def test_killed_process_frees_its_slots_at_once(backend, programs):
    limit = "rt.Limit('api', concurrency=2)"
    holder, waiter = programs(backend, limit, 2, 1000), programs(backend, limit, 2, 0)
    holder.begin()
    holder.call()
    holder.call()
    waiter.begin()
    time.sleep(0.1)  # real: a call that need not wait would have begun by now
    os.kill(holder.process.pid, signal.SIGKILL)
    killed = time.time()
    assert min(began for _, began in waiter.calls()) >= killed - 0.001
    assert time.time() - killed < 10


@pytest.mark.slow
@pytest.mark.either_backend
def test_processes_share_a_rate(backend, programs):
    both = [programs(backend, "rt.Limit('api', rate='4/s')", 5, 0) for _ in range(2)]
    for each in both:
        each.begin()
    began = sorted(began for each in both for _, began in each.calls())
    assert len(began) == 10
    for first, fifth in zip(began, began[4:], strict=False):
        assert fifth - first > 0.9  # a call begins some time after it was counted
    assert began[-1] - began[0] < 10


# ---- one process


async def test_limit_holds_in_a_session_with_such_a_store(store):
    meter = Meter()
    node = meter.node(limit=shared(concurrency=2))
    async with rt.Session(store=store) as session:
        await rt.call_batch(node, range(5))
    assert meter.most == 2
    assert_nothing_is_taken(session)
    assert taken_slots(store) == []


async def test_sessions_with_and_without_such_a_store_share_a_limit(store):
    meter = Meter()
    node = meter.node(limit=shared(concurrency=2))

    async def run(**options):
        async with rt.Session(**options):
            await rt.call_batch(node, range(4))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        group.start_soon(lambda: run(store=store))
        group.start_soon(lambda: run(store="sqlite:others.db"))
    assert meter.most == 2
    assert taken_slots(store) == []


async def test_slot_of_another_process_is_waited_for(store):
    meter = Meter()
    other = store.take_slot("api", 1)
    async with rt.Session(store=store) as session, anyio.create_task_group() as group:
        group.start_soon(rt.call, meter.node(limit=shared(concurrency=1)))
        await anyio.sleep(5)
        assert "waiting for limit api" in str(session.info)
        assert meter.begun == []
        other.release()
    assert 5 <= session.info.records[0].policy.waited < 6


async def test_very_long_wait_for_another_process_is_warned_of(caplog, store):
    other = store.take_slot("api", 1)
    async with rt.Session(store=store), anyio.create_task_group() as group:
        group.start_soon(rt.call, Meter().node(limit=shared(concurrency=1)))
        await anyio.sleep(130)
        other.release()
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("measured has waited 60 s for its turn: rt.Limit('api', concurrency=1)")
    assert warning.endswith("what runs is calls of other processes")


async def test_call_fails_if_it_may_not_wait_for_another_process(store):
    meter = Meter()
    other = store.take_slot("api", 1)
    async with rt.Session(store=store) as session:
        for wait in (False, 3):
            with pytest.raises(LimitExceededError):
                await rt.call(meter.node(limit=shared(concurrency=1, wait=wait)))
    other.release()
    assert_nothing_is_taken(session)
    assert taken_slots(store) == []


async def test_nested_calls_take_over_the_slot_in_the_store(store):
    @rt.function_node(limit=shared(concurrency=1))
    async def count(n):
        if n == 0:
            return 1
        return sum(await rt.call_batch(count, [n - 1, n - 1], return_exceptions=False))

    async with rt.Session(store=store) as session:
        assert await rt.call(count, 3) == 8
    assert_nothing_is_taken(session)
    assert taken_slots(store) == []


async def test_rate_is_kept_in_the_store(store):
    """Also for what comes later, as another process would."""
    meter = Meter(seconds=0)
    node = meter.node(limit=shared(rate="2/10s"))
    async with rt.Session(store=store):
        await rt.call_batch(node, range(3))
    assert [round(each) for each in meter.times] == [0, 0, 10]
    now = runtime_hooks.get().wall() + 0.1  # a moment later than the first two, by any clock
    assert round(store.take_rate("api", 2, 10, lambda: now)) == 0
    assert round(store.take_rate("api", 2, 10, lambda: now)) == 10


async def test_rate_of_another_process_is_waited_for(store):
    meter = Meter(seconds=0)
    assert store.take_rate("api", 1, 10, runtime_hooks.get().wall) == 0
    async with rt.Session(store=store) as session:
        await rt.call(meter.node(limit=shared(rate="1/10s")))
        with pytest.raises(LimitExceededError):
            await rt.call(meter.node(limit=shared(rate="1/10s", wait=False)))
    assert session.info.records[0].policy.waited == pytest.approx(10, abs=0.1)


async def in_order(node, count):
    """Call a node, each time a moment later."""
    async with anyio.create_task_group() as group:
        for item in range(count):
            group.start_soon(rt.call, node, item)
            await anyio.sleep(0.001)


@pytest.mark.parametrize("options", [{"rate": "2/s"}, {"concurrency": 2, "rate": "3/s"}, {"concurrency": 2}])
async def test_calls_of_a_process_begin_in_their_order(store, options):
    """Also while the first of them finds that another process was quicker."""
    meter = Meter(seconds=0.01)
    node = meter.node(limit=shared(**options))
    others = [store.take_slot("api", 2) for _ in range(2) if options.get("concurrency")]
    for _ in range(3):
        if "rate" in options:
            store.take_rate("api", *shared(**options).per_period, runtime_hooks.get().wall)
    async with rt.Session(store=store) as session, anyio.create_task_group() as group:
        group.start_soon(rt.call_batch, node, range(12))
        await anyio.sleep(1)
        for other in others:
            other.release()
    expected = [record.args[0] for record in session.info.records]
    # Those that get their slots in the same moment may begin in any order.
    assert all(abs(meter.order.index(each) - expected.index(each)) < 2 for each in expected)


async def test_calls_wait_for_another_process_in_their_order(store):
    """The slots become free one by one, at any moment between two questions."""
    meter = Meter(seconds=100)
    others = [store.take_slot("api", 5) for _ in range(5)]
    async with rt.Session(store=store, timeout=math.inf), anyio.create_task_group() as group:
        group.start_soon(in_order, meter.node(limit=shared(concurrency=5)), 5)
        for other in others:
            await anyio.sleep(0.7)
            other.release()
    assert meter.order == [*range(5)]


async def test_waits_for_another_process_are_warned_of_once(caplog, store):
    other = store.take_slot("api", 3)
    more = [store.take_slot("api", 3) for _ in range(2)]
    async with rt.Session(store=store, timeout=math.inf), anyio.create_task_group() as group:
        group.start_soon(in_order, Meter(seconds=200).node(limit=shared(concurrency=3)), 3)
        await anyio.sleep(130)
        other.release()
        await anyio.sleep(130)
        for each in more:
            each.release()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1


@settings(examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])  # all use one store
@given(
    total=st.integers(1, 3),
    calls=st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0.5, 1, 3, math.inf])), max_size=8),
    rate=st.sampled_from([None, "2/s"]),
)
def test_cancelled_calls_leave_no_slot_taken(backend, total, calls, rate, store):
    meter = Meter()

    async def call(node, begin, patience):
        await anyio.sleep(begin)
        with anyio.move_on_after(patience):
            await rt.call(node)

    async def main():
        node = meter.node(limit=shared(concurrency=total, rate=rate))
        async with rt.Session(store=store, timeout=math.inf) as session, anyio.create_task_group() as group:
            for begin, patience in calls:
                group.start_soon(call, node, begin, patience)
        if session._coordinator.limits is not None:
            assert_nothing_is_taken(session)

    virtual.run(backend, main)
    assert meter.most <= total
    assert taken_slots(store) == []


async def test_failing_store_fails_the_call_and_says_so(monkeypatch, store):
    def fail(self, name, total):
        raise OSError("no space left")

    monkeypatch.setattr(type(store), "take_slot", fail)
    async with rt.Session(store=store) as session:
        with pytest.raises(
            StateError, match=r"the limit 'api' cannot be kept in .*(runs\.db|schema t_\w+\)): no space left"
        ):
            await rt.call(Meter().node(limit=shared(concurrency=1)))
    assert_nothing_is_taken(session)


# ---- the store


def test_slots_of_two_limits_are_apart(store):
    first, second = store.take_slot("a", 1), store.take_slot("b", 1)
    assert first is not None
    assert second is not None
    assert store.take_slot("a", 1) is None
    first.release()
    again = store.take_slot("a", 1)
    assert again is not None
    again.release()
    second.release()


def test_clock_that_was_set_back_does_not_stop_calls(store):
    assert store.take_rate("api", 1, 10, lambda: 1_000_000) == 0
    assert store.take_rate("api", 1, 10, lambda: 1_000) == 0
    assert store.take_rate("api", 1, 10, lambda: 1_004) == pytest.approx(6, abs=0.1)


def test_clock_of_another_process_may_be_ahead(store):
    assert store.take_rate("api", 1, 10, lambda: 1_003) == 0
    assert store.take_rate("api", 1, 10, lambda: 1_000) == pytest.approx(13, abs=0.1)


def test_beginning_that_did_not_come_about_is_taken_back(store):
    assert store.take_rate("api", 1, 10, lambda: 5) == 0
    store.give_back_rate("api")
    assert store.take_rate("api", 1, 10, lambda: 5) == 0


def test_other_stores_keep_no_limits():
    assert find_limit_store(rt.state.FileStore("runs")) is None
