"""How far a batch is: a line in the terminal, or log records where there is none."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterable, Mapping, MappingView, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TextIO

from railtracks._logging import SessionLog
from railtracks._progress._batch_count import BatchCount
from railtracks._test_hooks import harness_overrides

REDRAW = 0.1
"""Seconds between two lines in a terminal."""
RELOG = 10.0
"""Seconds between two log records."""
_COUNTED = (Sequence, AbstractSet, Mapping, MappingView)
"""The kinds of collections whose lengths are known without going through them."""


def check_label(label: object, caller: str = "rt.call_batch") -> None:
    """Check the argument ``progress`` of ``caller``.

    Raises:
        ValueError: it is not a text of one line.
    """
    if label is not None and (not isinstance(label, str) or not label or not label.isprintable()):
        raise ValueError(f"{caller}: progress must be a text of one line, such as 'parsing', not {label!r}")


def count_calls(iterables: Iterable[Any]) -> int | None:
    """Return how many calls a batch will make; None if the length of an iterable is not known beforehand.

    Only collections that have their items at hand, and arrays, are asked: ``len`` of a query would run it.
    """
    lengths = []
    for each in iterables:
        if not isinstance(each, _COUNTED) and not hasattr(type(each), "__array__"):
            return None
        try:
            lengths.append(len(each))
        except OverflowError:  # a range that is longer than any list
            continue
        except Exception:  # code of users, or an array of no dimension
            return None
    return min(lengths, default=None)


def _terminal() -> TextIO | None:
    """Return standard error if it is a terminal; None in a simulated run, of which a sweep makes hundreds."""
    if harness_overrides.get().get("progress") is False:
        return None
    stream: TextIO | None = sys.stderr  # None without a console, as under pythonw
    try:
        return stream if stream is not None and stream.isatty() else None
    except (AttributeError, OSError, ValueError):  # it was replaced, is closed, or the terminal is gone
        return None


class BatchProgress(BatchCount):
    """Shows how many calls of a batch have ended, and how many of these have failed.

    In a terminal it is one line of standard error. It leaves the cursor at the beginning of that line, so that a log
    record which comes meanwhile is written over it. Where the session is shown while it runs, only the final count is
    left to show.

    Args:
        label: What the batch does.
        total: How many calls it makes; None if that is not known.
        limit: How many of them run at once, at most; None if there is no limit.
        log: The log of the session.
        clock: Returns monotonic seconds.
        is_shown: Whether the session is shown while it runs.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        limit: int | None,
        log: SessionLog,
        clock: Callable[[], float],
        is_shown: bool,
    ) -> None:
        super().__init__(label, total, limit)
        self._log = log
        self._clock = clock
        self._is_shown = is_shown
        self._began = clock()
        self._terminal = _terminal()
        self._shown_at = -math.inf if self._terminal is not None else self._began
        self._width = 0  # of the line in the terminal

    def advance(self, has_failed: bool) -> None:
        """Count a call that has ended."""
        super().advance(has_failed)
        if self._is_shown:
            return
        now = self._clock()
        if now - self._shown_at >= (RELOG if self._terminal is None else REDRAW):
            self._shown_at = now
            self._show(self.text(self.label), "\r")

    def end(self) -> None:
        """Show the final count. Call it once, however the batch has ended."""
        self._show(f"{self.text(self.label)}, in {self._clock() - self._began:.1f} s", "\n")

    def _show(self, text: str, end: str) -> None:
        if self._terminal is not None:
            try:
                self._terminal.write(f"{text.ljust(self._width)}{end}")
                self._terminal.flush()
            except (OSError, ValueError):  # the terminal is gone; the batch goes on
                self._terminal = None
            else:
                self._width = len(text)
                return
        self._log.log(logging.INFO, "%s", text)
