"""Session: what a user opens around calls. The async half of its life is in ``_nursery.py``."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, Unpack, final

from railtracks._concurrency._threads import run_in_thread
from railtracks._config import resolve_config
from railtracks._context_variable import current
from railtracks._identifiers import slug
from railtracks._logging import SESSION, SessionLog
from railtracks._options import ExecutorConfig, SessionOptions
from railtracks._session._loop_thread import LoopThread
from railtracks._session._nursery import SessionNursery
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import ConfigError, RunInUseError, SessionEndedError, SessionError
from railtracks.execution import Coordinator, Frame, running_library
from railtracks.nodes._callables import is_async
from railtracks.nodes._resolve import as_node
from railtracks.pubsub import OnError, Policy, Subscription
from railtracks.state import Broadcast, Event, ExecutionInfo
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._secret_search import register_secrets

if TYPE_CHECKING:
    from railtracks._resume._source import ResumeSource
    from railtracks._session._stored_run import StoredRun

P = ParamSpec("P")
E = TypeVar("E", bound=Event)

Phase = Literal["not entered yet", "open", "over"]


@final
class Session:
    """Runs calls, records them, and leaves nothing running::

        async with rt.Session(timeout=30) as session:
            result = await rt.call(node, "Hello")

    It can be entered in three ways. ``async with``, under asyncio or trio, is the main one. A plain ``with`` in
    synchronous code serves ``rt.call_sync``; the calls run on an event loop in a thread of its own, started by the
    first of them. A plain ``with`` in async code serves code written for the second form; at its end it cannot
    wait, so it cancels what still runs.

    Constructing a session settles its configuration and does nothing else.

    Args:
        context: What ``rt.context`` gives to the nodes; copied, one level deep.
        name: A name for people. Without ``run_identifier`` it is the identifier too, as far as file names allow.
        payload_callback: Called with ``payload()`` when the session has ended, on its event loop; a plain function.
            What it raises is logged.
        flow_name: Which flow this is a run of; for the record.
        flow_id: The same, for machines.
        resume: The identifier of an earlier run. What its calls returned is used, where they had completed, in place
            of running them again: see ``docs/durability.md``. This session has the same identifier, and takes the
            place of that run, unless ``run_identifier`` or ``before`` says otherwise.
        before: With ``resume``: leave that run as it is, and use of it only what had completed before this; a node,
            or the name of one, for the first call of it, or a step. Without ``run_identifier`` the identifier is
            random.
        **options: See :class:`railtracks.ExecutorConfig`. What is not given, or None, comes from ``rt.set_config``, the
            environment, the configuration file, or the defaults, in this order.

    Attributes:
        name: As given.
        identifier: The ``run_identifier``, or what stands in for it; also the name of the state file.

    Raises:
        ConfigError: an option is unknown, or a value, wherever it came from, is not allowed.

    Entering raises RunInUseError if another session with this ``run_identifier`` is open, here or in another process,
    and StateError if the run to resume is not there or cannot be read. With ``resume`` the run is loaded, in a worker
    thread under ``async with``; a cancellation is passed on when that is done.

    Leaving: when the body ended, the session waits for what still runs; when it raised or was cancelled, everything
    is cancelled first. Then what was published is delivered, the state is saved, and the body's exception goes on
    as the same object. After a body that ended well the first error of the calls made by ``start_soon`` is raised,
    if there was one. Cancellation while leaving cancels what runs; delivering and saving are shielded, within 10
    and 60 seconds.
    """

    def __init__(
        self,
        context: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        payload_callback: Callable[[dict[str, Any]], Any] | None = None,
        flow_name: str | None = None,
        flow_id: str | None = None,
        resume: str | None = None,
        before: Callable[..., Any] | str | int | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        self._config = config = resolve_config(options)
        check_arguments(context, payload_callback, name=name, flow_name=flow_name, flow_id=flow_id)
        self._resume_source: ResumeSource | None = None
        if resume is not None or before is not None:
            from railtracks._resume._source import parse_resume_arguments  # here, as few sessions resume a run

            self._resume_source = parse_resume_arguments(resume, before, config.run_identifier)
        self._sources = source = runtime_hooks.get()
        self.name = name
        given = config.run_identifier or (resume if before is None else source.new_id())
        self.identifier: str = given or (source.new_id() if name is None else slug(name))
        self._flow_name, self._flow_id = flow_name, flow_id
        self._payload_callback = payload_callback
        self._redactor = redactor = Redactor()
        self._log = SessionLog(
            config.logging_setting, config.log_file, self.identifier, source.clock, redactor.redact_free_text
        )
        self._coordinator = Coordinator(self.identifier, config, dict(context or {}), source, self._log, redactor)
        self._stored_run: StoredRun | None = None  # once the session begins, if it saves its state or resumes a run
        self._save_releases_run = False  # whoever saves also releases the run
        self._phase: Phase = "not entered yet"
        self._start_time: float | None = None
        self._end_time: float | None = None
        self._token: Token[Any] | None = None  # puts the context variable back
        self._nursery: SessionNursery | None = None  # with `async with`, or once the loop thread runs
        self._loop_thread: LoopThread | None = None
        self._starting_loop = threading.Lock()  # two threads may make the first synchronous call
        if (callback := config.broadcast_callback) is not None:
            self.subscribe(
                lambda event: callback(event.item), name="broadcast_callback", kinds=(Broadcast,), policy="wait"
            )

    # ---- what it tells; all of it stays readable after the end

    @property
    def executor_config(self) -> ExecutorConfig:
        """The settled configuration."""
        return self._config

    @property
    def resumes(self) -> str | None:
        """The identifier of the run that this session resumes, if it does."""
        return None if self._resume_source is None else self._resume_source.run_identifier

    @property
    def _identifier(self) -> str:  # the published examples print it by this name
        return self.identifier

    @property
    def context(self) -> dict[str, Any]:
        """The mapping behind ``rt.context``."""
        return self._coordinator.context

    @property
    def info(self) -> ExecutionInfo:
        """What has happened so far, as an immutable view."""
        return ExecutionInfo(
            session_id=self.identifier,
            session_name=self.name,
            flow_name=self._flow_name,
            flow_id=self._flow_id,
            start_time=self._start_time,
            end_time=self._end_time,
            records=self._coordinator.state.snapshot(),
            clock_origin=self._coordinator.origin,
            earlier=() if self._coordinator.recorder is None else self._coordinator.recorder.earlier_records(),
            redactor=self._redactor,
        )

    def payload(self) -> dict[str, Any]:
        """The document that the state file holds, as plain data."""
        return self.info.payload()

    @classmethod
    def global_config_precedence(
        cls,
        timeout: float | None = None,
        end_on_error: bool | None = None,
        logging_setting: Any = None,
        log_file: str | os.PathLike[str] | None = None,
        broadcast_callback: Any = None,
        run_identifier: str | None = None,
        prompt_injection: bool | None = None,
        save_state: bool | None = None,
    ) -> ExecutorConfig:
        """The configuration that a session with these arguments would have; None means "not given".

        The arguments and their order are the first seed's. ConfigError if a value is not allowed.
        """
        return resolve_config(
            {
                "timeout": timeout,
                "end_on_error": end_on_error,
                "logging_setting": logging_setting,
                "log_file": log_file,
                "broadcast_callback": broadcast_callback,
                "run_identifier": run_identifier,
                "prompt_injection": prompt_injection,
                "save_state": save_state,
            }
        )

    # ---- what it does

    def subscribe(
        self,
        callback: Callable[[E], Any],
        *,
        name: str | None = None,
        kinds: tuple[type[E], ...] = (Event,),  # type: ignore[assignment]  # the default of a type variable
        capacity: int = 1024,
        policy: Policy = "drop_oldest",
        on_error: OnError = "keep",
    ) -> Subscription:
        """Have ``callback`` called with each event from now on, in order, outside the calls themselves.

        Args:
            callback: A function of one argument, an event of ``rt.state``. An async one is awaited in a task of its
                own; a plain one runs on the event loop and should be quick.
            name: What logs call it; by default the callback's own name.
            kinds: The event classes it wants, subclasses included.
            capacity: How many events may wait for it.
            policy: When they are that many: "drop_oldest"; "drop_newest"; "wait": new calls and broadcasts wait for it
                (never the end of a call); "fail": it is removed and the log says so.
            on_error: When it raises, which is logged: "keep" it, or "remove" it.

        Returns:
            The subscription: ``dropped``, ``errors``, ``close()``.

        Raises:
            ConfigError: an argument is not allowed.
            SessionEndedError: the session is over.
        """
        if self._phase == "over":
            raise SessionEndedError("session.subscribe() came after the session had ended; subscribe before")
        subscription = Subscription(
            callback, name=name, kinds=kinds, capacity=capacity, policy=policy, on_error=on_error, log=self._log
        )
        self._coordinator.publisher.add(subscription)
        return subscription

    def start_soon(self, node: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Start a top-level call of ``node`` beside the body; the session waits for it at its end.

        Its first error is raised when the session is left, unless the body raised one itself.
        Cancellation: it is cancelled with the session.

        Raises:
            SessionError: the session was not entered with ``async with``.
            SessionEndedError: it is over, or being left.
            NodeCreationError: ``node`` is none.
        """
        target = as_node(node, "start_soon")
        state = "being left" if self._phase == "open" and self._coordinator.closed else self._phase
        if state != "open":
            kind = SessionError if state == "not entered yet" else SessionEndedError
            raise kind(
                f"start_soon({target.name}) needs an open session, and this one is {state}; "
                f"call it inside `async with rt.Session() as s:`"
            )
        if self._nursery is None or self._loop_thread is not None:
            raise SessionError(
                f"start_soon({target.name}) needs a session that can wait at its end; "
                f"enter it with `async with rt.Session() as s:`"
            )
        self._nursery.start_soon(target, args, kwargs)

    # ---- async with

    async def __aenter__(self) -> Session:
        self._begin("async with")
        self._nursery = self._new_nursery()
        try:
            if self._stored_run is not None:
                if self._stored_run.starts_quickly:
                    self._start_recording()
                else:
                    await run_in_thread(self._start_recording)
            await self._nursery.open()
        except BaseException:  # there is nothing to resume; or no event loop that anyio knows is running here
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
                "the session is left in another task than it was entered in; leave it where you entered it"
            )
        self._record_body_outcome(exc)
        try:
            await nursery.close(exc)
        finally:
            self._end()

    # ---- with

    def __enter__(self) -> Session:
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
        """In async code a plain ``with`` cannot wait: calls that still run are cancelled, and the last to end saves."""

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
        """Start the event loop of the synchronous form, unless it runs."""
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
                f"make a new rt.Session() each time, or use rt.Flow"
            )
        self._log.open()
        if self._config.save_state or self._resume_source is not None:
            try:
                self._acquire_run()
            except BaseException:
                self._log.close()
                raise
        self._phase = "open"
        self._form = form
        self._start_time = self._now()
        if self.context:
            register_secrets(self.context, self._redactor)
        if self._sources.observer is not None:
            self._sources.observer.on_session_opened(self)

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
            self.identifier = f"{self.identifier[:100]}-{self._sources.new_id()[:12]}"
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
            archive = f"{self.identifier[:100]}.{self._sources.new_id()[:8]}"
        run.start(self.info, archive)

    def recorded_arguments(self, node: Callable[..., Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return what the first top-level call of ``node`` was given in the run that this session resumes.

        Raises:
            StateError: there is no such call, or its arguments cannot be brought back.
            SessionError: the session resumes nothing, or is not entered yet.
        """
        if self._stored_run is None:
            raise SessionError("recorded_arguments() needs an open session that resumes a run: rt.Session(resume=...)")
        return self._stored_run.recorded_arguments(node)

    def _release_run(self) -> None:
        if self._stored_run is not None:
            self._stored_run.release()

    def _abort(self) -> None:
        """The session could not be entered."""
        self._release_run()
        self._log.close()
        self._phase = "over"
        if self._sources.observer is not None:
            self._sources.observer.on_session_closed(self)

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
        if self._sources.observer is not None:
            self._sources.observer.on_session_closed(self)
        token, self._token = self._token, None
        self._nursery = self._loop_thread = self._coordinator.loop.start = None
        assert token is not None
        try:
            current.reset(token)
        except ValueError:
            # Left in another context than it was entered in (fixtures and async generators do that). There the
            # variable never named this session, so there is nothing to put back.
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
            self._payload_callback(self.payload())
        except Exception as exc:
            self._log.log(logging.ERROR, "payload_callback raised %r", exc, logger=SESSION, exc_info=exc)


def check_arguments(context: object, payload_callback: object, **texts: object) -> None:
    """ConfigError unless these are what a session, a flow and the decorator take."""
    for label, value in texts.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise ConfigError(f"argument {label}: {value!r} is not allowed; give a text that is not empty")
    if context is not None and not isinstance(context, Mapping):
        raise ConfigError(f"argument context: {context!r} is not allowed; give a mapping")
    if payload_callback is not None and (not callable(payload_callback) or is_async(payload_callback)):
        raise ConfigError(
            f"argument payload_callback: {payload_callback!r} is not allowed; give a function, not an async one"
        )
