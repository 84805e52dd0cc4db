"""The soak test works: it notices what is wrong, what leaks and what grows, and a short one is all right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from railtracks.state import MemoryStore
from railtracks.testing import trees as t
from tests.effort import FACTOR
from tests.soak import runs
from tests.soak.census import FEWEST, Census, Line, leaks_since, tasks_alive
from tests.soak.drawing import FAULTS, Plan, draw, expected, given
from tests.soak.runs import Soaked, Tally

pytestmark = pytest.mark.either_backend


def test_a_seed_is_one_plan(tmp_path):
    plans = [draw(seed, tmp_path) for seed in range(300)]
    assert plans == [draw(seed, tmp_path) for seed in range(300)]
    assert {plan.fault for plan in plans} == set(FAULTS)
    assert {given(plan.tree)[0] for plan in plans if plan.fault == "none"} == {"returned", "raised"}


async def soaked(backend: str, plan: Plan, store: Any = None) -> Tally:
    tally = Tally()
    await Soaked(plan, store or MemoryStore(), "memory", backend, tally).run()
    return tally


async def test_drawn_flows_end_as_the_model_says(backend, tmp_path):
    plans = [draw(seed, tmp_path) for seed in range(30)]
    for plan in plans:
        if plan.fault != "worker killed":
            tally = await soaked(backend, plan)
            assert tally.wrong == []
            assert tally.survived.total() <= 1


async def test_a_flow_that_ends_otherwise_is_wrong(backend, monkeypatch):
    monkeypatch.setattr(runs, "expected", lambda _: ("returned", "8"))
    tally = await soaked(backend, Plan(3, t.Return(7), "none", 0.0, "sync"))
    assert "it returned 7, expected: returned 8" in tally.wrong[0]
    assert f"--backend {backend} --store memory --seed 3 --flows 1" in tally.wrong[0]


async def test_a_run_that_is_not_on_record_is_wrong(backend):
    class Forgetful(MemoryStore):
        def save(self, identifier, content):
            pass

    tally = await soaked(backend, Plan(3, t.Return(7), "none", 0.0, "exit"), Forgetful())
    assert "there is no run" in tally.wrong[0]


@pytest.mark.parametrize("moment", [0.0, 0.1, 0.3, 0.6])
@pytest.mark.parametrize("fault", ["store fails", "store ends it", "cancelled"])
async def test_faults_are_survived(backend, fault, moment):
    plan = Plan(3, t.Sequence(t.Sleep(0.02), t.Try(t.Raise()), t.Return(7)), fault, moment, "sync")
    tally = await soaked(backend, plan)
    assert expected(plan) == ("returned", "[0.02, 'caught', 7]")
    assert tally.wrong == []
    assert tally.survived == {fault: 1}
    assert tally.sessions == (1 if fault == "store fails" else 2)


def test_what_is_left_is_counted(tmp_path):
    before = Census.now()
    with (
        (tmp_path / "file").open("w"),
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as left,
    ):
        assert leaks_since(before, patience=0) == {"descriptors": 2, "children": 1}
        left.kill()
    assert leaks_since(before) == {}


async def test_tasks_are_counted():
    before = tasks_alive()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 1)
        assert tasks_alive() == before + 1


def points(count: int, value: Any) -> list[tuple[float, float]]:
    return [(float(n), float(value(n))) for n in range(count)]


NOISE = [3, -1, 2, -4, 0, 1, -2]


@pytest.mark.parametrize(
    ("value", "grows"),
    [
        (lambda n: 1000 + NOISE[n % 7], False),
        (lambda n: min(n, 400) * 10 + NOISE[n % 7], False),  # what is there once is no growth
        (lambda n: 1000 + n + NOISE[n % 7], True),
        (lambda n: 1000 - n + NOISE[n % 7], False),
        (lambda n: 1_000_000 + n, False),  # a trifle
    ],
)
def test_only_growth_beyond_noise_counts(value, grows):
    line = Line.through_second_half(points(1000, value))
    assert line is not None
    assert line.grows is grows


def test_a_short_run_is_not_judged():
    line = Line.through_second_half(points(2 * FEWEST - 2, lambda n: n))
    assert line is not None
    assert not line.grows
    assert Line.through_second_half([(1.0, 5.0)]) is None


@pytest.mark.slow
def test_a_short_soak_is_all_right():
    command = [sys.executable, "-m", "tests.soak", "--minutes", str(0.1 * FACTOR)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300 * FACTOR)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| runs that were wrong | 0 |" in done.stdout
