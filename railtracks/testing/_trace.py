"""What happened in a simulated run, event by event, in text that is the same in each run and on each Python."""

from __future__ import annotations

import builtins
import re
import reprlib
from typing import Any

import attrs

_ADDRESS = re.compile(
    r" at 0x[0-9a-fA-F]+"
    r"| via cancel scope [0-9a-f]{6,}"  # in the message of a cancellation by anyio
    r"|(?<=TaskInfo\()id=\d+, "  # of anyio.get_current_task()
)
_NO_REPR: Any = object.__repr__
MAX_LENGTH = 100
"""Characters of a value that are shown at most."""


class _Stable(reprlib.Repr):
    """Makes reprs without addresses, with sets in order, and cut where they are long."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 4
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 8
        self.maxstring = self.maxlong = self.maxother = MAX_LENGTH

    def repr_set(self, x: Any, level: int) -> str:
        if not x or level <= 0:
            return "{...}" if x else f"{type(x).__name__}()"
        members = sorted(self.repr1(each, level - 1) for each in x)  # by repr, as the order of values may be partial
        shown = [*members[: self.maxset], *(["..."] if len(members) > self.maxset else [])]
        return f"{{{', '.join(shown)}}}"

    def repr_frozenset(self, x: Any, level: int) -> str:
        return f"frozenset({self.repr_set(x, level)})" if x else "frozenset()"

    def repr_instance(self, x: Any, level: int) -> str:
        if type(x).__repr__ is _NO_REPR:
            return f"<{type(x).__name__}>"
        try:
            text = builtins.repr(x)
        except Exception:  # raised by a user's __repr__
            return f"<{type(x).__name__}>"
        text = without_addresses(text)
        return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 3]}..."


_stable = _Stable()


def stable_repr(value: Any) -> str:
    """Return the repr of ``value`` on one line, without addresses."""
    return one_line(_stable.repr(value))


def without_addresses(text: str) -> str:
    """Return ``text`` without the addresses of objects, which differ from process to process."""
    return _ADDRESS.sub("", text)


def one_line(text: str) -> str:
    """Return ``text`` on one line, without addresses."""
    return without_addresses(text).replace("\n", " ")


def format_arguments(args: tuple[Any, ...], kwargs: Any) -> str:
    """Return the arguments as they would be written in a call."""
    return ", ".join([*map(stable_repr, args), *(f"{name}={stable_repr(value)}" for name, value in kwargs.items())])


@attrs.frozen(repr=False)
class TraceEvent:
    """Something that happened in a simulated run."""

    time: float
    """Virtual seconds since the run began."""
    session: str
    """The identifier of the session, ``s0`` for the first."""
    call: int | None
    """The index of the call in its session; None outside of calls."""
    name: str
    """The name of the node; outside of calls, the name of the session."""
    what: str
    """One of "opened", "closed", "created", "completed", "failed", "cancelled", "reused", "broadcast", "put", "delete",
    "get" (of a key that another call sets or deletes), "mark", "switched" (a thread lost its turn to another one),
    "refused" (of the caller of a call that was cancelled before it began), "hangs", "fault"."""
    detail: str = ""
    """Arguments, a result, an exception, or what else belongs to ``what``."""
    place: str = attrs.field(default="", eq=False)
    """Where in user code a cancelled call waited and for what, if known. It is not in the repr, because the line that
    Python reports differs between versions."""

    turn: int = attrs.field(default=0, eq=False)
    """The turn of the event loop in which it happened. Events of one turn are those of tasks that could run at the same
    time; the seed decides their order."""

    @property
    def who(self) -> str:
        """The session, as in ``s0``, or the call, as in ``s0.3 name``."""
        return self.session if self.call is None else f"{self.session}.{self.call} {self.name}"

    def __repr__(self) -> str:
        return f"{self.time:10.3f} s  {self.who:<24} {self.what:<9} {self.detail}".rstrip()


class ReprAsCode:
    """A mix-in whose repr is the code that makes the object, without arguments at their defaults."""

    def __repr__(self) -> str:
        shown = []
        for field in attrs.fields(type(self)):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.default is not attrs.NOTHING and value == field.default:
                continue
            text = value.__name__ if isinstance(value, type) else repr(value)
            shown.append(text if field.default is attrs.NOTHING else f"{field.name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"


def policy_code(value: Any) -> str:
    """Return the value of a policy as it is written in code, such as ``rt.Limit('api', concurrency=2)``."""
    if not attrs.has(type(value)):
        return repr(value)
    shown = []
    for field in attrs.fields(type(value)):
        given = getattr(value, field.name)
        if given != field.default:
            text = getattr(given, "__name__", None) or repr(given)
            shown.append(f"{field.name}={text}" if field.kw_only else text)
    return f"rt.{type(value).__name__}({', '.join(shown)})"
