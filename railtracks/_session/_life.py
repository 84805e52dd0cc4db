"""The life of a session: the three ways into it, and the ways out."""

from __future__ import annotations

import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from railtracks._concurrency._after_fork import end_forked_child, fork_count
from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._interrupts import DeferredInterrupts
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._loop_interrupts import loop_interrupts
from railtracks._concurrency._termination import Termination
from railtracks._concurrency._threads import run_in_thread
from railtracks._context_variable import current
from railtracks._logging import SESSION, SessionLog
from railtracks._session._leaving import LEFT_ELSEWHERE, check_leaving
from railtracks._session._loop_thread import LoopThread
from railtracks._session._nested import acquire_as_step, is_in_recorded_call
from railtracks._session._nursery import SessionNursery
from railtracks._session._showing import hide, show
from railtracks._session._steps import run_steps
from railtracks._session._summary import log_summary, peak_memory_bytes
from railtracks._session._tracing import begin_spans, close_spans, enter_spans, leave_spans, note_failure
from railtracks._test_hooks import RuntimeHooks
from railtracks.exceptions import RunInUseError, RunSuspended, SessionError
from railtracks.execution import Coordinator, Frame, running_library
from railtracks.execution._lifecycle import Operation, Phase
from railtracks.state import ExecutionInfo, Reason, Status
from railtracks.state._serialization._secret_search import register_secrets

if TYPE_CHECKING:
    from railtracks._resume._source import ResumeSource
    from railtracks._session._nested import FlowStep, OuterCall
    from railtracks._session._stored_run import StoredRun


open_sessions: set[int] = set()
"""The identities of the open sessions of this process that users have opened."""


class SessionLife(ABC):
    """What enters and leaves a session; the base of ``Session``, which users see.

    Args:
        coordinator: Runs the calls of the session.
        log: Its log.
        hooks: Its clocks, identifiers and observer.
        name: Its name, if it has one.
        resume_source: The run that it resumes, if it does.
        payload_callback: Called with ``payload()`` when the session has ended; None for nothing.

    Attributes:
        identifier: The identifier of the session. If it comes from ``name`` and is taken, entering changes it.
    """

    __slots__ = (
        "__weakref__", "_answers", "_config", "_coordinator", "_end_time", "_flow_name", "_flow_step", "_forks",
        "_form", "_hooks", "_interrupts", "_is_implicit", "_is_interrupted", "_is_reported", "_lifecycle", "_log",
        "_loop_thread", "_nursery", "_outer_call", "_payload_callback", "_peak_memory_bytes", "_processor_seconds",
        "_processor_start", "_resume_source", "_start_time", "_stored_run", "_termination", "_token", "identifier",
        "name",
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
        self.identifier: str = coordinator.session_id
        self.name: str | None = name
        self._flow_name: str | None = None  # if it is a run of a flow
        self._coordinator = coordinator
        self._config = coordinator.config
        self._log = log
        self._hooks = hooks
        self._resume_source = resume_source
        self._payload_callback = payload_callback
        self._answers: dict[str, Any] = {}  # to open questions of the run that it resumes
        self._stored_run: StoredRun | None = None  # once the session begins, if it saves its state or resumes a run
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
        self._flow_step: FlowStep | None = None
        self._outer_call: OuterCall | None = None  # if it is a step of another session
        self._is_implicit: bool = False  # opened by the library around one call

    @property
    @abstractmethod
    def info(self) -> ExecutionInfo:
        """What has happened so far, as an immutable snapshot."""

    # ---- async with

    async def __aenter__(self) -> Self:
        self._lifecycle.require(Operation.ENTER, f"the session {self.identifier}")
        loop_interrupts.acquire(self)
        try:
            self._begin("async with")
            if self._stored_run is not None:
                if self._stored_run.starts_quickly:
                    self._start_recording()
                else:
                    await run_in_thread(self._start_recording)
            self._nursery = nursery = SessionNursery(self._coordinator, self._log)
            await nursery.open()
        except BaseException as exc:  # no run to resume, a cancellation, or no event loop that anyio knows
            self._abort(exc)
            raise
        self._lifecycle.advance(Phase.OPEN)
        self._token = current.set(nursery.frame)
        enter_spans(self._coordinator)
        self._show()
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

    # ---- with

    def __enter__(self) -> Self:
        self._lifecycle.require(Operation.ENTER, f"the session {self.identifier}")
        loop_interrupts.acquire(self)
        try:
            with DeferredInterrupts():
                self._begin("with")
                self._start_recording()
                if running_library() is None:
                    self._coordinator.loop.start = self._start_loop
                    self._termination = Termination()
                    self._termination.begin()
                self._lifecycle.advance(Phase.OPEN)
                self._token = current.set(Frame(self._coordinator))
                enter_spans(self._coordinator)
                self._show()
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
        self._end_termination(exc)
        self._raise_write_error(exc)

    def _raise_write_error(self, exc: BaseException | None) -> None:
        """Raise if the session could not be recorded and that is to stop it, unless its body has raised ``exc``.

        Raise in place of ``RunSuspended``, too, if the run was not saved, so that there is nothing to go on with.
        """
        run = self._stored_run
        if run is None:
            return
        if is_kind(exc, RunSuspended):
            if (error := run.error_of_suspension()) is not None:
                raise error
        elif exc is None and run.write_error is not None:
            raise run.write_error.with_traceback(None)

    def _end_termination(self, exc: BaseException | None) -> None:
        if self._termination is not None:
            self._termination.end(exc)

    def _close(self, exc: BaseException | None) -> None:
        """Close a session that was entered with a plain ``with``. Idempotent."""
        if self._lifecycle.phase is Phase.OVER:
            return
        thread = self._loop_thread
        close = () if thread is None else (functools.partial(thread.close, exc),)
        # No thread may start a loop from now on: nothing would end it.
        run_steps(self._coordinator.loop.forbid_start, *close, self._close_without_waiting, self._end)

    def _leave_in_forked_child(self, exc: BaseException | None) -> None:
        """Leave it in a forked child, where only the context variable is left of it: all else is the parent's."""
        if self._coordinator.loop.start is None:  # it was entered in async code, whose event loop is the parent's
            end_forked_child(exc)
        self._lifecycle.advance(Phase.OVER)
        run_steps(self._log.close, self._restore)

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

    def _start_loop(self) -> None:
        """Start the event loop of the synchronous form, and wait until it runs. Called in the thread that needs it."""
        if self._loop_thread is None:
            self._nursery = SessionNursery(self._coordinator, self._log)
            self._loop_thread = LoopThread(self._config.backend, self._nursery, self._finalize)
        self._loop_thread.open()

    # ---- the beginning and the end

    def _begin(self, form: str) -> None:
        config, around = self._config, current.get()
        if around is not None and around.record is not None:
            self._coordinator.call_log.outer = around.coordinator.call_log, around.record.index
        uses_existing = config.if_exists != "replace" and config.run_identifier is not None
        if config.save_state or uses_existing or self._resume_source is not None:
            if self._resume_source is None and is_in_recorded_call(around):
                acquire_as_step(around, self)
            else:
                self._acquire_run()
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
        if self._config.progress and not self._is_implicit and self._token is not None:
            show(self._coordinator, self._hooks, self.name, self._flow_name, self._token)

    def _acquire_run(self, goes_on: bool = False, is_left: bool = False) -> None:
        """Acquire the right to write the run that this session is stored as.

        Args:
            goes_on: Whether the session goes on with the run, if there is one, whatever ``if_exists`` says.
            is_left: Whether the code that opened it had gone on after it, in the run that is resumed.
        """
        from railtracks._session._stored_run import StoredRun  # here, as a session that saves nothing does not need it

        source = self._resume_source
        self._stored_run = run = StoredRun(self._coordinator, self._config, self._log, source, goes_on, is_left)
        try:
            run.acquire(self.identifier)
        except RunInUseError:
            if self._config.run_identifier is not None or self.name is None or self._resume_source is not None:
                raise
            # The identifier comes from the session's name, and a service may well have many sessions of one name.
            self._rename(f"{self.identifier[:100]}-{self._hooks.new_id()[:12]}")
            run.acquire(self.identifier)

    def _fork_from(self, identifier: str) -> None:
        """Go on with a copy of a run, before anything is recorded."""
        from railtracks._resume._source import ResumeSource  # here, as few sessions do

        self._resume_source = ResumeSource(identifier, None)
        if self.identifier == identifier:
            self._rename(f"{identifier[:100]}-{self._hooks.new_id()[:12]}")

    def _rename(self, identifier: str) -> None:
        """Take another identifier, before anything is recorded."""
        self.identifier = self._log.session_id = identifier
        self._coordinator.rename(identifier)

    def _start_recording(self) -> None:
        """Start recording, and load the run that this session resumes, if it does. Blocks."""
        run = self._stored_run
        if run is None:
            return
        may_exist = self._config.run_identifier is not None or self.name is not None
        # None for a random identifier, of which there is no other run.
        archive = f"{self.identifier[:100]}.{self._hooks.new_id()[:8]}" if may_exist else None
        run.start(self.info, archive, self._answers)

    def _release_run(self) -> None:
        if self._stored_run is not None:
            self._stored_run.release()

    def _abort(self, exc: BaseException) -> None:
        """Clean up after the session could not be entered. One whose log file cannot be opened can be entered later.

        Args:
            exc: What was raised instead.
        """
        has_begun = self._lifecycle.phase is not Phase.NEW
        if has_begun:
            self._lifecycle.advance(Phase.OVER)
        closed = (functools.partial(self._abort_spans, exc), self._notify_closed) if has_begun else ()
        restored = () if self._termination is None else (self._termination.restore,)
        run_steps(self._release_run, self._log.close, *closed, self._coordinator.unbind, self._restore, *restored)

    def _abort_spans(self, exc: BaseException) -> None:
        note_failure(self._coordinator, exc)
        close_spans(self._coordinator, self._now())

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
        if is_kind(exc, KeyboardInterrupt):  # in synchronous code nothing else shows it
            self._interrupts = -1
        if exc is not None and self._outer_call is not None:
            self._outer_call.note_failure(exc)
        self._outer_call = None  # of which nothing is kept

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

    async def _save_in_time(self, shield: Shield) -> None:
        run = self._stored_run
        assert run is not None
        if run.saves_in_thread:
            await run.save_in_thread(self.info, shield)
        else:
            self._save()

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
        if token is None:
            return
        try:
            current.reset(token)
        except ValueError:
            # The session is left in another context than it was entered in, as fixtures and async generators do. If
            # that is a copy, the variable names this session there too.
            if frame is not None and frame.coordinator is self._coordinator and frame.record is None:
                current.set(None if token.old_value is Token.MISSING else token.old_value)

    def _now(self) -> float:
        return self._coordinator.now()

    def _mark_end(self) -> None:
        """Note that nothing runs any more."""
        coordinator = self._coordinator
        coordinator.lifecycle.advance(Phase.SAVING)
        coordinator.unbind()
        if self._end_time is None:
            coordinator.end_open_records()
            coordinator.publisher.close()
            self._is_interrupted = self._interrupts != loop_interrupts.count and self._is_cancelled_from_outside
            time = self._now()
            close_spans(coordinator, time)
            self._end_time = time
            self._note_usage()

    def _note_usage(self) -> None:
        """Note what the process has used since the session began."""
        clock = self._hooks.processor_clock
        if clock is not None and self._processor_start is not None:
            self._processor_seconds = clock() - self._processor_start
            self._peak_memory_bytes = peak_memory_bytes()

    @property
    def _is_cancelled_from_outside(self) -> bool:
        """Whether a top-level call was cancelled by something else than the session."""
        records = (each for each in self._coordinator.state.entries if each is not None and each.parent is None)
        return any(each.status is Status.CANCELLED and each.reason is Reason.OUTSIDE for each in records)

    def _save(self) -> None:
        """Save the state in this thread. Blocks. Failures are logged."""
        run = self._stored_run
        if run is None or not run.saves:
            return
        if run.saves_in_thread:
            run.save(self.info)
        else:
            with DeferredInterrupts():
                run.save(self.info)

    def _log_summary(self) -> None:
        if self._log.is_enabled_for(logging.INFO) and self._start_time is not None and self._end_time is not None:
            log_summary(self._coordinator, self._stored_run, self._end_time - self._start_time)

    def _run_payload_callback(self) -> None:
        """Call ``payload_callback``, the last thing a session does."""
        callback, self._payload_callback = self._payload_callback, None
        if callback is None:
            return
        try:
            callback(self.info.payload())
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self._log.log(logging.ERROR, "payload_callback raised %r", exc, logger=SESSION, exc_info=exc)
