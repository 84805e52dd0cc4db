"""What the page says of statuses and reasons, in whole sentences."""

from __future__ import annotations

from collections.abc import Mapping

from railtracks.state import Reason, Status

WHY: Mapping[Reason, str] = {
    Reason.TIMEOUT: "Its top-level call took longer than the timeout of the session.",
    Reason.BUDGET: "The session had used up its budget.",
    Reason.NODE_TIMEOUT: "It, or a call above it, took longer than the timeout of its node.",
    Reason.END_ON_ERROR: "An error of another call ended the session.",
    Reason.SESSION_ENDED: "The session ended before it.",
    Reason.RUN_ENDED: "The top-level call ended before it.",
    Reason.HANDLE: "cancel() of its handle was called.",
    Reason.BATCH: "Another call of its batch or stream failed.",
    Reason.SUSPENDED: "Nothing in the run could go on without an answer or a message.",
    Reason.OUTSIDE: "The code around it cancelled it, such as a timeout of its own, or Ctrl-C did.",
    Reason.PROCESS_DIED: "Its process ended before it did.",
}
"""Why a call was cancelled, or has no end. That it was on request is said once, in the headline."""
ON_REQUEST = "It was cancelled on request."
HEADLINES: Mapping[Status, str] = {
    Status.COMPLETED: "It completed.",
    Status.OPEN: "It is running.",
    Status.SUSPENDED: "It waits for an answer or a message.",
    Status.FAILED: "It failed.",
    Status.CANCELLED: "It was cancelled.",
}
"""How far a run has come."""
ANSWERED = "It has its answer. Resume it to go on."
"""How far a run has come that was suspended, when no question of it is open any more."""
