"""What went wrong with an MCP server, in words for the developer or the model."""

from __future__ import annotations

from railtracks.exceptions import ConfigError, MCPError
from railtracks.mcp._connection import Connection
from railtracks.mcp._target import Target


def opening_error(exc: Exception, name: str, target: Target) -> Exception:
    """Return the error for a connection that could not be opened.

    Args:
        exc: What was raised.
        name: The name of the server.
        target: Where it is.
    """
    text = _text(exc, target)
    if isinstance(exc, ConfigError):
        return exc
    if isinstance(exc, FileNotFoundError | PermissionError | NotADirectoryError):
        return ConfigError(f"the MCP server {name!r} cannot be started by {target.what}: {text}")
    if _is_lost(exc):
        text = "it ended, or closed the connection, before it had answered; its standard error may say why"
    if target.http_error:
        text += f" (the latest HTTP error was {target.http_error})"
    return MCPError(f"the MCP server {name!r} ({target.what}) cannot be used: {text}")


def call_error(exc: Exception, name: str, what: str, connection: Connection, target: Target) -> Exception:
    """Return the error for a request that has failed, and note if the connection is lost.

    Args:
        exc: What was raised.
        name: The name of the server.
        what: What was requested, such as "call add".
        connection: The connection.
        target: Where the server is.
    """
    if _is_lost(exc):
        connection.lose()
        return MCPError(
            f"the connection to the MCP server {name!r} was lost while it should {what}; whether it has done so is not "
            f"known, and the next call connects again"
        )
    return MCPError(f"the MCP server {name!r} could not {what}: {_text(exc, target)}")


def _is_lost(exc: Exception) -> bool:
    from mcp import MCPError as SDKError
    from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST

    if not isinstance(exc, SDKError):
        return False
    return exc.code == CONNECTION_CLOSED or (exc.code == INVALID_REQUEST and exc.message == "Session terminated")


def _text(exc: Exception, target: Target) -> str:
    return target.redactor.redact(str(exc) or type(exc).__name__)
