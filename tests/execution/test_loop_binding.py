"""The binding of a session to an event loop, as a table."""

from __future__ import annotations

import threading

import anyio
import pytest
from anyio.lowlevel import current_token

from railtracks.exceptions import SessionError
from railtracks.execution._loop_binding import LoopBinding


def test_a_new_binding_belongs_to_no_thread():
    loop = LoopBinding()
    assert not loop.is_bound
    assert not loop.is_this_thread
    assert loop.current_task() is None


async def test_a_binding_belongs_to_the_thread_that_it_was_bound_in():
    loop = LoopBinding()
    loop.bind()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(loop.is_this_thread))
    thread.start()
    thread.join()
    assert (loop.is_bound, loop.is_this_thread, seen) == (True, True, [False])
    assert loop.current_task() is not None


async def test_the_current_task_is_that_of_the_running_code():
    loop = LoopBinding()
    loop.bind()
    tasks = [loop.current_task()]

    async def other():
        tasks.append(loop.current_task())

    async with anyio.create_task_group() as group:
        group.start_soon(other)
    assert tasks[0] is loop.current_task()
    assert tasks[1] is not tasks[0]


async def test_the_token_is_returned_once_there_is_one():
    loop = LoopBinding()
    loop.token = current_token()
    assert loop.require_token() is loop.token


async def test_a_loop_is_started_only_if_there_is_none():
    loop, started = LoopBinding(), []

    def start():
        started.append("loop")
        loop.token = token

    token = current_token()
    loop.start = start
    assert [loop.require_token(), loop.require_token()] == [token, token]
    assert started == ["loop"]


def test_a_loop_that_cannot_be_reached_is_an_error_with_advice():
    with pytest.raises(SessionError, match=r"enter it with `async with rt\.Session"):
        LoopBinding().require_token()
