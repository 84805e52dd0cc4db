"""CallRecord, the record of one call, and what it consists of: plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import attrs


class Status(StrEnum):
    """The status of a call."""

    OPEN = "Open"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    SUSPENDED = "Suspended"
    """It waits for an answer or a message, or for a call that does, and runs again when the run is resumed."""


class Reason(StrEnum):
    """The reason why a call was cancelled: what began the cancellation."""

    TIMEOUT = "timeout"
    """The top-level call that it belongs to took longer than the session's ``timeout``."""
    NODE_TIMEOUT = "node_timeout"
    """It took longer than the ``timeout`` of its node, and has failed; or a call above it did, and it was cancelled."""
    BUDGET = "budget"
    """All calls of the session together took longer than its ``budget``."""
    END_ON_ERROR = "end_on_error"
    """An error of another call ended the session: under ``end_on_error``, or because it was fatal."""
    SESSION_ENDED = "session_ended"
    """The session ended before the call, for example because its body raised."""
    RUN_ENDED = "run_ended"
    """The top-level call that it belongs to ended before it."""
    REQUEST = "request"
    """``rt.state.cancel_run`` was called for the run."""
    HANDLE = "handle"
    """``cancel()`` of its handle was called: it, or a call above it, was started by ``session.start_soon``."""
    BATCH = "batch"
    """Another call of the same ``rt.call_batch`` or ``rt.call_stream`` failed, with ``return_exceptions=False``."""
    SUSPENDED = "suspended"
    """For a call that is ``Suspended``: nothing in the run could go on without an answer or a message."""
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


class _NotKept:
    """In place of the result of an item that had completed in an earlier attempt of the run, if it is not on record."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "rt.state.not_kept"

    def __bool__(self) -> bool:
        return False


not_kept: Any = _NotKept()

FIRST_ITEM_INDEX = 1 << 40
"""The index of the first record of an item of a batch that keeps few, beyond those of all other calls."""

REUSED = "reused"
"""What the value of ``CallRecord.reuse`` begins with for a call whose recorded result was used."""


_POLICY_KINDS = {"retry": int, "retried": bool, "waited": float, "cached": str, "place": str, "waiting": str}


def policy_facts_in(members: Mapping[str, Any]) -> PolicyFacts | None:
    """Return what the members of a record say about policies; None if nothing.

    Raises:
        TypeError: one of them is of another type.
    """
    found = {name: members[name] for name in PolicyFacts._fields if name in members}
    if not found:
        return None
    for name, value in found.items():
        if type(value) is not _POLICY_KINDS[name]:
            raise TypeError(f"{name} is {value!r}")
    return PolicyFacts(**found)


def is_retried(record: CallRecord) -> bool:
    """Return whether a call has failed and its policy has it tried again, so that its caller knows nothing of it."""
    return record.policy is not None and record.policy.retried


def is_reused(record: CallRecord) -> bool:
    """Return whether the recorded result of a call was used, in place of running it."""
    return record.reuse is not None and record.reuse.startswith(REUSED)


class Change(NamedTuple):
    """A change of the session's context by a call."""

    order: int
    """The position of the change among all changes of the session; in a resumed one after those of the run before,
    unless it is one of these."""
    key: str
    value: str | None
    """The new value as JSON text; None if the key was deleted."""
    form: Form
    types: str | None = None
    """The types in the value, as the text of a JSON object; None if all of it is plain, or not written."""


class Read(NamedTuple):
    """A value that a call read from the session's context, the first time that it read the key."""

    value: str | None
    """The value as JSON text; None if there was no such key."""
    types: str | None
    """The types in the value, as the text of a JSON object; None if all of it is plain."""
    depth: int
    """How many calls, from this one outwards, it was outside of: neither they nor what is below them had set it."""


class PolicyFacts(NamedTuple):
    """What the policies of a node have done with a call. Members that have their defaults are not written."""

    retry: int = 0
    """How many attempts of the same call had failed before this one, in this session or one that it resumes."""
    retried: bool = False
    """Whether it failed, and its policy has it tried again, which is another record with the same caller."""
    waited: float = 0.0
    """Seconds that it waited before it ran, for limits, for an equal call, or for a free worker."""
    cached: str | None = None
    """Where the result came from that was used in place of running it: "session" or "store"; None if it ran."""
    place: str | None = None
    """Where it ran, if not in the process of its session: "process", or the name of an executor."""
    waiting: str | None = None
    """What it waits for, or was waiting for when it ended: a limit, such as "limit api", "an equal call", or a worker,
    such as "a worker thread"; None once it has run."""


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

    is_item: ClassVar[bool] = False
    """Whether the call is of an item of a batch that keeps few records: see ``_item_records.py``."""
    is_sharing: ClassVar[bool] = False
    """Whether its texts share messages with others: see ``_shared_texts.py``."""
    sharing_class: ClassVar[type[CallRecord]]
    """The class that such a record gets."""

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
    """When the call began, in seconds since the epoch."""
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
    """In a session that resumes another, ``REUSED`` or the reason why the call ran again. A call that was reused
    although what it had read from the context differs has that after ``REUSED`` and ": "."""
    attributes: str | None = None
    """The attributes with which the call described itself, as the text of a JSON object."""
    timeout: float | None = None
    """The limit, in seconds, that a top-level call had exceeded when it was cancelled, or that any call had exceeded
    when it failed by its node's own timeout; None for others."""
    branch: tuple[int, ...] | None = None
    """The task of the calling call that made this one, as numbers that are unique in the session: those of the tasks
    that lead to it from the calling call's own task, as far as they made calls. None: its own task. A batch counts as a
    task, with a negative number, and so does each of its calls."""
    reads: dict[str, Read] | None = None
    """What the call itself read from the context before it changed it, by key."""
    raised_by: tuple[int, ...] | None = None
    """Of a failed call, the indices of the failed calls below it whose exceptions its own one is, contains, or was
    raised from."""
    was_left: bool | None = None
    """Of a call that failed or opened a session, in a history that is put together from several attempts: whether its
    caller had gone on after that. None: the other records say it."""
    code: str | None = None
    """The digest of the code of the function that ran, after the interpreter that it is of; None if it is not known."""
    policy: PolicyFacts | None = None
    """What its policies have done with it; None if there is nothing to say."""
    attempt: int = 1
    """How many times the call has begun, this time included: in a session that resumes another, one more than there, if
    it runs again."""


_SLOTS = tuple((name, CallRecord.__dict__[name]) for name in attrs.fields_dict(CallRecord))


def copy_record(record: CallRecord, **changes: Any) -> CallRecord:
    """Return a copy of a record with some fields changed. What is not decoded yet in a loaded record stays so."""
    return copy_as(type(record), record, **changes)


def copy_as(cls: type[CallRecord], record: CallRecord, **changes: Any) -> CallRecord:
    """Return a copy of a record that is of this class, with some fields changed. What is not decoded stays so."""
    copy = cls.__new__(cls)
    for name, slot in _SLOTS:
        if name in changes:
            slot.__set__(copy, changes[name])
            continue
        try:
            slot.__set__(copy, slot.__get__(record))
        except AttributeError:  # it is not decoded; asking the record for it would decode it
            continue
    return copy


def aggregate_status(records: Iterable[CallRecord]) -> Status:
    """Return the status of a session: that of the top-level call that is furthest from completion.

    It is COMPLETED if there are none. It is SUSPENDED if any call is: one may outlast the call that made it. Calls that
    their handles cancelled do not count: the session did not need them any more. Neither do those that were tried
    again.
    """
    suspended, handle = Status.SUSPENDED, Reason.HANDLE
    # First those that have completed are left out, which is quick: there may be very many.
    others = [record for record in records if record.status is not Status.COMPLETED]
    found = {
        record.status
        for record in others
        if (record.parent is None and record.reason is not handle and not is_retried(record))
        or record.status is suspended
    }
    for status in (Status.OPEN, Status.SUSPENDED, Status.FAILED, Status.CANCELLED):
        if status in found:
            return status
    return Status.COMPLETED
