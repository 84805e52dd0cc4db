"""The SDK of the Model Context Protocol, imported when it is first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from railtracks.exceptions import ConfigError


def import_sdk(owner: str) -> Any:
    """Import the package ``mcp``, and return it.

    Args:
        owner: What needs it, for the error.

    Raises:
        ConfigError: It cannot be imported, or is too old. The text shows the command that installs it.
    """
    try:
        sdk = import_module("mcp")
        problem = None if hasattr(sdk, "Client") else "the package 'mcp' is older than version 2"
    except ImportError as exc:
        sdk, problem = None, f"the package 'mcp' cannot be imported: {exc}"
    if problem is not None:
        raise ConfigError(
            f"{owner}: {problem}; install it with `pip install '.[mcp]'` in a checkout of the Railtracks repository"
        )
    return sdk
