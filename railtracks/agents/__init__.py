"""Agents: models with instructions and tools, as nodes."""

from railtracks.agents._agent import AgentNode
from railtracks.agents._agent_node import agent_node
from railtracks.agents._agent_type import AgentType
from railtracks.agents._hand_off import HandOff, hand_off
from railtracks.agents._response import Chunk, LLMResponse
from railtracks.agents._schema_tools import tool_from_schema
from railtracks.agents._stream import Stream, astream
from railtracks.agents._token_budget import TokenBudget
from railtracks.agents._tools import Parameter, ToolManifest, ToolNode, tool

__all__ = [
    "AgentNode",
    "AgentType",
    "Chunk",
    "HandOff",
    "LLMResponse",
    "Parameter",
    "Stream",
    "TokenBudget",
    "ToolManifest",
    "ToolNode",
    "agent_node",
    "astream",
    "hand_off",
    "tool",
    "tool_from_schema",
]
