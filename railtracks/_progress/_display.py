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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any
from weakref import WeakKeyDictionary

from railtracks._concurrency._after_fork import after_fork
from railtracks._logging import SESSION, SessionLog
from railtracks._progress._picture import Painter, picture, shown_views
from railtracks._progress._region import Region, is_same_terminal, is_terminal, terminal_size
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
        self.reset()
        # A daemon thread that is writing when the interpreter ends would crash it.
        atexit.register(self.close)

    def reset(self) -> None:
        """Forget sessions and thread, as is right in a forked child."""
        region: Region | None = getattr(self, "_region", None)
        if region is not None:
            region.restore()
        self._lock = threading.RLock()  # a finalizer may leave a session while it is held
        self._views: WeakKeyDictionary[SessionView, None] = WeakKeyDictionary()  # a session may never be left
        self._thread: threading.Thread | None = None
        self._ending: dict[threading.Thread, None] = {}  # those that are to end, until they were waited for
        self._must_end = threading.Event()
        self._region: Region | None = None

    @property
    def is_live(self) -> bool:
        """Whether lines of a terminal are drawn again and again, so that nothing else should do that."""
        return self._region is not None

    def add(self, view: SessionView) -> None:
        """Show a session from now on.

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
        self._region = self._open_region()
        run = self._draw_lines if self._region is None else self._draw_pictures
        thread = threading.Thread(target=self._run, args=(run, must_end), name="railtracks-progress", daemon=True)
        thread.start()
        self._thread = thread

    def remove(self, view: SessionView) -> None:
        """Stop showing a session. When it was the last, wait until the thread has ended. Idempotent.

        Ctrl-C may tear it apart, also while it waits; it can be called again then.
        """
        failure = None
        with self._lock:
            if view in self._views and view.has_summary and self._has_summaries:
                view.has_summary = False  # if Ctrl-C has this done again
                try:
                    self._print(view.summary())
                except Exception as exc:  # the terminal is gone, or is an object that raises anything
                    failure = exc
            self._views.pop(view, None)
            if not self._views:
                self._end_thread()
        if failure is not None:
            log_failure(view.log, failure)
        self._join_ending()

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
        self._join_ending()

    def after_input(self) -> None:
        """Note that a person has answered in the terminal, and so the cursor is at the beginning of a line."""
        region = self._region
        if region is not None:
            region.continue_after_input()

    def _end_thread(self) -> None:
        """Have the thread end. The terminal is as it was before. Idempotent."""
        if self._thread is not None:
            self._ending[self._thread] = None
            self._thread = None
        self._must_end.set()
        self._close_region()

    def _join_ending(self) -> None:
        """Wait until the threads that are to end have done so, unless this is one of them."""
        for thread in list(self._ending):
            if thread is not threading.current_thread():
                thread.join()
                self._ending.pop(thread, None)

    # ---- the terminal

    def _open_region(self) -> Region | None:
        """Return the lines of the terminal to draw in; None if plain lines are to be written."""
        stream = sys.stderr
        if not is_terminal(stream):
            return None
        if find_spec("rich") is None:
            if not self._has_advised:
                self._has_advised = True
                with suppress(OSError, ValueError):  # the terminal is gone
                    _write_line(_NO_RICH)
            return None
        others = [sys.stdout] if sys.stdout is not stream and is_same_terminal(sys.stdout, stream) else []
        return Region(stream, others, self._lock)

    def _close_region(self) -> None:
        region, self._region = self._region, None
        if region is not None:
            try:
                region.end()
            except Exception:  # the terminal is gone, and there is nothing left to erase
                region.restore()

    def _print(self, text: str) -> None:
        line = f"{PREFIX}: {text}"
        if self._region is not None:
            self._region.print(line)
        else:
            _write_line(line)

    def _give_up(self, exc: BaseException) -> None:
        """Show nothing any more, and log why."""
        with self._lock:
            view = next(iter(self._views), None)
            self._views.clear()
            self._end_thread()
        if view is not None:
            log_failure(view.log, exc)

    # ---- the thread

    def _run(self, run: Callable[[threading.Event], None], must_end: threading.Event) -> None:
        try:
            run(must_end)
        except Exception as exc:  # the terminal is gone, or a value cannot be shown: the sessions go on
            if not must_end.is_set():
                self._give_up(exc)

    def _open_views(self) -> list[SessionView]:
        """Return what is to be shown. If that is nothing, as sessions were freed that nobody has left, end the thread.

        The caller must not keep them until the next picture: they, and their sessions, could not be freed.
        """
        with self._lock:
            views = list(self._views)
            if not views:
                self._end_thread()
            return views

    def _draw_pictures(self, must_end: threading.Event) -> None:
        painter: Painter | None = None
        pause = REDRAW
        while not must_end.wait(pause):
            region = self._region
            if region is None:  # it was closed just now
                return
            if painter is None:
                # It imports rich, which takes 20 ms or more. In this thread that keeps the event loop from its next
                # turn for 5 ms at most, as the interpreter changes between threads.
                painter = Painter(region.stream)
                if painter.is_legacy:
                    self._close_region()
                    self._draw_lines(must_end)
                    return
            began = time.thread_time()
            self._draw_picture(region, painter, must_end)
            pause = min(SLOWEST, max(REDRAW, SHARE * (time.thread_time() - began)))

    def _draw_picture(self, region: Region, painter: Painter, must_end: threading.Event) -> None:
        columns, height = terminal_size(region.stream)
        height -= 1  # the cursor is in the line below
        views = self._open_views()
        for view in shown_views(views, height):
            view.update(must_end.is_set)
        if not must_end.is_set():
            lines = picture(views, height, time.monotonic())
            region.show([painter.paint(line, columns) for line in lines], columns)

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
                self._print(text)


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
