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
    def __init__(self, deadline, caller):
        super().__init__(deadline + 1, caller)


class Narrow(SessionMachine):
    """Of little variety, so that a defect shows soon."""

    @staticmethod
    def leaves():
        return st.sampled_from([trees.Hang(), trees.Sleep(2)])


@pytest.mark.parametrize(
    "defect",
    [
        mock.patch.object(RTState, "cancelled", completed_for_cancelled),
        mock.patch("railtracks.execution._call_scopes.CallScope", LateScope),
        mock.patch("railtracks.pubsub._publisher.RTPublisher.publish", lambda self, event: None),
    ],
    ids=["completed for cancelled", "late timeout", "lost broadcast"],
)
def test_it_finds_a_defect_of_the_runtime(defect):
    with defect, pytest.raises(AssertionError):
        run(Narrow, FINDING)


class Fatal(SessionMachine):
    @staticmethod
    def leaves():
        return st.sampled_from([trees.Hang(), trees.Fatal()])


@pytest.mark.slow
def test_it_finds_that_a_fatal_error_does_not_end_the_session():
    with mock.patch("railtracks.execution._node_errors.is_fatal", lambda exc: False), pytest.raises(AssertionError):
        run(Fatal, FINDING)


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
