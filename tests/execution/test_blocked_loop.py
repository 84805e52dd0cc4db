"""The warning about a node that blocks the event loop. In real time: in virtual time nothing is watched."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.lowlevel import EventLoopToken, current_token

import railtracks as rt
from railtracks._concurrency._watch_thread import watch_thread
from railtracks.execution import _blocked_loop, _running_code
from railtracks.execution._blocked_loop import WatchedLoop
from railtracks.execution._call_scopes import CallScopes
from tests import virtual

PATIENCE = 20
LIMIT = 0.05


@pytest.fixture(autouse=True)
def no_loops():
    """Forget the loop of this thread, which is watched a little longer than its sessions."""
    _blocked_loop._loops.pop(threading.get_ident(), None)


class Warned(logging.Handler):
    """Notes warnings, and lets code that blocks the event loop go on at the first."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[Any] = []
        self.came = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.came.set()

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def warned():
    handler, logger = Warned(), logging.getLogger("RT")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def session(**options: Any) -> rt.Session:
    return rt.Session(save_state=False, slow_callback_seconds=LIMIT, **options)


def blocking(until: threading.Event) -> rt.nodes.FunctionNode[[], Any]:
    @rt.function_node
    async def block() -> bool:
        return until.wait(PATIENCE)

    return block


def test_it_names_the_node_the_line_and_what_to_write(backend, warned):
    block = blocking(warned.came)

    @rt.function_node
    async def outer():
        return await rt.call(block)

    async def main():
        async with session() as opened:
            assert await rt.call(outer)
        return opened

    opened = anyio.run(main, backend=backend)
    line = block.func.__code__.co_firstlineno + 2
    assert len(warned.messages) == 1
    assert warned.messages[0].startswith("block has blocked the event loop for 0.")
    assert f"s so far, line {line} of test_blocked_loop.py: until" in warned.messages[0]
    assert "write `await anyio.to_thread.run_sync(...)`" in warned.messages[0]
    assert warned.records[0].session_id == opened.identifier
    assert warned.records[0].node_id == [*opened.info.node_forest.heap()][1]


@pytest.mark.parametrize("form", ["call_sync", "with in async code"])
def test_other_forms_of_a_session_are_watched_too(form, backend, warned):
    block = blocking(warned.came)
    if form == "call_sync":
        with session(backend=backend):
            assert rt.call_sync(block)
    else:

        async def main():
            with session():
                assert await rt.call(block)

        anyio.run(main, backend=backend)
    assert len(warned.messages) == 1


def test_the_limit_is_that_of_the_session_whose_node_blocks(backend, warned):
    async def main():
        patient = rt.Session(save_state=False, slow_callback_seconds=1000)
        with session():
            pass
        async with session(), patient:
            assert not await rt.call(blocking_for(5 * LIMIT))

    def blocking_for(seconds: float) -> Any:
        @rt.function_node
        async def block() -> bool:
            return warned.came.wait(seconds)  # real: that no warning comes in this time is what is tested

        return block

    anyio.run(main, backend=backend)
    assert warned.messages == []


def blocks_in(place: str, until: Callable[[], object]) -> Callable[[rt.Session], Any]:
    """Return an async function that blocks in a place outside of the code of a call, while a call is open."""

    async def block() -> None:
        until()

    @rt.function_node
    async def parent() -> None:
        if place == "callback of the event loop":
            asyncio.get_running_loop().call_soon(until)
            await anyio.sleep(0.01)
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(block)

    async def main(opened: rt.Session) -> None:
        if place == "subscriber":
            opened.subscribe(lambda _: until(), kinds=(rt.state.CallCreated,))
            await rt.call(anyio.sleep, 0.01)
        elif place == "body":
            handle = opened.start_soon(anyio.sleep_forever)
            await anyio.sleep(0.01)
            until()
            handle.cancel()
        else:
            await rt.call(parent)

    return main


@pytest.mark.parametrize(
    ("place", "subject"),
    [
        ("task", "what parent has started"),
        ("callback of the event loop", "what parent has started"),
        ("subscriber", "the callback of a subscriber"),
        ("body", "code outside of the session's calls"),
    ],
)
def test_code_of_a_session_beside_its_calls_is_warned_of(place, subject, backend, warned):
    if place == "callback of the event loop" and backend == "trio":
        pytest.skip("trio has none")

    def until() -> None:
        assert warned.came.wait(PATIENCE)

    async def main():
        async with session() as opened:
            await blocks_in(place, until)(opened)
        return opened

    opened = anyio.run(main, backend=backend)
    line = until.__code__.co_firstlineno + 1
    assert len(warned.messages) == 1
    assert warned.messages[0].startswith(f"{subject} has blocked the event loop for 0.")
    assert f"line {line} of test_blocked_loop.py" in warned.messages[0]
    assert "sync node" not in warned.messages[0]
    assert warned.records[0].session_id == opened.identifier


def test_code_that_is_in_no_session_is_not_warned_of(backend, warned, thread):
    async def block():
        thread.check()
        for _ in range(3):
            thread.now += LIMIT
            thread.check()

    async def main():
        async with anyio.create_task_group() as group:
            begin = anyio.Event()

            async def beside():
                await begin.wait()
                await block()

            group.start_soon(beside)
            async with session() as opened:
                handle = opened.start_soon(anyio.sleep_forever)
                await anyio.sleep(0.01)
                begin.set()
                await anyio.sleep(0.01)
                handle.cancel()

    anyio.run(main, backend=backend)
    assert thread.asked
    assert warned.messages == []


class Thread:
    """A thread that runs a call of a session and does what a test says, with the loop's answers in the test's hands."""

    def __init__(self, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.asked: list[Callable[[], object]] = []
        monkeypatch.setattr(_blocked_loop, "call_soon", lambda token, func: self.asked.append(func))
        monkeypatch.setattr(watch_thread, "watch", lambda func, interval=None: None)
        monkeypatch.setattr(_blocked_loop, "WatchedLoop", self._make)
        self.loop: Any = None

    def _make(self, token: EventLoopToken) -> WatchedLoop:
        self.loop = WatchedLoop(token, lambda: self.now)
        return self.loop

    def check(self) -> None:
        """Check from another thread, as the watch thread does, while this one is blocked by that."""
        checking = threading.Thread(target=self.loop.check)
        checking.start()
        checking.join(PATIENCE)


@pytest.fixture
def thread(backend, monkeypatch):
    return Thread(backend, monkeypatch)


def run_in_call(backend: str, func: Callable[[], object]) -> None:
    @rt.function_node
    async def node() -> None:
        func()

    async def main():
        async with session():
            await rt.call(node)

    anyio.run(main, backend=backend)


def test_a_turn_shorter_than_the_limit_is_not_warned_of(backend, warned, thread):
    def turns():
        for _ in range(3):
            thread.check()
            thread.now += LIMIT * 0.9
            thread.check()
            thread.asked.pop()()  # the loop had a turn

    run_in_call(backend, turns)
    assert warned.messages == []


def test_each_turn_that_is_too_long_is_warned_of_once(backend, warned, thread):
    def turns():
        for _ in range(2):
            thread.check()
            for _ in range(5):
                thread.now += LIMIT
                thread.check()
            thread.asked.pop()()

    run_in_call(backend, turns)
    assert len(warned.messages) == 2


def test_a_late_answer_to_an_earlier_question_does_not_count(backend, warned, thread):
    def turns():
        thread.check()
        thread.asked[0]()
        thread.check()
        thread.now += LIMIT
        thread.asked[0]()
        thread.check()

    run_in_call(backend, turns)
    assert len(warned.messages) == 1


def test_code_outside_of_calls_is_not_asked_about(backend, thread):
    async def main():
        async with session():
            thread.check()

    anyio.run(main, backend=backend)
    assert thread.asked == []


def test_a_stopped_loop_does_not_count_as_blocked(thread, monkeypatch):
    """An asyncio loop may be stopped while calls are open on it, as between the cells of a notebook."""
    read: list[object] = []
    loop = asyncio.new_event_loop()

    async def main():
        async with session() as opened:
            handle = opened.start_soon(anyio.sleep_forever)
            await anyio.sleep(0)
            thread.check()
            loop.stop()
            await anyio.sleep(0)
            thread.check()
            handle.cancel()

    task = loop.create_task(main())
    monkeypatch.setattr(_running_code, "running_code", read.append)
    loop.run_forever()
    assert len(thread.asked) == 1
    thread.now += 10 * LIMIT
    thread.check()
    loop.run_until_complete(task)
    loop.close()
    assert read == []
    assert len(thread.asked) == 2


# ---- what is watched, and for how long


def test_nothing_is_watched_in_virtual_time(backend):
    async def main():
        async with session():
            assert threading.get_ident() not in _blocked_loop._loops

    virtual.run(backend, main)


def test_nothing_is_watched_without_a_limit(backend):
    async def main():
        async with rt.Session(save_state=False, slow_callback_seconds=math.inf):
            assert threading.get_ident() not in _blocked_loop._loops

    anyio.run(main, backend=backend)


def test_nothing_is_watched_after_the_last_session(backend):
    async def main():
        async with session():
            async with session():
                assert own().sessions == 2
            assert own().sessions == 1
        with pytest.raises(KeyError):
            async with session():
                raise KeyError
        with session():
            await rt.call(rt.function_node(anyio.lowlevel.checkpoint))
        loop = own()
        assert loop.sessions == 0
        loop.check()
        assert threading.get_ident() not in _blocked_loop._loops
        assert loop.check not in watch_thread._due

    anyio.run(main, backend=backend)


def test_the_shortest_limit_of_the_open_sessions_counts(backend):
    def due() -> float:
        own().check()
        return watch_thread._due[own().check][1] * _blocked_loop.CHECKS

    async def main():
        async with rt.Session(save_state=False, slow_callback_seconds=20):
            async with session(), session():
                assert due() == LIMIT
            assert due() == 20
            async with rt.Session(save_state=False, slow_callback_seconds=30):
                assert due() == 20
        assert watch_thread._due[own().check][1] * _blocked_loop.CHECKS == 20  # one that comes soon goes on with it

    anyio.run(main, backend=backend)


def own() -> WatchedLoop:
    return _blocked_loop._loops[threading.get_ident()]


def test_a_loop_whose_session_was_never_left_is_watched(backend, monkeypatch):
    monkeypatch.setattr(watch_thread, "watch", lambda func, interval=None: None)
    loops = []

    async def main():
        _blocked_loop.watch_loop(Abandoned(), current_token())
        loops.append(own())

    anyio.run(main, backend=backend)
    loops[0].check()
    assert (threading.get_ident() in _blocked_loop._loops) == (backend == "trio")  # whose loops do not say
    anyio.run(main, backend=backend)
    assert loops[1] is not loops[0]
    del _blocked_loop._loops[threading.get_ident()]


class Abandoned:
    """What is left of a session that was never left."""

    config = rt.ExecutorConfig()
    scopes = CallScopes()
    watched_loop: WatchedLoop | None = None
    session_id = "abandoned"
    log: Any = None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_watches_nothing_of_its_parent():
    async def main():
        async with session():
            child = os.fork()
            if child == 0:
                os._exit(len(_blocked_loop._loops))
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert asyncio.run(main()) == 0
