"""The arguments of ``function_node``: what is checked of them, and what is said about those that it does not have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from railtracks.exceptions import NodeCreationError
from railtracks.nodes._callables import display_name

_RETRIES = "write retries=3, or retries=rt.Retry(attempts=..., on=...)"
ELSEWHERE = {
    "retry": _RETRIES,
    "max_retries": _RETRIES,
    "attempts": _RETRIES,
    "concurrency": "write limit=5, or limit=rt.Limit('name', concurrency=...)",
    "rate_limit": "write limit=rt.Limit('name', rate='10/s')",
    "ttl": "write cache=rt.Cache(ttl=...)",
    "executor": "write where='process', or the name of an executor of the session",
}
"""What to write in place of an argument that other libraries have."""


def check_texts(texts: Mapping[str, Any]) -> None:
    """Check arguments that are texts, if they are given.

    Raises:
        NodeCreationError: one is empty, or something else.
    """
    for label, text in texts.items():
        if text is not None and (not isinstance(text, str) or not text):
            raise NodeCreationError(f"rt.function_node: {label} must be a non-empty string, not {text!r}")


def check_ignored(func: Callable[..., Any], names: tuple[Any, ...]) -> None:
    """Check that a function has these parameters.

    Raises:
        NodeCreationError: it has not.
    """
    if not names:
        return
    try:
        parameters = inspect.signature(func).parameters
    except (TypeError, ValueError):  # some builtins have none
        return
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for name in names:
        if not isinstance(name, str) or (name not in parameters and not takes_any):
            raise NodeCreationError(
                f"rt.function_node: ignore has {name!r}, which is not a parameter of {display_name(func)}; it has "
                f"{', '.join(parameters) or 'none'}"
            )
