"""What is wrong with what a model gave, and how the model is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from railtracks.state._serialization._record_text import dumps

Path = tuple[str | int, ...]

MAX_SHOWN = 60
"""Characters of a value that an error shows."""
MAX_PROBLEMS = 20
"""Problems that an error lists."""


class Problems(Exception):
    """What is wrong with a value: where in it, and what."""

    def __init__(self, *found: tuple[Path, str]) -> None:
        super().__init__(*(text for _, text in found))
        self.found = found


def found_in(exc: Exception) -> Iterable[tuple[Path, str]]:
    if isinstance(exc, Problems):
        return exc.found
    try:
        return [((), str(exc) or type(exc).__name__)]
    except Exception:  # an error of the user's whose text cannot be had
        return [((), type(exc).__name__)]


def told(found: Iterable[tuple[Path, str]]) -> str:
    texts = [f"{_place(path)}: {text}" if path else text for path, text in found]
    more = len(texts) - MAX_PROBLEMS
    return "; ".join(texts[:MAX_PROBLEMS]) + (f"; and {more} more" if more > 0 else "")


def _place(path: Path) -> str:
    steps = [f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{shown(step)}]" for step in path]
    return "".join(steps).removeprefix(".")


def shown(value: Any) -> str:
    try:
        text = dumps(value)
    except Exception:  # too deep, or no JSON data at all
        text = f"a {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def wrong(expected: str, data: Any) -> Problems:
    return Problems(((), f"expected {expected}, got {shown(data)}"))
