"""Session: what a user opens around calls. How it is entered and left is in ``_life.py``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, Unpack, final

from railtracks._config import check_place, resolve_config
from railtracks._context_variable import current
from railtracks._identifiers import slug
from railtracks._logging import SessionLog
from railtracks._options import ExecutorConfig, SessionOptions
from railtracks._session._calling import SessionCalls
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import ConfigError, SessionError
from railtracks.execution import Coordinator, Frame
from railtracks.execution._from_thread import run_quickly
from railtracks.execution._lifecycle import Operation, Phase
from railtracks.nodes._callables import is_async
from railtracks.pubsub import OnError, Policy, Subscription
from railtracks.state import Broadcast, Event, ExecutionInfo
from railtracks.state._info import info_made_later
from railtracks.state._records import aggregate_status
from railtracks.state._redaction._model_keys import keys_of
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._large_values import find_nothing
from railtracks.state._serialization._redacted_values import logged_text

if TYPE_CHECKING:
    from railtracks._resume._source import ResumeSource

P = ParamSpec("P")
E = TypeVar("E", bound=Event)


@final
class Session(SessionCalls):
    """Runs calls, records them, and leaves nothing running.

    ::

        async with rt.Session(timeout=30) as session:
            result = await rt.call(node, "Hello")

    It can be entered in three ways. ``async with``, under asyncio or trio, is the main one. A plain ``with`` in
    synchronous code serves ``rt.call_sync``; the calls run on an event loop in a thread of its own, which the first of
    them starts. A plain ``with`` in async code serves code that was written for the second form; at its end it cannot
    wait, so it cancels what still runs.

    Constructing a session settles its configuration and does nothing else.

    Args:
        context: The mapping that ``rt.context`` gives to the nodes; copied, one level deep.
        name: A name for people. Without ``run_identifier`` it is the identifier too, as far as file names allow.
        payload_callback: A plain function that is called with ``payload()`` when the session has ended, on its event
            loop. What it raises is logged.
        flow_name: The name of the flow that this is a run of; for the record.
        flow_id: The digest of that flow; for the record.
        resume: The identifier of an earlier run. Results of its calls are used, where they had completed, instead of
            running them again: see ``docs/durability.md``. This session has the same identifier, and takes the
            place of that run, unless ``run_identifier`` or ``before`` says otherwise.
        before: With ``resume``: leave that run as it is, and use only what had completed before this point: a node or
            its name, for the first call of it, or a step. Without ``run_identifier`` the identifier is random.
        answers: With ``resume``: answers to questions of that run which are open, by their ``id``.
        **options: See :class:`railtracks.ExecutorConfig`. An option that is not passed, or None, comes from
            ``rt.set_config``, the environment, the configuration file, or the defaults, in this order.

    Attributes:
        name: As passed.
        identifier: The ``run_identifier``, or its substitute; also the name of the state file.

    Raises:
        ConfigError: an option is unknown, or a value, wherever it came from, is not allowed.

    Entering raises RunInUseError if another session with this ``run_identifier`` is open, here or in another process,
    and StateError if the run to resume does not exist or cannot be read. With ``resume`` the run is loaded, in a worker
    thread under ``async with``; a cancellation is passed on when that is done.

    Leaving: when the body ended, the session waits for what still runs; when it raised or was cancelled, everything
    is cancelled first. Then what was published is delivered, the state is saved, and the body's exception goes on
    as the same object. After a body that raised nothing, the first error of the calls made by ``start_soon`` is raised,
    if there was one. Cancellation while leaving cancels what runs; delivering and saving are shielded, within 10
    and 60 seconds.
    """

    __slots__ = ("_flow_id",)

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
        answers: Mapping[str, Any] | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        config = resolve_config(options)
        check_place(config)
        check_arguments(context, payload_callback, name=name, flow_name=flow_name, flow_id=flow_id)
        if options.get("if_exists") in ("resume", "fail") and config.run_identifier is None and resume is None:
            raise ConfigError(
                f"argument if_exists: {options['if_exists']!r} needs a run_identifier, which names the run; use "
                f"run_identifier='my-unique-run'"
            )
        if config.tracing:
            from railtracks._telemetry._opening import require_opentelemetry  # here, as few sessions are traced

            require_opentelemetry()
        source: ResumeSource | None = None
        if resume is not None or before is not None:
            from railtracks._resume._source import parse_resume_arguments  # here, as few sessions resume a run

            source = parse_resume_arguments(resume, before, config.run_identifier)
        if answers is not None:
            check_answers(answers, source is not None and before is None, config.ask_callback is not None)
        hooks = runtime_hooks.get()
        identifier = config.run_identifier or (resume if before is None else hooks.new_id())
        identifier = identifier or (hooks.new_id() if name is None else slug(name))
        redactor = Redactor()
        for key in () if config.default_llm is None else keys_of(config.default_llm):
            redactor.add(key)
        log = SessionLog(
            config.logging_setting, config.log_file, identifier, hooks.clock, partial(logged_text, redactor=redactor)
        )
        coordinator = Coordinator(identifier, config, dict(context or {}), hooks, log, redactor)
        super().__init__(coordinator, log, hooks, name, source, payload_callback)
        if answers is not None:
            self._answers = dict(answers)
            self._suspend_by_default()
        self._flow_name, self._flow_id = flow_name, flow_id
        if (callback := config.broadcast_callback) is not None:
            self.subscribe(
                lambda event: callback(event.item), name="broadcast_callback", kinds=(Broadcast,), policy="wait"
            )

    # ---- what can be read, also after the end

    @property
    def executor_config(self) -> ExecutorConfig:
        """The settled configuration."""
        return self._config

    @property
    def resumes(self) -> str | None:
        """The identifier of the run that this session resumes, if it does."""
        if self._stored_run is not None:
            return self._stored_run.resumes
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
        """What has happened so far, as an immutable snapshot."""
        recorder = self._coordinator.recorder
        return info_made_later(
            records=self._coordinator.state.later_snapshot(),
            earlier=tuple if recorder is None else recorder.later_earlier_records(),
            session_id=self.identifier,
            session_name=self.name,
            flow_name=self._flow_name,
            flow_id=self._flow_id,
            start_time=self._start_time,
            end_time=self._end_time,
            interrupted=self._is_interrupted,
            processor_seconds=self._processor_seconds,
            peak_memory_bytes=self._peak_memory_bytes,
            traceparent=None if (spans := self._coordinator.call_log.spans) is None else spans.traceparent,
            redactor=self._coordinator.redactor,
            find_value=find_nothing if recorder is None or recorder.values is None else recorder.values.find,
        )

    def __repr__(self) -> str:
        phase = self._lifecycle.phase
        if phase is Phase.NEW:
            return f"<Session {self.identifier}: not entered yet>"
        from railtracks.state._views._tree import shown_counts  # here, as few programs show a session

        records = self.info.records
        word = aggregate_status(records).value if phase is Phase.OVER else "open"
        return f"<Session {self.identifier}: {word}, {shown_counts(records)}>"

    def _repr_html_(self) -> str:
        """Return the tree of its calls as HTML, for notebooks."""
        return self.info._repr_html_()

    def payload(self) -> dict[str, Any]:
        """Return the document that the state file holds, as plain data."""
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
        """Return the configuration that a session with these arguments would have; None means "not passed".

        The arguments and their order are those of the first seed document.

        Raises:
            ConfigError: a value is not allowed.
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

    # ---- what can be done

    def _suspend_by_default(self) -> None:
        """Suspend the run when nothing in it can go on, unless the option ``suspend`` is set."""
        if self._config.suspend is None:
            self._coordinator.suspends = True

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

        It can be called in any thread.

        Args:
            callback: A function of one argument, an event of ``rt.state``. An async one is awaited in a task of its
                own; a plain one runs on the event loop and should be quick.
            name: The name of the subscription in logs; by default the callback's own name.
            kinds: The event classes to receive, subclasses included.
            capacity: How many events may wait for delivery.
            policy: What happens when that many wait: "drop_oldest"; "drop_newest"; "wait": new calls and broadcasts
                wait for room (the end of a call never does); "fail": the subscription is removed, which is logged. To
                count, as for a progress bar, use "wait", which misses nothing.
            on_error: What happens after the callback raised, which is logged: "keep" the subscription, or "remove" it.

        Returns:
            The subscription: ``dropped``, ``errors``, ``close()``.

        Raises:
            ConfigError: an argument is not allowed.
            SessionEndedError: the session has ended.
        """
        self._lifecycle.require(Operation.SUBSCRIBE, "session.subscribe()")
        subscription = Subscription(
            callback, name=name, kinds=kinds, capacity=capacity, policy=policy, on_error=on_error, log=self._log
        )
        coordinator = self._coordinator
        add = partial(coordinator.publisher.add, subscription)
        if coordinator.owns_nursery:  # its pump is a task there
            frame = current.get()
            is_here = frame is not None and frame.coordinator is coordinator
            run_quickly(frame if is_here else Frame(coordinator), add, "session.subscribe()")
        else:
            add()
        return subscription

    def recorded_arguments(
        self, node: Callable[..., Any], /, **ignored: Any
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return what the first top-level call of ``node`` was given in the run that this session resumes.

        Args:
            node: The node.
            **ignored: The arguments of parameters that ``ignore=`` of the node names, which are not on record.

        Raises:
            StateError: there is no such call, or its arguments cannot be brought back.
            SessionError: the session resumes nothing, or is not entered yet.
        """
        if self._stored_run is None:
            raise SessionError("recorded_arguments() needs an open session that resumes a run: rt.Session(resume=...)")
        return self._stored_run.recorded_arguments(node, ignored)


def implicit_session() -> Session:
    """Return the session that the library opens around one call or batch, with the configured defaults."""
    session = Session()
    session._is_implicit = True
    return session


def check_answers(answers: object, is_resumed: bool, has_callback: bool) -> None:
    """Check the argument ``answers``.

    Raises:
        ConfigError: it is not allowed.
    """
    if not is_resumed:
        raise ConfigError("argument answers: they answer questions of a run that is resumed; use resume='my-run' too")
    if has_callback:
        raise ConfigError(
            "argument answers: the ask_callback of this session answers all questions; use one of the two"
        )
    if not isinstance(answers, Mapping) or not all(isinstance(each, str) for each in answers):
        raise ConfigError(f"argument answers: {answers!r} is not allowed; use a mapping of ids of questions to answers")


def check_arguments(context: object, payload_callback: object, **texts: object) -> None:
    """Check arguments that a session, a flow and the decorator have in common.

    Raises:
        ConfigError: one is not allowed.
    """
    for label, value in texts.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise ConfigError(f"argument {label}: {value!r} is not allowed; use a text that is not empty")
    if context is not None and not isinstance(context, Mapping):
        raise ConfigError(f"argument context: {context!r} is not allowed; use a mapping")
    if payload_callback is not None and (not callable(payload_callback) or is_async(payload_callback)):
        raise ConfigError(
            f"argument payload_callback: {payload_callback!r} is not allowed; use a function that is not async"
        )
