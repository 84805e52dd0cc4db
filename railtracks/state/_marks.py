"""What a loaded state has in place of values that could not be brought back."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.frozen
class Opaque:
    """What a loaded state has in place of a value that could not be brought back. It is saved again as it was read."""

    type: str
    data: dict[str, Any] = attrs.field(repr=False)
    """The mark as it stands in the document."""

    @property
    def repr(self) -> str | None:
        """The value's repr, if that is what was written."""
        return self.data.get("$repr")


@attrs.frozen
class Cut:
    """Stands at the end of a loaded collection: so many more items were not written."""

    count: int


class RecordedError(Exception):
    """What a loaded state has in place of an exception.

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
