"""Functions as nodes: ``FunctionNode`` and the decorator that makes them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar, get_args, get_origin, overload

from railtracks.exceptions import NodeCreationError
from railtracks.nodes._callables import callable_is, display_name, is_async
from railtracks.nodes._identity import definition_path, former_key, node_key, secret_positions
from railtracks.nodes._node import Node
from railtracks.state._redaction._secret_names import secret_names

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class FunctionNode(Generic[P, R_co]):
    """A function that ``rt.call`` runs and records; made by :func:`function_node`.

    Called directly it is the plain function: nothing is recorded.

    Attributes:
        func: The function.
        name: The name in records and logs.
        node_type: The kind in records.
        is_async: Whether calling ``func`` returns an awaitable, which runs in the caller's task. Otherwise ``func``
            runs in a worker thread.
        abandon_on_cancel: Whether a cancelled call leaves its worker thread behind instead of waiting for it.
        version: The version of its code. Results of another version are not reused.
        memo: Whether a session that resumes another may use recorded results of it.
        origin: What identifies the function in all processes, if that is not the path of its definition. The library
            sets it for its own nodes, so that their keys do not change with its private modules.
        secrets: Texts that are never written in a session that has called the node.
        target: What the user passed: ``func``, or the class or partial that ``func`` makes nodes of.
        known_secrets: Its own secrets and those in what is bound to it; None if there can be none, and until ``key``
            was read.
    """

    def __init__(
        self,
        func: Callable[P, R_co],
        *,
        name: str,
        node_type: str = "Tool",
        is_async: bool,
        abandon_on_cancel: bool = True,
        version: str | None = None,
        memo: bool = True,
        origin: str | None = None,
    ) -> None:
        functools.update_wrapper(self, func, updated=())
        self.func = func
        self.name = name
        self.node_type = node_type
        self.is_async = is_async
        self.abandon_on_cancel = abandon_on_cancel
        self.version = version
        self.memo = memo
        self.origin = origin
        self.known_secrets: list[str] | None = None
        self.secrets: tuple[str, ...] = ()
        self.target: Callable[..., Any] = func

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.func(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """Bind like the wrapped function when the node stands in a class body."""
        bind = getattr(type(self.func), "__get__", None)
        if bind is None or (instance is None and not isinstance(self.func, classmethod | staticmethod)):
            return self
        bound = bind(self.func, instance, owner)
        return _make(bound, self.name, abandon_on_cancel=self.abandon_on_cancel, version=self.version, memo=self.memo)

    @functools.cached_property
    def key(self) -> str | None:
        """What identifies the node in all processes: where its function is defined, what is bound to it, its version.

        None for lambdas, which have no name, and for what is bound to a value that cannot be written.
        """
        path = self.origin or definition_path(self.func)
        key, self.known_secrets = node_key(path, self.target, self.version, self.secrets)
        return key

    @functools.cached_property
    def former_key(self) -> str | None:
        """The key that version 3 of the format recorded, if it was another one and belongs to no other node."""
        return former_key(self.origin or definition_path(self.func), self.target, self.version)

    @functools.cached_property
    def return_hint(self) -> Any:
        """The type that the return annotation names; ``UNKNOWN`` without one, or if it cannot be resolved."""
        from railtracks.state._serialization._type_hints import UNKNOWN, hints_of  # here, as few programs resume

        target: Any = inspect.unwrap(self.func)
        hint = hints_of(getattr(target, "invoke", target)).get("return", UNKNOWN)
        return get_args(hint)[-1] if get_origin(hint) in (Awaitable, Coroutine) else hint

    _secret_positions: frozenset[int] = frozenset()
    _secret_names_revision = -1  # that of the secret names when the positions were found

    @property
    def secret_positions(self) -> frozenset[int]:
        """The positions of the positional arguments whose parameters name a secret."""
        if self._secret_names_revision != secret_names.revision:
            self._secret_names_revision = secret_names.revision
            self._secret_positions = secret_positions(self.target)
        return self._secret_positions

    def __repr__(self) -> str:
        return f"<node {self.name}>"


def _make(func: Callable[..., Any], name: str | None, **options: Any) -> FunctionNode[..., Any]:
    for test, kind in (
        (inspect.isasyncgenfunction, "an async generator"),
        (inspect.isgeneratorfunction, "a generator"),
    ):
        if callable_is(func, test):
            raise NodeCreationError(
                f"{display_name(func)} is {kind} function, but a node returns one value; "
                f"collect the items and return them: `return [item ... for item in ...]`"
            )
    return FunctionNode(func, name=name or display_name(func), is_async=is_async(func), **options)


@overload
def function_node(
    func: Callable[P, R_co],
    *,
    name: str | None = None,
    abandon_on_cancel: bool = True,
    version: str | None = None,
    memo: bool = True,
) -> FunctionNode[P, R_co]: ...
@overload
def function_node(
    *, name: str | None = None, abandon_on_cancel: bool = True, version: str | None = None, memo: bool = True
) -> Callable[[Callable[P, R_co]], FunctionNode[P, R_co]]: ...
def function_node(
    func: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    abandon_on_cancel: bool = True,
    version: str | None = None,
    memo: bool = True,
) -> Any:
    """Make a node of a function: ``@rt.function_node``, ``@rt.function_node(name=...)`` or ``rt.function_node(func)``.

    Args:
        func: An async function, which runs in the caller's task, or any other callable (a function, lambda, builtin,
            partial, method, callable object), which runs in a worker thread with the caller's context variables.
        name: The name in records and logs; by default that of the function.
        abandon_on_cancel: What a cancelled call does about its worker thread, which cannot be killed. True: it stops
            waiting and leaves the thread to end by itself; the record says so, and a warning names the node. False:
            it waits until the function returns.
        version: The version of the function's code, such as "2". When a run is resumed, results of another version
            are not used: change it when the function should run again.
        memo: False: when a run is resumed, calls of this node run again, even if they had completed.

    Returns:
        The node. Called directly it is still the plain function.

    Raises:
        NodeCreationError: ``func`` is not callable, or is a generator function; ``name`` or ``version`` is not a
            non-empty string.
    """
    options = {"abandon_on_cancel": abandon_on_cancel, "version": version, "memo": memo}
    if func is None:
        return functools.partial(function_node, name=name, **options)
    for label, text in (("name", name), ("version", version)):
        if text is not None and (not isinstance(text, str) or not text):
            raise NodeCreationError(f"rt.function_node: {label} must be a non-empty string, not {text!r}")
    if isinstance(func, FunctionNode):
        return _make(func.func, name or func.name, **options)
    if isinstance(func, type) and issubclass(func, Node):
        raise NodeCreationError(f"{func.__name__} is already a node; write `rt.call({func.__name__}, ...)`")
    if not callable(func) and not isinstance(func, classmethod):  # type: ignore[unreachable]
        raise NodeCreationError(f"{func!r} is not callable; pass rt.function_node() a function")
    return _make(func, name, **options)
