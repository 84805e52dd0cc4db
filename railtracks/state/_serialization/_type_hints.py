"""Annotations: reading them from functions and classes, and telling apart what they name."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Mapping
from types import SimpleNamespace, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from railtracks.state._serialization._classify import Kind, classify

UNKNOWN = inspect.Parameter.empty
"""Stands for an annotation that is missing or cannot be resolved."""


def resolved_hints(target: Any, extras: bool = False) -> dict[str, Any]:
    """Return the annotations that can be resolved, by name. Each is tried by itself, so one bad one spoils no other.

    Args:
        target: A function or a class.
        extras: Keep ``Annotated``, ``Required`` and their like.
    """
    try:
        return get_type_hints(target, include_extras=extras)
    except Exception:  # names that exist for type checkers only, and objects that cannot have annotations
        found = {}
        for name, hint in getattr(target, "__annotations__", {}).items():
            with contextlib.suppress(Exception):
                one = SimpleNamespace(__annotations__={name: hint})
                found.update(get_type_hints(one, vars(sys.modules[target.__module__]), include_extras=extras))
        return found


def hints_of(target: Any, extras: bool = False) -> dict[str, Any]:
    """Return the annotations of the parameters of anything that can be called, as :func:`resolved_hints` does."""
    while isinstance(target, functools.partial):
        target = target.func
    if isinstance(target, type):
        target = target.__init__  # type: ignore[misc]
    elif not hasattr(target, "__annotations__") or not hasattr(target, "__name__"):
        target = type(target).__call__  # an object that can be called
    return resolved_hints(target, extras)


def is_union(hint: Any) -> bool:
    """Return whether an annotation is a union, written either way."""
    origin: Any = get_origin(hint)
    return origin is Union or origin is UnionType


def is_named_tuple(hint: Any) -> bool:
    """Return whether an annotation is the class of a named tuple."""
    return isinstance(hint, type) and classify(hint).kind is Kind.NAMED_TUPLE


def is_pydantic(hint: Any) -> bool:
    """Return whether an annotation is a pydantic model."""
    return isinstance(hint, type) and hasattr(hint, "model_validate") and hasattr(hint, "model_fields")


def is_list_class(hint: Any) -> bool:
    """Return whether an annotation is a subclass of list, such as ``class Names(list[str])``. It may have arguments."""
    origin = get_origin(hint) or hint
    return isinstance(origin, type) and issubclass(origin, list) and origin is not list


def element_of(hint: Any) -> Any:
    """Return the annotation of the elements of a list, or of a subclass of list."""
    origin, args = get_origin(hint) or hint, get_args(hint)
    if origin is list:
        return args[0] if args else Any
    given = dict(zip(getattr(origin, "__parameters__", ()), args, strict=False))
    for base in getattr(origin, "__orig_bases__", origin.__bases__):
        owner = get_origin(base) or base
        if isinstance(owner, type) and issubclass(owner, list):
            return substituted(element_of(base), given)
    return Any


def substituted(hint: Any, given: Mapping[Any, Any]) -> Any:
    """Return an annotation with types in place of its type variables.

    Args:
        hint: The annotation.
        given: The types, by type variable. Others are replaced by what bounds them.
    """
    if isinstance(hint, TypeVar):
        return given[hint] if hint in given else _bound_of(hint)
    open_ones = () if isinstance(hint, type) else getattr(hint, "__parameters__", ())
    return hint[tuple(substituted(each, given) for each in open_ones)] if open_ones else hint


def _bound_of(variable: TypeVar) -> Any:
    if variable.__constraints__:
        return Union[variable.__constraints__]  # noqa: UP007 - of a tuple
    return Any if variable.__bound__ is None else variable.__bound__
