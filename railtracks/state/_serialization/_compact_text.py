"""Texts of records in one form, whether or not large values are kept beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from railtracks.state._records import CallRecord, copy_record
from railtracks.state._serialization._large_values import LARGE, Find, expand, has_large, set_aside
from railtracks.state._serialization._record_text import (
    dumps,
    form_in,
    format_inputs,
    format_output,
    loads,
    parse_members,
)

_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"')


def compact_inputs(text: str) -> str:
    """Return the arguments in the text of a record as they are written where large values are kept beside it.

    Earlier releases, and stores that cannot keep large values, have them in the record.
    """
    if len(text) <= LARGE or not any(found.end() - found.start() > LARGE for found in _STRING.finditer(text)):
        return text
    members = parse_members(text)
    args, kwargs, types = (set_aside(members.get(name)) for name in ("input_args", "input_kwargs", "input_types"))
    return format_inputs(args, kwargs, form_in(text), types)


def with_values_inside(records: Iterable[CallRecord], find: Find) -> tuple[CallRecord, ...]:
    """Return records with their large values in their texts, as far as they can be found."""
    return tuple(_with_values_inside(record, find) for record in records)


def _with_values_inside(record: CallRecord, find: Find) -> CallRecord:
    members: dict[str, Any] = {}
    if record.inputs is not None and has_large(record.inputs):
        data = _expanded(record.inputs, find)
        types = data.get("input_types")
        members["inputs"] = format_inputs(data["input_args"], data["input_kwargs"], form_in(record.inputs), types)
    if record.output is not None and has_large(record.output):
        data = _expanded(record.output, find)
        members["output"] = format_output(data["output"], form_in(record.output), data.get("output_types"))
    if any(has_large(text) for change in record.changes or () for text in (change.value, change.types)):
        members["changes"] = [
            change._replace(value=_expanded_value(change.value, find), types=_expanded_value(change.types, find))
            for change in record.changes or ()
        ]
    return copy_record(record, **members) if members else record


def _expanded(text: str, find: Find) -> dict[str, Any]:
    return expand(parse_members(text), find, as_marks=True, keeps_missing=True)  # type: ignore[no-any-return]


def _expanded_value(text: str | None, find: Find) -> str | None:
    return None if text is None else dumps(expand(loads(text), find, as_marks=True, keeps_missing=True))
