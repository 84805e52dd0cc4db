"""The run that a session is stored as: the right to write it, what it resumes, and the end of it."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio

from railtracks._concurrency._background import Work, background
from railtracks._concurrency._cancellation import Shield
from railtracks._concurrency._condition import Condition
from railtracks._concurrency._event_loop import call_soon
from railtracks._logging import SESSION, SessionLog
from railtracks._options import ExecutorConfig, store_option
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import RunCancelledError, RunExistsError, RunNotFoundError, SessionError, StateError
from railtracks.execution import Coordinator
from railtracks.execution._recording._journal_writer import JournalWriter
from railtracks.execution._recording._recorder import Recorder
from railtracks.execution._recording._run_storage import RunStorage
from railtracks.execution._recording._value_keeper import ValueKeeper
from railtracks.nodes import FunctionNode
from railtracks.nodes._resolve import as_node
from railtracks.state import CallRecord, ExecutionInfo, FileStore, Reason, Store
from railtracks.state._file_system import is_blocking
from railtracks.state._serialization._large_values import find_nothing
from railtracks.state._stores._settings import store_of

if TYPE_CHECKING:
    from railtracks._resume._source import ResumeSource

SAVE_DEADLINE = 60.0
"""Seconds that a session waits until its state is saved, in addition to those for each call."""
DISCARD_DEADLINE = 10.0
"""Seconds that a session waits for that if its coroutine is closed."""
SAVE_DEADLINE_PER_CALL = 0.0002
"""Seconds for each call: about ten times what writing it takes, as the machine may be busy."""


class StoredRun:
    """What a session keeps outside its process, or resumes from there.

    Args:
        coordinator: Runs the calls of the session; gets a recorder from :meth:`start`.
        config: The options of the session.
        log: Its log.
        resume: The run that it resumes, if it does.
        goes_on: Whether it goes on with the run of its identifier, if there is one, whatever the options say.
        is_left: Whether the code that opened it had gone on after it.

    Attributes:
        store: Where it is kept.

    Raises:
        ConfigError: the option ``store``, wherever it came from, is not allowed.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        config: ExecutorConfig,
        log: SessionLog,
        resume: ResumeSource | None,
        goes_on: bool = False,
        is_left: bool = False,
    ) -> None:
        self._coordinator = coordinator
        self._log = log
        self._resume = resume
        # An explicit `resume` says more than this option, which is about the session's own identifier.
        self._if_exists = config.if_exists if resume is None and config.run_identifier is not None else "replace"
        self._is_left = is_left
        self._returns_result = self._if_exists == "resume"
        if goes_on:
            self._if_exists = "resume"
        self._code_changes, self._allow_rerun = config.code_changes, config.allow_rerun
        self._store_setting = config.store
        self.store: Store = store_of(config.store)  # now, because the working directory may change later
        self._storage: RunStorage | None = None
        if config.save_state:
            coordinator.store = self.store
            self._storage = RunStorage(self.store, config.durability, log, config.on_write_error, coordinator.redactor)
            self._storage.on_stop = self._on_stop
            self._storage.on_retry_due = self._on_retry_due
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
    def kept_at(self) -> str | None:
        """Where the run is once it was saved, for people; None if the session saves nothing."""
        return None if self._storage is None else self._storage.kept_at

    @property
    def show_command(self) -> str | None:
        """The command that shows the run once it was saved; None if there is none, as for a store that is an object."""
        identifier = None if self._storage is None else self._storage.saved_as
        if identifier is None or (self._store_setting is not None and not isinstance(self._store_setting, str)):
            return None
        return f"railtracks show {identifier}{store_option(self._store_setting)}"

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

    def start(self, info: ExecutionInfo, archive_identifier: str | None, answers: Mapping[str, Any]) -> None:
        """Start recording, and load the run that is resumed. Blocks.

        Args:
            info: The session, before its first call.
            archive_identifier: The identifier for a journal that a session whose process died may have left behind;
                None if there can be none.
            answers: Answers to open questions of the run that is resumed, by their ids.

        Raises:
            RunInUseError: the run to be resumed is still running.
            RunExistsError: there is a run, and ``if_exists`` is "fail".
            RunNotFoundError: the run to be resumed is not there.
            RunCancelledError: ``rt.state.cancel_run`` has cancelled it, and ``if_exists`` is "resume".
            StateError: it cannot be read; or nothing can be recorded, and ``on_write_error`` is "stop".
        """
        coordinator = self._coordinator
        records = self._load_resumed_run()
        spans, earlier = coordinator.call_log.spans, self._resumed_info
        if spans is not None and earlier is not None and earlier.traceparent is not None:
            spans.link(earlier.traceparent)
        self._warn_of_other_flow(info)
        replayer = None
        if records is not None:
            from railtracks._resume._replayer import Replayer  # here, as few sessions resume a run
            from railtracks._resume._reruns import ResumePolicy

            assert self._resume is not None
            policy = ResumePolicy(
                self._resume.run_identifier, self._code_changes, self._allow_rerun, takes_new_calls=self.starts_again
            )
            replayer = Replayer(
                records, coordinator.state, coordinator.redactor, self._log, policy,
                self._is_left, find_nothing if self._resumed_info is None else self._resumed_info._find_value,
            )  # fmt: skip
        storage = self._storage
        archive = None if self.replaces_resumed_run else archive_identifier
        self._overwrites_no_other = archive is None
        if storage is not None:
            self._begin_messages(archive, records, answers)
        if storage is not None and storage.values is not None and records is not None:
            self._take_over_values(storage.values, records)
        journal = (
            JournalWriter(None) if storage is None else storage.start(info.facts, records, archive, self._restarts)
        )
        coordinator.recorder = Recorder(
            coordinator.state,
            coordinator.redactor,
            journal,
            replayer,
            coordinator.config.max_value_bytes,
            coordinator.log,
            None if storage is None else storage.values,
        )
        if self._returns_result:
            from railtracks.execution._recording._lasting_results import LastingResults  # here, as few sessions do

            coordinator.recorder.lasting_results = LastingResults(self._log)
        coordinator.recorder.restarts = self._restarts
        coordinator.recorder.is_fork = self._resume is not None and not self.replaces_resumed_run

    def _warn_of_other_flow(self, info: ExecutionInfo) -> None:
        """Warn if the run is one of a flow with another name. ``info``: the session, before its first call."""
        before = None if self._resumed_info is None else self._resumed_info.flow_name
        now = info.facts["flow_name"]
        if before is not None and now is not None and before != now and self.replaces_resumed_run:
            self._log.log(
                logging.WARNING,
                "The run %s was begun by the flow %r, and the flow %r goes on with it now; if they do different work, "
                "give each a run_identifier of its own",
                info.session_id, before, now, logger=SESSION,
            )  # fmt: skip

    @property
    def _restarts(self) -> int:
        """How many sessions in a row, this one included, have resumed the run because a process had died."""
        before = None if self._resumed_info is None else self._resumed_info._restarts
        return 0 if before is None or not self.replaces_resumed_run else before + 1

    def _on_stop(self, error: StateError) -> None:
        """End the session, because it cannot be recorded. Thread-safe."""
        coordinator, recorder = self._coordinator, self._coordinator.recorder
        if recorder is not None:
            end_session = functools.partial(coordinator.end_early, error, Reason.END_ON_ERROR)
            recorder.fail(error, end_session)
            self._call_in_loop(end_session)

    def _on_retry_due(self) -> None:
        if self._coordinator.recorder is not None:
            self._call_in_loop(self._coordinator.recorder.begin_again_if_due)

    def _call_in_loop(self, func: Callable[[], object]) -> None:
        """Call a function on the event loop of the session: at once if it runs here; not if it cannot be reached."""
        loop = self._coordinator.loop
        if loop.is_this_thread:
            func()
        elif loop.token is not None:
            call_soon(loop.token, func)

    @property
    def write_error(self) -> StateError | None:
        """Why the session has to raise, although its body may not have: it cannot be recorded."""
        return None if self._storage is None else self._storage.write_error

    def error_of_suspension(self) -> StateError | None:
        """Return why the session, which was suspended and has ended, cannot be gone on with; None if it can.

        The error says what to do, and its cause is what the store raised.
        """
        cause = None if self._storage is None else self._storage.save_error
        if cause is None:
            return None
        identifier = self._coordinator.session_id
        error = StateError(
            f"the run {identifier!r} could not be suspended, because it could not be saved at "
            f"{self.store.where(identifier)}: {cause}; remove the cause, and start it again"
        )
        error.__cause__ = cause
        return error

    def _take_over_values(self, values: ValueKeeper, history: Sequence[CallRecord]) -> None:
        """Let the run have the large values of another one that it resumes, so that it does not need that any more."""
        from railtracks._resume._recorded_values import digests_of  # here, as few sessions resume a run

        if not self.replaces_resumed_run and self._resume is not None and (digests := digests_of(history)):
            values.copy_from(self._resume.run_identifier, digests)

    def _begin_messages(
        self, archive: str | None, history: Sequence[CallRecord] | None, answers: Mapping[str, Any]
    ) -> None:
        from railtracks._session._run_messages import open_mailbox, put_answers, separate_messages

        coordinator, store, storage = self._coordinator, self.store, self._storage
        assert storage is not None
        if archive is not None:
            try:
                storage.kept_identifier = archive if separate_messages(store, coordinator.session_id, archive) else None
            except Exception as exc:  # a user's store may raise anything
                self._log.log(
                    logging.WARNING, "Cannot look for messages to %s: %s", coordinator.session_id, exc, logger=SESSION
                )
        if answers:
            assert self._resumed_info is not None
            put_answers(store, coordinator.session_id, answers, self._resumed_info)
        open_mailbox(coordinator, store, history)

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

            source = ResumeSource(identifier, None, _check_not_cancelled)
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

    def recorded_arguments(
        self, node: Callable[..., Any], given: Mapping[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return what the first top-level call of ``node`` was given in the run that is resumed.

        Args:
            node: The node.
            given: Arguments that are not on record, as the node ignores them.

        Raises:
            StateError: there is no such call, or its arguments cannot be brought back.
            SessionError: nothing is resumed, or the session was not entered.
        """
        if self._resumed_info is None or self._resume is None:
            raise SessionError("recorded_arguments() needs an open session that resumes a run: rt.Session(resume=...)")
        return self._resume.recorded_arguments(self._resumed_info, as_node(node, "recorded_arguments"), given)

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

        It waits for a minute at most, or longer if there are very many calls: a file system that hangs must not hang
        the caller for good.

        Args:
            info: The snapshot to save.
            shield: Keeps what comes meanwhile.
        """
        token = self._coordinator.loop.token
        assert token is not None
        work, changed = self.submit_save(info), Condition()
        work.when_done(functools.partial(call_soon, token, changed.notify_all))
        patience = SAVE_DEADLINE + SAVE_DEADLINE_PER_CALL * len(self._coordinator.state.entries)
        deadline = anyio.current_time() + patience
        if not await shield.wait_while(lambda: not work.is_done, changed, deadline):
            self._log_late(patience)

    def _log_late(self, patience: float) -> None:
        self._log.log(
            logging.ERROR, "the execution info was not saved within %g s; its worker thread goes on",
            patience, logger=SESSION, must_be_seen=True,
        )  # fmt: skip

    def save_discarded(self, info: ExecutionInfo) -> None:
        """Do what :meth:`save` does for a session whose coroutine is closed, and wait for that for some seconds.

        The garbage collector may close it in the middle of code that holds a lock which saving needs. If it does, what
        is saved is saved later, and an error is logged.
        """
        if runtime_hooks.get().thread_scheduler is not None:  # as for `save`
            self._save(info)
        elif not self.submit_save(info).wait(DISCARD_DEADLINE):
            self._log_late(DISCARD_DEADLINE)

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
            if self._resume is not None and not recorder.has_calls_to_save:
                storage.kept_at = "unchanged"  # a resumed run that no call was made in stays as it is
            else:
                recorder.on_session_end(info.end_time or 0.0)
                is_saved = storage.save(info, self._overwrites_no_other, self._earlier_run(recorder))
                if is_saved and self._coordinator.mailbox is not None:
                    self._coordinator.mailbox.on_saved(recorder.has_completed)
        finally:
            self._close_mailbox()
            storage.release()

    def _earlier_run(self, recorder: Recorder) -> tuple[ExecutionInfo, list[str]] | None:
        """Return the run that was gone on with, if calls that it had completed were left out, and their names."""
        if not self._returns_result or self._resumed_info is None or not recorder.has_completed:
            return None
        names = [record.name for record in recorder.left_out()]
        return (self._resumed_info, names) if names else None

    def _close_mailbox(self) -> None:
        if self._coordinator.mailbox is not None:
            self._coordinator.mailbox.close()

    def release(self) -> None:
        """Let other sessions have the run, unless saving it does that. Idempotent."""
        if self._storage is not None and self._saving is None:
            self._close_mailbox()
            self._storage.release()


def _check_not_cancelled(_: Store, info: ExecutionInfo) -> None:
    """Raise RunCancelledError if a run was cancelled on request: starting the program again may not undo that."""
    from railtracks.state._stores._messages import reasons_of_end  # here, as few sessions resume a run

    if Reason.REQUEST in reasons_of_end(info):
        raise RunCancelledError(
            f"the run {info.session_id!r} was cancelled by rt.state.cancel_run, and stays cancelled; to go on with it "
            f"all the same, use flow.resume({info.session_id!r}) or rt.Session(resume={info.session_id!r}); to begin "
            f'it anew, use if_exists="replace"'
        )
