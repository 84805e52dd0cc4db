"""The module that ``__main__`` is: the one as which the running program would be imported.

``python app.py``, ``python -m pkg.app`` and ``import pkg.app`` run the same code, so what it defines has the same name
on record, however the program was started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MAIN = "__main__"
MAIN_NAMES = (MAIN, "__mp_main__")
"""The names of the module that runs. In a child of ``multiprocessing`` it is the second one."""
_SUFFIXES = (".py", ".pyw", ".pyc")


def module_name(module: Any, function: Any = None) -> Any:
    """Return the name under which a module is on record: if it is ``__main__``, the name as which it is imported.

    Args:
        module: The ``__module__`` of a function or class.
        function: The function. Its globals need not be those of the module that is in ``sys.modules`` now.
    """
    if module not in MAIN_NAMES:
        return module
    return importable_name(_globals_of(function, module)) or MAIN


def _globals_of(function: Any, module: str) -> Mapping[str, Any]:
    for _ in range(100):  # a wrapper has the `__module__` of what it wraps, but other globals
        if function is None:
            break
        found = getattr(function, "__globals__", None)
        if isinstance(found, dict) and found.get("__name__") == module:
            return found
        function = getattr(function, "__wrapped__", None)
    return vars(sys.modules[module]) if module in sys.modules else {}


def importable_name(namespace: Mapping[str, Any]) -> str | None:
    """Return the name as which a module that runs as ``__main__`` would be imported.

    Args:
        namespace: Its globals.

    Returns:
        None where nothing can import it: for ``python -c``, standard input, an interactive session or a notebook, an
        archive or a folder that is run, and a file that does not lie below an entry of ``sys.path``.
    """
    spec, file = namespace.get("__spec__"), namespace.get("__file__")
    name = getattr(spec, "name", None)
    return _importable_name(name if isinstance(name, str) else None, file if isinstance(file, str) else None)


@lru_cache(maxsize=64)  # once and for all: a program may change `sys.path` while it runs
def _importable_name(spec_name: str | None, file: str | None) -> str | None:
    if spec_name is not None and spec_name not in MAIN_NAMES:
        return spec_name  # python -m
    if file is None or not file.endswith(_SUFFIXES):
        return None
    folders = [os.path.realpath(entry) for entry in sys.path if isinstance(entry, str)]
    beside = os.path.join(os.path.realpath(os.path.dirname(file)), os.path.basename(file))
    for path in dict.fromkeys((beside, os.path.realpath(file))):  # Python follows a link to a script
        name = _name_below(path, folders)
        if name is not None and name not in sys.builtin_module_names and _is_free(name, path):
            return name
    return None


def _name_below(path: str, folders: list[str]) -> str | None:
    """Return the name under which a file is imported if ``sys.path`` consists of these folders.

    If it lies below several of them, the one that holds its package counts, or else the nearest.
    """
    stem = os.path.splitext(path)[0]
    root = os.path.dirname(path)
    while os.path.isfile(os.path.join(root, "__init__.py")) and root != os.path.dirname(root):
        root = os.path.dirname(root)
    above = [folder for folder in folders if stem.startswith(os.path.join(folder, ""))]
    folder = root if root in above else max(above, key=len, default=None)
    if folder is None:
        return None
    parts = stem[len(os.path.join(folder, "")) :].split(os.sep)
    return ".".join(parts) if all(map(str.isidentifier, parts)) and parts[-1] != MAIN else None


def _is_free(name: str, path: str) -> bool:
    """Return whether no other file was imported under a name."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return not isinstance(file, str) or os.path.splitext(os.path.realpath(file))[0] == os.path.splitext(path)[0]
