"""The progress of a call, as MCP counts it."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class Progress:
    """How far a call has come; broadcast by the tools of an ``rt.mcp.Client``, and sent on by an ``rt.mcp.Server``.

    Args:
        progress: How much is done; more each time.
        total: How much there is to do. None: that is not known.
        message: What is being done. None: nothing is said.
        tool: The name of the tool at its server; "" if it comes from none.
        server: The name of the client that has called it; "" likewise.
    """

    progress: float
    total: float | None = None
    message: str | None = None
    tool: str = ""
    server: str = ""
