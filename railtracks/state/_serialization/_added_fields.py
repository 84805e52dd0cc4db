"""Fields that a class has got since a value of it was recorded.

A value without them and one in which they have their defaults are the same: the code that made the recorded one would
make the other one now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from railtracks._public_path import public_path
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._canonical_text import canonical_text
from railtracks.state._serialization._classify import SCALAR_IDS, Kind, classify, classify_value
from railtracks.state._serialization._contents import members_of
from railtracks.state._serialization._field_defaults import default_of
from railtracks.state._serialization._large_values import discard
from railtracks.state._serialization._places import Place, read_places
from railtracks.state._serialization._plain_data import MAX_DEPTH
from railtracks.state._serialization._record_text import form_in, is_lossy, parse_members, result_text

Classes = Mapping[str, type]
"""Classes with fields, by their paths."""


class Part(NamedTuple):
    """A part of what a record says."""

    data: Any
    place: Place | None


def part_of(value: object) -> Part | None:
    """Return what a record would say of a value; None if that would not be all."""
    text = result_text(value, Redactor(), keep=discard)
    if is_lossy(form_in(text)):
        return None
    members = parse_members(text)
    return Part(members["output"], read_places(members.get("output_types", {})))


def classes_in(*values: object) -> dict[str, type]:
    """Return the classes with fields of which there are instances in some values."""
    found: dict[str, type] = {}
    _collect(values, found, MAX_DEPTH)
    return found


def _collect(value: Any, found: dict[str, type], depth: int) -> None:
    if id(type(value)) in SCALAR_IDS or not depth:
        return
    try:
        classified = classify_value(value)
        if classified.kind is Kind.FIELDS:
            found[public_path(type(value))] = type(value)
        for key, member in members_of(value, classified):
            for each in (key, member):
                _collect(each, found, depth - 1)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # an attribute of a user's object may raise; then it is not on record either
        return


def lacks_fields(part: Part, classes: Classes) -> bool:
    """Return whether there is an instance of one of some classes that has not all the fields of its class."""
    data, place = part
    if place is None:
        return False
    path = _path(place) or ""
    if path in classes and isinstance(data, dict):
        unset = place.entry["state"].get("unset", ()) if isinstance(place.entry, dict) else ()
        if any(name not in data and name not in unset for name in classify(classes[path]).fields):
            return True
    return any(lacks_fields(Part(item, below), classes) for item, below in _members(data, place))


def is_same(recorded: Part, given: Part, classes: Classes) -> bool:
    """Return whether a part is the recorded one, but for fields with defaults that its classes have got since."""
    reduced = _without_added(recorded, given, classes)
    return canonical_text(*recorded) == canonical_text(*reduced)


def is_same_result(recorded: str, value: object, given: str, prefix: str) -> bool:
    """Return whether the text of a record says the same of a value as another text, but for such fields.

    Args:
        recorded: The text of the record.
        value: The value, or several.
        given: The text that would be written of the value now.
        prefix: What the names of the members that say something of the value begin with.
    """
    if is_lossy(form_in(given)):
        return False
    parts = []
    for text in (recorded, given):
        members = parse_members(text)
        types = members.pop(f"{prefix}_types", {})
        if not isinstance(types, Mapping):
            return False
        data = members["output"] if prefix == "output" else [members["input_args"], members["input_kwargs"]]
        place = read_places(types)
        if prefix == "input":
            place = _as_pair(place)
        parts.append(Part(data, place))
    classes = classes_in(value)
    return bool(classes) and lacks_fields(parts[0], classes) and is_same(parts[0], parts[1], classes)


def _as_pair(place: Place) -> Place:
    pair = Place()
    for at, name in enumerate(("input_args", "input_kwargs")):
        if (found := place.member(name)) is not None:
            pair.members[str(at)] = found
    return pair


def _path(place: Place) -> str | None:
    return place.entry["type"] if isinstance(place.entry, dict) else place.entry


def _members(data: Any, place: Place) -> Iterator[tuple[Any, Place | None]]:
    if isinstance(data, list):
        yield from ((item, place.member(at)) for at, item in enumerate(data))
    elif isinstance(data, dict):
        yield from ((item, place.member(key)) for key, item in data.items())


def _without_added(recorded: Part, given: Part, classes: Classes) -> Part:
    """Return a part without those fields that the recorded one does not have, and that have their defaults."""
    known, data, place = recorded.data, given.data, given.place
    if place is None or recorded.place is None or type(known) is not type(data) or not isinstance(data, list | dict):
        return given
    new = Place()
    new.entry, new.keys = place.entry, place.keys

    def member(key: Any, item: Any) -> Any:
        assert place is not None
        assert recorded.place is not None
        below = place.member(key)
        try:
            before = Part(known[key], recorded.place.member(key))
        except LookupError:
            reduced = Part(item, below)
        else:
            reduced = _without_added(before, Part(item, below), classes)
        if reduced.place is not None:
            new.members[str(key)] = reduced.place
        return reduced.data

    if isinstance(data, list):
        return Part([member(at, item) for at, item in enumerate(data)], new)
    path = _path(place) or ""
    dropped = set()
    if path in classes and path == _path(recorded.place):
        added = [name for name in data if name not in known]
        dropped = {name for name in added if _is_default(classes[path], name, Part(data[name], place.member(name)))}
    kept = {name: member(name, item) for name, item in data.items() if name not in dropped}
    if dropped and isinstance(place.entry, dict):
        new.entry = _without_names(place.entry, dropped, kept)
    return Part(kept, new)


def _is_default(cls: type, name: str, part: Part) -> bool:
    try:
        default = part_of(default_of(cls, name))
    except Exception:  # it has none, or what makes it raises
        return False
    return default is not None and canonical_text(*default) == canonical_text(*part)


def _without_names(entry: dict[str, Any], dropped: set[str], kept: dict[str, Any]) -> Any:
    """Return an entry whose state says nothing of some fields."""
    state = dict(entry["state"])
    for name in ("set", "unset"):
        if name in state:
            state[name] = [each for each in state[name] if each not in dropped]
    if "set" in state and {*state["set"]} == kept.keys():
        del state["set"]
    if not state.get("unset", True):
        del state["unset"]
    return {**entry, "state": state} if state else entry["type"]
