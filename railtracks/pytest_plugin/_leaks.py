"""Detection of what a test leaves behind: sessions, tasks and threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LATEST = 12
"""Sessions of a test that are kept for its report. More than are shown, because some may have no calls."""


class LeakDetector:
    """The sessions of one test, and what the test leaves behind; an ``Observer`` of all sessions that it opens.

    Attributes:
        latest: The sessions that were opened last.
        outcome: The outcome of the last run of ``simulate``, if there was one.
    """

    observes_calls = False

    def __init__(self) -> None:
        self.latest: deque[Any] = deque(maxlen=LATEST)
        self.outcome: Any = None
        self._open: dict[Any, None] = {}
        self._tasks: dict[Any, str] = {}  # those that were left when an event loop ended, and where they wait
        self._threads = set(threading.enumerate())

    def on_session_opened(self, session: Any) -> None:
        """Note that the test opened a session."""
        self.latest.append(session)
        self._open[session] = None

    def on_session_closed(self, session: Any) -> None:
        """Note that the test closed a session."""
        self._open.pop(session, None)

    def on_outcome(self, outcome: Any) -> None:
        """Note how a run of ``simulate`` has ended."""
        self.outcome = outcome

    def on_event(self, event: Any) -> None:
        """Never called, because ``observes_calls`` is False."""
        raise AssertionError("observes_calls is False")

    def on_call_refused(self, session_id: str, record: Any, name: str, handled: BaseException | None) -> None:
        """Never called, because ``observes_calls`` is False."""
        raise AssertionError("observes_calls is False")

    def on_callback_error(self, name: str, exc: BaseException) -> None:
        """Never called, because ``observes_calls`` is False."""
        raise AssertionError("observes_calls is False")

    def on_context_change(self, session_id: str, record: Any, key: Any, value: Any, deleted: bool) -> None:
        """Never called, because ``observes_calls`` is False."""
        raise AssertionError("observes_calls is False")

    def on_context_read(self, session_id: str, record: Any, key: Any, value: Any, missing: bool) -> None:
        """Never called, because ``observes_calls`` is False."""
        raise AssertionError("observes_calls is False")

    def add_tasks(self, tasks: dict[Any, Any]) -> None:
        """Note that these tasks were left.

        Args:
            tasks: The tasks, each with its coroutine.
        """
        from railtracks.testing._virtual_time._tasks import describe

        new = {task: coroutine for task, coroutine in tasks.items() if task not in self._tasks}
        self._tasks.update({task: describe(coroutine) for task, coroutine in new.items()})

    def leaks(self) -> list[str]:
        """Return the names of what is left."""
        from railtracks.testing._virtual_time._thread_kinds import threads_left

        found = [f"the session {session.identifier}" for session in self._open]
        found += [f"a task that waits in {place}" for place in sorted(self._tasks.values())]
        return found + threads_left(self._threads)


@contextmanager
def report_cancelled_tasks(detector: LeakDetector) -> Iterator[None]:
    """Add to ``detector`` the tasks that an asyncio event loop cancels when it ends inside the block."""
    from asyncio import all_tasks, runners

    cancel_all: Callable[[Any], None] = runners._cancel_all_tasks  # type: ignore[attr-defined]

    def report_and_cancel(loop: Any) -> None:
        detector.add_tasks({task: task.get_coro() for task in all_tasks(loop)})
        cancel_all(loop)

    runners._cancel_all_tasks = report_and_cancel  # type: ignore[attr-defined]
    try:
        yield
    finally:
        runners._cancel_all_tasks = cancel_all  # type: ignore[attr-defined]
