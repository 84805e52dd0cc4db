"""The errors that Railtracks raises. Their texts stand where they are raised.

Each names the thing, says what was wrong, and shows what to write instead. Advice that does not fit
one line travels as PEP 678 notes, so that every traceback shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = [
    "ConfigError",
    "ContextError",
    "FatalError",
    "GlobalTimeOutError",
    "LLMError",
    "NodeCreationError",
    "NodeInvocationError",
    "RTError",
    "RunInUseError",
    "SessionEndedError",
    "SessionError",
    "StateError",
]


class RTError(Exception):
    """The root of all errors that Railtracks itself raises.

    Args:
        message: What happened, to what, and what to do instead.
        notes: Further lines, attached as PEP 678 notes.
    """

    def __init__(self, message: str = "", notes: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        for note in notes:
            self.add_note(note)

    def __str__(self) -> str:
        return self.message


class ConfigError(RTError, ValueError):
    """An option has a wrong value, or is unknown, or its file cannot be read."""


class ContextError(RTError, LookupError):
    """The context was used where there is none: outside a session."""


class NodeCreationError(RTError, TypeError):
    """Something that is no node was given where a node is needed."""


class NodeInvocationError(RTError):
    """For nodes to raise: the call failed in a way that the node foresaw.

    Args:
        message: What failed.
        notes: Hints for whoever reads the traceback.
        fatal: True ends the whole session, whatever ``end_on_error`` says.
    """

    def __init__(self, message: str = "", notes: Iterable[str] = (), fatal: bool = False) -> None:
        super().__init__(message, notes)
        self.fatal = fatal


class FatalError(RTError):
    """For nodes to raise: ends the whole session, whatever ``end_on_error`` says."""


class LLMError(RTError):
    """A model answered, but not with what was asked for: an agent could not make a result of it.

    What a provider's SDK raises (a wrong key, a rate limit, a lost connection) is not this; it comes out as it is.

    Args:
        message: What was wrong.
        message_history: The conversation up to there, if there was one.
    """

    def __init__(self, message: str = "", message_history: Any = None) -> None:
        super().__init__(message)
        self.message_history = message_history

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.message_history)


class StateError(RTError):
    """A saved state cannot be read, or is none."""


class SessionError(RTError, RuntimeError):
    """A session, or a call, was used in a way that cannot work."""


class RunInUseError(SessionError):
    """A session cannot have the identifier that it was given: another session that still runs has it."""


class SessionEndedError(SessionError):
    """A call came after its session or its run was over, or was cancelled by their end.

    ``__cause__`` is the error that ended the session, where there was one.
    """


class GlobalTimeOutError(RTError, TimeoutError):
    """A top-level call exceeded the session's ``timeout``.

    Args:
        timeout: The limit that was exceeded, in seconds.
        message: What exceeded it.
    """

    def __init__(self, timeout: float, message: str = "") -> None:
        super().__init__(message or f"the call exceeded its timeout of {timeout:g} s")
        self.timeout = timeout

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.timeout, self.message)
