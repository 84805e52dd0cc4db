"""Records that were read: their arguments and results are decoded when they are first asked for."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from railtracks.state._records import CallRecord
from railtracks.state._serialization._decoder import decode
from railtracks.state._serialization._large_values import Find, expand, has_large
from railtracks.state._serialization._record_text import parse_members
from railtracks.state._shared_texts import SharedText, SharingRecord, StoredText, set_inputs, set_output


class LoadedRecord(CallRecord):
    """A record that was read, and has the texts ``inputs`` and ``output``.

    Decoded values take many times the memory of their texts, and few of a large run are used. So ``args``,
    ``kwargs`` and ``result`` may be unset: they are decoded when they are first asked for, and kept from then on.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        """Return a value that is not decoded yet. Python calls this only for attributes that are unset."""
        if name == "args":
            assert self.inputs is not None
            self.args = tuple(self.decoded(self.inputs, "input_args"))
            return self.args
        if name == "kwargs":
            assert self.inputs is not None
            self.kwargs = self.decoded(self.inputs, "input_kwargs")
            return self.kwargs
        if name == "result":
            assert self.output is not None
            self.result = self.decoded(self.output, "output")
            return self.result
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @classmethod
    def decoded(cls, text: str, name: str) -> Any:
        """Return what a member of a text of the record says."""
        return decode(parse_members(text)[name])

    def set_inputs(self, values: tuple[Any, Any], text: StoredText) -> None:
        """Set the arguments: those that ``check_inputs`` returned, and their text."""
        set_inputs(self, text)
        self.args, self.kwargs = values
        if self.args is LATER:
            del self.args
        if self.kwargs is LATER:
            del self.kwargs

    def set_result(self, value: Any, text: StoredText | None) -> None:
        """Set the result: what ``check_output`` returned, and its text."""
        set_output(self, text)
        self.result = value
        if value is LATER:
            del self.result


class LoadedSharingRecord(SharingRecord, LoadedRecord):
    """A record that was read, with texts that share messages."""

    __slots__ = ()


for _cls in (LoadedRecord, LoadedSharingRecord):
    _cls.__name__ = CallRecord.__name__  # in its repr
    _cls.sharing_class = LoadedSharingRecord


LATER: Any = object()
"""In place of a value that can be decoded, and will be when it is asked for."""


def check_inputs(args: Any, kwargs: Any, text: StoredText) -> tuple[Any, Any]:
    """Return the arguments of a call, each of the two as ``LATER`` if it need not be decoded now.

    Args:
        args: The positional arguments, as plain data.
        kwargs: The others.
        text: Both, as the text of a record.

    Raises:
        Exception: They cannot be decoded; whatever a hook of a registered type raises.
    """
    if isinstance(text, SharedText):
        if _must_keep(text.template):
            members = parse_members(text.whole)
            return tuple(decode(members["input_args"])), decode(members["input_kwargs"])
    elif '"$' in text or type(args) is not list or type(kwargs) is not dict:  # marks in it may be malformed
        decoded = tuple(decode(args)), decode(kwargs)
        if _must_keep(text):
            return decoded
    return LATER if args else (), LATER if kwargs else {}


def check_output(data: Any, text: StoredText) -> Any:
    """Return the result of a call, or ``LATER`` if it need not be decoded now.

    Args:
        data: The result, as plain data.
        text: The same, as the text of a record.

    Raises:
        Exception: It cannot be decoded; whatever a hook of a registered type raises.
    """
    if data is None or isinstance(data, int | float):
        return data
    if isinstance(text, SharedText):
        if _must_keep(text.template):
            return decode(parse_members(text.whole)["output"])
    elif '"$' in text:
        decoded = decode(data)
        if _must_keep(text):
            return decoded
    return LATER


def with_large_values(records: Iterable[CallRecord], find: Find) -> tuple[CallRecord, ...]:
    """Return records that read their large values when these are asked for. They take the place of the records given.

    Where a value cannot be used there is a placeholder.

    Args:
        records: The records, as they were loaded.
        find: Returns the content of a value.
    """

    class Record(LoadedRecord):  # one class for each run, so that a record needs no more memory
        __slots__ = ()

        @classmethod
        def decoded(cls, text: str, name: str) -> Any:
            return decode(expand(parse_members(text)[name], find, keeps_missing=True))

    class SharingLargeRecord(Record, LoadedSharingRecord):
        __slots__ = ()

    Record.__name__ = SharingLargeRecord.__name__ = LoadedRecord.__name__
    records = tuple(records)
    for record in records:
        large = ["args", "kwargs"] if has_large(record.inputs) else []
        if has_large(record.output):
            large.append("result")
        if large:
            record.__class__ = SharingLargeRecord if record.is_sharing else Record
        for name in large:
            with suppress(AttributeError):  # it was not decoded yet
                delattr(record, name)
    return records


def result_of(record: CallRecord) -> Any:
    """Return the result of a call as ``set_result`` takes it: ``LATER`` if it was not decoded yet."""
    try:
        return CallRecord.__dict__["result"].__get__(record)
    except AttributeError:
        return LATER


def _must_keep(text: str) -> bool:
    """Return whether a value is made by a hook of the program, which is called once for each value."""
    return '"$value"' in text
