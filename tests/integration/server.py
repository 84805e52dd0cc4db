"""A web server in a process of its own, and a client for it that can leave in the middle of a response."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import h11

import railtracks as rt

APP = "tests.integration.asgi_app:app"
GRACE = 60
COMMANDS = {
    "uvicorn-asyncio": ["uvicorn", "--loop", "asyncio", "--log-level", "warning", "--no-access-log",
                        "--timeout-graceful-shutdown", str(GRACE), "--fd"],
    "uvicorn-uvloop": ["uvicorn", "--loop", "uvloop", "--log-level", "warning", "--no-access-log",
                       "--timeout-graceful-shutdown", str(GRACE), "--fd"],
    "hypercorn-trio": ["hypercorn", "--worker-class", "trio", "--workers", "1", "--log-level", "warning",
                       "--graceful-timeout", str(GRACE), "--bind"],
}  # fmt: skip


class Server:
    """A server on a free port, which serves the application until it gets a SIGTERM."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder
        self.errors = folder / "errors"
        with socket.socket() as listener, self.errors.open("wb") as errors:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 0))
            listener.listen(1024)
            self.port: int = listener.getsockname()[1]
            number = str(listener.fileno())
            descriptor = f"fd://{number}" if kind.startswith("hypercorn") else number
            self._process = subprocess.Popen(
                [sys.executable, "-W", "default", "-m", *COMMANDS[kind], descriptor, APP],
                stdout=errors, stderr=errors, cwd=folder, pass_fds=[listener.fileno()], start_new_session=True,
                env={"PYTHONPATH": str(Path(rt.__file__).parents[1]), "PATH": os.environ["PATH"],
                     "ASGI_FOLDER": str(folder / "runs")},
            )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_info):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # hypercorn's worker is a process of its own
        self._process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Return the exit status. TimeoutExpired if the process does not end in time."""
        return self._process.wait(seconds)

    async def get(self, path: str, items: int | None = None, begun: anyio.Event | None = None) -> list[str]:
        """Request a path, and return the lines of the response; leave after as many ``items`` of them.

        ``begun`` is set when the first one has come.
        """
        connection = h11.Connection(h11.CLIENT)
        request = h11.Request(method="GET", target=path, headers=[("Host", "localhost"), ("Connection", "close")])
        body = b""
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            await stream.send(connection.send(request) + connection.send(h11.EndOfMessage()))
            while items is None or body.count(b"\n") < items:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    try:
                        connection.receive_data(await stream.receive())
                    except anyio.EndOfStream:
                        connection.receive_data(b"")
                elif isinstance(event, h11.Response):
                    assert event.status_code == 200
                elif isinstance(event, h11.Data):
                    body += event.data
                    if begun is not None:
                        begun.set()
                else:
                    assert isinstance(event, h11.EndOfMessage), event
                    break
            if items is not None:  # reset the connection, as a client does that is gone
                raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return body.decode().splitlines()

    async def left(self) -> dict[str, Any]:
        """Return what the application says is left."""
        [line] = await self.get("/left")
        return json.loads(line)


async def load(server: Server, first: int, count: int, expected: list[str], clients: int = 30) -> list[list[str]]:
    """Make ``count`` requests with that many clients at once; a third leave. Return responses that are not right.

    The work for those who leave takes longer, so that the server notices in time, however busy it is.
    """
    numbers = iter(range(first, first + count))
    wrong: list[list[str]] = []

    async def client():
        for number in numbers:
            dice = random.Random(number)
            if dice.random() < 1 / 3:
                await server.get(f"/run?n={number}&pause=0.2", items=dice.randrange(len(expected) - 3))
            else:
                lines = await server.get(f"/run?n={number}")
                if sorted(lines) != sorted(expected):
                    wrong.append(lines)

    async with anyio.create_task_group() as group:
        for _ in range(clients):
            group.start_soon(client)
    return wrong
