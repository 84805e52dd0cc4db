"""What happened in a session: records, events, the view of them, and how they are saved."""

from railtracks.state._codec import register_hooks
from railtracks.state._events import Broadcast, CallCancelled, CallCreated, CallEvent, CallFailed, CallSucceeded, Event
from railtracks.state._info import ExecutionInfo, Failure
from railtracks.state._machine import RTState
from railtracks.state._marks import Opaque, RecordedError
from railtracks.state._records import CallRecord, Reason, Status
from railtracks.state._redact import register_secret_keys
from railtracks.state._store import slug, state_path

__all__ = [
    "Broadcast",
    "CallCancelled",
    "CallCreated",
    "CallEvent",
    "CallFailed",
    "CallRecord",
    "CallSucceeded",
    "Event",
    "ExecutionInfo",
    "Failure",
    "Opaque",
    "RTState",
    "Reason",
    "RecordedError",
    "Status",
    "register_hooks",
    "register_secret_keys",
    "slug",
    "state_path",
]
