"""Flow: an entry point and its options, to be run as often as one likes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast, final, overload

import anyio

from railtracks._call import call
from railtracks._config import SessionOptions, checked
from railtracks._ids import sources
from railtracks._session import Session, check_arguments
from railtracks.exceptions import ConfigError, ContextError, SessionError
from railtracks.execution import running_library
from railtracks.nodes import FunctionNode, Node
from railtracks.nodes._function import as_node, origin

if TYPE_CHECKING:
    from railtracks.llm import MessageHistory

P = ParamSpec("P")
T = TypeVar("T")


class Flow(Generic[P, T]):
    """A named, reusable piece of work. Each run has a session, and a deep copy of the context, of its own::

        flow = rt.Flow("Greeting", entry_point=greet, timeout=60)
        flow.invoke("Ada")          # in synchronous code
        await flow.ainvoke("Ada")   # in async code

    Args:
        name: For people; recorded as ``flow_name``.
        entry_point: The node to call; anything that ``rt.call`` takes.
        context: What ``rt.context`` gives to the nodes.
        payload_callback: As for :class:`Session`.
        **options: The same. A flow's sessions have no name of their own; ``run_identifier`` names the state file.

    Raises:
        ConfigError: an option is unknown, or a value is not allowed.
        NodeCreationError: ``entry_point`` is no node.
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
                f"argument name: {name!r} is not allowed; give the flow a name: rt.Flow('My Flow', my_node)"
            )
        self.name = name
        self.entry_point: FunctionNode[..., Any] = as_node(entry_point, "rt.Flow")
        check_arguments(context, payload_callback)  # what is wrong is told here, where it is written
        checked(options)
        self._context = dict(context or {})
        self._payload_callback = payload_callback
        self._options = options

    def invoke(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the flow and return what its entry point returns. Blocks; on its own event loop (option ``backend``).

        Raises:
            SessionError: an event loop is running in this thread; write ``await flow.ainvoke(...)``.
            Exception: as ``rt.call``.
        """
        return self.connect().invoke(*args, **kwargs)

    async def ainvoke(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the flow and return what its entry point returns. Raises and is cancelled as ``rt.call``."""
        return await self.connect().ainvoke(*args, **kwargs)

    @overload
    def resume(self, run_identifier: str, /) -> T: ...
    @overload
    def resume(self, run_identifier: str, /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def resume(self, run_identifier: str, /, *args: Any, **kwargs: Any) -> T:
        """Run the flow again, in place of an earlier run, and use what calls of that had returned. Blocks.

        A call that had completed does not run again. One that was running when the process died does: it may run twice.
        So do those that failed or were cancelled. ``flow.connect()`` has a ``resume`` too, and after it
        ``session.info.resumed`` says which calls were reused, which ran, and why.

        Args:
            run_identifier: The earlier run's ``run_identifier``, or what stood in for it. The new run has the same.
            *args: For the entry point; without any, it gets what it was given before.
            **kwargs: The same.

        Raises:
            ConfigError: that is no identifier.
            StateError: there is no such run, it cannot be read, or its arguments cannot be brought back.
            RunInUseError: it still runs.
            SessionError: an event loop is running in this thread; write ``await flow.aresume(...)``.
            Exception: as ``rt.call``.
        """
        return self.connect().resume(run_identifier, *args, **kwargs)

    @overload
    async def aresume(self, run_identifier: str, /) -> T: ...
    @overload
    async def aresume(self, run_identifier: str, /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def aresume(self, run_identifier: str, /, *args: Any, **kwargs: Any) -> T:
        """As ``resume``, in async code. Cancelled as ``rt.call``."""
        return await self.connect().aresume(run_identifier, *args, **kwargs)

    def fork(self, run_identifier: str, /, *args: Any, before: Callable[..., Any] | str | int, **kwargs: Any) -> T:
        """Run the flow again from some point of an earlier run on, which stays as it is. Blocks.

        The new run has a random identifier; ``flow.connect()`` has a ``fork`` too, and tells it after that.

        Args:
            run_identifier: As for ``resume``, and so are the arguments.
            *args: The same.
            before: What had not completed before this runs again: a node, or its name, for its first call, or a step.
            **kwargs: As for ``resume``.

        Raises: as ``resume``, and StateError if that run has no call of ``before``. It may still run.
        """
        return self.connect().fork(run_identifier, *args, before=before, **kwargs)

    async def afork(
        self, run_identifier: str, /, *args: Any, before: Callable[..., Any] | str | int, **kwargs: Any
    ) -> T:
        """As ``fork``, in async code. Cancelled as ``rt.call``."""
        return await self.connect().afork(run_identifier, *args, before=before, **kwargs)

    def connect(self) -> FlowConnection[P, T]:
        """A handle that, after a run, shows the session it ran in."""
        return FlowConnection(self)

    def update_context(self, context: Mapping[str, Any]) -> Flow[P, T]:
        """A new flow, whose context has these values too. This one stays as it is. ConfigError if it is no mapping."""
        if not isinstance(context, Mapping):
            raise ConfigError(f"argument context: {context!r} is not allowed; give a mapping")
        changed = copy.copy(self)
        changed._context = {**self._context, **context}
        return changed

    def equality_hash(self) -> str:
        """A digest that is equal for flows of the same name, entry point and plain options, in all processes.

        The context and the callbacks do not count: they cannot be compared across processes, and may hold secrets.
        """
        import hashlib  # here, because it loads OpenSSL

        options = sorted((k, v) for k, v in checked(self._options).items() if isinstance(v, str | int | float))
        content = repr((self.name, origin(self.entry_point), self.entry_point.name, options))
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    def _session(self, **resumption: Any) -> Session:
        try:
            context = copy.deepcopy(self._context)
        except Exception as exc:  # whatever a __deepcopy__ or __reduce__ raises
            raise ContextError(
                f"the context of the flow {self.name!r} cannot be copied for a new run ({exc}); "
                f"keep such values out of it, or make them in a node and rt.context.put() them"
            ) from exc
        return Session(
            context,
            payload_callback=self._payload_callback,
            flow_name=self.name,
            flow_id=self.equality_hash(),
            **{**self._options, **resumption},
        )


def _check_identifier(run_identifier: object) -> None:
    from railtracks.state._runs import check_identifier  # here, as few programs resume a run

    check_identifier(run_identifier)


@final
class FlowConnection(Generic[P, T]):
    """Runs a flow and, after that, shows the session it ran in; made by ``flow.connect()``.

    It can run again; then it shows the latest session.
    """

    def __init__(self, flow: Flow[P, T]) -> None:
        self._flow = flow
        self._opened: Session | None = None

    def invoke(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``Flow.invoke``."""
        self._check_no_loop("invoke")
        return self._run_to_end(self._flow._session(), *args, **kwargs)

    async def ainvoke(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``Flow.ainvoke``."""
        return await self._run(self._flow._session(), *args, **kwargs)

    @overload
    def resume(self, run_identifier: str, /) -> T: ...
    @overload
    def resume(self, run_identifier: str, /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    def resume(self, run_identifier: str, /, *args: Any, **kwargs: Any) -> T:
        """As ``Flow.resume``."""
        self._check_no_loop("resume")
        return self._run_to_end(self._resumption(run_identifier), *args, **kwargs)

    @overload
    async def aresume(self, run_identifier: str, /) -> T: ...
    @overload
    async def aresume(self, run_identifier: str, /, *args: P.args, **kwargs: P.kwargs) -> T: ...
    async def aresume(self, run_identifier: str, /, *args: Any, **kwargs: Any) -> T:
        """As ``Flow.aresume``."""
        return await self._run(self._resumption(run_identifier), *args, **kwargs)

    def fork(self, run_identifier: str, /, *args: Any, before: Callable[..., Any] | str | int, **kwargs: Any) -> T:
        """As ``Flow.fork``."""
        self._check_no_loop("fork")
        return self._run_to_end(self._fork(run_identifier, before), *args, **kwargs)

    async def afork(
        self, run_identifier: str, /, *args: Any, before: Callable[..., Any] | str | int, **kwargs: Any
    ) -> T:
        """As ``Flow.afork``."""
        return await self._run(self._fork(run_identifier, before), *args, **kwargs)

    def _resumption(self, run_identifier: str) -> Session:
        _check_identifier(run_identifier)
        return self._flow._session(resume=run_identifier, run_identifier=run_identifier)

    def _fork(self, run_identifier: str, before: Callable[..., Any] | str | int) -> Session:
        _check_identifier(run_identifier)
        return self._flow._session(resume=run_identifier, before=before, run_identifier=sources.get().new_id())

    def _check_no_loop(self, method: str) -> None:
        if library := running_library():
            raise SessionError(
                f"{method}() of the flow {self._flow.name!r} was called inside a running {library} event loop, which "
                f"it would block; write `await flow.a{method}(...)`"
            )

    def _run_to_end(self, opened: Session, /, *args: Any, **kwargs: Any) -> T:
        run = functools.partial(self._run, opened, *args, **kwargs)
        return anyio.run(run, backend=opened.executor_config.backend)

    async def _run(self, opened: Session, /, *args: Any, **kwargs: Any) -> T:
        self._opened = opened
        entry_point = self._flow.entry_point
        async with opened:
            if opened.resumes and not args and not kwargs:
                args, recorded = opened.recorded_arguments(entry_point)
                return cast(T, await call(entry_point, *args, **recorded))
            return cast(T, await call(entry_point, *args, **kwargs))

    @property
    def session(self) -> Session:
        """The session of the latest run. SessionError before the first."""
        if self._opened is None:
            raise SessionError(
                "the flow has not run yet; call connection.invoke(...) or `await connection.ainvoke(...)` first"
            )
        return self._opened

    @property
    def session_id(self) -> str:
        """Its identifier."""
        return self.session.identifier

    @property
    def context(self) -> dict[str, Any]:
        """Its context, as the run left it."""
        return self.session.context

    def message_histories(self) -> dict[str, MessageHistory]:
        """The conversations of the agents in the latest run, by the identifiers of their calls, in order.

        Of agents that failed, or still run, as far as they came. Without the agents' own system messages.
        """
        from railtracks.agents._histories import message_histories  # here, as few flows have agents

        return message_histories(self.session.info)
