"""A replay file repeats a run by its decisions, without any generator, and says so if it does not fit."""

from __future__ import annotations

import json
import random
import sys
import time
import uuid
import warnings
from importlib import metadata
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import Fault, explore, replay, resume, simulate, simulate_restarts
from railtracks.testing._virtual_time import _choices
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing.faults import Delay, FailSave, Kill, Raise, StoreFault

REPLAYS = Path(__file__).parent / "replays"


@rt.function_node
async def leaf(number):
    await anyio.sleep(0.1 * (1 + number))
    return number


@rt.function_node(retries=1)
def in_thread(number):
    return number


@rt.function_node
async def work(count):
    log = []

    async def step(number):
        await anyio.sleep(0.5)
        await anyio.sleep(0)
        log.append(await rt.call(leaf, number))
        log.append(await rt.call(in_thread, number))

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(step, number)
    return log


FAULTS: list[Fault | StoreFault] = [Fault("leaf", Delay(0.3), probability=0.5), FailSave("disk full", "sync", 3)]


def test_a_replay_has_the_same_story_for_each_schedule(backend, tmp_path):
    path = tmp_path / "run.json"
    for seed in (1, 20, 23, 24, 29):
        first = simulate(work, 3, seed=seed, backend=backend, faults=FAULTS)
        first.save_replay(path)
        again = replay(path, work, 3)
        assert (again.story, again.order, again.schedule) == (first.story, first.order, first.schedule)
        assert again.faults == first.faults


def test_it_does_not_depend_on_how_orders_are_drawn(backend, tmp_path, monkeypatch):
    path = tmp_path / "run.json"
    first = simulate(work, 3, seed=21, backend=backend, faults=FAULTS)
    first.save_replay(path)

    def drawn(_):
        return lambda count: 0

    monkeypatch.setattr(_choices, "draw_from", drawn)
    assert simulate(work, 3, seed=21, backend=backend, faults=FAULTS).story != first.story
    assert replay(path, work, 3).story == first.story


def test_what_explore_found_can_be_kept(backend, tmp_path):
    async def main():
        log = []

        async def step(number):
            log.append(number)

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(step, number)
        return log

    def is_in_order(outcome):
        assert outcome.result != [1, 2, 0]

    violation = explore(main, invariants=[is_in_order], backend=backend).violations[0]
    assert "in another order: outcome.save_replay(path) keeps it" in str(violation)
    violation.outcome.save_replay(tmp_path / "run.json")
    assert replay(tmp_path / "run.json", main).result == [1, 2, 0]


def test_a_replay_can_be_saved_again(tmp_path):
    simulate(work, 2, seed=22).save_replay(tmp_path / "a.json")
    replay(tmp_path / "a.json", work, 2).save_replay(tmp_path / "b.json")
    first, second = (json.loads((tmp_path / name).read_text("utf-8")) for name in ("a.json", "b.json"))
    assert "in another order" in second["run"]
    assert {**first, "run": ""} == {**second, "run": ""}


@pytest.mark.parametrize("name", ["two_leaders_asyncio", "two_leaders_trio"])
def test_committed_files_replay(name):
    """Other versions of the event loops may need other turns: then it says that the file does not fit."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        outcome = replay(REPLAYS / f"{name}.json", elect, 2)
    here = sys.version_info[:2], metadata.version("anyio"), metadata.version("trio")
    if here == ((3, 11), "4.16.0", "0.35.0") or not warned:
        assert (outcome.result, warned) == ([1, 0], [])
    else:
        assert [f"{name}.json does not fit the run" in str(each.message) for each in warned] == [True]


@rt.function_node
async def join(state, me):
    if "leader" not in state:
        await anyio.sleep(0)
        state["leader"] = me
        state["elected"].append(me)


@rt.function_node
async def elect(count):
    state = {"elected": []}
    await rt.call_batch(join, [state] * count, range(count))
    return state["elected"]


def test_faults_come_back_as_they_were(tmp_path):
    faults: list[Fault | StoreFault] = [
        Fault("leaf", Raise(ConnectionError("lost"), after=True), call=1),
        Fault(None, Raise(ValueError), call=7),
        FailSave("no permission", "open", 2),
    ]
    simulate(work, 1, faults=faults).save_replay(tmp_path / "run.json")
    assert repr(list(replay(tmp_path / "run.json", work, 1).faults)) == repr(faults)


# ---- chance, and runs that were resumed


@rt.function_node(retries=rt.Retry(attempts=3, wait_initial=1, wait_jitter=2))
async def flaky(state):
    state.append(random.random())
    await anyio.sleep(random.uniform(1, 2))
    if len(state) % 3:
        raise ConnectionError("try again")
    return random.random()


@rt.function_node
async def chances():
    drawn = [await rt.call(flaky, []) for _ in range(2)]
    return [*drawn, random.random(), str(uuid.uuid4()), str(rt.uuid4()), rt.random().random(), time.time()]


@pytest.mark.parametrize("seed", [0, 3, 31])
def test_values_are_those_of_the_run_however_they_are_seeded(backend, tmp_path, monkeypatch, seed):
    path = tmp_path / "run.json"
    first = simulate(chances, seed=seed, backend=backend)
    first.save_replay(path)
    drawn = Decisions.chance
    monkeypatch.setattr(Decisions, "chance", lambda self, purpose, text: drawn(self, purpose, f"other {text}"))
    assert simulate(chances, seed=seed, backend=backend).result != first.result
    again = replay(path, chances)
    assert (again.result, again.story) == (first.result, first.story)


@rt.function_node
async def three():
    return [await rt.call(flaky, []) for _ in range(3)]


def test_a_run_that_was_resumed_replays_by_itself(backend, tmp_path):
    path = tmp_path / "run.json"
    for seed in (2, 23):
        *_, last = simulate_restarts(three, kills=[5, 4], seed=seed, backend=backend)
        assert last.before is not None and last.before.before is not None
        last.save_replay(path)
        again = replay(path, three)
        assert again.result == last.result
        assert (str(again).split("\n\n", 1)[1]) == str(last).split("\n\n", 1)[1]
        assert again.before is not None and again.before.story == last.before.story


def test_a_resumed_run_may_have_faults_of_its_own(backend, tmp_path):
    first = simulate(three, faults=[Kill(4)], backend=backend)
    last = resume(first, faults=[Fault("flaky", Raise(ValueError("late")), call=1)], seed=24)
    last.save_replay(tmp_path / "run.json")
    again = replay(tmp_path / "run.json", three)
    assert (again.story, repr(again.exception), repr(again.faults)) == (
        last.story,
        repr(last.exception),
        repr(last.faults),
    )
    again.save_replay(tmp_path / "again.json")
    assert replay(tmp_path / "again.json", three).story == last.story


def test_a_run_that_was_resumed_by_hand_says_what_it_needs(tmp_path):
    first = simulate(three, faults=[Kill(4)])
    last = simulate(three, store=first.store, resume=first.info.session_id)
    last.save_replay(tmp_path / "run.json")
    with pytest.raises(
        ConfigError, match=r"resumed another one, which is not in it; pass store=\.\.\., resume=\.\.\., or"
    ):
        replay(tmp_path / "run.json", three)
    again = simulate(three, faults=[Kill(4)])
    with_store = replay(tmp_path / "run.json", three, store=again.store, resume=again.info.session_id)
    assert with_store.story == last.story


def test_a_misfit_says_in_which_of_the_runs_it_is(tmp_path):
    *_, last = simulate_restarts(work, 2, kills=[3])
    last.save_replay(tmp_path / "run.json")
    with pytest.warns(UserWarning, match=r"does not fit run 1 of 2: the arguments were \(2\), and are \(1\)"):
        replay(tmp_path / "run.json", work, 1)


# ---- what does not fit


def test_other_arguments(tmp_path):
    simulate(leaf, 1).save_replay(tmp_path / "run.json")
    with pytest.warns(UserWarning, match=r"does not fit the run: the arguments were \(1\), and are \(2\)"):
        assert replay(tmp_path / "run.json", leaf, 2).result == 2


def test_more_and_fewer_tasks_than_there_were(tmp_path, backend):
    async def changes():
        async with anyio.create_task_group() as group:
            for _ in range(counts[0]):
                group.start_soon(anyio.sleep, 1)

    counts = [3]
    simulate(changes, backend=backend).save_replay(tmp_path / "run.json")
    for counts[0] in (2, 5):
        with pytest.warns(UserWarning, match=r"run.json does not fit the run: .* tasks can run at one time") as warned:
            assert replay(tmp_path / "run.json", changes).exception is None
        assert len(warned) == 1


def test_a_run_that_ends_earlier(tmp_path):
    simulate(work, 2, seed=3).save_replay(tmp_path / "run.json")
    document = json.loads((tmp_path / "run.json").read_text("utf-8"))
    document["turns"].append("0 0")
    (tmp_path / "run.json").write_text(json.dumps(document), "utf-8")
    with pytest.warns(UserWarning, match="the file has 2 decisions about turns that the run did not need"):
        replay(tmp_path / "run.json", work, 2)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}'])
def test_other_files(tmp_path, text):
    (tmp_path / "x.json").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"x.json is not a replay file; write one with outcome.save_replay\(path\)"):
        replay(tmp_path / "x.json", leaf, 1)


def test_other_versions_and_damaged_files(tmp_path):
    path = tmp_path / "run.json"
    simulate(leaf, 1).save_replay(path)
    document = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**document, "railtracks replay": 2}), "utf-8")
    with pytest.raises(ConfigError, match="of version 2, and this Railtracks reads version 1"):
        replay(path, leaf, 1)
    path.write_text(json.dumps({**document, "faults": [{"class": "os:system", "args": ["true"]}]}), "utf-8")
    with pytest.raises(ConfigError, match=r"is a damaged replay file: TypeError.*not an exception"):
        replay(path, leaf, 1)


def test_faults_that_cannot_be_written(tmp_path):
    outcome = simulate(leaf, 1, faults=[Fault("leaf", Raise(ValueError(random)), call=9)])
    with pytest.raises(ConfigError, match=r"save_replay: <module 'random'.* in a fault cannot be written"):
        outcome.save_replay(tmp_path / "run.json")
