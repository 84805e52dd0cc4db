"""What a session does for the run that it is stored as: it acquires the run, loads what it resumes, and saves."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Any

from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._interrupts import DeferredInterrupts
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._threads import run_in_thread
from railtracks._logging import SessionLog
from railtracks._session._nested import (
    FlowStep,
    OuterCall,
    acquire_as_step,
    commit_step,
    is_in_recorded_call,
    recorded_step,
)
from railtracks._test_hooks import RuntimeHooks
from railtracks.exceptions import RunInUseError, RunSuspended
from railtracks.execution import Coordinator, Frame
from railtracks.state import ExecutionInfo

if TYPE_CHECKING:
    from railtracks._resume._source import ResumeSource
    from railtracks._session._stored_run import StoredRun


class SessionStorage(ABC):
    """The part of a session that deals with the run that it is stored as, if it saves its state or resumes a run.

    Args:
        coordinator: Runs the calls of the session.
        log: Its log.
        hooks: Its clocks, identifiers and observer.
        name: Its name, if it has one.
        resume_source: The run that it resumes, if it does.

    Attributes:
        identifier: The identifier of the session. If it comes from ``name`` and is taken, entering changes it.
    """

    __slots__ = (
        "_answers", "_config", "_coordinator", "_flow_step", "_hooks", "_is_discarded", "_log", "_outer_call",
        "_resume_source", "_stored_run", "identifier", "name",
    )  # fmt: skip

    def __init__(
        self,
        coordinator: Coordinator,
        log: SessionLog,
        hooks: RuntimeHooks,
        name: str | None,
        resume_source: ResumeSource | None,
    ) -> None:
        self.identifier: str = coordinator.session_id
        self.name: str | None = name
        self._coordinator = coordinator
        self._config = coordinator.config
        self._log = log
        self._hooks = hooks
        self._resume_source = resume_source
        self._answers: dict[str, Any] = {}  # to open questions of the run that it resumes
        self._stored_run: StoredRun | None = None  # once the session begins, if it saves its state or resumes a run
        self._flow_step: FlowStep | None = None
        self._outer_call: OuterCall | None = None  # if it is a step of another session
        self._is_discarded = False  # its coroutine is closed, maybe by the garbage collector

    @property
    @abstractmethod
    def info(self) -> ExecutionInfo:
        """What has happened so far, as an immutable snapshot."""

    def _acquire(self, around: Frame | None) -> None:
        """Acquire the run that the session is stored as, if it is; in a recorded call, as a step of that one's run.

        Args:
            around: The frame that the session is opened in.
        """
        if self._has_run:
            if around is None or not self._is_step(around):
                self._acquire_run()
            elif self._lock_blocks:
                with recorded_step(around, self) as arguments:
                    self._acquire_run(*arguments)
                commit_step(around)
            else:
                acquire_as_step(around, self)

    async def _acquire_in_time(self, around: Frame | None) -> None:
        """As :meth:`_acquire`, in a worker thread if the store's locks block.

        Cancellation: the wait goes on until the thread has ended. The run may be acquired then.
        """
        if not self._lock_blocks:
            self._acquire(around)
        elif around is None or not self._is_step(around):
            await run_in_thread(self._acquire_run)
        else:
            with recorded_step(around, self) as arguments:
                await run_in_thread(partial(self._acquire_run, *arguments))
            await run_in_thread(partial(commit_step, around))

    @property
    def _has_run(self) -> bool:
        """Whether the session is stored as a run, or resumes one."""
        config = self._config
        uses_existing = config.if_exists != "replace" and config.run_identifier is not None
        return config.save_state or uses_existing or self._resume_source is not None

    def _is_step(self, around: Frame) -> bool:
        return self._resume_source is None and is_in_recorded_call(around)

    @property
    def _lock_blocks(self) -> bool:
        """Whether acquiring the run takes long, as its store is in the network."""
        if self._config.store is None or not self._has_run:  # files
            return False
        from railtracks.state._stores._settings import store_of  # here, as most sessions use files

        return bool(getattr(store_of(self._config.store), "lock_blocks", False))

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

    async def _save_in_time(self, shield: Shield) -> None:
        run = self._stored_run
        assert run is not None
        if run.saves_in_thread:
            await run.save_in_thread(self.info, shield)
        else:
            self._save()

    def _save(self) -> None:
        """Save the state in this thread. Blocks. Failures are logged."""
        run = self._stored_run
        if run is None or not run.saves:
            return
        if run.saves_in_thread and self._is_discarded:
            run.save_discarded(self.info)
        elif run.saves_in_thread:
            run.save(self.info)
        else:
            with DeferredInterrupts():
                run.save(self.info)

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

    def _release_run(self) -> None:
        if self._stored_run is not None:
            self._stored_run.release()
