"""Mistakes that were made in pools of connections of public projects, rewritten small."""

from __future__ import annotations

import asyncio
import math

import anyio

import railtracks as rt
from tests.harness.planted._planted import Case, Planted, defect

PLANTED: list[Planted] = []


@defect(
    PLANTED, "a request that is cancelled while it connects leaves a connection that is neither open nor closed",
    "faults", "sweep",
    source=("httpcore 1.0.9", "https://github.com/encode/httpcore/issues/1093"),
)  # fmt: skip
def connection_never_established(broken):
    pool = []

    @rt.function_node
    async def connect(page):
        await anyio.sleep(0.1)

    async def request(page):
        connection = {"state": "connecting"}
        pool.append(connection)
        try:
            await rt.call(connect, page)
            connection["state"] = "idle"
        except BaseException as error:
            if not broken or isinstance(error, Exception):
                pool.remove(connection)
            raise

    @rt.function_node
    async def fetch(pages):
        for page in range(pages):
            with anyio.move_on_after(3):
                await request(page)

    def each_connection_can_be_used_or_removed(outcome):
        assert all(connection["state"] == "idle" for connection in pool), f"{pool}"

    return Case(fetch, (each_connection_can_be_used_or_removed,), args=(2,), nodes=(connect,))


@defect(
    PLANTED, "a connection is reset before it is returned to the pool, and the reset is cancelled with the request",
    "faults", "sweep",
    source=("SQLAlchemy with asyncpg", "https://github.com/sqlalchemy/sqlalchemy/issues/8145"),
)  # fmt: skip
def connection_not_returned(broken):
    idle = ["connection"]

    @rt.function_node
    async def query(text):
        await anyio.sleep(0.1)

    async def reset(connection):
        await anyio.sleep(0.1)

    @rt.function_node
    async def handle(text):
        connection = idle.pop()
        try:
            await rt.call(query, text)
        finally:
            with anyio.CancelScope(shield=not broken):
                await reset(connection)
            idle.append(connection)

    def the_connection_is_returned(outcome):
        assert idle, "the connection is not in the pool"

    return Case(handle, (the_connection_is_returned,), args=("text",), nodes=(query,))


@defect(
    PLANTED, "the server has opened a connection when the timeout of `acquire` ends the handshake",
    "faults", "sweep",
    source=("asyncpg 0.18.2", "https://github.com/MagicStack/asyncpg/issues/467"),
)  # fmt: skip
def connection_left_at_the_server(broken):
    at_server, in_pool = [], []

    @rt.function_node
    async def handshake(number):
        await anyio.sleep(0.1)

    async def connect(number):
        at_server.append(number)
        try:
            await rt.call(handshake, number)
        except BaseException:
            if not broken:
                at_server.remove(number)
            raise
        in_pool.append(number)

    @rt.function_node
    async def acquire(count):
        for number in range(count):
            try:
                with anyio.fail_after(2):
                    await connect(number)
            except (TimeoutError, ConnectionError):
                continue

    def the_pool_knows_each_connection(outcome):
        assert at_server == in_pool, f"{at_server} at the server, {in_pool} in the pool"

    return Case(acquire, (the_pool_knows_each_connection,), args=(2,), nodes=(handshake,))


@defect(
    PLANTED, "the slot that a waiting request was just given is lost if it is cancelled at that moment",
    "seeds", "schedules",
    backends=("asyncio",), options={"timeout": math.inf},
    source=("aiohttp 3.10.10", "https://github.com/aio-libs/aiohttp/issues/9670"),
)  # fmt: skip
def slot_given_to_a_cancelled_request(broken):
    waiting = []
    free = [1]

    def release():
        while waiting:
            waiter = waiting.pop(0)
            if not waiter.done():
                waiter.set_result(None)
                return
        free.append(1)

    async def acquire():
        if free:
            free.pop()
            return
        waiter = asyncio.get_running_loop().create_future()
        waiting.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not broken and not waiter.cancelled():
                release()
            raise

    @rt.function_node
    async def request():
        await acquire()
        try:
            await anyio.sleep(1)
        finally:
            release()

    return Case(cancel_the_second_of_three(request))


def cancel_the_second_of_three(node):
    """Return a flow that makes three calls, and cancels the second when the first ends."""

    @rt.function_node
    async def main():
        calls = [asyncio.create_task(rt.call(node)) for _ in range(2)]
        await asyncio.sleep(1)
        calls[1].cancel()
        calls.append(asyncio.create_task(rt.call(node)))
        await asyncio.wait(calls)

    return main


@defect(
    PLANTED, "a request that was woken up does not check again whether a connection is free",
    "seeds", "schedules",
    source=("aiohttp 3.7", "https://github.com/aio-libs/aiohttp/issues/4936"),
)  # fmt: skip
def limit_exceeded_by_a_newcomer(broken):
    waiting = []
    in_use = []

    async def acquire(request):
        while in_use:
            event = anyio.Event()
            waiting.append(event)
            await event.wait()
            if broken:
                break
        in_use.append(request)

    @rt.function_node
    async def send(request):
        await anyio.sleep(request * 0.05)
        await acquire(request)
        most.append(len(in_use))
        await anyio.sleep(0.1)
        in_use.remove(request)
        if waiting:
            waiting.pop(0).set()

    most = [0]

    @rt.function_node
    async def main(requests):
        await rt.call_batch(send, range(requests))

    def one_connection_is_in_use(outcome):
        assert max(most) <= 1, f"{max(most)} connections in use"

    return Case(main, (one_connection_is_in_use,), args=(3,))


@defect(
    PLANTED, "a command that is cancelled leaves its answer in the connection, for the next command",
    "faults", "sweep",
    source=("redis-py 4.5.1", "https://github.com/redis/redis-py/issues/2624"),
)  # fmt: skip
def answer_of_another_command(broken):
    answered = []

    @rt.function_node
    async def transmit(command):
        await anyio.sleep(0.1)

    @rt.function_node
    async def run_all(commands):
        unread = []
        for command in range(commands):
            unread.append(command)
            try:
                with anyio.fail_after(2):
                    await rt.call(transmit, command)
            except (TimeoutError, ConnectionError):
                if not broken:
                    unread.clear()  # the connection is closed, and opened anew
                continue
            answered.append((command, unread.pop(0)))

    def each_command_has_its_own_answer(outcome):
        assert all(command == answer for command, answer in answered), f"{answered}"

    return Case(run_all, (each_command_has_its_own_answer,), args=(2,), nodes=(transmit,))
