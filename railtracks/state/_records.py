"""One record per call: plain data, written by :class:`RTState` alone."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

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
    the fields below it are None (``abandoned`` is set just before the end); it leaves OPEN once, and from then on
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
