"""The registry of types that users teach saved state to write and read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from railtracks._public_path import public_path
from railtracks.exceptions import ConfigError

T = TypeVar("T")


class Hooks(NamedTuple):
    """How the values of a registered type are written and read."""

    unstructure: Callable[[Any], Any]
    structure: Callable[[Any], Any]


class _RegisteredTypes:
    """The registry that ``register_hooks`` adds to. There is one for each process."""

    def __init__(self) -> None:
        self._by_type: dict[type, Hooks] = {}
        self._by_name: dict[str, Hooks] = {}

    def __contains__(self, cls: object) -> bool:
        return cls in self._by_type

    def add(self, cls: type, hooks: Hooks) -> None:
        """Register a type, in place of what was registered for it before."""
        self._by_type[cls] = self._by_name[public_path(cls)] = hooks

    def find(self, cls: type) -> tuple[type, Hooks] | None:
        """Return the registered type that is nearest to ``cls`` in its method resolution order, and its hooks."""
        if self._by_type:
            for base in cls.__mro__:
                if base in self._by_type:
                    return base, self._by_type[base]
        return None

    def find_by_name(self, name: str) -> Hooks | None:
        """Return the hooks of the type that was registered last under a name on record."""
        return self._by_name.get(name)

    def reset(self) -> None:
        """Forget all registered types, so that a test does not see those of another one."""
        self._by_type.clear()
        self._by_name.clear()


registered_types = _RegisteredTypes()
_BUILT_IN = (object, type(None), bool, int, float, str, bytes, list, tuple, set, dict)


def register_hooks(cls: type[T], unstructure: Callable[[T], Any], structure: Callable[[Any], T]) -> None:
    """Teach saved state a type, its subclasses included, in this process, from now on.

    Args:
        cls: The class.
        unstructure: Turns an instance into plain data: text, numbers, None, lists and dicts with text keys. If it
            raises, the value is written as its type and repr.
        structure: Turns that data into an instance, when a state is loaded. If it raises, loading raises a
            ``StateError`` that names the place.

    Raises:
        ConfigError: ``cls`` is not a class, or a hook is not callable.
    """
    if not isinstance(cls, type):
        raise ConfigError(f"register_hooks: expected a class, got {cls!r}; use the class itself, such as MyType")
    if cls in _BUILT_IN:
        raise ConfigError(
            f"register_hooks: {cls.__name__} has a form of its own in the document; wrap it in a class of yours"
        )
    for label, hook in (("unstructure", unstructure), ("structure", structure)):
        if not callable(hook):
            raise ConfigError(f"register_hooks: {label} must be a function of one argument, got {hook!r}")
    registered_types.add(cls, Hooks(unstructure, structure))
