"""The options of a session as options of a command."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any

import attrs
from cyclopts import Group, Parameter

from railtracks import ExecutorConfig
from railtracks._config import parse_option
from railtracks._options import parse_bool

_GROUP = Group.create_ordered("Session options")
_PREFIX = "session_"
_UNITS = {"float": "SECONDS", "int": "NUMBER"}
"""What stands for the value of an option in the help, by the type of its field."""
_SHOWS_UNITS = "metavar" in attrs.fields_dict(Parameter)  # earlier releases of cyclopts show no types


@cache
def _texts() -> Mapping[str, str]:
    """What each option does: the first sentence below its field, which is where it is explained."""
    from docstring_parser import parse_from_object

    documented = parse_from_object(ExecutorConfig).params
    return {each.arg_name: _for_a_terminal(each.description or "") for each in documented}


def _for_a_terminal(text: str) -> str:
    return (
        " ".join(text.split())
        .replace("``", "")
        .replace("math.inf", "inf")
        .replace(", or None", "")
        .replace("None:", "By default:")
    )


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return the name of a parameter of ours: with a prefix if the flow has one of that name."""
    while name in taken:
        name = f"{_PREFIX}{name}"
    return name


def option_parameters(taken: Iterable[str], defaults: Mapping[str, str]) -> list[inspect.Parameter]:
    """Return a parameter for each option that text can express.

    Args:
        taken: The names of other parameters. An option of that name gets the prefix ``session-``.
        defaults: What is said of the defaults that are others than those of a session.
    """
    found = []
    for field in attrs.fields(ExecutorConfig):
        if field.metadata["parse"] is None:
            continue
        name = free_name(field.name, taken)
        kind: Any = bool if field.metadata["parse"] is parse_bool else str
        shown_default = defaults.get(field.name, field.default)
        default = f" (default: {shown_default})" if shown_default is not None else ""
        unit = _UNITS.get(str(field.type))
        named: Any = {} if unit is None or not _SHOWS_UNITS else {"metavar": unit}
        text = _texts().get(field.name, "") + default
        shown = Parameter(name=f"--{name.replace('_', '-')}", help=text, group=_GROUP, **named)
        found.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, shown]
            )
        )
    return found


def split_options(given: Mapping[str, Any], taken: Iterable[str]) -> dict[str, Any]:
    """Return the options of a session that are among the arguments of a command.

    Args:
        given: The arguments.
        taken: The names of those that are not options.

    Raises:
        ConfigError: A value is not allowed.
    """
    found = {}
    for name, value in given.items():
        if name not in taken and value is not None:
            option = name
            while option.startswith(_PREFIX):
                option = option.removeprefix(_PREFIX)
            shown = f"--{name.replace('_', '-')}"
            found[option] = parse_option(option, value, shown) if isinstance(value, str) else value
    return found
