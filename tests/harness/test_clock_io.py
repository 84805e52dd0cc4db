"""Sockets and processes: the clock waits for what comes from outside of the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys

import anyio
import pytest
import trio

from railtracks.testing import VirtualClock, run
from tests.harness.clocks import BRIEFLY, in_thread, work

# ---- sockets


@contextlib.contextmanager
def served(answer, delay=BRIEFLY):
    """Run a TCP server in a real thread, which answers one request after a while, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                work(delay)
                connection.sendall(answer)

        with in_thread(serve):
            yield listener.getsockname()[1]


async def ask(port):
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"?")
        return await stream.receive()


def test_data_from_a_real_thread_comes_before_a_virtual_timeout(backend):
    async def main(port):
        with anyio.fail_after(5):
            answer = await ask(port)
        return answer, anyio.current_time()

    with served(b"hello") as port:
        assert run(main, port, backend=backend) == (b"hello", 0)


def test_it_does_not_when_sockets_do_not_hold_the_clock(backend):
    async def main(port):
        with anyio.fail_after(5):
            await ask(port)

    with served(b"hello", delay=0.2) as port, pytest.raises(TimeoutError):
        run(main, port, backend=backend, clock=VirtualClock(hold_for_sockets=False))


def test_a_reader_of_raw_asyncio_streams_gets_its_data_too():
    async def main(port):
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"?")
            answer = await reader.read(100)
            writer.close()
            await writer.wait_closed()
        return answer, asyncio.get_running_loop().time()

    with served(b"hello") as port:
        assert run(main, port) == (b"hello", 0)


async def serve_one(listener, handle, *, task_status=anyio.TASK_STATUS_IGNORED):
    async with listener:
        task_status.started(listener.extra(anyio.abc.SocketAttribute.local_port))
        await listener.serve(handle)


async def local_listener():
    return (await anyio.create_tcp_listener(local_host="127.0.0.1")).listeners[0]


def test_a_server_and_client_in_one_loop_do_not_hold_the_clock(backend):
    async def handle(stream):
        async with stream:
            await stream.receive()
            await anyio.sleep(60)
            await stream.send(b"late")

    async def main():
        async with anyio.create_task_group() as group:
            port = await group.start(serve_one, await local_listener(), handle)
            answer = await ask(port)
            group.cancel_scope.cancel()
        return answer, anyio.current_time()

    assert run(main, backend=backend, clock=VirtualClock(patience=0.3)) == (b"late", 60)


def test_nor_does_a_server_that_waits_for_a_client_which_sleeps(backend):
    async def handle(stream):
        async with stream:
            await stream.send(await stream.receive())

    async def main():
        async with anyio.create_task_group() as group:
            port = await group.start(serve_one, await local_listener(), handle)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await anyio.sleep(60)
                await stream.send(b"late")
                answer = await stream.receive()
            group.cancel_scope.cancel()
        return answer, anyio.current_time()

    assert run(main, backend=backend, clock=VirtualClock(patience=0.3)) == (b"late", 60)


def test_nor_does_a_pair_of_sockets_in_one_event_loop(backend):
    async def main():
        here, there = socket.socketpair()
        async with (
            await anyio.abc.UNIXSocketStream.from_socket(here) as one,
            await anyio.abc.UNIXSocketStream.from_socket(there) as other,
            anyio.create_task_group() as group,
        ):

            async def late():
                await anyio.sleep(60)
                await other.send(b"late")

            group.start_soon(late)
            return await one.receive(), anyio.current_time()

    assert run(main, backend=backend, clock=VirtualClock(patience=0.3)) == (b"late", 60)


def test_a_listener_without_a_client_does_not_hold_the_clock(backend):
    async def main():
        async with await local_listener() as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, anyio.sleep)
            await anyio.sleep(60)
            group.cancel_scope.cancel()
        return anyio.current_time()

    assert run(main, backend=backend, clock=VirtualClock(patience=0.3)) == 60


# ---- processes


SLOW_PROGRAM = [sys.executable, "-S", "-c", "import time; time.sleep(0.05); print('hello')"]


def test_the_output_of_a_process_comes_before_a_virtual_timeout(backend):
    async def main():
        with anyio.fail_after(5):
            process = await anyio.run_process(SLOW_PROGRAM)
        return process.stdout.strip(), anyio.current_time()

    assert run(main, backend=backend) == (b"hello", 0)


def test_a_process_without_pipes_ends_before_a_virtual_timeout(backend):
    async def main():
        with anyio.fail_after(5):
            await anyio.run_process(SLOW_PROGRAM, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return anyio.current_time()

    assert run(main, backend=backend) == 0


def test_a_process_of_asyncio():
    async def main():
        async with asyncio.timeout(5):
            process = await asyncio.create_subprocess_exec(*SLOW_PROGRAM, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate()
        return out.strip(), asyncio.get_running_loop().time()

    assert run(main) == (b"hello", 0)


def test_a_process_of_trio():
    async def main():
        with trio.fail_after(5):
            process = await trio.run_process(SLOW_PROGRAM, capture_stdout=True)
        return process.stdout.strip(), trio.current_time()

    assert run(main, backend="trio") == (b"hello", 0)
