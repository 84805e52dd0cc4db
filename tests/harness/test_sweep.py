"""sweep: it tries each thing that can go wrong, finds what breaks, passes what does not, and says what it left out."""

from __future__ import annotations

import itertools
import math
import random

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.testing import ProcessKilled, Violation, check, resume, simulate, sweep
from railtracks.testing._simulation._sweep_plans import FEW, calls_of, cancellations, delays_of, shares, spread
from railtracks.testing.faults import Cancel, Delay, FailSave, Fault, Hang, Kill, LoseWorker, Raise, Return
from railtracks.testing.invariants import is_cleaned_up

bank = []


@rt.function_node
async def charge(order):
    await anyio.sleep(0.2)
    bank.append(order)
    return f"receipt for {order}"


@rt.function_node
async def checkout(order):
    try:
        return await rt.call(charge, order)
    except ConnectionError:
        await anyio.sleep(1)
        return await rt.call(charge, order)


@rt.function_node(name="charge")
async def charge_once(order):
    await anyio.sleep(0.2)
    if order not in bank:
        bank.append(order)
    return f"receipt for {order}"


@rt.function_node(name="checkout")
async def checkout_once(order):
    try:
        return await rt.call(charge_once, order)
    except ConnectionError:
        await anyio.sleep(1)
        return await rt.call(charge_once, order)


def no_order_is_charged_twice(outcome):
    assert bank.count("A1") <= 1, f"payments: {bank}"


def swept(flow, *args, **options):
    options.setdefault("invariants", [no_order_is_charged_twice])
    return sweep(flow, *args, setup=bank.clear, **options)


def plans(result):
    return [(violation.outcome.faults, violation.outcome.before) for violation in result.violations]


# ---- what it finds


def test_it_finds_an_answer_that_is_lost(backend):
    result = swept(checkout, "A1", backend=backend, kills=False, pairs=0)
    lost = (Fault("charge", Raise(ConnectionError("injected"), after=True), call=1),)
    assert [repr(faults) for faults, _ in plans(result)] == [repr(lost)]
    with pytest.raises(Violation, match="no order is charged twice") as caught:
        result.check()
    assert caught.value is result.violations[0]
    assert "a call raises, after the work" in caught.value.__notes__[0]


def test_it_finds_what_is_done_again_after_a_kill(backend):
    result = swept(checkout, "A1", backend=backend, exceptions=[], pairs=0)
    found = [violation for violation in result.violations if violation.outcome.before is not None]
    killed = found[0].outcome.before
    assert killed.faults == (Kill(2),)
    assert len(bank) <= 2
    bank.clear()
    again = resume(simulate(checkout, "A1", backend=backend, faults=[Kill(2)]))
    with pytest.raises(Violation):
        check(again, no_order_is_charged_twice)
    assert eval(found[0].outcome.code, {"resume": resume, "simulate": simulate, "Kill": Kill, "checkout": checkout})


def test_it_passes_what_is_right(backend):
    result = swept(checkout_once, "A1", backend=backend)
    assert result.violations == ()
    result.check()
    assert result.clean.result == "receipt for A1"
    assert result.clean.faults == ()
    assert result.runs > 60


def test_it_finds_that_the_second_of_two_faults_breaks(backend):
    """The retry fails as well, which a single fault does not show."""
    undone = []

    @rt.function_node
    async def send():
        pass

    @rt.function_node
    async def send_again():
        pass

    @rt.function_node
    async def flow():
        try:
            await rt.call(send)
        except ConnectionError:
            undone.append(1)
            await rt.call(send_again)
            undone.clear()

    def is_undone(outcome):
        assert not undone or not isinstance(outcome.exception, ConnectionError), "left half undone"

    result = sweep(flow, backend=backend, invariants=[is_undone], setup=undone.clear, kills=False)
    assert [fault.node for fault in result.violations[0].outcome.faults] == ["send", "send_again"]


def test_each_call_of_a_node_that_is_tried_again_goes_wrong(backend):
    """Two errors are not enough to show what happens after three in a row."""

    @rt.function_node
    async def fetch():
        return "page"

    @rt.function_node
    async def flow():
        for wait in (1, 2, 4):
            try:
                return await rt.call(fetch)
            except ConnectionError:
                await anyio.sleep(wait)
        return None

    def there_is_a_page(outcome):
        assert outcome.exception or outcome.result, "nothing, and no error"

    result = sweep(flow, backend=backend, invariants=[there_is_a_page], kills=False)
    assert [repr(violation.outcome.faults) for violation in result.violations] == [
        f"({Fault('fetch', Raise(ConnectionError('injected'), after=after))!r},)" for after in (False, True)
    ]
    assert sweep(flow, backend=backend, invariants=[there_is_a_page], kills=False, pairs=0).violations == ()


def test_it_finds_what_takes_longer_than_a_timer(backend):
    lease, writes = {}, []

    @rt.function_node
    async def compute():
        await anyio.sleep(20)

    @rt.function_node
    async def work(me):
        await anyio.sleep(5 * me)
        while anyio.current_time() < lease.get("until", 0):
            await anyio.sleep(1)
        if writes:
            return
        lease["until"] = anyio.current_time() + 30
        await rt.call(compute)
        writes.append(me)
        lease.clear()

    @rt.function_node
    async def flow():
        await rt.call_batch(work, [0, 1])

    def one_writes(outcome):
        assert len(writes) <= 1, f"{writes}"

    def setup():
        lease.clear()
        writes.clear()

    result = sweep(flow, backend=backend, nodes=[compute], invariants=[one_writes], setup=setup, kills=False, pairs=0)
    assert all(isinstance(violation.outcome.faults[0].does, Delay) for violation in result.violations)
    assert result.violations


def test_another_process_draws_other_random_numbers(backend):
    paid = set()

    @rt.function_node
    async def pay(card):
        paid.add(card)

    @rt.function_node
    async def receipt():
        pass

    @rt.function_node
    async def flow():
        await rt.call(pay, random.choice(["visa", "master"]))
        await rt.call(receipt)

    def one_card(outcome):
        assert len(paid) <= 1, f"{paid}"

    result = sweep(flow, backend=backend, nodes=[receipt], invariants=[one_card], setup=paid.clear, max_runs=90)
    assert result.violations


def test_the_simplest_is_first():
    def story_of(outcome):
        return [] if outcome is None else [*story_of(outcome.before), *outcome.trace]

    result = swept(checkout, "A1", kills=False)
    sizes = [(len(each.outcome.faults), len(story_of(each.outcome))) for each in result.violations]
    assert len(sizes) > 1
    assert sizes == sorted(sizes)
    with pytest.raises(Violation) as caught:
        result.check()
    assert caught.value is result.violations[0]


# ---- how


def test_it_is_the_same_each_time():
    one, other = swept(checkout, "A1", max_runs=80), swept(checkout, "A1", max_runs=80)
    assert str(one) == str(other)
    assert [str(each) for each in one.violations] == [str(each) for each in other.violations]


def test_a_violation_when_nothing_goes_wrong_is_raised_at_once():
    def never(outcome):
        raise AssertionError("never")

    with pytest.raises(Violation, match="never") as caught:
        swept(checkout, "A1", invariants=[never])
    assert caught.value.outcome.faults == ()


def test_what_is_outside_is_reset_before_a_run_alone():
    seen = []

    @rt.function_node
    async def step():
        seen.append("step")

    @rt.function_node
    async def flow():
        await rt.call(step)

    def note(outcome):
        seen.append("killed" if isinstance(outcome.exception, ProcessKilled) else "ended")

    sweep(flow, nodes=[step], exceptions=[], invariants=[note], setup=lambda: seen.append("setup"), max_runs=60)
    assert seen[:3] == ["setup", "step", "ended"]
    resumed = [after for before, after in itertools.pairwise(seen) if before == "killed"]
    assert set(resumed) <= {"step", "ended", "killed"}, "not reset"
    after_end = [after for before, after in itertools.pairwise(seen) if before == "ended"]
    assert set(after_end) == {"setup"}
    assert len(resumed) > 10


@pytest.mark.parametrize(("options", "rows"), [
    ({"kills": False, "pairs": 0}, {"a call raises", "a call raises, after the work", "a call is late",
     "a call is late, after the work", "a call cancelled", "cancelled during a call", "the store fails",
     "the store fails once", "the store is late"}),
    ({"kills": False, "pairs": 0, "hang": True, "exceptions": [], "returns": {charge: None}},
     {"a call is late", "a call is late, after the work", "a call cancelled", "cancelled during a call",
      "the store fails", "the store fails once", "the store is late",
      "a call hangs", "a call loses its worker", "a call returns something else"}),
])  # fmt: skip
def test_the_table_has_a_row_for_each_kind(options, rows):
    result = swept(checkout, "A1", **options)
    assert set(result.tried) == rows
    text = str(result)
    assert all(row in text for row in rows)
    assert text.startswith(f"{result.runs} runs, {len(result.violations)} violation")
    assert sum(result.tried.values()) == result.runs - 1


def test_it_leaves_nothing_out_in_silence():
    @rt.function_node
    async def step(number):
        await anyio.sleep(1)

    @rt.function_node
    async def flow():
        for number in range(12):
            await rt.call(step, number)

    result = sweep(flow, max_runs=100)
    assert result.runs <= 100
    assert "a call raises: " in result.left_out
    assert "(max_runs=100)" in result.left_out
    assert "(pairs=100)" in result.left_out
    assert len(result.tried) >= 10  # each kind has its share
    small = swept(checkout, "A1", kills=False, pairs=0)
    assert small.left_out == ""
    assert str(small).endswith("left out: nothing")


def fail():
    raise LookupError("no order")


def test_it_warns_if_the_flow_fails_with_nothing_going_wrong(backend):
    with pytest.warns(UserWarning, match="raised LookupError: no order; .* write raises=LookupError"):
        result = sweep(fail, backend=backend, save_state=False)
    result.check()
    assert isinstance(result.clean.exception, LookupError)
    assert "with nothing going wrong, the run raised LookupError: no order" in result.left_out


def test_a_flow_that_should_fail_is_swept(backend):
    @rt.function_node
    async def refuse():
        await rt.call(charge_once, "A1")
        raise LookupError("no order")

    result = swept(refuse, backend=backend, raises=(KeyError, LookupError), pairs=0)
    result.check()
    assert result.tried["a call raises"] == 2
    assert "with nothing going wrong, the run raised LookupError: no order" in result.left_out
    assert "with nothing going wrong" not in sweep(charge, "A1", save_state=False, backend=backend).left_out


def test_a_flow_that_does_not_fail_as_it_should(backend):
    with pytest.raises(Violation, match="it returned 'receipt for A1', and raises=LookupError is given; leave that"):
        swept(checkout, "A1", backend=backend, raises=LookupError)
    with pytest.raises(Violation, match="it raised LookupError: no order; raises=OSError or ValueError is given"):
        sweep(fail, backend=backend, raises=(OSError, ValueError))


def test_a_node_that_is_not_called_is_named():
    @rt.function_node
    async def refund(order):
        raise AssertionError("it is not called")

    result = swept(checkout, "A1", nodes=["charge", refund], kills=False)
    assert "refund: not called when nothing goes wrong" in result.left_out


def test_without_a_journal_nothing_is_killed():
    result = swept(checkout_once, "A1", durability="exit", pairs=0)
    assert "kills: the session keeps no journal" in result.left_out
    assert not any("killed" in kind for kind in result.tried)


def test_a_hang_that_was_injected_is_no_violation(backend):
    result = swept(checkout_once, "A1", backend=backend, hang=True, timeout=math.inf, kills=False, pairs=0)
    assert result.violations == ()
    assert result.tried["a call hangs"] == 1


@pytest.mark.parametrize("wrong", [
    {"pairs": -1}, {"pairs": True}, {"max_runs": 0}, {"setup": 3}, {"invariants": ["x"]}, {"exceptions": [3]},
    {"nodes": [3]}, {"backend": "curio"}, {"raises": 3}, {"raises": ()}, {"raises": LookupError("x")},
])  # fmt: skip
def test_bad_input(wrong):
    with pytest.raises((ConfigError, rt.exceptions.NodeCreationError)):
        sweep(checkout, "A1", **wrong)


@pytest.mark.either_backend
@pytest.mark.parametrize(("wrong", "message"), [
    ({"nodes": "charge"}, "sweep: nodes is 'charge'; write a list of nodes, or of their names"),
    (
        {"invariants": no_order_is_charged_twice},
        "sweep: invariants is <function no_order_is_charged_twice>; write invariants=[function_of_an_outcome]",
    ),
    (
        {"exceptions": ValueError("x")},
        "sweep: exceptions is ValueError('x'); write a list: exceptions=[ConnectionError('lost')]",
    ),
])  # fmt: skip
def test_one_thing_where_a_list_belongs(wrong, message):
    with pytest.raises(ConfigError) as raised:
        sweep(checkout, "A1", **wrong)
    assert str(raised.value) == message


# ---- hangs that were injected


@pytest.mark.parametrize("action", [Hang(), LoseWorker()])
def test_a_hang_of_the_plan_is_none_of_the_flow(backend, action):
    check(simulate(checkout, "A1", backend=backend, faults=[Fault(charge, action)], timeout=math.inf))


def test_a_hang_after_one_that_was_injected_is_reported(backend):
    @rt.function_node
    async def flow():
        with anyio.move_on_after(1):
            await rt.call(charge, "A1")
        await anyio.Event().wait()

    with pytest.raises(Violation, match="hangs for ever"):
        check(simulate(flow, backend=backend, faults=[Fault(charge, Hang())], timeout=math.inf))


def test_a_hang_that_a_timeout_does_not_end_is_reported(backend):
    @rt.function_node
    async def flow():
        with anyio.CancelScope(shield=True):
            await rt.call(charge, "A1")

    with pytest.raises(Violation, match="hangs for ever"):
        check(simulate(flow, backend=backend, faults=[Fault(charge, Hang())], timeout=5))


def test_a_killed_process_does_not_hang_and_leaves_nothing(backend):
    @rt.function_node
    async def flow():
        done = anyio.Event()

        async def work():
            await rt.call(charge, "A1")
            done.set()

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            with anyio.CancelScope(shield=True):
                await done.wait()

    outcome = simulate(flow, backend=backend, faults=[Kill(2)], timeout=math.inf)
    check(outcome)
    assert outcome.end.startswith("raised ProcessKilled")


# ---- what a killed process loses


prices = {}


@rt.function_node
async def load_prices():
    prices["tea"] = 3


@rt.function_node
async def price_of(item):
    await rt.call(load_prices)  # is not run again when the run is resumed
    return await rt.call(look_up, item)


@rt.function_node
async def look_up(item):
    return prices[item]


def it_has_a_price(outcome):
    assert not isinstance(outcome.exception, KeyError), f"raised {outcome.exception!r}"


def test_memory_is_cleared_before_a_run_is_resumed(backend):
    options = {"invariants": [it_has_a_price], "setup": prices.clear, "exceptions": [], "pairs": 5, "backend": backend}
    assert not sweep(price_of, "tea", **options).violations
    result = sweep(price_of, "tea", restart=prices.clear, **options)
    assert {violation.broken for violation in result.violations} == {"it_has_a_price"}
    assert {*result.failed} <= {"killed, and resumed", "killed again, and resumed"}
    assert "call the function passed as restart=" in result.violations[0].__notes__[0]


# ---- cancellations


left = set()


@rt.function_node
async def convert(name):
    await anyio.sleep(5)


@rt.function_node
async def copy(name):
    await anyio.sleep(1)  # two sleeps with no event of a call in between
    left.add(name)
    await anyio.sleep(0.1)  # a cancellation here leaves it behind
    try:
        await rt.call(convert, name)
    finally:
        left.discard(name)


def nothing_is_left(_):
    assert not left, f"left: {left}"


def test_the_run_is_cancelled_between_two_of_its_calls(backend):
    options = {"invariants": [nothing_is_left], "setup": left.clear, "kills": False, "pairs": 0, "backend": backend}
    result = sweep(copy, "a", **options)
    assert [violation.outcome.faults for violation in result.violations] == [(Fault("copy", Cancel(1.05), call=1),)]
    assert result.tried["cancelled during a call"] > result.failed["cancelled during a call"] == 1
    assert not sweep(copy, "a", nodes=[convert], **options).violations  # where only that call is to go wrong


def test_cancellations_are_few_however_many_calls_wait(backend):
    @rt.function_node
    async def steps(count):
        for number in range(count):
            await anyio.sleep(number)

    clean = simulate(steps, 100, backend=backend, timeout=math.inf)
    assert len(cancellations(clean, calls_of(clean))) == FEW


# ---- plans


def test_timers_are_noted(backend):
    @rt.function_node
    async def flow():
        with anyio.move_on_after(3):
            await anyio.sleep(0.5)
            await anyio.sleep(2)
        await anyio.sleep(math.inf) if False else await anyio.sleep(0)

    outcome = simulate(flow, backend=backend, timeout=20)
    assert outcome.timers == (0.5, 2.0, 3.0, 20.0)
    assert {0.55, 2.2, 3.3, 21.0} <= set(delays_of(outcome))


def test_spread_begins_with_the_ends_and_has_all():
    for count in range(40):
        assert sorted(spread(range(count))) == list(range(count))
    assert spread(range(9))[:3] == [0, 8, 4]


def test_shares_are_as_equal_as_they_can_be():
    assert shares({"a": 10, "b": 10}, 100) == {"a": 10, "b": 10}
    assert shares({"a": 100, "b": 2, "c": 100}, 100) == {"b": 2, "a": 49, "c": 49}
    assert shares({}, 5) == {}


def test_the_store_fails_from_each_write_on():
    result = swept(checkout_once, "A1", exceptions=[], kills=False, pairs=0, durability="sync")
    assert result.tried["the store fails"] > 5
    assert repr(FailSave(at="append", after=2)) == "FailSave(at='append', after=2)"
    assert Cancel() == Cancel()
    assert Return(1) == Return(1)


# ---- a timeout that delays exceed cancels nodes while they wait


@pytest.mark.parametrize(("shield", "broken"), [(False, {"is_cleaned_up"}), (True, set())])
def test_with_a_short_timeout_cleanup_is_tried(backend, shield, broken):
    @rt.function_node
    async def close():
        await anyio.sleep(0.1)

    @rt.function_node
    async def use():
        try:
            await anyio.sleep(10)
        finally:
            with anyio.move_on_after(5, shield=shield):
                await rt.call(close)

    @rt.function_node
    async def main():
        await rt.call(use)

    result = sweep(main, timeout=12, invariants=[is_cleaned_up], kills=False, pairs=0, backend=backend)
    assert {violation.broken for violation in result.violations} == broken


def test_it_cancels_while_calls_wait(backend):
    @rt.function_node
    async def close():
        await anyio.sleep(0.1)

    @rt.function_node
    async def use():
        try:
            await anyio.sleep(10)
        finally:
            await rt.call(close)

    @rt.function_node
    async def main():
        await rt.call(use)

    swept = sweep(main, invariants=[is_cleaned_up], kills=False, pairs=0, backend=backend)
    assert {violation.broken for violation in swept.violations} == {"is_cleaned_up"}
