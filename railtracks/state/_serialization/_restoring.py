"""Records to the values that they were: plain data, and the types at its places."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from railtracks.state._serialization._annotated_classes import AnnotatedClasses, UnknownTypeError
from railtracks.state._serialization._building import build
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._error_parts import build_error, find_error
from railtracks.state._serialization._hooks import registered_types
from railtracks.state._serialization._places import Place, read_places
from railtracks.state._serialization._standard_types import find_standard

__all__ = ["UnknownTypeError", "restore"]


def restore(data: Any, types: Any, *annotations: Any) -> Any:
    """Return the value that was written as ``data``.

    Args:
        data: The plain data.
        types: The types in it by place; None if there are none.
        annotations: The annotations that may name classes in it.

    Raises:
        UnknownTypeError: It has a type that no annotation names.
        ValueError: It cannot be brought back. The text says why, and continues a sentence that begins with "it".
    """
    try:
        if types is None:
            return decode(data)
        return _Restorer(annotations).restore(data, read_places(types))
    except (UnknownTypeError, _Unrestorable):
        raise
    except Exception as exc:  # whatever a hook of a registered type, or a class, raises
        raise ValueError(f"cannot be restored ({exc!r})") from exc


class _Unrestorable(ValueError):
    """The reason why a value cannot be brought back, in words."""


class _Restorer:
    def __init__(self, annotations: tuple[Any, ...]) -> None:
        self._annotations = annotations
        self._classes: AnnotatedClasses | None = None
        self._errors: dict[int, BaseException] = {}  # those that may occur again, by their numbers

    def find_alias(self, text: str) -> Any:
        return self.classes.find_alias(text)

    @property
    def classes(self) -> AnnotatedClasses:
        """The classes that the annotations name; found when they are first needed, as few values need them."""
        if self._classes is None:
            self._classes = AnnotatedClasses(*self._annotations)
        return self._classes

    def restore(self, data: Any, place: Place | None) -> Any:
        if place is None:
            return decode(data)
        if place.entry is None:
            return self._restore_content(data, place)
        if isinstance(place.entry, str):
            path, kept, types = place.entry, {}, {}
        else:
            path, kept, types = place.entry["type"], place.entry["state"], place.entry.get("types", {})
        if isinstance(data, dict) and ("$traceback" in data or "$same" in data):
            return self._restore_error(data, path, kept, types)
        cls = find_standard(path) or self.classes.find(path)  # first: its fields name the classes of its members
        content = self._restore_content(data, place)
        state = self.restore(kept, read_places(types))
        try:
            return build(cls, content, state, self.find_alias)
        except ValueError as exc:
            raise _Unrestorable(str(exc)) from exc

    def _restore_error(self, data: dict[str, Any], path: str, kept: dict[str, Any], types: dict[str, Any]) -> Any:
        """Return an exception that is the output of a failed call, or a part of it."""
        if "$same" in data:
            return self._errors[data["$same"]]
        if "value" in kept and (hooks := registered_types.find_by_name(path)) is not None:
            error = hooks.structure(kept["value"])
        elif (cls := find_error(path)) is not None:
            self.classes.add(cls)
            error = build_error(cls, self.restore(kept, read_places(types)))
        else:
            raise UnknownTypeError(f"is of a type that no loaded module defines ({path})")
        if "$number" in data:
            self._errors[data["$number"]] = error
        return error

    def _restore_content(self, data: Any, place: Place) -> Any:
        return self._restore_members(data, place) if place.members or place.keys else decode(data)

    def _restore_members(self, data: Any, place: Place) -> Any:
        if isinstance(data, list):
            return [self.restore(item, place.member(index)) for index, item in enumerate(data)]
        if "$items" in data:
            return _as_dict(
                (self.restore(pair[0], at and at.member(0)), self.restore(pair[1], at and at.member(1)))
                for pair, at in self._members(data["$items"], place.member("$items"))
            )
        if "$type" in data:
            return decode(data)  # of a registered type: its hook gets plain data
        if not place.keys:
            return {key: self.restore(item, place.member(key)) for key, item in data.items()}
        return _as_dict(
            (self.restore(key, place.key(key)), self.restore(item, place.member(key))) for key, item in data.items()
        )

    @staticmethod
    def _members(items: list[Any], place: Place | None) -> list[tuple[Any, Place | None]]:
        return [(item, place and place.member(index)) for index, item in enumerate(items)]


def _as_dict(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    listed = list(pairs)
    made = dict(listed)
    if len(made) < len(listed):
        raise ValueError("keys that were different are equal now")
    return made
