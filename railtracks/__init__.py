"""Railtracks: run trees of steps inside sessions that leave nothing behind.

    import railtracks as rt

Everything public is here; the names are explained in ``docs/``.
"""

from railtracks import context, exceptions, nodes, state
from railtracks._call import broadcast, call, call_batch, call_sync, session_id
from railtracks._config import ExecutorConfig, SessionOptions, set_config
from railtracks._decorator import session
from railtracks._flow import Flow, FlowConnection
from railtracks._logging import enable_logging
from railtracks._session import Session
from railtracks.nodes import function_node
from railtracks.pubsub import Subscription
from railtracks.state import ExecutionInfo, Secret

__version__ = "0.1.0"

__all__ = [
    "ExecutionInfo",
    "ExecutorConfig",
    "Flow",
    "FlowConnection",
    "Secret",
    "Session",
    "SessionOptions",
    "Subscription",
    "broadcast",
    "call",
    "call_batch",
    "call_sync",
    "context",
    "enable_logging",
    "exceptions",
    "function_node",
    "nodes",
    "session",
    "session_id",
    "set_config",
    "state",
]
