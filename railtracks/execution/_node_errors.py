"""What an exception that comes out of a node means: its call was cancelled, or it failed, or it ends the session.

By type and by origin, because an exception may lie about its class, or raise where it is asked.
"""

from __future__ import annotations

import os
from types import CoroutineType
from typing import Any

from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._origins import is_ctrl_c
from railtracks._concurrency._task_groups import split_cancellation
from railtracks.exceptions import FatalError, NodeInvocationError
from railtracks.execution._call_scopes import RootCall
from railtracks.state import Reason

_PACKAGE = f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}{os.sep}"
"""The folder of the library."""
_OBJECTS = {"SessionCalls": "session", "Flow": "flow", "FlowConnection": "connection", "CallHandle": "handle"}
"""What users call the objects of classes of the library, whose methods they forget to await."""


class Unwound(BaseException):
    """Raised in place of a cancellation where none can be delivered, while a session is being suspended."""


def is_cancellation(exc: BaseException) -> bool:
    """Return whether an exception that is not an ``Exception`` cancelled the call. Otherwise the node has raised it."""
    return split_cancellation(exc)[0] is not None or is_stray_cancellation(exc) or is_ctrl_c(exc)


def not_awaited(name: str, coroutine: CoroutineType[Any, Any, Any]) -> NodeInvocationError:
    """Return the error for a node whose result is a coroutine, and close that: nothing can await it any more.

    Args:
        name: The name of the node.
        coroutine: What it returned.
    """
    coroutine.close()
    called = _name_of(coroutine)
    return NodeInvocationError(
        f"{name} returned a coroutine of {called}, which was not awaited and so did nothing; "
        f"write `return await {called}(...)`"
    )


def _name_of(coroutine: CoroutineType[Any, Any, Any]) -> str:
    """Return what the user has called to get a coroutine, as it is written."""
    if not coroutine.cr_code.co_filename.startswith(_PACKAGE):
        return coroutine.__qualname__.rpartition("<locals>.")[2]
    owner, _, name = coroutine.__qualname__.rpartition(".")
    return f"{_OBJECTS.get(owner, owner) or 'rt'}.{name}"


def reason_of(exc: BaseException, root: RootCall, frame: object) -> Reason:
    """Return why a call was cancelled, for its record.

    Args:
        exc: What cancelled it.
        root: The top-level call that it belongs to.
        frame: The Python frame that ``exc`` has reached.
    """
    if is_kind(exc, GeneratorExit):  # the coroutine was closed; no event loop need be running
        return Reason.OUTSIDE
    cancellation = split_cancellation(exc)[0]
    return Reason.OUTSIDE if cancellation is None else root.reason_of(cancellation, frame)


def ends_session(exc: BaseException, end_on_error: bool) -> bool:
    """Return whether a failure cancels all other calls of the session.

    Args:
        exc: What the node raised.
        end_on_error: The option of the session.
    """
    # KeyboardInterrupt and SystemExit end everything, but not as the error that later calls raise.
    return (end_on_error and not is_kind(exc, (KeyboardInterrupt, SystemExit))) or is_fatal(exc)


def is_fatal(exc: BaseException) -> bool:
    """Return whether an error of a node ends its session, whatever ``end_on_error`` says."""
    return is_kind(exc, FatalError) or (is_kind(exc, NodeInvocationError) and exc.fatal)
