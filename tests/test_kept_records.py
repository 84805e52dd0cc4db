"""keep_records: what stays on record of batches and streams, and what a resumed run does again."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import ContextError, LimitExceededError, NodeTimeOutError, StateError
from railtracks.execution._recording import _recorder
from railtracks.state import Status
from railtracks.testing import check, simulate
from tests import virtual
from tests.effort import examples
from tests.state.stores import STORES

KEPT = ["failures", "summary"]


@rt.function_node
async def below(number):
    if number % 10 == 5:
        raise ValueError(number)
    return number


@rt.function_node
async def work(number):
    await anyio.sleep(1)
    return await rt.call(below, number)


async def take_all(*args, **kwargs):
    return [each async for each in rt.call_stream(*args, return_exceptions=True, **kwargs)]


async def as_batch(*args, **kwargs):
    return await rt.call_batch(*args, **kwargs)


def summary_of(info):
    """Return what is on record of the only batch."""
    [found] = [each.attributes for each in info.records if each.attributes is not None]
    return json.loads(found)["railtracks.batch"]


@pytest.fixture(params=[take_all, as_batch], ids=["stream", "batch"])
def many(request):
    return request.param


def numbers_of(results):
    return [each.args[0] if isinstance(each, ValueError) else each for each in results]


@pytest.mark.parametrize("nested", [True, False])
async def test_records_of_failures_are_kept_with_what_is_below(many, nested):
    @rt.function_node
    async def parent():
        return await many(work, range(20), limit=4, keep_records="failures")

    async with rt.Session() as session:
        results = await (rt.call(parent) if nested else parent())
    assert numbers_of(results) == list(range(20))
    shown = [(each.name, each.status.value, each.args) for each in session.info.records if each.name != "parent"]
    failed = [(name, "Failed", (number,)) for number in (5, 15) for name in ("work", "below")]
    assert shown == [("batch of work", "Completed", (work.key,)), *failed]
    steps = [step for each in session.info.records for step in (each.started_step, each.ended_step)]
    assert {*steps} == {*range(len(steps))}
    assert [each.index for each in session.info.records] == list(range(len(session.info.records)))


async def test_a_summary_has_counts_times_and_failures(many):
    async with rt.Session() as session:
        assert numbers_of(await many(work, range(200), limit=50, keep_records="summary")) == list(range(200))
    assert [each.name for each in session.info.records] == ["batch of work"]
    summary = summary_of(session.info)
    assert summary["items"] == 200
    assert summary["ended"] == {"Completed": 180, "Failed": 20}
    assert summary["left_out"] == 400
    assert summary["seconds"] == {"min": 1.0, "mean": 1.0, "max": 1.0, "total": 180.0}
    assert len(summary["failures"]) == 10
    item, error = summary["failures"][0].values()
    assert item % 10 == 5
    assert f"ValueError: {item}" in error
    assert summary["kept"] == []
    assert len(summary["done"]) == 21
    assert summary_of(rt.state.load_run(session.identifier)) == summary
    assert "200 items, 20 failed; 400 calls not on record" in str(session.info.tree())


async def test_what_became_of_the_items_is_public(many):
    @rt.function_node
    async def outer():
        await many(work, range(200), limit=50, keep_records="summary")

    async with rt.Session() as session:
        await rt.call(outer)
    for info in (session.info, rt.state.load_run(session.identifier)):
        assert info.failures == ()
        [batch] = info.batches
        assert batch[1:8] == ("batch of work", Status.COMPLETED, 200, 180, 20, 0, 400)
        assert (batch.mean_seconds, batch.max_seconds) == (1.0, 1.0)
        assert info.subset(batch.node_id).records[0].name == "batch of work"
        assert [failure.item % 10 for failure in batch.failures] == [5] * 10
        for failure in batch.failures:
            assert failure.error.startswith(f"work({failure.item}): ValueError: {failure.item}")
        for text in (str(info), info.tree(failed=True)):
            assert "200 items, 20 failed; 400 calls not on record" in text
            assert f"├─ item {batch.failures[0].item}: {batch.failures[0].error}" in text
            assert "└─ … and 10 more failed items" in text


async def test_a_failure_that_is_on_record_is_shown_once(many):
    async with rt.Session(logging_setting="NONE") as session:
        await many(work, range(10), keep_records="failures")
    [batch] = session.info.batches
    assert [(failure.item, batch.failed) for failure in batch.failures] == [(5, 1)]
    assert "item 5" not in session.info.tree()
    assert [each.name for each in session.info.failures] == ["work", "below"]


async def test_a_run_that_keeps_all_records_has_no_counts(many):
    async with rt.Session(logging_setting="NONE") as session:
        await many(work, range(10))
    assert session.info.batches == ()
    assert len(session.info.failures) == 2


@pytest.mark.parametrize("keep_records", KEPT)
async def test_calls_that_change_the_context_are_kept(many, keep_records):
    @rt.function_node
    async def count(number):
        if number == 3:
            rt.context.put("three", number)
        return number

    for _ in range(2):
        async with rt.Session(run_identifier="run", if_exists="resume") as session:
            await many(count, range(6), keep_records=keep_records)
            assert rt.context.get("three") == 3
            if not session.info.records[0].reuse:
                raise_later = True
    assert [each.args for each in session.info.records if each.name == "count"] == [(3,)]
    assert raise_later


@pytest.mark.parametrize("keep_records", KEPT)
async def test_first_error_ends_a_stream_that_keeps_few(keep_records, caplog):
    async with rt.Session() as session:
        with pytest.raises(ValueError):
            async for _ in rt.call_stream(work, range(20), limit=2, keep_records=keep_records):
                pass
    assert session.info.records[0].status is Status.FAILED
    assert sum("ValueError: 5" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("outer", KEPT)
@pytest.mark.parametrize("inner", ["all", *KEPT])
async def test_batches_within_batches_keep_what_failed(outer, inner):
    @rt.function_node
    async def group(first):
        results = await rt.call_batch(below, range(first, first + 8), keep_records=inner)
        if first == 0:
            raise ExceptionGroup("some", [each for each in results if isinstance(each, Exception)])
        return len(results)

    async with rt.Session(run_identifier="run") as session:
        await rt.call_batch(group, [0, 10], keep_records=outer)
    names = [each.name for each in session.info.records]
    nested = {"all": ["below"] * 8, "failures": ["batch of below", "below"], "summary": ["batch of below"]}[inner]
    assert names == ["batch of group", *(["group", *nested] if outer == "failures" else [])]
    assert [each.name for each in rt.state.load_run("run").records] == names
    steps = [step for each in session.info.records for step in (each.started_step, each.ended_step)]
    assert {*steps} == {*range(len(steps))}


async def test_sync_nodes_and_tasks_of_items_are_dropped_too():
    @rt.function_node
    async def tasks(number):
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, below, number)
            group.start_soon(rt.call, below, number)

    @rt.function_node
    def thread(number):
        rt.call_sync(tasks, number)
        rt.call_sync(below, number)
        return number

    async with rt.Session(run_identifier="run") as session:
        assert await rt.call_batch(thread, [1, 2, 3], keep_records="summary", limit=2) == [1, 2, 3]
    assert [each.name for each in rt.state.load_run("run").records] == ["batch of thread"]
    assert summary_of(session.info)["left_out"] == 3 * 5


async def test_items_that_are_cut_off_are_on_record_as_failures():
    @rt.function_node
    async def forever(number):
        await rt.call(below, number)
        await anyio.sleep(1_000)

    with anyio.move_on_after(1):
        async with rt.Session(run_identifier="run") as session:
            await rt.call_batch(forever, range(5), limit=3, keep_records="failures")
    records = rt.state.load_run("run").records
    assert [(each.name, each.status.value) for each in records if each.name != "below"] == [
        ("batch of forever", "Cancelled"), *[("forever", "Cancelled")] * 3,
    ]  # fmt: skip
    assert summary_of(session.info)["ended"] == {"Cancelled": 3}


async def test_calls_that_run_are_known_while_they_run():
    seen = []

    @rt.function_node
    async def inspect(number):
        seen.append((rt.current_call().name, rt.context.get("key", None)))
        await rt.sleep(1)
        return rt.now()

    async with rt.Session(timeout=1000) as session:
        assert len(await rt.call_batch(inspect, range(3), keep_records="summary")) == 3
    assert seen == [("inspect", None)] * 3
    assert summary_of(session.info)["left_out"] == 9


async def test_messages_cannot_be_received_where_they_would_be_lost(many):
    @rt.function_node
    async def waits(_):
        return await rt.receive("topic")

    async with rt.Session(run_identifier="run"):
        [result] = await many(waits, [1], keep_records="summary")
    assert isinstance(result, ContextError)
    assert 'keep_records="all"' in str(result)


@pytest.mark.parametrize("caller", [rt.call_batch, rt.call_stream])
async def test_another_value_is_refused(caller):
    with pytest.raises(ValueError, match="'all', 'failures' or 'summary', not 'some'"):
        await caller(work, [1], keep_records="some")


@pytest.mark.parametrize("handled", [True, False])
async def test_exceptions_of_dropped_calls_are_not_kept_alive(handled):
    import gc
    import weakref

    class Odd(Exception):
        pass

    alive = []

    @rt.function_node
    async def fails(_):
        error = Odd()
        alive.append(weakref.ref(error))
        raise error

    @rt.function_node
    async def handles(_):
        with contextlib.suppress(Odd):
            await rt.call(fails, None)

    node, returns = (handles, False) if handled else (fails, True)
    async with rt.Session(logging_setting="NONE"):
        async for _ in rt.call_stream(node, range(200), limit=5, return_exceptions=returns, keep_records="summary"):
            pass
        gc.collect()
        assert sum(each() is not None for each in alive) < 10


# ---- resuming


def run_again(backend, main):
    """Run a session that resumes the run; return its information and what ended it."""

    async def run():
        session, ended = rt.Session(run_identifier="run", if_exists="resume", logging_setting="NONE"), None
        try:
            async with session:
                await rt.call(main)
        except ValueError as exc:
            ended = exc
        return session.info, ended

    return virtual.run(backend, run)


def kill_at(journal):
    """Make the run what it would be if its process had been killed when the journal was this."""
    Path(".railtracks/run.json").unlink(missing_ok=True)
    Path(".railtracks/run.journal").write_bytes(journal)


@pytest.mark.either_backend
@examples(30)
@given(data=st.data())
def test_each_item_is_done_and_none_that_completed_twice(backend, data):
    beyond = data.draw(st.sampled_from([200, _recorder.REWRITE_BEYOND]))  # it is often written anew, or never
    with (
        TemporaryDirectory() as folder, contextlib.chdir(folder),
        mock.patch.object(_recorder, "REWRITE_BEYOND", beyond), mock.patch.object(_recorder, "CALL_BYTES", 0),
    ):  # fmt: skip
        do_all_with_kills(backend, data)


def do_all_with_kills(backend, data):
    count, limit = data.draw(st.integers(1, 25)), data.draw(st.integers(1, 6))
    delays = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    failing = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    changing = data.draw(st.sets(st.integers(0, count - 1), max_size=2))
    keep_records, is_stream = data.draw(st.sampled_from(KEPT)), data.draw(st.booleans())
    returns, kills = data.draw(st.booleans()), data.draw(st.lists(st.integers(1, count), max_size=3))
    done, attempts, journals, results = [], [], [], []

    @rt.function_node
    async def item(number):
        await anyio.sleep(delays[number])
        if number in changing:
            rt.context.put(f"key {number}", number)
        await rt.call(below, 0)
        if number in failing and len(attempts) == 1:
            raise ValueError(number)
        journal = Path(".railtracks/run.journal")
        journals.append((len(done), journal.read_bytes()))
        done.append(number)
        return number

    @rt.function_node
    async def main():
        options = {"limit": limit, "return_exceptions": returns, "keep_records": keep_records}
        if is_stream:
            async for result in rt.call_stream(item, range(count), **options):
                results.append(result)
        else:
            results.extend(await rt.call_batch(item, range(count), **options))

    for kill in [*kills, None]:
        attempts.append(kill)
        before, journals[:] = [*done], []
        info, error = run_again(backend, main)
        if kill is not None and kill <= len(journals):
            # It is killed in the middle of an item: what had ended before is on record, and nothing after.
            count_done, content = journals[kill - 1]
            kill_at(content)
            del done[count_done:]
        elif error is None:
            break
        assert len(before) <= len(done)
    while True:
        attempts.append(None)
        info, error = run_again(backend, main)
        if error is None:
            break
    failed = [each for each in range(count) if each not in done]
    assert len(done) == len(set(done))
    assert set(failed) <= failing
    assert not failed or returns
    summary = summary_of(info)
    assert summary["items"] == count


class Given:
    """Draws what is given, in place of Hypothesis."""

    def __init__(self, *values):
        self._values = iter(values)

    def draw(self, strategy):
        return next(self._values)


def test_attempt_that_was_killed_after_a_failed_one_counts(backend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    do_all_with_kills(backend, Given(3, 1, [0, 0, 0], {0}, set(), "failures", False, False, [1, 3]))


async def test_items_that_changed_are_noticed(backend):
    items, trouble = [*range(10)], True

    @rt.function_node
    async def item(number):
        if trouble and number == 7:
            raise ValueError(number)
        return number

    @rt.function_node
    async def main():
        async for _ in rt.call_stream(item, items, keep_records="summary"):
            pass

    with pytest.raises(ValueError):
        async with rt.Session(run_identifier="run", if_exists="resume"):
            await rt.call(main)
    items[2], trouble = 100, False
    with pytest.raises(StateError, match=r"items 0 to 6 are not those that had completed"):
        async with rt.Session(run_identifier="run", if_exists="resume"):
            await rt.call(main)


@pytest.mark.parametrize("policy", ["warn", "rerun", "ignore"])
async def test_code_that_changed_is_noticed(policy, caplog):
    done, trouble = [], True

    async def item(number):
        if number == 3 and trouble:
            raise ValueError(number)
        done.append(number)

    async def new_item(number):
        done.append(number)

    new_item.__qualname__ = item.__qualname__

    async def main(item):
        async for _ in rt.call_stream(item, range(5), limit=1, keep_records="summary"):
            pass

    options: Any = {"run_identifier": "run", "if_exists": "resume", "code_changes": policy}
    with pytest.raises(ValueError):
        async with rt.Session(**options):
            await main(rt.function_node(item, key="item"))
    async with rt.Session(**options):
        await main(rt.function_node(new_item, key="item"))
    assert done == ([0, 1, 2, *range(5)] if policy == "rerun" else [*range(5)])
    assert ("The code of new_item has changed since 3 items" in caplog.text) == (policy == "warn")


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
async def test_results_of_an_earlier_attempt_have_their_places(durability, caplog):
    caplog.set_level(logging.INFO, "RT")
    trouble = True
    options: Any = {"run_identifier": "run", "if_exists": "resume", "logging_setting": "REGULAR"}
    options["durability"] = durability

    @rt.function_node
    async def item(number):
        if trouble and number == 2:
            raise ValueError(number)
        return number

    @rt.function_node
    async def main():
        return await rt.call_batch(item, range(4), keep_records="summary", return_exceptions=False, limit=1)

    with pytest.raises(ValueError):
        async with rt.Session(**options):
            await rt.call(main)
    trouble = False
    async with rt.Session(**options):
        assert await rt.call(main) == [rt.state.not_kept, rt.state.not_kept, 2, 3]
    assert "2 of its items had completed and are not done again" in caplog.text


async def test_the_journal_does_not_grow_with_the_items(monkeypatch):
    monkeypatch.setattr("railtracks.execution._recording._recorder.REWRITE_BEYOND", 10_000)
    store, sizes = rt.state.MemoryStore(), []

    @rt.function_node
    async def item(number):
        if number % 100 == 0:
            sizes.append(len(store.read("run").journal or b""))
        return number

    @rt.function_node
    async def main():
        async for _ in rt.call_stream(item, range(3_000), keep_records="summary", limit=10):
            pass
        journal = rt.state.load_run("run", store)
        assert summary_of(journal)["ended"] == {"Completed": 3_000}

    async with rt.Session(run_identifier="run", store=store):
        await rt.call(main)
    assert max(sizes) < 25_000
    assert len(store.read("run").document or b"") < 10_000


@pytest.mark.parametrize("kind", STORES)
async def test_a_journal_that_is_written_anew_says_the_same(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(_recorder, "REWRITE_BEYOND", 1_000)
    monkeypatch.setattr(_recorder, "CALL_BYTES", 0)
    store, seen = STORES[kind](tmp_path / "store"), []

    @rt.function_node
    async def item(number):
        rt.context.put("latest", number) if number % 50 == 0 else None
        return await rt.call(below, number)

    @rt.function_node
    async def main():
        options: Any = {"keep_records": "failures", "return_exceptions": True, "limit": 10}
        seen.extend([each async for each in rt.call_stream(item, range(300), **options)])
        seen.append(rt.state.load_run("run", store))

    async with rt.Session(run_identifier="run", store=store, durability="sync"):
        await rt.call(main)
    *results, info = seen
    assert numbers_of(results) == [*range(300)]
    assert summary_of(info)["ended"] == {"Completed": 270, "Failed": 30}
    loaded = rt.state.load_run("run", store)
    assert [(each.name, each.args) for each in info.records] == [(each.name, each.args) for each in loaded.records]
    assert len(loaded.records) == 2 + 2 * 30 + 2 * 6


@pytest.mark.either_backend
async def test_memory_does_not_grow_with_the_items():
    import tracemalloc

    @rt.function_node
    async def item(number):
        return await rt.call(below, 0)

    @rt.function_node
    async def main():
        sizes, seen = [], 0
        async for _ in rt.call_stream(item, range(9_001), keep_records="summary", limit=10):
            seen += 1
            if seen % 3_000 == 0:
                sizes.append(tracemalloc.get_traced_memory()[0])
        return sizes

    async with rt.Session(save_state=False):
        tracemalloc.start()
        try:
            sizes = await rt.call(main)
        finally:
            tracemalloc.stop()
    assert sizes[-1] - sizes[0] < 100_000


@pytest.mark.parametrize("keep_records", ["all", *KEPT])
def test_the_harness_accepts_calls_that_are_dropped(backend, keep_records):
    @rt.function_node
    async def main():
        results = await take_all(work, range(8), limit=2, keep_records=keep_records)
        return numbers_of(results)

    for seed in range(5):
        outcome = simulate(main, seed=seed, backend=backend)
        check(outcome)
        assert outcome.result == list(range(8))


async def test_subscribers_and_logs_see_calls_that_are_dropped(caplog):
    seen = []

    async with rt.Session(logging_setting="DEBUG", save_state=False) as session:
        session.subscribe(seen.append)
        await rt.call_batch(work, range(3), keep_records="summary")
    created = [each for each in seen if isinstance(each, rt.state.CallCreated)]
    assert [each.name for each in created] == ["batch of work", *["work"] * 3, *["below"] * 3]
    assert len({each.node_id for each in created}) == 7
    parents = {each.node_id: each.parent_id for each in created}
    assert all(parents[parents[each.node_id] or ""] == created[0].node_id for each in created[4:])
    assert sum(isinstance(each, rt.state.CallSucceeded) for each in seen) == 7


PROGRAM = """
import os, sys
import anyio
import railtracks as rt
from railtracks.execution._recording import _recorder

_recorder.REWRITE_BEYOND, _recorder.CALL_BYTES = 3_000, 0  # the journal is written anew all the time

@rt.function_node
async def item(number):
    os.write(1, b"did %d\\n" % number)
    if number % 7 == 0:
        await anyio.sleep(0)
    return number

@rt.function_node
async def main():
    async for number in rt.call_stream(item, range(2_000), limit=20, keep_records="summary", ordered=False):
        os.write(1, b"got %d\\n" % number)

flow = rt.Flow("Main", main, run_identifier="run", if_exists="resume", logging_setting="NONE", backend=sys.argv[1])
flow.invoke()
"""


@pytest.mark.slow
@pytest.mark.either_backend
def test_a_killed_process_does_nothing_again_that_was_seen(backend):
    """The lines that are read before the kill are some moments old then; what came since may be there or not."""
    done: set[int] = set()
    got: set[int] = set()
    for lines in (100, 400, 900, 1_300, None):
        command = [sys.executable, "-c", PROGRAM, backend]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for count, line in enumerate(process.stdout):
                what, number = line.split()
                if what == "did":
                    assert int(number) not in got
                    done.add(int(number))
                else:
                    got.add(int(number))
                if count == lines:
                    process.kill()
    assert process.returncode == 0
    assert done == {*range(2_000)}
    assert summary_of(rt.state.load_run("run"))["items"] == 2_000


async def test_it_works_without_a_session():
    results = await rt.call_batch(below, range(6), keep_records="summary")
    assert numbers_of(results) == [*range(6)]


# ---- with policies


async def test_budget_ends_a_kept_batch(many):
    with pytest.raises(LimitExceededError, match="its budget of 2"):
        async with rt.Session(budget=2.5) as session:
            await many(work, range(5), keep_records="summary", limit=1)
    assert summary_of(session.info)["ended"] == {"Completed": 2, "Cancelled": 1}


async def test_policies_of_the_session_are_for_the_items(many):
    runs = []

    @rt.function_node
    async def flaky(number):
        runs.append(number)
        if len(runs) % 2:
            raise ValueError(number)
        return number

    async with rt.Session(retries=rt.Retry(attempts=2, wait_jitter=0), cache=True, node_timeout=1.5, max_calls=20):
        for _ in range(2):
            assert await many(flaky, [1, 2], keep_records="summary", limit=1) == [1, 2]
        assert runs == [1, 1, 2, 2]
        assert await many(work, range(3), keep_records="summary", limit=1) == [0, 1, 2]


async def test_kept_batch_does_not_count_for_max_calls(many):
    async with rt.Session(max_calls=3):
        results = await many(below, range(4), keep_records="summary", limit=1)
    assert [type(each) for each in results] == [int, int, int, LimitExceededError]


async def test_node_timeout_names_what_items_wait_for():
    @rt.function_node(timeout=1.5)
    async def around():
        await rt.call_batch(work, [1, 2], keep_records="summary", limit=1)

    async with rt.Session():
        with pytest.raises(NodeTimeOutError) as caught:
            await rt.call(around)
    assert [each.partition(",")[0] for each in caught.value.waiting] == ["work"]


@pytest.mark.parametrize("keep", KEPT)
async def test_items_of_one_limit_nest(keep):
    """A call that waits for one that it has made has lent it its slot, also where the record is that of an item."""

    @rt.function_node(limit=rt.Limit("nest", concurrency=1))
    async def nest(number):
        return 1 + await rt.call(nest, number - 1) if number else 0

    @rt.function_node(limit=rt.Limit("nest", concurrency=1))
    async def nest_in_session(number):
        async with rt.Session():
            return await rt.call(nest, number)

    async with rt.Session():
        assert await rt.call_batch(nest, [1, 2, 3], keep_records=keep) == [1, 2, 3]
        assert await rt.call_batch(nest_in_session, [1, 2], keep_records=keep) == [1, 2]


@pytest.mark.parametrize("keep_records", KEPT)
async def test_calls_of_batches_that_follow_have_their_own_indices(keep_records):
    """Events and log records are found by them, and so is what waits for what."""
    seen = []
    async with rt.Session(save_state=False) as session:
        session.subscribe(seen.append, kinds=(rt.state.CallCreated,))
        for _ in range(3):
            await rt.call_batch(work, range(4), keep_records=keep_records)
    assert len(seen) == 3 * (1 + 8)
    assert len({event.node_id for event in seen}) == len(seen)
