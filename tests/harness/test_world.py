"""The virtual world: clocks and chance follow the virtual clock and the seed, for code that runs in the run only."""

# ruff: noqa: DTZ001, DTZ002, DTZ003, DTZ005, DTZ006, DTZ011, DTZ901
from __future__ import annotations

import copy
import datetime
import logging
import math
import os
import pickle
import random
import secrets
import threading
import time
import uuid
from datetime import date
from datetime import datetime as DateTime
from random import choice
from time import monotonic, time_ns
from typing import Any
from unittest import mock

import anyio
import attrs
import cattrs
import freezegun
import pytest
import tenacity
from hypothesis import given, settings

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import run, simulate
from railtracks.testing._virtual_time import _stand_ins, _world_patches
from railtracks.testing.faults import Kill
from railtracks.testing.strategies import seeds

BEGAN = 1e9

# ---- clocks


def clocks():
    return [
        time.time() - BEGAN, time.time_ns() / 1e9 - BEGAN, time_ns() / 1e9 - BEGAN,
        time.monotonic(), monotonic(), time.monotonic_ns() / 1e9, time.perf_counter(), time.perf_counter_ns() / 1e9,
        DateTime.now().timestamp() - BEGAN, datetime.datetime.now(datetime.UTC).timestamp() - BEGAN,
        DateTime.today().timestamp() - BEGAN,
        DateTime.utcnow().replace(tzinfo=datetime.UTC).timestamp() - BEGAN,
        time.mktime(time.localtime()) - BEGAN,
        time.clock_gettime(time.CLOCK_REALTIME) - BEGAN, time.clock_gettime(time.CLOCK_MONOTONIC),
        time.clock_gettime_ns(time.CLOCK_MONOTONIC) / 1e9,
    ]  # fmt: skip


@pytest.mark.parametrize("where", ["async", "sync"])
def test_all_clocks_follow_the_virtual_one(backend, where):
    @rt.function_node
    def in_thread():
        return clocks()

    @rt.function_node
    async def main():
        before = clocks()
        await anyio.sleep(100)
        return before, await rt.call(in_thread) if where == "sync" else clocks()

    before, after = simulate(main, backend=backend).unwrap()
    assert before == pytest.approx([0] * len(before), abs=1e-3)
    assert after == pytest.approx([100] * len(after), abs=1e-3)


def test_dates_are_those_of_the_virtual_clock(backend):
    @rt.function_node
    async def main():
        await anyio.sleep(86_400 * 30)
        return date.today(), datetime.date.today(), time.strftime("%Y-%m-%d"), time.gmtime().tm_year, time.ctime()[-4:]

    today = date(2001, 10, 9)
    expected = today, today, "2001-10-09", 2001, "2001"
    assert simulate(main, backend=backend, timeout=math.inf).result == expected


@pytest.mark.either_backend
def test_functions_with_an_argument_do_as_always():
    @rt.function_node
    async def main():
        return time.gmtime(0).tm_year, time.localtime(86_400 * 400).tm_year, time.strftime("%Y", time.gmtime(0))

    assert simulate(main).result == (1970, 1971, "1970")


@rt.function_node
async def readings():
    began = anyio.current_time(), time.monotonic()
    await anyio.sleep(0.1)
    await anyio.sleep(0.2)
    return *began, anyio.current_time(), time.monotonic()


def test_the_clock_begins_anywhere_and_agrees(backend):
    starts = set()
    for seed in range(5):
        outcome = simulate(readings, seed=seed, backend=backend)
        began, other, ended, other_end = outcome.unwrap()
        assert began == other
        assert ended == other_end == pytest.approx(began + 0.3)
        assert outcome.duration == pytest.approx(0.3, abs=1e-8)
        assert outcome.info.records[0].started == BEGAN
        starts.add(began)
    assert 0.0 in starts
    assert len(starts) == 5
    assert simulate(readings, seed=3, backend=backend, start=7).result[0] == 7
    assert simulate(readings, backend=backend, start=7.5, world="real").result[0] == 7.5
    assert run(readings, backend=backend)[0] == 0


def test_absolute_times_for_relative_ones_are_found(backend):
    @rt.function_node
    async def main():
        with anyio.move_on_after(anyio.current_time() + 2):
            await anyio.sleep(100)

    durations = {simulate(main, seed=seed, backend=backend).duration for seed in range(4)}
    assert durations == {2, 100}


def test_a_resumed_run_begins_later(backend):
    seen = []

    @rt.function_node
    async def step(number):
        seen.append(time.time())
        await anyio.sleep(10)

    @rt.function_node
    async def main():
        for number in range(3):
            await rt.call(step, number)

    killed = simulate(main, backend=backend, faults=[Kill(5)])
    resumed = simulate(main, backend=backend, store=killed.store, resume=killed.info.session_id)
    assert resumed.exception is None
    assert len(seen) == 3
    assert seen[1] == seen[0] + 10
    assert seen[2] > seen[1] + 60


def test_a_resumed_run_has_other_chance_than_the_first(backend):
    def choices(seed):
        made = []

        @rt.function_node
        async def main():
            made.append(random.choice("ab"))
            await rt.call(anyio.sleep, 1)

        killed = simulate(main, seed=seed, backend=backend, faults=[Kill(1)])
        simulate(main, seed=seed, backend=backend, store=killed.store, resume=killed.info.session_id)
        return "".join(made)

    assert {choices(seed) for seed in range(20)} == {"aa", "ab", "ba", "bb"}


# ---- chance


def numbers():
    return [
        random.random(), random.randint(0, 10**9), choice(range(10**9)), random.gauss(0, 1), random.randbytes(8),
        str(uuid.uuid4()), str(uuid.uuid1()), os.urandom(8), secrets.token_hex(8), secrets.randbelow(10**9),
    ]  # fmt: skip


@rt.function_node
async def draw():
    return numbers()


def test_chance_follows_the_seed(backend):
    first = [simulate(draw, seed=seed, backend=backend).unwrap() for seed in range(3)]
    again = [simulate(draw, seed=seed, backend=backend).unwrap() for seed in range(3)]
    assert first == again
    for values in zip(*first, strict=True):
        assert len(set(values)) == 3


def test_chance_of_sync_nodes_follows_it_too(backend):
    @rt.function_node
    def in_thread():
        return numbers()

    assert simulate(in_thread, seed=1, backend=backend).unwrap() == simulate(in_thread, seed=1, backend=backend).result


@pytest.mark.either_backend
def test_identifiers_of_one_moment_differ():
    @rt.function_node
    async def main():
        return [uuid.uuid1() for _ in range(100)] + [uuid.uuid4() for _ in range(100)]

    result = simulate(main).result
    assert len(set(result)) == 200
    assert {each.version for each in result} == {1, 4}


@pytest.mark.either_backend
def test_the_time_of_the_processor_is_real():
    @rt.function_node
    async def main():
        return time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)

    before = time.process_time()
    assert before <= simulate(main, start=1000).result <= time.process_time()


@pytest.mark.either_backend
@pytest.mark.parametrize("version", [6, 7])
def test_identifiers_by_time_do_not_depend_on_earlier_ones(monkeypatch, version):
    name = f"uuid{version}"
    make = {module_and_name[1]: make for *module_and_name, make in _stand_ins.all_stand_ins()}[name]
    monkeypatch.setattr(uuid, name, make(lambda *_: "real"), raising=False)  # as of Python 3.14

    @rt.function_node
    async def main():
        made = [getattr(uuid, name)() for _ in range(3)]
        await anyio.sleep(1)
        return [*made, getattr(uuid, name)()]

    made = simulate(main).result
    assert simulate(main).result == made == sorted(set(made))
    assert {(each.int >> 76 & 0xF, each.int >> 62 & 3) for each in made} == {(version, 2)}
    assert made[:3] != simulate(main, seed=1).result[:3]
    assert getattr(uuid, name)() == "real"
    if version == 7:
        assert [each.int >> 80 for each in made] == [BEGAN * 1000] * 3 + [BEGAN * 1000 + 1000]
    else:
        moments = [(each.int >> 80) << 12 | each.int >> 64 & 0xFFF for each in made]
        assert moments == [round(BEGAN * 1e7) + 0x01B21DD213814000 + number for number in (0, 1, 2, 10**7 + 3)]


@pytest.mark.either_backend
def test_the_global_generator_is_as_before():
    before = random.getstate()

    @rt.function_node
    async def main():
        random.seed(5)
        return random.random()

    assert simulate(main).result == random.Random(5).random()
    assert random.getstate() == before


@pytest.mark.either_backend
def test_examples_of_hypothesis_differ():
    @rt.function_node
    async def main():
        return random.choice("abcdef")

    seen = set()

    @settings(database=None, deadline=None, max_examples=30)
    @given(seeds())
    def examples(seed):
        seen.add(simulate(main, seed=seed).result)

    examples()
    assert len(seen) > 2


# ---- who gets them


def test_other_threads_have_the_real_ones(backend):
    seen: dict[str, Any] = {}
    asked, answered = threading.Event(), threading.Event()

    def outside():
        asked.wait(10)
        seen["time"], seen["random"] = time.time(), random.getstate()
        answered.set()

    @rt.function_node
    async def main():
        asked.set()
        answered.wait(10)
        return time.time()

    thread = threading.Thread(target=outside)
    thread.start()
    state = random.getstate()
    result = simulate(main, backend=backend, world="real" if backend == "none" else "virtual").result
    thread.join()
    assert result == BEGAN
    assert seen["time"] > 1.5e9
    assert seen["random"] == state


@pytest.mark.either_backend
def test_logging_has_the_real_time():
    records = []

    class Handler(logging.Handler):
        def emit(self, record):
            records.append(record.created)

    logger, handler = logging.getLogger("tests.world"), Handler()
    logger.addHandler(handler)

    @rt.function_node
    async def main():
        logger.error("x")

    simulate(main)
    logger.removeHandler(handler)
    assert records[0] > 1.5e9


@pytest.mark.either_backend
def test_everything_is_put_back():
    def names():
        return time.time, time.monotonic, random.random, os.urandom, uuid.uuid1, DateTime, date, datetime, choice

    before = names()
    simulate(draw)
    assert all(each is other for each, other in zip(before, names(), strict=True))
    assert time.time() > 1.5e9
    assert not _world_patches._replaced


def test_the_world_can_be_real(backend):
    @rt.function_node
    async def main():
        return time.time(), DateTime.now().timestamp(), uuid.uuid4()

    first, second = (simulate(main, backend=backend, world="real").unwrap() for _ in range(2))
    assert min(*first[:2], *second[:2]) > 1.5e9
    assert first[2] != second[2]


def test_run_has_the_real_world_unless_asked_otherwise(backend):
    async def main():
        return time.time()

    assert run(main, backend=backend) > 1.5e9
    assert run(main, backend=backend, world="virtual") == BEGAN


def test_a_mock_of_the_user_stays(backend):
    @rt.function_node
    async def main():
        return time.time()

    with mock.patch("time.time", lambda: 5.0):
        assert simulate(main, backend=backend).result == 5.0
    assert simulate(main, backend=backend).result == BEGAN


def test_a_mock_within_the_run_stays(backend):
    @rt.function_node
    async def main():
        with mock.patch("time.time", lambda: 5.0):
            inside = time.time()
        return inside, time.time()

    assert simulate(main, backend=backend).result == (5.0, BEGAN)


def test_freezegun_wins_and_does_not_stop_the_run(backend):
    @rt.function_node
    async def main():
        await anyio.sleep(5)
        return DateTime.now().year, time.time()

    with freezegun.freeze_time("2024-01-01"):
        outcome = simulate(main, backend=backend)
    assert outcome.result == (2024, 1704067200.0)
    assert outcome.duration == 5
    assert simulate(main, backend=backend).result == (2001, BEGAN + 5)


@pytest.mark.either_backend
def test_two_worlds_at_once_do_not_meet():
    inside = threading.Barrier(2)
    results = {}

    @rt.function_node
    async def main():
        inside.wait(10)
        first = numbers(), time.time()
        await anyio.sleep(1)
        inside.wait(10)
        return first, numbers()

    def work(seed):
        results[seed] = simulate(main, seed=seed).unwrap()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    inside = threading.Barrier(1)
    for seed in (1, 2):
        assert simulate(main, seed=seed).result == results[seed]
    assert time.time() > 1.5e9


# ---- values of datetime


def test_dates_are_what_they_always_are(backend):
    @attrs.frozen
    class Note:
        at: datetime.datetime

    @rt.function_node
    async def main():
        now = DateTime.now()
        made = DateTime(2020, 1, 2)
        assert isinstance(now, DateTime)
        assert isinstance(now, datetime.datetime)
        assert isinstance(now, date)
        assert not isinstance(made.date(), DateTime)
        assert issubclass(DateTime, date)
        assert pickle.loads(pickle.dumps(now)) == copy.deepcopy(now) == now
        assert pickle.loads(pickle.dumps(DateTime)) == DateTime
        assert {DateTime: 1}[type(now)] == 1
        assert DateTime.fromisoformat("2020-01-02") == made
        assert DateTime.min < made < DateTime.max
        match made:
            case DateTime(year=2020):
                pass
            case _:
                raise AssertionError("no match")

        class Mine(DateTime):
            pass

        assert type(Mine(2020, 1, 2)) is Mine
        assert isinstance(Mine.now(), DateTime)
        converter = cattrs.Converter()
        converter.register_unstructure_hook(DateTime, lambda value: value.isoformat())
        converter.register_structure_hook(DateTime, lambda value, _: DateTime.fromisoformat(value))
        assert converter.structure(converter.unstructure(Note(now)), Note) == Note(now)
        return now, datetime.timedelta(1), DateTime

    now, _, kind = simulate(main, backend=backend).unwrap()
    assert type(now) is DateTime
    assert now == DateTime.fromtimestamp(BEGAN)
    assert isinstance(now, kind)
    assert pickle.loads(pickle.dumps(kind)) is DateTime


# ---- libraries


def test_retries_of_tenacity_end_at_their_deadline(backend):
    @rt.function_node
    async def main():
        tries = 0

        @tenacity.retry(stop=tenacity.stop_after_delay(30), wait=tenacity.wait_random(1, 9), sleep=anyio.sleep)
        async def fails():
            nonlocal tries
            tries += 1
            raise ConnectionError

        with pytest.raises(tenacity.RetryError):
            await fails()
        return tries

    results = [simulate(main, seed=seed, backend=backend) for seed in range(3)]
    assert all(outcome.result in range(4, 31) for outcome in results)
    assert all(21 <= outcome.duration <= 39 for outcome in results)
    assert len({outcome.duration for outcome in results}) == 3


# ---- options


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"world": "flat"}, "world is 'flat'; use 'virtual' or 'real'"),
        ({"world": None}, "world is None; use 'virtual' or 'real'"),
        ({"start": -1}, "start is -1; use a number of seconds from 0 to 1e9"),
        ({"start": "now"}, "start is 'now'; use a number of seconds"),
        ({"start": float("nan")}, "start is nan; use a number of seconds"),
    ],
)
@pytest.mark.either_backend
def test_a_wrong_world_is_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        simulate(draw, **options)


@pytest.mark.either_backend
def test_the_code_of_an_outcome_has_them():
    assert simulate(draw, world="real", start=3).code == (
        "simulate(draw, seed=0, backend='asyncio', start=3, world='real')"
    )
