"""Calls of code of users while spans are made, whose errors must not reach the calls that the spans are of."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from railtracks._concurrency._interrupts import DeferredInterrupts
from railtracks._logging import SESSION, SessionLog


class SpanGuard:
    """Calls code of users for the spans of one session, and logs the first error in it.

    Args:
        log: The log of the session.

    Attributes:
        has_failed: Whether a span processor has raised.
    """

    def __init__(self, log: SessionLog) -> None:
        self.has_failed = False
        self._log = log
        self._has_logged = False

    def run(self, func: Callable[..., object], *args: Any) -> bool:
        """Call a function that runs code of span processors. Only Ctrl-C and ``SystemExit`` are raised.

        Returns:
            False if the stack is full, so that the call of the span fails as well.
        """
        try:
            func(*args)
        except RecursionError:
            return False
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.has_failed = True
            self._log_once(exc)
        return True

    def describe(self, func: Callable[..., object], *args: Any) -> bool:
        """Call a function that describes values, whose code may raise anything. Ctrl-C is not theirs, so it waits.

        Returns:
            False if the stack is full.
        """
        with DeferredInterrupts():
            try:
                func(*args)
            except RecursionError:
                return False
            except BaseException as exc:
                self._log_once(exc)
        return True

    def _log_once(self, exc: BaseException) -> None:
        if not self._has_logged:
            self._has_logged = True
            log_span_error(self._log, exc)


def log_span_error(log: SessionLog, exc: BaseException) -> None:
    """Log what a span processor, or a value that a span was to describe, has raised."""
    text = "A span could not be made, described or ended (%r); the session goes on, but its trace is not complete"
    log.log(logging.ERROR, text, exc, logger=SESSION, exc_info=exc)
