"""Railtracks: run trees of steps inside sessions that leave nothing behind.

    import railtracks as rt

Everything public is here; the names are explained in ``docs/``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from railtracks import llm
    from railtracks._ask import ask
    from railtracks.agents import Chunk, LLMResponse, Parameter, ToolManifest, agent_node, astream
    from railtracks.llm._injection import escape_braces

__version__ = "0.1.0"

__all__ = [
    "Chunk",
    "ExecutionInfo",
    "ExecutorConfig",
    "Flow",
    "FlowConnection",
    "LLMResponse",
    "Parameter",
    "Secret",
    "Session",
    "SessionOptions",
    "Subscription",
    "ToolManifest",
    "agent_node",
    "ask",
    "astream",
    "broadcast",
    "call",
    "call_batch",
    "call_sync",
    "context",
    "enable_logging",
    "escape_braces",
    "exceptions",
    "function_node",
    "llm",
    "nodes",
    "session",
    "session_id",
    "set_config",
    "state",
]

_LATER = {
    "ask": "_ask",
    "escape_braces": "llm._injection",
    **dict.fromkeys(("Chunk", "LLMResponse", "Parameter", "ToolManifest", "agent_node", "astream"), "agents"),
}
"""Modules that are loaded when one of their names is first used: what has no agents need not wait for them."""


def __getattr__(name: str) -> Any:
    if name == "llm":
        return import_module("railtracks.llm")
    if name in _LATER:
        return getattr(import_module(f"railtracks.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
