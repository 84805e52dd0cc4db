"""Runs that are resumed from a page: each in a process of its own, as the code of users has no place in the server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import anyio
import attrs
from anyio.abc import ByteReceiveStream, Process, TaskGroup
from anyio.streams.text import TextReceiveStream

from railtracks.exceptions import StateError
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._views._texts import printable

MAX_LINES = 20
_MAX_LINE = 500
_MAX_READ = 100_000
"""The number of characters of a line that are read. What follows is left out."""
_REST = 1.0
"""The seconds after its end in which the rest of what a process has printed is read."""
GRACE = 10.0
"""The seconds that a process has for its cleanup when the server ends."""


@attrs.frozen
class Attempt:
    """A process that resumes a run, or has resumed it."""

    code: int | None = None
    """Its exit code; None while it runs."""
    lines: tuple[str, ...] = ()
    """The last lines that it printed, once it has ended."""
    ended: float | None = None
    """When it ended, in seconds since the epoch; None while it runs."""


class Processes:
    """The processes that resume runs.

    Args:
        arguments: What follows ``railtracks resume RUN``, such as the store.
        on_change: Is called with the identifier of a run when its process has ended.
    """

    def __init__(self, arguments: tuple[str, ...], on_change: Callable[[str], None]) -> None:
        self._arguments = arguments
        self._on_change = on_change
        self._attempts: dict[str, Attempt] = {}

    def latest(self, identifier: str) -> Attempt | None:
        """Return the latest process of a run; None if there was none."""
        return self._attempts.get(identifier)

    def check_free(self, identifier: str) -> None:
        """Raise StateError if a process of this server is resuming a run."""
        latest = self._attempts.get(identifier)
        if latest is not None and latest.ended is None:
            raise StateError(f"the run {identifier!r} is being resumed already")

    def command(self, identifier: str) -> list[str]:
        """Return the command that resumes a run."""
        return [sys.executable, "-m", "railtracks", "resume", identifier, *self._arguments]

    async def start(self, identifier: str, tasks: TaskGroup) -> None:
        """Start to resume a run, and return as soon as its process has started.

        Args:
            identifier: The run.
            tasks: The task group that waits for the process. When it is cancelled, the process is terminated.

        Raises:
            StateError: Another process of this server is at it.
            OSError: The process cannot be started.
        """
        self.check_free(identifier)
        self._attempts[identifier] = Attempt()
        try:
            await tasks.start(self._run, identifier)
        except BaseException:
            self._attempts.pop(identifier)
            raise

    async def _run(self, identifier: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        process = await anyio.open_process(
            self.command(identifier),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is for the server, which terminates it
        )
        lines: deque[str] = deque(maxlen=MAX_LINES)
        try:
            task_status.started()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_collect, process.stdout, lines)
                await process.wait()
                tasks.cancel_scope.deadline = anyio.current_time() + _REST  # what it has started may keep it open
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)
            self._attempts[identifier] = Attempt(process.returncode, tuple(lines), time.time())
            self._on_change(identifier)


async def _collect(stream: ByteReceiveStream | None, lines: deque[str]) -> None:
    """Keep the last lines of what a process prints, without secrets."""
    assert stream is not None
    redactor = Redactor()
    rest = ""
    async for text in TextReceiveStream(stream, errors="replace"):
        *whole, rest = (rest + text).split("\n")
        lines.extend(_shown(line, redactor) for line in whole[-MAX_LINES:])
        rest = rest[:_MAX_READ]
    if rest:
        lines.append(_shown(rest, redactor))


def _shown(line: str, redactor: Redactor) -> str:
    """Return what is shown of a line: masked before it is cut, as nobody recognises half a secret."""
    return printable(redactor.redact_free_text(line.rstrip()))[:_MAX_LINE]


async def _end(process: Process) -> None:
    """Have a process that runs record that its run was interrupted, and end; kill it if it takes too long."""
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it has just ended
            process.terminate()
        with anyio.move_on_after(GRACE) as waited:
            await process.wait()
        if waited.cancelled_caught:
            process.kill()
    await process.aclose()
