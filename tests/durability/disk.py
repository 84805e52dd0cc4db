"""The system calls on the files of runs, which tests let fail, and some nodes, processes and checks of what is left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import railtracks as rt
from railtracks._concurrency._threads import run_in_thread
from railtracks.state import FileStore
from tests.durability.world import FOLDER

MODES = ["exit", "async", "sync"]
"""The values of the option ``durability``."""
GOES_ON = "The journal beside {} cannot be written: {}; the session goes on, and is saved at its end if possible"
FULL = "[Errno 28] No space left on device"
IN_USE = "the run 'run' is open in another session"
RIGHT = [[2, 3, 6], [4, 6, 9]]
"""The results of ``both`` for 1 and for 2."""


def open_files():
    """Return what this process has open, as far as the system shows it."""
    return {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if is_open(int(fd))}


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:  # the one that listed the folder
        return False
    return True


def syncers():
    return [thread for thread in threading.enumerate() if thread.name == "railtracks-sync"]


class Disk:
    """The system calls on the files of runs: which there were, and which of them fail."""

    CALLS = ("open", "write", "fsync", "replace", "rename", "unlink", "mkdir")

    def __init__(self, patch):
        self._files: dict[int, str] = {}
        self._faults: list = []
        self.steps: list[str] = []
        self.hits = 0
        self._original = {name: getattr(os, name) for name in (*self.CALLS, "dup", "close")}
        for name in self._original:
            patch.setattr(os, name, self._wrapped(name))

    def _wrapped(self, name):
        def call(*args, **kwargs):
            path = self._files.get(args[0]) if isinstance(args[0], int) else os.fspath(args[0])
            if path is None or FOLDER.name not in path:
                result = self._original[name](*args, **kwargs)
                if name == "open":
                    self._files.pop(result, None)  # the file that had this handle was closed by a file object
                return result
            if name in self.CALLS:
                self.steps.append(f"{name} {kind_of(path)}")
            for fault, there, action in self._faults:
                if fault == name and kind_of(path) in there and not (name == "mkdir" and os.path.isdir(path)):
                    self.hits += 1
                    return action(self._original[name], *args)
            if name == "close":  # before it is closed: another thread may get the handle right after that
                del self._files[args[0]]
            result = self._original[name](*args, **kwargs)
            if name in ("open", "dup"):
                self._files[result] = path
            return result

        return call

    def fail(self, name, there=("journal", "json", "folder", "lock"), error=errno.ENOSPC, action=None):
        """Let calls of this name fail from now on, for files of these kinds."""

        def refuse(_original, *args):
            raise OSError(error, os.strerror(error))

        self._faults.append((name, there, action or refuse))

    def recover(self):
        self._faults.clear()


def kind_of(path):
    """Return what a path is to a run."""
    name = Path(path).name
    if name == FOLDER.name:
        return "folder"
    return "json" if name.endswith(".tmp") else name.rpartition(".")[2]


def half(original, handle, content):
    """Write half of what there is to write."""
    return original(handle, content[: len(content) // 2])


async def until(condition):
    """Wait, in real time, for what a thread of the library is about to do."""

    def wait():
        give_up = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.001)

    await run_in_thread(wait)


def is_free(identifier="run", store=None):
    lock = (store or FileStore()).lock(identifier)
    lock.release()
    return True


def journal_of(identifier):
    """Return the journal of a run, as it is now."""
    return FileStore().read(identifier).journal


def double(x):
    return 2 * x


async def triple(x):
    return 3 * x


async def both(x):
    return [await rt.call(double, x), *await rt.call_batch(triple, [x, x + 1])]


HOLDER = """
import sys
import railtracks as rt
with rt.Session(run_identifier=sys.argv[1], logging_setting="NONE"):
    print(rt.call_sync(len, "abc"), flush=True)
    sys.stdin.readline()
    print(rt.call_sync(len, "abcd"))
"""


def holder(identifier):
    """Start a process that opens the run, and ends it when it gets a line."""
    root = str(Path(rt.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HOLDER, identifier],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": root, "PATH": ""},
    )  # fmt: skip


def python_can_open(identifier):
    """Return whether another process can open the run."""
    with holder(identifier) as process:
        out, _ = process.communicate("\n", timeout=30)
    return out == "3\n4\n"
