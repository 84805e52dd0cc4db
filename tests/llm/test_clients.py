"""The clients of a session: one for each event loop, closed where it was made."""

from __future__ import annotations

import threading

import anyio
import pytest

import railtracks as rt
from railtracks.llm._providers._clients import Clients


class Client:
    """Notes where it was made, and that it was closed in the same place."""

    def __init__(self):
        self.home = threading.get_ident(), anyio.lowlevel.current_token()
        self.closed = 0

    async def close(self):
        await anyio.lowlevel.checkpoint()
        assert self.home == (threading.get_ident(), anyio.lowlevel.current_token())
        self.closed += 1


def clients():
    """And all that were made."""
    made = []

    def make():
        made.append(Client())
        return made[-1]

    return Clients(make, in_thread=lambda: False), made


@pytest.mark.parametrize("inner", ["asyncio", "trio"])
async def test_a_thread_with_an_event_loop_has_a_client_of_its_own(inner):
    pool, made = clients()

    async def main():
        async with pool.use() as client:
            assert client is made[1]
            assert client.closed == 0
        assert client.closed == 1

    def node():
        anyio.run(main, backend=inner)

    async with rt.Session(save_state=False):
        async with pool.use() as client:
            assert client is made[0]
        await rt.call(node)
        async with pool.use() as client:
            assert client is made[0]
        assert [each.closed for each in made] == [0, 1]
    assert [each.closed for each in made] == [1, 1]


@pytest.mark.parametrize("options", [{"save_state": False}, {}])
async def test_a_task_that_outlives_its_session_has_its_own_client(options):
    pool, made = clients()
    over = anyio.Event()

    async def late():
        await over.wait()
        async with pool.use() as client:
            assert client is made[1]
            assert client.closed == 0

    async with anyio.create_task_group() as group:
        async with rt.Session(**options):
            group.start_soon(late)
            async with pool.use() as client:
                assert client is made[0]
        assert [each.closed for each in made] == [1]
        over.set()
    assert [each.closed for each in made] == [1, 1]


async def test_an_unsaved_session_closes_its_client_on_an_error():
    pool, made = clients()

    async def node():
        async with pool.use():
            raise KeyError

    with pytest.raises(KeyError):
        async with rt.Session(save_state=False):
            await rt.call(node)
    assert [each.closed for each in made] == [1]


def test_a_plain_session_that_saves_nothing_closes_its_client(backend):
    pool, made = clients()

    async def node():
        async with pool.use():
            pass

    with rt.Session(save_state=False, backend=backend):
        rt.call_sync(node)
        rt.call_sync(node)
        assert [each.closed for each in made] == [0]
    assert [each.closed for each in made] == [1]
