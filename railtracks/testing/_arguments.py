"""What is wrong with an argument, in words: each function raises ConfigError with what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from railtracks import Flow
from railtracks._test_probe import session_arguments
from railtracks.exceptions import ConfigError
from railtracks.nodes import FunctionNode
from railtracks.testing._trace import stable_repr


def check_flag(owner: str, name: str, value: Any) -> None:
    """Validate an argument that is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{owner}: {name} is {stable_repr(value)}; use True or False")


def check_number(owner: str, name: str, value: Any, least: int) -> None:
    """Validate a whole number."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{owner}: {name} is {stable_repr(value)}; use a whole number of at least {least}")


def check_function(owner: str, name: str, value: Any, write: str) -> None:
    """Validate a function that is called, and not awaited. ``write`` says what to write."""
    if inspect.iscoroutine(value):
        value.close()  # or Python would warn that it was never awaited
    if not callable(value):
        raise ConfigError(f"{owner}: {name} is {stable_repr(value)}; {write}")
    if inspect.iscoroutinefunction(value):
        raise ConfigError(f"{owner}: {name} is {stable_repr(value)}, which is async, and would not be awaited; {write}")


def as_list(owner: str, name: str, value: Any, write: str) -> list[Any]:
    """Return an argument that is a list, or another iterable, as a list. ``write`` says what to write."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"{owner}: {name} is {stable_repr(value)}; {write}")
    return list(value)


def as_mapping(owner: str, name: str, value: Any, write: str) -> dict[Any, Any]:
    """Return a mapping, or None for an empty one, as a dict. ``write`` says what to write."""
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError(f"{owner}: {name} is {stable_repr(value)}; {write}")
    return dict(value or {})


def as_exception_types(owner: str, raises: Any) -> tuple[type[BaseException], ...]:
    """Return the classes that an argument ``raises`` names: one, a tuple of them, or None for none."""
    if raises is None:
        return ()
    kinds = raises if isinstance(raises, tuple) else (raises,)
    if not kinds or not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise ConfigError(
            f"{owner}: raises={raises!r} is not allowed; use a class of exceptions, such as ValueError, or a tuple "
            f"of them"
        )
    return kinds


def check_left_out(owner: str, options: Mapping[str, Any], reasons: Mapping[str, str]) -> None:
    """Validate that options are not given that the function decides itself. ``reasons`` says how, by their names."""
    for name, reason in reasons.items():
        if name in options:
            raise ConfigError(f"{owner}: {name}={stable_repr(options[name])} is not allowed: {reason}; leave it out")


def check_names(owner: str, names: Iterable[str], ran: Iterable[str]) -> None:
    """Validate names of nodes, of which each should be of a node that ran."""
    known = dict.fromkeys(ran)
    for name in names:
        if name not in known:
            raise ConfigError(f"{owner}: {unknown_name(name, known)}")


def unknown_name(name: str, ran: Iterable[str]) -> str:
    """Return that no node has this name, and which ones ran."""
    known = [*dict.fromkeys(ran)]
    close = get_close_matches(name, known, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"no node {name!r} was called; {meant}These ran: {', '.join(map(repr, known)) or 'none'}"


def check_options(target: Any, node: FunctionNode[..., Any], own: Iterable[str], options: Iterable[str]) -> None:
    """Validate the names of session options: an argument of the flow, or a misspelt one of the harness, is none.

    Args:
        target: What is run.
        node: Its node.
        own: The names of the arguments of the harness.
        options: The names of the options.
    """
    known = session_arguments()
    for name in options:
        if name in known:
            continue
        arguments = _arguments_of(node.target)
        close = get_close_matches(name, own, n=1)
        takes_any = any(each.kind is each.VAR_KEYWORD for each in arguments.values())
        if name in arguments or (takes_any and not close and not get_close_matches(name, known)):
            bound = f"bind it: simulate(functools.partial({node.name}, {name}=...))"
            write = "pass it by position" if isinstance(target, Flow) else bound
            raise ConfigError(f"{name!r} is an argument of {node.name}, and no option; {write}")
        if close:
            raise ConfigError(f"there is no option {name!r}; did you mean {close[0]!r}?")


def _arguments_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of a function by their names; none of a builtin, which does not say."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
