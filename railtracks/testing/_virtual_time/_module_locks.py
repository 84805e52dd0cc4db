"""The locks that user code made before the run, and what stands for them while there are runs.

A thread that blocks for a lock which is written in C does not give its turn away, and such a lock cannot be replaced in
place. But most have a name: a global variable, or one of a function in which the flow was defined, or an attribute of a
class or an object that is one. These are replaced.
What stands for a lock holds that lock, so code that has it by another name is still kept out.
"""

from __future__ import annotations

import _thread
import functools
import inspect
import sys
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from railtracks.testing._virtual_time._virtual_locks import AdoptedRLock, VirtualLock
from railtracks.testing._virtual_time._world import REAL_PACKAGES

_STAND_INS: dict[type, Any] = {type(_thread.allocate_lock()): VirtualLock, _thread.RLock: AdoptedRLock}
_FUNCTIONS = FunctionType, MethodType, functools.partial
_LIBRARIES = ("site-packages", "dist-packages")


def locks_in(namespace: dict[str, Any]) -> Iterator[tuple[Any, str, Any, Any]]:
    """Yield the object, the attribute, the real lock and what stands for it, of each lock in a module of users.

    Args:
        namespace: The global variables of a module; those of a library have none.
    """
    if not _is_own(namespace.get("__name__"), namespace):
        return
    for key, value in list(namespace.items()):
        if type(value) in _STAND_INS:
            yield namespace, key, value, _STAND_INS[type(value)](value)
        else:
            yield from _locks_of(value)


def locks_of_function(function: Any) -> Iterator[tuple[Any, str, Any, Any]]:
    """Yield the same of the variables of outer functions that a function uses, and other functions which it has so."""
    found, left = set(), [function]
    while left:
        each = left.pop()
        while isinstance(each, functools.partial):
            each = each.func
        if id(each) in found:
            continue
        found.add(id(each))
        for cell in getattr(inspect.unwrap(each), "__closure__", None) or ():
            try:
                value = cell.cell_contents
            except ValueError:  # it is empty
                continue
            if type(value) in _STAND_INS:
                yield cell, "", value, _STAND_INS[type(value)](value)
            elif issubclass(type(value), _FUNCTIONS) or "__wrapped__" in _attributes(value):
                left.append(value)
            else:
                yield from _locks_of(value)


def _locks_of(owner: Any) -> Iterator[tuple[Any, str, Any, Any]]:
    """Yield those of a class of users, or of an object of one, without running any code of it."""
    is_class = issubclass(type(owner), type)
    module = (owner if is_class else type(owner)).__module__
    if module == "builtins" or not _is_own(module, getattr(sys.modules.get(module), "__dict__", {})):
        return
    attributes = _attributes(owner)
    for name, lock in list(attributes.items()):
        if type(lock) in _STAND_INS:
            yield owner if is_class else attributes, name, lock, _STAND_INS[type(lock)](lock)


def _attributes(value: Any) -> Any:
    """Return the attributes that an object or a class has itself."""
    if issubclass(type(value), type):
        return vars(value)
    try:
        return object.__getattribute__(value, "__dict__")
    except AttributeError:  # it has slots
        return {}


def _is_own(module: object, namespace: dict[str, Any]) -> bool:
    """Return whether a module belongs to users, and not to a library."""
    return _is_own_file(str(module), namespace.get("__file__"))


@functools.cache
def _is_own_file(module: str, file: str | None) -> bool:
    package = module.partition(".")[0]
    if package == "__main__":
        return True
    is_known = package in sys.stdlib_module_names or package in REAL_PACKAGES or file is None
    return not is_known and not any(folder in str(file) for folder in _LIBRARIES)
