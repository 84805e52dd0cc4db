"""Terminals that tests can read, and sessions that are shown without running."""

from __future__ import annotations

import io
import signal
import threading
from typing import Any

import attrs
import pyte

from railtracks._logging import SessionLog
from railtracks._options import ExecutorConfig
from railtracks._progress._display import display
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._transitions import RTState

PATIENCE = 10.0


class Stream(io.StringIO):
    """Standard error, whose text can be waited for."""

    def __init__(self, is_terminal: bool = True) -> None:
        super().__init__()
        self._is_terminal = is_terminal
        self._changed = threading.Condition()

    encoding = "utf-8"

    def isatty(self) -> bool:
        return not super().isatty() and self._is_terminal  # which raises if it is closed

    def write(self, text: str) -> int:
        with self._changed:
            written = super().write(text)
            self._changed.notify_all()
        return written

    def wait_for(self, text: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.getvalue(), PATIENCE), self.getvalue()

    @property
    def lines(self) -> list[str]:
        """What is on the screen at the end, and above it."""
        return shown(self.getvalue())


def screen_of(text: str, columns: int = 80, rows: int = 24) -> Any:
    """Return a terminal after some text was written to it."""
    screen: Any = pyte.HistoryScreen(columns, rows, history=100_000)
    pyte.Stream(screen).feed(text.replace("\n", "\r\n"))
    return screen


def shown(text: str, columns: int = 80, rows: int = 24) -> list[str]:
    """Return the lines that a terminal shows, with what it has scrolled away, after some text was written to it."""
    screen = screen_of(text, columns, rows)
    return lines_of(screen)


def lines_of(screen: Any) -> list[str]:
    """Return the lines that a terminal shows, with what it has scrolled away."""
    above = ["".join(row[column].data for column in range(screen.columns)) for row in screen.history.top]
    lines = [line.rstrip() for line in (*above, *screen.display)]
    while lines and not lines[-1]:
        lines.pop()
    return lines


@attrs.define(eq=False)
class CallLog:
    ends: dict[Any, int] = attrs.field(factory=dict)
    reused: int = 0
    retried: int = 0
    cached: int = 0


@attrs.define(eq=False)
class Threads:
    awaited: dict[str, int] = attrs.field(factory=dict)


@attrs.define(eq=False)
class FakeSession:
    """A coordinator, as far as it is shown."""

    session_id: str = "my-session"
    config: ExecutorConfig = attrs.field(factory=ExecutorConfig)
    log: SessionLog = attrs.field(factory=lambda: SessionLog("QUIET", None, "my-session", lambda: 0.0))
    state: RTState = attrs.field(factory=RTState)
    redactor: Redactor = attrs.field(factory=Redactor)
    call_log: CallLog = attrs.field(factory=CallLog)
    threads: Threads = attrs.field(factory=Threads)
    time: float = 100.0

    def now(self) -> float:
        return self.time


def progress_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "railtracks-progress"]


def assert_nothing_is_left(*streams: Any) -> None:
    """Check that no session is shown, and that nothing is left of what showed it."""
    assert not progress_threads()
    assert not display._views
    assert display._region is None
    assert not display._closing
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not [stream for stream in streams if screen_of(stream.getvalue()).margins is not None]
