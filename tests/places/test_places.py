"""Nodes at all places: results, records, context, broadcasts and errors are the same wherever they run."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, ContextError, RemoteError, SessionError, TransferError, WorkerLostError
from railtracks.state import ExecutionInfo, Status
from railtracks.testing import check, simulate
from tests.places import nodes
from tests.places.helpers import at, place_attributes, shape_of

EVERYWHERE = ["thread", "pool", "process"]
REMOTE = ["pool", "process"]


def run(backend, func):
    """Run a test in real time: worker processes do their work in it."""
    return anyio.run(func, backend=backend)


@asynccontextmanager
async def session(**options):
    with ThreadPoolExecutor(2) as pool:
        async with rt.Session(executors={"pool": pool}, **options) as opened:
            yield opened


async def run_flow(where, save_state=True):
    items = []
    options = {"context": {"offset": 5}, "broadcast_callback": items.append, "save_state": save_state}
    async with session(name=f"at-{where}", **options) as opened:
        one = await rt.call(at(nodes.work, where), 3)
        two = await rt.call(at(nodes.work_async, where), 4)
    return (one, two), opened, sorted(map(str, items))


@pytest.mark.parametrize("where", EVERYWHERE)
@pytest.mark.parametrize("save_state", [True, False])
def test_a_flow_does_the_same_at_each_place(where, save_state, backend):
    async def main():
        plain, moved = await run_flow(None, save_state), await run_flow(where, save_state)
        assert plain[0] == moved[0]
        assert plain[2] == moved[2]
        assert plain[1].context == moved[1].context
        is_exact = save_state  # the texts of values are not made otherwise
        assert shape_of(plain[1].info, is_exact) == shape_of(moved[1].info, is_exact)

    run(backend, main)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_what_a_worker_did_is_in_the_state_file(where, backend):
    async def main():
        _, opened, _ = await run_flow(where)
        loaded = ExecutionInfo.load(f".railtracks/at-{where}.json")
        assert shape_of(loaded) == shape_of(opened.info)
        assert [record.index for record in loaded.records] == list(range(len(loaded.records)))
        steps = sorted(s for r in loaded.records for s in (r.started_step, r.ended_step or -1))
        assert steps == list(range(2 * len(loaded.records)))
        for record in loaded.records:
            if record.parent is not None:
                parent = loaded.records[record.parent]
                assert record.ended is not None
                assert parent.ended is not None
                assert parent.started <= record.started <= record.ended <= parent.ended

    run(backend, main)


@pytest.mark.parametrize("where", REMOTE)
def test_the_record_says_where_a_call_ran(where, backend):
    async def main():
        async with session(name="place") as opened:
            pid, _, _ = await rt.call(at(nodes.where_am_i, where))
        record = ExecutionInfo.load(".railtracks/place.json").records[0]
        place = place_attributes(record)
        assert (place["place"], place["process"]) == (where, pid)
        assert f"process {pid}" in str(opened.info)
        assert (pid == os.getpid()) is (where == "pool")

    run(backend, main)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_calls_in_a_worker_run_in_the_slot_of_their_caller(where, backend):
    limit = rt.Limit(f"own-{where}-{backend}", concurrency=1)

    @rt.function_node(limit=limit)
    async def inner(x):
        await anyio.sleep(0.001)
        return x

    @rt.function_node(limit=rt.Limit(limit.name, concurrency=1))
    async def outer(x):
        return await rt.call_batch(inner, [x, x + 1], return_exceptions=False)

    async def main():
        async with session(timeout=20):
            assert await rt.call_batch(at(outer, where), [1, 5]) == [[1, 2], [5, 6]]

    run(backend, main)


def test_a_sync_node_in_task_runs_in_the_event_loop_thread(backend):
    async def main():
        async with rt.Session():
            here = await rt.call(nodes.where_am_i_async)
            assert (await rt.call(at(nodes.where_am_i, "task")))[2] == here[2]
            assert (await rt.call(at(nodes.where_am_i, "caller")))[2] == here[2]
            assert (await rt.call(at(nodes.where_am_i, "thread")))[2] != here[2]

    run(backend, main)


def test_a_caller_node_runs_in_the_thread_of_call_sync(backend):
    connection = sqlite3.connect(":memory:")

    def query(text):
        return connection.execute(text).fetchone()[0]

    node = at(rt.function_node(query), "caller")
    with rt.Session(backend=backend) as opened:
        assert rt.call_sync(node, "select 42") == 42
        with pytest.raises(sqlite3.OperationalError):
            rt.call_sync(node, "selec")
        assert [record.status for record in opened.info.records] == [Status.COMPLETED, Status.FAILED]
    connection.close()


def test_a_caller_node_of_a_sync_node_runs_in_its_thread(backend):
    inner = at(nodes.where_am_i, "caller")

    @rt.function_node
    def outer():
        return threading.get_ident(), rt.call_sync(inner)[2], rt.call_sync(nodes.where_am_i)[2]

    async def main():
        async with rt.Session() as opened:
            mine, callers, other = await rt.call(outer)
            assert mine == callers != other
        assert [record.parent for record in opened.info.records] == [None, 0, 0]

    run(backend, main)


def test_caller_nodes_nest_in_one_thread(backend):
    inner = at(nodes.where_am_i, "caller")

    @rt.function_node
    def middle():
        return rt.call_sync(inner)[2], rt.call_sync(nodes.add, 1, 2)

    with rt.Session(backend=backend) as opened:
        assert rt.call_sync(at(middle, "caller")) == (threading.get_ident(), 3)
        assert [record.parent for record in opened.info.records] == [None, 0, 0]


def test_an_async_node_in_a_thread_shares_memory(backend):
    @rt.function_node
    async def fill(box, lock):
        with lock:
            box.append(threading.get_ident())
        rt.context.put("box", box)
        return box

    async def main():
        box = []
        async with rt.Session() as opened:
            moved: Any = at(fill, "thread")
            arguments: Any = (box, threading.Lock())
            assert await rt.call(moved, *arguments) is box
            assert opened.context["box"] is box
            assert box != [threading.get_ident()]

    run(backend, main)


def test_an_async_node_in_a_thread_raises_the_same_object(backend):
    error = KeyError("mine")

    @rt.function_node
    async def fail():
        raise error

    async def main():
        async with rt.Session():
            with pytest.raises(KeyError) as caught:
                await rt.call(at(fail, "thread"))
            assert caught.value is error

    run(backend, main)


def test_an_unknown_place_is_an_error_that_names_the_known(backend):
    async def main():
        async with session(name="unknown") as opened:
            with pytest.raises(ConfigError, match=r"'gpu'.*'pool', 'task', 'thread', 'caller', 'process'"):
                await rt.call(at(nodes.double, "gpu"), 1)
            with pytest.raises(ConfigError, match="no place 'processes'; did you mean 'process'"):
                await rt.call(at(nodes.double, "processes"), 1)
        assert opened.info.records[0].status is Status.FAILED

    run(backend, main)


@pytest.mark.parametrize(
    "executors", [3, {"a b": ThreadPoolExecutor}, {"thread": ThreadPoolExecutor}, {"pool": 3}, {1: ThreadPoolExecutor}]
)
def test_executors_that_are_none_are_refused(executors):
    with pytest.raises(ConfigError, match="executors"):
        rt.Session(executors=executors)


@pytest.mark.either_backend
@pytest.mark.parametrize("where", REMOTE)
@pytest.mark.parametrize("node", [nodes.fail_below, nodes.fail_below_async])
def test_a_failure_comes_home_with_its_cause(where, node, backend, caplog):
    kind = ValueError if node is nodes.fail_below else LookupError

    async def main():
        async with session(name="fails", logging_setting="REGULAR") as opened:
            with pytest.raises(kind, match="oh") as caught:
                await rt.call(at(node, where), "oh")
            assert "refuse" in str(caught.value.__cause__)
        outer, inner = opened.info.records
        assert (outer.status, inner.status) == (Status.FAILED, Status.FAILED)
        assert outer.raised_by == (1,)
        lines = [record for record in caplog.records if " FAILED " in record.getMessage()]
        assert [(line.node_id, line.levelno) for line in lines] == [
            ("fails-n1", logging.WARNING),
            ("fails-n0", logging.INFO),
        ]
        assert "raised by refuse" in lines[1].getMessage()

    run(backend, main)


def test_the_log_says_in_which_line_a_worker_failed(backend, caplog):
    async def main():
        async with session():
            with pytest.raises(ValueError, match="refused"):
                await rt.call(at(nodes.refuse, "process"))

    run(backend, main)
    [line] = [record.getMessage() for record in caplog.records if "FAILED" in record.getMessage()]
    assert re.fullmatch(r"refuse FAILED ValueError: refused, line \d+ of nodes.py", line)


def test_a_fatal_error_of_a_worker_ends_the_session(backend):
    async def main():
        async with session() as opened:
            with pytest.raises(rt.exceptions.FatalError, match="the end"):
                await rt.call(at(nodes.end_all, "pool"))
            with pytest.raises(rt.exceptions.SessionEndedError):
                await rt.call(nodes.double, 1)
        assert len(opened.info.records) == 1

    run(backend, main)


def test_what_cannot_be_pickled_is_named(backend):
    async def main():
        async with session():
            with pytest.raises(TransferError, match="argument 1 of double"):
                await rt.call(at(nodes.double, "pool"), threading.Lock())
            with pytest.raises(TransferError, match="return_lock"):
                await rt.call(at(nodes.return_lock, "pool"))
            with pytest.raises(RemoteError, match="odd"):
                await rt.call(at(nodes.raise_odd, "pool"))
            with pytest.raises(TransferError, match="'lock'"):
                await rt.call(at(nodes.put_lock, "pool"))

    run(backend, main)


def test_a_value_that_cannot_be_sent_is_missed_where_it_is_read(backend):
    async def main():
        async with session(context={"lock": threading.Lock(), "offset": 1}):
            assert await rt.call(at(nodes.work, "pool"), 3) == 7
            with pytest.raises(ContextError, match=r"'lock'.*cannot pickle"):
                await rt.call(at(nodes.read_lock, "pool"))

    run(backend, main)


def test_a_call_in_a_worker_knows_what_it_is(backend):
    async def main():
        async with session(name="knows", timeout=100):
            await rt.call(nodes.double, 1)
            outer, inner = await rt.call(at(nodes.describe_call, "pool"))
            assert (outer.session_id, outer.node_id, outer.run_id) == ("knows", "knows-n1", "knows-r1")
            assert (outer.parent_id, outer.name, outer.attempt) == (None, "describe_call", 1)
            assert inner.parent_id == "knows-n1"
            assert inner.run_id == "knows-r1"
            assert 90 < await rt.call(at(nodes.time_left, "pool")) <= 100

    run(backend, main)


def test_secrets_are_masked_in_both_places(backend, caplog):
    async def main():
        async with session(name="secrets", context={"token": "h0me-s3cr3t-value"}, logging_setting="REGULAR") as opened:
            await rt.call(at(nodes.write_secret, "process"))
            assert opened.context["api_key"] == "s3cr3t-0f-the-w0rker"
        written = Path(".railtracks/secrets.json").read_text() + caplog.text + str(opened.info)
        assert "s3cr3t-0f-the-w0rker" not in written
        assert "h0me-s3cr3t-value" not in written
        assert "the key is ***" in written

    run(backend, main)


def test_output_and_logs_of_a_worker_belong_to_its_calls(backend, caplog):
    async def main():
        async with session(name="talks", logging_setting="REGULAR") as opened:
            await rt.call(at(nodes.talk, "process"))
        place = place_attributes(opened.info.records[0])
        assert (place["stdout"], place["stderr"]) == ("to stdout\n", "to stderr\n")
        made = {record.getMessage(): record for record in caplog.records}
        assert made["talk printed: to stdout"].node_id == "talks-n0"
        assert (made["low on tea"].name, made["low on tea"].node_id) == ("shop", "talks-n0")
        assert made["from within"].node_id == "talks-n1"

    run(backend, main)


def test_long_output_is_cut(backend, caplog):
    async def main():
        async with session(logging_setting="REGULAR") as opened:
            await rt.call(at(nodes.print_much, "pool"))
        stdout = place_attributes(opened.info.records[0])["stdout"]
        assert len(stdout) < 10_100
        assert stdout.startswith("[") and stdout.endswith("299\n")
        assert "and 201 more lines" in caplog.text

    run(backend, main)


def test_the_last_change_of_a_key_wins(backend, tmp_path):
    path = tmp_path / "go"

    async def main():
        async with session() as opened:
            async with anyio.create_task_group() as group:
                group.start_soon(rt.call, at(nodes.set_key_when, "pool"), str(path), "worker")
                await anyio.sleep(0.01)
                rt.context.put("key", "home")
                path.touch()
            assert opened.context["key"] == "worker"  # it came later

    run(backend, main)


def test_what_needs_home_is_refused_in_a_worker(backend):
    async def main():
        async with session(ask_callback=lambda question: "me"):
            with pytest.raises((ContextError, SessionError), match=r"worker.*before"):
                await rt.call(at(nodes.ask_there, "pool"))
            with pytest.raises((ContextError, SessionError), match=r"worker.*before"):
                await rt.call(at(nodes.receive_there, "pool"))

    run(backend, main)


@pytest.mark.either_backend
def test_a_worker_that_dies_fails_only_its_call(backend):
    async def main():
        async with session(name="dies") as opened:
            with pytest.raises(WorkerLostError):
                await rt.call(at(nodes.die, "process"))
            assert await rt.call(at(nodes.double, "process"), 4) == 8
        assert [record.status for record in opened.info.records] == [Status.FAILED, Status.COMPLETED]
        assert place_attributes(opened.info.records[0])["place"] == "process"

    run(backend, main)


@pytest.mark.either_backend
@pytest.mark.parametrize("where", ["thread", "process"])
def test_a_timeout_reaches_a_node_elsewhere(where, backend):
    async def main():
        async with session(timeout=1.5 if where == "process" else 0.3) as opened:
            with pytest.raises(rt.exceptions.GlobalTimeOutError):
                await rt.call(at(nodes.sleep_long, where))
        top, *below = opened.info.records
        assert (top.status, top.reason) == (Status.CANCELLED, rt.state.Reason.TIMEOUT)
        assert not top.abandoned
        if where == "thread":  # a process is killed, and what it did is lost
            assert [each.reason for each in below] == [rt.state.Reason.TIMEOUT]

    run(backend, main)


def test_work_that_cannot_be_ended_is_abandoned(backend, tmp_path, caplog):
    path = str(tmp_path / "go")

    async def main():
        async with session(name="left") as opened:
            async with anyio.create_task_group() as group:
                group.start_soon(rt.call, at(nodes.block, "pool"), path)
                while not os.path.exists(f"{path}.begun"):
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
            Path(path).touch()
        record = opened.info.records[0]
        assert (record.status, record.abandoned) == (Status.CANCELLED, True)
        assert "goes on in pool" in caplog.text

    run(backend, main)


@pytest.mark.either_backend
@pytest.mark.parametrize("where", ["thread", *REMOTE])
def test_nested_calls_are_not_done_again_when_resumed(where, backend, tmp_path):
    ran, fails = str(tmp_path / "ran"), str(tmp_path / "fails")
    Path(fails).touch()
    node = at(nodes.steps, where)

    async def main():
        with pytest.raises(RuntimeError, match="not yet"):
            async with session(run_identifier="again"):
                await rt.call(node, ran, fails)
        os.remove(fails)
        async with session(resume="again") as opened:
            assert await rt.call(node, ran, fails) == ["first", "second", "first"]
            assert opened.context["first"] == "first"
        assert Path(ran).read_text().split() == ["first", "second"]
        assert [record.reuse for record in opened.info.records][1:] == ["reused", "reused"]
        assert opened.info.records[0].attempt == 2
        async with session(resume="again") as opened:
            assert await rt.call(node, ran, fails) == ["first", "second", "first"]
        assert [record.reuse for record in opened.info.records] == ["reused"] * 3

    run(backend, main)


@pytest.mark.either_backend
@pytest.mark.parametrize("where", ["thread", *REMOTE])
def test_values_and_flows_in_a_worker_are_the_same_when_resumed(where, backend, tmp_path):
    ran, fails = tmp_path / "ran", tmp_path / "fails"
    fails.touch()
    node = at(nodes.repeat, where)

    async def main():
        with pytest.raises(RuntimeError) as caught:
            async with session(run_identifier="repeats"):
                await rt.call(node, str(ran), str(fails))
        fails.unlink()
        async with session(resume="repeats"):
            values = await rt.call(node, str(ran), str(fails))
        assert values[0] == str(caught.value)
        assert ran.read_text().split() == ["inner", values[0]]

    run(backend, main)


@pytest.mark.either_backend
def test_what_cannot_come_back_fails_the_call_after_the_rest(backend):
    async def main():
        async with session(name="only") as opened:
            with pytest.raises(TransferError, match=r"'only'.*put_only_there.*not here"):
                await rt.call(at(nodes.put_only_there, "process"))
            assert opened.context == {"first": 1, "last": 2}
        assert [each.status for each in opened.info.records] == [Status.FAILED, Status.COMPLETED]

    run(backend, main)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_thread_that_waits_for_a_caller_node_has_no_place(backend, is_async):
    """With one thread in all, what that node calls would wait for ever for the one that waits for it."""

    @rt.function_node(where="caller")
    async def await_it(number):
        return await rt.call(nodes.add, number, 1)

    @rt.function_node(where="caller")
    def call_it(number):
        return rt.call_sync(nodes.add, number, 1)

    @rt.function_node
    def outer(number):
        return rt.call_sync(await_it if is_async else call_it, number)

    async def main():
        async with rt.Session(max_threads=1, timeout=10):
            assert await rt.call_batch(outer, range(5)) == [1, 2, 3, 4, 5]

    run(backend, main)


def test_caller_nodes_in_a_worker_thread_run_one_by_one(backend):
    running, most = [], []

    @rt.function_node(where="caller")
    def inner(number):
        running.append(threading.get_ident())
        most.append(len(running))
        time.sleep(0.01)
        return running.pop()

    @rt.function_node(where="caller")
    async def middle():
        return await rt.call_batch(inner, range(3))

    @rt.function_node
    def outer():
        return {*rt.call_sync(middle)} == {threading.get_ident()}

    async def main():
        async with rt.Session(max_threads=1, timeout=10):
            assert all([await rt.call(outer), await rt.call(outer)])
        assert max(most) == 1

    run(backend, main)


def test_time_goes_on_while_a_thread_waits_for_a_caller_node(backend):
    @rt.function_node(where="caller", retries=rt.Retry(attempts=2, wait_initial=30, wait_max=30, wait_jitter=0))
    def inner(tries):
        tries.append(threading.get_ident())
        if len(tries) == 1:
            raise OSError("lost")
        return len({*tries})

    @rt.function_node
    def outer():
        return rt.call_sync(inner, [])

    outcome = simulate(outer, backend=backend)
    check(outcome)
    assert outcome.result == 1
    assert outcome.duration == pytest.approx(30)
