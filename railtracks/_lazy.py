"""Names of a module that are loaded when they are first used.

Such a name stands in three places of its module: in ``__all__``, under ``TYPE_CHECKING`` for type checkers, which read
only that, and in the mapping for :func:`lazy_attributes`. Without parsing its own source a module cannot derive one
from another at import; ``tests/test_public.py`` compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_attributes(
    namespace: dict[str, Any], modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a ``__getattr__`` and a ``__dir__`` (PEP 562) for a module with lazy names.

    Args:
        namespace: The module's ``globals()``.
        modules: By module, the names that are loaded from it. The last part of its own name means the module itself.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def load(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {namespace['__name__']!r} has no attribute {name!r}")
        path = module_of[name]
        # The package first: a thread that imports a module of it directly holds that module while it waits for the
        # package, and a thread that imports the package waits for the module.
        import_module(path.rpartition(".")[0])
        module = import_module(path)
        value = module if module.__name__.rpartition(".")[2] == name else getattr(module, name)
        namespace[name] = value  # the next access does not come here
        return value

    return load, lambda: sorted({*namespace, *module_of})
