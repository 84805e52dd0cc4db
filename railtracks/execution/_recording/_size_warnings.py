"""Warnings of values that are too large to be recorded whole: a resumed run would run their calls again in silence."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from railtracks._logging import SESSION
from railtracks.state import CallRecord, Status
from railtracks.state._serialization._plain_data import MAX_DEPTH, MAX_SHOWN

if TYPE_CHECKING:
    from railtracks._logging import SessionLog

CUT_INPUTS = '"input_form": "cut"'
"""How the text of arguments ends that are not all on record."""
CUT_OUTPUT = '"output_form": "cut"'
"""How the text of a result or an exception ends that is not all on record."""


class SizeWarnings:
    """Warns once for each node of what is larger than the limit.

    Args:
        max_bytes: The number of bytes up to which a value is recorded whole.
        log: The session's log.
    """

    def __init__(self, max_bytes: int, log: SessionLog) -> None:
        self._max_bytes = max_bytes
        self._log = log
        self._warned: set[tuple[str, str]] = set()

    def warn_of_arguments(self, record: CallRecord) -> None:
        """Warn that the arguments of a call are cut on record."""
        largest = max((*record.args, *record.kwargs.values()), key=_size, default=None)
        self._warn(record, "arguments", f"the arguments of {record.name} are too large{_described(largest)}")

    def warn_of_output(self, record: CallRecord) -> None:
        """Warn that the result or the exception of a call is cut on record."""
        if record.status is Status.FAILED:
            limit = f"with up to {MAX_SHOWN:,} characters of text"
            self._warn(record, "exception", f"the exception that {record.name} raised is too large", limit)
        else:
            self._warn(record, "result", f"the result of {record.name} is too large{_described(record.result)}")

    def warn_of_context(self, record: CallRecord, key: str, value: Any) -> None:
        """Warn that a value in the context is cut on record."""
        text = f"the value of {key!r} in the context, put there by {record.name}, is too large{_described(value)}"
        self._warn(record, f"context {key}", text)

    def _warn(self, record: CallRecord, what: str, text: str, limit: str = "") -> None:
        node = record.node or record.name
        if (node, what) in self._warned:
            return
        self._warned.add((node, what))
        self._log.log(
            logging.WARNING,
            "Not all on record: %s; a value is recorded whole up to max_value_bytes=%d and up to %d levels of nesting%s"
            ". If this run is resumed, the call runs again. Use a larger max_value_bytes, or pass a reference to the "
            "value, such as the name of a file",
            text, self._max_bytes, MAX_DEPTH, limit and f", an exception {limit}", logger=SESSION,
        )  # fmt: skip


_SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)
"""Types whose length can be found without any code of a user."""


def _size(value: Any) -> int:
    return len(value) if type(value) in _SIZED else 0


def _described(value: Any) -> str:
    """Return the size of a value in words, as far as it shows it."""
    size = _size(value)
    if not size:
        return ""
    unit = "characters" if type(value) is str else "bytes" if type(value) is bytes else "items"
    return f" ({type(value).__name__} of {size:,} {unit})"
