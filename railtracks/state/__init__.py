"""The state of a session: records, events, snapshots, and how they are saved and loaded."""

from typing import TYPE_CHECKING

from railtracks._lazy import lazy_attributes
from railtracks.exceptions import Question
from railtracks.state._records import CallRecord, Change, Form, Reason, Status, not_kept
from railtracks.state._redaction._redactor import Secret
from railtracks.state._redaction._secret_names import register_secret_keys
from railtracks.state._serialization._hooks import register_hooks
from railtracks.state._serialization._placeholders import Cut, Opaque, RecordedError

if TYPE_CHECKING:
    from railtracks.state._document._forest import Forest
    from railtracks.state._document._graph import Edge, Node, Stamp
    from railtracks.state._events import (
        AgentText,
        Broadcast,
        CallCancelled,
        CallCreated,
        CallEvent,
        CallFailed,
        CallSucceeded,
        Event,
    )
    from railtracks.state._info import Decision, ExecutionInfo, Failure
    from railtracks.state._stores._cached_results import CachedContent, CacheStore
    from railtracks.state._stores._cancelling import cancel_run
    from railtracks.state._stores._files import FileStore
    from railtracks.state._stores._loading import load_run
    from railtracks.state._stores._mailboxes import Mailbox
    from railtracks.state._stores._memory import MemoryStore
    from railtracks.state._stores._messages import send
    from railtracks.state._stores._postgres import PostgresStore
    from railtracks.state._stores._protocols import Appender, Listed, Lock, Store, Stored
    from railtracks.state._stores._pruning import prune
    from railtracks.state._stores._runs import RunSummary, list_runs, run_exists
    from railtracks.state._stores._sqlite import SQLiteStore
    from railtracks.state._stores._values import ValueStore
    from railtracks.state._views._batches import BatchCounts, ItemFailure
    from railtracks.state._views._critical_path import PathStep
    from railtracks.state._views._summary import NodeSummary, SessionSummary

__all__ = [
    "AgentText",
    "Appender",
    "BatchCounts",
    "Broadcast",
    "CacheStore",
    "CachedContent",
    "CallCancelled",
    "CallCreated",
    "CallEvent",
    "CallFailed",
    "CallRecord",
    "CallSucceeded",
    "Change",
    "Cut",
    "Decision",
    "Edge",
    "Event",
    "ExecutionInfo",
    "Failure",
    "FileStore",
    "Forest",
    "Form",
    "ItemFailure",
    "Listed",
    "Lock",
    "Mailbox",
    "MemoryStore",
    "Node",
    "NodeSummary",
    "Opaque",
    "PathStep",
    "PostgresStore",
    "Question",
    "Reason",
    "RecordedError",
    "RunSummary",
    "SQLiteStore",
    "Secret",
    "SessionSummary",
    "Stamp",
    "Status",
    "Store",
    "Stored",
    "ValueStore",
    "cancel_run",
    "list_runs",
    "load_run",
    "not_kept",
    "prune",
    "register_hooks",
    "register_secret_keys",
    "run_exists",
    "send",
]

# A module that declares nodes needs no events, few programs look at the graph, and a session that saves nothing needs
# no store. So these are loaded on first use.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_attributes(
        globals(),
        {
            "railtracks.state._document._forest": ("Forest",),
            "railtracks.state._document._graph": ("Edge", "Node", "Stamp"),
            "railtracks.state._events": (
                "AgentText", "Broadcast", "CallCancelled", "CallCreated", "CallEvent", "CallFailed", "CallSucceeded",
                "Event",
            ),
            "railtracks.state._info": ("Decision", "ExecutionInfo", "Failure"),
            "railtracks.state._views._batches": ("BatchCounts", "ItemFailure"),
            "railtracks.state._views._critical_path": ("PathStep",),
            "railtracks.state._views._summary": ("NodeSummary", "SessionSummary"),
            "railtracks.state._stores._pruning": ("prune",),
            "railtracks.state._stores._loading": ("load_run",),
            "railtracks.state._stores._runs": ("RunSummary", "list_runs", "run_exists"),
            "railtracks.state._stores._postgres": ("PostgresStore",),
            "railtracks.state._stores._sqlite": ("SQLiteStore",),
            "railtracks.state._stores._cached_results": ("CacheStore", "CachedContent"),
            "railtracks.state._stores._cancelling": ("cancel_run",),
            "railtracks.state._stores._files": ("FileStore",),
            "railtracks.state._stores._mailboxes": ("Mailbox",),
            "railtracks.state._stores._messages": ("send",),
            "railtracks.state._stores._memory": ("MemoryStore",),
            "railtracks.state._stores._values": ("ValueStore",),
            "railtracks.state._stores._protocols": ("Appender", "Listed", "Lock", "Store", "Stored"),
        },
    )  # fmt: skip
