"""Flow: an entry point with its options, which can be run many times."""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast, final, overload

from railtracks._calls._call import call
from railtracks._concurrency._event_loop import check_no_event_loop
from railtracks._concurrency._termination import run_event_loop
from railtracks._config import validate_options
from railtracks._options import SessionOptions
from railtracks._session._nested import FlowStep
from railtracks._session._session import Session, check_arguments
from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import ConfigError, ContextError, SessionError
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._resolve import as_node

if TYPE_CHECKING:
    from railtracks._event_stream import EventStream
    from railtracks.llm import MessageHistory
    from railtracks.state import ExecutionInfo, Store

P = ParamSpec("P")
T = TypeVar("T")
Answers = Mapping[str, Any] | None


class Flow(Generic[P, T]):
    """A named, reusable piece of work.

    Each run has its own session and its own deep copy of the context::

        flow = rt.Flow("Greeting", entry_point=greet, timeout=60)
        flow.invoke("Ada")          # in synchronous code
        await flow.ainvoke("Ada")   # in async code

    Args:
        name: The name for people, recorded as ``flow_name``.
        entry_point: The node to call: anything that ``rt.call`` takes.
        context: The values of ``rt.context`` at the beginning of a run.
        payload_callback: As for :class:`Session`.
        **options: As for :class:`Session`. The sessions of a flow have no name; ``run_identifier`` names the state
            file.

    Raises:
        ConfigError: an option is unknown, or a value is not allowed.
        NodeCreationError: ``entry_point`` cannot be called.
    """

    @overload
    def __init__(
        self: Flow[P, T],
        name: str,
        entry_point: Callable[P, Node[T]],
        *,
        context: Mapping[str, Any] | None = None,
        payload_callback: Callable[[dict[str, Any]], Any] | None = None,
        **options: Unpack[SessionOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Flow[P, T],
        name: str,
        entry_point: Callable[P, Awaitable[T]],
        *,
        context: Mapping[str, Any] | None = None,
        payload_callback: Callable[[dict[str, Any]], Any] | None = None,
        **options: Unpack[SessionOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: Flow[P, T],
        name: str,
        entry_point: Callable[P, T],
        *,
        context: Mapping[str, Any] | None = None,
        payload_callback: Callable[[dict[str, Any]], Any] | None = None,
        **options: Unpack[SessionOptions],
    ) -> None: ...
    def __init__(
        self,
        name: str,
        entry_point: Any,
        *,
        context: Mapping[str, Any] | None = None,
        payload_callback: Callable[[dict[str, Any]], Any] | None = None,
        **options: Unpack[SessionOptions],
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(
                f"argument name: {name!r} is not allowed; expected a name, as in rt.Flow('My Flow', my_node)"
            )
        self.name = name
        self.entry_point: FunctionNode[..., Any] = as_node(entry_point, "rt.Flow")
        check_arguments(context, payload_callback)  # here, so that the traceback shows the line of the mistake
        validate_options(options)
        self._context = dict(context or {})
        self._payload_callback = payload_callback
        self._options = options
        self._last_session: Session | None = None

    def invoke(self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the flow in an event loop of its own (option ``backend``), and return the result of its entry point.

        It blocks until the run has ended. In the main thread SIGTERM ends it as Ctrl-C does, unless the application
        has a handler for that signal.

        Raises:
            SystemExit: SIGTERM came. The state is saved.
            SessionError: an event loop is running in this thread; write ``await flow.ainvoke(...)``.
            Exception: as ``rt.call``.
        """
        return self.connect().invoke(*args, **kwargs)

    async def ainvoke(self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the flow and return the result of its entry point. It raises and is cancelled as ``rt.call``."""
        return await self.connect().ainvoke(*args, **kwargs)

    @overload
    def resume(self, run_identifier: str, /, *, answers: Answers = None) -> T: ...
    @overload
    def resume(self, run_identifier: str, /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def resume(self, run_identifier: str, /, *args: Any, answers: Answers = None, **kwargs: Any) -> T:
        """Run the flow again in place of an earlier run, and replay the calls that had completed there.

        A call that had completed does not run again. A call that was running when the process died does, so it may run
        twice; so does a call that failed or was cancelled. After ``resume`` of a ``flow.connect()``, its
        ``session.info.resumed`` says which calls were reused, which ran, and why. It blocks until the run has ended.

        Args:
            run_identifier: The identifier of the earlier run, which the new run takes over.
            *args: The arguments of the entry point; without any, those of the earlier run. Others are taken, with a
                warning, if that run has not completed.
            answers: Answers to questions of a run that is suspended, by the ``id`` of each question.
            **kwargs: The keyword arguments of the entry point. If these are only of parameters that its ``ignore=``
                names, the others are those of the earlier run.

        Raises:
            ConfigError: ``run_identifier`` is not an identifier, or an answer could not be brought back exactly.
            StateError: there is no such run, it cannot be read, or its arguments cannot be restored; or it has no open
                question with an id in ``answers``, or that has another answer.
            RunSuspended: the run waits for more answers or messages.
            RunInUseError: the run is still running.
            SessionError: an event loop is running in this thread; write ``await flow.aresume(...)``.
            Exception: as ``rt.call``.
        """
        return self.connect().resume(run_identifier, *args, answers=answers, **kwargs)

    @overload
    async def aresume(self, run_identifier: str, /, *, answers: Answers = None) -> T: ...
    @overload
    async def aresume(self, run_identifier: str, /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def aresume(self, run_identifier: str, /, *args: Any, answers: Answers = None, **kwargs: Any) -> T:
        """Do as ``resume``, in async code. It is cancelled as ``rt.call``."""
        return await self.connect().aresume(run_identifier, *args, answers=answers, **kwargs)

    def fork(self, run_identifier: str, /, *args: Any, before: Callable[..., Any] | str | int, **kwargs: Any) -> T:
        """Run the flow again from a point of an earlier run, which is left unchanged and may still be running.

        The new run has a random identifier: after ``fork`` of a ``flow.connect()`` its session has it. It blocks until
        the run has ended.

        Args:
            run_identifier: The identifier of the earlier run.
            *args: As for ``resume``.
            before: The point: a node, or the name of one, for its first call, or a step. Calls that had not completed
                before it run again.
            **kwargs: As for ``resume``.

        Raises:
            StateError: as ``resume``, or the run has no call of ``before``.
            Exception: as ``resume``.
        """
        return self.connect().fork(run_identifier, *args, before=before, **kwargs)

    async def afork(
        self, run_identifier: str, /, *args: Any, before: Callable[..., Any] | str | int, **kwargs: Any
    ) -> T:
        """Do as ``fork``, in async code. It is cancelled as ``rt.call``."""
        return await self.connect().afork(run_identifier, *args, before=before, **kwargs)

    def astream_events(self, /, *args: P.args, **kwargs: P.kwargs) -> EventStream[T]:
        """Run the flow, and iterate over all its events while they happen, in order.

        ::

            async with flow.astream_events("Ada") as events:
                async for event in events:
                    print(event)
            print(events.result)

        The events are those that ``session.subscribe`` delivers, :class:`railtracks.state.Event`: calls, broadcasts,
        and what agents write (``AgentText``). The run begins when the first event is asked for. If 16 events wait to be
        consumed, new calls and broadcasts wait too. All events are delivered, however slow the consumer is, before the
        stream ends; the time that it takes counts towards the session's ``timeout``.

        Leaving the loop drops the stream, and that cancels the run. If something else refers to the stream, such as a
        variable, write ``async with``, as above; that also waits until the run has ended. In a node, the run is
        cancelled when that call ends, too.

        Args:
            *args: The arguments of the entry point.
            **kwargs: Its keyword arguments.

        Raises:
            ConfigError: an option is not allowed.
            ContextError: the context of the flow cannot be copied. These two are raised at once, and everything else
                when an event is asked for.
            SessionEndedError: the run was cancelled from outside, as when the event loop is shut down. Events that were
                not consumed by then are dropped.
            Exception: what ``flow.ainvoke`` would raise, as the same object, after the events that came before it.

        Cancellation: cancelling the consumer ends its loop, and so cancels the run.
        """
        from railtracks._event_stream import EventStream  # here, because it loads what agents need

        connection = self.connect()
        session = self._session()
        return EventStream(session, functools.partial(connection._run, session, *args, **kwargs))

    def connect(self) -> FlowConnection[P, T]:
        """Return a handle for runs, which then has the session of the latest one."""
        return FlowConnection(self)

    def update_context(self, context: Mapping[str, Any]) -> Flow[P, T]:
        """Return a new flow with these values added to its context. This flow is not changed.

        Raises:
            ConfigError: ``context`` is not a mapping.
        """
        if not isinstance(context, Mapping):
            raise ConfigError(f"argument context: {context!r} is not allowed; expected a mapping")
        changed = copy.copy(self)
        changed._context = {**self._context, **context}
        return changed

    @property
    def last(self) -> ExecutionInfo:
        """A snapshot of the latest run that this flow has begun, in any thread or task, by any of its methods.

        ``print(flow.last)`` shows its calls. The flow keeps that run in memory until the next one begins; where many
        run at the same time, ``flow.connect()`` gives a handle for each.

        Raises:
            SessionError: the flow has not run yet.
        """
        if self._last_session is None:
            raise SessionError(
                f"the flow {self.name!r} has not run yet; call flow.invoke(...) or `await flow.ainvoke(...)`"
            )
        return self._last_session.info

    def __repr__(self) -> str:
        return f"<Flow {self.name!r}: {self.entry_point.name}>"

    def __getstate__(self) -> dict[str, Any]:
        """Return what is copied and pickled of it: all but its latest run."""
        return {**self.__dict__, "_last_session": None}

    def equality_hash(self) -> str:
        """Return a digest of the name, which all flows of that name share, in all processes and releases."""
        import hashlib  # here, because it loads OpenSSL

        return hashlib.sha256(self.name.encode("utf-8", "surrogatepass")).hexdigest()

    def __railtracks_node__(self) -> FunctionNode[..., Any]:
        """Return a node that runs the flow; see ``as_node``."""
        entry = self.entry_point

        @functools.wraps(entry.func, updated=())
        async def run(*args: Any, **kwargs: Any) -> T:
            return await self.ainvoke(*args, **kwargs)

        node = FunctionNode(
            run,
            name=self.name,
            node_type="Other",
            is_async=True,
            version=entry.version,
            memo=entry.memo,
            retry_on_resume=entry.retry_on_resume,
            ignore=entry.ignore,
            context_changes=entry.context_changes,
            origin=f"railtracks.flow:{self.name}",
        )
        node.secrets = entry.secrets
        return node

    @property
    def _store(self) -> Any:
        return self._options.get("store")

    def _with_typed_values(self, info: ExecutionInfo) -> ExecutionInfo:
        """Return a run of this flow that was loaded with the values that were recorded; see ``rt.state.load_run``."""
        from railtracks._resume._typed_values import with_typed_values  # here, because few programs load a run

        return with_typed_values(info, self.entry_point)

    def _session(self, **resume_options: Any) -> Session:
        try:
            context = copy.deepcopy(self._context)
        except Exception as exc:  # a __deepcopy__ or __reduce__ may raise anything
            raise ContextError(
                f"the context of the flow {self.name!r} cannot be copied for a new run ({exc}); "
                f"keep such values out of it: have a function make them, for a parameter `x=rt.Depends(function)`, "
                f"or create them in a node and rt.context.put() them"
            ) from exc
        session = Session(
            context,
            payload_callback=self._payload_callback,
            flow_name=self.name,
            flow_id=self.equality_hash(),
            **{**self._options, **resume_options},
        )
        session._suspend_by_default()
        return session


def _check_identifier(run_identifier: object) -> None:
    from railtracks.state._stores._settings import check_identifier  # here, because few programs resume a run

    check_identifier(run_identifier)


@final
class FlowConnection(Generic[P, T]):
    """A handle that runs a flow and then has the session of the latest run; made by ``flow.connect()``.

    It can run the flow more than once.
    """

    def __init__(self, flow: Flow[P, T]) -> None:
        self._flow = flow
        self._latest_session: Session | None = None

    def invoke(self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the flow as ``Flow.invoke``."""
        self._check_no_loop("invoke")
        return self._run_to_end(self._flow._session(), *args, **kwargs)

    async def ainvoke(self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the flow as ``Flow.ainvoke``."""
        return await self._run(self._flow._session(), *args, **kwargs)

    @overload
    def resume(self, run_identifier: str, /, *, answers: Answers = None) -> T: ...
    @overload
    def resume(self, run_identifier: str, /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def resume(self, run_identifier: str, /, *args: Any, answers: Answers = None, **kwargs: Any) -> T:
        """Run the flow as ``Flow.resume``."""
        self._check_no_loop("resume")
        return self._run_to_end(self._resuming_session(run_identifier, answers), *args, **kwargs)

    @overload
    async def aresume(self, run_identifier: str, /, *, answers: Answers = None) -> T: ...
    @overload
    async def aresume(self, run_identifier: str, /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def aresume(self, run_identifier: str, /, *args: Any, answers: Answers = None, **kwargs: Any) -> T:
        """Run the flow as ``Flow.aresume``."""
        return await self._run(self._resuming_session(run_identifier, answers), *args, **kwargs)

    async def _aresume_if(self, run_identifier: str, check: Callable[[Store, ExecutionInfo], object]) -> T:
        """Do as ``aresume``, unless ``check`` raises when the run is loaded, and this session holds its lock."""
        session = self._resuming_session(run_identifier, None)
        assert session._resume_source is not None
        session._resume_source = session._resume_source._replace(check=check)
        return await self._run(session)

    def fork(self, run_identifier: str, /, *args: Any, before: Callable[..., Any] | str | int, **kwargs: Any) -> T:
        """Run the flow as ``Flow.fork``."""
        self._check_no_loop("fork")
        return self._run_to_end(self._forking_session(run_identifier, before), *args, **kwargs)

    async def afork(
        self, run_identifier: str, /, *args: Any, before: Callable[..., Any] | str | int, **kwargs: Any
    ) -> T:
        """Run the flow as ``Flow.afork``."""
        return await self._run(self._forking_session(run_identifier, before), *args, **kwargs)

    def _resuming_session(self, run_identifier: str, answers: Answers) -> Session:
        _check_identifier(run_identifier)
        return self._flow._session(resume=run_identifier, run_identifier=run_identifier, answers=answers)

    def _forking_session(self, run_identifier: str, before: Callable[..., Any] | str | int) -> Session:
        _check_identifier(run_identifier)
        return self._flow._session(resume=run_identifier, before=before, run_identifier=runtime_hooks.get().new_id())

    def _check_no_loop(self, method: str) -> None:
        check_no_event_loop(f"{method}() of the flow {self._flow.name!r}", f"await flow.a{method}(...)")

    def _run_to_end(self, session: Session, /, *args: Any, **kwargs: Any) -> T:
        run = functools.partial(self._run, session, *args, **kwargs)
        return run_event_loop(run, session.executor_config.backend)

    async def _run(self, session: Session, /, *args: Any, **kwargs: Any) -> T:
        self._latest_session = self._flow._last_session = session
        entry_point = self._flow.entry_point
        session._flow_step = FlowStep(self._flow.name, entry_point, args, kwargs)
        async with session:
            run = session._stored_run
            if run is not None and run.starts_again:
                run.check_arguments(entry_point, args, kwargs)
            elif session.resumes and not args and kwargs.keys() <= {*entry_point.ignore}:
                args, recorded = session.recorded_arguments(entry_point, **kwargs)
                return cast(T, await call(entry_point, *args, **recorded))
            return cast(T, await call(entry_point, *args, **kwargs))

    @property
    def session(self) -> Session:
        """The session of the latest run. Raises SessionError before the first run."""
        if self._latest_session is None:
            raise SessionError(
                "the flow has not run yet; call connection.invoke(...) or `await connection.ainvoke(...)` first"
            )
        return self._latest_session

    @property
    def session_id(self) -> str:
        """The identifier of that session."""
        return self.session.identifier

    @property
    def context(self) -> dict[str, Any]:
        """The context of that session, as the run left it."""
        return self.session.context

    def __repr__(self) -> str:
        run = "not run yet" if self._latest_session is None else repr(self._latest_session)
        return f"<FlowConnection of {self._flow.name!r}: {run}>"

    def _repr_html_(self) -> str:
        """Return the tree of the calls of the latest run as HTML, for notebooks."""
        from html import escape  # here, as few programs show a connection

        return escape(repr(self)) if self._latest_session is None else self._latest_session._repr_html_()

    def message_histories(self) -> dict[str, MessageHistory]:
        """Return the conversations of the agents in the latest run, by the identifiers of their calls, in order.

        They do not contain the agents' own system messages. The conversation of an agent that failed, or is still
        running, ends where it is.
        """
        from railtracks.agents._histories import message_histories  # here, because few flows have agents

        return message_histories(self.session.info)
