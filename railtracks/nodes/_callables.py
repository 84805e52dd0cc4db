"""The function behind a callable: its name, and whether it is async."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from railtracks._concurrency._task_stream import TaskStream


def innermost(target: Any) -> Any:
    """Return what a partial, however nested, finally calls."""
    while isinstance(target, functools.partial):
        target = target.func
    return target


def display_name(target: Any) -> str:
    """Return the name of the function behind ``target``, or that of its type if it has none."""
    inner = innermost(target)
    name = getattr(inner, "__name__", None)
    return name if isinstance(name, str) else type(inner).__name__


def callable_is(target: Any, test: Callable[[Any], bool]) -> bool:
    """Return whether ``test`` holds for the function that a call of ``target`` runs."""
    inner = innermost(target)
    if isinstance(inner, type) or not callable(inner):  # a call of a class; a classmethod, which is bound later
        return test(getattr(inner, "__func__", None))
    return test(inner) or test(type(inner).__call__)


def is_async(target: Any) -> bool:
    """Return whether a call of ``target`` returns a coroutine, as far as can be known without calling it."""
    return callable_is(target, inspect.iscoroutinefunction)


def holds(test: Callable[[Any], bool], result: Any) -> bool:
    """Return whether ``test`` holds for the result of a node; False if the test raises."""
    try:
        return test(result)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # the `__class__` of a user's object, or its metaclass, may raise anything
        return False


def is_awaited(result: Any) -> bool:
    """Return whether what a sync node returns is awaited for its result.

    A stream is not. It has ``__await__`` only for an error that says so.
    """
    return holds(inspect.isawaitable, result) and not issubclass(type(result), TaskStream)


def parameters_of(func: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a callable, by name; none if it does not say them."""
    try:
        return inspect.signature(func).parameters
    except (TypeError, ValueError):  # some builtins have no signature
        return {}


def required_parameters(func: Any) -> list[str]:
    """Return the names of the parameters without which a callable cannot be called."""
    return [
        name
        for name, each in parameters_of(func).items()
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
