"""SessionMachine: it passes the runtime, finds defects planted in it, and can be subclassed."""

from __future__ import annotations

import contextlib
from functools import partial
from unittest import mock

import anyio
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

import railtracks as rt
from railtracks._concurrency._single_flight import Flight
from railtracks.execution import _call_scopes
from railtracks.state._transitions import RTState
from railtracks.testing import Livelock, VirtualClock, trees
from railtracks.testing._virtual_time import _stepping
from railtracks.testing.machine import SessionMachine
from tests.effort import FACTOR

SETTINGS = settings(
    max_examples=40 * FACTOR, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
FINDING = settings(SETTINGS, max_examples=200, derandomize=True, database=None, phases=[Phase.generate])


def run(machine, how=SETTINGS):
    run_state_machine_as_test(machine, settings=how)


def test_the_runtime_does_what_the_model_says():
    run(SessionMachine)


def completed_for_cancelled(self, record, reason, now):
    self.succeeded(record, None, now)


class LateScope(_call_scopes.CallScope):
    def __init__(self, deadline, *more):
        super().__init__(deadline + 1, *more)


class Narrow(SessionMachine):
    """Of little variety, so that a defect shows soon."""

    @staticmethod
    def leaves():
        return st.sampled_from([trees.Hang(), trees.Sleep(2)])

    @staticmethod
    def policies():
        return st.just({})


@pytest.mark.parametrize(
    "defect",
    [
        mock.patch.object(RTState, "cancelled", completed_for_cancelled),
        mock.patch("railtracks.pubsub._publisher.RTPublisher.publish", lambda self, event: None),
    ],
    ids=["completed for cancelled", "lost broadcast"],
)
def test_it_finds_a_defect_of_the_runtime(defect):
    with defect, pytest.raises(AssertionError):
        run(Narrow, FINDING)


def test_it_finds_that_a_timeout_comes_late(backend):
    machine = SessionMachine()
    with mock.patch("railtracks.execution._call_scopes.CallScope", LateScope):
        machine.start(backend, 0)
        live = machine.open_session(timeout=2.5, end_on_error=False, inside=None)
        machine.start_call(live, trees.Hang())
        machine.advance(3)
        with pytest.raises(AssertionError, match="is Open at 3 s, and should be Cancelled"):
            machine.every_call_is_as_the_model_says()
        machine.advance(1)
        machine.teardown()


def machine_of(leaf, **given):
    """Return a state machine whose calls run this leaf, with these policies."""

    class Limited(SessionMachine):
        @staticmethod
        def leaves():
            return st.just(leaf)

        @staticmethod
        def policies():
            return st.just(given)

    return Limited


def takes_no_slot(self, place, total):
    self.holders[place.holder] = place
    self.used += 1
    return True


def is_new(self, key):
    return Flight(key), None


SLOTS, FLIGHTS = "railtracks._concurrency._slots.SlotPool", "railtracks._concurrency._single_flight.SingleFlight"
AGAIN = rt.Retry(attempts=2, wait_initial=1, wait_jitter=0)
ONE, RATE = rt.Limit("one", concurrency=1), rt.Limit("rate", rate="1/9s")


@pytest.mark.parametrize(
    ("path", "replacement", "leaf", "policies"),
    [
        (f"{SLOTS}.acquire_nowait", takes_no_slot, trees.Sleep(2), {"limit": ONE}),
        (f"{SLOTS}._admit", lambda self: [], trees.Sleep(1), {"limit": ONE}),
        ("railtracks._concurrency._rate_window.RateWindow._take", lambda self: 0.0, trees.Return(1), {"limit": RATE}),
        (f"{FLIGHTS}.join", is_new, trees.Sleep(2), {"cache": rt.Cache(key=repr), "limit": RATE}),
        ("railtracks.execution._attempts.Attempts._goes_on", lambda *_: False, trees.Raise(), {"retries": AGAIN}),
    ],
    ids=["no limit", "slot not passed on", "no rate", "stampede", "never again"],
)
def test_it_finds_a_defect_of_policies(path, replacement, leaf, policies):
    machine = machine_of(leaf, **policies)
    with mock.patch(path, replacement), pytest.raises(AssertionError):
        run(machine, FINDING)


class Fatal(SessionMachine):
    @staticmethod
    def leaves():
        return st.sampled_from([trees.Hang(), trees.Fatal()])

    @staticmethod
    def policies():
        return st.just({})


@pytest.mark.slow
def test_it_finds_that_a_fatal_error_does_not_end_the_session():
    with mock.patch("railtracks.execution._node_errors.is_fatal", lambda exc: False), pytest.raises(AssertionError):
        run(Fatal, settings(FINDING, max_examples=1000))


def test_a_fatal_error_ends_the_session():
    run(Fatal)


class Shop(SessionMachine):
    """A user's own: one more rule, one more invariant, and a node of its own."""

    def __init__(self):
        super().__init__()
        self.sold = 0

    @rule(live=SessionMachine.sessions)
    def sell(self, live):
        @rt.function_node
        async def sale():
            self.sold += 1

        self.start_call(live, sale)

    @invariant()
    def as_much_is_sold_as_is_on_record(self):
        done = [r for live in self.live for r in live.session.info.records if r.status is rt.state.Status.COMPLETED]
        assert self.sold <= len(done)


def test_a_subclass_adds_rules_nodes_and_invariants():
    run(Shop)


class OnlyReturns(SessionMachine):
    @staticmethod
    def leaves():
        return st.builds(trees.Return, st.integers())

    @invariant()
    def nothing_else_runs(self):
        assert all(isinstance(call.target, trees.Return) for live in self.live for call in live.calls)


def test_a_subclass_chooses_what_calls_run():
    run(OnlyReturns)


async def spins():
    while True:
        await anyio.sleep(0)


async def swallows():
    while True:
        with contextlib.suppress(BaseException):
            await anyio.sleep(0)


@pytest.mark.parametrize("call", [spins, swallows], ids=lambda call: call.__name__)
def test_a_call_that_spins_ends_the_example(call, monkeypatch):
    class Spinning(SessionMachine):
        @staticmethod
        def leaves():
            return st.just(call)

    monkeypatch.setattr(_stepping, "VirtualClock", partial(VirtualClock, max_steps=5_000))
    with pytest.raises(Livelock, match=rf"running: {call.__name__} \(test_machine.py:"):
        run(Spinning, FINDING)


class Plain(SessionMachine):
    """Calls whose runs can be resumed."""

    @staticmethod
    def leaves():
        return st.one_of(st.builds(trees.Return, st.integers(0, 9)), st.builds(trees.Sleep, st.integers(0, 4)))

    @staticmethod
    def policies():
        return st.just({})


def test_sessions_are_resumed_as_the_model_says():
    run(Plain, settings(SETTINGS, max_examples=20 * FACTOR, phases=[Phase.generate]))


@pytest.mark.parametrize("branch", [False, True], ids=["in its place", "branch"])
def test_what_had_completed_is_replayed(backend, branch):
    machine = Plain()
    machine.start(backend, 0)
    live = machine.open_session(timeout=6.5, end_on_error=False, inside=None)
    assert len(machine.start_together(live, [trees.Return(1), trees.Sleep(3), trees.Sleep(1)]).values) == 3
    machine.advance(2)
    [resumed] = machine.resume_session(live, branch).values
    assert live.is_superseded is not branch
    assert [call.is_replayed for call in resumed.calls] == [True, False, not branch]
    assert (resumed.session.identifier == live.session.identifier) is not branch
    for _ in range(4):
        machine.every_call_is_as_the_model_says()
        machine.save_and_load(resumed)
        machine.advance(1)
    assert machine.resume_session(live, branch).values == () or branch
    machine.teardown()


def test_it_finds_that_a_replayed_call_runs_again(backend):
    machine = Plain()
    machine.start(backend, 0)
    live = machine.open_session(timeout=6.5, end_on_error=False, inside=None)
    machine.start_call(live, trees.Sleep(1))
    machine.advance(2)
    with mock.patch("railtracks._resume._history.HistoryNode.pop_child", lambda *_: None):
        machine.resume_session(live, False)
    with pytest.raises(AssertionError, match="is Open at 2 s, and should be Completed"):
        machine.every_call_is_as_the_model_says()
    machine.advance(1)
    machine.teardown()
