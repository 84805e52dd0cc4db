"""Logging: each session makes its own log records, at its own level, for its own console and file.

All log records of the library belong to a session and are made by its :class:`SessionLog`, which has the level, the
console and the file of that session alone. So no logger's level is changed, no handler is added to the logging tree,
and sessions in other tasks and threads do not affect each other. Handlers that the application has configured receive
the log records as usual, through the ``RT`` loggers, which propagate.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Literal, TextIO

from railtracks.exceptions import ConfigError

Level = Literal["VERBOSE", "REGULAR", "QUIET", "NONE", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

_NEVER = logging.CRITICAL + 50
_LEVELS: dict[str, int] = {
    "VERBOSE": logging.DEBUG,
    "REGULAR": logging.INFO,
    "QUIET": logging.WARNING,
    "NONE": _NEVER,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}
ROOT = logging.getLogger("RT")
SESSION = logging.getLogger("RT.Session")
PUBLISHER = logging.getLogger("RT.Publisher")
_IMPORTED = time.perf_counter()


def level_number(setting: Any) -> int:
    """Return the standard number of a level name.

    Raises:
        ValueError: ``setting`` is not a level name; the text lists them.
    """
    number = _LEVELS.get(setting.upper()) if isinstance(setting, str) else None
    if number is None:
        raise ValueError(", ".join(_LEVELS))
    return number


class _Formatter(logging.Formatter):
    """Formats as ``[+3.525  s] RT          : INFO     - START CREATED Agent``: seconds since the session opened."""

    def __init__(self) -> None:
        super().__init__("[+%(since)-7s] %(name)-12s: %(levelname)-8s - %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        elapsed: float = getattr(record, "elapsed", time.perf_counter() - _IMPORTED)
        record.since = f"{elapsed:<7.3f}s"
        return super().format(record)


_formatter = _Formatter()


class _Console(logging.StreamHandler[TextIO]):
    """Writes to the ``sys.stderr`` of the moment, not to that of the import."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(_formatter)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        raise AttributeError("the console always writes to sys.stderr")


_console = _Console()


def _is_allowed_by_application(logger: logging.Logger, level: int) -> bool:
    """Return whether the RT loggers' own levels let ``level`` pass. The level of the root logger does not count."""
    if logger.manager.disable >= level:
        return False
    if logger.level:
        return level >= logger.level
    return not ROOT.level or level >= ROOT.level


class SessionLog:
    """The log of one session.

    Args:
        setting: The level name from the configuration.
        log_file: The path of the file to append to, or None.
        session_id: The identifier of the session, an attribute of each log record.
        clock: Returns monotonic seconds.
        redact: Replaces the secrets in a text.

    Attributes:
        level: The number of the level: log records below it are not made.
    """

    def __init__(
        self,
        setting: str,
        log_file: str | None,
        session_id: str,
        clock: Callable[[], float],
        redact: Callable[[str], str] = str,
    ) -> None:
        self.level: int = level_number(setting)
        self._path = log_file
        self.session_id = session_id
        self._clock = clock
        self._redact = redact
        self._opened = clock()
        self._file: logging.FileHandler | None = None

    def open(self) -> None:
        """Open the log file, if there is one, and create its folder.

        Raises:
            ConfigError: the file cannot be opened for appending.
        """
        self._opened = self._clock()
        if self._path is None:
            return
        try:
            os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
            self._file = logging.FileHandler(self._path, encoding="utf-8")
        except OSError as exc:
            raise ConfigError(
                f"log_file: {self._path!r} cannot be opened ({exc.strerror}); use a file that can be written"
            ) from exc
        self._file.setFormatter(_formatter)

    def close(self) -> None:
        """Close the log file. Later log records still reach the console and the application."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_enabled_for(self, level: int) -> bool:
        """Return whether the session makes log records of this level."""
        return level >= self.level

    def log(
        self,
        level: int,
        message: str,
        *args: object,
        logger: logging.Logger = ROOT,
        run_id: str | None = None,
        node_id: str | None = None,
        exc_info: BaseException | None = None,
    ) -> None:
        """Make a log record and pass it to all handlers before returning. Thread-safe.

        Args:
            level: The number of its level.
            message: Its text, with ``%`` placeholders.
            *args: What replaces the placeholders.
            logger: The logger that it belongs to.
            run_id: An attribute of the log record.
            node_id: An attribute of the log record.
            exc_info: The exception to show below the text.
        """
        if level < self.level or not _is_allowed_by_application(logger, level):
            return
        info = None if exc_info is None else (type(exc_info), exc_info, exc_info.__traceback__)
        text = message % args if args else message
        if (redacted := self._redact(text)) != text:
            message, args = redacted, ()
        record = logger.makeRecord(logger.name, level, "(railtracks)", 0, message, args, info)
        if info is not None:
            text = _formatter.formatException(info)
            record.exc_text = self._redact(text)  # formatters use this if it is set
            if record.exc_text != text:
                record.exc_info = None  # handlers that read it would show the secrets
        record.elapsed = self._clock() - self._opened
        record.session_id, record.run_id, record.node_id = self.session_id, run_id, node_id
        if logger.hasHandlers():  # configured by the application
            logger.handle(record)
        else:
            _console.handle(record)
        if self._file is not None:
            self._file.handle(record)


def enable_logging(level: Level = "REGULAR") -> None:
    """Print the log records of the ``RT`` loggers to standard error, including those made outside sessions.

    A session does so for its own log records, unless the application has configured handlers. So this is only needed
    for log records that scripts make on ``RT`` loggers themselves, or to print in addition to handlers configured
    elsewhere. Calling it again changes the level.

    Args:
        level: One of the level names of ``logging_setting``.

    Raises:
        ConfigError: there is no such level.
    """
    try:
        ROOT.setLevel(level_number(level))
    except ValueError as exc:
        raise ConfigError(f"rt.enable_logging: {level!r} is not a level; use one of {exc}") from None
    if _console not in ROOT.handlers:
        ROOT.addHandler(_console)
