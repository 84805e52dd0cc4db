"""What an exception that comes out of a node means: its call was cancelled, or it failed, or it ends the session.

By type and by origin, because an exception may lie about its class, or raise where it is asked.
"""

from __future__ import annotations

from railtracks._concurrency._event_loop import is_stray_cancellation
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._origins import is_ctrl_c
from railtracks._concurrency._task_groups import split_cancellation
from railtracks.exceptions import FatalError, NodeInvocationError
from railtracks.execution._call_scopes import RootCall
from railtracks.state import Reason


def is_cancellation(exc: BaseException) -> bool:
    """Return whether an exception that is not an ``Exception`` cancelled the call. Otherwise the node has raised it."""
    return split_cancellation(exc)[0] is not None or is_stray_cancellation(exc) or is_ctrl_c(exc)


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
