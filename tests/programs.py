"""Programs in processes of their own, for tests of Ctrl-C, and of what a process does at a fork and at its end.

They are forked from a process that has imported the library (``tests/program_server.py``), where there is a fork:
starting Python for each takes ten times as long.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Self

ROOT = str(Path(__file__).parent.parent)
TIMEOUT = 30
"""Real seconds after which a program counts as hanging; they end within one."""
FORK = "ignore:This process:DeprecationWarning"  # Python warns of a fork in a process with threads
PYTHON = [sys.executable, "-W", "error", "-W", FORK]
ENVIRONMENT = {"PYTHONPATH": ROOT, "PATH": "", "RAILTRACKS_LOGGING_SETTING": "NONE"}


@functools.cache
def server() -> socket.socket:
    """Return the connection to the process that forks the programs of this one."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with there:
        process = subprocess.Popen([*PYTHON, "-m", "tests.program_server"], stdin=there.fileno(), env=ENVIRONMENT)

    def end() -> None:
        here.close()
        process.wait()

    atexit.register(end)
    return here


class Program:
    """A program that runs in a process of its own, in the working directory. Use it as a context manager."""

    def __init__(self, source: str, *arguments: str) -> None:
        order = {"source": textwrap.dedent(source), "arguments": arguments, "folder": os.getcwd()}
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        socket.send_fds(server(), [json.dumps(order).encode()], [out_end, err_end])
        os.close(out_end)
        os.close(err_end)
        self._texts = {out: b"", err: b""}
        self._pipes = DefaultSelector()
        for pipe in self._texts:
            self._pipes.register(pipe, EVENT_READ)
        self.pid = int(server().recv(16))
        self.status: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_info: object) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self._wait()
        self._pipes.close()
        for pipe in self._texts:
            os.close(pipe)

    def _wait(self) -> None:
        server().send(b"wait")
        self.status = int(server().recv(16))

    def _read(self, timeout: float) -> None:
        ready = self._pipes.select(timeout)
        if not ready:
            raise TimeoutError(f"the program printed {self.printed()} and goes on")
        for key, _ in ready:
            if data := os.read(key.fd, 65536):
                self._texts[key.fd] += data
            else:
                self._pipes.unregister(key.fd)

    def printed(self) -> tuple[str, str]:
        """Return what it has printed until now, to stdout and to stderr."""
        out, err = self._texts.values()
        return out.decode(), err.decode()

    def wait_for(self, line: str, count: int = 1) -> None:
        """Block until it has printed a line a number of times."""
        while self.printed()[0].splitlines().count(line) < count:
            assert self._pipes.get_map(), f"it ended, and printed {self.printed()}"
            self._read(TIMEOUT)

    def interrupt(self, signum: int = signal.SIGINT) -> None:
        """Send it Ctrl-C, or another signal, when its main thread waits in the kernel, if that can be seen.

        asyncio sets no wakeup descriptor for SIGINT: one that comes just before the event loop goes to sleep is noted,
        and handled when something wakes the loop.
        """
        end = time.monotonic() + TIMEOUT
        while self._runs() and time.monotonic() < end:
            time.sleep(0.001)
        os.kill(self.pid, signum)

    def _runs(self) -> bool:
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:  # not on Linux
            return False
        return stat.rpartition(")")[2].split()[0] == "R"

    def end(self, timeout: float = TIMEOUT) -> tuple[int, str, str]:
        """Block until it has ended, and return its status, and what it has printed. Raises TimeoutError."""
        end = time.monotonic() + timeout
        while self._pipes.get_map():
            self._read(max(0, end - time.monotonic()))
        self._wait()
        assert self.status is not None
        return self.status, *self.printed()


def output_of(source: str, *arguments: str, status: int = 0) -> list[str]:
    """Run a program in the working directory, and return the lines that it printed. Fails if it warned, or hangs."""
    with Program(source, *arguments) as program:
        ended, out, err = program.end()
    assert (ended, err) == (status, ""), out + err
    return out.splitlines()


def output_of_a_new_interpreter(source: str, *arguments: str) -> list[str]:
    """Do the same in a new interpreter, which has imported nothing. For tests of what a process does at first use."""
    command = [*PYTHON, "-c", textwrap.dedent(source), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout.splitlines()
