"""Sockets that a task waits for: does the clock have to stand still for them?"""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import Any

from railtracks.testing._virtual_time._thread_kinds import others


def describe_sockets(files: list[int]) -> list[str]:
    """Those that wait for the world outside the event loop: not those that listen, nor those whose other end is here.

    The other end is here if it is in this process, which has no other thread that could use it.
    """
    here: set[Any] | None = None
    found = []
    for file in files:
        listens, _, peer = _ends(file)
        if listens:
            continue
        if peer is not None and not others():
            here = _names_here() if here is None else here
            if peer in here:
                continue
        found.append(f"file descriptor {file}")
    return found


def _names_here() -> set[Any]:
    """The addresses of this process's own ends of sockets."""
    try:
        files = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # Windows has none
        return {_OWN}
    return {_OWN, *(name for file in files if (name := _ends(file)[1]))}


_OWN = "the other end of a pair that this process made"


def _ends(file: int) -> tuple[bool, Any, Any]:
    """Does it listen, and the addresses of its two ends; of a pipe nothing is known."""
    try:
        view = socket.socket(fileno=file)
    except OSError:  # no socket
        return False, None, None
    try:
        listens = bool(view.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        name = view.getsockname()
        peer = None if listens else view.getpeername() or _peer_of_pair(view)
        return listens, name or None, peer
    except OSError:  # not connected
        return False, None, None
    finally:
        view.detach()


def _peer_of_pair(view: socket.socket) -> Any:
    """A Unix socket without a name: who made it?"""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:  # macOS has another way
        return None
    process = struct.unpack("3i", view.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))[0]
    return _OWN if process == os.getpid() else None


def is_readable(files: list[int]) -> bool:
    """Is there something to read from one of them? Takes nothing away."""
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return bool(poll.poll(0))
