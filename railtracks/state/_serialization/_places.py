"""Types at places: what stands beside plain data to say which types its parts had.

In a record the types are a JSON object from places to entries. A place is a JSON pointer (RFC 6901) into the data, in
which ``*`` stands for every member of an array or an object, and a segment that begins with ``~3`` for the key of a
member and not for its value. An entry is the path of a type, or an object with it as ``type``, with what a value of the
type has beyond the data as ``state``, and with the types in that as ``types``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Entry = str | dict[str, Any]
Note = tuple[str, Entry]
"""A place and its entry."""
KEY = "~3"
"""What a segment begins with that stands for the key of a member."""
EVERY = "*"
"""The segment of a place that stands for every member."""


def escape(key: str) -> str:
    """Return the key of a member as a segment of a place."""
    if "~" in key or "/" in key or key == EVERY:
        key = key.replace("~", "~0").replace("/", "~1")
        return "~2" if key == EVERY else key
    return key


def shift(notes: list[Note], start: int, segment: str) -> None:
    """Put a segment before the places of the notes from ``start`` on, in place."""
    notes[start:] = [(f"/{segment}{place}", entry) for place, entry in notes[start:]]


def merge_members(noted: Mapping[str, list[Note]], count: int, mark: str = "") -> Iterable[Note]:
    """Yield the notes of the members of an array or object: once for all members, if they all have the same.

    Args:
        noted: The notes by the segment of the member.
        count: The number of members.
        mark: What the segments begin with; ``KEY`` for the keys of an object.
    """
    first = next(iter(noted.values()))
    if count > 1 and len(noted) == count and all(notes == first for notes in noted.values()):
        noted = {EVERY: first}
    for segment, notes in noted.items():
        for place, entry in notes:
            yield f"/{mark}{segment}{place}", entry


class Place:
    """A place in plain data, at which or below which types are noted.

    Attributes:
        entry: The entry at this place. None if there is none.
        members: The places below it, by key; ``None`` as the key is that of every member.
        keys: The places of the keys themselves, in the same way.
    """

    __slots__ = ("entry", "keys", "members")

    def __init__(self) -> None:
        self.entry: Entry | None = None
        self.members: dict[str | None, Place] = {}
        self.keys: dict[str | None, Place] = {}

    def member(self, key: object) -> Place | None:
        """Return the place of a member, by its key or index. None if it has no types."""
        return self.members.get(str(key)) or self.members.get(None)

    def key(self, key: str) -> Place | None:
        """Return the place of a key itself. None if it has no types."""
        return self.keys.get(key) or self.keys.get(None)


def read_places(types: Mapping[str, Entry]) -> Place:
    """Return the places that the types of a record name, as a tree."""
    root = Place()
    for pointer, entry in types.items():
        place = root
        for segment in pointer.split("/")[1:]:
            below = place.members
            if segment.startswith(KEY):
                segment, below = segment.removeprefix(KEY), place.keys
            place = below.setdefault(None if segment == EVERY else unescape(segment), Place())
        place.entry = entry
    return root


def unescape(segment: str) -> str:
    """Return the key that ``escape`` made a segment of."""
    return segment.replace("~2", EVERY).replace("~1", "/").replace("~0", "~") if "~" in segment else segment
