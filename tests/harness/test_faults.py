"""Fault plans: each kind of fault at async and sync nodes, on both backends; valid plans; their code."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from fractions import Fraction

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, GlobalTimeOutError
from railtracks.state import Reason, Status
from railtracks.testing import ProcessKilled, Violation, check, faults, mark, resume, simulate, trees
from railtracks.testing.faults import Cancel, Delay, DelaySave, FailSave, Fault, Hang, Kill, LoseWorker, Raise, Return

ran = []


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()


async def async_step(x):
    await anyio.sleep(1)
    ran.append(x)
    return x


def sync_step(x):
    ran.append(x)
    return x


async def five(step):
    return await rt.call_batch(step, range(5), limit=1)


STEPS = pytest.mark.parametrize("step", [async_step, sync_step], ids=lambda step: step.__name__)


def kinds(outcome):
    return [event.detail for event in outcome.trace if event.what == "fault"]


# ---- at calls


@STEPS
def test_raise_in_place_of_the_node(backend, step):
    outcome = simulate(step, 1, backend=backend, faults=[Fault(step, Raise(ConnectionError("lost")))])
    check(outcome)
    assert isinstance(outcome.exception, ConnectionError)
    assert str(outcome.exception) == "lost"
    assert not ran
    assert outcome.info.records[0].status is Status.FAILED
    assert kinds(outcome) == ["Raise(ConnectionError('lost'))"]


@STEPS
def test_raise_after_the_node_did_its_work(backend, step):
    outcome = simulate(step, 1, backend=backend, faults=[Fault(step, Raise(ConnectionError, after=True))])
    check(outcome)
    assert isinstance(outcome.exception, ConnectionError)
    assert ran == [1]


def test_each_raise_is_an_exception_of_its_own(backend):
    given = ValueError("one")
    outcome = simulate(five, async_step, backend=backend, faults=[Fault(async_step, Raise(given))])
    assert all(type(error) is ValueError and error.args == ("one",) for error in outcome.result)
    assert len({id(error) for error in [*outcome.result, given]}) == 6
    assert given.__traceback__ is None


@STEPS
def test_return_in_place_of_the_node(backend, step):
    outcome = simulate(step, 1, backend=backend, faults=[Fault(step, Return({"a": 1}))])
    check(outcome)
    assert (outcome.result, outcome.exception, ran) == ({"a": 1}, None, [])


@STEPS
@pytest.mark.parametrize("after", [False, True])
def test_delay_takes_virtual_time(backend, step, after):
    outcome = simulate(step, 1, backend=backend, faults=[Fault(step, Delay(100, after=after))])
    check(outcome)
    assert outcome.result == 1
    assert outcome.duration == (101 if step is async_step else 100)


@STEPS
def test_hang_until_the_timeout(backend, step):
    outcome = simulate(step, 1, backend=backend, timeout=60, faults=[Fault(step, Hang())])
    check(outcome)
    assert isinstance(outcome.exception, GlobalTimeOutError)
    assert (outcome.duration, ran) == (60, [])
    assert outcome.info.records[0].reason is Reason.TIMEOUT


@STEPS
def test_cancel_comes_from_outside(backend, step):
    outcome = simulate(five, step, backend=backend, faults=[Fault(step, Cancel(), call=3)])
    check(outcome)
    assert outcome.was_cancelled
    assert ran == [0, 1]
    assert [record.reason for record in outcome.info.records] == [Reason.OUTSIDE, None, None, Reason.OUTSIDE]


@STEPS
def test_a_lost_worker_never_reports(backend, step):
    outcome = simulate(step, 1, backend=backend, timeout=60, faults=[Fault(step, LoseWorker())])
    check(outcome)
    assert isinstance(outcome.exception, GlobalTimeOutError)
    assert ran == [1]
    (record,) = outcome.info.records
    assert record.abandoned is (step is sync_step)


# ---- where


def test_the_nth_call_of_a_node(backend):
    outcome = simulate(five, async_step, backend=backend, faults=[Fault("async_step", Return("x"), call=2)])
    assert outcome.result == [0, "x", 2, 3, 4]


def test_the_nth_call_of_any_node(backend):
    outcome = simulate(five, async_step, backend=backend, faults=[Fault(None, Return("x"), call=2)])
    assert outcome.result == ["x", 1, 2, 3, 4]


def test_each_call_with_a_probability_decided_by_the_seed(backend):
    plan = [Fault(async_step, Return("x"), probability=0.5)]
    results = [tuple(simulate(five, async_step, seed=seed, faults=plan).result) for seed in range(12)]
    assert len(set(results)) > 4
    assert 15 < sum(result.count("x") for result in results) < 45
    assert results == [
        tuple(simulate(five, async_step, seed=seed, backend=backend, faults=plan).result) for seed in range(12)
    ]


@pytest.mark.parametrize(("probability", "expected"), [(0, [0, 1, 2, 3, 4]), (1, ["x"] * 5), (1.0, ["x"] * 5)])
def test_probabilities_at_the_ends(probability, expected):
    assert (
        simulate(five, async_step, faults=[Fault(async_step, Return("x"), probability=probability)]).result == expected
    )


def test_several_faults_at_one_call_come_in_their_order(backend):
    plan = [Fault(async_step, Delay(10)), Fault(async_step, Raise(KeyError, after=True)), Fault(None, Delay(5), call=1)]
    outcome = simulate(async_step, 1, backend=backend, faults=plan)
    check(outcome)
    assert kinds(outcome) == ["Delay(10)", "Delay(5)", "Raise(KeyError, after=True)"]
    assert isinstance(outcome.exception, KeyError)
    assert outcome.duration == 16


def test_a_node_is_found_by_its_own_name():
    node = rt.function_node(async_step, name="renamed")
    assert Fault(node, Hang()).node == "renamed"
    assert simulate(node, 1, faults=[Fault(node, Return(2))]).result == 2


def test_faults_reach_the_nodes_of_nested_sessions(backend):
    async def outer():
        async with rt.Session():
            return await rt.call(sync_step, 1)

    assert simulate(outer, backend=backend, faults=[Fault(sync_step, Return(2))]).result == 2


def test_faults_that_never_happened_are_reported():
    happens, never = Fault(async_step, Delay(1)), Fault("nobody", Delay(2))
    outcome = simulate(async_step, 1, faults=[happens, never, FailSave(at="sync", after=9)])
    assert outcome.unused_faults == (never, FailSave(at="sync", after=9))


def test_also_if_the_same_happened_at_another_node():
    never = Fault("nobody", Raise(KeyError))
    assert simulate(async_step, 1, faults=[Fault(async_step, Raise(KeyError)), never]).unused_faults == (never,)


def test_a_node_may_catch_an_injected_error(backend):
    async def careful():
        try:
            return await rt.call(async_step, 1)
        except ConnectionError:
            return await rt.call(async_step, 2)

    outcome = simulate(careful, backend=backend, faults=[Fault(async_step, Raise(ConnectionError), call=1)])
    check(outcome)
    assert outcome.result == 2


def test_an_exception_that_cannot_be_copied_is_raised_as_it_is(backend):
    class Stubborn(Exception):
        def __copy__(self):
            raise TypeError

    given = Stubborn()
    assert simulate(async_step, 1, backend=backend, faults=[Fault(None, Raise(given))]).exception is given


# ---- of the store

PLACES = pytest.mark.parametrize("at", ["save", "open", "append"])


@STEPS
@PLACES
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("durability", ["async", "sync"])
def test_a_store_that_cannot_write_harms_nothing_but_the_file(backend, step, at, after, durability):
    plan = [FailSave("no permission", at=at, after=after)]
    outcome = simulate(five, step, backend=backend, faults=plan, durability=durability)
    check(outcome)
    assert outcome.result == ran == [0, 1, 2, 3, 4]
    assert [record.status for record in outcome.info.records] == [Status.COMPLETED] * 6
    kept = outcome.store.read("s0")
    if at == "save" and not after:
        assert kept.document is None
        assert outcome.sessions[0].saved == outcome.info  # the journal has all of it
    else:
        assert kept.document is not None
        assert outcome.sessions[0].saved == outcome.info


def test_a_store_that_cannot_sync(backend):
    outcome = simulate(five, async_step, backend=backend, faults=[FailSave(at="sync")], durability="sync")
    check(outcome)
    assert outcome.result == [0, 1, 2, 3, 4]
    assert outcome.unused_faults == ()


def test_the_errors_are_the_system_s_own(caplog):
    async def node():
        return 1

    for error, number in (("disk full", errno.ENOSPC), ("no permission", errno.EACCES)):
        caplog.clear()
        simulate(node, faults=[FailSave(error)], logging_setting="REGULAR")  # type: ignore[arg-type]
        errors = [record for record in caplog.records if record.levelname == "ERROR"]
        assert errors
        assert any(f"[Errno {number}]" in record.getMessage() for record in errors)


# ---- death of the process


async def total():
    return await rt.call(async_step, 1) + await rt.call(sync_step, 2) + await rt.call(async_step, 3)


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_a_killed_run_is_resumed_and_nothing_completes_twice(backend, durability):
    """Calls that had completed do not run again."""
    kills = 0
    for after in range(100):
        ran.clear()
        options = {"durability": durability, "seed": 3, "backend": backend}
        outcome = simulate(total, faults=[Kill(after)], **options)
        check(outcome)
        if outcome.exception is None:
            assert outcome.unused_faults == (Kill(after),)
            break
        kills += 1
        assert type(outcome.exception) is ProcessKilled
        assert outcome.store.read("s0").document is None
        completed = [r.result for r in outcome.info.records if r.name != "total" and r.status is Status.COMPLETED]
        before = list(ran)
        assert before[: len(completed)] == completed
        assert len(before) <= len(completed) + 1
        if not after:
            continue  # there is no record of a call whose arguments could be taken
        again = simulate(total, store=outcome.store, resume=outcome.info.session_id, **options)
        check(again)
        assert again.result == 6
        assert ran[len(before) :] == [1, 2, 3][len(completed) :], f"after {after} records"
        assert again.info.session_id == outcome.info.session_id
    assert kills == 9  # the beginning and the end of four calls, and the end of the session


def test_after_the_kill_the_record_is_what_the_journal_says(backend):
    outcome = simulate(total, backend=backend, faults=[Kill(after=3)])
    assert [(r.name, r.status) for r in outcome.info.records] == [
        ("total", Status.OPEN), ("async_step", Status.COMPLETED),
    ]  # fmt: skip
    assert "killed after 3 journal entries" in outcome.end


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_a_kill_at_a_node_comes_before_its_end_is_on_record(backend, durability):
    ran.clear()
    outcome = simulate(total, faults=[Kill(0, async_step, call=2)], durability=durability, backend=backend)
    check(outcome)
    assert "killed after 0 journal entries from call 2 of async_step on" in outcome.end
    assert ran == [1, 2, 3]
    assert [(record.name, record.status) for record in outcome.info.records] == [
        ("total", Status.OPEN), ("async_step", Status.COMPLETED), ("sync_step", Status.COMPLETED),
        ("async_step", Status.OPEN),
    ]  # fmt: skip
    assert resume(outcome).result == 6
    assert ran == [1, 2, 3, 3]


def test_a_kill_at_a_call_that_is_not_made_is_unused(backend):
    kill = Kill(0, "async_step", call=3)
    outcome = simulate(total, backend=backend, faults=[kill])
    assert (outcome.result, outcome.unused_faults) == (6, (kill,))


def test_a_run_that_is_killed_again_and_again_gets_on(backend):
    """Each attempt resumes the one before, and gets further."""
    outcome = simulate(total, backend=backend, faults=[Kill(after=3)])
    for after in (5, 7, 20):
        assert type(outcome.exception) is ProcessKilled
        outcome = simulate(total, backend=backend, faults=[Kill(after)], store=outcome.store, resume="s0")
        check(outcome)
    assert outcome.result == 6
    assert ran == [1, 2, 3]


async def large(x):
    ran.append(x)
    return str(x) * 100_000


async def two_large():
    return len(await rt.call(large, 1)) + len(await rt.call(large, 2))


def test_large_results_stay_after_a_kill(backend):
    outcome = simulate(two_large, backend=backend, faults=[Kill(after=5)])
    again = simulate(two_large, backend=backend, store=outcome.store, resume="s0")
    assert (again.result, ran) == (200_000, [1, 2])


@pytest.mark.parametrize("options", [{"save_state": False}, {"durability": "exit"}], ids=str)
def test_kill_needs_a_journal(options):
    with pytest.raises(ConfigError, match="Kill needs a journal"):
        simulate(total, async_step, faults=[Kill(after=1)], **options)


# ---- what a plan may say

WRONG = [
    (lambda: Raise("text"), r"Raise: 'text' is not an exception; write Raise\(ValueError\('text'\)\)"),  # type: ignore[arg-type]
    (lambda: Raise(int), "is not an exception"),  # type: ignore[arg-type]
    (lambda: Raise(KeyboardInterrupt), "is not an exception"),  # type: ignore[arg-type]
    (lambda: Raise(KeyError, after=1), "Raise: after is 1; use True or False"),  # type: ignore[arg-type]
    (lambda: Delay(-1), "Delay: seconds is -1; use 0 or more"),
    (lambda: Delay("1"), "Delay: seconds is '1'; use 0 or more"),  # type: ignore[arg-type]
    (lambda: Delay(True), "Delay: seconds is True"),
    (lambda: Delay(float("nan")), "Delay: seconds is nan"),
    (lambda: Delay(float("inf")), "Delay: seconds is inf"),
    (lambda: Delay(Fraction(1, 2)), "Delay: seconds is Fraction"),  # type: ignore[arg-type]
    (lambda: Delay(1, after="yes"), "Delay: after is 'yes'"),  # type: ignore[arg-type]
    (lambda: Fault("a", KeyError), "Fault: .* is not an action; write Fault"),  # type: ignore[arg-type]
    (lambda: Fault("a", Hang), "is not an action"),  # type: ignore[arg-type]
    (lambda: Fault("a", Kill(1)), "is not an action"),  # type: ignore[arg-type]
    (lambda: Fault("a", Hang(), call=0), "Fault: call is 0; use a whole number of at least 1"),
    (lambda: Fault("a", Hang(), call=1.0), "Fault: call is 1.0"),  # type: ignore[arg-type]
    (lambda: Fault("a", Hang(), call=True), "Fault: call is True"),
    (lambda: Fault("a", Hang(), probability=1.1), "Fault: probability is 1.1; use a number from 0 to 1"),
    (lambda: Fault("a", Hang(), probability="1"), "Fault: probability is '1'"),  # type: ignore[arg-type]
    (lambda: Fault("a", Hang(), probability=float("nan")), "Fault: probability is nan"),
    (lambda: Fault("a", Hang(), probability=True), "Fault: probability is True"),
    (lambda: FailSave("disk ful"), "FailSave: error is 'disk ful'; use 'disk full' or 'no permission'"),  # type: ignore[arg-type]
    (lambda: FailSave(at="close"), "FailSave: at is 'close'"),  # type: ignore[arg-type]
    (lambda: FailSave(after=-1), "FailSave: after is -1; use a whole number of at least 0"),
    (lambda: FailSave(after=None), "FailSave: after is None"),  # type: ignore[arg-type]
    (lambda: FailSave(times=0), "FailSave: times is 0; use a whole number of at least 1"),
    (lambda: FailSave(times=1.5), "FailSave: times is 1.5"),  # type: ignore[arg-type]
    (lambda: DelaySave(-1), "DelaySave: seconds is -1; use 0 or more"),
    (lambda: DelaySave(float("nan")), "DelaySave: seconds is nan"),
    (lambda: DelaySave(1, at="append"), "DelaySave: at is 'append'; use 'save' or 'sync'"),  # type: ignore[arg-type]
    (lambda: DelaySave(1, times=True), "DelaySave: times is True"),
    (lambda: Kill(-1), "Kill: after is -1"),
    (lambda: Kill(1.5), "Kill: after is 1.5"),  # type: ignore[arg-type]
    (lambda: Kill(None), "Kill: after is None"),  # type: ignore[arg-type]
    (lambda: Kill(0, "a", 0), "Kill: call is 0; use a whole number of at least 1"),
]


@pytest.mark.parametrize(("make", "text"), WRONG, ids=[text for _, text in WRONG])
def test_what_makes_no_sense_is_refused_at_once(make, text):
    """The error comes where the fault is written."""
    with pytest.raises(ConfigError, match=text):
        make()


def test_a_fault_with_a_wrong_node_is_refused():
    with pytest.raises(rt.exceptions.NodeCreationError, match="Fault"):
        Fault(3, Hang())


def test_a_class_that_cannot_be_made_of_text_is_refused_at_once():
    """The error comes where the fault is written."""
    with pytest.raises(ConfigError, match="UnicodeDecodeError"):
        Raise(UnicodeDecodeError)


# ---- its code

PLANS = [
    Fault("a", Raise(ValueError)),
    Fault("a", Raise(ValueError, after=True), call=2),
    Fault(None, Return(None), probability=0.25),
    Fault(None, Return({"a": [1, (2, "b")]})),
    Fault("a", Delay(1)),
    Fault("a", Delay(1.5, after=True), call=1, probability=0.5),
    Fault('it\'s "quoted"', Hang()),
    Fault("a", Cancel()),
    Fault("a", LoseWorker()),
    FailSave(),
    FailSave("no permission", at="append", after=3),
    FailSave(after=3, times=2),
    DelaySave(1.5),
    DelaySave(2, at="sync", after=3, times=2),
    Kill(after=0),
    Kill(after=1, node="a", call=2),
]


@pytest.mark.parametrize("fault", PLANS, ids=repr)
def test_its_repr_is_the_code_that_makes_it(fault):
    again = eval(repr(fault), vars(faults))
    assert again == fault
    assert repr(again) == repr(fault)


def test_the_repr_of_a_fault_with_an_exception_is_its_code():
    """The faults cannot be compared, because an exception is equal only to itself."""
    fault = Fault("a", Raise(ConnectionError("it's lost", 3), after=True))
    assert repr(fault) == """Fault('a', Raise(ConnectionError("it's lost", 3), after=True))"""
    assert repr(eval(repr(fault), vars(faults))) == repr(fault)


def test_errors_beside_a_cancellation_are_in_the_outcome(backend):
    """On trio a scope removes the cancellations from a nursery's group, and passes the errors on."""
    for call in range(1, 6):
        tree = trees.Sequence(trees.Parallel(trees.Raise(), trees.Raise()))
        check(simulate(tree, backend=backend, faults=[Fault(None, Cancel(), call=call)]))


def test_a_node_that_cancels_its_own_task_is_in_the_outcome():
    @rt.function_node
    async def node():
        asyncio.current_task().cancel()
        await anyio.sleep(1)

    outcome = simulate(node)
    assert outcome.was_cancelled
    check(outcome)


def test_a_simulation_in_a_node_is_one_of_its_own(backend):
    @rt.function_node
    def nested():
        inner = simulate(trees.Sequence(trees.Return(1), trees.Return(2)), backend=backend)
        check(inner)
        return inner.result

    outcome = simulate(nested, backend=backend)
    check(outcome)
    assert outcome.result == [1, 2]


def test_the_story_of_a_resumed_run_begins_with_what_was_killed(backend):
    sent = []

    @rt.function_node
    async def send():
        sent.append("mail")
        mark(f"sent {len(sent)}")

    @rt.function_node
    async def post():
        await rt.call(send)

    def is_sent_once(outcome):
        assert len(sent) == 1

    resumed = resume(simulate(post, backend=backend, faults=[Kill(2)]))
    with pytest.raises(Violation) as raised:
        check(resumed, is_sent_once)
    for text in (str(raised.value), str(resumed)):
        first, second = text.split("the run raised ProcessKilled: killed after 2 journal entries; resumed")
        assert "mark      sent 1" in first
        assert "mark      sent 2" not in first
        assert "mark      sent 2" in second


def test_a_run_is_cancelled_while_a_call_waits(backend):
    events = []

    @rt.function_node
    async def wait(seconds):
        try:
            await anyio.sleep(seconds)
            events.append((seconds, "done"))
        except anyio.get_cancelled_exc_class():
            events.append((anyio.current_time(), "cancelled"))
            raise

    @rt.function_node
    async def main():
        await rt.call(wait, 1)
        await rt.call(wait, 4)

    outcome = simulate(
        main, backend=backend, faults=[Fault("wait", Cancel(2), call=1), Fault("wait", Cancel(2), call=2)]
    )
    check(outcome)
    assert events == [(1, "done"), (3, "cancelled")]
    assert outcome.was_cancelled
    assert [fault.call for fault in outcome.unused_faults] == [1]
    assert [event.who for event in outcome.trace if event.what == "fault"] == ["s0.2 wait"]


def test_a_call_that_has_failed_is_not_cancelled_later(backend):
    @rt.function_node
    async def fail():
        await anyio.sleep(5)

    @rt.function_node
    async def main():
        with contextlib.suppress(ConnectionError):
            await rt.call(fail)
        await anyio.sleep(5)
        return "ok"

    plan = [Fault("fail", Cancel(2)), Fault("fail", Raise(ConnectionError))]
    outcome = simulate(main, backend=backend, faults=plan)
    assert (outcome.result, outcome.unused_faults) == ("ok", (plan[0],))
