"""Functions as nodes, and whatever else may be called, brought to that one form."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from railtracks._public_path import public_path
from railtracks.exceptions import NodeCreationError
from railtracks.nodes._node import Node
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._redaction._secret_names import is_secret_name, secret_names
from railtracks.state._serialization._encoder import MAX_ITEMS
from railtracks.state._serialization._record_text import form_in, inputs_text, is_lost

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


class FunctionNode(Generic[P, R_co]):
    """A function that ``rt.call`` runs and records; made by :func:`function_node`.

    Called directly it is the plain function: nothing is recorded.

    Attributes:
        func: The function.
        name: The name in records and logs.
        node_type: The kind in records.
        is_async: Calling ``func`` gives an awaitable, which runs in the caller's task; False: ``func`` runs in a
            worker thread.
        abandon_on_cancel: A cancelled call leaves its worker thread behind instead of waiting for it.
        version: Which state of its code this is; results of another version are not reused.
        memo: A session that resumes another may use recorded results of it.
        origin: What identifies the function in all processes, where that is not the place of its definition: the
            library's own nodes stay the same when its private modules change.
        secrets: What is never written in a session that has called it.
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
        self.bound: list[str] | None = None
        """The secrets in what is bound to it, if anything is, and its own; known once ``key`` is."""
        self.secrets: tuple[str, ...] = ()
        self.target: Callable[..., Any] = func
        """What the user gave: ``func``, or the class or partial that ``func`` makes nodes of."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        return self.func(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """In a class body the node binds like the function it wraps."""
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
        place = self.origin or origin(self)
        bound = _bound(self.target)
        redactor = Redactor()
        for own in self.secrets:
            redactor.add(own)
        secret_positions = _hidden_places(innermost(self.target))
        text = "" if bound is None else inputs_text(*bound, redactor, secret_positions)
        self.bound = None if bound is None and not self.secrets else redactor.known
        if place.endswith("<lambda>") or is_lost(form_in(text)):
            return None
        return place + (f"({text})" if text else "") + (f"@{self.version}" if self.version is not None else "")

    _hidden: frozenset[int] = frozenset()
    _hidden_at = -1  # the revision of the secret names

    @property
    def secret_positions(self) -> frozenset[int]:
        """The places of the positional arguments whose parameters name a secret."""
        if self._hidden_at != secret_names.revision:
            self._hidden_at = secret_names.revision
            self._hidden = _hidden_places(self.target)
        return self._hidden

    def __repr__(self) -> str:
        return f"<node {self.name}>"


def is_node_class(target: object) -> bool:
    return isinstance(target, type) and issubclass(target, Node)


def innermost(target: Any) -> Any:
    """What a partial, however nested, calls in the end."""
    while isinstance(target, functools.partial):
        target = target.func
    return target


def _display_name(target: Any) -> str:
    inner = innermost(target)
    name = getattr(inner, "__name__", None)
    return name if isinstance(name, str) else type(inner).__name__


def _flavour(target: Any, test: Callable[[Any], bool]) -> bool:
    """Does ``test`` hold for the function that calling ``target`` runs?"""
    inner = innermost(target)
    if isinstance(inner, type) or not callable(inner):  # what a class makes, or what a classmethod is bound to later
        return test(getattr(inner, "__func__", None))
    return test(inner) or test(type(inner).__call__)


def is_async(target: Any) -> bool:
    """Does calling ``target`` give a coroutine, as far as can be told without calling it?"""
    return _flavour(target, inspect.iscoroutinefunction)


def origin(node: FunctionNode[..., Any]) -> str:
    """Where what the node runs was defined: the same in all processes, and different for different code."""
    inner = innermost(node.func)
    home = inner if hasattr(inner, "__qualname__") else type(inner)
    owner = getattr(home, "__objclass__", home)  # of a method of a builtin type
    module = getattr(owner, "__module__", "builtins")  # None for methods of builtin objects
    return public_path(home) if str(module).startswith("railtracks.") else f"{module}.{home.__qualname__}"


def _bound(func: Any) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """What is bound to the function, as arguments; None if nothing is."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    while isinstance(func, functools.partial):
        args, kwargs, func = (*func.args, *args), {**func.keywords, **kwargs}, func.func
    if not isinstance(func, FunctionType | BuiltinFunctionType | type | Node) and not hasattr(func, "__wrapped__"):
        owner = getattr(func, "__self__", func)  # of a bound method; or an object that can be called
        args = (f"{owner.__module__}.{owner.__qualname__}" if isinstance(owner, type) else owner, *args)
    return (args, kwargs) if args or kwargs else None


def _hidden_places(func: Any) -> frozenset[int]:
    """The places of the positional arguments whose parameters name a secret, as far as that can be told quickly."""
    skipped = 0
    while not isinstance(func, FunctionType) or hasattr(func, "__wrapped__"):
        if isinstance(func, functools.partial):
            skipped, func = skipped + len(func.args), func.func
        elif isinstance(func, MethodType):
            skipped, func = skipped + 1, func.__func__
        elif isinstance(func, type):
            skipped, func = skipped + 1, func.__init__  # type: ignore[misc]
        elif hasattr(func, "__wrapped__"):
            func = func.__wrapped__
        elif isinstance(call := vars(type(func)).get("__call__"), FunctionType):
            skipped, func = skipped + 1, call
        else:
            return frozenset()
    code = func.__code__
    count = code.co_argcount
    places = {place - skipped for place in range(skipped, count) if is_secret_name(code.co_varnames[place])}
    if code.co_flags & inspect.CO_VARARGS and is_secret_name(code.co_varnames[count + code.co_kwonlyargcount]):
        places.update(range(count - skipped, MAX_ITEMS))  # more are not written anyway
    return frozenset(places)


def _make(func: Callable[..., Any], name: str | None, **options: Any) -> FunctionNode[..., Any]:
    for test, kind in (
        (inspect.isasyncgenfunction, "an async generator"),
        (inspect.isgeneratorfunction, "a generator"),
    ):
        if _flavour(func, test):
            raise NodeCreationError(
                f"{_display_name(func)} is {kind} function, and a node returns one value; "
                f"collect what it yields and return that: `return [item ... for item in ...]`"
            )
    return FunctionNode(
        func,
        name=name or _display_name(func),
        is_async=is_async(func),
        **options,
    )


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
    """Make a function a node: ``@rt.function_node``, ``@rt.function_node(name=...)`` or ``rt.function_node(func)``.

    Args:
        func: An async function, which runs in the caller's task, or anything else that can be called (a function,
            lambda, builtin, partial, method, callable object), which runs in a worker thread with the caller's
            context variables.
        name: The name in records and logs; by default the function's own.
        abandon_on_cancel: For functions in worker threads, which cannot be killed. True: a call that is
            cancelled stops waiting and leaves the thread to end by itself; its record says so and a warning names
            the node. False: it waits until the function returns.
        version: Of the function's code, such as "2". When a run is resumed, a result that another version
            returned is not used: change it when the function should run again.
        memo: False: when a run is resumed, calls of this node run again, even if they had completed.

    Returns:
        The node. Called directly it is still the plain function.

    Raises:
        NodeCreationError: ``func`` cannot be called, or is a generator function; ``name`` or ``version`` is no text.
    """
    options = {"abandon_on_cancel": abandon_on_cancel, "version": version, "memo": memo}
    if func is None:
        return functools.partial(function_node, name=name, **options)
    for label, text in (("name", name), ("version", version)):
        if text is not None and (not isinstance(text, str) or not text):
            raise NodeCreationError(f"{label} is {text!r}; give rt.function_node() a text that is not empty")
    if isinstance(func, FunctionNode):
        return _make(func.func, name or func.name, **options)
    if isinstance(func, type) and issubclass(func, Node):
        raise NodeCreationError(f"{func.__name__} is a node already; write `rt.call({func.__name__}, ...)`")
    if not callable(func) and not isinstance(func, classmethod):  # type: ignore[unreachable]
        raise NodeCreationError(f"{func!r} cannot be called; give rt.function_node() a function")
    return _make(func, name, **options)


def _from_class(cls: type[Node[Any]], make: Callable[..., Node[Any]]) -> FunctionNode[..., Any]:
    if inspect.isabstract(cls):
        raise NodeCreationError(f"{cls.__name__} has no invoke(); write `async def invoke(self): ...` in it")

    @functools.wraps(cls, updated=())
    def run(*args: Any, **kwargs: Any) -> Any:
        return make(*args, **kwargs).invoke()

    node = FunctionNode(
        run,
        name=cls.name(),
        node_type=cls.type(),
        is_async=is_async(cls.invoke),
        version=cls.version(),
        memo=cls.memo(),
    )
    node.target = make
    node.secrets = cls.secrets()
    return node


def as_node(target: Any, taker: str = "rt.call") -> FunctionNode[..., Any]:
    """Whatever ``rt.call`` takes, in the one form that the engine runs. ``taker``: who asks, for the error.

    Raises:
        NodeCreationError: it is nothing that can be called; the text shows what to write.
    """
    if isinstance(target, FunctionNode):
        return target
    if is_node_class(target):
        return _from_class(target, target)
    if is_node_class(inner := innermost(target)):
        return _from_class(inner, target)
    if inspect.iscoroutine(target):
        target.close()  # or Python would warn that nobody awaited it
        raise NodeCreationError(
            f"{taker}() was given the coroutine of {target.__name__}(...); "
            f"write `{taker}({target.__name__}, ...)`, the function and its arguments apart"
        )
    if isinstance(target, Node):
        kind = type(target).__name__
        raise NodeCreationError(
            f"{taker}() was given an instance of {kind}; "
            f"write `{taker}({kind}, ...)` with the arguments of its __init__"
        )
    if callable(target):
        return function_node(target)
    raise NodeCreationError(
        f"{target!r} is no node; give {taker}() a function, what rt.function_node returns, "
        f"or a subclass of rt.nodes.Node"
    )


def invoke_if_node(result: Any) -> Any:
    """What a factory made, invoked, if it made a node; any other result as it is."""
    return result.invoke() if isinstance(result, Node) else result
