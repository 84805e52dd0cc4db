"""The process that holds a lease, and whether one of this machine is still there."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from typing import NamedTuple

from railtracks._concurrency._after_fork import after_fork


class Owner(NamedTuple):
    """A process that holds leases."""

    machine: str
    """The name of its machine, for people."""
    process: int
    """Its number."""
    host: str | None
    """What identifies the machine since it was started, and the numbers that its processes have; None: not known."""
    started: int | None
    """When it started, on the clock of the machine; None: not known."""


@lru_cache(maxsize=1)
def this_process() -> Owner:
    """Return the owner of the leases that this process takes."""
    return Owner(socket.gethostname(), os.getpid(), _host(), _start_of(os.getpid()))


after_fork(this_process.cache_clear)


def has_died(owner: Owner) -> bool:
    """Return whether a process is known to have died: it was one of this machine, and is not there any more."""
    here = this_process()
    if owner.host is None or owner.host != here.host or owner.started is None:
        return False
    try:
        os.kill(owner.process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        pass
    started = _start_of(owner.process)
    return started is not None and started != owner.started


def _host() -> str | None:
    """Return the identity of the start of this machine, and of the namespace of its processes, on Linux."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _start_of(process: int) -> int | None:
    """Return when a process started, in ticks since its machine did; 0 if it has ended; None if that is not known."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            state, *others = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return 0 if state in (b"Z", b"X") else int(others[18])
