"""The locks that user code made when it was imported, and what stands for them while there are runs.

A thread that blocks for a lock which is written in C does not give its turn away, and such a lock cannot be replaced in
place. But most have a name: a global variable, or an attribute of a class or an object that is one. These are replaced.
What stands for a lock holds that lock, so code that has it by another name is still kept out.
"""

from __future__ import annotations

import _thread
import functools
import sys
from collections.abc import Iterator
from typing import Any

from railtracks.testing._virtual_time._virtual_locks import AdoptedRLock, VirtualLock
from railtracks.testing._virtual_time._world import REAL_PACKAGES

_STAND_INS: dict[type, Any] = {type(_thread.allocate_lock()): VirtualLock, _thread.RLock: AdoptedRLock}
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
            continue
        module = (value if issubclass(type(value), type) else type(value)).__module__
        if module != "builtins" and _is_own(module, getattr(sys.modules.get(module), "__dict__", {})):
            yield from _locks_of(value)


def _locks_of(owner: Any) -> Iterator[tuple[Any, str, Any, Any]]:
    """Yield those of a class or an object, without running any code of it."""
    try:
        attributes = vars(owner) if issubclass(type(owner), type) else object.__getattribute__(owner, "__dict__")
    except AttributeError:  # it has slots
        return
    for name, lock in list(attributes.items()):
        if type(lock) in _STAND_INS:
            yield (owner if issubclass(type(owner), type) else attributes), name, lock, _STAND_INS[type(lock)](lock)


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
