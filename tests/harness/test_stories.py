"""Stories: what calls read, what they wait for and who holds it, and the marks of users."""

from __future__ import annotations

import asyncio
import math
import re

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import Violation, check, mark, simulate


def events(outcome, *kinds):
    """Return the events of these kinds, each as who, what and detail."""
    return [f"{event.who} {event.what} {event.detail}" for event in outcome.trace if event.what in kinds]


def places(outcome):
    """Return where each cancelled call waited, and for what, without file and line, and without the cause."""
    found = {}
    for event in outcome.trace:
        if event.what == "cancelled":
            found[event.who] = re.sub(r" \(test_stories\.py:\d+\)", "", event.place).partition(", since")[0]
    return found


# ---- reads


@rt.function_node
async def deposit(amount):
    balance = rt.context.get("balance")
    await anyio.sleep(1)
    rt.context.put("balance", balance + amount)
    return rt.context.get("unit", "EUR")


@rt.function_node
async def bank():
    rt.context.put("balance", 0)
    async with anyio.create_task_group() as group:
        group.start_soon(rt.call, deposit, 1)
        group.start_soon(rt.call, deposit, 2)
    return rt.context.get("balance")


def test_reads_of_keys_that_another_call_writes_are_shown(backend):
    outcome = simulate(bank, backend=backend)
    found = events(outcome, "get", "put")
    assert sorted(found[1:3]) == ["s0.1 deposit get 'balance': 0", "s0.2 deposit get 'balance': 0"]
    assert found[0] == "s0.0 bank put 'balance': 0"
    assert found[-1] == f"s0.0 bank get 'balance': {outcome.result}"
    assert len(found) == 6, "not the reads of 'unit', which nobody writes"


def test_a_key_that_only_its_reader_writes_is_not_shown(backend):
    @rt.function_node
    async def alone():
        rt.context.put("own", 1)
        return rt.context.get("own")

    assert events(simulate(alone, backend=backend), "get") == []


def test_a_read_of_a_missing_key_says_so(backend):
    @rt.function_node
    async def sets():
        rt.context.put("late", 1)

    @rt.function_node
    async def asks():
        rt.context.get("late", None)
        await rt.call(sets)

    assert events(simulate(asks, backend=backend), "get") == ["s0.0 asks get 'late': no such key"]


def test_a_loop_that_asks_again_is_shown_once_per_change(backend):
    @rt.function_node
    async def finishes():
        await anyio.sleep(5)
        rt.context.put("done", True)

    @rt.function_node
    async def asks():
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, finishes)
            while not rt.context.get("done", False):
                await anyio.sleep(0.3)

    found = events(simulate(asks, backend=backend), "get")
    assert found == ["s0.0 asks get 'done': no such key", "s0.0 asks get 'done': True"]


def test_failures_keep_their_places_where_reads_are_hidden(backend):
    @rt.function_node
    async def fails():
        rt.context.get("nothing", None)
        raise ValueError("x")

    outcome = simulate(fails, backend=backend)
    assert [outcome.trace[place].what for place in outcome.failures] == ["failed"]
    check(outcome)


# ---- waits


@rt.function_node
async def holds(lock, other):
    async with lock:
        await anyio.sleep(1)
        async with other:
            pass


@rt.function_node
async def locks_in_both_orders():
    one, other = anyio.Lock(), anyio.Lock()
    async with anyio.create_task_group() as group:
        group.start_soon(rt.call, holds, one, other)
        group.start_soon(rt.call, holds, other, one)


def test_a_deadlock_says_who_holds_the_lock_that_each_waits_for(backend):
    outcome = simulate(locks_in_both_orders, backend=backend, timeout=math.inf)
    found = places(outcome)
    assert found["s0.1 holds"] == "holds, for a lock that s0.2 holds acquired in holds"
    assert found["s0.2 holds"] == "holds, for a lock that s0.1 holds acquired in holds"
    with pytest.raises(Violation, match=r"for a lock that s0\.2 holds acquired in holds"):
        check(outcome)


def test_a_call_that_times_out_says_who_holds_the_lock(backend):
    @rt.function_node
    async def keeps(lock):
        async with lock, anyio.create_task_group() as group:
            group.start_soon(rt.call, holds, lock, lock)
            await anyio.sleep(9)

    found = places(simulate(keeps, anyio.Lock(), backend=backend, timeout=5))
    assert found["s0.1 holds"] == "holds, for a lock that s0.0 keeps acquired in keeps"


async def receive(what):
    _send, stream = anyio.create_memory_object_stream(0)
    async with _send, stream:
        await stream.receive()


async def send(what):
    sending, _stream = anyio.create_memory_object_stream(0)
    async with sending, _stream:
        await sending.send(1)


async def condition(what):
    condition = anyio.Condition()
    async with condition:
        await condition.wait()


async def limiter(what):
    limiter = anyio.CapacityLimiter(1)
    async with limiter, anyio.create_task_group() as group:
        group.start_soon(rt.call, takes, limiter)


@rt.function_node
async def takes(limiter):
    async with limiter:
        pass


WAITS = {
    "for an event": lambda _: anyio.Event().wait(),
    "for a semaphore": lambda _: anyio.Semaphore(0).acquire(),
    "for a condition": condition,
    "for an item of a stream": receive,
    "for room in a stream": send,
    "asleep": lambda _: anyio.sleep(100),
    "asleep for ever": lambda _: anyio.sleep_forever(),
}


@rt.function_node
async def waits(what):
    await WAITS[what](what)


@pytest.mark.parametrize("what", WAITS)
def test_a_call_that_is_cancelled_says_what_it_waited_for(backend, what):
    outcome = simulate(waits, what, backend=backend, timeout=5)
    assert places(outcome)["s0.0 waits"].endswith(f", {what}")


def test_a_limiter_says_who_holds_it(backend):
    @rt.function_node
    async def takes_all():
        await limiter(None)

    outcome = simulate(takes_all, backend=backend, timeout=5)
    assert places(outcome)["s0.1 takes"] == "takes, for a limiter that s0.0 takes_all acquired in limiter"


@pytest.mark.either_backend
@pytest.mark.parametrize(
    ("wait", "text"),
    [
        (lambda: asyncio.Queue().get(), "for an item of a queue"),
        (lambda: asyncio.Event().wait(), "for an event"),
        (lambda: asyncio.sleep(100), "asleep"),
    ],
    ids=["queue", "event", "sleep"],
)
def test_waits_of_asyncio_are_named(wait, text):
    @rt.function_node
    async def waits_natively():
        await wait()

    outcome = simulate(waits_natively, backend="asyncio", timeout=5)
    assert places(outcome)["s0.0 waits_natively"].endswith(f", {text}")


def test_a_caller_leaves_what_is_waited_for_to_the_call(backend):
    @rt.function_node
    async def calls():
        await rt.call(waits, "for an event")

    found = places(simulate(calls, backend=backend, timeout=5))
    assert found == {"s0.0 calls": "calls", "s0.1 waits": "waits, for an event"}


def test_a_cancelled_call_says_whether_by_a_deadline(backend):
    @rt.function_node
    async def cancels(delay):
        with anyio.move_on_after(delay):
            await rt.call(waits, "for an event")
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, waits, "for an event")
            await anyio.sleep(1)
            group.cancel_scope.cancel()

    outcome = simulate(cancels, 5, backend=backend)
    found = places(outcome)
    assert found == {"s0.1 waits": "waits, for an event, by a deadline", "s0.2 waits": "waits, for an event"}


def test_a_deadline_of_the_session_is_the_reason_itself(backend):
    assert "by a deadline" not in str(simulate(waits, "for an event", backend=backend, timeout=5))


# ---- turns


def test_events_of_one_step_are_of_one_turn(backend):
    @rt.function_node
    async def instant():
        rt.context.put("a", 1)
        rt.context.put("b", 2)
        await anyio.sleep(1)
        rt.context.put("c", 3)

    turns = {event.detail: event.turn for event in simulate(instant, backend=backend).trace if event.what == "put"}
    assert turns["'a': 1"] == turns["'b': 2"] < turns["'c': 3"]


# ---- rules that raise, and plain asserts


def needs_a_key(outcome):
    assert {"a": 1}[outcome.result]


def calls_for_a_list(outcome):
    "-".join(outcome.result)


@rt.function_node
async def returns(value):
    return value


@pytest.mark.parametrize(
    ("rule", "value", "text", "line"),
    [
        (needs_a_key, "b", "KeyError('b')", 'assert {"a": 1}[outcome.result]'),
        (calls_for_a_list, 3, "TypeError('can only join an iterable')", '"-".join(outcome.result)'),
    ],
    ids=["KeyError", "TypeError"],
)
def test_a_rule_that_raises_is_a_violation_with_the_story(backend, rule, value, text, line):
    with pytest.raises(Violation) as raised:
        check(simulate(returns, value, backend=backend), rule)
    name = rule.__name__
    first, *rest = str(raised.value).splitlines()
    assert first.startswith(f"{name.replace('_', ' ')}: it raised {text} in {name} (test_stories.py:")
    assert first.endswith(f"): `{line}`")
    assert any("s0.0 returns" in each for each in rest)
    assert raised.value.broken == name
    assert repr(raised.value.__cause__) == text


def test_a_rule_that_is_used_wrongly_is_no_violation(backend):
    def misused(outcome):
        raise ConfigError("write something else")

    with pytest.raises(ConfigError):
        check(simulate(returns, 1, backend=backend), misused)


ASSERTS = """
from railtracks.testing import check, simulate

def test_it():
    outcome = simulate(parent, 1, 2, seed=3)
    assert outcome.result == [1, 3]

def test_violation():
    def rule(outcome):
        assert outcome.result == 3
    check(simulate(parent, 1), rule)

def test_no_run():
    assert False

def test_long():
    assert simulate(parent, *[1] * 36).result == 1
"""


def test_a_plain_assert_shows_the_story_of_the_last_run(suite):
    result = suite(ASSERTS)
    result.assert_outcomes(failed=4)
    text = result.stdout.str()
    assert text.count("railtracks story of the last run") == 2, "a Violation has the story in its text"
    story = text.partition("railtracks story of the last run")[2].partition("\n___")[0]
    assert "s0.2 child               completed 2" in story
    assert "to see it again:\n  simulate(parent, 1, 2, seed=3, backend='asyncio')" in story
    assert "... 16 events before" in text


# ---- marks


@rt.function_node
def marks_in_a_thread():
    mark("in a thread")


@rt.function_node
async def marks(password):
    mark(f"begins with {password} and {object()}")
    await rt.call(marks_in_a_thread)


def test_marks_are_in_the_story(backend):
    outcome = simulate(marks, "hunter22-hunter22", backend=backend)
    assert events(outcome, "mark") == [
        "s0.0 marks mark begins with *** and <object object>",
        "s0.1 marks_in_a_thread mark in a thread",
    ]
    lines = [line for line in str(outcome).splitlines() if " mark " in line]
    assert [line[0] for line in lines] == ["*", "*"]


def test_a_mark_changes_nothing_else(backend):
    @rt.function_node
    async def pair(marked):
        async def work():
            for _ in range(3):
                if marked:
                    mark("x")
                await rt.call(holds, anyio.Lock(), anyio.Lock())

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            group.start_soon(work)

    for seed in range(5):
        with_marks = simulate(pair, True, seed=seed, backend=backend)
        without = simulate(pair, False, seed=seed, backend=backend)
        assert [e.who for e in with_marks.trace if e.what != "mark"] == [e.who for e in without.trace]


def test_outside_of_a_run_a_mark_does_nothing(backend):
    mark("nothing")
    assert anyio.run(marks_without_a_session, backend=backend) is None


async def marks_without_a_session():
    mark("nothing")


def test_a_mark_is_a_text():
    with pytest.raises(ConfigError, match=r"mark: 3 is not a string; write mark\(f'...'\)"):
        mark(3)  # type: ignore[arg-type]
