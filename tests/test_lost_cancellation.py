"""asyncio's ``task.cancel()``, caught below a node by code that goes on: the next call raises it again.

On asyncio alone: trio has no such cancellation, and delivers its own again at each wait.
"""

from __future__ import annotations

import asyncio
import contextlib

import anyio
import pytest

import railtracks as rt
from railtracks.state import Reason, Status
from tests import virtual


class LibraryError(Exception):
    pass


async def wait_as_libraries_do():
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


async def wait_and_raise():
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise LibraryError from None


@rt.function_node
async def swallow():
    await wait_as_libraries_do()
    return "swallowed"


@rt.function_node
async def leaf():
    return "leaf"


def run_cancelled(main, *args):
    """Run ``main`` in a task that is cancelled once, as soon as it waits. Return the session and what came out."""

    async def everything():
        session = rt.Session(save_state=False)

        async def body():
            async with session:
                return await main(*args)

        task = asyncio.create_task(body())
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        try:
            return session, await task
        except BaseException as exc:
            return session, exc

    return virtual.run("asyncio", everything)


def names_and_ends(session):
    return [(record.name, record.status, record.reason) for record in session.info.records]


def test_the_next_call_raises_it():
    @rt.function_node
    async def flow():
        await rt.call(swallow)
        return await rt.call(leaf)

    session, outcome = run_cancelled(rt.call, flow)
    assert type(outcome) is asyncio.CancelledError
    assert names_and_ends(session) == [
        ("flow", Status.CANCELLED, Reason.OUTSIDE),
        ("swallow", Status.COMPLETED, None),
    ]


def test_each_next_call_raises_it():
    refused = []

    @rt.function_node
    async def flow():
        await rt.call(swallow)
        for _ in range(3):
            try:
                await rt.call(leaf)
            except asyncio.CancelledError as exc:
                refused.append(exc)
        await rt.call(leaf)

    session, outcome = run_cancelled(rt.call, flow)
    assert type(outcome) is asyncio.CancelledError
    assert len(refused) == 3
    assert [record.name for record in session.info.records] == ["flow", "swallow"]


async def batch():
    return await rt.call_batch(rt.function_node(lambda item: item), [1, 2])


async def in_thread():
    return await rt.call(rt.function_node(lambda: "in a thread", name="thread"))


async def flow_of_its_own():
    return await rt.Flow("inner", leaf, save_state=False).ainvoke()


async def in_another_task():
    return await asyncio.create_task(rt.call(leaf))


@pytest.mark.parametrize("next_call", [batch, in_thread, flow_of_its_own])
def test_a_call_of_any_kind_raises_it(next_call):
    @rt.function_node
    async def flow():
        await rt.call(swallow)
        await next_call()

    session, outcome = run_cancelled(rt.call, flow)
    assert type(outcome) is asyncio.CancelledError
    assert {record.name for record in session.info.records} == {"flow", "swallow"}


def test_the_next_top_level_call_of_the_body_raises_it():
    async def body():
        assert await rt.call(swallow) == "swallowed"
        await rt.call(leaf)

    session, outcome = run_cancelled(body)
    assert type(outcome) is asyncio.CancelledError
    assert [record.name for record in session.info.records] == ["swallow"]


def test_an_error_that_a_library_makes_of_it_does_not_lose_it():
    @rt.function_node
    async def flow():
        for _ in range(2):
            try:
                await wait_and_raise()
            except LibraryError:
                continue
            finally:
                await rt.call(leaf)

    session, outcome = run_cancelled(rt.call, flow)
    assert type(outcome) is asyncio.CancelledError
    assert [record.status for record in session.info.records] == [Status.CANCELLED]


def test_a_task_of_users_below_a_node_raises_it():
    @rt.function_node
    async def flow():
        async def worker():
            await wait_as_libraries_do()
            await rt.call(leaf)

        task = asyncio.create_task(worker())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await in_another_task()

    async def everything():
        async with rt.Session(save_state=False):
            return await rt.call(flow)

    assert virtual.run("asyncio", everything) == "leaf"


def test_calls_of_a_batch_raise_it():
    @rt.function_node
    async def item(number):
        await wait_as_libraries_do()
        await rt.call(leaf)

    @rt.function_node
    async def flow():
        await rt.call_batch(item, range(3))

    session, outcome = run_cancelled(rt.call, flow)
    assert type(outcome) is asyncio.CancelledError
    assert "leaf" not in {record.name for record in session.info.records}


# ---- what goes on


def test_cleanup_that_handles_it_may_call():
    @rt.function_node
    async def flow():
        try:
            await asyncio.Event().wait()
        finally:
            assert await rt.call(leaf) == "leaf"
            try:
                raise LibraryError
            except LibraryError:
                assert await rt.call(leaf) == "leaf"

    session, outcome = run_cancelled(rt.call, flow)
    assert type(outcome) is asyncio.CancelledError
    assert [record.status for record in session.info.records] == [Status.CANCELLED, Status.COMPLETED, Status.COMPLETED]


def test_shielded_code_may_call():
    @rt.function_node
    async def flow():
        await wait_as_libraries_do()
        with anyio.CancelScope(shield=True):
            assert await rt.call(leaf) == "leaf"
        await rt.call(leaf)

    session, outcome = run_cancelled(rt.call, flow)
    assert type(outcome) is asyncio.CancelledError
    assert [record.name for record in session.info.records] == ["flow", "leaf"]


def test_code_that_takes_it_back_goes_on():
    @rt.function_node
    async def flow():
        await rt.call(swallow)
        asyncio.current_task().uncancel()
        return await rt.call(leaf)

    assert run_cancelled(rt.call, flow)[1] == "leaf"


def test_a_session_after_it_goes_on():
    async def everything():
        async def main():
            await wait_as_libraries_do()

            @rt.function_node
            async def flow():
                return await rt.call(leaf)

            async with rt.Session(save_state=False):
                return await rt.call(flow)

        task = asyncio.create_task(main())
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert virtual.run("asyncio", everything) == "leaf"


@pytest.mark.parametrize("block", [asyncio.timeout, anyio.move_on_after])
def test_it_ends_the_block_that_sent_it_and_no_more(block):
    reached = []

    @rt.function_node
    async def flow():
        try:
            async with AnyBlock(block(1)):
                await rt.call(swallow)
                await rt.call(leaf)
                reached.append("the end of the block")
        except TimeoutError:
            pass
        return await rt.call(leaf)

    async def everything():
        async with rt.Session(save_state=False):
            return await rt.call(flow)

    assert virtual.run("asyncio", everything) == "leaf"
    assert not reached


class AnyBlock:
    """An async form of a context manager of either kind."""

    def __init__(self, inner):
        self.inner = inner

    async def __aenter__(self):
        return await self.inner.__aenter__() if hasattr(self.inner, "__aenter__") else self.inner.__enter__()

    async def __aexit__(self, *exc):
        return await self.inner.__aexit__(*exc) if hasattr(self.inner, "__aexit__") else self.inner.__exit__(*exc)
