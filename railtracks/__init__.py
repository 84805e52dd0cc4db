"""Railtracks: run trees of nodes inside sessions that leave nothing behind.

    import railtracks as rt

All public names are here, and explained in ``docs/``.
"""

from typing import TYPE_CHECKING

from railtracks import context, exceptions, nodes, state
from railtracks._approval_request import ApprovalRequest
from railtracks._lazy import lazy_attributes
from railtracks._policies import Cache, Limit, PolicyOptions, Retry
from railtracks.exceptions import ModelRetry, RunSuspended
from railtracks.nodes import function_node
from railtracks.nodes._depends import Depends
from railtracks.state import Secret

if TYPE_CHECKING:
    from railtracks import executors, llm, mcp
    from railtracks._calls._ask import ask
    from railtracks._calls._batch import call_batch
    from railtracks._calls._broadcast import broadcast, broadcast_sync
    from railtracks._calls._call import call, call_sync, session_id
    from railtracks._calls._call_stream import CallStream, call_stream
    from railtracks._calls._current_call import CurrentCall, current_call
    from railtracks._calls._receive import receive
    from railtracks._calls._repeatable import now, random, sleep, uuid4
    from railtracks._config import set_config
    from railtracks._event_stream import EventStream
    from railtracks._flow import Flow, FlowConnection
    from railtracks._logging import enable_logging
    from railtracks._options import ExecutorConfig, SessionOptions
    from railtracks._recover import RecoveredRun, arecover, recover
    from railtracks._session._decorator import session
    from railtracks._session._handle import CallHandle
    from railtracks._session._session import Session
    from railtracks.agents import (
        AgentNode,
        AgentType,
        Chunk,
        HandOff,
        LLMResponse,
        Parameter,
        Stream,
        TokenBudget,
        ToolManifest,
        ToolNode,
        agent_node,
        astream,
        hand_off,
        tool,
        tool_from_schema,
    )
    from railtracks.llm._prompt import escape_braces
    from railtracks.mcp import mcp_server
    from railtracks.pubsub import Subscription
    from railtracks.state import ExecutionInfo

__version__ = "0.1.0"

__all__ = [
    "AgentNode",
    "AgentType",
    "ApprovalRequest",
    "Cache",
    "CallHandle",
    "CallStream",
    "Chunk",
    "CurrentCall",
    "Depends",
    "EventStream",
    "ExecutionInfo",
    "ExecutorConfig",
    "Flow",
    "FlowConnection",
    "HandOff",
    "LLMResponse",
    "Limit",
    "ModelRetry",
    "Parameter",
    "PolicyOptions",
    "RecoveredRun",
    "Retry",
    "RunSuspended",
    "Secret",
    "Session",
    "SessionOptions",
    "Stream",
    "Subscription",
    "TokenBudget",
    "ToolManifest",
    "ToolNode",
    "agent_node",
    "arecover",
    "ask",
    "astream",
    "broadcast",
    "broadcast_sync",
    "call",
    "call_batch",
    "call_stream",
    "call_sync",
    "context",
    "current_call",
    "enable_logging",
    "escape_braces",
    "exceptions",
    "executors",
    "function_node",
    "hand_off",
    "llm",
    "mcp",
    "mcp_server",
    "nodes",
    "now",
    "random",
    "receive",
    "recover",
    "session",
    "session_id",
    "set_config",
    "sleep",
    "state",
    "tool",
    "tool_from_schema",
    "uuid4",
]

# Loaded at first use: a module that declares nodes does not wait for what sessions and agents need; see ``_lazy.py``.
if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_attributes(
        globals(),
        {
            "railtracks.executors": ("executors",),
            "railtracks.llm": ("llm",),
            "railtracks.mcp": ("mcp", "mcp_server"),
            "railtracks._calls._ask": ("ask",),
            "railtracks._calls._batch": ("call_batch",),
            "railtracks._calls._broadcast": ("broadcast", "broadcast_sync"),
            "railtracks._calls._call": ("call", "call_sync", "session_id"),
            "railtracks._calls._call_stream": ("CallStream", "call_stream"),
            "railtracks._calls._current_call": ("CurrentCall", "current_call"),
            "railtracks._calls._receive": ("receive",),
            "railtracks._calls._repeatable": ("now", "random", "sleep", "uuid4"),
            "railtracks._config": ("set_config",),
            "railtracks._event_stream": ("EventStream",),
            "railtracks._flow": ("Flow", "FlowConnection"),
            "railtracks._logging": ("enable_logging",),
            "railtracks._options": ("ExecutorConfig", "SessionOptions"),
            "railtracks._recover": ("RecoveredRun", "arecover", "recover"),
            "railtracks._session._decorator": ("session",),
            "railtracks._session._handle": ("CallHandle",),
            "railtracks._session._session": ("Session",),
            "railtracks.pubsub": ("Subscription",),
            "railtracks.state": ("ExecutionInfo",),
            "railtracks.llm._prompt": ("escape_braces",),
            "railtracks.agents": (
                "AgentNode", "AgentType", "Chunk", "HandOff", "LLMResponse", "Parameter", "Stream", "TokenBudget",
                "ToolManifest", "ToolNode", "agent_node", "astream", "hand_off", "tool", "tool_from_schema",
            ),
        },
    )  # fmt: skip
