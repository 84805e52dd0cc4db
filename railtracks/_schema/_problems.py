"""What is wrong with data that a model wrote, and how an error reports it to the model.

The texts made here become messages of a conversation, and a resumed run finds a request again by its messages: a
changed text makes interrupted agents ask their model again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from railtracks.state._serialization._record_text import dumps

Path = tuple[str | int, ...]
"""Keys and indices that lead from a value to a part of it."""

MAX_VALUE_LENGTH = 60
"""Characters of a value that an error shows."""
MAX_PROBLEMS = 20
"""Problems that an error lists."""


class Problems(Exception):
    """All that is wrong with a value, as pairs of a path within the value and a text."""

    def __init__(self, *found: tuple[Path, str]) -> None:
        super().__init__(*(text for _, text in found))
        self.found = found


def mismatch(expected: str, data: Any) -> Problems:
    """Return the error for data of the wrong type or form."""
    return Problems(((), f"expected {expected}, got {format_value(data)}"))


def problems_of(exc: Exception) -> Iterable[tuple[Path, str]]:
    """Return the problems that an exception stands for; one without a path, unless it is a ``Problems``."""
    if isinstance(exc, Problems):
        return exc.found
    try:
        return [((), str(exc) or type(exc).__name__)]
    except Exception:  # an exception class of the user whose __str__ fails
        return [((), type(exc).__name__)]


def format_problems(found: Iterable[tuple[Path, str]]) -> str:
    """Return the problems as one line, each with its path."""
    texts = [f"{_format_path(path)}: {text}" if path else text for path, text in found]
    more = len(texts) - MAX_PROBLEMS
    return "; ".join(texts[:MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def format_value(value: Any) -> str:
    """Return a value as JSON, shortened; its type if JSON cannot hold it."""
    try:
        text = dumps(value)
    except Exception:  # nested too deeply, or not JSON data at all
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_VALUE_LENGTH else text[: MAX_VALUE_LENGTH - 3] + "..."


def _format_path(path: Path) -> str:
    steps = [
        f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{format_value(step)}]" for step in path
    ]
    return "".join(steps).removeprefix(".")
