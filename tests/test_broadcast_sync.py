"""``rt.broadcast_sync``, and what else threads ask of an event loop that may end before it answers."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import anyio
import pytest

import railtracks as rt
from railtracks._concurrency import _threads
from railtracks.exceptions import ContextError, SessionEndedError, SessionError
from tests.programs import output_of


class Late:
    """A sync node that does ``func`` after its call was abandoned, and notes what came out."""

    def __init__(self, func):
        self.started = anyio.Event()
        self.release = threading.Event()
        self.answered = threading.Event()
        self.out = None
        self._func = func

    def __call__(self):
        anyio.from_thread.run_sync(self.started.set)
        self.release.wait(10)
        try:
            self.out = self._func()
        except BaseException as exc:
            self.out = exc
        finally:
            self.answered.set()

    async def abandon(self):
        """Call it, and cancel the call once its thread has begun."""
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, self)
            await self.started.wait()
            group.cancel_scope.cancel()


async def test_broadcast_sync_in_a_sync_node_reaches_the_callback():
    heard = []

    def speak():
        rt.broadcast_sync("from a thread")

    async with rt.Session(broadcast_callback=heard.append):
        await rt.call(speak)
    assert heard == ["from a thread"]


async def test_broadcast_sync_names_the_call_that_it_came_from():
    events = []

    def speak():
        rt.broadcast_sync("item")

    async with rt.Session(run_identifier="run") as session:
        session.subscribe(events.append, kinds=(rt.state.Broadcast,))
        await rt.call(speak)
    assert [(event.item, event.node_id) for event in events] == [("item", "run-n0")]


def test_broadcast_sync_in_a_plain_with_reaches_the_callback(backend):
    heard = []
    with rt.Session(broadcast_callback=heard.append, backend=backend):
        rt.broadcast_sync("first")
        rt.call_sync(len, "abc")
        rt.broadcast_sync("second")
    assert heard == ["first", "second"]


def test_broadcast_sync_in_a_thread_reaches_the_callback(backend):
    heard = []
    with rt.Session(broadcast_callback=heard.append, backend=backend):
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(rt.broadcast_sync, "item"))
        thread.start()
        thread.join()
    assert heard == ["item"]


def test_broadcast_sync_outside_a_session_is_refused():
    with pytest.raises(ContextError, match=r"rt\.broadcast_sync\(\) was called outside a session"):
        rt.broadcast_sync("item")


async def test_broadcast_sync_in_an_event_loop_shows_what_to_write():
    async with rt.Session():
        with pytest.raises(SessionError, match=r"write `await rt\.broadcast\(item\)`"):
            rt.broadcast_sync("item")


async def test_broadcast_sync_works_in_a_plain_with_in_async_code():
    heard = []

    def speak():
        rt.broadcast_sync("item")

    with rt.Session(broadcast_callback=heard.append):
        await rt.call(speak)
    assert heard == ["item"]


async def test_broadcast_sync_waits_for_room():
    """With the policy "wait" it blocks its thread until the subscriber has room."""
    release, heard = anyio.Event(), []

    async def slow(event):
        await release.wait()
        heard.append(event.item)

    def speak():
        for item in range(5):
            rt.broadcast_sync(item)
        return list(heard)

    async with rt.Session() as session:
        session.subscribe(slow, kinds=(rt.state.Broadcast,), capacity=1, policy="wait")
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, speak)
            await anyio.sleep(5)
            assert heard == []
            release.set()
    assert heard == list(range(5))


# ---- it cannot outlive its call


@pytest.mark.parametrize("func", [rt.broadcast_sync, lambda item: rt.call_sync(len, item)])
async def test_request_of_an_abandoned_thread_is_refused(func):
    late = Late(lambda: func("late"))
    heard = []
    async with rt.Session(broadcast_callback=heard.append) as session:
        await late.abandon()
        late.release.set()
        assert late.answered.wait(10)
    assert isinstance(late.out, SessionEndedError)
    assert "came from a thread whose call was cancelled; let its function return" in str(late.out)
    assert heard == []
    assert len(session.info.records) == 1


async def test_request_that_crosses_its_cancellation_is_refused():
    """A request that was on its way when the call of its thread was cancelled does not begin."""
    begun = []

    async def request():
        begun.append(True)

    late = Late(lambda: _threads.run_in_loop(request, None))
    async with rt.Session():
        await late.abandon()
        late.release.set()
        while not late.answered.wait(0.001):  # real: the thread needs this event loop to get its answer
            await anyio.lowlevel.checkpoint()
    assert isinstance(late.out, _threads.UnansweredError)
    assert begun == []


@pytest.mark.parametrize("func", [rt.broadcast_sync, lambda item: rt.call_sync(len, item)])
async def test_request_of_a_thread_that_outlives_a_session_is_refused(func):
    late = Late(lambda: func("late"))
    async with rt.Session(broadcast_callback=lambda _: None):
        await late.abandon()
    late.release.set()
    assert late.answered.wait(10)
    assert isinstance(late.out, SessionEndedError)


def test_request_of_a_plain_thread_after_the_session_is_refused(backend):
    with rt.Session(backend=backend):
        rt.call_sync(len, "abc")
        context = contextvars.copy_context()
    for func in (lambda: rt.broadcast_sync("item"), lambda: rt.call_sync(len, "abc")):
        with pytest.raises(SessionEndedError, match="after its session had ended"):
            context.run(func)


async def test_broadcast_sync_that_waits_for_room_ends_with_its_call():
    """A thread that waits for room when its call is abandoned gets SessionEndedError, while the session goes on."""
    blocked = anyio.Event()

    async def never(_):
        await blocked.wait()

    def speak():
        rt.broadcast_sync("first")
        rt.broadcast_sync("second")
        rt.broadcast_sync("third")

    late = Late(speak)
    late.release.set()
    async with rt.Session() as session:
        session.subscribe(never, kinds=(rt.state.Broadcast,), capacity=1, policy="wait")
        async with anyio.create_task_group() as group:
            group.start_soon(rt.call, late)
            await anyio.sleep(5)
            group.cancel_scope.cancel()
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
            if late.answered.wait(0.001):  # real: the thread needs this event loop to get its answer
                break
        blocked.set()
    assert isinstance(late.out, SessionEndedError)
    assert "the call of its thread was cancelled" in str(late.out)
    assert _threads.active_work_count() == 0


# ---- it cannot outlive its event loop


class Requests:
    """A thread that calls ``func`` until it raises, and notes what."""

    def __init__(self, func):
        self.out: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(func,))
        self._thread.start()

    def _run(self, func):
        try:
            while True:
                func()
        except BaseException as exc:
            self.out.append(exc)

    def join(self):
        self._thread.join(20)
        assert not self._thread.is_alive(), "the thread waits for ever"


def test_request_that_a_closed_loop_never_began_is_refused(monkeypatch):
    """A request that asyncio dropped, because the loop was closed before its next turn, is refused."""
    token: list = []
    asked = threading.Event()
    loop = asyncio.new_event_loop()

    async def main():
        token.append(anyio.lowlevel.current_token())

    loop.run_until_complete(main())
    schedule = loop.call_soon_threadsafe

    def note(*args, **options):
        handle = schedule(*args, **options)
        asked.set()
        return handle

    monkeypatch.setattr(loop, "call_soon_threadsafe", note)
    requests = Requests(lambda: _threads.run_in_loop(anyio.lowlevel.checkpoint, token[0]))
    assert asked.wait(10)
    loop.close()
    requests.join()
    assert [type(exc) for exc in requests.out] == [_threads.UnansweredError]


def test_request_whose_task_never_ended_is_refused():
    """A request whose task was pending when the loop was closed is refused."""
    token: list = []
    begun = threading.Event()
    loop = asyncio.new_event_loop()

    async def request():
        begun.set()
        loop.stop()
        await anyio.sleep_forever()

    async def main():
        token.append(anyio.lowlevel.current_token())

    loop.run_until_complete(main())
    requests = Requests(lambda: _threads.run_in_loop(request, token[0]))
    loop.run_forever()
    assert begun.is_set()
    pending = asyncio.all_tasks(loop)
    loop.close()
    requests.join()
    assert [type(exc) for exc in requests.out] == [_threads.UnansweredError]
    for task in pending:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # or asyncio would log it


@pytest.mark.parametrize("request_of", ["anyio.from_thread.run(rt.broadcast, 1)", "rt.broadcast_sync(1)",
                                        "rt.call_sync(len, 'abc')"])  # fmt: skip
def test_process_ends_although_a_thread_asks_without_end(backend, request_of):
    """A process ends although an abandoned thread goes on to broadcast or call until that raises."""
    lines = output_of(
        f"""
        import sys, anyio, railtracks as rt

        def work():
            while True:
                {request_of}

        options = {{"timeout": 0.05, "save_state": False, "broadcast_callback": lambda _: None}}
        flow = rt.Flow("F", work, backend=sys.argv[1], **options)
        try:
            flow.invoke()
        except rt.exceptions.GlobalTimeOutError as exc:
            print(exc)
        try:
            anyio.run(flow.ainvoke, backend=sys.argv[1])
        except rt.exceptions.GlobalTimeOutError as exc:
            print(exc)
        """,
        backend,
    )
    assert lines == 2 * ["work exceeded the timeout of 0.05 s; set timeout=..., or math.inf for no limit"]


def test_process_ends_although_a_loop_stands_still():
    """A process ends although a thread waits for an asyncio loop that was stopped, and never closed."""
    lines = output_of(
        """
        import asyncio, contextvars, threading, anyio, railtracks as rt

        loop = asyncio.new_event_loop()

        def work():
            try:
                while True:
                    rt.broadcast_sync(1)
            except rt.exceptions.SessionEndedError:
                print("refused")

        async def main():
            async with rt.Session(save_state=False):
                threading.Thread(target=contextvars.copy_context().run, args=(work,)).start()
                loop.stop()
                await anyio.sleep_forever()

        task = loop.create_task(main())
        loop.run_forever()
        task._log_destroy_pending = False
        print("stopped")
        """
    )
    assert sorted(lines) == ["refused", "stopped"]
