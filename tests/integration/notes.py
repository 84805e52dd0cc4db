"""What an interrupted program notes while it runs: one line per event, in a file and on a pipe.

The file is the oracle: what is on record afterwards is compared with it. The pipe is for the process that waits for
the moment of a signal.
"""

from __future__ import annotations

import os
import time

_handles: list[int] = []


def open_notes(*paths: str) -> None:
    """Note on these files, or named pipes, from now on."""
    _handles[:] = [os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) for path in paths]


def note(*words: object) -> None:
    """Note an event and its time, in a single write to each file."""
    line = f"{time.monotonic():.6f} {' '.join(map(str, words))}\n".encode()
    for handle in _handles:
        os.write(handle, line)
