"""The Model Context Protocol: the tools of servers as nodes, and nodes as the tools of a server."""

from railtracks.mcp._client import Client
from railtracks.mcp._progress import Progress
from railtracks.mcp._server import Server, mcp_server

__all__ = ["Client", "Progress", "Server", "mcp_server"]
