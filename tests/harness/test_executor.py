"""``faults.Executor``: workers that lose, delay, repeat and damage work, and what the session makes of that."""

from __future__ import annotations

from typing import get_args

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, TransferError, WorkerLostError
from railtracks.state import Status
from railtracks.state._records import is_retried
from railtracks.testing import check, simulate
from railtracks.testing.faults import Executor, WorkerFault
from tests.places import nodes
from tests.places.helpers import at, place_attributes, shape_of

SYNC, ASYNC = at(nodes.work, "pool"), at(nodes.work_async, "pool")
NODES = pytest.mark.parametrize("node", [SYNC, ASYNC], ids=["sync", "async"])


def run(backend, node, *args, executor, seed=0, **options):
    options.setdefault("context", {"offset": 5})
    outcome = simulate(node, *args, backend=backend, seed=seed, executors={"pool": executor}, **options)
    check(outcome)
    return outcome


@NODES
def test_work_without_faults_ends_as_in_the_event_loop(backend, node):
    here = run(backend, at(node, "task" if node is ASYNC else "thread"), 3, executor=Executor())
    there = run(backend, node, 3, executor=Executor())
    assert there.unwrap() == here.unwrap()
    assert shape_of(there.info, is_exact=False) == shape_of(here.info, is_exact=False)
    assert place_attributes(there.info.records[0])["place"] == "pool"


@rt.function_node(where="pool")
async def sleep_an_hour():
    await anyio.sleep(3600)
    return "slept"


def test_a_sleep_in_a_worker_takes_virtual_time(backend):
    outcome = run(backend, sleep_an_hour, executor=Executor(), timeout=7200)
    assert outcome.unwrap() == "slept"
    assert outcome.duration == 3600


@NODES
def test_the_same_seed_gives_the_same_story(backend, node):
    stories = {run(backend, node, 3, executor=Executor({1: "delay"}, seed=4), seed=2).story for _ in range(3)}
    assert len(stories) == 1


LOST = {
    "lose": (WorkerLostError, "a worker of the executor 'pool' was lost: ChildProcessError"),
    "lose_answer": (WorkerLostError, "a worker of the executor 'pool' was lost: ChildProcessError"),
    "refuse": (WorkerLostError, "did not run: the executor 'pool' takes no work: RuntimeError"),
    "break": (WorkerLostError, "a worker of the executor 'pool' was lost: BrokenExecutor"),
    "corrupt": (TransferError, "was damaged on its way"),
    "truncate": (TransferError, "was damaged on its way"),
    "corrupt_work": (TransferError, "was damaged on its way"),
}


@NODES
@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize("seed", range(5))
def test_work_that_is_lost_fails_and_says_what_happened(backend, node, fault, seed):
    executor = Executor({1: fault}, seed=seed)
    outcome = run(backend, node, 3, executor=executor, seed=seed)
    kind, text = LOST[fault]
    assert type(outcome.exception) is kind
    assert text in str(outcome.exception)
    assert node.name in str(outcome.exception)
    assert "'pool'" in str(outcome.exception)
    (record,) = outcome.info.records
    assert record.status is Status.FAILED
    assert record.exception is outcome.exception
    assert place_attributes(record)["place"] == "pool"
    assert executor.happened == [(1, fault)]


@NODES
@pytest.mark.parametrize("fault", LOST)
def test_lost_work_is_tried_again(backend, node, fault):
    made = []

    def make():
        made.append(Executor({1: fault} if not made else {}))
        return made[-1]

    again = node.options(retries=rt.Retry(attempts=3, on=(WorkerLostError, TransferError)))
    outcome = run(backend, again, 3, executor=make)
    plain = run(backend, node, 3, executor=Executor())
    assert outcome.unwrap() == plain.unwrap()
    attempts = [record for record in outcome.info.records if record.parent is None]
    assert [(each.policy.retry, each.status) for each in attempts] == [(0, Status.FAILED), (1, Status.COMPLETED)]
    assert len(outcome.info.records) == len(plain.info.records) + 1


@NODES
def test_a_delay_changes_nothing_but_the_time(backend, node):
    plain = run(backend, node, 3, executor=Executor())
    late = run(backend, node, 3, executor=Executor({1: "delay"}, delay=60))
    assert late.unwrap() == plain.unwrap()
    assert 0 < late.duration < 60


@NODES
def test_what_two_workers_do_is_on_record_once(backend, node, caplog):
    runs = []
    plans: list[dict[int, WorkerFault]] = [{}, {1: "duplicate"}]
    for plan in plans:
        heard = []
        outcome = run(backend, node, 3, executor=Executor(plan), broadcast_callback=heard.append)
        effects = [event.detail for event in outcome.trace if event.what in ("put", "delete", "broadcast")]
        shown = [(r.name, r.args, r.status, r.parent, r.changes) for r in outcome.info.records]
        runs.append((outcome.unwrap(), heard, effects, shown))
    assert runs[0] == runs[1]


@rt.function_node
async def many(count):
    return await rt.call_batch(at(nodes.add, "pool"), range(count), [1] * count, return_exceptions=True, limit=4)


CHANCES: dict[WorkerFault, float] = dict.fromkeys(get_args(WorkerFault), 0.08)
del CHANCES["break"]


@pytest.mark.parametrize("seed", range(10))
def test_each_of_many_calls_has_its_result_or_its_error(backend, seed):
    executor = Executor(chances=CHANCES, seed=seed)
    outcome = run(backend, many, 20, executor=executor, seed=seed)
    failed = {number for number, fault in executor.happened if fault in LOST}
    results = outcome.unwrap()
    assert [result for at_, result in enumerate(results) if not isinstance(result, Exception)] == [
        at_ + 1 for at_, result in enumerate(results) if not isinstance(result, Exception)
    ]
    assert sum(isinstance(result, Exception) for result in results) == len(failed)


@rt.function_node
async def many_again(count):
    node = at(nodes.add, "pool").options(retries=rt.Retry(attempts=20, on=(WorkerLostError, TransferError)))
    return await rt.call_batch(node, range(count), [1] * count, return_exceptions=False, limit=4)


@pytest.mark.parametrize("seed", range(5))
def test_with_retries_each_of_many_calls_has_its_result(backend, seed):
    executor = Executor(chances=CHANCES, seed=seed, latency=2)
    outcome = run(backend, many_again, 20, executor=executor, seed=seed, timeout=1000)
    assert outcome.unwrap() == [number + 1 for number in range(20)]
    lost = [fault for _, fault in executor.happened if fault in LOST]
    assert sum(is_retried(record) for record in outcome.info.records) == len(lost)


def test_an_executor_that_breaks_is_replaced(backend):
    made = []

    def make():
        made.append(Executor({3: "break"} if not made else {}))
        return made[-1]

    results = run(backend, many, 10, executor=make).unwrap()
    lost = [result for result in results if isinstance(result, WorkerLostError)]
    assert 1 <= len(lost) <= 4
    assert len(made) == 2


@rt.function_node(where="pool")
async def wait_for_ever():
    await anyio.sleep_forever()


def test_a_worker_that_hangs_is_abandoned_at_the_timeout(backend):
    outcome = run(backend, wait_for_ever.options(timeout=5), executor=Executor())
    assert isinstance(outcome.exception, rt.exceptions.NodeTimeOutError)
    assert outcome.duration == 5


def test_work_that_is_cancelled_while_it_is_queued_never_runs(backend):
    node = at(nodes.add, "pool").options(timeout=1)
    outcome = run(backend, node, 1, 2, executor=Executor({1: "delay"}, seed=1, delay=100))
    assert isinstance(outcome.exception, rt.exceptions.NodeTimeOutError)
    (record,) = outcome.info.records
    assert not record.abandoned


def test_its_repr_is_the_code_that_makes_it():
    executor = Executor({2: "lose"}, chances={"delay": 0.5}, seed=3, delay=2.5)
    assert repr(eval(repr(executor))) == repr(executor)


@pytest.mark.parametrize(
    ("args", "options", "text"),
    [
        (({0: "lose"},), {}, "plan has the key 0"),
        (({1: "loose"},), {}, "'loose' is nothing that can go wrong; use one of 'lose', "),
        ((), {"chances": {"lose": 0.7, "delay": 0.7}}, "with a sum of at most 1"),
        ((), {"delay": -1}, "delay is -1; use seconds, 0 or more"),
    ],
)
def test_an_argument_that_is_not_allowed(args, options, text):
    with pytest.raises(ConfigError, match=text.replace("(", "\\(")):
        Executor(*args, **options)
