"""Nodes in workers that have policies, are items of batches, or make calls that have them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import LimitExceededError
from railtracks.state import ExecutionInfo, Reason, Status
from railtracks.state._records import PolicyFacts
from tests.places import policy_nodes as nodes
from tests.places.helpers import at, shape_of
from tests.places.policy_nodes import marks

pytestmark = pytest.mark.either_backend  # what workers do is the same on either; trio runs with the slow tests

EVERYWHERE = ["thread", pytest.param("pool", marks=pytest.mark.slow), "process"]
KEPT = ["failures", "summary"]


def run(backend, func, *args, **kwargs):
    """Run a test in real time: worker processes do their work in it."""
    return anyio.run(partial(func, *args, **kwargs), backend=backend)


@asynccontextmanager
async def session(name="mine", **options):
    Path("marks").mkdir(exist_ok=True)
    context = {"marks": str(Path("marks").absolute())}
    with ThreadPoolExecutor(2) as pool:
        async with rt.Session(context, executors={"pool": pool}, run_identifier=name, **options) as opened:
            yield opened


def fresh_marks():
    found = marks("marks")
    for path in Path("marks").iterdir():
        path.unlink()
    return found


async def stream(node, *items, **options):
    return [each async for each in rt.call_stream(node, *items, return_exceptions=True, **options)]


def policies_in(info, name):
    return [record.policy for record in info.records if record.name == name]


def facts_of(info):
    """Return what policies have done with nested calls, but for times."""
    found = [(each.name, each.policy or PolicyFacts()) for each in info.records if each.parent is not None]
    return sorted((name, facts.retry, facts.retried, str(facts.cached)) for name, facts in found)


# ---- calls below one in a worker


@pytest.mark.parametrize("where", EVERYWHERE)
@pytest.mark.parametrize("node", ["all_sync", "all_async"])
def test_policies_of_nested_calls_work_at_each_place(node, where, backend):
    async def main(where):
        async with session(name=f"at-{where}") as opened:
            result = await rt.call(at(getattr(nodes, node), where), 3)
        return result, opened, fresh_marks()

    plain, moved = run(backend, main, None), run(backend, main, where)
    assert plain[0] == moved[0]
    assert plain[2] == moved[2]
    assert plain[1].context == moved[1].context
    assert shape_of(plain[1].info, is_exact=False) == shape_of(moved[1].info, is_exact=False)
    assert facts_of(plain[1].info) == facts_of(moved[1].info)
    assert {s._coordinator.call_log.cached for s in (plain[1], moved[1])} == {1}
    assert plain[1]._coordinator.call_log.retried == moved[1]._coordinator.call_log.retried > 0
    assert plain[1]._coordinator.call_log.ends == moved[1]._coordinator.call_log.ends
    loaded = ExecutionInfo.load(f".railtracks/at-{where}.json")
    assert shape_of(loaded, is_exact=False) == shape_of(moved[1].info, is_exact=False)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_batches_in_workers_may_keep_few_records(where, backend):
    async def main(where):
        async with session(name=f"at-{where}") as opened:
            assert await rt.call(at(nodes.streams, where), 4) == 6
        return opened.info

    plain, moved = run(backend, main, None), run(backend, main, where)
    assert shape_of(plain, is_exact=False) == shape_of(moved, is_exact=False)
    summaries = [[each.attributes for each in info.records if "railtracks.batch" in (each.attributes or "")]
                 for info in (plain, moved)]  # fmt: skip
    assert len(summaries[0]) == len(summaries[1]) == 2


@pytest.mark.parametrize("where", EVERYWHERE)
def test_depth_counts_into_workers(where, backend):
    async def main():
        async with session(max_depth=3):
            for node in (nodes.dig, nodes.dig_sync):
                assert await rt.call(at(node, where), 2) == 3
                with pytest.raises(LimitExceededError, match=r"at depth 4 .*max_depth=3"):
                    await rt.call(at(node, where), 3)

    run(backend, main)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_calls_in_workers_count_for_max_calls(where, backend):
    async def main():
        async with session(max_calls=8):
            assert await rt.call(at(nodes.many, where), 3) == 3
            assert await rt.call(at(nodes.many, where), 5) == 3  # with these two it is 8
            with pytest.raises(LimitExceededError):
                await rt.call(nodes.dig, 0)

    run(backend, main)


@pytest.mark.parametrize("where", EVERYWHERE)
def test_policies_of_the_session_apply_once_to_what_is_sent(where, backend):
    async def main():
        async with session(retries=rt.Retry(attempts=2, wait_jitter=0), max_concurrency=1, cache=True):
            for _ in range(2):
                with pytest.raises(KeyError):
                    await rt.call(at(nodes.unlucky, where), 5)
        return fresh_marks()

    assert run(backend, main) == {"unlucky-5": 4}


@pytest.mark.parametrize("where", EVERYWHERE)
def test_calls_in_workers_say_that_there_is_no_store(where, backend, caplog):
    async def main():
        async with session(save_state=False):
            assert await rt.call(at(nodes.cubes, where), 2) == 16

    run(backend, main)
    texts = [each.getMessage() for each in caplog.records]
    assert [text for text in texts if "calls in a worker find no results in the store" in text]
    assert fresh_marks() == {"cube-2": 1}


# ---- the policies of the node itself


@pytest.mark.parametrize("where", EVERYWHERE)
def test_attempts_run_in_workers_and_are_on_record(where, backend):
    async def main():
        async with session() as opened:
            assert await rt.call(at(nodes.flaky_softly, where), 3) == 6
            with pytest.raises(LookupError):
                await rt.call(at(nodes.never, where), 1)
        return opened.info

    info = run(backend, main)
    assert fresh_marks() == {"flaky-3": 3, "never-1": 3}
    place = None if where == "thread" else where  # which is in this process
    attempts = [(each.retry, each.retried, each.place) for each in policies_in(info, "flaky_softly") if each]
    assert attempts == [(0, True, place), (1, True, place), (2, False, place)]
    assert [record.status for record in info.records].count(Status.FAILED) == 5
    assert len(info.failures) == 1


@pytest.mark.parametrize("where", ["pool", "process"])
def test_worker_results_are_cached_with_their_changes(where, backend):
    items = []

    async def main(name):
        async with session(name=name, broadcast_callback=items.append) as opened:
            assert await rt.call_batch(at(nodes.square, where), [2, 2, 2]) == [4, 4, 4]
            rt.context.delete("square-2")
            assert await rt.call(at(nodes.square, where), 2) == 4
            assert rt.context.get("square-2") == 4
            assert await rt.call(at(nodes.cube, where), 2) == 8
            assert rt.context.get("cube-2") == 8
        return opened.info

    run(backend, main, "first")
    assert fresh_marks() == {"square-2": 1, "cube-2": 1}
    info = run(backend, main, "second")
    assert fresh_marks() == {"square-2": 1}
    assert [each.cached for each in policies_in(info, "cube")] == ["store"]
    assert items == ["cube 2"]


@pytest.mark.parametrize("where", EVERYWHERE)
def test_limit_and_timeout_hold_for_nodes_in_workers(where, backend):
    async def main():
        async with session() as opened:
            assert await rt.call_batch(at(nodes.alone, where), range(3)) == [0, 1, 2]
            with pytest.raises(rt.exceptions.NodeTimeOutError):
                await rt.call(nodes.slow.options(where=where, timeout=0.4), 1)
        return opened.info

    info = run(backend, main)
    began = [each.started + (each.policy.waited if each.policy else 0) for each in info.records if each.name == "alone"]
    ended = [each.ended for each in info.records if each.name == "alone"]
    assert all(later >= earlier for later, earlier in zip(sorted(began)[1:], sorted(ended), strict=False))
    assert info.records[-1].reason is Reason.NODE_TIMEOUT


# ---- items


@pytest.mark.parametrize("where", EVERYWHERE)
@pytest.mark.parametrize("keep", KEPT)
def test_items_run_in_workers(keep, where, backend):
    async def main(where):
        async with session(name=f"at-{where}") as opened:
            found = await stream(at(nodes.all_async, where), range(3), keep_records=keep)
            found += await stream(at(nodes.below, where), range(2), keep_records=keep)
        return list(map(str, found)), opened.info, fresh_marks(), opened.context

    plain, moved = run(backend, main, None), run(backend, main, where)
    assert plain[0] == moved[0]
    assert plain[2:] == moved[2:]
    assert shape_of(plain[1], is_exact=False) == shape_of(moved[1], is_exact=False)
    loaded = ExecutionInfo.load(f".railtracks/at-{where}.json")
    assert shape_of(loaded, is_exact=False) == shape_of(moved[1], is_exact=False)
    failed = [each for each in loaded.records if each.name == "never"]
    assert sorted(each.args for each in failed) == ([(0,)] * 3 + [(1,)] * 3 if keep == "failures" else [])
    for record in loaded.records:
        if record.name == "below":
            assert [loaded.records[each].parent for each in record.raised_by] == [record.index]


@pytest.mark.parametrize("where", [None, *EVERYWHERE])
@pytest.mark.parametrize("keep", KEPT)
def test_items_with_policies_are_done_once_on_resume(keep, where, backend):
    """Those that had completed are not done again; those that had failed are, with all their attempts."""

    async def main():
        async with session(if_exists="resume") as opened:
            found = await stream(at(nodes.flaky_softly, where), range(3), keep_records=keep)
            found += await stream(at(nodes.never, where), range(2), keep_records=keep)
            found += await stream(at(nodes.square, where).options(limit=1), [1, 1], keep_records=keep)
            if not Path("again").exists():
                Path("again").touch()
                raise KeyError("stop")
        return found, opened.info

    with pytest.raises(KeyError):
        run(backend, main)
    assert fresh_marks() == {"flaky-0": 3, "flaky-1": 3, "flaky-2": 3, "never-0": 3, "never-1": 3, "square-1": 1}
    run(backend, main)
    left = fresh_marks()
    assert not [name for name in left if name.startswith("flaky")]
    assert left.get("square-1") is None


# ---- other processes

PROGRAM = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import anyio
import railtracks as rt
from tests.places import policy_nodes as nodes

backend, where, dies = sys.argv[1], sys.argv[2], int(sys.argv[3])

def at(node):
    return node if where == "task" else node.options(where=where)

@rt.function_node
async def whole():
    found = [await rt.call(at(nodes.flaky_softly), 1)]
    die(1)
    found += await rt.call_batch(at(nodes.flaky_softly), [2, 3], keep_records="failures")
    found += await rt.call_batch(at(nodes.square), [3, 3, 3])
    found.append(await rt.call(at(nodes.all_async), 9))
    die(2)
    found.append(await rt.call(at(nodes.square), 3))
    return [each for each in found if each is not rt.state.not_kept]

def die(place):
    if place == dies:
        os._exit(9)

async def main():
    pool = {"pool": lambda: ThreadPoolExecutor(2)}
    options = {"run_identifier": "mine", "if_exists": "resume", "durability": "sync", "logging_setting": "QUIET"}
    async with rt.Session({"marks": os.path.abspath("marks")}, executors=pool, **options):
        print(await rt.call(whole))

if __name__ == "__main__":
    anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("where", ["task", *EVERYWHERE])
def test_killed_run_does_nothing_twice_at_each_place(where, backend):
    """Attempts that had failed in a worker are replayed, also in a process that has not used any."""
    Path("program.py").write_text(PROGRAM)
    Path("marks").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(rt.__file__).parents[1])}
    for dies in (1, 2, 0):
        command = [sys.executable, "program.py", backend, where, str(dies)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == (9 if dies else 0), done.stderr
    assert done.stdout == "[2, 9, 9, 9, 190, 9]\n"
    assert fresh_marks() == {
        "alone-9": 2, "flaky-1": 3, "flaky-2": 3, "flaky-3": 3, "flaky-9": 3, "square-3": 1, "square-9": 1,
    }  # fmt: skip
