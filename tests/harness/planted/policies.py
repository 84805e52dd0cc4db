"""The runtime with one mistake at a time in what it makes of the policies of calls."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
from hypothesis import strategies as st

import railtracks as rt
from railtracks._concurrency._rate_window import RateWindow
from railtracks._concurrency._single_flight import Flight, SingleFlight
from railtracks._concurrency._slots import SlotPool
from railtracks.execution import _node_policies
from railtracks.execution._attempts import Attempts
from railtracks.execution._limits import SessionLimits
from railtracks.execution._noted_waits import NotedWait
from railtracks.testing import trees as t
from railtracks.testing.strategies import policies
from tests.harness.planted._planted import Planted
from tests.harness.planted.runtime import planted, replaced

PLANTED: list[Planted] = []


def mistake(name, defect, trees, **options):
    """Add a mistake to this list; the arguments are those of ``planted``."""
    return planted(name, defect, trees, into=PLANTED, **options)


sleeps = st.lists(st.builds(t.Sleep, st.integers(0, 3)), max_size=4).map(lambda parts: t.Batch(*parts))


@rt.function_node(limit=1, timeout=2.5)
async def timed(seconds):
    await anyio.sleep(seconds)


@attrs.frozen(repr=False)
class Timed(t.Tree):
    """A branch that calls a node at once, which has a timeout and a limit."""

    seconds: list[int]

    async def __call__(self) -> Any:
        return await rt.call_batch(timed, self.seconds)


def deep(tree):
    return st.recursive(tree, lambda below: st.builds(t.Sequence, below), max_leaves=4)


parts = st.one_of(st.builds(t.Sleep, st.integers(0, 3)), st.builds(t.Raise), st.builds(t.Shield, st.integers(0, 3)))
with_any = st.builds(lambda part, given: t.WithPolicies(part, **given), parts, policies())


@mistake("limit let through", "when a call ends, all that wait for the limit run at once", sleeps, limit=1)
def limit_let_through():
    def admit(original, self):
        if not self.queue or self.used:
            return original(self)
        for place in self.queue:
            place.total = len(self.queue)
        return original(self)

    return replaced(SlotPool, _admit=admit)


@mistake(
    "named limit forgotten", "each node has a limit of its own, although they have one rt.Limit",
    sleeps, limit=rt.Limit("one", concurrency=1),
)  # fmt: skip
def named_limit_forgotten():
    def shared_gate(original, self, limit):
        return original(self, limit)._replace(pool=SlotPool())

    def gate(original, self, limit, node):
        if isinstance(limit, rt.Limit):
            self._gates.pop(id(limit), None)
        return original(self, limit, node)

    return replaced(SessionLimits, _shared_gate=shared_gate, _gate=gate)


@mistake(
    "rate in windows", "the rate is counted from full seconds on, not over any period",
    sleeps, limit=rt.Limit("rate", rate="2/3s"),
)  # fmt: skip
def rate_in_windows():
    def take(original, self):
        now = self._clock()
        begun = [each for each in self._begun if each // 1 == now // 1]
        self._begun.clear()
        self._begun.extend(begun)
        delay = original(self)
        return min(delay, 1 - now % 1) if delay > 0 else delay

    return replaced(RateWindow, _take=take)


@mistake(
    "waiting not held back", "a call that had to wait for max_concurrency does not count when it runs",
    sleeps, max_concurrency=1,
)  # fmt: skip
def waiting_not_held_back():
    async def acquire(original, self, *args):
        taken = await original(self, *args)
        self.release(taken)
        return ()

    return replaced(SessionLimits, acquire=acquire)


@mistake("one call too many", "max_calls lets one more call run", deep(st.builds(t.Return)), max_calls=2)
def one_call_too_many():
    def check(original, self, record):
        self.calls -= self.calls == 1
        original(self, record)

    return replaced(SessionLimits, _check=check)


@mistake("one level too deep", "max_depth does not count the top-level call", deep(st.builds(t.Return)), max_depth=2)
def one_level_too_deep():
    return replaced(SessionLimits, depth_of=lambda original, self, record: original(self, record) - 1)


@mistake("stampede", "equal calls do not wait for each other", sleeps, cache=rt.Cache(key=repr))
def stampede():
    return replaced(SingleFlight, join=lambda original, self, key, *more: (Flight((self, key)), None))


@mistake("one attempt too many", "a call is tried once more than its policy says", with_any)
def one_attempt_too_many():
    def on_failed(original, self, record, exc):
        self._failed -= 1
        try:
            return original(self, record, exc)
        finally:
            self._failed += 1
            if record.policy is not None and record.policy.retried:
                record.policy = record.policy._replace(retry=self._failed - 1)

    return replaced(Attempts, on_failed=on_failed)


@mistake("attempt tried again", "an attempt that succeeded is on record as tried again", with_any)
def attempt_tried_again():
    def on_created(original, self, record):
        original(self, record)
        if record.policy is not None:
            record.policy = record.policy._replace(retried=True)

    return replaced(Attempts, on_created=on_created)


@mistake("wait counts as running", "the seconds that a call waits are not on record", sleeps, limit=1)
def wait_counts_as_running():
    def leave(original, self, *exc):
        original(self, *exc)
        self._record.policy = self._record.policy._replace(waited=0.0)

    return replaced(NotedWait, __exit__=leave)


@mistake(
    "deadline before the limit", "the timeout of a node begins before its limit lets it run",
    st.builds(Timed, st.lists(st.integers(0, 2), max_size=4)),
)  # fmt: skip
def deadline_before_the_limit():
    async def within_limits(original, policies, strategy, call, state, scopes):
        limits = _node_policies._session().limits or _node_policies._session().use_limits()
        began = anyio.current_time()
        places = await limits.acquire(policies, call.node, call.record)
        seconds = policies.timeout and max(0.0, policies.timeout - (anyio.current_time() - began))
        try:
            return await _node_policies._run_in_time(seconds, strategy, call, state, scopes)
        finally:
            limits.release(places)

    return replaced(_node_policies, _run_within_limits=within_limits)


@mistake("late result", "a call that ends after its timeout, as it was shielded, has succeeded", with_any)
def late_result():
    async def run_in_time(original, seconds, strategy, call, state, scopes):
        results = []

        class Kept:
            async def execute(self, *args):
                results.append(await strategy.execute(*args))
                return results[0]

        try:
            return await original(seconds, Kept(), call, state, scopes)
        except rt.exceptions.NodeTimeOutError:
            if not results:
                raise
        call.record.reason = call.record.timeout = None
        return results[0]

    return replaced(_node_policies, _run_in_time=run_in_time)
