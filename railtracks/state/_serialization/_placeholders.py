"""Placeholders: what a loaded state contains in place of values that could not be brought back."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class Opaque:
    """A placeholder for a value that could not be brought back. It is saved again as it was read.

    Attributes:
        type: The qualified name of the value's class.
        data: The mark as it stands in the document.
    """

    type: str
    data: dict[str, Any] = attrs.field(repr=False)

    @property
    def repr(self) -> str | None:
        """The value's repr. None if the value was written in another way."""
        if "$large" in self.data:  # kept beside the record, and not there any more
            return f"<{self.data.get('$size')} bytes>"
        return self.data.get("$repr")


@attrs.frozen
class Cut:
    """A placeholder at the end of a loaded collection, for the items that were not written.

    Attributes:
        count: The number of these items.
    """

    count: int


@attrs.frozen
class Ignored:
    """A placeholder for an argument that is not recorded, as ``function_node(ignore=...)`` names its parameter."""


IGNORED: Any = Ignored()


class RecordedError(Exception):
    """A placeholder for an exception.

    Attributes:
        type: The qualified name of the exception's class.
        message: Its text.
        traceback: Its traceback as text; "" if it had none.
    """

    def __init__(self, type: str, message: str, traceback: str) -> None:
        super().__init__(type, message, traceback)
        self.type: str = type
        self.message: str = message
        self.traceback: str = traceback

    def __str__(self) -> str:
        return f"{self.type}: {self.message}"


def placeholder_mark(value: Any) -> Any:
    """Return the mark of a placeholder, as it was read. None for other values."""
    cls = type(value)  # not isinstance, which asks the value for its `__class__`
    if issubclass(cls, Opaque):
        return value.data
    if issubclass(cls, Cut):
        return {"$cut": value.count}
    if issubclass(cls, Ignored):
        return {"$ignored": True}
    if issubclass(cls, RecordedError):
        return {"$type": str(value.type), "$message": str(value.message), "$traceback": str(value.traceback)}
    return None
