"""The classes that an annotation names, at any depth: those that a name on record may mean.

A name on record is never imported. It is looked up among the classes that an annotation names, those that the fields
of such classes name in turn, and the subclasses of all these that are loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Literal, NewType, TypeVar, get_args, get_origin

import attrs

from railtracks._public_path import alias_text, public_path
from railtracks.state._serialization._standard_types import find_standard
from railtracks.state._serialization._type_hints import hints_of, is_pydantic, resolved_hints


class UnknownTypeError(ValueError):
    """No annotation names a type that is on record. The text continues a sentence that begins with "it"."""


class AnnotatedClasses:
    """The classes that some annotations name.

    Args:
        annotations: The annotations.
    """

    def __init__(self, *annotations: Any) -> None:
        self._classes: dict[str, set[type]] = {}
        self._aliases: dict[str, Any] = {}
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # so that no other annotation gets the identity of one that was seen
        for annotation in annotations:
            self.add(annotation)

    def find(self, path: str) -> type:
        """Return the class with this path.

        Raises:
            UnknownTypeError: There is none.
            ValueError: There are several. The text continues a sentence that begins with "it".
        """
        found = self._classes.get(path) or {
            subclass
            for classes in list(self._classes.values())
            for cls in classes
            for subclass in subclasses_of(cls)
            if public_path(subclass) == path
        }
        if not found:
            raise UnknownTypeError(f"is of a type that only an annotation can bring back ({path})")
        if len(found) > 1:
            raise UnknownTypeError(f"is of a type of which there are several classes with one name ({path})")
        (cls,) = found
        self.add(cls)
        return cls

    def find_alias(self, text: str) -> Any:
        """Return the generic alias that is shown as ``text``.

        Raises:
            ValueError: No annotation has it.
        """
        if text not in self._aliases:
            raise ValueError(f"is an instance of {text}, which no annotation names")
        return self._aliases[text]

    def add(self, annotation: Any) -> None:
        """Add the classes that another annotation names."""
        waiting = [annotation]
        while waiting:
            hint = waiting.pop()
            if id(hint) in self._seen:
                continue
            self._seen.add(id(hint))
            self._kept.append(hint)
            if isinstance(hint, type) and get_origin(hint) is None:
                self._classes.setdefault(public_path(hint), set()).add(hint)
            elif get_origin(hint) is not None:
                self._aliases[alias_text(hint)] = hint
            waiting += parts_of(hint)


def parts_of(hint: Any) -> Iterator[Any]:
    """Yield the annotations that an annotation consists of. Those of a class are those of its fields and bases."""
    origin = get_origin(hint)
    if origin is Literal:
        return
    if origin is not None:
        yield origin
        for arg in get_args(hint):
            yield from arg if isinstance(arg, list) else (arg,)
    elif isinstance(hint, NewType):
        yield hint.__supertype__
    elif isinstance(hint, TypeVar):
        yield hint.__bound__
        yield from hint.__constraints__
    elif hasattr(hint, "__value__"):  # an alias made by a `type` statement
        yield hint.__value__
    elif isinstance(hint, type) and find_standard(public_path(hint)) is None and hint is not object:
        yield from field_hints(hint).values()
        if issubclass(hint, BaseException):
            yield from hints_of(hint).values()
        yield from getattr(hint, "__orig_bases__", ())
    if hasattr(origin, "__value__"):
        yield origin.__value__


@lru_cache(maxsize=1024)
def field_hints(cls: Any) -> dict[str, Any]:
    """Return the annotations of the fields of a class by name, as far as they can be resolved."""
    hints = resolved_hints(cls)
    if attrs.has(cls):
        fields = ((field.name, field.type) for field in attrs.fields(cls))
        hints = {**{name: hint for name, hint in fields if isinstance(hint, type)}, **hints}
    if is_pydantic(cls):
        hints.update((name, field.annotation) for name, field in cls.model_fields.items())
    return hints


def subclasses_of(cls: type) -> Iterator[type]:
    """Yield all subclasses of a class that are loaded; none for ``object``, of which all classes are subclasses."""
    if cls is object:
        return
    direct: list[type] = type.__subclasses__(cls)
    for subclass in direct:
        yield subclass
        yield from subclasses_of(subclass)
