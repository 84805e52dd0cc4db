"""Plain data and the types in it as one text, which is the same whatever the order of the keys of dicts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from railtracks.state._serialization._places import Place, read_places
from railtracks.state._serialization._record_text import dumps

_ORDERED = "collections.OrderedDict"
_WRITTEN_AS_REPR = ("float", "int")
"""Types of which some values are written as their repr, which says all."""


def canonical_text(data: Any, place: Place | None, omit_repr: bool = False, hidden: Collection[str] = ()) -> str:
    """Return plain data and the types in it as one text.

    Args:
        data: The plain data.
        place: The types in it.
        omit_repr: Leave out what stands in place of a value without a written form, which is another in each process.
        hidden: Types whose values are shown in the same way.
    """
    if place is None and not isinstance(data, dict | list):
        return dumps(data)
    if omit_repr and isinstance(data, dict) and "$repr" in data and data.get("$type") not in _WRITTEN_AS_REPR:
        return f"<{data.get('$type')}>"
    entry = None if place is None else place.entry
    if hidden and (path := entry if isinstance(entry, str) or entry is None else entry["type"]) in hidden:
        return f"<{path}>"
    shown = _entry_text(entry)

    def show(item: Any, at: Place | None) -> str:
        return canonical_text(item, at, omit_repr, hidden)

    if isinstance(data, list):
        return f"{shown}[{', '.join(show(item, place and place.member(at)) for at, item in enumerate(data))}]"
    if not isinstance(data, dict):
        return shown + dumps(data)
    if "$items" in data:
        at = place and place.member("$items")
        members = [show(pair, at and at.member(number)) for number, pair in enumerate(data["$items"])]
    else:
        members = [
            f"{show(key, place and place.key(key))}: {show(item, place and place.member(key))}"
            for key, item in data.items()
        ]
    if not _is_ordered(entry):
        members.sort()
    return f"{shown}{{{', '.join(members)}}}"


def _entry_text(entry: Any) -> str:
    if entry is None or isinstance(entry, str):
        return f"<{entry}>" if entry else ""
    return f"<{entry['type']}: {canonical_text(entry['state'], read_places(entry.get('types', {})))}>"


def _is_ordered(entry: Any) -> bool:
    return entry == _ORDERED or (isinstance(entry, dict) and (entry["type"] == _ORDERED or "ordered" in entry["state"]))
