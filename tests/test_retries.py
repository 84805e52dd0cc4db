"""``retries``: a call that fails is made again, each attempt is on record, and its caller sees the last one only."""

from __future__ import annotations

import contextlib
import math
from datetime import timedelta
from itertools import pairwise
from typing import Any

import anyio
import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import FatalError, NodeInvocationError, NodeTimeOutError, StoreError
from railtracks.state import Status
from tests import virtual

STEADY = rt.Retry(attempts=4, wait_initial=1, wait_jitter=0)


class Flaky:
    """A function that fails some times, and then returns how often it was called."""

    def __init__(self, failures=math.inf, error=ConnectionError):
        self.times: list[float] = []
        self.errors: list[BaseException] = []
        self._failures, self._error = failures, error

    async def __call__(self, x=0):
        self.times.append(anyio.current_time())
        if len(self.times) <= self._failures:
            self.errors.append(self._error(f"attempt {len(self.times)}"))
            raise self.errors[-1]
        return len(self.times)

    @property
    def waits(self):
        return [later - earlier for earlier, later in pairwise(self.times)]


def node_of(flaky, retries=STEADY, **options):
    return rt.function_node(flaky, name="flaky", key="flaky", retries=retries, **options)


def attempts(session):
    return [(r.status.value, r.policy and r.policy.retry, r.policy and r.policy.retried) for r in session.info.records]


async def test_a_call_is_made_again_until_it_succeeds():
    flaky = Flaky(failures=2)
    async with rt.Session() as session:
        assert await rt.call(node_of(flaky)) == 3
    assert attempts(session) == [("Failed", 0, True), ("Failed", 1, True), ("Completed", 2, False)]
    assert {record.parent for record in session.info.records} == {None}


async def test_the_waits_grow_up_to_the_greatest():
    flaky = Flaky()
    retry = rt.Retry(attempts=6, wait_initial=1, wait_max=5, wait_jitter=0)
    async with rt.Session(save_state=False):
        with pytest.raises(ConnectionError):
            await rt.call(node_of(flaky, retry))
    assert flaky.waits == [1, 2, 4, 5, 5]


async def test_the_last_error_comes_out_as_the_same_object():
    flaky = Flaky()
    async with rt.Session() as session:
        with pytest.raises(ConnectionError) as caught:
            await rt.call(node_of(flaky))
    assert caught.value is flaky.errors[-1]
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert len(flaky.errors) == 4
    assert attempts(session)[-1] == ("Failed", 3, False)
    frames = [entry.name for entry in caught.traceback]
    assert frames[-1] == "__call__"
    assert not {"iter", "async_inner"} & {*frames}  # of stamina and tenacity


@pytest.mark.parametrize("retries", [0, 1, 3])
async def test_a_number_counts_the_times_after_the_first(retries):
    flaky = Flaky()
    async with rt.Session(save_state=False):
        with pytest.raises(ConnectionError):
            await rt.call(node_of(flaky, retries))
    assert len(flaky.times) == 1 + retries


async def test_a_caller_sees_one_call():
    """A call that was tried again and succeeded fails neither its caller nor a session under end_on_error."""
    flaky = Flaky(failures=2)

    @rt.function_node
    async def top():
        return await rt.call(node_of(flaky))

    async with rt.Session(end_on_error=True) as session:
        assert await rt.call(top) == 3
    assert session.info.answer == 3
    assert [record.parent for record in session.info.records] == [None, 0, 0, 0]


async def test_what_is_not_wanted_is_not_tried_again():
    flaky = Flaky(error=ValueError)
    async with rt.Session(save_state=False):
        with pytest.raises(ValueError, match="attempt 1"):
            await rt.call(node_of(flaky, rt.Retry(on=(ConnectionError, OSError))))
    assert len(flaky.times) == 1


@pytest.mark.parametrize("error", [FatalError, lambda text: NodeInvocationError(text, fatal=True)])
async def test_what_ends_the_session_is_not_tried_again(error):
    flaky = Flaky(error=error)
    async with rt.Session(save_state=False):
        with pytest.raises(rt.exceptions.RTError, match="attempt 1"):
            await rt.call(node_of(flaky))
    assert len(flaky.times) == 1


@pytest.mark.parametrize(("temporary", "made"), [(True, 2), (False, 1)])
async def test_a_store_that_fails_for_a_time_is_tried_again(temporary, made):
    flaky = Flaky(failures=1, error=lambda text: StoreError(text, temporary=temporary))
    async with rt.Session(save_state=False) as session:
        with contextlib.suppress(StoreError):
            await rt.call(node_of(flaky))
    assert len(flaky.times) == len(session.info.records) == made


@pytest.mark.parametrize("answer", [7, 7.0, timedelta(seconds=7)])
async def test_a_function_may_say_after_how_long(answer):
    flaky = Flaky(failures=1)
    async with rt.Session(save_state=False):
        await rt.call(node_of(flaky, rt.Retry(on=lambda exc: answer)))
    assert flaky.waits == [7]


@pytest.mark.parametrize("answer", [True, False])
async def test_a_function_may_say_whether(answer):
    flaky = Flaky(failures=1)
    seen = []

    def decide(exc):
        seen.append(exc)
        return answer

    node = node_of(flaky, rt.Retry(on=decide, wait_jitter=0))
    async with rt.Session(save_state=False):
        if answer:
            assert await rt.call(node) == 2
        else:
            with pytest.raises(ConnectionError):
                await rt.call(node)
    assert seen == flaky.errors


def _raise(exc):
    raise KeyError("in on")


@pytest.mark.parametrize(
    ("on", "says"), [(_raise, "raised KeyError('in on')"), (lambda exc: "later", "returned 'later'; expected True")]
)
async def test_a_function_that_is_wrong_is_named_in_a_note(on, says):
    flaky = Flaky()
    async with rt.Session(save_state=False):
        with pytest.raises(ConnectionError) as caught:
            await rt.call(node_of(flaky, rt.Retry(on=on)))
    assert caught.value is flaky.errors[0]
    assert says in "".join(caught.value.__notes__)


async def test_no_attempt_begins_after_the_timeout_of_the_retries():
    flaky = Flaky()
    async with rt.Session(save_state=False):
        with pytest.raises(ConnectionError, match="attempt 3") as caught:
            await rt.call(node_of(flaky, rt.Retry(attempts=None, wait_initial=1, wait_jitter=0, timeout=5)))
    assert flaky.waits == [1, 2]
    assert caught.value.__notes__ == ["it was not tried again, as the timeout of its rt.Retry is 5 s"]


@pytest.mark.parametrize("retries", [3, rt.Retry(attempts=4)])
async def test_slow_attempts_are_all_made(retries):
    """A call that takes minutes is tried again as often as one that takes none."""
    flaky = Flaky()

    async def slow():
        await anyio.sleep(600)
        await flaky()

    async with rt.Session(timeout=math.inf, save_state=False):
        with pytest.raises(ConnectionError) as caught:
            await rt.call(node_of(slow, retries))
    assert len(flaky.times) == 4
    assert not hasattr(caught.value, "__notes__")


async def test_each_attempt_has_the_timeout_of_the_node():
    calls = []

    @rt.function_node(timeout=3, retries=STEADY)
    async def slow():
        calls.append(anyio.current_time())
        await anyio.sleep(50 if len(calls) < 3 else 1)
        return "done"

    async with rt.Session() as session:
        assert await rt.call(slow) == "done"
    assert [later - earlier for earlier, later in pairwise(calls)] == [4, 5]
    assert isinstance(session.info.records[0].exception, NodeTimeOutError)


async def test_the_sessions_timeout_counts_all_attempts():
    flaky = Flaky()
    async with rt.Session(timeout=6) as session:
        with pytest.raises(rt.exceptions.GlobalTimeOutError):
            await rt.call(node_of(flaky, rt.Retry(attempts=None, wait_initial=1, wait_jitter=0)))
    assert len(flaky.times) == 3
    assert session.info.records[-1].status is Status.FAILED


async def test_a_cancellation_while_it_waits_ends_it():
    flaky = Flaky()
    async with rt.Session(save_state=False):
        with anyio.move_on_after(0.5) as scope:
            await rt.call(node_of(flaky))
        assert scope.cancelled_caught
    assert len(flaky.times) == 1


async def test_other_errors_of_the_session_end_the_wait():
    flaky = Flaky()

    @rt.function_node
    async def fatal():
        await anyio.sleep(0.5)
        raise FatalError("stop")

    async with rt.Session() as session:
        with pytest.raises(FatalError):
            await rt.call_batch(lambda node: rt.call(node), [node_of(flaky), fatal], return_exceptions=False)
    assert len(flaky.times) == 1
    assert session._coordinator.failure is not None


async def test_single_calls_may_change_it():
    flaky = Flaky()
    node = node_of(flaky)
    async with rt.Session(save_state=False):
        with pytest.raises(ConnectionError):
            await rt.call(node.options(retries=0))
        assert len(flaky.times) == 1
        with pytest.raises(ConnectionError):
            await rt.call(node.options(retries=1))
    assert len(flaky.times) == 3
    assert node.policies.retries is STEADY


async def test_a_session_has_a_default():
    flaky = Flaky(failures=2)
    async with rt.Session(retries=rt.Retry(attempts=3, wait_jitter=0)):
        assert await rt.call(flaky) == 3
        flaky.times.clear()
        with pytest.raises(ConnectionError):
            await rt.call(node_of(flaky, retries=0))


async def test_sync_nodes_and_class_nodes_are_tried_again():
    tried = []

    def sync_node(x):
        tried.append(x)
        if len(tried) < 3:
            raise ConnectionError
        return x

    class ClassNode(rt.nodes.Node[int]):
        @classmethod
        def policies(cls):
            return {"retries": rt.Retry(attempts=3, wait_jitter=0)}

        def __init__(self, x):
            self.x = x

        async def invoke(self):
            tried.append(self.x)
            if len(tried) < 3:
                raise ConnectionError
            return self.x

    async with rt.Session(save_state=False):
        assert await rt.call(rt.function_node(sync_node, retries=rt.Retry(wait_jitter=0)), 5) == 5
        tried.clear()
        assert await rt.call(ClassNode, 6) == 6
        tried.clear()
        with pytest.raises(ConnectionError):
            await rt.call(ClassNode.options(retries=1), 7)


async def test_a_batch_tries_its_calls_again_one_by_one():
    flaky = {x: Flaky(failures=x) for x in range(4)}

    @rt.function_node(retries=rt.Retry(attempts=3, wait_jitter=0))
    async def item(x):
        return await flaky[x]()

    async with rt.Session():
        results = await rt.call_batch(item, range(4))
    assert results[:3] == [1, 2, 3]
    assert isinstance(results[3], ConnectionError)


async def test_stamina_switched_off_tries_nothing_again():
    flaky = Flaky()
    stamina.set_active(False)
    try:
        async with rt.Session() as session:
            with pytest.raises(ConnectionError):
                await rt.call(node_of(flaky))
    finally:
        stamina.set_active(True)
    assert attempts(session) == [("Failed", None, None)]


async def test_stamina_in_tests_does_not_wait():
    """With a cap, there are no more attempts than the node has; without, as many as the test says."""
    flaky = Flaky()
    with stamina.set_testing(True, attempts=2):
        async with rt.Session(save_state=False):
            with pytest.raises(ConnectionError):
                await rt.call(node_of(flaky))
    assert flaky.waits == [0]


async def test_secrets_in_errors_do_not_reach_stamina():
    seen: list[Any] = []
    flaky = Flaky(failures=1)

    def note(details: Any) -> None:
        seen.append(details)

    hooks = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([note])
    try:
        async with rt.Session(save_state=False):
            await rt.call(node_of(flaky), "secret")
    finally:
        stamina.instrumentation.set_on_retry_hooks(hooks)
    assert len(seen) == 1
    assert seen[0].name.endswith("flaky")
    assert "attempt" not in repr(seen[0].caused_by)
    assert "secret" not in repr(seen[0])


# ---- resume


@settings(max_examples=40, deadline=None)
@given(failed=st.integers(0, 3), killed_during=st.booleans(), backend=st.sampled_from(["asyncio", "trio"]))
def test_a_resumed_run_goes_on_with_the_attempt_it_was_at(failed, killed_during, backend):
    """It does not repeat the attempts that had failed, nor wait for them, nor what had completed below the next one."""
    made, below, store = [], [], rt.state.MemoryStore()

    @rt.function_node(key="step")
    async def step(x):
        below.append(x)
        return x

    @rt.function_node(key="work", retries=rt.Retry(attempts=4, wait_initial=10, wait_jitter=0, wait_max=10))
    async def work():
        made.append(anyio.current_time())
        done = await rt.call(step, "done")
        if len(made) <= failed:
            raise ConnectionError(f"attempt {len(made)}")
        if is_first:
            await anyio.sleep_forever()
        return done

    async def main():
        async with rt.Session(run_identifier="run", if_exists="resume", store=store, timeout=math.inf):
            return await rt.call(work)

    async def killed():
        with anyio.move_on_after(10 * failed + (1 if killed_during else -1)):
            await main()

    is_first = True
    if not killed_during and not failed:
        return
    virtual.run(backend, killed)
    had_made, is_first = len(made), False
    assert had_made == failed + killed_during
    assert virtual.run(backend, main) == "done"
    assert len(made) == failed + 1 + killed_during
    assert len(below) == failed + 1


def test_the_time_between_two_runs_does_not_count(backend):
    made, store = [], rt.state.MemoryStore()

    @rt.function_node(key="work", retries=rt.Retry(attempts=5, wait_initial=1, wait_max=1, wait_jitter=0, timeout=5))
    async def work():
        made.append(anyio.current_time())
        if len(made) == 2:
            await anyio.sleep_forever()
        if len(made) < 4:
            raise ConnectionError(f"attempt {len(made)}")
        return len(made)

    async def main(pause):
        async with rt.Session(run_identifier="run", if_exists="resume", store=store, timeout=math.inf):
            await anyio.sleep(pause)
            return await rt.call(work)

    async def killed():
        with anyio.move_on_after(3):
            await main(0)

    virtual.run(backend, killed)
    assert virtual.run(backend, main, 1_000) == 4
