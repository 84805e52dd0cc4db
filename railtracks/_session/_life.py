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
from railtracks._session._nursery import SessionNursery
from railtracks._session._steps import run_steps
from railtracks._test_hooks import RuntimeHooks
from railtracks.exceptions import RunInUseError, SessionError
from railtracks.execution import Coordinator, Frame, running_library
from railtracks.execution._lifecycle import Operation, Phase
from railtracks.state import ExecutionInfo
from railtracks.state._serialization._secret_search import register_secrets

if TYPE_CHECKING:
    from railtracks._resume._source import ResumeSource
    from railtracks._session._stored_run import StoredRun


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
        "__weakref__", "_config", "_coordinator", "_end_time", "_forks", "_form", "_hooks",
        "_is_reported", "_lifecycle", "_log", "_loop_thread", "_nursery", "_payload_callback", "_resume_source",
        "_start_time", "_stored_run", "_termination", "_token", "identifier", "name",
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
        self._coordinator = coordinator
        self._config = coordinator.config
        self._log = log
        self._hooks = hooks
        self._resume_source = resume_source
        self._payload_callback = payload_callback
        self._stored_run: StoredRun | None = None  # once the session begins, if it saves its state or resumes a run
        self._lifecycle = coordinator.lifecycle
        self._start_time: float | None = None
        self._end_time: float | None = None
        self._token: Token[Any] | None = None  # restores the context variable
        self._nursery: SessionNursery | None = None  # with `async with`, or once the loop thread runs
        self._loop_thread: LoopThread | None = None
        self._form = ""  # once it is entered: "with" or "async with"
        self._termination: Termination | None = None  # with a plain `with` in synchronous code
        self._forks = 0
        self._is_reported = False  # the observer knows of the end

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
        except BaseException:  # no run to resume, a cancellation, or no event loop that anyio knows
            self._abort()
            raise
        self._lifecycle.advance(Phase.OPEN)
        self._token = current.set(nursery.frame)
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
            if loop.is_this_task(nursery.task):
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
        except BaseException:
            self._abort()
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
            run_steps(self._mark_end, self._save, self._release_run, self._run_payload_callback, self._log.close)

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
        config = self._config
        uses_existing = config.if_exists != "replace" and config.run_identifier is not None
        if config.save_state or uses_existing or self._resume_source is not None:
            self._acquire_run()
        self._log.open()
        self._lifecycle.advance(Phase.ENTERING)
        self._form = form
        self._forks = fork_count()
        self._start_time = self._now()
        if self._coordinator.context:
            register_secrets(self._coordinator.context, self._coordinator.redactor)
        if self._hooks.observer is not None:
            self._hooks.observer.on_session_opened(self)

    def _acquire_run(self) -> None:
        """Acquire the right to write the run that this session is stored as."""
        from railtracks._session._stored_run import StoredRun  # here, as a session that saves nothing does not need it

        self._stored_run = run = StoredRun(self._coordinator, self._config, self._log, self._resume_source)
        try:
            run.acquire(self.identifier)
        except RunInUseError:
            if self._config.run_identifier is not None or self.name is None or self._resume_source is not None:
                raise
            # The identifier comes from the session's name, and a service may well have many sessions of one name.
            self.identifier = f"{self.identifier[:100]}-{self._hooks.new_id()[:12]}"
            self._log.session_id = self.identifier
            self._coordinator.rename(self.identifier)
            run.acquire(self.identifier)

    def _start_recording(self) -> None:
        """Start recording, and load the run that this session resumes, if it does. Blocks."""
        run = self._stored_run
        if run is None:
            return
        may_exist = self._config.run_identifier is not None or self.name is not None
        # None for a random identifier, of which there is no other run.
        run.start(self.info, f"{self.identifier[:100]}.{self._hooks.new_id()[:8]}" if may_exist else None)

    def _release_run(self) -> None:
        if self._stored_run is not None:
            self._stored_run.release()

    def _abort(self) -> None:
        """Clean up after the session could not be entered. One whose log file cannot be opened can be entered later."""
        has_begun = self._lifecycle.phase is not Phase.NEW
        if has_begun:
            self._lifecycle.advance(Phase.OVER)
        closed = (self._notify_closed,) if has_begun else ()
        restored = () if self._termination is None else (self._termination.restore,)
        run_steps(self._release_run, self._log.close, *closed, self._restore, *restored)

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
        if self._coordinator.recorder is not None:
            self._coordinator.recorder.body_succeeded = exc is None

    async def _finalize(self, shield: Shield) -> None:
        """Save and report, when nothing runs any more."""
        if self._stored_run is None or not self._stored_run.saves:
            self._mark_end()
        else:
            self._mark_end()
            await shield.step(functools.partial(self._save_in_time, shield))
        if self._payload_callback is not None:
            try:
                self._run_payload_callback()
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
        """Restore the context variable and the handler of Ctrl-C, and drop what refers back."""
        loop_interrupts.release(self)
        frame, token = current.get(), self._token
        self._nursery = self._loop_thread = self._token = self._coordinator.loop.start = None
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
        return self._coordinator.clock() + self._coordinator.origin

    def _mark_end(self) -> None:
        """Note that nothing runs any more."""
        coordinator = self._coordinator
        coordinator.lifecycle.advance(Phase.SAVING)
        if self._end_time is None:
            coordinator.end_open_records()
            coordinator.publisher.close()
            self._end_time = self._now()

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
