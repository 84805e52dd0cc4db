"""The names under which the library's own classes and functions stand on record.

A record outlives the code that wrote it, and private modules are renamed and moved. So what is public is recorded by
the path that users import it from, such as ``railtracks.llm.AssistantMessage``, wherever it is defined.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

_NAMESPACES = (
    "railtracks",
    "railtracks.llm",
    "railtracks.state",
    "railtracks.nodes",
    "railtracks.exceptions",
    "railtracks.testing",
)
"""Where public names live. The first namespace that lists a name in its ``__all__`` counts."""


def public_path(thing: Any) -> str:
    """Return the module and qualified name of a class or a function, in place of private modules of the library.

    Args:
        thing: Anything that has ``__module__`` and ``__qualname__``.

    Returns:
        The qualified name alone for builtins.
    """
    return _public_path(thing)


@lru_cache(maxsize=4096)
def _public_path(thing: Any) -> str:
    module, name = thing.__module__, thing.__qualname__
    if module == "builtins":
        return str(name)
    if str(module).startswith("railtracks."):
        for namespace in _NAMESPACES:
            public = sys.modules.get(namespace)
            if name in getattr(public, "__all__", ()) and getattr(public, name) is thing:
                return f"{namespace}.{name}"
    return f"{module}.{name}"
