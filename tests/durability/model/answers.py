"""What leaves answer: values of many kinds, each of which contains its number as text, and failures."""

from __future__ import annotations

import datetime
import re
from functools import cache
from typing import Any

from railtracks.exceptions import ConfigError
from railtracks.state._stores._messages import encode_message
from tests.durability import values
from tests.durability.kinds import TWINS

_MARK = re.compile(r"#(\d+)#")


class Failure(Exception):
    """A failure of the world outside."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


class Raised(Exception):
    """A failure of a node itself."""


def mark(number: int) -> str:
    return f"#{number}#"


def first_number(text: str) -> int:
    """Return the number of the first answer in a text."""
    found = _MARK.search(text)
    assert found is not None, text
    return int(found[1])


def _kinds() -> dict[str, tuple[Any, Any]]:
    kinds: dict[str, tuple[Any, Any]] = {
        "text": (str, None), "list": (list[Any], None), "map": (dict[str, Any], None),
        "moments": (Any, datetime.timedelta(seconds=5)),
    }  # fmt: skip
    for name, pair in values.TYPED.items():
        kinds[name] = pair
    for name, (value, _) in TWINS.items():
        kinds[f"twin: {name}"] = type(value), value
    return kinds


KINDS = _kinds()
"""An annotation and a value, by the name of the kind."""


@cache
def free_kinds() -> tuple[str, ...]:
    """Return the kinds of values that come back without an annotation: those of messages and in the context."""
    found = []
    for kind in KINDS:
        try:
            encode_message("topic", answer(kind, 0))
        except ConfigError:
            continue
        found.append(kind)
    return tuple(found)


def annotation(kind: str) -> Any:
    """Return what a leaf of a kind is annotated to return."""
    hint: Any = KINDS[kind][0]
    return hint if kind in ("text", "list", "map") else tuple.__class_getitem__((str, hint))


def answer(kind: str, number: int) -> Any:
    """Return the answer of a leaf."""
    match kind:
        case "text":
            return mark(number)
        case "list":
            return [number, mark(number), [None, 1.5]]
        case "map":
            return {"id": mark(number), "n": {"number": number}}
    return mark(number), KINDS[kind][1]


def show(value: Any) -> str:
    """Return a value or a failure as text, with its type."""
    if isinstance(value, BaseException):
        return f"{type(value).__name__}{value.args} {sorted(vars(value).items())}"
    return repr(value)
