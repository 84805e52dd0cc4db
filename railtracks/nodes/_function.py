"""Functions as nodes: ``FunctionNode`` and the decorator that makes them."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from types import FunctionType, MethodType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    get_args,
    get_origin,
    overload,
)

from railtracks._mocks import mock_behind, mock_name
from railtracks._policies import Cache, Limit, Policies, PolicyOptions, Retry, changed_policies, policies_of
from railtracks._wording import unknown_argument
from railtracks.exceptions import NodeCreationError
from railtracks.nodes._arguments import ELSEWHERE, check_ignored, check_texts
from railtracks.nodes._callables import callable_is, display_name, is_async
from railtracks.nodes._code import code_of
from railtracks.nodes._depends import with_dependencies
from railtracks.nodes._identity import (
    GIVEN_KEY,
    argument_positions,
    check_key,
    definition_path,
    former_key,
    node_key,
)
from railtracks.nodes._node import Node
from railtracks.nodes._wrapping import attribute_of, reduce_node
from railtracks.state._redaction._secret_names import is_secret_name, secret_names
from railtracks.state._serialization._placeholders import IGNORED

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
R_co = TypeVar("R_co", covariant=True)


class FunctionNode(Generic[P, R_co]):
    """A function that ``rt.call`` runs and records; made by :func:`function_node`.

    Called directly it is the plain function: nothing is recorded.

    Attributes:
        func: The function.
        body: What a call runs: the function, with its dependencies (``rt.Depends``) filled in, if it has any.
        name: The name in records and logs.
        node_type: The kind in records.
        is_async: Whether calling ``func`` returns an awaitable, which runs in the caller's task. Otherwise ``func``
            runs in a worker thread.
        abandon_on_cancel: Whether a cancelled call leaves its worker thread behind instead of waiting for it.
        given_key: The key that the user passed; None if there is none.
        version: The version of its code. Results of another version are not reused.
        memo: Whether a session that resumes another may use recorded results of it.
        retry_on_resume: Whether a call that failed is made again by a session that resumes another, although its caller
            had gone on.
        ignore: The names of parameters that do not count when calls are compared.
        context_changes: What becomes of a recorded result if the call had read other values from the context: "warn",
            "rerun" or "ignore".
        policies: How long a call may take, how often it is tried, and so on; None if the node declares nothing.
        origin: What identifies the function in all processes, if that is not the path of its definition: the key that
            the user passed, marked as one. The library sets it for its own nodes, so that their keys do not change with
            its private modules.
        secrets: Texts that are never written in a session that has called the node.
        target: What the user passed: ``func``, or the class or partial that ``func`` makes nodes of.
        reduced: How it is pickled if it was not made of a function; None otherwise.
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
        key: str | None = None,
        version: str | None = None,
        memo: bool = True,
        retry_on_resume: bool = False,
        ignore: Sequence[str] = (),
        context_changes: str = "warn",
        origin: str | None = None,
        policies: Policies | None = None,
    ) -> None:
        functools.update_wrapper(self, func, updated=())
        self.func = func
        self.body: Callable[P, R_co] = func
        self.name = name
        self.node_type = node_type
        self.is_async = is_async
        self.abandon_on_cancel = abandon_on_cancel
        self.version = version
        self.memo = memo
        self.retry_on_resume = retry_on_resume
        self.ignore: tuple[str, ...] = tuple(ignore)
        self.context_changes: str = context_changes
        self.policies: Policies | None = policies
        self._policies_over: tuple[Policies, Policies] | None = None  # the latest defaults, and what they make of it
        self.origin: str | None = origin if key is None else f"{GIVEN_KEY}{key}"
        self.given_key = key
        self.known_secrets: list[str] | None = None
        self.secrets: tuple[str, ...] = ()
        self.target: Callable[..., Any] = func
        self.reduced: tuple[Any, ...] | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.body(*args, **kwargs)

    if not TYPE_CHECKING:  # or any attribute, misspelt ones too, would have a type

        @property
        def __class__(self) -> type:
            """The type of the wrapped function or method, whose signature ``unittest.mock`` then checks."""
            kind = type(self.__dict__.get("func"))
            return kind if kind in (FunctionType, MethodType) else type(self)

        def __getattr__(self, attribute: str) -> Any:
            """Return an attribute of the wrapped function, such as ``cache_info``."""
            if "func" not in self.__dict__:  # it is being made
                raise AttributeError(attribute)
            return attribute_of(self.func, attribute, self.name)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: FunctionNode[Concatenate[S, Q], R_co], instance: S, owner: type | None = None
    ) -> FunctionNode[Q, R_co]: ...
    @overload
    def __get__(self, instance: Any, owner: type | None = None) -> Self: ...
    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """Bind like the wrapped function when the node stands in a class body."""
        bind = getattr(type(self.func), "__get__", None)
        if bind is None or (instance is None and not isinstance(self.func, classmethod | staticmethod)):
            return self
        return _make(bind(self.func, instance, owner), **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        """The arguments of ``_make`` beside the function."""
        return {
            "name": self.name,
            "abandon_on_cancel": self.abandon_on_cancel,
            "key": self.given_key,
            "version": self.version,
            "memo": self.memo,
            "retry_on_resume": self.retry_on_resume,
            "ignore": self.ignore,
            "context_changes": self.context_changes,
            "policies": self.policies,
        }

    def options(self, **policies: Unpack[PolicyOptions]) -> Self:
        """Return this node with other policies, for single calls: ``await rt.call(fetch.options(retries=0), url)``.

        On record it is the same node.

        Args:
            **policies: See ``rt.function_node``. Those that are not given stay as they are.

        Raises:
            ConfigError: a value is not allowed, or there is no such policy.
        """
        node = object.__new__(type(self))
        node.__dict__.update(self.__dict__)
        node._policies_over = None
        node.policies = changed_policies(self.policies, policies, f"{self.name}.options")
        if self.reduced is not None:
            node.reduced = _with_policies, (*self.reduced, node.policies)
        return node

    def policies_over(self, defaults: Policies) -> Policies:
        """Return its policies, with ``defaults``, those of a session, for what it does not declare."""
        known = self._policies_over
        if known is None or known[0] is not defaults:  # once for each session, as it takes longer than a call
            known = self._policies_over = defaults, defaults if self.policies is None else self.policies.over(defaults)
        return known[1]

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self.reduced or reduce_node(self, _rebuild, self._options)

    def __eq__(self, other: object) -> bool:
        """Return whether it is a node of the same function with the same options.

        One that is bound to an object, or static, is made anew at each access, as a bound method is.
        """
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        return self._compared == other._compared and self._options == other._options

    def __hash__(self) -> int:
        return hash(self._compared)

    @property
    def _compared(self) -> object:
        """What the function compares by: a bound method by its object and function, anything else by identity."""
        if self.target is not self.func:
            return id(self)
        return self.func if type(self.func) is MethodType else id(self.func)

    def __copy__(self) -> Self:
        return self  # like a function

    def __deepcopy__(self, memo: dict[int, Any]) -> FunctionNode[..., R_co]:
        # Like its function: a plain one is not copied, a method or a partial with what it is bound to.
        func = copy.deepcopy(self.func, memo)
        is_same = func is self.func or (type(func) is MethodType and func == self.func)
        return self if is_same else _make(func, **self._options)

    @functools.cached_property
    def key(self) -> str | None:
        """What identifies the node in all processes: where its function is defined, what is bound to it, its version.

        The key that the user passed stands in place of the first.

        None for lambdas, which have no name, and for what is bound to a value that cannot be written.
        """
        path = self.origin or definition_path(self.func)
        key, self.known_secrets = node_key(path, self.target, self.version, self.secrets)
        return key

    @functools.cached_property
    def unkeyed(self) -> str | None:
        """The key that the node would have without the one that the user passed; None if none was passed.

        Calls are on record under it that were made before the key was given.
        """
        if self.given_key is None:
            return None
        return node_key(definition_path(self.func), self.target, self.version, self.secrets)[0]

    @functools.cached_property
    def definition(self) -> str:
        """The path of the function's definition, with its line if it is a lambda."""
        path = definition_path(self.func)
        code = getattr(self.func, "__code__", None)
        return f"{path} in line {code.co_firstlineno}" if path.endswith("<lambda>") and code is not None else path

    @functools.cached_property
    def code(self) -> str | None:
        """The digest of its code, after the interpreter that it is of; None if it has no code in Python."""
        return code_of(self.target)

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
            self._secret_positions = argument_positions(self.target, is_secret_name)
        return self._secret_positions

    @functools.cached_property
    def _ignored_positions(self) -> frozenset[int]:
        return argument_positions(self.target, self.ignore.__contains__)

    def without_ignored(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """Return the arguments of a call as they are recorded: with ``IGNORED`` in place of those that do not count."""
        positions = self._ignored_positions
        return (
            tuple(IGNORED if at in positions else arg for at, arg in enumerate(args)),
            {name: IGNORED if name in self.ignore else arg for name, arg in kwargs.items()},
        )

    def __repr__(self) -> str:
        return f"<node {self.name}>"


def _make(func: Any, name: str | None, **options: Any) -> FunctionNode[..., Any]:
    for test, kind in (
        (inspect.isasyncgenfunction, "an async generator"),
        (inspect.isgeneratorfunction, "a generator"),
    ):
        if callable_is(func, test):
            raise NodeCreationError(
                f"{display_name(func)} is {kind} function, but a node returns one value; "
                f"collect the items and return them: `return [item ... for item in ...]`"
            )
    if (mock := mock_behind(func)) is not None:  # which would note how it is inspected
        is_awaited = is_async(mock)
        return FunctionNode(_calls_of(func, is_awaited), name=name or mock_name(func), is_async=is_awaited, **options)
    node = FunctionNode(func, name=name or display_name(func), is_async=is_async(func), **options)
    node.body = with_dependencies(func, func, node.is_async)
    return node


def _calls_of(mock: Any, is_awaited: bool) -> Callable[..., Any]:
    """Return a function that calls a mock. It has no name, so results of it are not found when a run is resumed."""

    async def call_and_wait(*args: Any, **kwargs: Any) -> Any:
        return await mock(*args, **kwargs)

    def call(*args: Any, **kwargs: Any) -> Any:
        return mock(*args, **kwargs)

    caller = call_and_wait if is_awaited else call
    caller.__name__ = caller.__qualname__ = "<lambda>"
    return caller


def _with_policies(make: Callable[..., Any], args: tuple[Any, ...], policies: Policies | None) -> Any:
    """Return a node that was pickled, of a class, with its own policies."""
    node = make(*args)
    node.policies = policies
    return node


def _rebuild(func: Callable[..., Any], options: dict[str, Any]) -> FunctionNode[..., Any]:
    """Return a node that was pickled, made of a function or of another node of that function."""
    return _make(func.func if isinstance(func, FunctionNode) else func, **options)


@overload
def function_node(
    func: Callable[P, R_co],
    *,
    name: str | None = None,
    abandon_on_cancel: bool = True,
    key: str | None = None,
    version: str | None = None,
    memo: bool = True,
    retry_on_resume: bool = False,
    ignore: Sequence[str] = (),
    context_changes: Literal["warn", "rerun", "ignore"] = "warn",
    **policies: Unpack[PolicyOptions],
) -> FunctionNode[P, R_co]: ...
@overload
def function_node(
    *,
    name: str | None = None,
    abandon_on_cancel: bool = True,
    key: str | None = None,
    version: str | None = None,
    memo: bool = True,
    retry_on_resume: bool = False,
    ignore: Sequence[str] = (),
    context_changes: Literal["warn", "rerun", "ignore"] = "warn",
    **policies: Unpack[PolicyOptions],
) -> Callable[[Callable[P, R_co]], FunctionNode[P, R_co]]: ...
def function_node(
    func: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    abandon_on_cancel: bool = True,
    key: str | None = None,
    version: str | None = None,
    memo: bool = True,
    retry_on_resume: bool = False,
    ignore: Sequence[str] = (),
    context_changes: Literal["warn", "rerun", "ignore"] = "warn",
    timeout: float | None = None,
    retries: int | Retry | None = None,
    limit: float | Limit | None = None,
    cache: bool | Cache | None = None,
    where: str | None = None,
    **unknown: Any,
) -> Any:
    """Make a node of a function: ``@rt.function_node``, ``@rt.function_node(name=...)`` or ``rt.function_node(func)``.

    Args:
        func: An async function, which runs in the caller's task, or any other callable (a function, lambda, builtin,
            partial, method, callable object), which runs in a worker thread with the caller's context variables. Of
            another node its function is taken, and its name unless ``name`` is given, but not its other options.
        name: The name in records and logs; by default that of the function.
        abandon_on_cancel: What a cancelled call does about its worker thread, which cannot be killed. True: it stops
            waiting and leaves the thread to end by itself; the record says so, and a warning names the node. False:
            it waits until the function returns.
        key: What identifies the node on record, such as "billing.charge", in place of the function's module and name.
            With it, recorded results are found again after the function was renamed or moved. It must belong to one
            function only.
        version: The version of the function's code, such as "2". When a run is resumed, results of another version
            are not used: change it when the function should run again.
        memo: False: when a run is resumed, calls of this node run again, even if they had completed.
        retry_on_resume: True: when a run is resumed, a call of this node that had failed runs again, even if the code
            that made it had gone on. By default that code sees the recorded exception again, and takes the same way.
        ignore: The names of parameters that do not count when a run is resumed, such as ``("client",)``: a call is
            found whatever they are. Their arguments are not recorded.
        context_changes: What happens when a run is resumed, and a call of this node, or one below it, had read a key of
            ``rt.context`` that has another value now. "warn": the recorded result is used, which is logged, and which
            ``info.resumed`` shows. "rerun": the call runs again. "ignore": the recorded result is used.
        timeout: Seconds that a call may take; after that it is cancelled, and fails with ``NodeTimeOutError``. Each
            attempt has that long, and waiting for a limit does not count. ``math.inf``: no limit.
        retries: How often a call that fails is tried again, such as 3, or an ``rt.Retry``. 0: never. Each attempt is on
            record.
        limit: How many calls of this node run at once in one session, such as 5, or an ``rt.Limit``, which several
            nodes can share. ``math.inf``: no limit.
        cache: True, or an ``rt.Cache``: results are used again for equal calls. False: they are not.
        where: Where the function runs: "task", "thread", "caller", "process", or the name of an executor of the
            session; see ``docs/scaling.md``. By default an async one runs in the task that calls it ("task"), and any
            other in a worker thread ("thread").

    Of the last five, those that are not given are as the session says; its option for ``timeout`` is ``node_timeout``,
    and its ``where`` is for sync nodes.

    Returns:
        The node. Called directly it is still the plain function.

    Raises:
        NodeCreationError: ``func`` is not callable, or is a generator function; ``name`` or ``version`` is not a
            non-empty string; ``key`` has characters that are not allowed; ``ignore`` names what is not a parameter; an
            option has a value that is not allowed.
        ConfigError: a policy has a value that is not allowed.
        TypeError: there is no argument of that name; the text says what to write instead of ``max_retries`` and others
            that other libraries have.
    """
    ignored = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    options: dict[str, Any] = {
        "abandon_on_cancel": abandon_on_cancel,
        "key": key,
        "version": version,
        "memo": memo,
        "retry_on_resume": retry_on_resume,
        "ignore": ignored,
        "context_changes": context_changes,
    }
    policies: PolicyOptions = {"timeout": timeout, "retries": retries, "limit": limit, "cache": cache, "where": where}
    if unknown:
        first = next(iter(unknown))
        raise unknown_argument("rt.function_node", first, ("name", *options, *policies), ELSEWHERE.get(first, ""))
    if func is None:
        return functools.partial(function_node, name=name, **options, **policies)
    check_texts({"name": name, "version": version})
    check_key(key, "rt.function_node")
    if context_changes not in ("warn", "rerun", "ignore"):
        raise NodeCreationError(
            f"rt.function_node: context_changes must be 'warn', 'rerun' or 'ignore', not {context_changes!r}"
        )
    check_ignored(func, ignored)
    options["policies"] = policies_of(policies, "rt.function_node")
    if issubclass(type(func), FunctionNode):  # not `isinstance`, which a mock of a node passes
        node: FunctionNode[..., Any] = func  # type: ignore[assignment]
        return _make(node.func, name or node.name, **options)
    if isinstance(func, type) and issubclass(func, Node):
        raise NodeCreationError(f"{func.__name__} is already a node; write `rt.call({func.__name__}, ...)`")
    if not callable(func) and not isinstance(func, classmethod):  # type: ignore[unreachable]
        raise NodeCreationError(f"{func!r} is not callable; pass rt.function_node() a function")
    return _make(func, name, **options)
