"""The clients that the sessions of an event loop share, outside of virtual time."""

from __future__ import annotations

import logging

import anyio
import pytest

import railtracks as rt
from railtracks.llm import UserMessage
from railtracks.llm._providers import _clients
from railtracks.llm._providers._clients import IDLE, Clients
from tests.llm.server import Server
from tests.llm.test_adapters import anthropic, openai


class Client:
    def __init__(self):
        self.home = anyio.lowlevel.current_token()
        self.closed = 0

    async def close(self):
        await anyio.lowlevel.checkpoint()
        assert self.home == anyio.lowlevel.current_token()
        self.closed += 1


class Broken(Client):
    async def close(self):
        await super().close()
        raise OSError("no more")


def clients(kind=Client):
    """And all that were made."""
    made = []

    def make():
        made.append(kind())
        return made[-1]

    return Clients(make, in_thread=lambda: False), made  # they belong to the event loop that they are made on


async def used(*pools):
    for pool in pools:
        async with rt.Session(save_state=False, logging_setting="NONE"), pool.use() as client:
            assert client.closed == 0


def test_sessions_share_a_client_until_the_event_loop_ends(backend):
    pool, made = clients()

    async def main():
        await used(pool, pool)
        async with pool.use() as client:  # outside of sessions
            assert client is made[-1]
        assert made[-1].closed == 0

    anyio.run(main, backend=backend)
    assert [each.closed for each in made] == [1]
    anyio.run(main, backend=backend)
    assert [each.closed for each in made] == [1, 1]


def test_each_model_has_its_own(backend):
    one, other = clients(), clients()
    anyio.run(used, one[0], other[0], one[0], backend=backend)
    assert [len(made) for _, made in (one, other)] == [1, 1]


def test_an_error_ends_the_event_loop_all_the_same(backend):
    pool, made = clients()

    async def main():
        async with pool.use():
            raise KeyError

    with pytest.raises(KeyError):
        anyio.run(main, backend=backend)
    assert [each.closed for each in made] == [1]


def test_one_that_cannot_be_closed_is_logged(backend, caplog):
    (one, first), (other, second) = clients(Broken), clients()
    with caplog.at_level(logging.WARNING, "RT"):
        anyio.run(used, one, other, backend=backend)
    assert [each.closed for each in (*first, *second)] == [1, 1]
    assert "was not closed: OSError('no more')" in caplog.text


async def test_what_nobody_uses_is_closed_after_a_while(virtual_clock):
    kept = _clients._KeptClients()
    made = [Client(), Client()]

    async def take(key, make=Client):
        return await kept.take(key, make, Client.close, in_thread=False)

    one, other = await take(0, lambda: made[0]), await take(1, lambda: made[1])
    assert await take(0) is one
    kept.give_back(1)
    await anyio.sleep(IDLE - 1)
    assert [one.closed, other.closed] == [0, 0]
    kept.give_back(0)
    await anyio.sleep(2)
    assert [one.closed, other.closed] == [0, 1]  # one has another user
    await anyio.sleep(10 * IDLE)
    assert one.closed == 0
    kept.give_back(0)
    await anyio.sleep(IDLE - 1)
    assert await take(0) is one
    kept.give_back(0)
    await anyio.sleep(IDLE - 1)
    assert one.closed == 0
    await anyio.sleep(2)
    assert one.closed == 1
    assert kept.is_over


@pytest.mark.parametrize("make", [openai, anthropic])
def test_sessions_share_a_connection(backend, make):
    async def main():
        model = make(server.url)
        for _ in range(5):
            async with rt.Session(save_state=False, logging_setting="NONE"):
                await model.complete([UserMessage("Hi!")])

    with Server() as server:
        anyio.run(main, backend=backend)
        server.wait_all_closed()
        assert (len(server.requests), server.connections) == (5, 1)
