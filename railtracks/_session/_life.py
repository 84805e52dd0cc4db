"""The life of a session: the three ways into it, and the ways out."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from railtracks._concurrency._threads import run_in_thread
from railtracks._context_variable import current
from railtracks._logging import SESSION, SessionLog
from railtracks._session._loop_thread import LoopThread
from railtracks._session._nursery import SessionNursery
from railtracks._test_hooks import RuntimeHooks
from railtracks.exceptions import RunInUseError, SessionError
from railtracks.execution import Coordinator, Frame, running_library
from railtracks.state import ExecutionInfo
from railtracks.state._serialization._secret_search import register_secrets

if TYPE_CHECKING:
    from railtracks._resume._source import ResumeSource
    from railtracks._session._stored_run import StoredRun

Phase = Literal["not entered yet", "open", "over"]


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
        self.name = name
        self._coordinator = coordinator
        self._config = coordinator.config
        self._log = log
        self._hooks = hooks
        self._resume_source = resume_source
        self._payload_callback = payload_callback
        self._stored_run: StoredRun | None = None  # once the session begins, if it saves its state or resumes a run
        self._save_releases_run = False  # whatever saves the state also releases the run
        self._phase: Phase = "not entered yet"
        self._start_time: float | None = None
        self._end_time: float | None = None
        self._token: Token[Any] | None = None  # restores the context variable
        self._nursery: SessionNursery | None = None  # with `async with`, or once the loop thread runs
        self._loop_thread: LoopThread | None = None
        self._starting_loop = threading.Lock()  # two threads may make the first synchronous call

    @property
    @abstractmethod
    def info(self) -> ExecutionInfo:
        """What has happened so far, as an immutable snapshot."""

    # ---- async with

    async def __aenter__(self) -> Self:
        self._begin("async with")
        self._nursery = self._new_nursery()
        try:
            if self._stored_run is not None:
                if self._stored_run.starts_quickly:
                    self._start_recording()
                else:
                    await run_in_thread(self._start_recording)
            await self._nursery.open()
        except BaseException:  # no run to resume, a cancellation, or no event loop that anyio knows
            self._abort()
            raise
        self._token = current.set(self._nursery.root)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._check_leaving("async with")
        nursery = self._nursery
        assert nursery is not None
        if self._coordinator.loop.current_task() is not nursery.task:
            raise SessionError(
                "the session is left in another task than it was entered in; leave it in the task that entered it"
            )
        self._record_body_outcome(exc)
        try:
            await nursery.close(exc)
        finally:
            self._end()

    # ---- with

    def __enter__(self) -> Self:
        self._begin("with")
        try:
            self._start_recording()
        except BaseException:
            self._abort()
            raise
        if running_library() is None:
            self._coordinator.loop.start = self._start_loop
        self._token = current.set(Frame(self._coordinator))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._check_leaving("with")
        self._record_body_outcome(exc)
        try:
            if self._loop_thread is not None:
                self._loop_thread.close(exc)
            else:
                self._close_without_waiting()
        finally:
            self._end()

    def _close_without_waiting(self) -> None:
        """Leave a plain ``with`` in async code, which cannot wait: cancel what runs; the last call to end saves."""

        def finish() -> None:
            self._mark_end()
            if self._config.save_state:
                self._save()
            self._release_run()
            self._run_payload_callback()

        self._coordinator.close()
        if self._coordinator.scopes.is_idle:
            finish()
        else:
            self._save_releases_run = True
            self._coordinator.scopes.when_idle = finish

    def _start_loop(self) -> None:
        """Start the event loop of the synchronous form, unless it is running."""
        with self._starting_loop:
            if self._coordinator.loop.token is None:
                self._nursery = self._new_nursery()
                self._loop_thread = LoopThread(self._config.backend, self._nursery)

    # ---- the beginning and the end

    def _new_nursery(self) -> SessionNursery:
        run = self._stored_run
        save = self._save if self._config.save_state else None
        in_thread = run is not None and run.saves_in_thread
        return SessionNursery(self._coordinator, self._log, self._mark_end, save, in_thread, self._run_payload_callback)

    def _begin(self, form: str) -> None:
        if self._phase != "not entered yet":
            raise SessionError(
                f"the session {self.identifier} was entered before and is {self._phase}; "
                f"create a new rt.Session() each time, or use rt.Flow"
            )
        if self._config.save_state or self._resume_source is not None:
            self._acquire_run()
        try:
            self._log.open()
        except BaseException:
            self._release_run()
            raise
        self._phase = "open"
        self._form = form
        self._start_time = self._now()
        if self._coordinator.context:
            register_secrets(self._coordinator.context, self._coordinator.redactor)
        if self._hooks.observer is not None:
            self._hooks.observer.on_session_opened(self)

    def _acquire_run(self) -> None:
        """Acquire the right to write the run that this session is stored as."""
        from railtracks._session._stored_run import StoredRun  # here, as a session that saves nothing does not need it

        run = StoredRun(self._coordinator, self._config, self._log, self._resume_source)
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
        self._stored_run = run

    def _start_recording(self) -> None:
        """Start recording, and load the run that this session resumes, if it does. Blocks."""
        run = self._stored_run
        if run is None:
            return
        may_exist = self._config.run_identifier is not None or self.name is not None
        archive = None
        if may_exist and not run.replaces_resumed_run:
            archive = f"{self.identifier[:100]}.{self._hooks.new_id()[:8]}"
        run.start(self.info, archive)

    def _release_run(self) -> None:
        if self._stored_run is not None:
            self._stored_run.release()

    def _abort(self) -> None:
        """Clean up after the session could not be entered."""
        self._release_run()
        self._log.close()
        self._phase = "over"
        if self._hooks.observer is not None:
            self._hooks.observer.on_session_closed(self)

    def _check_leaving(self, form: str) -> None:
        if self._phase != "open":
            raise SessionError(f"the session {self.identifier} is left, but it is {self._phase}")
        if form != self._form:
            raise SessionError(
                f"the session {self.identifier} was entered with `{self._form}` and is left as by `{form}`; "
                f"write `{self._form} rt.Session():`"
            )
        frame: Frame | None = current.get()
        if frame is not None and frame.coordinator is not self._coordinator and not frame.coordinator.closed:
            raise SessionError(
                f"the session {self.identifier} is left before the session {frame.coordinator.session_id} inside it; "
                f"leave the inner one first, as nested `async with` blocks do"
            )

    def _record_body_outcome(self, exc: BaseException | None) -> None:
        if self._coordinator.recorder is not None:
            self._coordinator.recorder.body_succeeded = exc is None

    def _end(self) -> None:
        self._phase = "over"
        if not self._save_releases_run:
            self._release_run()
        self._log.close()
        if self._hooks.observer is not None:
            self._hooks.observer.on_session_closed(self)
        token, self._token = self._token, None
        self._nursery = self._loop_thread = self._coordinator.loop.start = None
        assert token is not None
        try:
            current.reset(token)
        except ValueError:
            # The session is left in another context than it was entered in (fixtures and async generators do that).
            # There the variable never named this session, so there is nothing to restore.
            return

    def _now(self) -> float:
        return self._coordinator.clock() + self._coordinator.origin

    def _mark_end(self) -> None:
        self._coordinator.ended = True
        self._end_time = self._now()

    def _save(self) -> None:
        """Save the state. Blocks. Failures are logged."""
        assert self._stored_run is not None
        self._save_releases_run = True
        self._stored_run.save(self.info)

    def _run_payload_callback(self) -> None:
        """Call ``payload_callback``, the last thing a session does."""
        if self._payload_callback is None:
            return
        try:
            self._payload_callback(self.info.payload())
        except Exception as exc:
            self._log.log(logging.ERROR, "payload_callback raised %r", exc, logger=SESSION, exc_info=exc)
