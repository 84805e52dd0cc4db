"""The arguments of ``function_node``: what is checked of them, and what is said about those that it does not have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from railtracks.exceptions import NodeCreationError
from railtracks.nodes._callables import display_name

_LIMIT = (
    "to limit one call, write `with anyio.fail_after(seconds):` around it or in the function; to limit all top-level "
    "calls, use the option timeout of the session"
)
_RETRY = (
    "to try again, make the call in a loop: `for attempt in range(3):`, and in it `try: return await rt.call(...)` "
    "with `except ConnectionError:`"
)
_AT_ONCE = "to limit how many calls run at once, use rt.call_batch(..., limit=...)"
_ELSEWHERE = {
    "timeout": _LIMIT,
    "retries": _RETRY,
    "retry": _RETRY,
    "max_retries": _RETRY,
    "attempts": _RETRY,
    "limit": _AT_ONCE,
    "concurrency": _AT_ONCE,
}
"""What to write in place of an argument that other libraries have."""


def unknown_argument(unknown: Iterable[str], known: Iterable[str]) -> TypeError:
    """Return the error for an argument that ``function_node`` does not have.

    Args:
        unknown: The names of such arguments, of which the first is named.
        known: The names of those that it has.
    """
    from difflib import get_close_matches  # here, because only this error needs it

    name, names = next(iter(unknown)), [*known]
    close = get_close_matches(name, names, n=1)
    advice = _ELSEWHERE.get(name) or (f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names)}")
    return TypeError(f"rt.function_node has no argument {name!r}; {advice}")


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
