"""What happened in a simulated run, event by event, in words that are the same on every run and every Python."""

from __future__ import annotations

import builtins
import re
import reprlib
from typing import Any

import attrs

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NO_REPR: Any = object.__repr__
LONGEST = 100
"""Characters of a value that are shown."""


class _Stable(reprlib.Repr):
    """A repr without addresses, with sets in order, cut where it is long."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 8
        self.maxstring = self.maxlong = self.maxother = LONGEST

    def repr_set(self, x: Any, level: int) -> str:
        if not x or level <= 0:
            return "{...}" if x else f"{type(x).__name__}()"
        members = sorted(self.repr1(each, level - 1) for each in x)  # their own order may be a partial one
        shown = [*members[: self.maxset], *(["..."] if len(members) > self.maxset else [])]
        return f"{{{', '.join(shown)}}}"

    def repr_frozenset(self, x: Any, level: int) -> str:
        return f"frozenset({self.repr_set(x, level)})" if x else "frozenset()"

    def repr_instance(self, x: Any, level: int) -> str:
        if type(x).__repr__ is _NO_REPR:
            return f"<{type(x).__name__}>"
        try:
            text = builtins.repr(x)
        except Exception:  # a __repr__ of the user's
            return f"<{type(x).__name__}>"
        text = _ADDRESS.sub("", text)
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


_stable = _Stable()


def stable_repr(value: Any) -> str:
    """The repr of ``value`` on one line, without addresses."""
    return _ADDRESS.sub("", _stable.repr(value)).replace("\n", " ")


def arguments(args: tuple[Any, ...], kwargs: Any) -> str:
    """Arguments as they would stand in a call."""
    return ", ".join([*map(stable_repr, args), *(f"{name}={stable_repr(value)}" for name, value in kwargs.items())])


@attrs.frozen(repr=False)
class TraceEvent:
    """Something that happened in a simulated run."""

    time: float
    """Virtual seconds since the run began."""
    session: str
    """The identifier of the session, ``s0`` for the first."""
    call: int | None
    """The call's place in its session, counted from 0; None if it was outside calls."""
    name: str
    """Of the node; of the session, if it was outside calls."""
    what: str
    """"opened", "closed", "created", "completed", "failed", "cancelled", "reused", "broadcast", "put", "delete",
    "refused" (a call that was cancelled before it began; of its caller), "hangs", "fault"."""
    detail: str = ""
    place: str = attrs.field(default="", eq=False)
    """Of a call that was cancelled: where in the user's code it waited, if that is known. No part of the repr: the
    line that Python names differs between versions."""

    @property
    def who(self) -> str:
        """``s0``, or ``s0.3 name`` for a call."""
        return self.session if self.call is None else f"{self.session}.{self.call} {self.name}"

    def __repr__(self) -> str:
        return f"{self.time:10.3f} s  {self.who:<24} {self.what:<9} {self.detail}".rstrip()


class ReprAsCode:
    """A repr that is the code which makes it, without what is at its default."""

    def __repr__(self) -> str:
        shown = []
        for field in attrs.fields(type(self)):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.default is not attrs.NOTHING and value == field.default:
                continue
            text = value.__name__ if isinstance(value, type) else repr(value)
            shown.append(text if field.default is attrs.NOTHING else f"{field.name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"
