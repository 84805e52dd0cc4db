"""The life of a session: how it is entered, how it begins, how it is left, and how it ends."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from railtracks._concurrency._after_fork import end_forked_child, fork_count
from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._interrupts import DeferredInterrupts
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._loop_interrupts import loop_interrupts
from railtracks._concurrency._termination import Termination, leave_out_library_frames
from railtracks._concurrency._threads import run_in_thread
from railtracks._context_variable import current
from railtracks._logging import SessionLog
from railtracks._session._leaving import LEFT_ELSEWHERE, check_leaving
from railtracks._session._loop_thread import LoopThread
from railtracks._session._nursery import SessionNursery
from railtracks._session._showing import hide, show
from railtracks._session._steps import run_steps
from railtracks._session._storage import SessionStorage
from railtracks._session._summary import is_cancelled_from_outside, log_summary, peak_memory_bytes, run_payload_callback
from railtracks._session._tracing import abort_spans, begin_spans, close_spans, enter_spans, leave_spans, note_failure
from railtracks._test_hooks import RuntimeHooks
from railtracks.exceptions import SessionError
from railtracks.execution import Coordinator, Frame, running_library
from railtracks.execution._call_ends import end_open_records
from railtracks.execution._lifecycle import Operation, Phase
from railtracks.state._serialization._secret_search import register_secrets

if TYPE_CHECKING:
    from railtracks._resume._source import ResumeSource


open_sessions: set[int] = set()
"""The identities of the open sessions of this process that users have opened."""


class SessionLife(SessionStorage):
    """What enters and leaves a session; the base of ``Session``, which users see.

    Args:
        coordinator: Runs the calls of the session.
        log: Its log.
        hooks: Its clocks, identifiers and observer.
        name: Its name, if it has one.
        resume_source: The run that it resumes, if it does.
        payload_callback: Called with ``payload()`` when the session has ended; None for nothing.
    """

    __slots__ = (
        "__weakref__", "_end_time", "_flow_name", "_forks", "_form", "_interrupts", "_is_implicit", "_is_interrupted",
        "_is_reported", "_lifecycle", "_loop_thread", "_nursery", "_payload_callback", "_peak_memory_bytes",
        "_processor_seconds", "_processor_start", "_start_time", "_termination", "_token",
    )  # fmt: skip

    def __init__(
        self,
        coordinator: Coordinator,
        log: SessionLog,
        hooks: RuntimeHooks,
        name: str | None,
        resume_source: ResumeSource | None,
        payload_callback: Callable[[dict[str, Any]], Any] | None,
    ) -> None:
        super().__init__(coordinator, log, hooks, name, resume_source)
        self._flow_name: str | None = None  # if it is a run of a flow
        self._payload_callback = payload_callback
        self._lifecycle = coordinator.lifecycle
        self._start_time: float | None = None
        self._end_time: float | None = None
        self._processor_seconds: float | None = None  # once it has ended
        self._peak_memory_bytes: int | None = None  # likewise
        self._processor_start: float | None = None  # on the clock of the process
        self._token: Token[Any] | None = None  # restores the context variable
        self._nursery: SessionNursery | None = None  # with `async with`, or once the loop thread runs
        self._loop_thread: LoopThread | None = None
        self._form = ""  # once it is entered: "with" or "async with"
        self._termination: Termination | None = None  # with a plain `with` in synchronous code
        self._forks = 0
        self._interrupts = 0  # the signals that had come before it began
        self._is_interrupted = False  # once it has ended: a signal has ended it
        self._is_reported = False  # the observer knows of the end
        self._is_implicit: bool = False  # opened by the library around one call

    # ---- async with

    async def __aenter__(self) -> Self:
        self._lifecycle.require(Operation.ENTER, f"the session {self.identifier}")
        loop_interrupts.acquire(self)
        try:
            around = self._note_surroundings()
            if self._config.store is None:
                self._acquire(around)
            else:
                await self._acquire_in_time(around)
            self._begin("async with")
            if self._stored_run is not None:
                if self._stored_run.starts_quickly:
                    self._start_recording()
                else:
                    await run_in_thread(self._start_recording)
            self._show()  # it may raise, and a nursery that is open would have to be closed
            self._nursery = nursery = SessionNursery(self._coordinator, self._log)
            await nursery.open()
        except BaseException as exc:  # no run to resume, a cancellation, or no event loop that anyio knows
            self._abort(exc)
            raise
        self._lifecycle.advance(Phase.OPEN)
        self._token = current.set(nursery.frame)
        enter_spans(self._coordinator)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._forks != fork_count():
            end_forked_child(exc)  # it cannot go on in async code: the event loop is its parent's
        interrupt = self._begin_leaving("async with", exc)
        misuse: str | None = None
        nursery, loop = self._nursery, self._coordinator.loop
        assert nursery is not None
        try:
            if loop.task_here is nursery.task:
                await nursery.close(exc, self._finalize)
            else:
                misuse = LEFT_ELSEWHERE.format(self.identifier)
                if loop.is_current and not is_kind(exc, GeneratorExit):
                    await nursery.close_elsewhere(self._finalize)
                else:  # nothing can be waited for: another event loop runs, or the coroutine is being closed
                    self._close_without_waiting(loop_runs=loop.is_current)
        finally:
            self._end()
        if interrupt is not None:
            raise interrupt
        if misuse is not None:
            raise SessionError(misuse)
        self._raise_write_error(exc)
        self._shorten_traceback(exc)

    # ---- with

    def __enter__(self) -> Self:
        self._lifecycle.require(Operation.ENTER, f"the session {self.identifier}")
        loop_interrupts.acquire(self)
        try:
            with DeferredInterrupts():
                self._acquire(self._note_surroundings())
                self._begin("with")
                self._start_recording()
                self._show()
                if running_library() is None:
                    self._coordinator.loop.start = self._start_loop
                    self._termination = Termination()
                    self._termination.begin()
                self._lifecycle.advance(Phase.OPEN)
                self._token = current.set(Frame(self._coordinator))
                enter_spans(self._coordinator)
        except BaseException as exc:
            self._abort(exc)
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._forks != fork_count():
                self._leave_in_forked_child(exc)
                return
            check_leaving(self._coordinator, self._form, "with", exc)
            self._record_body_outcome(exc)
            self._close(exc)
        except KeyboardInterrupt as interrupt:
            if self._forks == fork_count():
                self._close(exc)  # once more: it may have been torn apart
                self._end_termination(interrupt)
            raise
        self._shorten_traceback(exc)
        self._end_termination(exc)
        self._raise_write_error(exc)

    # ---- the beginning

    def _note_surroundings(self) -> Frame | None:
        """Note the call that the session is opened in, if it is, and return the frame of that code."""
        around: Frame | None = current.get()
        if around is not None and around.record is not None:
            self._coordinator.call_log.outer = around.coordinator.call_log, around.record.index
        return around

    def _begin(self, form: str) -> None:
        self._log.open()
        if not self._is_implicit:
            open_sessions.add(id(self))
        self._lifecycle.advance(Phase.ENTERING)
        self._form = form
        self._forks = fork_count()
        self._interrupts = loop_interrupts.count
        self._start_time = self._now()
        self._processor_start = None if self._hooks.processor_clock is None else self._hooks.processor_clock()
        if self._coordinator.context:
            register_secrets(self._coordinator.context, self._coordinator.redactor)
        if self._config.tracing:
            begin_spans(self._coordinator, self.info)
        if self._hooks.observer is not None:
            self._hooks.observer.on_session_opened(self)

    def _show(self) -> None:
        if self._config.progress and not self._is_implicit:
            show(self._coordinator, self._hooks, self.name, self._flow_name)

    def _start_loop(self) -> None:
        """Start the event loop of the synchronous form, and wait until it runs. Called in the thread that needs it."""
        if self._loop_thread is None:
            self._nursery = SessionNursery(self._coordinator, self._log)
            self._loop_thread = LoopThread(self._config.backend, self._nursery, self._finalize)
        self._loop_thread.open()

    def _abort(self, exc: BaseException) -> None:
        """Clean up after the session could not be entered. One whose log file cannot be opened can be entered later.

        Args:
            exc: What was raised instead.
        """
        has_begun = self._lifecycle.phase is not Phase.NEW
        if has_begun:
            self._lifecycle.advance(Phase.OVER)
        closed = (functools.partial(abort_spans, self._coordinator, exc), self._notify_closed) if has_begun else ()
        restored = () if self._termination is None else (self._termination.restore,)
        hidden = functools.partial(hide, self._coordinator, has_begun=False)
        steps = hidden, self._release_run, self._log.close, *closed, self._coordinator.unbind, self._restore, *restored
        run_steps(*steps)

    # ---- leaving

    def _begin_leaving(self, form: str, exc: BaseException | None) -> BaseException | None:
        """Check that the session is left now, and note how its body has ended.

        Returns:
            A Ctrl-C that came meanwhile. It must not keep the session from being ended.
        """
        try:
            check_leaving(self._coordinator, self._form, form, exc)
            self._record_body_outcome(exc)
        except KeyboardInterrupt as interrupt:
            return interrupt
        return None

    def _record_body_outcome(self, exc: BaseException | None) -> None:
        note_failure(self._coordinator, exc)
        if self._coordinator.recorder is not None:
            self._coordinator.recorder.body_succeeded = exc is None
        self._is_discarded = is_kind(exc, GeneratorExit)
        if is_kind(exc, KeyboardInterrupt):  # in synchronous code nothing else shows it
            self._interrupts = -1
        if exc is not None and self._outer_call is not None:
            self._outer_call.note_failure(exc)
        self._outer_call = None  # of which nothing is kept

    def _shorten_traceback(self, exc: BaseException | None) -> None:
        """Remove library frames from the traceback of a Ctrl-C that leaves the outermost session.

        One around it would see by them where it came.
        """
        if exc is not None and self._interrupts != loop_interrupts.count and current.get() is None:
            leave_out_library_frames(exc)

    def _close(self, exc: BaseException | None) -> None:
        """Close a session that was entered with a plain ``with``. Idempotent."""
        if self._lifecycle.phase is Phase.OVER:
            return
        thread = self._loop_thread
        close = () if thread is None else (functools.partial(thread.close, exc),)
        # No thread may start a loop from now on: nothing would end it.
        run_steps(self._coordinator.loop.forbid_start, *close, self._close_without_waiting, self._end)

    def _close_without_waiting(self, loop_runs: bool = True) -> None:
        """Leave where nothing can be waited for: cancel what runs; the last call to end saves. Idempotent.

        Args:
            loop_runs: Whether the event loop of the session runs on. Otherwise nothing in it ends any more.
        """

        def finish() -> None:
            steps = self._mark_end, self._save, self._release_run, self._log_summary, self._run_payload_callback
            run_steps(*steps, self._log.close)

        if self._end_time is not None:  # the nursery has done it all
            return
        if not loop_runs:
            self._lifecycle.advance(Phase.CLOSING)
            finish()
            return

        def finish_and_stop() -> None:
            try:
                finish()
            finally:
                if self._coordinator.loop.is_current:
                    self._coordinator.publisher.stop_pumps()

        self._coordinator.close()
        if self._coordinator.scopes.is_idle:
            finish_and_stop()
        else:
            self._coordinator.scopes.when_idle = finish_and_stop

    def _leave_in_forked_child(self, exc: BaseException | None) -> None:
        """Leave it in a forked child, where only the context variable is left of it: all else is the parent's."""
        if self._coordinator.loop.start is None:  # it was entered in async code, whose event loop is the parent's
            end_forked_child(exc)
        self._lifecycle.advance(Phase.OVER)
        run_steps(self._log.close, self._restore)

    def _end_termination(self, exc: BaseException | None) -> None:
        if self._termination is not None:
            self._termination.end(exc)

    # ---- the end

    async def _finalize(self, shield: Shield) -> None:
        """Save and report, when nothing runs any more."""
        self._mark_end()
        if self._stored_run is not None and self._stored_run.saves:
            await shield.step(functools.partial(self._save_in_time, shield))
        if self._payload_callback is not None or self._log.is_enabled_for(logging.INFO):
            try:
                run_steps(self._log_summary, self._run_payload_callback)
            except (KeyboardInterrupt, SystemExit) as exc:
                shield.note(exc)

    def _mark_end(self) -> None:
        """Note that nothing runs any more."""
        coordinator = self._coordinator
        coordinator.lifecycle.advance(Phase.SAVING)
        coordinator.unbind()
        if self._end_time is None:
            end_open_records(coordinator)
            coordinator.publisher.close()
            has_signal = self._interrupts != loop_interrupts.count
            self._is_interrupted = has_signal and is_cancelled_from_outside(coordinator.state)
            time = self._now()
            close_spans(coordinator, time)
            self._end_time = time
            self._note_usage()

    def _now(self) -> float:
        return self._coordinator.now()

    def _note_usage(self) -> None:
        """Note what the process has used since the session began."""
        clock = self._hooks.processor_clock
        if clock is not None and self._processor_start is not None:
            self._processor_seconds = clock() - self._processor_start
            self._peak_memory_bytes = peak_memory_bytes()

    def _log_summary(self) -> None:
        if self._log.is_enabled_for(logging.INFO) and self._start_time is not None and self._end_time is not None:
            log_summary(self._coordinator, self._stored_run, self._end_time - self._start_time)

    def _run_payload_callback(self) -> None:
        callback, self._payload_callback = self._payload_callback, None
        if callback is not None:
            run_payload_callback(callback, self.info, self._log)

    def _end(self) -> None:
        """Let go of everything, whatever came before. Idempotent."""
        is_last = self._coordinator.scopes.when_idle is None  # otherwise the last call does the first two
        steps = [self._release_run, self._log.close] if is_last and self._holds_files else []
        if self._hooks.observer is not None:
            steps.append(self._notify_closed)
        try:
            run_steps(*steps, self._restore)
        finally:
            self._lifecycle.advance(Phase.OVER)

    @property
    def _holds_files(self) -> bool:
        """Whether there may be something to release: a run, or a log file."""
        return self._stored_run is not None or self._log.has_file

    def _notify_closed(self) -> None:
        observer = self._hooks.observer
        if observer is not None and not self._is_reported:
            self._is_reported = True
            observer.on_session_closed(self)

    def _restore(self) -> None:
        """Restore the context variable, the handler of Ctrl-C and the terminal, and drop what refers back."""
        hide(self._coordinator)
        loop_interrupts.release(self)
        open_sessions.discard(id(self))
        frame, token = current.get(), self._token
        leave_spans(self._coordinator)
        self._nursery = self._loop_thread = self._token = self._coordinator.loop.start = None
        self._coordinator.call_log.outer = None
        if self._coordinator.limits is not None:
            self._coordinator.limits.forget_shared()
        if token is None:
            return
        try:
            current.reset(token)
        except ValueError:
            # The session is left in another context than it was entered in, as fixtures and async generators do. If
            # that is a copy, the variable names this session there too.
            if frame is not None and frame.coordinator is self._coordinator and frame.record is None:
                current.set(None if token.old_value is Token.MISSING else token.old_value)
