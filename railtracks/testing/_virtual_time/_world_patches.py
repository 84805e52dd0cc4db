"""Replaces clocks, chance and locks while a run with a virtual world is under way in this process, and puts them back.

The functions are replaced in their own modules, and the names that other modules have imported are replaced there.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from types import CellType
from typing import Any

from railtracks.testing._virtual_time._module_locks import locks_in, locks_of_function
from railtracks.testing._virtual_time._nested_loops import LOOP_METHODS
from railtracks.testing._virtual_time._stand_ins import STAND_INS, is_original
from railtracks.testing._virtual_time._thread_patches import METHODS
from railtracks.testing._virtual_time._virtual_dates import DATES
from railtracks.testing._virtual_time._world import REAL_PACKAGES

_Name = tuple[dict[str, Any] | type | CellType, str, Any, Any]
"""A namespace, a class, or a variable of a closure; a name in it; the real value, and what stands for it."""
_lock = threading.Lock()
_runs = 0
_replaced: list[_Name] = []
_methods: list[tuple[Any, str, Any, Any]] = []  # the class, the name, the real method, and what stands for it


@contextlib.contextmanager
def virtual_names(function: Any, *namespaces: dict[str, Any]) -> Iterator[None]:
    """Replace clocks, chance and locks inside the block, in all modules that are loaded and in ``namespaces``.

    Args:
        function: The locks in its closure are replaced as well.
        *namespaces: Global variables of modules that may not be loaded.
    """
    global _runs
    with _lock:
        _runs += 1
        try:
            if _runs == 1:
                _replace(_names.find())
                _replace_methods()
            _replace([*_names.find_in(*namespaces), *locks_of_function(function)])
        except BaseException:
            _leave()
            raise
    try:
        yield
    finally:
        with _lock:
            _leave()


def _leave() -> None:
    global _runs
    _runs -= 1
    if not _runs:
        _put_back()


def _replace_methods() -> None:
    for owner, name, make in (*METHODS, *LOOP_METHODS):
        real = vars(owner)[name]
        stand_in = _made(make, real)
        setattr(owner, name, stand_in)
        _methods.append((owner, name, real, stand_in))


@functools.lru_cache(maxsize=64)
def _made(make: Callable[[Any], Any], real: Any) -> Any:
    """Return the stand-in of a method, which is the same in each run."""
    return make(real)


def _replace(names: list[_Name]) -> None:
    for name in names:
        namespace, key, real, stand_in = name
        if _get(namespace, key) is real:
            _set(namespace, key, stand_in)
            _replaced.append(name)


def _put_back() -> None:
    for namespace, key, real, stand_in in _replaced:
        if _get(namespace, key) is stand_in:  # or something else has replaced it in the run, and keeps it
            _set(namespace, key, real)
    _replaced.clear()
    for owner, name, real, stand_in in _methods:
        if vars(owner).get(name) is stand_in:
            setattr(owner, name, real)
    _methods.clear()


def _get(namespace: dict[str, Any] | type | CellType, key: str) -> Any:
    if isinstance(namespace, CellType):
        try:
            return namespace.cell_contents
        except ValueError:  # it is empty
            return None
    return (vars(namespace) if isinstance(namespace, type) else namespace).get(key)


def _set(namespace: dict[str, Any] | type | CellType, key: str, value: Any) -> None:
    if isinstance(namespace, CellType):
        namespace.cell_contents = value
    elif isinstance(namespace, type):
        type.__setattr__(namespace, key, value)
    else:
        namespace[key] = value


class _Names:
    """The names that are to be replaced. Modules are searched once, and again when they have other names."""

    def __init__(self) -> None:
        self._stand_ins: dict[int, tuple[Any, Any]] = {}  # by the identity of the real object
        self._own: list[_Name] = []
        self._searched: dict[str, tuple[dict[str, Any], int, list[_Name]]] = {}
        self._modules = 0  # how many there were
        self._found: list[_Name] = []
        self._is_reliable = False  # whether nothing else had replaced anything when the modules were searched

    def find(self) -> list[_Name]:
        """Return the names in all loaded modules."""
        self._prepare()
        if len(sys.modules) == self._modules and self._is_reliable:
            return self._found
        before = self._searched if self._is_reliable else {}
        self._modules, self._searched = len(sys.modules), {}
        self._is_reliable = all(_get(namespace, key) is real for namespace, key, real, _ in self._own)
        for name, module in list(sys.modules.items()):
            namespace = getattr(module, "__dict__", None)
            if isinstance(namespace, dict) and _is_searched(name):
                known = before.get(name)
                if known is None or known[0] is not namespace or known[1] != len(namespace):
                    known = namespace, len(namespace), self._search(namespace)
                self._searched[name] = known
        self._found = [*self._own, *(each for *_, found in self._searched.values() for each in found)]
        return self._found

    def find_in(self, *namespaces: dict[str, Any]) -> list[_Name]:
        """Return the names in these, and in the main module, to which names may be added at any time."""
        main = vars(sys.modules["__main__"]) if "__main__" in sys.modules else {}
        return [name for namespace in (main, *namespaces) for name in self._search(namespace)]

    def _prepare(self) -> None:
        """Note the functions to replace, except those that something else has replaced; these later."""
        if len(self._own) == len(STAND_INS):
            return
        known = {(id(namespace), key) for namespace, key, _, _ in self._own}
        for module, name, make in STAND_INS:
            if (id(vars(module)), name) not in known and is_original(real := vars(module)[name]):
                self._own.append((vars(module), name, real, make(real)))
        self._stand_ins.update((id(real), (real, stand_in)) for _, _, real, stand_in in self._own)
        self._stand_ins.update((id(real), (real, stand_in)) for real, stand_in in DATES)
        self._is_reliable = False

    def _search(self, namespace: dict[str, Any]) -> list[_Name]:
        known, items = self._stand_ins, list(namespace.items())
        functions = ((namespace, key, *known[id(value)]) for key, value in items if id(value) in known)
        return [*functions, *locks_in(namespace)]


def _is_searched(module: str) -> bool:
    package = module.partition(".")[0]
    return package not in sys.stdlib_module_names and package not in REAL_PACKAGES


_names = _Names()
