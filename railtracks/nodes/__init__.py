"""Nodes: the functions and classes that can be called."""

from railtracks.nodes._function import FunctionNode, function_node
from railtracks.nodes._node import Node

__all__ = ["FunctionNode", "Node", "function_node"]
