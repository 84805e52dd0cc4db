"""Calls from plain threads while their session is being left: a result or SessionEndedError, and never a hang."""

from __future__ import annotations

import contextvars
import random
import threading
import time

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import SessionEndedError

RUNS = pytest.mark.parametrize("runs", [50, pytest.param(200, marks=pytest.mark.slow)])


async def in_task(x):
    await anyio.sleep(0)
    return x


def in_thread(x):
    return x


class Caller:
    """A thread that calls and broadcasts in a session until that raises."""

    def __init__(self, func):
        self.raised: list[BaseException] = []
        self.results = 0
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run, func), daemon=True)
        self._thread.start()

    def _run(self, func):
        try:
            while True:
                func()
                self.results += 1
        except BaseException as exc:
            self.raised.append(exc)

    def end(self):
        self._thread.join(20)
        assert not self._thread.is_alive(), "the thread waits for ever"
        [exc] = self.raised
        assert isinstance(exc, SessionEndedError), repr(exc)


FUNCS = [
    lambda: rt.call_sync(in_task, 1),
    lambda: rt.call_sync(in_thread, 1),
    lambda: rt.broadcast_sync(1),
]


@RUNS
def test_plain_with_is_left_while_threads_call(backend, runs):
    """Real threads and real time, because what is tested is a race of threads with the end of an event loop."""
    chance = random.Random(0)
    for _ in range(runs):
        with rt.Session(backend=backend, save_state=False, broadcast_callback=lambda _: None):
            rt.call_sync(in_task, 0)
            callers = [Caller(func) for func in FUNCS]
            time.sleep(chance.random() * 0.004)
        for caller in callers:
            caller.end()


@RUNS
def test_plain_with_is_left_in_error_while_threads_call(backend, runs):
    chance = random.Random(1)
    for _ in range(runs // 4):
        callers = []
        with (
            pytest.raises(ZeroDivisionError),
            rt.Session(backend=backend, save_state=False, broadcast_callback=lambda _: None),
        ):
            rt.call_sync(in_task, 0)
            callers += [Caller(func) for func in FUNCS]
            time.sleep(chance.random() * 0.004)
            raise ZeroDivisionError
        for caller in callers:
            caller.end()


@RUNS
def test_async_session_and_its_loop_end_while_threads_call(backend, runs):
    chance = random.Random(2)
    callers = []

    async def main():
        async with rt.Session(save_state=False, broadcast_callback=lambda _: None):
            callers[:] = [Caller(func) for func in FUNCS]
            await anyio.sleep(chance.random() * 0.004)

    for _ in range(runs):
        anyio.run(main, backend=backend)
        for caller in callers:
            caller.end()
