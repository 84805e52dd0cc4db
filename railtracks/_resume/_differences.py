"""In what the arguments of a new call differ from recorded ones, for people."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

from railtracks.state._serialization._places import EVERY
from railtracks.state._serialization._record_text import parse_members
from railtracks.state._serialization._shown_arguments import recorded_arguments
from railtracks.state._serialization._shown_data import shown_data

_SHOWN = 50
"""The number of characters of a value that are shown."""
_SHOWN_ARGUMENTS = 200
"""The number of characters of all arguments that are shown."""

_ABSENT = "not there"


def shown_arguments(inputs: str) -> str:
    """Return the arguments in the text of a record, in brackets."""
    return f"({recorded_arguments(inputs, _SHOWN_ARGUMENTS, _SHOWN_ARGUMENTS)})"


def differing_part(recorded: str, given: str, target: Callable[..., Any]) -> str:
    """Return which part of the arguments differs, in brackets after a space; "" if they are equal, or are shorter.

    It is a field of an argument, a key of a dict, or the type of a part. Of an argument that differs as a whole, both
    are shown anyway.

    Args:
        recorded: The text of the recorded arguments.
        given: The text of those of the new call.
        target: What is called with them.
    """
    before, now = parse_members(recorded), parse_members(given)
    for name in ("input_args", "input_kwargs"):
        if (found := _difference(before[name], now[name], "")) is not None:
            path, was, is_now = found
            new = before.get("input_types") and was == _ABSENT
            advice = f"; if it is a new field, give `{path.rpartition('.')[2]}` a default, and pass that" if new else ""
            return f" ({path} was {was}, and is {is_now} now{advice})" if "." in path else ""
    text = _differing_type(before.get("input_types"), now.get("input_types"), target)
    return f" ({text})" if text else ""


def _difference(before: Any, now: Any, path: str) -> tuple[str, str, str] | None:
    """Return the path of the first part in which plain data differs, and the part in both."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            at = f"{path}.{key}" if path else str(key)
            if key not in before or key not in now:
                return at, _shown_member(before, key), _shown_member(now, key)
            if (found := _difference(before[key], now[key], at)) is not None:
                return found
        return None
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        parts = (_difference(one, other, f"{path}[{at}]" if path else f"argument {at}") for at, (one, other) in pairs)
        return next((each for each in parts if each is not None), None)
    return None if before == now else (path, shown_data(before, _SHOWN), shown_data(now, _SHOWN))


def _differing_type(before: Any, now: Any, target: Callable[..., Any]) -> str:
    """Return the first place at which two arguments with the same data have different types, and both types."""
    before, now = (types if isinstance(types, dict) else {} for types in (before, now))
    for place in [*before, *(place for place in now if place not in before)]:
        was, is_now = _type_name(before.get(place)), _type_name(now.get(place))
        if was != is_now:
            verbs = ("items were", "are") if place.endswith(f"/{EVERY}") else ("it was", "is")
            return f"{_shown_place(place, target)}: {verbs[0]} {was}, and {verbs[1]} {is_now} now"
    return "" if before == now else "what their types have beyond the data differs"


def _type_name(entry: Any) -> str:
    name = entry["type"] if isinstance(entry, dict) else entry
    return "plain data" if name is None else str(name)


def _shown_place(place: str, target: Callable[..., Any]) -> str:
    """Return a place in the arguments, or the one that it names all members of."""
    of, argument, *path = place.removesuffix(f"/{EVERY}")[1:].split("/")
    if of == "input_args" and argument.isdecimal():
        with contextlib.suppress(IndexError, TypeError, ValueError):  # it has *args, or no signature
            argument = list(inspect.signature(target).parameters)[int(argument)]
    return f"argument {argument}" + "".join(
        f"[{key}]" if key.isdecimal() or key == EVERY else f".{key}" for key in path
    )


def _shown_member(data: dict[str, Any], key: str) -> str:
    return shown_data(data[key], _SHOWN) if key in data else _ABSENT
