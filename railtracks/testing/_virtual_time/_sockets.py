"""The sockets that tasks wait for, and whether the clock has to be held for them."""

from __future__ import annotations

import os
import select
import socket
import struct
from typing import Any

from railtracks.testing._virtual_time._thread_kinds import foreign_threads


def describe_sockets(files: list[int]) -> list[str]:
    """Return descriptions of the sockets and pipes that wait for something outside of the event loop.

    These are neither the listening ones, nor those whose other end is here. The other end is here if it is in this
    process, and the process has no other thread that could use it.

    Args:
        files: The file descriptors that tasks wait for.
    """
    here: set[Any] | None = None
    found = []
    for file in files:
        listens, _, peer = _ends(file)
        if listens:
            continue
        if peer is not None and not foreign_threads():
            here = _own_addresses() if here is None else here
            if peer in here:
                continue
        found.append(f"file descriptor {file}")
    return found


def _own_addresses() -> set[Any]:
    """Return the addresses of this process's own ends of sockets."""
    try:
        files = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:  # Windows has no such folder
        return {_OWN_PAIR}
    return {_OWN_PAIR, *(name for file in files if (name := _ends(file)[1]))}


_OWN_PAIR = "the other end of a pair that this process made"


def _ends(file: int) -> tuple[bool, Any, Any]:
    """Return whether a socket listens, and the addresses of its two ends. Of a pipe nothing is known."""
    try:
        view = socket.socket(fileno=file)
    except OSError:  # this is not a socket
        return False, None, None
    try:
        listens = bool(view.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        name = view.getsockname()
        peer = None if listens else view.getpeername() or _peer_of_pair(view)
        return listens, name or None, peer
    except OSError:  # it is not connected
        return False, None, None
    finally:
        view.detach()


def _peer_of_pair(view: socket.socket) -> Any:
    """Return ``_OWN_PAIR`` for a Unix socket without a name that this process made."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:  # macOS has no such option
        return None
    process = struct.unpack("3i", view.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))[0]
    return _OWN_PAIR if process == os.getpid() else None


def is_readable(files: list[int]) -> bool:
    """Return whether there is something to read from one of the files. Nothing is read. One that is closed has none."""
    poll = select.poll()
    for file in files:
        poll.register(file, select.POLLIN)
    return any(event != select.POLLNVAL for _, event in poll.poll(0))
