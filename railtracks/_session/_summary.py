"""What a session reports at its end: the last line in its log, how it ended, and what the process used."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from railtracks._logging import SESSION, SessionLog
from railtracks._wording import counted
from railtracks.execution import Coordinator
from railtracks.state import ExecutionInfo, Reason, Status
from railtracks.state._transitions import RTState

if TYPE_CHECKING:
    from railtracks._session._stored_run import StoredRun

_OTHERS = {Status.CANCELLED: "cancelled", Status.SUSPENDED: "suspended"}


def log_summary(coordinator: Coordinator, run: StoredRun | None, seconds: float) -> None:
    """Log how many calls of a session are on record, how many failed, how long it took, and where its state is.

    Those that were tried again do not count as failed. If something has failed or was cancelled, the line ends with the
    command that shows it.

    Args:
        coordinator: The coordinator of the session, which has ended.
        run: What the session is stored as; None if it is not.
        seconds: How long it took.
    """
    call_log = coordinator.call_log
    others = {word: call_log.ends.get(status, 0) for status, word in _OTHERS.items()}
    others |= {"retried": call_log.retried, "cached": call_log.cached, "reused": call_log.reused}
    others["not on record"] = call_log.left_out
    kept_at, command = (None, None) if run is None else (run.kept_at, run.show_command)
    coordinator.log.log(
        logging.INFO,
        "END %s, %d failed%s, %.3f s; state %s%s",
        counted(len(coordinator.state.entries), "call"),
        call_log.ends.get(Status.FAILED, 0),
        "".join(f", {number} {word}" for word, number in others.items() if number),
        seconds,
        "not saved (save_state=False)" if kept_at is None else kept_at,
        f"; see why: {command} --failed" if command is not None and _has_failed(coordinator) else "",
        logger=SESSION,
    )


def _has_failed(coordinator: Coordinator) -> bool:
    """Return whether a call failed for good, or a top-level call was cancelled."""
    ends = coordinator.call_log.ends
    if ends.get(Status.FAILED, 0):
        return True
    tops = (each for each in coordinator.state.entries if each is not None and each.parent is None)
    return bool(ends.get(Status.CANCELLED, 0)) and any(each.status is Status.CANCELLED for each in tops)


def run_payload_callback(callback: Callable[[dict[str, Any]], Any], info: ExecutionInfo, log: SessionLog) -> None:
    """Call ``payload_callback``, the last thing a session does. What it raises is logged, but for Ctrl-C."""
    try:
        callback(info.payload())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as exc:
        log.log(logging.ERROR, "payload_callback raised %r", exc, logger=SESSION, exc_info=exc)


def is_cancelled_from_outside(state: RTState) -> bool:
    """Return whether a top-level call was cancelled by something else than its session."""
    records = (each for each in state.entries if each is not None and each.parent is None)
    return any(each.status is Status.CANCELLED and each.reason is Reason.OUTSIDE for each in records)


def peak_memory_bytes() -> int | None:
    """Return the most memory that the process has used at any time; None where it is not known (Windows)."""
    try:
        import resource  # here, as it is only needed at the end of a session
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
