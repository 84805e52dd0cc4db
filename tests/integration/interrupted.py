"""The process that a signal interrupts: ``python -m tests.integration.interrupted ORDER``, or forked from a warm one.

With ``serve`` in place of the order, it imports railtracks and forks a process for each line that it reads. No event
loop and no thread exists in it, so a forked process is as one that has just imported railtracks. With ``exec`` in the
order, Python is started anew in the forked process.

The process ends as any program does: what the form raises goes on to the interpreter, which prints it, finalizes
everything, and chooses the exit status.
"""

from __future__ import annotations

import dis
import faulthandler
import gc
import importlib
import json
import linecache
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from tests.integration.notes import note, open_notes

WARM = [
    *("anyio._backends._asyncio", "anyio._backends._trio", "anyio.from_thread", "anyio.to_thread"),
    *("railtracks._session._stored_run", "railtracks._resume._replayer", "railtracks._resume._source"),
    "tests.integration.programs",
]
"""What a forked process need not import itself, as it takes longer than the rest of it."""


SIGNALS = [signal.SIGINT, signal.SIGTERM]


def print_tasks(*_args: object) -> None:
    """Print where each task of asyncio and trio waits, below the stacks of the threads."""
    for task in gc.get_objects():
        if type(task).__name__ == "Task" and (coroutine := getattr(task, "coro", None) or _coroutine(task)) is not None:
            print("Task", getattr(task, "name", None) or task.get_name(), file=sys.stderr)
            while coroutine is not None and hasattr(coroutine, "cr_frame"):
                if (frame := coroutine.cr_frame) is not None:
                    print(f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}", file=sys.stderr)
                coroutine = coroutine.cr_await
    sys.stderr.flush()


def _coroutine(task: Any) -> Any:
    return task.get_coro() if hasattr(task, "get_coro") and not task.done() else None


def prepare(order: dict[str, Any]) -> None:
    """Give the process its folder and its standard error, and say how it shows where it stands still."""
    os.chdir(order["folder"])
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(os.open(f"errors.{order['attempt']}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)


def run_to_line(number: int, program: Callable[[], None]) -> None:
    """Run a program with a SIGINT before the n-th line of the library that its main thread runs; note how many ran."""
    import railtracks

    package = os.path.dirname(railtracks.__file__)
    count = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(package):
            return None
        if event == "line":
            if _cannot_be_interrupted(frame):
                return trace
            count += 1
            if count == number:
                note("interrupt", f"{os.path.relpath(frame.f_code.co_filename, package)}:{frame.f_lineno}")
                # As if from that line: the library looks whose code was interrupted.
                exec(compile("raise_signal(SIGINT)", frame.f_code.co_filename, "exec"), vars(signal))
        return trace

    sys.settrace(trace)
    try:
        program()
    finally:
        sys.settrace(None)
        note("lines", count)


def _cannot_be_interrupted(frame: FrameType) -> bool:
    """Return whether an interrupt before a line says nothing.

    Python handles signals after calls, and not where a ``with`` block calls ``__exit__``. It may handle one before the
    first line of an ``__exit__``. Then the block is not left, and nothing that is written in Python can prevent that.
    """
    code, at = frame.f_code, frame.f_lasti
    if code.co_name == "__exit__" and at <= 4:
        return True
    is_constant = dis.opname[code.co_code[at]] == "LOAD_CONST"  # the first argument of that `__exit__`
    text = linecache.getline(code.co_filename, frame.f_lineno).lstrip()
    return is_constant and text.startswith(("with ", "async with "))


def run(order: dict[str, Any]) -> None:
    """Run the program."""
    signal.alarm(120)  # kills it if nothing else does
    signal.signal(signal.SIGUSR1, print_tasks)
    faulthandler.register(signal.SIGUSR1, all_threads=True, chain=True)
    open_notes(f"notes.{order['attempt']}", order["pipe"])
    note("importing")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    from tests.integration import programs

    if order["line"]:
        run_to_line(order["line"], lambda: programs.run(order))
    else:
        programs.run(order)


def serve() -> dict[str, Any] | None:
    """Fork a process for each order. Return the order in the forked one, and None at the end."""
    for name in WARM:
        importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # Python ignores what comes while it forks
        pid = os.fork()
        if not pid:
            prepare(order)
            if order["exec"]:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
                os.execv(sys.executable, [sys.executable, "-W", "error", "-m", __spec__.name, json.dumps(order)])
            return order
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        print(pid, flush=True)
        sys.stdin.readline()  # until then the process keeps its identifier, dead or alive
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return None


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what a shell runs in the background
    order = serve() if sys.argv[1] == "serve" else json.loads(sys.argv[1])
    if order is not None:
        run(order)
