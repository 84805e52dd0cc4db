"""What makes a node pass for the function that it wraps: its attributes, and how it is pickled."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType
from typing import Any

from railtracks.nodes._callables import innermost

_OF_FUNCTIONS: dict[str, Callable[[], Any]] = {"__annotations__": dict, "__defaults__": tuple, "__kwdefaults__": dict}
"""Attributes, beside ``__code__`` and ``__name__``, that ``inspect`` requires of a function, and what stands for those
that a callable does not have."""


def attribute_of(func: Any, attribute: str, name: str) -> Any:
    """Return an attribute that a node does not have itself: that of its function.

    So ``inspect.iscoroutinefunction`` and what is built on it take an async node for what it is. A partial, or an
    object that can be called, does not have all attributes of a function; what it calls lends it the code.

    Args:
        func: The function of the node, which may be any callable.
        attribute: The name of the attribute.
        name: The name of the node.

    Raises:
        AttributeError: Neither has it.
    """
    try:
        return getattr(func, attribute)
    except AttributeError:
        if attribute == "__name__":
            return name
        if attribute == "__code__" and (code := _code_of(func)) is not None:
            return code
        if attribute in _OF_FUNCTIONS:
            return _OF_FUNCTIONS[attribute]()
        raise AttributeError(
            f"the node {name} has no attribute {attribute!r}, and neither has the function that it wraps"
        ) from None


def _code_of(func: Any) -> CodeType | None:
    inner = innermost(func)
    candidates = (inner, getattr(inner, "__func__", None), type(inner).__call__ if callable(inner) else None)
    codes = (getattr(candidate, "__code__", None) for candidate in candidates)
    return next((code for code in codes if isinstance(code, CodeType)), None)


def reduce_node(node: Any, rebuild: Callable[..., Any], options: dict[str, Any]) -> str | tuple[Any, ...]:
    """Return how a node is pickled: by its qualified name, as a function is.

    A method is pickled with its owner, and a node that was made of a function by a call with that and its options.

    Args:
        node: The node.
        rebuild: Makes a node of a function and options.
        options: The options of the node.

    Raises:
        pickle.PicklingError: Its function, or its method, cannot be found by name: it was defined in another function,
            or is an attribute of its owner under no name.
    """
    path = getattr(node, "__qualname__", None)
    if isinstance(path, str) and find_by_name(node.__module__, path) is node:
        return path
    func = node.func
    if isinstance(func, MethodType):
        return _reduce_method(node, func, rebuild, options)
    found = find_by_name(func.__module__, func.__qualname__) if isinstance(func, FunctionType) else func
    if type(found) is type(node) and found.func is func:  # its function was decorated, so its name is that of a node
        place, _, name = func.__qualname__.rpartition(".")
        if place and found == node:  # a static one, which its class makes anew at each access
            return getattr, (find_by_name(func.__module__, place), name)
        return rebuild, (found, options)
    if found is not func:
        from pickle import PicklingError  # here, as few programs pickle nodes

        raise PicklingError(
            f"the node {node.name} cannot be pickled, because {func.__module__}.{func.__qualname__} cannot be imported "
            f"by that name; define it at the top level of a module"
        )
    return rebuild, (func, options)


def _reduce_method(
    node: Any, func: MethodType, rebuild: Callable[..., Any], options: dict[str, Any]
) -> tuple[Any, ...]:
    """Return how a node of a method is pickled: as an attribute of its owner, or made of that and its options."""
    owner, own = func.__self__, str(getattr(func, "__name__", ""))
    cls = owner if isinstance(owner, type) else type(owner)
    names = dict.fromkeys([own, *(name for base in cls.__mro__ for name in vars(base))])
    bases = []
    for name in names:
        if isinstance(inspect.getattr_static(owner, name, None), type(node)):
            found = getattr(owner, name)
            if _is_same_method(found.func, func):
                if found._options == options:
                    return getattr, (owner, name)
                bases.append(found)
    if bases:  # a node that was made of another one, which stands for the method
        return rebuild, (bases[0], options)
    if not _is_same_method(getattr(owner, own, None), func):
        from pickle import PicklingError

        raise PicklingError(
            f"the node {node.name} cannot be pickled, because {cls.__qualname__} has no attribute {own!r} that is its "
            f"method; make the node of a method that is defined in the class"
        )
    return rebuild, (func, options)


def _is_same_method(found: Any, func: MethodType) -> bool:
    return isinstance(found, MethodType) and found.__self__ is func.__self__ and found.__func__ is func.__func__


def find_by_name(module: Any, path: str) -> Any:
    """Return what has the qualified name ``path`` in a module that is loaded; None if nothing has."""
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found
