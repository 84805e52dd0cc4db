"""What happened in a session: records, events, the view of them, and how they are saved."""

from railtracks.state._codec import register_hooks
from railtracks.state._document import Edge, Node, Stamp
from railtracks.state._events import Broadcast, CallCancelled, CallCreated, CallEvent, CallFailed, CallSucceeded, Event
from railtracks.state._info import ExecutionInfo, Failure, Forest
from railtracks.state._marks import Cut, Opaque, RecordedError
from railtracks.state._records import CallRecord, Reason, Status
from railtracks.state._redact import register_secret_keys

__all__ = [
    "Broadcast",
    "CallCancelled",
    "CallCreated",
    "CallEvent",
    "CallFailed",
    "CallRecord",
    "CallSucceeded",
    "Cut",
    "Edge",
    "Event",
    "ExecutionInfo",
    "Failure",
    "Forest",
    "Node",
    "Opaque",
    "Reason",
    "RecordedError",
    "Stamp",
    "Status",
    "register_hooks",
    "register_secret_keys",
]
