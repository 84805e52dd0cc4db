"""Which tools of an MCP server are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from railtracks.exceptions import ConfigError


class Selection:
    """The tools that a client makes nodes of.

    Args:
        client: The name of the client, for errors.
        include: Names and patterns of those that are wanted; None: all.
        exclude: Names and patterns of those that are not.

    Raises:
        ConfigError: These are not lists of texts.
    """

    def __init__(self, client: str, include: Iterable[str] | None, exclude: Iterable[str]) -> None:
        self._client = client
        self._include = ("*",) if include is None else _patterns("include", include)
        self._exclude = _patterns("exclude", exclude)
        self._checked = {"include": () if include is None else self._include, "exclude": self._exclude}

    def of(self, listed: Mapping[str, Any]) -> list[Any]:
        """Return those of the tools that are wanted.

        Args:
            listed: What the server offers, by name.

        Raises:
            ConfigError: A name or pattern fits none of them.
        """
        for option, patterns in self._checked.items():
            for pattern in patterns:
                if not any(fnmatchcase(each, pattern) for each in listed):
                    raise ConfigError(
                        f"the MCP client {self._client!r}: {option} names {pattern!r}, and the server has no such "
                        f"tool; it has {', '.join(listed) or 'none'}"
                    )
        return [tool for name, tool in listed.items() if _fits(name, self._include) and not _fits(name, self._exclude)]


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, each) for each in patterns)


def _patterns(option: str, given: object) -> tuple[str, ...]:
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, Iterable) else [None]
    if not all(isinstance(each, str) for each in names):
        raise ConfigError(f"rt.mcp.Client: {option} is {given!r}; expected a list of names of tools")
    return tuple(str(each) for each in names)
