"""The names of modules on record, wherever they stand: in node keys, in types, and in marks."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from railtracks.state._records import CallRecord, Form
from railtracks.state._serialization._record_text import (
    dumps,
    form_in,
    format_inputs,
    format_output,
    loads,
    parse_members,
)

Rename = Callable[[str], str]
"""Returns the new name for the path of a function or class."""
_ALIAS_NAME = re.compile(r"[\w.]+")


def rename_in_record(record: CallRecord, rename: Rename, module: str) -> None:
    """Rename all functions and classes of a module in the texts of a record, in place.

    Args:
        record: The record.
        rename: The new names.
        module: The module. Texts that do not contain its name are left as they are.
    """
    inside = f"{module}."
    if record.node is not None and inside in record.node:
        record.node = rename_in_key(record.node, rename)
    if record.inputs is not None and inside in record.inputs:
        record.inputs = _inputs(parse_members(record.inputs), rename)
    if record.output is not None and inside in record.output:
        data = parse_members(record.output)
        output, types = rename_in_value(data["output"], rename), _types(data.get("output_types"), rename)
        record.output = format_output(output, form_in(record.output), types)
    for at, change in enumerate(record.changes or ()):
        if inside in (change.types or "") or inside in (change.value or ""):
            value = change.value and dumps(rename_in_value(loads(change.value), rename))
            types = change.types and dumps(_types(loads(change.types), rename))
            assert record.changes is not None
            record.changes[at] = change._replace(value=value, types=types)


def _inputs(data: dict[str, Any], rename: Rename) -> str:
    args, kwargs = (rename_in_value(data[name], rename) for name in ("input_args", "input_kwargs"))
    return format_inputs(
        args, kwargs, Form(data.get("input_form", Form.PLAIN)), _types(data.get("input_types"), rename)
    )


def rename_in_key(key: str, rename: Rename) -> str:
    """Return a node key with new names: of its function, and of the types of what is bound to it."""
    path, bound, rest = split_key(key)
    if bound is not None:
        data = parse_members(bound)
        args = data["input_args"]
        if args and isinstance(args[0], str) and path.startswith(f"{args[0]}."):  # the class of a class method
            args[0] = rename(args[0])
        bound = _inputs(data, rename)
    return rename(path) + ("" if bound is None else f"({bound})") + rest


def split_key(key: str) -> tuple[str, str | None, str]:
    """Return the parts of a node key: the path, the text of what is bound to the function if something is, the rest."""
    path, found, rest = key.partition('("input_args"')
    if not found:
        path, found, rest = key.partition("@")
        return path, None, found + rest
    text = found[1:] + rest
    for end in (match.start() for match in re.finditer(r"\)", text)):
        try:
            parse_members(text[:end])
        except ValueError:  # within a string
            continue
        return path, text[:end], text[end + 1 :]
    return key, None, ""


def rename_in_value(data: Any, rename: Rename) -> Any:
    """Return plain data with new names in its marks."""
    if isinstance(data, list):
        return [rename_in_value(item, rename) for item in data]
    if not isinstance(data, dict):
        return data
    new = {key: rename_in_value(value, rename) for key, value in data.items()}
    if isinstance(new.get("$type"), str):
        new["$type"] = rename(new["$type"])
    return new


def _types(types: Any, rename: Rename) -> Any:
    if isinstance(types, str):  # a list without places, of an earlier release
        return " ".join(map(rename, types.split(" ")))
    if not isinstance(types, dict):
        return types
    return {place: _entry(entry, rename) for place, entry in types.items()}


def _entry(entry: Any, rename: Rename) -> Any:
    if isinstance(entry, str):
        return rename(entry)
    new = {**entry, "type": rename(entry["type"]), "state": rename_in_value(entry["state"], rename)}
    if isinstance(alias := new["state"].get("generic"), str):
        new["state"]["generic"] = _ALIAS_NAME.sub(lambda found: rename(found[0]), alias)
    return {**new, "types": _types(entry["types"], rename)} if "types" in entry else new
