"""timeout, end_on_error, cancellation from outside: everything ends, and the real error comes out."""

from __future__ import annotations

import asyncio
import traceback

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import FatalError, GlobalTimeOutError, NodeInvocationError, SessionEndedError
from railtracks.state import Reason, Status
from tests import virtual


@rt.function_node
async def slow(seconds=50):
    await anyio.sleep(seconds)
    return "slow"


@rt.function_node
async def quick():
    return "quick"


def statuses(session):
    return [
        (record.name, record.status.value, record.reason and record.reason.value) for record in session.info.records
    ]


def asyncio_only(backend):
    if backend == "trio":
        pytest.skip("uses tasks of asyncio")


class TestTimeout:
    async def test_ends_everything_below_the_call(self):
        cleaned = []

        @rt.function_node
        async def leaf(i):
            try:
                await anyio.sleep(50)
            finally:
                cleaned.append(i)

        @rt.function_node
        async def top():
            async with anyio.create_task_group() as group:
                for i in range(3):
                    group.start_soon(rt.call, leaf, i)
                await rt.call_batch(leaf, range(3, 6))

        start = anyio.current_time()
        with pytest.raises(GlobalTimeOutError) as caught:
            async with rt.Session(timeout=2) as session:
                await rt.call(top)
        assert anyio.current_time() - start == 2
        assert sorted(cleaned) == list(range(6))
        assert {(status, reason) for _, status, reason in statuses(session)} == {("Cancelled", "timeout")}
        assert caught.value.timeout == 2
        assert "top" in caught.value.message
        assert isinstance(caught.value, TimeoutError)

    async def test_counts_for_each_top_level_call(self):
        async with rt.Session(timeout=2) as session:
            for _ in range(3):
                await rt.call(slow, 1.5)
            with pytest.raises(GlobalTimeOutError):
                await rt.call(slow, 3)
            assert await rt.call(slow, 1.5) == "slow"
        assert [status for _, status, _ in statuses(session)] == ["Completed"] * 3 + ["Cancelled", "Completed"]

    async def test_a_timeout_error_of_the_node_stays_its_own(self):
        error = TimeoutError("mine")

        @rt.function_node
        async def raises():
            raise error

        @rt.function_node
        async def own_scope():
            with anyio.fail_after(1):
                await anyio.sleep(50)

        async with rt.Session(timeout=5):
            with pytest.raises(TimeoutError) as caught:
                await rt.call(raises)
            assert caught.value is error
            with pytest.raises(TimeoutError) as caught:
                await rt.call(own_scope)
            assert not isinstance(caught.value, GlobalTimeOutError)

    async def test_a_scope_around_the_call_wins_if_it_is_earlier(self):
        async with rt.Session(timeout=5) as session:
            with anyio.move_on_after(1) as scope:
                await rt.call(slow)
            assert scope.cancelled_caught
        assert statuses(session) == [("slow", "Cancelled", "outside")]

    async def test_late_node_that_did_not_wait_returns_its_result(self, backend):
        """A node that finishes late without waiting returns its result."""

        @rt.function_node
        async def busy():
            virtual.clock().jump(10)  # without a turn for the event loop, as work that does not wait takes time
            return "done"

        async with rt.Session(timeout=5):
            assert await rt.call(busy) == "done"

    async def test_node_that_swallows_the_cancellation_still_gets_an_error(self):
        @rt.function_node
        async def stubborn():
            try:
                await anyio.sleep(50)
            except anyio.get_cancelled_exc_class():
                return "ignored it"

        with pytest.raises(GlobalTimeOutError):
            async with rt.Session(timeout=1) as session:
                await rt.call(stubborn)
        assert statuses(session) == [("stubborn", "Completed", None)], "that is what really happened to it"

    async def test_an_error_of_the_cleanup_is_the_cause(self):
        error = ValueError("cleanup")

        @rt.function_node
        async def untidy():
            try:
                await anyio.sleep(50)
            finally:
                raise error

        with pytest.raises(GlobalTimeOutError) as caught:
            async with rt.Session(timeout=1):
                await rt.call(untidy)
        assert caught.value.__cause__ is error

    async def test_shielded_cleanup_finishes_first(self):
        log = []

        @rt.function_node
        async def careful():
            try:
                await anyio.sleep(50)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(3)
                    log.append(await rt.call(quick))

        start = anyio.current_time()
        with pytest.raises(GlobalTimeOutError):
            async with rt.Session(timeout=1):
                await rt.call(careful)
        assert anyio.current_time() - start == 4
        assert log == ["quick"]

    async def test_of_an_outer_session_reaches_into_an_inner_one(self):
        inner_statuses = []

        @rt.function_node
        async def top():
            inner = rt.Session(timeout=20)
            try:
                async with inner:
                    await rt.call(slow)
            finally:
                inner_statuses.extend(statuses(inner))

        with pytest.raises(GlobalTimeOutError, match="top"):
            async with rt.Session(timeout=1):
                await rt.call(top)
        assert inner_statuses == [("slow", "Cancelled", "outside")]

    async def test_interrupts_a_loop_of_calls_that_never_wait(self, backend, monkeypatch):
        @rt.function_node
        async def top():
            for count in range(10_000):
                if count == 1000:
                    virtual.clock().jump(10)  # without a turn for the event loop, as work that does not wait takes time
                await rt.call(quick)

        with pytest.raises(GlobalTimeOutError):
            async with rt.Session(timeout=5) as session:
                await rt.call(top)
        assert len(session.info.records) < 1000 + 200

    async def test_ends_detached_tasks_too(self, backend):
        asyncio_only(backend)
        cleaned, tasks = [], []

        @rt.function_node
        async def leaf():
            try:
                await anyio.sleep(50)
            finally:
                cleaned.append(1)

        @rt.function_node
        async def top():
            tasks.append(asyncio.create_task(rt.call(leaf)))
            await anyio.sleep(50)

        with pytest.raises(GlobalTimeOutError):
            async with rt.Session(timeout=1):
                await rt.call(top)
        assert cleaned == [1]
        assert isinstance(tasks[0].exception(), GlobalTimeOutError)

    async def test_of_a_run_whose_detached_task_goes_on(self, backend):
        asyncio_only(backend)
        tasks = []

        @rt.function_node
        async def top():
            tasks.append(asyncio.create_task(rt.call(slow)))
            await anyio.sleep(0)
            return "early"

        with pytest.raises(GlobalTimeOutError):
            async with rt.Session(timeout=1):
                await rt.call(top)

    @pytest.mark.parametrize("how", ["gather", "TaskGroup", "wait_for", "timeout", "shield"])
    async def test_ends_all_kinds_of_tasks(self, backend, how):
        asyncio_only(backend)
        cleaned = []

        @rt.function_node
        async def leaf():
            try:
                await anyio.sleep(50)
            finally:
                cleaned.append(1)

        @rt.function_node
        async def top():
            if how == "gather":
                await asyncio.gather(rt.call(leaf), rt.call(leaf))
            elif how == "TaskGroup":
                async with asyncio.TaskGroup() as group:
                    group.create_task(rt.call(leaf))
            elif how == "wait_for":
                await asyncio.wait_for(rt.call(leaf), 90)
            elif how == "timeout":
                async with asyncio.timeout(90):
                    await rt.call(leaf)
            else:
                await asyncio.shield(rt.call(leaf))

        with pytest.raises(GlobalTimeOutError):
            async with rt.Session(timeout=1) as session:
                await rt.call(top)
        assert cleaned
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        assert {status for _, status, _ in statuses(session)} == {"Cancelled"}

    async def test_eager_tasks_are_found_too(self, backend):
        asyncio_only(backend)
        factory = getattr(asyncio, "eager_task_factory", None)
        if factory is None:
            pytest.skip("eager tasks came with Python 3.12")
        asyncio.get_running_loop().set_task_factory(factory)

        @rt.function_node
        async def top():
            return await asyncio.gather(rt.call(quick), rt.call(slow, 0.5), rt.call(slow))

        with pytest.raises(GlobalTimeOutError):
            async with rt.Session(timeout=1) as session:
                await rt.call(top)
        assert [status for _, status, _ in statuses(session)] == ["Cancelled", "Completed", "Completed", "Cancelled"]
        assert {record.parent for record in session.info.records[1:]} == {0}


class TestEndOnError:
    async def test_first_error_cancels_the_rest_and_comes_out(self):
        """The first error cancels the rest and comes out even if it was caught."""
        error = ValueError("first")

        @rt.function_node
        async def bad():
            raise error

        @rt.function_node
        async def catcher():
            try:
                await rt.call(bad)
            except ValueError:
                await anyio.sleep(50)

        @rt.function_node
        async def top():
            async with anyio.create_task_group() as group:
                group.start_soon(rt.call, slow)
                await anyio.sleep(1)
                await rt.call(catcher)

        start = anyio.current_time()
        with pytest.raises(ValueError, match="first") as caught:
            async with rt.Session(end_on_error=True) as session:
                await rt.call(top)
        assert caught.value is error
        assert error.__cause__ is None
        assert error.__context__ is None
        assert anyio.current_time() - start == 1
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert names[-1] == "bad"
        assert statuses(session) == [
            ("top", "Cancelled", "end_on_error"),
            ("slow", "Cancelled", "end_on_error"),
            ("catcher", "Cancelled", "end_on_error"),
            ("bad", "Failed", None),
        ]

    async def test_error_caught_without_waiting_still_comes_out(self):
        error = ValueError("first")

        @rt.function_node
        async def bad():
            raise error

        @rt.function_node
        async def top():
            try:
                await rt.call(bad)
            except ValueError:
                return "swallowed"

        with pytest.raises(ValueError, match="first") as caught:
            async with rt.Session(end_on_error=True):
                await rt.call(top)
        assert caught.value is error

    async def test_an_error_put_in_its_place_does_not_hide_the_first(self):
        @rt.function_node
        async def bad():
            raise KeyError("first")

        @rt.function_node
        async def top():
            try:
                await rt.call(bad)
            except KeyError as exc:
                raise RuntimeError("second") from exc

        async with rt.Session(end_on_error=False):
            with pytest.raises(RuntimeError):
                await rt.call(top)
        async with rt.Session(end_on_error=True):
            with pytest.raises(KeyError):
                await rt.call(top)

    async def test_body_may_catch_the_error_but_not_call_again(self):
        """The body may catch the error and go on but not call again."""
        error = ValueError("x")

        @rt.function_node
        async def bad():
            raise error

        async with rt.Session(end_on_error=True) as session:
            with pytest.raises(ValueError, match="x"):
                await rt.call(bad)
            await anyio.sleep(1)
            with pytest.raises(SessionEndedError, match="quick") as caught:
                await rt.call(quick)
            assert caught.value.__cause__ is error
        assert statuses(session) == [("bad", "Failed", None)]

    async def test_several_callers_get_the_same_error_object(self, backend):
        """Several callers get the same object, and its traceback does not grow."""
        asyncio_only(backend)
        error = ValueError("x")

        @rt.function_node
        async def bad():
            await anyio.sleep(1)
            raise error

        async with rt.Session(end_on_error=True):
            results = await asyncio.gather(*(rt.call(node) for node in (slow, bad, slow, slow)), return_exceptions=True)
        assert all(result is error for result in results)
        assert len(traceback.extract_tb(error.__traceback__)) < 12

    async def test_a_group_that_a_node_raises_stays_the_same_object(self):
        group = ExceptionGroup("mine", [ValueError(1)])

        @rt.function_node
        async def bad():
            raise group

        for setting in (True, False):
            with pytest.raises(ExceptionGroup) as caught:
                async with rt.Session(end_on_error=setting):
                    await rt.call(bad)
            assert caught.value is group

    @pytest.mark.parametrize("error", [FatalError("f"), NodeInvocationError("f", fatal=True)], ids=repr)
    async def test_a_fatal_error_does_the_same_whatever_the_setting(self, error):
        @rt.function_node
        async def bad():
            raise error

        @rt.function_node
        async def top():
            await rt.call_batch(bad, [], [])
            try:
                await rt.call(bad)
            except rt.exceptions.RTError:
                await anyio.sleep(50)

        with pytest.raises(rt.exceptions.RTError) as caught:
            async with rt.Session(end_on_error=False) as session:
                session.start_soon(slow)
                await rt.call(top)
        assert caught.value is error
        assert {record.name: record.status.value for record in session.info.records} == {
            "slow": "Cancelled", "top": "Cancelled", "bad": "Failed",
        }  # fmt: skip

    async def test_an_error_that_is_not_fatal_ends_nothing(self):
        @rt.function_node
        async def bad():
            raise NodeInvocationError("n", notes=["try again"])

        async with rt.Session():
            with pytest.raises(NodeInvocationError) as caught:
                await rt.call(bad)
            assert caught.value.__notes__ == ["try again"]
            assert await rt.call(quick) == "quick"


class TestFromOutside:
    async def test_a_scope_around_the_session_cancels_records_and_saves(self):
        with anyio.move_on_after(1) as scope:
            async with rt.Session(name="outer") as session:
                await rt.call(slow)
        assert scope.cancelled_caught
        assert statuses(session) == [("slow", "Cancelled", "outside")]
        assert rt.ExecutionInfo.load(".railtracks/outer.json") == session.info

    async def test_cancelled_while_joining_it_cancels_its_children(self):
        with anyio.move_on_after(1) as scope:
            async with rt.Session() as session:
                session.start_soon(slow)
        assert scope.cancelled_caught
        assert statuses(session) == [("slow", "Cancelled", "outside")]

    async def test_native_cancellation_of_the_task_is_passed_on(self, backend):
        asyncio_only(backend)
        cleaned = []

        @rt.function_node
        async def node():
            try:
                await anyio.sleep(50)
            finally:
                cleaned.append(1)

        async def main():
            async with rt.Session(end_on_error=True):
                await rt.call(node)

        task = asyncio.create_task(main())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned == [1]

    async def test_nursery_outside_the_session_is_not_cancelled(self):
        """A nursery outside the session is not cancelled together with a top-level call."""
        errors = []

        async def call_and_keep():
            try:
                await rt.call(slow)
            except Exception as exc:
                errors.append(exc)

        async with anyio.create_task_group() as outside:

            @rt.function_node
            async def top():
                outside.start_soon(call_and_keep)
                await anyio.sleep(50)

            with pytest.raises(GlobalTimeOutError):
                async with rt.Session(timeout=1) as session:
                    await rt.call(top)
            assert not outside.cancel_scope.cancel_called
        assert [type(error) for error in errors] == [GlobalTimeOutError]
        assert [status for _, status, _ in statuses(session)] == ["Cancelled", "Cancelled"]

    async def test_a_run_that_fails_ends_its_detached_calls(self):
        errors = []

        async def call_and_keep():
            try:
                await rt.call(slow)
            except Exception as exc:
                errors.append(exc)

        async with anyio.create_task_group() as outside:

            @rt.function_node
            async def top():
                outside.start_soon(call_and_keep)
                await anyio.sleep(1)
                raise ValueError

            async with rt.Session() as session:
                with pytest.raises(ValueError):
                    await rt.call(top)
                assert session.info.records[1].status is Status.CANCELLED
        assert isinstance(errors[0], SessionEndedError)

    async def test_call_cancelled_before_it_began_leaves_no_record(self):
        async with rt.Session() as session:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anyio.lowlevel.checkpoint()
                await rt.call(quick)
        assert session.info.records == ()

    async def test_cancelled_future_is_recorded_as_a_cancellation(self, backend):
        """An awaited future that was cancelled is recorded as a cancellation of the call."""
        asyncio_only(backend)

        @rt.function_node
        async def waits():
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        async with rt.Session() as session:
            with pytest.raises(asyncio.CancelledError):
                await rt.call(waits)
            assert await rt.call(quick) == "quick"
        assert session.info.records[0].reason is Reason.OUTSIDE

    async def test_coroutine_thrown_away_is_recorded_as_cancelled(self):
        async with rt.Session() as session:
            await rt.call(quick)
            coroutine = rt.call(slow)
            coroutine.send(None)
            coroutine.close()
            assert await rt.call(quick) == "quick"
        assert statuses(session)[1] == ("slow", "Cancelled", "outside")


class TestStrayCancellation:
    """A node may await something of its own that was cancelled: on asyncio that raises what a cancellation raises."""

    @staticmethod
    async def stray():
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def test_of_a_child_is_raised_at_the_end_and_cancels_no_other(self, backend):
        asyncio_only(backend)
        with pytest.raises(asyncio.CancelledError):
            async with rt.Session() as session:
                session.start_soon(self.stray)
                session.start_soon(slow, 2)
                assert await rt.call(slow, 1) == "slow"
        assert asyncio.current_task().cancelling() == 0
        ends = {record.status for record in session.info.records if record.name == "slow"}
        assert ends == {Status.COMPLETED}

    async def test_of_a_child_comes_after_an_error_of_the_body(self, backend, caplog):
        asyncio_only(backend)
        error = KeyError("mine")
        with pytest.raises(KeyError) as caught:
            async with rt.Session() as session:
                session.start_soon(self.stray)
                await rt.call(quick)
                await anyio.sleep(1)
                raise error
        assert caught.value is error
        assert "start_soon" not in caplog.text

    async def test_of_a_child_does_not_hide_that_the_session_is_cancelled(self, backend):
        asyncio_only(backend)
        with anyio.move_on_after(1) as scope:
            async with rt.Session() as session:
                session.start_soon(self.stray)
                await rt.call(slow)
        assert scope.cancelled_caught
        assert {record.status for record in session.info.records} == {Status.CANCELLED}

    async def test_of_a_child_cancelled_as_a_task_stays_with_it(self, backend):
        """A child that is cancelled as a task affects no other call."""
        asyncio_only(backend)
        tasks = []

        async def child():
            tasks.append(asyncio.current_task())
            await anyio.sleep(50)

        with pytest.raises(asyncio.CancelledError):
            async with rt.Session() as session:
                session.start_soon(child)
                await anyio.sleep(1)
                tasks[0].cancel()
                assert await rt.call(slow, 1) == "slow"
