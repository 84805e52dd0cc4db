"""Work in processes that belong to the session.

Why not ``anyio.to_process``? Its workers run the main program again, which a program without the line
``if __name__ == "__main__"`` does not survive, nor one that ``python -m`` starts and that imports relatively. A node
that starts a program, or prints from C, writes into the pipe of the answers. The workers live until the event loop
ends, on asyncio with a thread each. A start that is cancelled leaves one behind. And it does not say why a worker was
lost. Here the main program is not needed, because cloudpickle sends what it defines.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from functools import partial
from typing import IO, Any

import anyio
from anyio.abc import ByteStream, UNIXSocketStream

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._cancellation import shielded
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._threads import run_in_thread
from railtracks.exceptions import ConfigError, WorkerLostError
from railtracks.executors._process_main import HEAD, READY
from railtracks.executors._runner import AroundWait, Capabilities, hold_clock

PROCESS = "process"
GRACE = 2.0
"""Seconds that an idle worker has to end by itself when its session has ended."""
CHUNK = 2**18
"""Bytes of an answer that are asked for at once."""
MAX_LAST_WORDS = 2_000
"""Bytes that an error shows of what a lost worker wrote to its standard error."""
_BOOT = "import sys; sys.path[:] = eval(sys.argv.pop()); from railtracks.executors._process_main import main; main()"


class ProcessRunner:
    """Runs work in processes of its own; made by :func:`process_runner`. For use in one event loop."""

    name = PROCESS
    capabilities = Capabilities(kind="process", kills_running=True, survives_crash=True)

    def __init__(self, max_workers: int) -> None:
        self._places = anyio.Semaphore(max_workers, fast_acquire=True)
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._is_closed = False

    async def run(
        self,
        work: bytes,
        *,
        node: str = "the node",
        on_abandon: Callable[[], Awaitable[bool]] | None = None,
        around_wait: AroundWait = nullcontext,
    ) -> bytes:
        """Run work in a process; see :class:`Runner`. It is killed on cancellation, so nothing is ever abandoned."""
        await self._acquire_place(around_wait)
        try:
            worker = await self._get(node)
            try:
                with hold_clock():
                    if not worker.has_begun:
                        with around_wait():
                            await worker.begin()
                    answer = await worker.exchange(work)
            except GeneratorExit:  # the coroutine is closed, and can wait for nothing
                self._workers.discard(worker)
                worker.send_kill()
                raise
            except BaseException as exc:
                self._workers.discard(worker)
                await shielded(worker.kill)
                if not is_kind(exc, _LOST):
                    raise
                raise worker.lost(node) from exc
            self._idle.append(worker)
            return answer
        finally:
            self._places.release()

    async def _acquire_place(self, around_wait: AroundWait) -> None:
        try:
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            with around_wait():
                await self._places.acquire()

    async def close(self) -> None:
        """End all processes; see :class:`Runner`."""
        self._is_closed = True
        idle, self._idle = self._idle, []
        workers, self._workers = self._workers, set()

        async def end() -> None:
            async with anyio.create_task_group() as group:
                for worker in workers:
                    group.start_soon(worker.close if worker in idle else worker.kill)

        if workers:
            await shielded(end)

    async def _get(self, node: str) -> _Worker:
        if self._is_closed:
            raise WorkerLostError("the worker processes of the session have ended with it", PROCESS)
        while True:
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    return worker
                self._workers.discard(worker)
                await shielded(worker.kill)
            try:
                await shielded(self._start)
            except OSError as exc:  # too many processes, or open files
                raise WorkerLostError(
                    f"{node} did not run: no worker process could be started: {exc}", PROCESS
                ) from exc

    async def _start(self) -> None:
        """Start a process. It is idle then: the caller may have been cancelled, or another call may be quicker."""
        worker = await _start_worker()
        self._workers.add(worker)
        self._idle.append(worker)


_LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
"""What is raised by a socket whose other end is gone."""


class _Worker:
    """A process that runs one piece of work at a time.

    Attributes:
        process: The process.
        connection: This end of the socket to it.
        has_begun: Whether it has loaded the library, and takes work.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], connection: socket.socket, stream: ByteStream, errors: IO[bytes]
    ) -> None:
        self.process = process
        self.connection = connection
        self._stream = stream
        self._errors = errors
        self._last_words = ""
        self.has_begun = False
        _workers.add(self)

    async def begin(self) -> None:
        """Wait until the process takes work. After any exception, a cancellation too, it must be killed."""
        await self._stream.receive(len(READY))
        self.has_begun = True

    async def exchange(self, work: bytes) -> bytes:
        """Send work, and return the answer. After any exception, a cancellation too, it must be killed."""
        await self._stream.send(len(work).to_bytes(HEAD, "big") + work)
        answer = bytearray()
        end = HEAD
        while len(answer) < end:  # most answers come in one piece
            answer += await self._stream.receive(CHUNK)
            if end == HEAD and len(answer) >= HEAD:
                end += int.from_bytes(answer[:HEAD], "big")
        return bytes(memoryview(answer)[HEAD:])

    async def close(self) -> None:
        """Have it end, and wait until it has. It must be idle."""
        with hold_clock(), anyio.move_on_after(GRACE), suppress(*_LOST):
            await self._stream.send((0).to_bytes(HEAD, "big"))
            await self._stream.receive(1)  # until it has closed its end
        await self.kill()

    async def kill(self) -> None:
        """Kill it and what it has started, and wait until it has ended."""
        self.send_kill()
        await self._stream.aclose()
        await run_in_thread(self.process.wait, name="wait for a process")
        if not self._errors.closed:  # two may kill it at once
            with self._errors as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - MAX_LAST_WORDS))
                self._last_words = file.read().decode(errors="replace").strip()

    def send_kill(self) -> None:
        """Kill it and what it has started."""
        with suppress(ProcessLookupError, PermissionError):  # it has ended; macOS has the second one for a zombie
            os.killpg(self.process.pid, signal.SIGKILL)

    def lost(self, node: str) -> WorkerLostError:
        """Return the error for work that it was killed or ended in. To be called after :meth:`kill`."""
        error = WorkerLostError(f"{node}: its worker process {self.process.pid} {self._how_it_ended()}", PROCESS)
        if self._last_words:
            error.add_note(f"its last words on standard error:\n{self._last_words}")
        return error

    def _how_it_ended(self) -> str:
        code = self.process.returncode
        if code is None or code >= 0:
            return f"ended with exit code {code} while it worked"
        with suppress(ValueError):
            code_name = signal.Signals(-code).name
            hint = "; the system may be out of memory" if -code == getattr(signal, "SIGKILL", None) else ""
            return f"was killed by {code_name} while it worked{hint}"
        return f"was killed by signal {-code} while it worked"


_workers: weakref.WeakSet[_Worker] = weakref.WeakSet()


@after_fork
def _close_connections() -> None:
    for worker in _workers:  # or it would not notice the end of the parent while the child lives
        worker.connection.close()


async def _start_worker() -> _Worker:
    ours, theirs = socket.socketpair()
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
    try:
        process = await run_in_thread(partial(_start_process, theirs, errors), name="start a process")
    except BaseException:
        ours.close()
        errors.close()
        raise
    finally:
        theirs.close()
    return _Worker(process, ours, await UNIXSocketStream.from_socket(ours), errors)


def _start_process(connection: socket.socket, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # as multiprocessing does
    path = repr([entry for entry in sys.path if isinstance(entry, str)])
    return subprocess.Popen(  # noqa: S603 (our own interpreter)
        [sys.executable, *flags, "-c", _BOOT, path],
        stdin=connection.fileno(),
        stdout=connection.fileno(),
        stderr=errors,
        start_new_session=True,  # Ctrl-C in the terminal is for the session; and what a worker starts is killed with it
    )


def process_runner(max_workers: int | None = None) -> ProcessRunner:
    """Return what runs work in processes of its own, which start when they are needed. Call it in the event loop.

    Args:
        max_workers: How many there are at most, and so how many pieces of work run at once; by default as many as there
            are processors that this process may use.

    Raises:
        ConfigError: the system cannot do it; Windows cannot.
    """
    if not hasattr(os, "killpg") or not sys.executable:
        raise ConfigError(
            "where='process' needs a POSIX system, and the Python interpreter as a program; use an executor, such as "
            "executors={'pool': lambda: ProcessPoolExecutor(2)} and where='pool'"
        )
    return ProcessRunner(max_workers or _processors())


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    count: Any = os.cpu_count()
    return count or 1
