"""The events of a stream, read from a response that does not do as it should."""

from __future__ import annotations

import contextlib

import anyio
import pytest

from railtracks.llm._providers._sse import DRAIN_DEADLINE, Events


class Response:
    """One event, and an end that does not come."""

    request = None

    def __init__(self):
        self.closed = 0

    async def aiter_bytes(self):
        yield b"data: x\n\n"
        while not self.closed:
            await anyio.sleep(1000)
        raise RuntimeError("it is closed")

    async def aread(self) -> bytes:
        raise NotImplementedError

    async def aclose(self):
        await anyio.lowlevel.checkpoint()
        self.closed += 1


async def test_a_missing_end_of_a_stream_is_not_waited_for_long():
    async with contextlib.aclosing(Events(Response(), None)) as events:
        assert await anext(events) == "x"
        start = anyio.current_time()
        with anyio.fail_after(5):
            await events.finish()
        assert anyio.current_time() - start == pytest.approx(DRAIN_DEADLINE)


async def test_a_response_is_closed_although_its_reader_is_cancelled():
    response = Response()
    events = Events(response, None)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await events.aclose()
    assert response.closed == 1
