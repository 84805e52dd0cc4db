"""A run begins at a date that its seed decides: often shortly before something happens in the calendar."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.state import MemoryStore
from railtracks.testing import replay, resume, run, simulate
from railtracks.testing._virtual_time._clock import WALL
from railtracks.testing._virtual_time._drawn_dates import drawn_wall
from railtracks.testing.faults import Kill
from tests.effort import examples

USUAL = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
DRAWN = next(seed for seed in range(20, 60) if drawn_wall(seed) != WALL)


@rt.function_node
async def now():
    return datetime.now(UTC)


def date_of(seed):
    return datetime.fromtimestamp(drawn_wall(seed), UTC)


def test_half_of_the_seeds_from_20_on_have_a_date_of_their_own():
    assert {drawn_wall(seed) for seed in range(20)} == {WALL}
    drawn = [drawn_wall(seed) for seed in [*range(20, 1000), *range(-20, 0)]]
    assert 450 < sum(wall != WALL for wall in drawn) < 550
    assert len({*drawn}) > 200


@examples(100)
@given(st.integers(20))
def test_dates_are_those_of_services(seed):
    date = date_of(seed)
    assert date == USUAL or 2023 <= date.year <= 2039
    assert drawn_wall(seed) % 0.5 == 0


@pytest.mark.parametrize("reaches", [
    lambda date, later: date.date() != later.date(),
    lambda date, later: date.month != later.month,
    lambda date, later: date.year != later.year,
    lambda date, later: (later.month, later.day) == (2, 29),
    lambda date, later: (later.month, later.day) == (1, 31),
    lambda date, later: date.timestamp() < 2**31 <= later.timestamp(),
    lambda date, later: (later.weekday(), later.month, later.hour) == (6, 3, 1),  # in Europe
    lambda date, later: (later.weekday(), later.month, later.hour) == (6, 11, 6),  # in New York
], ids=["day", "month", "year", "leap day", "31st", "32 bits", "spring", "autumn"])  # fmt: skip
def test_a_run_of_some_seconds_reaches_each_kind_of_moment(reaches):
    dates = [date_of(seed) for seed in range(20, 1000)]
    assert Counter(reaches(date, date + timedelta(seconds=10)) for date in dates)[True] >= 3


def test_code_in_the_run_reads_the_date(backend):
    date = date_of(DRAWN)
    outcome = simulate(now, seed=DRAWN, backend=backend)
    assert outcome.result == outcome.began == date
    assert outcome.info.records[0].started == drawn_wall(DRAWN)
    assert f"\nbegan at {date:%Y-%m-%d %H:%M:%S} UTC" in str(outcome)
    assert "began at" not in str(simulate(now, seed=3, backend=backend))


@pytest.mark.parametrize("options", [{"seed": 3}, {"seed": DRAWN, "start": 5}, {"seed": DRAWN, "store": MemoryStore()}])
def test_it_is_the_usual_one_otherwise(backend, options):
    outcome = simulate(now, backend=backend, **options)
    assert outcome.result == outcome.began == USUAL


def test_run_has_it_in_a_virtual_world(backend):
    async def read():
        return time.time()

    assert run(read, seed=DRAWN, world="virtual", backend=backend) == drawn_wall(DRAWN)
    assert run(read, seed=DRAWN, world="virtual", start=0, backend=backend) == WALL


def test_a_resumed_run_begins_a_minute_later(backend):
    @rt.function_node
    async def main():
        await rt.call(now)
        return datetime.now(UTC)

    killed = simulate(main, seed=DRAWN, backend=backend, faults=[Kill(2)])
    for seed in (DRAWN, 3):
        again = simulate(now, seed=seed, backend=backend)
        assert again.began == date_of(seed)
    outcome = resume(killed)
    assert timedelta(seconds=60) <= outcome.result - killed.began <= timedelta(seconds=61)


def test_a_replay_has_the_date_of_the_run(backend, tmp_path):
    outcome = simulate(now, seed=DRAWN, backend=backend)
    outcome.save_replay(tmp_path / "run.json")
    assert replay(tmp_path / "run.json", now).result == outcome.result
