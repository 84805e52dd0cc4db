"""What can be called: functions and classes as nodes."""

from railtracks.nodes._function import FunctionNode, as_node, function_node, is_async, origin, settle
from railtracks.nodes._node import Node

__all__ = ["FunctionNode", "Node", "as_node", "function_node", "is_async", "origin", "settle"]
