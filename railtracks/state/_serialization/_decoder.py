"""Plain data to values: what the encoder wrote, as far as it can be brought back without annotations."""

from __future__ import annotations

import re
from typing import Any

from railtracks.state._serialization._hooks import registered_types
from railtracks.state._serialization._placeholders import IGNORED, Cut, Opaque, RecordedError
from railtracks.state._serialization._plain_data import from_base64


def decode(data: Any) -> Any:
    """Return the value that ``encode`` wrote as ``data``, or a placeholder if it cannot be brought back.

    Raises:
        Exception: Whatever a hook of a registered type raises.
    """
    if isinstance(data, list):
        return [decode(item) for item in data]
    if not isinstance(data, dict):
        return data
    if "$cut" in data:
        return Cut(data["$cut"])
    if "$ignored" in data:
        return IGNORED
    if "$type" in data:
        return _decode_mark(data["$type"], data)
    return {key: decode(value) for key, value in data.items()}


def _decode_mark(name: str, data: dict[str, Any]) -> Any:
    if "$items" in data:
        return _decode_pairs(data)
    if "$traceback" in data:
        return RecordedError(name, data["$message"], data["$traceback"])
    if "$base64" in data:
        return from_base64(data["$base64"])
    if "$value" in data and (hooks := registered_types.find_by_name(name)) is not None:
        return hooks.structure(data["$value"])
    if name == "float":
        return float(data["$repr"])
    if name == "int" and re.fullmatch("-?0x[0-9a-f]+", data.get("$repr", "")):
        return int(data["$repr"], 16)
    return Opaque(name, data)


def _decode_pairs(data: dict[str, Any]) -> Any:
    """Return a mapping whose keys are not all texts; an ``Opaque`` if its keys cannot be keys any more, or were cut."""
    try:
        pairs = [(_as_key(decode(key)), decode(value)) for key, value in data["$items"]]
        mapping = dict(pairs)
    except (TypeError, ValueError):
        return Opaque("dict", data)
    return mapping if len(mapping) == len(pairs) else Opaque("dict", data)


def _as_key(key: Any) -> Any:
    """Return tuples in place of lists: keys that were tuples are written as lists, which cannot be keys."""
    return tuple(map(_as_key, key)) if isinstance(key, list) else key
