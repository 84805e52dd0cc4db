"""Dependencies: parameters of a node that are filled in when it runs, from the context of the session or by a function.

They are not arguments: callers do not pass them, models do not see them, and they are not on record. What fills them in
is made with the node, so a node without dependencies pays nothing for them in a call.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from types import FunctionType, MethodType
from typing import Annotated, Any, get_args, get_origin

import attrs

from railtracks._context_variable import current
from railtracks.exceptions import ContextError, NodeCreationError
from railtracks.nodes._callables import display_name, is_async, is_awaited, parameters_of, required_parameters
from railtracks.state._serialization._type_hints import UNKNOWN, hints_of, is_union

_MISSING = object()
_EXAMPLE = "write rt.Depends('db'), for a value of the context, or rt.Depends(get_db), for that of a function"


@attrs.frozen(repr=False)
class Dependency:
    """What ``Depends`` returns: the default of a parameter.

    Args:
        key: The key of the context that has the value; None if it is always made.
        make: Makes the value if the context has none; None if it must be there.
    """

    key: str | None
    make: Callable[..., Any] | None

    def __repr__(self) -> str:
        given = [] if self.make is None else [display_name(self.make)]
        given += [] if self.key is None else [f"key={self.key!r}" if given else repr(self.key)]
        return f"rt.Depends({', '.join(given)})"


def Depends(source: str | Callable[..., Any], *, key: str | None = None) -> Any:  # noqa: N802 (its name elsewhere, too)
    """Return the default of a parameter that is filled in when the node runs, and that is not an argument of its calls.

    ::

        @rt.function_node
        async def find_user(name: str, db: Database = rt.Depends("db")) -> User: ...

        async with rt.Session(context={"db": Database()}):
            await rt.call(find_user, "Ada")

    Such a parameter is not on record, and not in the schema of a tool. What is passed for it all the same is used. If
    its annotation is a class, or a union of classes, the value must be an instance of it.

    Args:
        source: The key of a value in the context of the session. Or a function that returns the value, sync or async,
            called once for each call of the node. Or a generator function, sync or async, that yields it once: what is
            after the ``yield`` runs when the call has ended, as in a ``with`` around it; the functions of
            ``contextlib.contextmanager`` and ``asynccontextmanager`` are taken, too. It may have dependencies itself.
            Those of a sync node must be sync; those of an async node run on its event loop, and must not block it.
        key: Of a function: a key of the context whose value is used instead, if there is one. For tests.

    Raises:
        NodeCreationError: An argument is something else. The node is refused where one of its dependencies cannot be
            filled in: that of a positional-only parameter, or an async one of a sync node.

    The call of the node raises ContextError if the context has no such value, or if a value has another type. Agents
    raise it as well, rather than have the model read it.
    """
    if isinstance(source, str):
        if not source or key is not None:
            raise NodeCreationError(f"rt.Depends({source!r}, key={key!r}) is not allowed; {_EXAMPLE}")
        return Dependency(source, None)
    if not callable(source) or not isinstance(key, str | None) or key == "":
        raise NodeCreationError(f"rt.Depends({source!r}, key={key!r}) is not allowed; {_EXAMPLE}")
    return Dependency(key, source)


def with_dependencies(target: Any, func: Callable[..., Any], is_async_node: bool) -> Callable[..., Any]:
    """Return what a node runs: its function, with its dependencies filled in; the function itself if it has none.

    Args:
        target: What the node was made of, whose parameters count.
        func: Its function.
        is_async_node: Whether that is async.

    Raises:
        NodeCreationError: A dependency cannot be filled in.
    """
    if not _has_dependencies(target):
        return func
    needs = Needs(target, is_async_node)
    run = _run_with_context if not needs.makes else _run_async if is_async_node else _run_sync
    return functools.partial(run, needs, func)  # which is pickled with the node


def _run_with_context(needs: Needs, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    return func(*args, **needs.from_context(args, kwargs))


def _run_sync(needs: Needs, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    with ExitStack() as stack:
        return func(*args, **needs.made(args, kwargs, stack))


async def _run_async(needs: Needs, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    async with AsyncExitStack() as stack:
        return await func(*args, **await needs.made_async(args, kwargs, stack))


def _has_dependencies(target: Any) -> bool:
    """Return whether a callable has dependencies, without the cost of a signature."""
    for _ in range(100):  # a loop would be endless
        if type(target) is FunctionType:
            defaults = target.__defaults__
            if defaults is not None and Dependency in map(type, defaults):
                return True
            named = target.__kwdefaults__
            if named is not None and Dependency in map(type, named.values()):
                return True
            target = getattr(target, "__wrapped__", None)
            if target is None:
                return False
        elif isinstance(target, functools.partial):
            target = target.func
        elif isinstance(target, MethodType):
            target = target.__func__
        elif isinstance(target, type):
            target = target.__init__  # type: ignore[misc]
        else:
            wrapped = getattr(target, "__dict__", {}).get("__wrapped__")
            target = vars(type(target)).get("__call__") if wrapped is None else wrapped
            if not isinstance(target, FunctionType):
                return False
    return False


class Needs:
    """The dependencies of one function.

    Args:
        target: The function, or what stands for it.
        is_async_node: Whether the node that runs it is async.

    Attributes:
        makes: Whether a function makes the value of one of them.

    Raises:
        NodeCreationError: One cannot be filled in.
    """

    def __init__(self, target: Any, is_async_node: bool) -> None:
        self._target, self._name = target, display_name(target)
        self._hints: Mapping[str, Any] | None = None  # once they are needed, as they may name what is defined later
        self._wanted: list[tuple[str, int, Dependency]] = []
        self._makers: dict[str, _Maker] = {}
        for at, (name, each) in enumerate(parameters_of(target).items()):
            if type(each.default) is Dependency:
                if each.kind is each.POSITIONAL_ONLY:
                    raise NodeCreationError(
                        f"the parameter {name!r} of {self._name} is positional-only, and cannot be {each.default!r}"
                    )
                position = sys.maxsize if each.kind is each.KEYWORD_ONLY else at
                self._wanted.append((name, position, each.default))
                if each.default.make is not None:
                    self._makers[name] = _Maker(each.default.make, name, self._name, is_async_node)
        self.makes = bool(self._makers)

    def from_context(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of a call with what the context has.

        Raises:
            ContextError: It lacks a value that no function makes, or has one of another type.
        """
        filled = dict(kwargs)
        for name, position, dependency in self._wanted:
            if name not in filled and len(args) <= position and dependency.key is not None:
                value = self._value(name, dependency)
                if value is not _MISSING:
                    filled[name] = self._checked(name, value)
        return filled

    def made(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], stack: ExitStack) -> dict[str, Any]:
        """Return the keyword arguments of a call with all dependencies, of which the stack closes some."""
        filled = self.from_context(args, kwargs)
        for name, position, _ in self._wanted:
            if name not in filled and len(args) <= position:
                filled[name] = self._checked(name, self._makers[name].make(stack))
        return filled

    async def made_async(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], stack: AsyncExitStack
    ) -> dict[str, Any]:
        """Do the same in an async node."""
        filled = self.from_context(args, kwargs)
        for name, position, _ in self._wanted:
            if name not in filled and len(args) <= position:
                filled[name] = self._checked(name, await self._makers[name].make_async(stack))
        return filled

    def _value(self, name: str, dependency: Dependency) -> Any:
        frame = current.get()
        context = {} if frame is None else frame.coordinator.context
        if dependency.key in context:
            if frame.coordinator.cached_calls is not None:
                frame.coordinator.cached_calls.on_context_read(dependency.key)
            return context[dependency.key]
        if dependency.make is not None:
            return _MISSING
        if frame is None:
            raise ContextError(
                f"{self._name} was called outside of a session, which has the value of its parameter {name!r}; pass "
                f"it: {self._name}(..., {name}=...)"
            )
        hint = self._hint(name)
        kind = "" if hint is UNKNOWN else f" ({_shown(hint)})"
        raise ContextError(
            f"{self._name} needs {dependency.key!r}{kind} in the context of the session, for its parameter {name!r}; "
            f"write rt.Session(context={{{dependency.key!r}: ...}}), or rt.Flow(..., context={{...}})"
        )

    def _checked(self, name: str, value: Any) -> Any:
        hint = self._hint(name)
        if not _accepts(hint, value):
            raise ContextError(
                f"the parameter {name!r} of {self._name} was filled in with an object of {type(value).__module__}."
                f"{type(value).__qualname__}; expected {_shown(hint)}, as it is annotated"
            )
        return value

    def _hint(self, name: str) -> Any:
        if self._hints is None:
            self._hints = hints_of(inspect.unwrap(self._target))
        return self._hints.get(name, UNKNOWN)


class _Maker:
    """Makes the value of one dependency, once for each call of the node.

    Args:
        func: The function that the user passed.
        parameter: The name of the parameter.
        owner: The function that has it.
        is_async_node: Whether the node is async.

    Raises:
        NodeCreationError: It is async, and the node is not; or it has parameters without defaults.
    """

    def __init__(self, func: Callable[..., Any], parameter: str, owner: str, is_async_node: bool) -> None:
        inner = inspect.unwrap(func)
        is_sync_generator, is_async_generator = inspect.isgeneratorfunction(inner), inspect.isasyncgenfunction(inner)
        if not is_async_node and (is_async_generator or is_async(func)):
            raise NodeCreationError(
                f"the parameter {parameter!r} of {owner} depends on {display_name(func)}, which is async, and {owner} "
                f"is not; write `async def {owner}`, or a sync function in its place"
            )
        if missing := required_parameters(func):
            raise NodeCreationError(
                f"the parameter {parameter!r} of {owner} depends on {display_name(func)}, which is called without "
                f"arguments, and has the parameters {', '.join(missing)}; give them defaults, such as rt.Depends(...)"
            )
        self._needs = Needs(func, is_async_node)
        self._is_sync_generator, self._is_async_generator = is_sync_generator, is_async_generator
        self._func: Callable[..., Any] = func
        if func is inner and is_sync_generator:
            self._func = contextmanager(func)
        elif func is inner and is_async_generator:
            self._func = asynccontextmanager(func)

    def make(self, stack: ExitStack) -> Any:
        """Return the value for a call of a sync node."""
        value = self._func(**self._needs.made((), {}, stack))
        return stack.enter_context(value) if self._is_sync_generator else value

    async def make_async(self, stack: AsyncExitStack) -> Any:
        """Return the value for a call of an async node."""
        value = self._func(**await self._needs.made_async((), {}, stack))
        if self._is_sync_generator:
            return stack.enter_context(value)
        if self._is_async_generator:
            return await stack.enter_async_context(value)
        return await value if is_awaited(value) else value


def _accepts(hint: Any, value: Any) -> bool:
    """Return whether a value may be what an annotation says, as far as ``isinstance`` knows."""
    if get_origin(hint) is Annotated:
        return _accepts(get_args(hint)[0], value)
    if is_union(hint):
        return any(_accepts(each, value) for each in get_args(hint))
    kind = type(None) if hint is None else get_origin(hint) or hint
    if not isinstance(kind, type) or kind in (UNKNOWN, Any):
        return True
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return True
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) or (number and kind in (float, complex))


def _shown(hint: Any) -> str:
    return f"{hint.__module__}.{hint.__qualname__}" if isinstance(hint, type) else str(hint)
