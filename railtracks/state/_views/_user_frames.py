"""Tracebacks for people: without the frames of the libraries that run nodes."""

from __future__ import annotations

import os
import re
import sys
from functools import cache

_LIBRARIES = ("railtracks", "anyio", "trio", "outcome", "asyncio")
_FRAME = re.compile(r'([ |]*)File "(.+)", line \d+, in ')
_INSTALLED = re.compile(rf"[/\\](?:site-packages|dist-packages|python3\.\d+)[/\\](?:{'|'.join(_LIBRARIES)})[/\\]")
"""The path of a library, on whatever machine the traceback was recorded."""
_HEADER = "Traceback (most recent call last):"


def without_library_frames(text: str) -> str:
    """Return tracebacks as Python prints them without the frames of the libraries that run nodes.

    An exception without other frames has its class and message alone.
    """
    kept: list[str] = []
    dropped: str | None = None  # what stands before "File" in the frame that is being left out
    for line in text.split("\n"):
        frame = _FRAME.match(line)
        if frame is not None:
            dropped = frame[1] if _is_of_library(frame[2]) else None
        elif dropped is not None and not line.startswith((f"{dropped}  ", f"{dropped}[Previous line repeated")):
            dropped = None
            if kept and kept[-1].strip(" |") == _HEADER:
                kept.pop()
        if dropped is None:
            kept.append(line)
    return "\n".join(kept)


def _is_of_library(path: str) -> bool:
    return _INSTALLED.search(path) is not None or path.startswith(_folders())


@cache
def _folders() -> tuple[str, ...]:
    """Return where the libraries of this process are, which need not be installed but may be in a checkout."""
    files = (getattr(sys.modules.get(name), "__file__", None) for name in _LIBRARIES)
    return tuple(f"{os.path.dirname(file)}{os.sep}" for file in files if file is not None)
