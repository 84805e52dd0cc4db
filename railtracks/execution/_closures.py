"""What a node that is defined in another function uses of that, which its results depend on besides its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType
from typing import Any, NamedTuple

from railtracks.nodes import FunctionNode

_PLAIN = (str, bytes, int, float, complex, bool, type(None))


class Closure(NamedTuple):
    """The variables of the functions around a node that it uses, and that functions among these use, in a fixed order.

    Two nodes of the same code do the same if their closures are equal.
    """

    values: tuple[tuple[str, Any], ...]
    """Those that have a number, a text, or a tuple of such, with their names."""
    objects: tuple[tuple[str, object], ...]
    """Others, with their names. An object may change, so each is equal to itself alone. A function counts as its code,
    as the variables that it uses are among these."""


NOTHING = Closure((), ())


def closure_of(target: Any) -> Closure:
    """Return what a node uses of the functions around it.

    Args:
        target: What the node was made of: a function, a method, or a class.
    """
    if getattr(target, "__closure__", None) is None and not isinstance(target, type | MethodType | partial):
        return NOTHING  # the most frequent case
    values: list[tuple[str, Any]] = []
    objects: list[tuple[str, object]] = []
    left = [*_functions_of(target)][::-1]
    seen = {id(each) for each in left}
    while left:
        function = left.pop()
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                value = cell.cell_contents
            except ValueError:  # it has none yet
                continue
            if _is_plain(value):
                values.append((name, value))
                continue
            functions = [*_functions_of(value)] if not isinstance(value, type) else []
            new = [each for each in functions if id(each) not in seen]
            seen.update(map(id, new))
            left += new[::-1]
            if not functions and value is not target and name != "__class__":
                objects.append((name, value))
            objects += [(name, each.__code__) for each in new]
    return Closure(tuple(values), tuple(objects))


def _functions_of(value: Any) -> Iterator[FunctionType]:
    if isinstance(value, FunctionNode):
        value = value.target
    while isinstance(value, partial):  # what it binds is in the key of its node
        value = value.func
    if isinstance(value, MethodType):
        value = value.__func__
    if isinstance(value, FunctionType):
        yield value
    elif isinstance(value, type):
        yield from (each for each in vars(value).values() if isinstance(each, FunctionType))


def _is_plain(value: Any) -> bool:
    if type(value) is tuple:
        return all(map(_is_plain, value))
    return type(value) in _PLAIN
