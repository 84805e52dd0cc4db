"""One record per call: plain data, written by :class:`RTState` alone."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs


class Status(StrEnum):
    """What became of a call."""

    OPEN = "Open"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Reason(StrEnum):
    """Why a call was cancelled."""

    TIMEOUT = "timeout"
    END_ON_ERROR = "end_on_error"
    OUTSIDE = "outside"
    PROCESS_DIED = "process_died"
    """Of a call that is still ``Open`` in a loaded state: its process ended before the call did."""


class Form(StrEnum):
    """How much of a value is in its saved form, from all of it to least."""

    PLAIN = "plain"
    """All: what is read is equal to what was written, and of the same types."""
    TYPED = "typed"
    """All but its type: a tuple or a dataclass, say. An annotation can bring it back."""
    CUT = "cut"
    """It was too large, or too deep."""
    OPAQUE = "opaque"
    """Its type and repr only."""
    MASKED = "masked"
    """A secret was left out."""
    UNKNOWN = "unknown"
    """An earlier release wrote it, which did not say."""


REUSED = "reused"
"""``CallRecord.reuse`` of a call whose recorded result was used."""


class Change(NamedTuple):
    """A change of the session's context, made by a call."""

    order: int
    """Its place among the changes of the session."""
    key: str
    value: str | None
    """The new value as JSON text; None: the key was deleted."""
    form: Form


class Shown:
    """A repr with all fields, for the attrs classes of this package: one for all, as they have so many.

    Generating a repr and comparisons for each would take a tenth of the time that ``import railtracks`` takes.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        fields = attrs.fields(type(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in fields)})"


NO_KWARGS: Mapping[str, Any] = MappingProxyType({})


@attrs.define(eq=False, repr=False, weakref_slot=False, on_setattr=attrs.setters.NO_OP)
class CallRecord(Shown):
    """A call, from its creation to its end.

    Not frozen, because a frozen one costs four times as much on the hot path. Invariant: while ``status`` is OPEN
    what tells of the end is None (``abandoned`` is set just before it); it leaves OPEN once, and from then on
    nothing changes. Relations are indices, not references, so that finished records stay cheap for the garbage
    collector.
    """

    index: int
    """The call's place in its session, counted from 0 in the order of creation."""
    parent: int | None
    """Index of the call that made this one; None for a top-level call."""
    run: int
    """Index of the top-level call at the root of this one; its own for a top-level call."""
    name: str
    node_type: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    started_step: int
    started: float
    """Seconds on the session's clock."""
    status: Status = Status.OPEN
    ended_step: int | None = None
    ended: float | None = None
    result: Any = None
    exception: BaseException | None = None
    reason: Reason | None = None
    abandoned: bool = False
    """True when the call was cancelled while its worker thread went on."""
    node: str | None = None
    """What identifies the node in all processes; None if nothing does."""
    inputs: str | None = None
    """The arguments as they are saved, if that was decided when the call was made; or else it is at the end."""
    output: str | None = None
    """The same for the result or the exception."""
    changes: list[Change] | None = None
    """What the call itself changed in the context."""
    reuse: str | None = None
    """In a session that resumes another: ``REUSED``, or why the call ran again."""
    attributes: str | None = None
    """What the call said about itself, as the JSON text of an object."""
