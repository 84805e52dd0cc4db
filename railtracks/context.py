"""The context of the session: one mapping, shared by all its nodes, those in worker threads included.

Outside a session every function here raises :class:`~railtracks.exceptions.ContextError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast, overload

from railtracks._context_variable import current
from railtracks.exceptions import ContextError

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
    """The value of ``key``, or ``default``, which may be None, if there is none.

    Raises:
        KeyError: there is no such key and no default was given.
    """
    mapping = _mapping("get")
    return mapping[key] if default is _MISSING else mapping.get(key, default)


def put(key: str, value: Any) -> None:
    """Set ``key`` for all nodes of the session."""
    _mapping("put")[key] = value
    _tell(key, value)


def update(values: Mapping[str, Any]) -> None:
    """Set several keys at once."""
    values = dict(values)
    _mapping("update").update(values)
    for key, value in values.items():
        _tell(key, value)


def delete(key: str) -> None:
    """Remove ``key``. KeyError if there is no such key."""
    del _mapping("delete")[key]
    _tell(key)


def _tell(*change: Any) -> None:
    """A run that is resumed later needs to know what its calls changed."""
    frame = current.get()
    frame.coordinator.record_context_change(frame.record, *change)


def keys() -> list[str]:
    """The keys, as they are now."""
    return list(_mapping("keys"))
