"""The context of the session: one mapping that all its nodes share, including those in worker threads.

Outside a session every function here raises :class:`~railtracks.exceptions.ContextError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, overload

from railtracks._context_variable import current
from railtracks.exceptions import ContextError
from railtracks.state._records import DELETED

_MISSING: Any = object()


def _mapping(function: str) -> dict[str, Any]:
    frame = current.get()
    if frame is None:
        raise ContextError(
            f"rt.context.{function}() was called outside a session; "
            f"call it in a node, or inside `async with rt.Session(context={{...}}):`"
        )
    return cast("dict[str, Any]", frame.coordinator.context)


@overload
def get(key: str) -> Any: ...
@overload
def get(key: str, default: Any) -> Any: ...
def get(key: str, default: Any = _MISSING) -> Any:
    """Return the value of ``key``, or ``default``, which may be None, if there is no such key.

    Raises:
        KeyError: there is no such key, and no default.
    """
    mapping = _mapping("get")
    value = mapping.get(key, _MISSING)
    frame = current.get()
    frame.coordinator.record_context_read(frame.record, key, DELETED if value is _MISSING else value)
    if value is not _MISSING:
        return value
    return mapping[key] if default is _MISSING else default


def put(key: str, value: Any) -> None:
    """Set ``key`` for all nodes of the session."""
    _mapping("put")[key] = value
    _report_change(key, value)


def update(values: Mapping[str, Any]) -> None:
    """Set several keys at once."""
    values = dict(values)
    _mapping("update").update(values)
    for key, value in values.items():
        _report_change(key, value)


def delete(key: str) -> None:
    """Remove ``key``. Raises KeyError if there is no such key."""
    del _mapping("delete")[key]
    _report_change(key)


def _report_change(*change: Any) -> None:
    """Report a change to the coordinator, which records it: a resumed run repeats the changes of replayed calls."""
    frame = current.get()
    frame.coordinator.record_context_change(frame.record, *change)


def keys() -> list[str]:
    """Return the present keys."""
    return list(_mapping("keys"))
