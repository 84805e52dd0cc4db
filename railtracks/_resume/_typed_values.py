"""The results and arguments in a stored run as the values that they were, as far as the flow's annotations allow it."""

from __future__ import annotations

from typing import Any

import attrs

from railtracks._resume._matching import restore_arguments
from railtracks._resume._recorded_main import settle_main
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, ExecutionInfo, Status
from railtracks.state._records import Form, copy_record
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._added_fields import is_same_result
from railtracks.state._serialization._large_values import Find, discard, expand, has_large
from railtracks.state._serialization._record_text import form_in, inputs_text, parse_members, result_text
from railtracks.state._serialization._restoring import restore
from railtracks.state._serialization._structuring import restore_result
from railtracks.state._serialization._type_hints import hints_of


def with_typed_values(info: ExecutionInfo, entry_point: FunctionNode[..., Any]) -> ExecutionInfo:
    """Return a loaded snapshot with the values that were recorded, in place of plain data.

    What cannot be made again exactly as it was stays as it is.

    Args:
        info: The snapshot.
        entry_point: The entry point of the flow. Of its calls everything is brought back that its annotations name; of
            other calls, too, what these annotations name, and types of the standard library.
    """
    copies = [[_copy(record) for record in records] for records in (info.earlier, info.records)]
    settle_main(*copies)
    values = _Values(entry_point, info._find_value)
    earlier, records = (
        tuple(map(values.typed, known, named))
        for known, named in zip((info.earlier, info.records), copies, strict=True)
    )
    return attrs.evolve(info, records=records, earlier=earlier)


def _copy(record: CallRecord) -> CallRecord:
    return copy_record(record, changes=record.changes and [*record.changes])


class _Values:
    def __init__(self, entry_point: FunctionNode[..., Any], find: Find) -> None:
        self._entry_point = entry_point
        self._find = find
        self._annotations = [entry_point.return_hint, *hints_of(entry_point.target).values()]

    def typed(self, known: CallRecord, named: CallRecord) -> CallRecord:
        """Return a record with its values.

        Args:
            known: The record, as it was written.
            named: The same, in which the module ``__main__`` has the name that it has now.
        """
        changed: dict[str, Any] = {}
        if named.status is Status.COMPLETED and form_in(named.output or "") is Form.TYPED:
            changed.update(self._result(named))
        if form_in(named.inputs or "") is Form.TYPED:
            changed.update(self._arguments(named))
        return copy_record(known, **changed) if changed else known

    def _is_entry_point(self, record: CallRecord) -> bool:
        node = self._entry_point
        return record.node == node.key if node.key is not None and record.node is not None else record.name == node.name

    def _result(self, record: CallRecord) -> dict[str, Any]:
        assert record.output is not None
        try:
            if self._is_entry_point(record):
                return {"result": restore_result(record.output, self._entry_point.return_hint, self._find)}
        except ValueError:
            pass
        try:
            members = self._members(record.output)
            value = restore(members["output"], _by_place(members["output_types"]), *self._annotations)
        except ValueError:
            return {}
        keep = discard if has_large(record.output) else None
        text = result_text(value, Redactor(), keep=keep)
        is_exact = text == record.output or is_same_result(record.output, value, text, "output")
        return {"result": value} if is_exact else {}

    def _members(self, text: str) -> dict[str, Any]:
        members = parse_members(text)
        return expand(members, self._find) if has_large(text) else members

    def _arguments(self, record: CallRecord) -> dict[str, Any]:
        assert record.inputs is not None
        try:
            if self._is_entry_point(record):
                args, kwargs = restore_arguments(record, self._entry_point, self._find)
                return {"args": args, "kwargs": kwargs}
        except ValueError:
            pass
        try:
            members = self._members(record.inputs)
            data = {name: members[name] for name in ("input_args", "input_kwargs")}
            restored = restore(data, _by_place(members["input_types"]), *self._annotations)
        except ValueError:
            return {}
        args, kwargs = tuple(restored["input_args"]), restored["input_kwargs"]
        keep = discard if has_large(record.inputs) else None
        text = inputs_text(args, kwargs, Redactor(), keep=keep)
        is_exact = text == record.inputs or is_same_result(record.inputs, (args, kwargs), text, "input")
        return {"args": args, "kwargs": kwargs} if is_exact else {}


def _by_place(types: Any) -> Any:
    """Return the types in a record. Raises ValueError if an earlier release wrote them, which knew no places."""
    if not isinstance(types, dict):
        raise ValueError("has types without places")
    return types
