"""Logging: each session makes its own log records, at its own level, for its own console and file.

All log records of the library belong to a session and are made by its :class:`SessionLog`, which has the level, the
console and the file of that session alone. So no logger's level is changed, no handler is added to the logging tree,
and sessions in other tasks and threads do not affect each other. Handlers that the application has configured receive
the log records as usual, through the ``RT`` loggers, which propagate.

Logging harms nothing: whatever a handler, a filter, a formatter or the file raises, the other handlers get the log
record, and the session logs the failure once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Literal

from railtracks._log_handlers import (
    LogFile,
    Shown,
    Target,
    class_name,
    console,
    deliver,
    formatter,
    is_seen,
    targets_of,
)
from railtracks._tracebacks import MAX_MESSAGE, format_traceback
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


def level_number(setting: Any) -> int:
    """Return the standard number of a level name.

    Raises:
        ValueError: ``setting`` is not a level name; the text lists them.
    """
    number = _LEVELS.get(setting.upper()) if isinstance(setting, str) else None
    if number is None:
        raise ValueError(", ".join(_LEVELS))
    return number


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
        self._file: LogFile | None = None
        self._has_failed = False  # the failure was logged

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
            self._file = LogFile(self._path)
        except OSError as exc:
            raise ConfigError(
                f"log_file: {self._path!r} cannot be opened ({exc.strerror}); use a file that can be written"
            ) from exc

    def close(self) -> None:
        """Close the log file. Later log records still reach the console and the application.

        If that fails, the failure is logged. Only Ctrl-C and ``SystemExit`` are raised.
        """
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.end()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self._log_failure(file, exc)

    @property
    def has_file(self) -> bool:
        """Whether its log file is open."""
        return self._file is not None

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
        must_be_seen: bool = False,
    ) -> None:
        """Make a log record and pass it to all handlers before returning. Thread-safe.

        Whatever the handlers raise is logged, once in each session. Only Ctrl-C and ``SystemExit`` are raised.

        Args:
            level: The number of its level.
            message: Its text, with ``%`` placeholders.
            *args: What replaces the placeholders.
            logger: The logger that it belongs to.
            run_id: An attribute of the log record.
            node_id: An attribute of the log record.
            exc_info: The exception to show below the text.
            must_be_seen: Whether it is printed to standard error if no handler would show it, because its own level is
                above, or because ``logging.config`` has disabled the loggers that there were, as it does by default.
        """
        if level < self.level or level < (logger.level or ROOT.level) or level <= logger.manager.disable:
            return  # the level of the root logger does not count
        try:
            text = message % args if args else message
            if (redacted := self._redact(text)) != text:
                message, args = redacted, ()
            record = logger.makeRecord(logger.name, level, "(railtracks)", 0, message, args, None)
            record.elapsed = self._clock() - self._opened
            record.session_id, record.run_id, record.node_id = self.session_id, run_id, node_id
            if exc_info is not None:
                self._add_exception(record, exc_info)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            text = message % tuple(map(Shown, args)) if args else message
            fallback = f"a log record could not be written: {class_name(exc)}"
            record = self._make_simple_record(level, text, fallback, logger)
            record.run_id, record.node_id = run_id, node_id
            self._log_failure(None, exc)
        targets = targets_of(logger)
        if targets and (logger.filters or logger.disabled):
            record, targets = self._filter(record, logger, targets)
        elif not targets:
            targets.append(console)
        if must_be_seen and not any(is_seen(each, level) for each in targets):
            targets.append(console)
        if self._file is not None:
            targets.append(self._file)
        deliver(record, level, targets, self._log_failure)

    def _add_exception(self, record: logging.LogRecord, exc: BaseException) -> None:
        shortened: list[str] = []

        def shorten(message: str) -> str:
            shortened.append(message)
            return f"{self._redact(message)[:MAX_MESSAGE]}... [{len(message)} characters in all]"

        text = format_traceback(exc, shorten).removesuffix("\n")
        record.exc_text = self._redact(text)  # formatters use this if it is set
        if record.exc_text == text and not shortened:  # otherwise handlers that read it would show the secrets
            record.exc_info = (type(exc), exc, exc.__traceback__)

    def _make_simple_record(self, level: int, text: str, fallback: str, logger: logging.Logger) -> logging.LogRecord:
        """Return a record whose making calls no code of the application.

        Args:
            level: The number of its level.
            text: Its text, which is redacted.
            fallback: Its text if redacting fails; there can be no secret in it.
            logger: The logger that it belongs to.
        """
        try:
            text = self._redact(text)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            text = fallback
        record = logging.LogRecord(logger.name, level, "(railtracks)", 0, text, (), None)
        record.elapsed = self._clock() - self._opened
        record.session_id, record.run_id, record.node_id = self.session_id, None, None
        return record

    def _filter(
        self, record: logging.LogRecord, logger: logging.Logger, targets: list[Target]
    ) -> tuple[logging.LogRecord, list[Target]]:
        """Return what the filters of a logger leave of a log record and of its targets."""
        if targets[0] is logger:  # which filters by itself
            return record, targets
        if logger.disabled:
            return record, []
        try:
            passed: object = logger.filter(record)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # a filter that fails has no say
            self._log_failure(logger, exc)
            return record, targets
        if isinstance(passed, logging.LogRecord):  # from Python 3.12 on, a filter may replace it
            return passed, targets
        return record, targets if passed else []

    def _log_failure(self, target: Target | None, exc: BaseException) -> None:
        """Log, once in each session, that something about logging failed, wherever that is possible."""
        if self._has_failed:
            return
        self._has_failed = True
        what, rest = self._description(target), "log records may be missing there (this is logged once in each session)"
        text, fallback = f"{what} raised {Shown(exc)!r}; {rest}", f"{what} raised {class_name(exc)}; {rest}"
        record = self._make_simple_record(logging.ERROR, text, fallback, SESSION)
        others = [each for each in (*targets_of(SESSION), self._file) if each is not None and each is not target]
        failed: list[object] = [each for each in others if each.level > logging.ERROR]
        deliver(record, logging.ERROR, others, lambda each, _: failed.append(each))
        if len(failed) == len(others):
            failed = [console] if target is console else []
            if not failed:
                deliver(record, logging.ERROR, [console], lambda each, _: failed.append(each))
            if failed:  # sys.stderr was replaced by something that fails
                with contextlib.suppress(Exception):
                    sys.__stderr__.write(f"{formatter.format(record)}\n")  # type: ignore[union-attr]

    def _description(self, target: Target | None) -> str:
        if target is None:
            return "making a log record"
        if target is console:
            return "writing log records to sys.stderr"
        if isinstance(target, LogFile):
            return f"writing the log file {self._path!r}"
        if isinstance(target, logging.Logger):
            return f"a handler or a filter of the logger {target.name!r}"
        return f"the log handler {Shown(target)!r}"


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
    if console not in ROOT.handlers:
        ROOT.addHandler(console)
