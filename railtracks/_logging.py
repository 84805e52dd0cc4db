"""Logging: each session writes its own records, at its own level, to its own places.

All records of the library belong to a session and are made through its :class:`SessionLog`, which knows the
level, the console and the file of that session alone. So no logger's level is changed, no handler is hung into
the logging tree, and sessions in other tasks and threads cannot hear each other. What the application has
configured sees the records as usual: they are handed to the ``RT`` loggers, which propagate.
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
_IMPORTED = time.perf_counter()


def level_number(setting: Any) -> int:
    """The standard number of a level name. ValueError, saying what is allowed, for anything else."""
    number = _LEVELS.get(setting.upper()) if isinstance(setting, str) else None
    if number is None:
        raise ValueError(", ".join(_LEVELS))
    return number


class _Formatter(logging.Formatter):
    """``[+3.525  s] RT          : INFO     - START CREATED Agent``: seconds since the session opened."""

    def __init__(self) -> None:
        super().__init__("[+%(since)-7s] %(name)-12s: %(levelname)-8s - %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        elapsed: float = getattr(record, "elapsed", time.perf_counter() - _IMPORTED)
        record.since = f"{elapsed:<7.3f}s"
        return super().format(record)


_formatter = _Formatter()


class _Console(logging.StreamHandler[TextIO]):
    """Standard error as it is when a record is written, not as it was when the library was imported."""

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


def _application_listens(logger: logging.Logger) -> bool:
    """Has the application configured a handler that would see what this logger is given?"""
    return logger.hasHandlers()


def _allowed_by_application(logger: logging.Logger, level: int) -> bool:
    """Has the application silenced the RT loggers themselves? The level of the root logger does not count."""
    if logger.manager.disable >= level:
        return False
    if logger.level:
        return level >= logger.level
    return not ROOT.level or level >= ROOT.level


class SessionLog:
    """Where the records of one session go.

    Args:
        setting: The level name from the configuration.
        log_file: A path to append to, or None.
        session_id: Stands on every record.
        clock: Monotonic seconds.
        hide: Takes secrets out of a text.
    """

    def __init__(
        self,
        setting: str,
        log_file: str | None,
        session_id: str,
        clock: Callable[[], float],
        hide: Callable[[str], str] = str,
    ) -> None:
        self.level: int = level_number(setting)
        self._path = log_file
        self.session_id = session_id
        self._clock = clock
        self._hide = hide
        self._opened = clock()
        self._file: logging.FileHandler | None = None

    def open(self) -> None:
        """Open the log file, if there is one, making its folder.

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
                f"log_file: {self._path!r} cannot be opened ({exc.strerror}); give a file that can be written"
            ) from exc
        self._file.setFormatter(_formatter)

    def close(self) -> None:
        """Close the log file. Records made later still reach the console and the application."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def wants(self, level: int) -> bool:
        """Would a record of this level go anywhere?"""
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
        """Make a record, at once and synchronously. Callable from any thread."""
        if level < self.level or not _allowed_by_application(logger, level):
            return
        info = None if exc_info is None else (type(exc_info), exc_info, exc_info.__traceback__)
        text = message % args if args else message
        if (shown := self._hide(text)) != text:
            message, args = shown, ()
        record = logger.makeRecord(logger.name, level, "(railtracks)", 0, message, args, info)
        if info is not None:
            shown = _formatter.formatException(info)
            record.exc_text = self._hide(shown)  # formatters take this where it is set
            if record.exc_text != shown:
                record.exc_info = None  # some handlers look at this one
        record.elapsed = self._clock() - self._opened
        record.session_id, record.run_id, record.node_id = self.session_id, run_id, node_id
        if _application_listens(logger):
            logger.handle(record)
        else:
            _console.handle(record)
        if self._file is not None:
            self._file.handle(record)


def enable_logging(level: Level = "REGULAR") -> None:
    """For scripts: print the records of the ``RT`` loggers to standard error, also those made outside sessions.

    A session does this for its own records unless the application has configured handlers; so it is needed
    only for one's own records on ``RT`` loggers, or to show records beside handlers configured elsewhere.
    Calling it again changes the level.

    Args:
        level: One of the level names of ``logging_setting``.

    Raises:
        ConfigError: there is no such level.
    """
    try:
        ROOT.setLevel(level_number(level))
    except ValueError as exc:
        raise ConfigError(f"rt.enable_logging: {level!r} is not a level; give one of {exc}") from None
    if _console not in ROOT.handlers:
        ROOT.addHandler(_console)
