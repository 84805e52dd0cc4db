"""CallRecord, the record of one call, and what it consists of: plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import attrs


class Status(StrEnum):
    """The status of a call."""

    OPEN = "Open"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


class Reason(StrEnum):
    """The reason why a call was cancelled: what began the cancellation."""

    TIMEOUT = "timeout"
    """The top-level call that it belongs to took longer than the session's ``timeout``."""
    END_ON_ERROR = "end_on_error"
    """An error of another call ended the session: under ``end_on_error``, or because it was fatal."""
    SESSION_ENDED = "session_ended"
    """The session ended before the call, for example because its body raised."""
    RUN_ENDED = "run_ended"
    """The top-level call that it belongs to ended before it."""
    OUTSIDE = "outside"
    """Something else: a scope or a timeout of user code, ``task.cancel()``, Ctrl-C."""
    PROCESS_DIED = "process_died"
    """For a call that is ``Open`` in a loaded state: its process ended before the call did."""


class Form(StrEnum):
    """How much of a value survives being written, from all of it to the least."""

    PLAIN = "plain"
    """All of it: the value that is read equals the one that was written, and has the same types."""
    TYPED = "typed"
    """All of it, with its type beside it, as with a tuple. A class of yours has to be named by an annotation."""
    CUT = "cut"
    """A part of it, because it was too large or too deep."""
    OPAQUE = "opaque"
    """Only its type and its repr."""
    MASKED = "masked"
    """All but a secret in it."""
    UNKNOWN = "unknown"
    """Not known: an earlier release wrote it, which did not record the form."""


DELETED: Any = object()
"""In place of the new value of a key that was deleted from the context."""

REUSED = "reused"
"""The value of ``CallRecord.reuse`` for a call whose recorded result was used."""


class Change(NamedTuple):
    """A change of the session's context by a call."""

    order: int
    """The position of the change among all changes of the session, from 0."""
    key: str
    value: str | None
    """The new value as JSON text; None if the key was deleted."""
    form: Form
    types: str | None = None
    """The types in the value, as the text of a JSON object; None if all of it is plain, or not written."""


class FieldRepr:
    """A mix-in for attrs classes: a repr with all fields.

    Having attrs generate a repr and comparisons for each of the many classes of this package would take a tenth of the
    time of ``import railtracks``.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        fields = attrs.fields(type(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({', '.join(f'{field.name}={getattr(self, field.name)!r}' for field in fields)})"


NO_KWARGS: Mapping[str, Any] = MappingProxyType({})


@attrs.define(eq=False, repr=False, weakref_slot=False, on_setattr=attrs.setters.NO_OP)
class CallRecord(FieldRepr):
    """The record of a call, from its creation to its end.

    It is not frozen, because a frozen one costs four times as much on the hot path. Invariant: while ``status`` is
    OPEN, all fields about the end are None, except that ``abandoned`` is set just before the end. The status leaves
    OPEN once, and from then on nothing changes. Relations are indices and not references, so that ended records stay
    cheap for the garbage collector.
    """

    index: int
    """The position of the call in its session, from 0, in the order of creation."""
    parent: int | None
    """The index of the calling call; None for a top-level call."""
    run: int
    """The index of the top-level call that this one is below; its own for a top-level call."""
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
    """True if the call was cancelled while its worker thread went on."""
    node: str | None = None
    """The node key, which identifies the node in all processes; None if nothing does."""
    inputs: str | None = None
    """The arguments as JSON members, ready to be saved; None if they are encoded only when the session is saved."""
    output: str | None = None
    """The result or the exception as JSON members; None as with ``inputs``, and while the call is open."""
    changes: list[Change] | None = None
    """The changes that the call itself made in the context."""
    reuse: str | None = None
    """In a session that resumes another, ``REUSED`` or the reason why the call ran again."""
    attributes: str | None = None
    """The attributes with which the call described itself, as the text of a JSON object."""
    timeout: float | None = None
    """The limit, in seconds, that a top-level call had exceeded when it was cancelled; None for others."""


def aggregate_status(records: Iterable[CallRecord]) -> Status:
    """Return the worst status among the top-level calls of a session; COMPLETED if there are none."""
    found = {record.status for record in records if record.parent is None}
    for status in (Status.OPEN, Status.FAILED, Status.CANCELLED):
        if status in found:
            return status
    return Status.COMPLETED
