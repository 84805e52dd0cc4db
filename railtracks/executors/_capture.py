"""What a function in a worker prints and logs, caught where it is written, so that it can travel home.

A worker may be a thread of a process in which others print as well. So nothing global decides whose text it is, but a
context variable: ``sys.stdout`` is replaced, while a capture is going on, by a stream that asks it.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
from contextvars import ContextVar
from operator import itemgetter
from typing import Any, TextIO

MAX_OUTPUT = 100_000
"""Characters of output that are kept of one call."""
MAX_LOGS = 1_000
"""Log records that are kept of one call."""
_SENT = (str, int, float, bool, type(None))


class Capture:
    """What one call prints and logs. Filled in any thread that has its context."""

    def __init__(self) -> None:
        self._output: list[tuple[str, str]] = []
        self.output_dropped = 0
        self.logs: list[dict[str, Any]] = []
        self.logs_dropped = 0
        self._room = MAX_OUTPUT
        self._lock = threading.Lock()

    def write(self, stream: str, text: str) -> None:
        """Keep a text that was written to a stream, as far as there is room."""
        with self._lock:
            kept = text[: self._room]
            self._room -= len(kept)
            self.output_dropped += len(text) - len(kept)
            if kept:
                self._output.append((stream, kept))

    @property
    def output(self) -> list[tuple[str, str]]:
        """What was written, in its order: the name of the stream, and a text."""
        if not self._output:
            return []
        with self._lock:
            parts = itertools.groupby(self._output, key=itemgetter(0))
            return [(stream, "".join(text for _, text in texts)) for stream, texts in parts]

    def add_log(self, record: logging.LogRecord) -> None:
        """Keep a log record."""
        with self._lock:
            if len(self.logs) < MAX_LOGS:
                self.logs.append(_sendable(record))
            else:
                self.logs_dropped += 1


def _sendable(record: logging.LogRecord) -> dict[str, Any]:
    """Return the attributes of a record with its text made, as ``logging.handlers.QueueHandler`` does it."""
    attributes = dict(vars(record))
    attributes["message"] = attributes["msg"] = record.getMessage()
    if record.exc_info and not record.exc_text:
        attributes["exc_text"] = logging.Formatter().formatException(record.exc_info)
    attributes.update(args=None, exc_info=None)
    return {name: value for name, value in attributes.items() if type(value) in _SENT}


_capture: ContextVar[Capture | None] = ContextVar("railtracks_capture", default=None)


class _CapturingStream:
    """Stands for ``sys.stdout`` or ``sys.stderr``: what is written in the context of a capture goes there."""

    def __init__(self, name: str, original: TextIO | None) -> None:
        self._name = name
        self._original = original

    def write(self, text: str) -> int:
        capture = _capture.get()
        if capture is not None:
            if not isinstance(text, str):
                raise TypeError(f"write() argument must be str, not {type(text).__name__}")
            capture.write(self._name, text)
        elif self._original is not None:
            self._original.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._original is not None and _capture.get() is None:
            self._original.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _Handler(logging.Handler):
    """Keeps what is logged in the context of a capture."""

    def emit(self, record: logging.LogRecord) -> None:
        capture = _capture.get()
        if capture is not None:
            try:
                capture.add_log(record)
            except Exception:
                self.handleError(record)


class _Installed:
    """The streams, which are in place while there is a capture in this process, and the handler of log records.

    In a process of workers both stay, as putting them there takes longer than many a call, and they pass on what is
    written outside of captures.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[str, _CapturingStream] = {}
        self._handler: _Handler | None = None
        self._captures = 0

    def enter(self, log_level: int | None) -> None:
        with self._lock:
            self._captures += 1
            for name in ("stdout", "stderr"):
                stream = getattr(sys, name)
                if type(stream) is not _CapturingStream and self._captures == 1:
                    self._streams[name] = _CapturingStream(name, stream)
                    setattr(sys, name, self._streams[name])
            if log_level is not None:
                if self._handler is None:
                    self._handler = _Handler()
                    logging.root.addHandler(self._handler)
                if logging.root.level != log_level:
                    logging.root.setLevel(log_level)

    def leave(self, log_level: int | None) -> None:
        with self._lock:
            self._captures -= 1
            if not self._captures and log_level is None:
                for name, stream in self._streams.items():
                    if getattr(sys, name) is stream:  # it may have been replaced since
                        setattr(sys, name, stream._original)


_installed = _Installed()


class captured:  # noqa: N801 (a context manager, as those of contextlib)
    """Catch what the code inside prints and logs.

    Args:
        capture: Where it is kept.
        log_level: The level that the root logger gets, in a process of workers; None in the process that waits for
            them, where log records reach the handlers as always.
    """

    __slots__ = ("_log_level", "_token")

    def __init__(self, capture: Capture, log_level: int | None) -> None:
        self._log_level = log_level
        self._token = _capture.set(capture)

    def __enter__(self) -> None:
        _installed.enter(self._log_level)

    def __exit__(self, *_: object) -> None:
        _capture.reset(self._token)
        _installed.leave(self._log_level)
