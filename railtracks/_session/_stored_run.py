"""The run that a session is stored as: the right to write it, what it resumes, and the end of it."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio

from railtracks._concurrency._background import Work, background
from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import call_soon
from railtracks._logging import SESSION, SessionLog
from railtracks._options import ExecutorConfig
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import RunExistsError, RunNotFoundError, SessionError
from railtracks.execution import Coordinator
from railtracks.execution._recording._journal_writer import JournalWriter
from railtracks.execution._recording._recorder import Recorder
from railtracks.execution._recording._run_storage import RunStorage
from railtracks.nodes import FunctionNode
from railtracks.nodes._resolve import as_node
from railtracks.state import CallRecord, ExecutionInfo, FileStore, Store
from railtracks.state._file_system import is_blocking
from railtracks.state._stores._runs import store_of

if TYPE_CHECKING:
    from railtracks._resume._source import ResumeSource

SAVE_DEADLINE = 60.0
"""Seconds that a session waits until its state is saved."""


class StoredRun:
    """What a session keeps outside its process, or resumes from there.

    Args:
        coordinator: Runs the calls of the session; gets a recorder from :meth:`start`.
        config: The options of the session.
        log: Its log.
        resume: The run that it resumes, if it does.

    Attributes:
        store: Where it is kept.

    Raises:
        ConfigError: the option ``store``, wherever it came from, is not allowed.
    """

    def __init__(
        self, coordinator: Coordinator, config: ExecutorConfig, log: SessionLog, resume: ResumeSource | None
    ) -> None:
        self._coordinator = coordinator
        self._log = log
        self._resume = resume
        # An explicit `resume` says more than this option, which is about the session's own identifier.
        self._if_exists = config.if_exists if resume is None and config.run_identifier is not None else "replace"
        self.store: Store = store_of(config.store)  # now, because the working directory may change later
        self._storage = RunStorage(self.store, config.durability, log) if config.save_state else None
        self._resumed_info: ExecutionInfo | None = None
        self._overwrites_no_other = False  # set by `start`
        self._saving: Work | None = None  # what saves the state, once it has been submitted

    def acquire(self, identifier: str) -> None:
        """Acquire the right to write the run.

        Raises:
            RunInUseError: another session has it.
        """
        if self._storage is not None:
            self._storage.acquire(identifier)

    @property
    def saves(self) -> bool:
        """Whether the session saves its state."""
        return self._storage is not None

    @property
    def starts_quickly(self) -> bool:
        """Whether :meth:`start` may be called on the event loop: it takes no longer than a rename."""
        is_resuming = self._resume is not None or self._if_exists == "resume"
        return not is_resuming and (isinstance(self.store, FileStore) or not is_blocking(self.store))

    @property
    def saves_in_thread(self) -> bool:
        """Whether :meth:`save` blocks, and so is called in a worker thread."""
        return is_blocking(self.store)

    @property
    def resumes(self) -> str | None:
        """The identifier of the run that is resumed, if one is; with ``if_exists`` known after :meth:`start`."""
        return None if self._resume is None else self._resume.run_identifier

    @property
    def starts_again(self) -> bool:
        """Whether a run is resumed because it was there, and not because the program asked for that run."""
        return self._resume is not None and self._if_exists == "resume"

    @property
    def replaces_resumed_run(self) -> bool:
        """Whether the session takes the place of the run that it resumes."""
        return self._resume is not None and self._resume.run_identifier == self._coordinator.session_id

    def start(self, info: ExecutionInfo, archive_identifier: str | None) -> None:
        """Start recording, and load the run that is resumed. Blocks.

        Args:
            info: The session, before its first call.
            archive_identifier: The identifier for a journal that a session whose process died may have left behind;
                None if there can be none.

        Raises:
            RunInUseError: the run to be resumed is still running.
            RunExistsError: there is a run, and ``if_exists`` is "fail".
            RunNotFoundError: the run to be resumed is not there.
            StateError: it cannot be read.
        """
        coordinator = self._coordinator
        records = self._load_resumed_run()
        replayer = None
        if records is not None:
            from railtracks._resume._replayer import Replayer  # here, as few sessions resume a run

            replayer = Replayer(records, coordinator.state, coordinator.origin, coordinator.redactor)
        storage = self._storage
        archive = None if self.replaces_resumed_run else archive_identifier
        self._overwrites_no_other = archive is None
        journal = JournalWriter(None) if storage is None else storage.start(info.facts, records, archive)
        coordinator.recorder = Recorder(coordinator.state, coordinator.origin, coordinator.redactor, journal, replayer)

    def _load_resumed_run(self) -> list[CallRecord] | None:
        """Load the run that is to be resumed, if one is, and return its records."""
        identifier = self._coordinator.session_id
        if self._if_exists == "fail" and self.store.modified(identifier) is not None:
            raise RunExistsError(
                f"there is a run {identifier!r} at {self.store.where(identifier)}, and this session has "
                f'if_exists="fail"; use another run_identifier, or if_exists="resume" to go on with that run'
            )
        source = self._resume
        if self._if_exists == "resume":
            from railtracks._resume._source import ResumeSource  # here, as few sessions resume a run

            source = ResumeSource(identifier, None)
        if source is None:
            return None
        is_held = self._storage is not None and source.run_identifier == identifier
        try:
            self._resumed_info, records = source.load(self.store, self._log, is_held)
        except RunNotFoundError:
            if self._resume is not None:
                raise
            return None  # it begins
        self._resume = source
        return records

    def check_arguments(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Check that the run that is resumed was started with these arguments of ``node``, as far as is on record.

        Raises:
            StateError: it was started with others.
        """
        assert self._resumed_info is not None
        assert self._resume is not None
        self._resume.check_arguments(self._resumed_info, node, args, kwargs)

    def recorded_arguments(self, node: Callable[..., Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return what the first top-level call of ``node`` was given in the run that is resumed.

        Raises:
            StateError: there is no such call, or its arguments cannot be brought back.
            SessionError: nothing is resumed, or the session was not entered.
        """
        if self._resumed_info is None or self._resume is None:
            raise SessionError("recorded_arguments() needs an open session that resumes a run: rt.Session(resume=...)")
        return self._resume.recorded_arguments(self._resumed_info, as_node(node, "recorded_arguments"))

    def submit_save(self, info: ExecutionInfo) -> Work:
        """Have :meth:`save` done by a thread, and return what can be waited for. Idempotent.

        It is done even if no one waits for it, or if the event loop ends first; the end of the process waits for it.
        If no thread can be started, it is done before this returns. Call this again if Ctrl-C interrupted it.

        Args:
            info: The snapshot to save.
        """
        if self._saving is None:
            self._saving = Work(lambda: self._save(info))
        background.submit(self._saving)
        return self._saving

    async def save_in_thread(self, info: ExecutionInfo, shield: Shield) -> None:
        """Have :meth:`save` done by a thread, and wait for it.

        It waits for ``SAVE_DEADLINE`` at most, as a file system that hangs must not hang the caller for good.

        Args:
            info: The snapshot to save.
            shield: Keeps what comes meanwhile.
        """
        token = self._coordinator.loop.token
        assert token is not None
        work, changed = self.submit_save(info), Condition()
        work.when_done(functools.partial(call_soon, token, changed.notify_all))
        deadline = anyio.current_time() + SAVE_DEADLINE
        if not await shield.wait_while(lambda: not work.is_done, changed, deadline):
            self._log.log(
                logging.ERROR, "the execution info was not saved within %g s; its worker thread goes on",
                SAVE_DEADLINE, logger=SESSION,
            )  # fmt: skip

    def save(self, info: ExecutionInfo) -> None:
        """Save the document of the session, which has ended, and release the run. Blocks. Failures are logged.

        A failure may not replace the result or the exception of the session.

        Raises:
            KeyboardInterrupt: Ctrl-C came. If the store blocks, this is raised when the document is saved.
        """
        if self._saving is None and not self._must_save_in_thread():
            self._save(info)
            return
        interrupt: BaseException | None = None
        while True:  # in the main thread, which a signal can interrupt, it only waits
            try:
                self.submit_save(info).wait()
                break
            except BaseException as exc:  # Ctrl-C, or what another signal handler raised
                interrupt = exc if interrupt is None else interrupt
        if interrupt is not None:
            raise interrupt

    def _must_save_in_thread(self) -> bool:
        """Return whether saving takes long, and a signal could interrupt it here.

        Under a scheduler of threads it may not wait for a thread: that waits for its turn, which this thread gives.
        """
        in_main_thread = threading.current_thread() is threading.main_thread()
        return self.saves_in_thread and in_main_thread and runtime_hooks.get().thread_scheduler is None

    def _save(self, info: ExecutionInfo) -> None:
        recorder, storage = self._coordinator.recorder, self._storage
        assert recorder is not None
        assert storage is not None
        try:
            if self._resume is None or info.records:  # a resumed run without calls has nothing new
                recorder.on_session_end(info.end_time or 0.0)
                storage.save(info, self._overwrites_no_other)
        finally:
            storage.release()

    def release(self) -> None:
        """Let other sessions have the run, unless saving it does that. Idempotent."""
        if self._storage is not None and self._saving is None:
            self._storage.release()
