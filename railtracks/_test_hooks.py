"""What a test harness can replace in the runtime, and what the runtime notifies it of.

A session reads ``runtime_hooks``, ``harness_options`` and ``harness_overrides`` once, when it is constructed; work in a
worker thread reads ``runtime_hooks`` when it is queued. So a harness sets them around the code that it runs, and resets
them afterwards::

    token = runtime_hooks.set(RuntimeHooks(clock=..., observer=...))

Outside of tests nothing is set, and every hook costs one comparison with None. ``railtracks._test_probe`` is the other
direction: what the harness asks of the runtime. ``railtracks.testing`` uses these two modules and public names only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import attrs

if TYPE_CHECKING:
    from anyio import CapacityLimiter


def _random_id() -> str:
    return os.urandom(12).hex()


class Observer(Protocol):
    """Receives what happens in sessions, synchronously: the session continues when the method has returned.

    The methods must be quick and must not raise.
    """

    observes_calls: bool
    """Whether it wants events, refused calls, errors of subscribers, and reads and changes of the context as well, or
    only sessions."""

    def on_session_opened(self, session: Any) -> None:
        """Handle that a session (``rt.Session``) was entered."""

    def on_session_closed(self, session: Any) -> None:
        """Handle that a session was left, or could not be entered."""

    def on_event(self, event: Any) -> None:
        """Handle an event (``rt.state.Event``) of a session, before any subscriber has it."""

    def on_call_refused(self, session_id: str, record: Any, name: str, handled: BaseException | None) -> None:
        """Handle that a call was cancelled before it began, so that it has no record.

        Args:
            session_id: The identifier of the session.
            record: The record of the call that made it.
            name: The name of the node that was to be called.
            handled: The exception that the caller was handling in an ``except`` or ``finally`` block, if any.
        """

    def on_callback_error(self, name: str, exc: BaseException) -> None:
        """Handle that a subscriber of this name has raised, which is otherwise only logged."""

    def on_context_change(self, session_id: str, record: Any, key: Any, value: Any, deleted: bool) -> None:
        """Handle a change of the context of a session. Called in any thread.

        Args:
            session_id: The identifier of the session.
            record: The record of the call that made the change; None outside of calls.
            key: The key.
            value: The new value; meaningless if ``deleted``.
            deleted: Whether the key was deleted.
        """

    def on_context_read(self, session_id: str, record: Any, key: Any, value: Any, missing: bool) -> None:
        """Handle that code read a key of the context of a session. Called in any thread.

        Args:
            session_id: The identifier of the session.
            record: The record of the call that read it; None outside of calls.
            key: The key.
            value: What it read; meaningless if ``missing``.
            missing: Whether there was no such key.
        """


class ThreadScheduler(Protocol):
    """Decides when work in worker threads may continue, and knows which work there is.

    A piece of work is queued, waits for its turn, runs, and finishes. While it runs it may be suspended any number of
    times; after that it is queued again. All methods can be called in any thread.
    """

    def on_queued(self, work: object) -> None:
        """Handle that a piece of work is ready to begin, or to continue."""

    def wait_turn(self, work: object) -> None:
        """Block the calling thread, which runs ``work``, until the work may continue."""

    def on_suspended(self, work: object) -> None:
        """Handle that ``work`` waits for something that it asked of the event loop."""

    def wait_for_loop(self, is_over: Callable[[], bool]) -> None:
        """Block the calling thread, which asked something of the event loop, until it may continue.

        Returns at once, or earlier, for a thread that does no work, or whose work is suspended.

        Args:
            is_over: Whether the event loop has answered; cheap, and called in any thread.
        """

    def on_finished(self, work: object) -> None:
        """Handle that ``work`` has ended, and its waiter has the result or is gone."""

    def limiter(self, given: CapacityLimiter | None, admit: Callable[[], None]) -> CapacityLimiter | None:
        """Return the limiter to use for a piece of work.

        Args:
            given: The limiter that it would have; None for the default of the backend.
            admit: To be called when the limiter has let the work through, if a thread is then certain to begin it even
                after its waiter has gone.
        """


@attrs.frozen(eq=False)
class RuntimeHooks:
    """The clocks and the identifiers of a session, and what a harness puts around its calls."""

    clock: Callable[[], float] = time.perf_counter
    """Monotonic seconds, from any origin; read twice per call."""

    wall: Callable[[], float] = time.time
    """Seconds since the epoch; read once per session."""

    processor_clock: Callable[[], float] | None = time.process_time
    """Seconds of processor time; read twice per session. None: what the process uses is not recorded."""

    new_id: Callable[[], str] = _random_id
    """Returns a new identifier that is safe as a file name."""

    random_bytes: Callable[[int], bytes] = os.urandom
    """Returns that many random bytes, for the values that nodes ask for."""

    jitter: Callable[[float], float] | None = None
    """Returns up to that many seconds, which are added to the wait before a call is tried again. None: by chance."""

    observer: Observer | None = None
    """Receives what happens; None: nothing is notified."""

    wrap_strategy: Callable[[Any], Any] | None = None
    """Called with each ``ExecutionStrategy`` of a session; returns the strategy to use in its place."""

    hold_clock: Callable[[], AbstractContextManager[object]] | None = None
    """Entered while work is under way elsewhere that the event loop does not know of: in other processes, and in
    threads of others. May be left in another thread."""

    thread_scheduler: ThreadScheduler | None = None
    """The scheduler of worker threads; read for each piece of work."""

    run_loop: Callable[..., Any] | None = None
    """Runs an async function as ``anyio.run`` does, in a worker that a harness simulates in a thread; None elsewhere.
    Work for a worker keeps the hooks of its thread only if they have this."""


runtime_hooks: ContextVar[RuntimeHooks] = ContextVar("railtracks_runtime_hooks", default=RuntimeHooks())  # noqa: B039 (frozen)
"""The hooks of sessions and worker threads that are started here."""

harness_options: ContextVar[Mapping[str, Any]] = ContextVar("railtracks_harness_options", default=MappingProxyType({}))
"""Options for all sessions that are constructed here. Arguments of a session override them; they override the rest."""

harness_overrides: ContextVar[Mapping[str, Any]] = ContextVar("railtracks_overrides", default=MappingProxyType({}))
"""Options for all sessions that are constructed here. They override everything, also the arguments of a session."""

outcome_observer: ContextVar[Callable[[Any], None] | None] = ContextVar("railtracks_outcome_observer", default=None)
"""Called with the outcome of each run that ``railtracks.testing.simulate`` makes here; None: with none."""
