"""What can be called: functions and classes as nodes."""

from railtracks.nodes._function import FunctionNode, function_node
from railtracks.nodes._node import Node

__all__ = ["FunctionNode", "Node", "function_node"]
