"""The options of a sweep: what goes wrong in it. Each is declared and checked here, once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import attrs

from railtracks.exceptions import ConfigError
from railtracks.testing._arguments import (
    as_exception_types,
    as_list,
    as_mapping,
    check_flag,
    check_names,
    check_number,
)
from railtracks.testing._simulation._sweep_plans import EXCEPTIONS
from railtracks.testing.faults import Raise, as_nodes, node_names

MAX_RUNS = 1000
"""How many runs a sweep takes at most, by default."""
PAIRS = 100
"""How many pairs of faults, and of kills, a sweep tries at most, by default."""


def _nodes(given: Any) -> tuple[Any, ...]:
    return tuple(as_nodes("sweep", given))


def _exceptions(given: Any) -> tuple[Exception | type[Exception], ...]:
    exceptions = as_list("sweep", "exceptions", given, "write a list: exceptions=[ConnectionError('lost')]")
    return tuple(Raise(each).exception for each in exceptions)  # which refuses what is none


def _returns(given: Any) -> dict[Any, Any]:
    return as_mapping("sweep", "returns", given, "write a dict of nodes and values: returns={node: value}")


def _raises(given: Any) -> tuple[type[BaseException], ...]:
    return as_exception_types("sweep", given)


def _flag(_: object, attribute: Any, value: Any) -> None:
    check_flag("sweep", attribute.name, value)


def _number(least: int) -> Callable[[object, Any, Any], None]:
    return lambda _, attribute, value: check_number("sweep", attribute.name, value, least)


@attrs.frozen(kw_only=True)
class SweepOptions:
    """The arguments of ``sweep`` that say what goes wrong, by these names, with these defaults.

    Raises:
        ConfigError: one of them is not allowed.
    """

    nodes: tuple[Any, ...] = attrs.field(default=(), converter=_nodes)
    exceptions: tuple[Exception | type[Exception], ...] = attrs.field(default=EXCEPTIONS, converter=_exceptions)
    hang: bool = attrs.field(default=False, validator=_flag)
    returns: dict[Any, Any] = attrs.field(default=None, converter=_returns)
    raises: tuple[type[BaseException], ...] = attrs.field(default=None, converter=_raises)
    kills: bool = attrs.field(default=True, validator=_flag)
    pairs: int = attrs.field(default=PAIRS, validator=_number(0))
    max_runs: int = attrs.field(default=MAX_RUNS, validator=_number(1))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of these arguments."""
        return tuple(field.name for field in attrs.fields(cls))

    @property
    def node_names(self) -> tuple[str, ...]:
        """The names of ``nodes``."""
        return tuple(node_names("sweep", self.nodes))

    @property
    def returned(self) -> dict[str, Any]:
        """What calls may return, by the names of their nodes."""
        return dict(zip(node_names("sweep", self.returns), self.returns.values(), strict=True))

    def check_names(self, called: Iterable[str]) -> None:
        """Validate the names against those of the nodes that were called when nothing went wrong.

        A node that is given itself cannot be misspelt: it may be called only if something goes wrong.
        """
        called = list(called)
        check_names("sweep", (each for each in (*self.nodes, *self.returns) if isinstance(each, str)), called)
        wanted = self.node_names or called[1:]
        for name in self.returned:
            if name in called and name not in wanted:
                raise ConfigError(
                    f"sweep: returns has {name!r}, at which nothing goes wrong; write nodes=[{name!r}, ...]"
                )
