"""What an exception consists of, and exceptions made of such parts, without any code of their classes.

No ``__init__``, ``__new__`` or ``__reduce__`` of a class written in Python runs, so it does not matter which arguments
these take. What the built-in classes keep outside ``args`` and the attributes, such as ``errno``, is read and written
where they keep it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import lru_cache
from types import GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, NamedTuple

from railtracks._public_path import public_path
from railtracks.state._serialization._building import set_attributes
from railtracks.state._serialization._contents import attributes_of

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that is not built in
_POINTER = tuple.__itemsize__
_DESCRIPTORS = (MemberDescriptorType, GetSetDescriptorType)
_IN_EVERY_EXCEPTION = BaseException.__dict__.keys()


class _ErrorLayout(NamedTuple):
    """Where the exceptions of a class keep what they consist of."""

    base: type[BaseException]
    """The nearest class that is built in."""
    members: dict[str, Any]
    """The descriptors of what built-in classes keep outside ``args`` and the attributes."""
    is_known: bool
    """Whether a name on record finds the class, and nothing is kept where only its code in C can see it."""


@lru_cache(maxsize=4096)
def _layout(cls: Any) -> _ErrorLayout:
    members: dict[str, Any] = {}
    base = next(each for each in cls.__mro__ if not each.__flags__ & _HEAP_TYPE)
    for each in reversed(base.__mro__[:-2]):  # without BaseException and object
        kept = {name: value for name, value in vars(each).items() if isinstance(value, _DESCRIPTORS)}
        members.update((name, value) for name, value in kept.items() if name not in _IN_EVERY_EXCEPTION)
    is_open = base.__module__ == "builtins" and not any(map(_hides_something, cls.__mro__))
    return _ErrorLayout(base, members, is_open and find_error(public_path(cls)) is cls)


def _hides_something(cls: type) -> bool:
    """Return whether the instances of a class that is not built in have more room than its slots need."""
    if not cls.__flags__ & _HEAP_TYPE or cls.__base__ is None:
        return False
    slots = sum(type(value) is MemberDescriptorType for value in vars(cls).values())
    own = cls.__basicsize__ - cls.__base__.__basicsize__ - slots * _POINTER
    return own > (_POINTER if "__weakref__" in vars(cls) else 0)


def error_state(error: BaseException) -> dict[str, Any]:
    """Return what an exception consists of, by name, apart from its class, its cause and its context.

    Raises:
        ValueError: It cannot be made again of its parts.
    """
    cls: Any = type(error)
    layout = _layout(cls)
    if not layout.is_known:
        raise ValueError(f"an exception of {public_path(cls)} is more than its parts")
    state: dict[str, Any] = {}
    if args := _ARGS.__get__(error):  # whatever its class makes of the name
        state["args"] = list(args)
    members = {}
    for name, member in layout.members.items():
        try:
            value = member.__get__(error)
        except AttributeError:  # nothing was assigned to it
            continue
        if value is not None:
            members[name] = value
    if members:
        state["members"] = members
    if attributes := attributes_of(error):
        state["attributes"] = attributes
    if _SUPPRESS.__get__(error):
        state["suppress"] = True
    return state


def links_of(error: BaseException) -> dict[str, BaseException]:
    """Return the cause and the context of an exception by name, without those that it does not have.

    The context is left out if it is the cause too, as it mostly is.
    """
    cause, context = _CAUSE.__get__(error), _CONTEXT.__get__(error)
    found = {"cause": cause, "context": None if context is cause else context}
    return {name: link for name, link in found.items() if link is not None}


def build_error(cls: Any, state: dict[str, Any]) -> BaseException:
    """Return an exception made of what ``error_state`` and ``links_of`` returned.

    Raises:
        Exception: It cannot be made.
    """
    layout = _layout(cls)
    members = dict(state.get("members", {}))
    if issubclass(cls, BaseExceptionGroup):
        group = members.pop("message"), members.pop("exceptions")
        error: BaseException = layout.base.__new__(cls, *group)
    else:
        error = layout.base.__new__(cls)
    _ARGS.__set__(error, tuple(state.get("args", ())))
    for name, value in members.items():
        layout.members[name].__set__(error, value)
    cause = state.get("cause")
    _CAUSE.__set__(error, cause)
    _CONTEXT.__set__(error, state.get("context", cause))
    _SUPPRESS.__set__(error, state.get("suppress", False))
    set_attributes(error, state.get("attributes", {}))
    return error


_ARGS: Any = BaseException.__dict__["args"]
_CAUSE: Any = BaseException.__dict__["__cause__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]
_SUPPRESS: Any = BaseException.__dict__["__suppress_context__"]


# ---- classes


def find_error(path: str) -> type[BaseException] | None:
    """Return the class of exceptions that a name on record means. None if no module that is loaded defines it.

    Nothing is imported, and no code of a module runs.
    """
    for module, names in _places(path):
        found: Any = module.__dict__.get(names[0])
        for name in names[1:]:
            found = type.__dict__["__dict__"].__get__(found).get(name) if isinstance(found, type) else None
        if isinstance(found, type) and issubclass(found, BaseException) and public_path(found) == path:
            return found
    return None


def _places(path: str) -> Iterator[tuple[ModuleType, list[str]]]:
    """Yield the modules that may define what a path names, each with the names that lead to it there."""
    names = path.split(".")
    for at in range(len(names) - 1, -1, -1):
        for module in (".".join(names[:at]) or "builtins", "__main__"):
            found = sys.modules.get(module)
            if isinstance(found, ModuleType):
                yield found, names[at:]
