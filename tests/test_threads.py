"""Sync nodes: worker threads, what they see, how they end, and what a cancelled call leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import threading
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks._concurrency import _threads, _work_item
from railtracks._concurrency._background import background, wait_for_pending
from railtracks._concurrency._rate_window import RateWindow
from railtracks._concurrency._turns import Turns
from railtracks._concurrency._work_item import WorkItem
from railtracks.exceptions import GlobalTimeOutError, NodeTimeOutError, SessionEndedError, SessionError
from railtracks.state import Reason, Status, _file_system
from railtracks.state._stores import _file_lock
from railtracks.state._stores._fsync_thread import fsync_thread
from tests import virtual
from tests.virtual import run

MINUTE = 60
MAX_THREADS = rt.ExecutorConfig().max_threads

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def double(x):
    await anyio.sleep(0)
    return 2 * x


class Worker:
    """A sync node that notifies the loop that it began, and then waits for the test."""

    def __init__(self, then=lambda: None):
        self.started = anyio.Event()
        self.release = threading.Event()
        self.ended = threading.Event()
        self._then = then

    def __call__(self):
        anyio.from_thread.run_sync(self._begin)
        self.release.wait(10)
        self.ended.set()
        return "done"

    def _begin(self):
        self.started.set()
        self._then()


def advance(clock):
    clock.jump(2 * MINUTE)


def run_by_hand(backend, func):
    """With the clock as an argument: it stands still while a thread works, so push it."""
    return virtual.run(backend, lambda: func(virtual.clock()))


@asynccontextmanager
async def cancelled_while_it_works(node, worker):
    """Inside: the call of ``node`` was cancelled, and its caller has gone on."""
    async with anyio.create_task_group() as group:
        group.start_soon(rt.call, node)
        await worker.started.wait()
        group.cancel_scope.cancel()
    yield


def no_work_left():
    """Wait, in real time, for threads that are on their way out."""
    for _ in range(1000):
        if not _threads.active_work_count():
            return True
        threading.Event().wait(0.005)  # real: nothing notifies us when a thread has ended
    return False


# ---- what they see


async def test_a_sync_node_runs_in_another_thread_than_the_loop():
    assert await rt.call(threading.get_ident) != threading.get_ident()


async def test_a_sync_node_sees_the_context_variables_of_its_caller():
    token = variable.set("set")
    assert await rt.call(variable.get) == "set"
    variable.reset(token)


async def test_context_variable_set_by_a_sync_node_stays_in_its_thread():
    await rt.call(variable.set, "inside")
    assert variable.get() == "unset"


async def test_a_sync_node_shares_the_context_of_the_session():
    def count():
        rt.context.put("count", rt.context.get("count", 0) + 1)
        return sorted(rt.context.keys())

    async with rt.Session() as session:
        assert await rt.call(count) == ["count"]
        await rt.call(count)
    assert session.context == {"count": 2}


async def test_a_sync_node_knows_its_session():
    async with rt.Session() as session:
        assert await rt.call(rt.session_id) == session.identifier


async def test_a_sync_node_broadcasts_by_way_of_the_loop():
    heard = []

    def speak():
        anyio.from_thread.run(rt.broadcast, "from a thread")

    async with rt.Session(broadcast_callback=heard.append):
        await rt.call(speak)
    assert heard == ["from a thread"]


async def test_sync_node_may_await_calls_in_the_loop():
    """A sync node may await calls by way of the loop, with the right parent."""

    def outer():
        return anyio.from_thread.run(rt.call, double, 2)

    async with rt.Session() as session:
        assert await rt.call(outer) == 4
    assert [(r.name, r.parent) for r in session.info.records] == [("outer", None), ("double", 0)]


# ---- what they return and raise


async def test_awaitable_of_a_sync_function_is_awaited():
    """An awaitable that a sync function returned is awaited."""
    async with rt.Session() as session:
        assert await rt.call(lambda x: double(x), 3) == 6
    assert session.info.answer == 6


async def test_awaitable_of_a_sync_function_runs_in_the_loop_thread():
    """An awaitable that a sync function returned runs in the loop's thread."""

    async def where():
        return threading.get_ident()

    assert await rt.call(lambda: where()) == threading.get_ident()


async def test_awaitable_of_a_sync_function_has_the_right_parent():
    """Calls of an awaitable that a sync function returned have the right parent."""

    async def inner():
        return await rt.call(double, 1)

    def outer():
        return inner()

    async with rt.Session() as session:
        assert await rt.call(outer) == 2
    assert [(r.name, r.parent) for r in session.info.records] == [("outer", None), ("double", 0)]


async def test_timeout_cancels_the_awaitable_of_a_sync_function():
    """The timeout cancels an awaitable that a sync function returned."""
    ended = []

    async def inner():
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async with rt.Session(timeout=60) as session:
        with pytest.raises(GlobalTimeOutError):
            await rt.call(lambda: inner())
    assert ended == [True]
    assert session.info.records[0].reason is Reason.TIMEOUT
    assert not session.info.records[0].abandoned


@pytest.mark.parametrize("error", [ValueError("mine"), TimeoutError("mine"), ExceptionGroup("mine", [ValueError()])])
async def test_an_exception_of_a_sync_node_comes_out_as_itself(error):
    def fail():
        raise error

    async with rt.Session() as session:
        with pytest.raises(type(error)) as caught:
            await rt.call(fail)
    assert caught.value is error
    assert session.info.records[0].exception is error


async def test_stop_iteration_of_a_sync_node_becomes_a_runtime_error():
    """The StopIteration of a sync node comes out as the RuntimeError that Python makes of it."""

    def fail():
        raise StopIteration("mine")

    async with rt.Session() as session:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await rt.call(fail)
    assert session.info.records[0].status is Status.FAILED


async def test_stop_iteration_in_a_batch_becomes_a_runtime_error():
    """The StopIteration of a node in a batch comes out as the RuntimeError that Python makes of it."""

    def fail(_):
        raise StopIteration("mine")

    results = await rt.call_batch(fail, [1, 2])
    assert [type(result) for result in results] == [RuntimeError, RuntimeError]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_sync_node_comes_out_as_itself(backend, kind, tmp_path):
    error = kind("mine")

    def fail():
        raise error

    async def main():
        async with rt.Session(run_identifier="interrupted"):
            await rt.call(fail)

    with pytest.raises(kind) as caught:
        run(backend, main)
    assert caught.value is error
    saved = rt.ExecutionInfo.load(tmp_path / ".railtracks/interrupted.json")
    assert saved.records[0].status is Status.FAILED
    assert _threads.active_work_count() == 0


async def test_cancelled_future_of_the_node_is_an_ordinary_error():
    """A cancelled future of the node's own is an ordinary error."""
    from concurrent.futures import CancelledError

    error = CancelledError("mine")

    def fail():
        raise error

    async with rt.Session() as session:
        with pytest.raises(CancelledError) as caught:
            await rt.call(fail)
    assert caught.value is error
    assert session.info.records[0].status is Status.FAILED


@pytest.mark.parametrize("abandon_on_cancel", [True, False])
async def test_a_stray_cancellation_of_a_sync_node_is_raised_as_it_is(abandon_on_cancel):
    """A ``CancelledError`` that the node raised itself cancels nothing around it."""
    error = asyncio.CancelledError("mine")

    def fail():
        raise error

    async with rt.Session() as session:
        with pytest.raises(asyncio.CancelledError) as caught:
            await rt.call(rt.function_node(fail, abandon_on_cancel=abandon_on_cancel))
    assert caught.value is error
    assert session.info.records[0].reason is Reason.OUTSIDE


# ---- how they end


def test_timeout_abandons_a_thread_and_the_record_says_so(backend):
    async def main(clock):
        worker = Worker(then=partial(advance, clock))
        async with rt.Session(timeout=MINUTE) as session:
            with pytest.raises(GlobalTimeOutError, match="worker"):
                await rt.call(rt.function_node(worker, name="worker"))
            assert not worker.ended.is_set()
        worker.release.set()
        assert worker.ended.wait(10)
        return session

    record = run_by_hand(backend, main).info.records[0]
    assert (record.status, record.reason, record.abandoned) == (Status.CANCELLED, Reason.TIMEOUT, True)
    assert no_work_left()


def test_the_timeout_of_a_node_abandons_its_thread(backend):
    async def main(clock):
        worker = Worker(then=partial(advance, clock))
        async with rt.Session() as session:
            with pytest.raises(NodeTimeOutError, match="worker"):
                await rt.call(rt.function_node(worker, name="worker", timeout=MINUTE))
            assert not worker.ended.is_set()
        worker.release.set()
        assert worker.ended.wait(10)
        return session

    record = run_by_hand(backend, main).info.records[0]
    assert (record.status, record.reason, record.abandoned) == (Status.FAILED, Reason.NODE_TIMEOUT, True)
    assert no_work_left()


async def test_a_warning_names_the_node_whose_thread_was_left_behind(caplog):
    worker = Worker()
    async with rt.Session() as session, cancelled_while_it_works(rt.function_node(worker, name="my node"), worker):
        worker.release.set()
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "my node" in warning.getMessage()
    assert "abandon_on_cancel=False" in warning.getMessage()
    assert (warning.session_id, warning.node_id) == (session.identifier, f"{session.identifier}-n0")


async def test_the_session_ends_while_an_abandoned_thread_goes_on():
    worker = Worker()
    async with rt.Session() as session, cancelled_while_it_works(worker, worker):
        pass
    assert not worker.ended.is_set()
    assert _threads.active_work_count() == 1
    worker.release.set()
    assert worker.ended.wait(10)
    assert no_work_left()
    record = session.info.records[0]
    assert (record.status, record.reason, record.abandoned, record.result) == (
        Status.CANCELLED, Reason.OUTSIDE, True, None,
    )  # fmt: skip


async def test_the_saved_state_says_that_a_thread_was_abandoned(tmp_path):
    worker = Worker()
    async with rt.Session(run_identifier="abandoned"), cancelled_while_it_works(worker, worker):
        worker.release.set()
    saved = rt.ExecutionInfo.load(tmp_path / ".railtracks/abandoned.json")
    assert saved.records[0].abandoned


async def test_an_exception_of_an_abandoned_thread_is_lost_in_silence(caplog):
    worker = Worker()

    def fail():
        worker()
        raise ValueError("lost")

    async with rt.Session() as session, cancelled_while_it_works(fail, worker):
        worker.release.set()
        assert worker.ended.wait(10)
    assert no_work_left()
    assert session.info.records[0].exception is None
    assert len(caplog.records) == 1  # the warning that its worker thread goes on


def test_without_abandon_on_cancel_the_call_waits_for_its_thread(backend, caplog):
    async def main(clock):
        worker = Worker(then=partial(advance, clock))

        async def release():
            await worker.started.wait()
            for _ in range(10):  # the deadline has passed by now, and the call still waits
                await anyio.lowlevel.checkpoint()
            worker.release.set()

        async with rt.Session(timeout=MINUTE) as session, anyio.create_task_group() as group:
            group.start_soon(release)
            with pytest.raises(GlobalTimeOutError):
                await rt.call(rt.function_node(worker, name="worker", abandon_on_cancel=False))
            assert worker.ended.is_set()
        return session

    record = run_by_hand(backend, main).info.records[0]
    assert not record.abandoned
    assert caplog.messages == ["worker TIMED OUT, although its call ended by itself: it took longer than 60 s"]
    assert _threads.active_work_count() == 0


def test_timeout_cancels_a_child_that_a_sync_node_called(backend):
    """The timeout cancels a child that a sync node called, and its record says so."""
    ended = []

    async def main(clock):
        async def child():
            advance(clock)
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(True)

        def outer():
            rt.call_sync(child)

        async with rt.Session(timeout=MINUTE) as session:
            with pytest.raises(GlobalTimeOutError, match="outer"):
                await rt.call(outer)
            assert ended == [True]
        return session

    records = run_by_hand(backend, main).info.records
    assert [(r.name, r.status, r.reason) for r in records] == [
        ("outer", Status.CANCELLED, Reason.TIMEOUT),
        ("child", Status.CANCELLED, Reason.TIMEOUT),
    ]
    assert no_work_left()


def test_timeout_cancels_a_child_below_a_node_that_waits(backend):
    """The timeout cancels a child below a node that waits for its thread."""

    async def main(clock):
        async def child():
            advance(clock)
            await anyio.sleep_forever()

        @rt.function_node(abandon_on_cancel=False)
        def outer():
            rt.call_sync(child)

        async with rt.Session(timeout=MINUTE) as session:
            with pytest.raises(GlobalTimeOutError, match="outer"):
                await rt.call(outer)
        return session

    records = run_by_hand(backend, main).info.records
    assert [(r.name, r.status, r.reason, r.abandoned) for r in records] == [
        ("outer", Status.CANCELLED, Reason.TIMEOUT, False),
        ("child", Status.CANCELLED, Reason.TIMEOUT, False),
    ]
    assert _threads.active_work_count() == 0


async def test_outside_cancellation_cancels_the_child_of_a_sync_node():
    """Cancellation from outside cancels a child that a sync node called."""
    running = anyio.Event()

    async def child():
        running.set()
        await anyio.sleep_forever()

    @rt.function_node(abandon_on_cancel=False)
    def outer():
        rt.call_sync(child)

    async with rt.Session() as session, anyio.create_task_group() as group:
        group.start_soon(rt.call, outer)
        await running.wait()
        group.cancel_scope.cancel()
    assert [(r.status, r.reason) for r in session.info.records] == 2 * [(Status.CANCELLED, Reason.OUTSIDE)]


async def test_end_on_error_cancels_a_child_that_a_sync_node_called():
    running, error = anyio.Event(), ValueError("first")

    async def child():
        running.set()
        await anyio.sleep_forever()

    @rt.function_node(abandon_on_cancel=False)
    def outer():
        rt.call_sync(child)

    async def fail():
        await running.wait()
        raise error

    async with rt.Session(end_on_error=True) as session:
        with pytest.raises(ValueError) as caught:
            await rt.call_batch(rt.call, [outer, fail], return_exceptions=False)
    assert caught.value is error
    reasons = {record.name: record.reason for record in session.info.records}
    assert reasons["outer"] is reasons["child"] is Reason.END_ON_ERROR


async def test_late_call_of_a_thread_is_refused_and_not_recorded():
    """A late call of a thread, after a timeout, is refused and not recorded."""
    worker, out = Worker(), []

    def late():
        worker()
        try:
            rt.call_sync(double, 1)
        except SessionEndedError as exc:
            out.append(exc)
        finally:
            answered.set()

    answered = threading.Event()
    async with rt.Session() as session, cancelled_while_it_works(late, worker):
        worker.release.set()
        assert answered.wait(10)
    assert "double" in str(out[0])
    assert len(session.info.records) == 1


async def test_late_broadcast_of_an_abandoned_thread_does_not_hang():
    worker, out, heard = Worker(), [], []

    def late():
        worker()
        try:
            anyio.from_thread.run(rt.broadcast, "late")
        except BaseException as exc:
            out.append(exc)
        finally:
            answered.set()

    answered = threading.Event()
    async with rt.Session(broadcast_callback=heard.append), cancelled_while_it_works(late, worker):
        worker.release.set()
        for _ in range(2000):
            await anyio.lowlevel.checkpoint()
            if answered.wait(0.001):  # real: the thread needs this loop to get an answer
                break
    assert answered.is_set()


# ---- how many


async def test_number_of_working_threads_is_limited():
    lock, now, most = threading.Lock(), 0, 0
    full = threading.Barrier(MAX_THREADS)

    def work(i):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        full.wait(30)  # passes only when as many as are allowed are at work
        with lock:
            now -= 1
        return i

    count = 2 * MAX_THREADS
    assert await rt.call_batch(work, range(count), return_exceptions=False) == list(range(count))
    assert most == MAX_THREADS
    assert _threads.active_work_count() == 0


async def test_abandoned_threads_do_not_hold_up_another_session():
    workers = [Worker() for _ in range(MAX_THREADS)]
    async with rt.Session(), anyio.create_task_group() as group:
        for worker in workers:
            group.start_soon(rt.call, worker)
        for worker in workers:
            await worker.started.wait()
        group.cancel_scope.cancel()
    async with rt.Session():
        assert await rt.call(len, "abc") == 3
    for worker in workers:
        worker.release.set()
    assert no_work_left()


async def test_call_cancelled_while_waiting_for_a_thread_leaves_none():
    """A call that is cancelled while it waits for a thread is not abandoned."""
    workers = [Worker() for _ in range(MAX_THREADS)]
    begun = []

    def never():
        begun.append(True)

    async with rt.Session() as session, anyio.create_task_group() as group:
        for worker in workers:
            group.start_soon(rt.call, rt.function_node(worker, name="busy"))
        for worker in workers:
            await worker.started.wait()
        async with anyio.create_task_group() as inner:
            inner.start_soon(rt.call, never)
            while len(session.info.records) <= len(workers):
                await anyio.lowlevel.checkpoint()
            inner.cancel_scope.cancel()
        for worker in workers:
            worker.release.set()
    last = session.info.records[-1]
    assert (last.name, last.status, last.abandoned) == ("never", Status.CANCELLED, False)
    assert begun == []
    assert _threads.active_work_count() == 0


async def test_nothing_is_running_after_calls_that_ended_well_or_badly():
    def fail(_):
        raise ValueError

    async with rt.Session():
        await rt.call_batch(fail, range(5))
        await rt.call_batch(str, range(5))
    assert _threads.active_work_count() == 0


async def test_late_calls_of_a_cancelled_thread_are_cancelled():
    """What a thread calls after its scope was cancelled is cancelled too."""
    begun, go = threading.Event(), threading.Event()

    @rt.function_node(abandon_on_cancel=False)
    def inner():
        return "not reached"

    @rt.function_node(abandon_on_cancel=False)
    def outer():
        begun.set()
        go.wait(10)
        rt.call_sync(inner)

    async with rt.Session() as session:

        @rt.function_node
        async def top():
            async with anyio.create_task_group() as group:
                group.start_soon(rt.call, outer)
                await anyio.to_thread.run_sync(begun.wait)
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    for _ in range(5):  # until nothing is left to be cancelled
                        await anyio.lowlevel.checkpoint()
                go.set()
            return "gone on"

        assert await rt.call(top) == "gone on"
    assert [r.status for r in session.info.records][:2] == [Status.COMPLETED, Status.CANCELLED]


async def test_first_error_ends_the_session_through_a_thread_too():
    """The first error ends the session also if it rises through a thread."""

    async def fail():
        await anyio.sleep(1)
        raise KeyError("first")

    def work():
        rt.call_sync(fail)

    with pytest.raises(KeyError, match="first"):
        async with rt.Session(end_on_error=True):
            await rt.call(work)


def turn():
    turns = Turns()
    waiter, _ = turns.join()
    return turns._guard, partial(turns.leave, waiter)


def rate():
    window = RateWindow(1, 10, lambda: 0.0)
    waiter = window._join()
    return window._guard, partial(window._leave, waiter, None)


def work_item():
    _work_item._count(+1)
    return _work_item._lock, WorkItem(int, "", None).detach_waiter


def request():
    tokens = rt.TokenBudget(100)
    tokens._running["key"] = 1
    return tokens._lock, partial(tokens.end, "key")


def sync():
    return fsync_thread._guard, partial(fsync_thread.cancel, lambda: None)


def background_work():
    return background._guard, background._ensure_threads


def lock_of_a_run():
    return _file_lock._guard, _file_lock.FileLock("run.lock", "run").release


LOCKS = {
    "background": background._guard,
    "sync": fsync_thread._guard,
    "files": _file_lock._guard,
    "folders": _file_system._guard,
}


@pytest.mark.parametrize("form", ["with", "async with"])
@pytest.mark.parametrize("lock", LOCKS)
def test_session_can_be_discarded_at_any_moment(lock, form, monkeypatch):
    """As the garbage collector does it in the main thread, which waits for nothing then that needs the lock."""
    monkeypatch.setattr("railtracks._session._stored_run.DISCARD_DEADLINE", 0.05)
    options: Any = {"run_identifier": "run", "logging_setting": "NONE"}

    async def main():
        if form == "with":
            with rt.Session(**options):
                await wait_for_ever()
        async with rt.Session(**options):
            await wait_for_ever()

    async def wait_for_ever():
        await rt.call(double, 2)
        begun.set()
        await asyncio.Event().wait()

    begun, coroutine, loop = asyncio.Event(), main(), asyncio.new_event_loop()
    task: Any = loop.create_task(coroutine)
    loop.run_until_complete(begun.wait())
    task._log_destroy_pending = False
    loop.close()
    with LOCKS[lock], contextlib.suppress(SessionError):  # it is left outside of its task
        coroutine.close()
    wait_for_pending()
    assert [each.result for each in rt.state.load_run("run").records] == [4]


@pytest.mark.parametrize("what", [turn, rate, work_item, request, sync, background_work, lock_of_a_run])
async def test_what_waits_can_be_discarded_at_any_moment(what):
    """The garbage collector may close a coroutine in the middle of code of the same thread that holds the lock."""
    lock, leave = what()

    def leave_in_lock():
        with lock:
            leave()

    thread = threading.Thread(target=leave_in_lock, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
