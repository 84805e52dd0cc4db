"""Shows the sessions of this process that are to be shown: one display for all of them.

A thread of its own draws, a few times a second, because it may block: a terminal can be stopped. It takes the time that
it needs from the event loop, as both need the interpreter, so it is idle for a hundred times as long as it has worked.
All that is done in other threads is to write a line, and to have the thread end; it has ended when the last session is
removed.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

from railtracks._concurrency._after_fork import after_fork
from railtracks._concurrency._termination import Restoring
from railtracks._logging import SESSION, SessionLog
from railtracks._progress._picture import Painter, picture, shown_views
from railtracks._progress._region import Region, drawable_rows, is_terminal, terminal_size
from railtracks._progress._view import SessionView

REDRAW = 0.125
"""Seconds between two pictures, at least."""
SLOWEST = 1.0
"""Seconds between two pictures, at most."""
SHARE = 100
"""By how much the time between two pictures is longer than what a picture takes of the processor."""
PLAIN = 5.0
"""Seconds between two lines where there is no terminal."""
PREFIX = "RT progress"
_NO_RICH = f"{PREFIX}: to see a tree of what runs, install rich: python -m pip install rich"


class Display:
    """Shows sessions. There is one for each process."""

    def __init__(self) -> None:
        self._has_summaries = True
        self._has_advised = False  # to install rich
        self._region: Region | None = None
        self._restoring = Restoring(self._restore_terminal)
        self.reset()
        # A daemon thread that is writing when the interpreter ends would crash it.
        atexit.register(self.close)

    def reset(self) -> None:
        """Forget sessions and thread, as is right in a forked child. The terminal is left to the parent."""
        if self._region is not None:
            self._region.abandon()
        self._lock = threading.RLock()  # a finalizer may leave a session while it is held; nothing is written meanwhile
        self._views: WeakKeyDictionary[SessionView, None] = WeakKeyDictionary()  # a session may never be left
        self._thread: threading.Thread | None = None
        self._ending: dict[threading.Thread, None] = {}  # those that are to end, until they were waited for
        self._must_end = threading.Event()
        self._region = None
        self._closing: dict[Region, None] = {}  # those that are to end, until they have

    def add(self, view: SessionView) -> None:
        """Show a session from now on. It does not wait for the terminal.

        Raises:
            Exception: standard error is an object that raised it, or no thread can be started. Nothing is left then.
        """
        with self._lock:
            self._views[view] = None
            if self._thread is not None:
                return
            try:
                self._start_thread()
            except BaseException:
                self._views.clear()
                self._end_thread()
                raise

    def _start_thread(self) -> None:
        self._must_end = must_end = threading.Event()
        region = Region(sys.stderr) if is_terminal(sys.stderr) else None
        must_advise = region is not None and find_spec("rich") is None
        if must_advise:
            region = None
        thread = threading.Thread(
            target=self._run, args=(region, must_advise, must_end), name="railtracks-progress", daemon=True
        )
        thread.start()
        self._thread, self._region = thread, region
        if region is not None:
            self._restoring.begin()

    def remove(self, view: SessionView) -> None:
        """Stop showing a session. When it was the last, wait until the thread has ended. Idempotent.

        Ctrl-C may tear it apart, also while it waits; it can be called again then.
        """
        failure, line = None, ""
        with self._lock:
            if view in self._views and view.has_summary and self._has_summaries:
                view.has_summary = False
                try:
                    line = view.summary()
                except Exception as exc:  # a text of a user cannot be shown
                    failure = exc
            self._views.pop(view, None)
            region = self._region
            if not self._views:
                self._end_thread()
        self._end_regions()
        self._join_ending()
        if line:
            try:
                self._print(line, region)
            except Exception as exc:  # the terminal is gone, or is an object that raises anything
                failure = exc
        if failure is not None:
            log_failure(view.log, failure)

    @contextmanager
    def no_summaries(self) -> Iterator[None]:
        """Leave no line of sessions that end in the context, as more of them is printed."""
        before, self._has_summaries = self._has_summaries, False
        try:
            yield
        finally:
            self._has_summaries = before

    def close(self) -> None:
        """Show nothing any more, whatever sessions are open. Wait until the thread has ended."""
        with self._lock:
            self._views.clear()
            self._end_thread()
        self._end_regions()
        self._join_ending()

    def _end_thread(self) -> None:
        """Have the thread end, and note the region that is to end. Idempotent."""
        if self._region is not None:
            self._closing[self._region] = None
            self._region = None
        if self._thread is not None:
            self._ending[self._thread] = None
            self._thread = None
        self._must_end.set()

    def _join_ending(self) -> None:
        """Wait until the threads that are to end have done so, unless this is one of them."""
        for thread in list(self._ending):
            if thread is not threading.current_thread():
                thread.join()
                self._ending.pop(thread, None)

    # ---- the terminal

    def _end_regions(self) -> None:
        """Leave the terminal as it was before. It waits for a terminal that is stopped."""
        for region in list(self._closing):
            try:
                region.end()
            except Exception:  # the terminal is gone, and there is nothing left to erase
                region.abandon()
            self._closing.pop(region, None)
        if self._region is None:
            self._restoring.end()

    def _restore_terminal(self) -> None:
        """Leave the terminal as it was before, as SIGTERM ends the process."""
        for region in (self._region, *self._closing):
            if region is not None:
                with suppress(Exception):  # the terminal is gone
                    region.end_at_once()

    def _print(self, text: str, region: Region | None) -> None:
        line = f"{PREFIX}: {text}"
        if region is not None:
            region.print(line)
        else:
            _write_line(line)

    def _give_up(self, exc: BaseException) -> None:
        """Show nothing any more, and log why."""
        with self._lock:
            view = next(iter(self._views), None)
            self._views.clear()
            self._end_thread()
        self._end_regions()
        if view is not None:
            log_failure(view.log, exc)

    # ---- the thread

    def _run(self, region: Region | None, must_advise: bool, must_end: threading.Event) -> None:
        try:
            if must_advise:
                self._advise()
            if region is None:
                self._draw_lines(must_end)
            else:
                self._draw_pictures(region, must_end)
        except Exception as exc:  # the terminal is gone, or a value cannot be shown: the sessions go on
            if not must_end.is_set():
                self._give_up(exc)

    def _advise(self) -> None:
        if not self._has_advised:
            self._has_advised = True
            _write_line(_NO_RICH)

    def _open_views(self) -> list[SessionView]:
        """Return what is to be shown. If that is nothing, as sessions were freed that nobody has left, end the thread.

        The caller must not keep them until the next picture: they, and their sessions, could not be freed.
        """
        with self._lock:
            views = list(self._views)
            if not views:
                self._end_thread()
        if not views:
            self._end_regions()
        return views

    def _draw_pictures(self, region: Region, must_end: threading.Event) -> None:
        pause = REDRAW
        if must_end.wait(pause):
            return
        # It imports rich, which takes 20 ms or more. In this thread that keeps the event loop from its next turn for
        # 5 ms at most, as the interpreter changes between threads.
        painter = Painter(region.stream)
        if painter.is_legacy or not drawable_rows(*terminal_size(region.stream)) or not region.claim():
            with self._lock:
                if self._region is region:
                    self._region = None
            self._restoring.end()
            self._draw_lines(must_end)
            return
        while not must_end.is_set():
            began = time.thread_time()
            self._draw_picture(region, painter, must_end)
            pause = min(SLOWEST, max(REDRAW, SHARE * (time.thread_time() - began)))
            must_end.wait(pause)

    def _draw_picture(self, region: Region, painter: Painter, must_end: threading.Event) -> None:
        columns, rows = terminal_size(region.stream)
        height = drawable_rows(columns, rows)
        views = self._open_views()
        for view in shown_views(views, height):
            view.update(must_end.is_set)
        if not must_end.is_set():
            lines = picture(views, height, time.monotonic())
            region.show([painter.paint(line, columns) for line in lines], columns, rows)

    def _draw_lines(self, must_end: threading.Event) -> None:
        written: WeakKeyDictionary[SessionView, str] = WeakKeyDictionary()
        while not must_end.wait(PLAIN):
            self._write_sentences(written)

    def _write_sentences(self, written: WeakKeyDictionary[SessionView, str]) -> None:
        """Write a line for each session in which something has happened. ``written`` has what was written last."""
        for view in self._open_views():
            text, facts = view.sentence(time.monotonic())
            if written.get(view) != facts:
                written[view] = facts
                self._print(text, None)


def log_failure(log: SessionLog, exc: BaseException) -> None:
    """Log why nothing is shown."""
    text = "the progress of sessions cannot be shown: %r; the sessions go on. progress=False turns it off"
    log.log(logging.WARNING, text, exc, logger=SESSION)


def _write_line(line: str) -> None:
    stream: Any = sys.stderr  # None without a console, as under pythonw
    if stream is not None:
        encoding = getattr(stream, "encoding", None) or "utf-8"
        stream.write(f"{line.encode(encoding, 'backslashreplace').decode(encoding)}\n")
        stream.flush()


display = Display()
after_fork(display.reset)
