"""``railtracks mcp``: flows and nodes as the tools of a server over standard input and output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from railtracks.cli._targets import load_object
from railtracks.mcp import Server, mcp_server


def serve_tools(targets: Sequence[str], name: str) -> int:
    """Serve until the client leaves, and return the exit code.

    Args:
        targets: What the command line names: flows and nodes, or one server.
        name: The name of the server, unless it has one.

    Raises:
        MistakeError: There is no such module, or nothing of that name in it.
        NodeCreationError: One cannot be a tool.
        KeyboardInterrupt: At Ctrl-C.
    """
    with redirect_stdout(sys.stderr):  # what modules print when they are imported: the protocol has standard output
        found = [load_object(target) for target in targets]
        server = found[0] if len(found) == 1 and isinstance(found[0], Server) else mcp_server(*found, name=name)
    server.run()
    return 0
