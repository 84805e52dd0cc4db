"""What tests of places share: nodes at a place, and what is on record of a call without times and places."""

from __future__ import annotations

import copy
from typing import Any

from railtracks.state._views._place import PLACE


def at(node: Any, where: str | None) -> Any:
    """Return a node as one that runs at a place."""
    return node if where is None else node.options(where=where)


def shape_of(info, is_exact=True):
    """Return what is on record of the calls of a session, but for times, places, and the order among tasks.

    Args:
        info: The session.
        is_exact: Whether values count; they may have been written and read otherwise.
    """
    children = {}
    for record in info.records:
        children.setdefault(record.parent, []).append(record)

    def shape(record):
        if not is_exact:
            below = sorted(map(shape, children.get(record.index, ())), key=repr)
            return record.name, record.status, record.reason, len(record.branch or ()), below
        return (
            record.name, record.node, record.node_type, record.status, record.reason, record.attempt,
            record.args, dict(record.kwargs), _outcome(record), record.reuse,
            [(c.key, c.value, c.form, c.types) for c in record.changes or ()],
            sorted((key, read.value, read.types, read.depth) for key, read in (record.reads or {}).items()),
            len(record.branch or ()),
            len(record.raised_by or ()),
            sorted(map(shape, children.get(record.index, ())), key=repr),
        )  # fmt: skip

    return [shape(each) for each in children.get(None, ())]


def _outcome(record):
    if record.exception is not None:
        return str(getattr(record.exception, "message", None) or record.exception)
    return copy.copy(record.result)


def place_attributes(record):
    from railtracks.state._serialization._record_text import loads

    return loads(record.attributes or "{}").get(PLACE)
