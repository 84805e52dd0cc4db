"""The names under which the library's own classes and functions are recorded.

A record outlives the code that wrote it, and private modules are renamed and moved. So a public class or function is
recorded under the path from which users import it, such as ``railtracks.llm.AssistantMessage``, wherever it is defined.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import Any

from railtracks._main_module import MAIN_NAMES, module_name

_NAMESPACES = (
    "railtracks",
    "railtracks.llm",
    "railtracks.state",
    "railtracks.nodes",
    "railtracks.exceptions",
    "railtracks.mcp",
    "railtracks.testing",
)
"""The namespaces of public names. The first one that lists a name in its ``__all__`` counts."""
_MODULE, _QUALNAME = type.__dict__["__module__"], type.__dict__["__qualname__"]


def public_path(thing: Any) -> str:
    """Return the module and qualified name of a class or function, with public modules for the library's private ones.

    Args:
        thing: Anything that has ``__module__`` and ``__qualname__``.

    Returns:
        The qualified name alone for builtins.
    """
    if isinstance(thing, type):  # methods are not cached: a bound one would keep its object
        try:
            return _cached_path(thing)
        except Exception:  # its metaclass may have no __hash__, so the cache cannot hold it, or one that raises
            return _path(thing)
    return _path(thing)


def _path(thing: Any) -> str:
    if isinstance(thing, type):  # not by its own attributes: its metaclass may define them, and they may raise
        module, name = _MODULE.__get__(thing), _QUALNAME.__get__(thing)
    else:
        module, name = thing.__module__, thing.__qualname__
    if module == "builtins":
        return str(name)
    module = module_name(module, None if isinstance(thing, type) else thing)
    if module == "pathlib._local":  # where Python 3.13 alone defines it
        return f"pathlib.{name}"
    if str(module).startswith("railtracks."):
        first, dot, _ = name.partition(".")
        for namespace in _NAMESPACES:
            public = sys.modules.get(namespace)
            found = getattr(public, first) if first in getattr(public, "__all__", ()) else None
            # A method is known by its class.
            if found is thing or (dot and isinstance(found, type) and found.__module__ == module):
                return f"{namespace}.{name}"
    return f"{module}.{name}"


def alias_text(alias: Any) -> str:
    """Return a generic alias, such as ``shop.Box[int]``, as the text that is on record."""
    return _MAIN.sub(lambda found: f"{module_name(found[1])}.", str(alias))


_MAIN = re.compile(rf"(?<![\w.])({'|'.join(MAIN_NAMES)})\.")
_cached_path = lru_cache(maxsize=4096)(_path)
