"""Forks a process for each program of a test: ``python -m tests.program_server``.

It has imported the library and both backends, and has no event loop and no thread. So a program runs as in a new
interpreter, in a tenth of the time. It ends as any program does: the interpreter joins threads, runs what was
registered for its end, and prints what was raised.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import types
from typing import Any

import anyio._backends._asyncio
import anyio._backends._trio
import anyio.from_thread
import anyio.to_thread  # noqa: F401

import railtracks as rt


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Fork a process for each order. Return the order in the forked one, and None at the end."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1 << 20, 2)
        if not message:
            connection.close()
            return None
        if not (pid := os.fork()):
            connection.close()
            for number, descriptor in enumerate(descriptors, 1):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return json.loads(message)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(str(pid).encode())
        connection.recv(16)  # until then the process keeps its identifier, dead or alive
        connection.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what a shell runs in the background
    _ = rt.Session  # which loads what a session needs
    gc.freeze()
    order = serve(socket.socket(fileno=0))
    if order is not None:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(order["folder"])
        sys.argv = ["-c", *order["arguments"]]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(order["source"], "<program>", "exec"), module.__dict__)


if __name__ == "__main__":
    main()
