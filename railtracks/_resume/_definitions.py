"""Whether the function that a node key on record names still exists."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from functools import lru_cache
from importlib.machinery import PathFinder
from types import CodeType, ModuleType
from typing import Any

from railtracks._main_module import MAIN, importable_name
from railtracks.nodes._identity import GIVEN_KEY

_LOCALS = "<locals>"


def is_defined(path: str) -> bool:
    """Return whether a function may exist: it is in its module, or that was not imported yet. Nothing is imported.

    Args:
        path: Its module and qualified name; or the key of a node that the user passed, or of the library's own, of
            which this is not known.
    """
    if path.startswith((GIVEN_KEY, "railtracks.")):
        return True
    parts = path.split(".")
    names = parts[: parts.index(_LOCALS)] if _LOCALS in parts else parts
    for count in range(len(names) - 1, 0, -1):
        module = _loaded(".".join(parts[:count]))
        if module is not None:
            return _is_in(module, parts[count:]) or _can_be_imported(module, ".".join(parts[: count + 1]))
    return _can_be_imported(None, parts[0])


def _loaded(name: str) -> ModuleType | None:
    module = sys.modules.get(name)
    main = sys.modules.get(MAIN)
    if module is None and main is not None and importable_name(vars(main)) == name:
        return main
    return module


def _can_be_imported(package: ModuleType | None, name: str) -> bool:
    """Return whether there is a module of this name that was not imported yet."""
    folders = None if package is None else tuple(getattr(package, "__path__", ()))
    return name not in sys.modules and folders != () and _is_found(name, folders)


@lru_cache(maxsize=1_000)  # it reads the disk
def _is_found(name: str, folders: tuple[str, ...] | None) -> bool:
    try:
        return PathFinder.find_spec(name, folders) is not None
    except Exception:  # the finders of other libraries
        return False


def _is_in(owner: Any, names: Sequence[str]) -> bool:
    """Return whether an object has these names, one in the other."""
    for at, name in enumerate(names):
        if name == _LOCALS:
            code = getattr(inspect.unwrap(owner), "__code__", None)
            return code is None or _defines(code, names[at + 1 :])
        owner = inspect.getattr_static(owner, name, None)
        owner = getattr(owner, "__func__", owner)  # of a class method or static method
        if owner is None:
            return False
    return True


def _defines(code: CodeType, names: Sequence[str]) -> bool:
    """Return whether the code of a function defines functions or classes of these names, one in the other."""
    for name in names:
        if name != _LOCALS:
            inner = [each for each in code.co_consts if isinstance(each, CodeType) and each.co_name == name]
            if not inner:
                return False
            code = inner[-1]
    return True
