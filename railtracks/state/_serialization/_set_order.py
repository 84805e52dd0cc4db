"""The order in which the members of sets are written: the same in all processes."""

from __future__ import annotations

import math
from typing import Any

from railtracks.state._serialization._places import Note

_ORDERED = frozenset({str, int, bool, float, bytes, type(None)})
"""Types whose values are ordered, each among themselves, and have the same repr in all processes."""


def in_order(members: list[Any]) -> list[Any] | None:
    """Return the members of a set in an order that is the same in all processes; None if they do not say which.

    Sets are ordered by inclusion only, and their reprs differ from process to process. So do those of what has them.
    """
    if not all(map(_is_orderly, members)):
        return None
    try:
        return sorted(members)
    except TypeError:  # members of different types
        return sorted(members, key=repr)


def _is_orderly(value: Any) -> bool:
    cls = type(value)
    if cls is tuple:
        return all(map(_is_orderly, value))
    return cls in _ORDERED and not (cls is float and math.isnan(value))


def sort_key(data: Any, notes: list[Note]) -> tuple[str, str]:
    """Return what members are sorted by that ``in_order`` cannot order.

    It is what they are written as, and then their types: a member of an enumeration may be written as a text that
    is a member too.
    """
    from json import dumps  # here, as importing it takes long

    return dumps(data), dumps(notes)
