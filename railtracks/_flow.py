"""Flow: an entry point and its options, to be run as often as one likes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, Unpack, cast, final, overload

import anyio

from railtracks._call import call
from railtracks._config import SessionOptions, checked
from railtracks._session import Session, check_arguments
from railtracks.exceptions import ConfigError, ContextError, SessionError
from railtracks.execution import running_library
from railtracks.nodes import Node
from railtracks.nodes._function import as_node, origin

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
        self.entry_point = as_node(entry_point, "rt.Flow")
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

        options = sorted((k, v) for k, v in checked(self._options).items() if not callable(v))
        content = repr((self.name, origin(self.entry_point), self.entry_point.name, options))
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    def _session(self) -> Session:
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
            **self._options,
        )


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
        if library := running_library():
            raise SessionError(
                f"the flow {self._flow.name!r} was invoked inside a running {library} event loop, which it would "
                f"block; write `await flow.ainvoke(...)`"
            )
        opened = self._flow._session()
        run = functools.partial(self._run, opened, *args, **kwargs)
        return anyio.run(run, backend=opened.executor_config.backend)

    async def ainvoke(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``Flow.ainvoke``."""
        return await self._run(self._flow._session(), *args, **kwargs)

    async def _run(self, opened: Session, /, *args: Any, **kwargs: Any) -> T:
        self._opened = opened
        async with opened:
            return cast(T, await call(self._flow.entry_point, *args, **kwargs))

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
