"""Where log records go: the console, the log file of a session, and the handlers of the application.

Any of them can raise: a disk is full, a log server is down, a formatter has a mistake. What is raised while a log
record is handled ends in :func:`deliver`, so that it never takes the place of a result or an exception of a call. Only
Ctrl-C and ``SystemExit`` go on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from io import TextIOWrapper
from types import FunctionType
from typing import TextIO

_IMPORTED = time.perf_counter()
Target = logging.Handler | logging.Logger
"""What a log record is delivered to."""


class Formatter(logging.Formatter):
    """Formats as ``[+3.525  s] RT          : INFO     - START CREATED Agent``: seconds since the session opened."""

    def __init__(self) -> None:
        super().__init__("[+%(since)-7s] %(name)-12s: %(levelname)-8s - %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        elapsed: float = getattr(record, "elapsed", time.perf_counter() - _IMPORTED)
        record.since = f"{elapsed:<7.3f}s"
        return super().format(record)


class _FileFormatter(Formatter):
    """Formats as the console does, after the local time, the session and the call: a file is read days later.

    The call is ``n`` and its index; a line that is about the session alone has none. No identifier has a slash in it.
    ``railtracks view RUN --log FILE`` finds the lines of each call by this.

    ``2026-01-01 03:00:00.250+0100 nightly/n7 [+3.525  s] RT          : WARNING  - fetch FAILED OSError: no route``
    """

    def format(self, record: logging.LogRecord) -> str:
        then = time.localtime(record.created)
        date = f"{time.strftime('%Y-%m-%d %H:%M:%S', then)}.{int(record.msecs):03}{time.strftime('%z', then)}"
        about = getattr(record, "session_id", "-")
        if call := getattr(record, "node_id", None):
            about = f"{about}/{call.removeprefix(f'{about}-')}"
        return f"{date} {about} {super().format(record)}"


formatter = Formatter()


def _raise_handled() -> None:
    exc = sys.exception()
    assert exc is not None
    raise exc


class Console(logging.StreamHandler[TextIO]):
    """Writes to the ``sys.stderr`` of the moment, not to that of the import."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(formatter)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("the console always writes to sys.stderr")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        if sys.stderr is None:  # as in programs without a console
            return
        if hasattr(record, "session_id"):
            _raise_handled()  # the log of the session handles it
        with contextlib.suppress(ValueError):  # sys.stderr is closed; logging expects an OSError only
            super().handleError(record)


console = Console()


class LogFile(logging.FileHandler):
    """The log file of a session. If it is made, only its owner can read it; the arguments of calls may be in it."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")  # a text may contain a lone surrogate
        self.setFormatter(_FileFormatter())

    def _open(self) -> TextIOWrapper:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=opener)  # type: ignore[return-value]

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        _raise_handled()

    def end(self) -> None:
        """Close the file for good. Raises whatever writing the rest of it raises; it is closed all the same."""
        self.acquire()
        try:
            self.mode = "w"  # or a log record of an abandoned thread would open the file again
            self.close()
        finally:
            self.release()


_handling: ContextVar[tuple[Target, ...]] = ContextVar("railtracks_handling", default=())
"""What is handling a log record at this moment, in this task or in the one that started it."""


_OWN = (Console, LogFile)
"""Handlers that call no code of the application."""


class ReentrantLogError(RuntimeError):
    """A handler made a log record while it handled one, such as by calling a node. It would go on for ever."""


def deliver(
    record: logging.LogRecord,
    level: int,
    targets: Iterable[Target],
    on_failure: Callable[[Target, BaseException], object],
) -> None:
    """Have all targets handle a log record, whatever some of them raise.

    Args:
        record: The log record.
        level: The number of its level.
        targets: Those whose own level is above that are left out.
        on_failure: Called with a target and what it raised.

    Raises:
        KeyboardInterrupt, SystemExit: it came while a target handled the log record.
    """
    active = _handling.get()
    for target in targets:
        if level < target.level:
            continue
        try:
            if type(target) in _OWN:
                target.handle(record)
            elif not active:
                token = _handling.set((target,))
                try:
                    target.handle(record)
                finally:
                    _handling.reset(token)
            else:
                _handle_within(active, target, record)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # the code of the application may do anything
            on_failure(target, exc)


def _handle_within(active: tuple[Target, ...], target: Target, record: logging.LogRecord) -> None:
    """Handle a log record that was made while others are handled, unless ``target`` is handling one of those."""
    if any(each is target for each in active):
        raise ReentrantLogError("it makes log records of Railtracks itself, which do not go to it")
    token = _handling.set((*active, target))
    try:
        target.handle(record)
    finally:
        _handling.reset(token)


_Logger = logging.Logger


def _standard(name: str) -> object:
    """Return a method of ``logging.Logger``; None if something has replaced it, as error trackers do."""
    method = getattr(_Logger, name)
    is_own = type(method) is FunctionType and method.__code__.co_filename == logging.addLevelName.__code__.co_filename
    return method if is_own else None


_HANDLE, _CALL_HANDLERS = _standard("handle"), _standard("callHandlers")


def targets_of(logger: logging.Logger, all_handlers: bool = False) -> list[Target]:
    """Return what handles the log records of a logger: the handlers that the application has configured.

    They are called one by one, so that one that raises does not keep a log record from the others. Where the
    application has replaced what calls them, the logger itself is returned instead, and calls them all.

    Args:
        logger: The logger.
        all_handlers: Whether the handlers are returned all the same.
    """
    handlers: list[Target] = []
    current: logging.Logger | None = logger
    while current is not None:
        if current.handlers:
            handlers += current.handlers
        current = current.parent if current.propagate else None
    is_standard = _Logger.callHandlers is _CALL_HANDLERS and _Logger.handle is _HANDLE and type(logger) is _Logger
    if is_standard or all_handlers:
        return handlers
    return [logger] if handlers else []


def is_seen(target: Target, level: int) -> bool:
    """Return whether a target would show a log record of a level, as far as that can be known."""
    if isinstance(target, logging.Logger):
        return not target.disabled and any(is_seen(each, level) for each in targets_of(target, all_handlers=True))
    return level >= target.level and not isinstance(target, logging.NullHandler)


class Shown:
    """Shows a value that a log record is about, whatever its ``repr`` and ``str`` raise."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        try:
            return repr(self._value)
        except Exception as exc:
            return f"<{class_name(self._value)} whose repr raised {class_name(exc)}>"

    def __str__(self) -> str:
        try:
            return str(self._value)
        except Exception:
            return repr(self)

    def __int__(self) -> int:
        return int(self._value)  # type: ignore[call-overload, no-any-return]

    def __float__(self) -> float:
        return float(self._value)  # type: ignore[arg-type]


def class_name(value: object) -> str:
    """Return the name of a value's class, whatever its metaclass makes of ``__name__``."""
    return type.__dict__["__name__"].__get__(type(value))  # type: ignore[no-any-return]
