"""The life of a session as one table: its phases, which operation each allows, and what a refusal says.

It does no I/O and knows no event loop, so it is tested as a table. Everything that depends on how far a session has
come asks it.

::

    NEW -> ENTERING -> OPEN -> DRAINING -> JOINING -> CLOSING -> SAVING -> OVER
               |         |        |           |          |
               |         +--------+-----------+-> FAILED |     a node failed under `end_on_error`, or fatally
               +-> OVER  +--------+-----------+----------+     the body raised, or a cancellation came
"""

from __future__ import annotations

from enum import IntEnum
from typing import final

from railtracks.exceptions import SessionEndedError, SessionError


class Phase(IntEnum):
    """How far a session has come. A later phase is greater."""

    NEW = 0
    """It was not entered yet."""
    ENTERING = 1
    """It acquires its run, and loads the one that it resumes."""
    OPEN = 2
    """Its body runs."""
    DRAINING = 3
    """The body has ended; children, calls and deliveries go on, and may begin more of them."""
    JOINING = 4
    """The task group is being closed; tasks that have begun may still call."""
    FAILED = 5
    """An error has ended the session; its body may still run."""
    CLOSING = 6
    """Everything was cancelled, or has ended; cleanup is waited for, and events are delivered."""
    SAVING = 7
    """Nothing runs and nothing is delivered any more."""
    OVER = 8
    """It was left, or could not be entered."""


class Operation(IntEnum):
    """What can be asked of a session. Each is a bit of its own, because to look up a member of an enum takes longer."""

    ENTER = 1
    LEAVE = 2
    CALL = 4
    START_SOON = 8
    STREAM = 16
    SUBSCRIBE = 32
    BROADCAST = 64
    ACTIVATE = 128


_P, _O = Phase, Operation

ALLOWED: dict[Phase, frozenset[Operation]] = {
    _P.NEW: frozenset({_O.ENTER, _O.SUBSCRIBE}),
    _P.ENTERING: frozenset({_O.SUBSCRIBE}),
    _P.OPEN: frozenset({_O.LEAVE, _O.CALL, _O.START_SOON, _O.STREAM, _O.SUBSCRIBE, _O.BROADCAST, _O.ACTIVATE}),
    _P.DRAINING: frozenset({_O.CALL, _O.START_SOON, _O.STREAM, _O.SUBSCRIBE, _O.BROADCAST, _O.ACTIVATE}),
    _P.JOINING: frozenset({_O.CALL, _O.BROADCAST, _O.ACTIVATE}),
    _P.FAILED: frozenset({_O.LEAVE, _O.SUBSCRIBE, _O.BROADCAST}),
    _P.CLOSING: frozenset({_O.SUBSCRIBE, _O.BROADCAST}),
    _P.SAVING: frozenset(),
    _P.OVER: frozenset(),
}
"""What each phase allows. A nested call needs no permission: the call that makes it has it, and is cancelled instead.

``CALL`` is any call that enters a task: a top-level call, or the first in a task that user code started.
"""

_BITS = tuple(sum(ALLOWED[phase]) for phase in Phase)

_STATE = {
    _P.NEW: "not entered yet",
    _P.ENTERING: "being entered",
    _P.OPEN: "open",
    _P.FAILED: "open, but was ended by an error",
    _P.OVER: "over",
}
"""The phase in one word, for refusals to enter and to leave; all others are being left."""

_WHEN = {
    _P.NEW: "before the session was entered",
    _P.ENTERING: "before the session was open",
    _P.JOINING: "after the session had waited for its children",
    _P.FAILED: "after an error had ended the session",
}
"""The moment, for refusals of everything else; all others come after the session had ended."""

_REPAIR = {
    _O.ENTER: "create a new rt.Session() each time, or use rt.Flow",
    _O.LEAVE: "leave it once, at the end of the block that entered it",
    _O.CALL: "wait for the task that makes it, for example in an `async with anyio.create_task_group()`",
    _O.START_SOON: "call it inside `async with rt.Session() as s:`, before the block ends",
    _O.STREAM: "stream inside `async with rt.Session():`, before the block ends",
    _O.SUBSCRIBE: "subscribe before it ends",
    _O.BROADCAST: "wait for the task, or the thread, that broadcasts",
    _O.ACTIVATE: "enter the session first, and use `with session.activate():` before it ends",
}
_EARLY_REPAIR = {**_REPAIR, _O.CALL: "enter the session first, with `async with session:`"}
_ENDED = "after its session had ended"
_BY_SESSION = (_O.START_SOON, _O.SUBSCRIBE, _O.ACTIVATE)
"""What is asked of the session object itself; "its session" would say nothing in a refusal of these."""
_AFTER_FAILURE = "open a new session"


@final
class Lifecycle:
    """The phase of one session.

    Attributes:
        phase: The current phase. Read it; change it with :meth:`advance`.
        failure: The error that ended the session, if one did.
    """

    __slots__ = ("failure", "phase")

    def __init__(self) -> None:
        self.phase: Phase = Phase.NEW
        self.failure: BaseException | None = None

    def advance(self, phase: Phase) -> None:
        """Go on to a phase. A session never goes back: if it is further already, nothing changes."""
        if phase > self.phase:  # noqa: PLR1730 (max() takes longer, and each session comes here eight times)
            self.phase = phase

    def fail(self, error: BaseException) -> None:
        """Note the error that ends the session; the first one counts."""
        if self.failure is None:
            self.failure = error
            self.advance(Phase.FAILED)

    def require(self, operation: Operation, what: str) -> None:
        """Check that the session allows an operation now.

        Args:
            operation: The operation.
            what: The subject of the refusal, such as "the call of greet".

        Raises:
            SessionEndedError: it is too late; ``__cause__`` is the error that ended the session, if one did.
            SessionError: it is too early, or the session cannot be entered or left now.
        """
        if _BITS[self.phase] & operation:
            return
        phase = self.phase
        if operation is Operation.ENTER:
            raise SessionError(f"{what} was entered before and is {self.state}; {_REPAIR[operation]}")
        if operation is Operation.LEAVE:
            raise SessionError(f"{what} is left, but it is {self.state}; {_REPAIR[operation]}")
        kind = SessionError if phase < Phase.OPEN else SessionEndedError
        when = _WHEN.get(phase, "after the session had ended" if operation in _BY_SESSION else _ENDED)
        repairs = _EARLY_REPAIR if kind is SessionError else _REPAIR
        repair = _AFTER_FAILURE if phase is Phase.FAILED else repairs[operation]
        raise kind(f"{what} came {when}; {repair}") from self.failure

    def allows(self, operation: Operation) -> bool:
        """Return whether the session allows an operation now."""
        return bool(_BITS[self.phase] & operation)

    @property
    def state(self) -> str:
        """The phase in the words of refusals to enter and to leave."""
        return _STATE.get(self.phase, "being left")

    # ---- what the table implies

    @property
    def is_closed(self) -> bool:
        """Whether no call may begin any more, whatever made it."""
        return self.phase >= Phase.CLOSING

    @property
    def has_body_ended(self) -> bool:
        """Whether the body of the session has ended, as far as is known."""
        return self.phase in (Phase.DRAINING, Phase.JOINING) or self.phase >= Phase.CLOSING

    @property
    def is_recorded(self) -> bool:
        """Whether what happens is still recorded and delivered."""
        return self.phase < Phase.SAVING
