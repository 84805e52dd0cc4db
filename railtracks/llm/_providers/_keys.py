"""API keys: where a model's key comes from, and how keys are removed from errors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from operator import is_
from types import TracebackType
from typing import Any

from railtracks.exceptions import ConfigError
from railtracks.state import Secret
from railtracks.state._redaction._redactor import Redactor


def find_key(api_key: str | Secret[str] | None, variable: str, owner: str) -> str:
    """Return the key that was passed, or else that of the environment.

    Args:
        api_key: The key that was passed.
        variable: The environment variable.
        owner: The class that needs the key, for the error.

    Raises:
        ConfigError: There is no key.
    """
    passed = api_key.value if isinstance(api_key, Secret) else api_key
    key = passed or os.environ.get(variable)
    if key:
        return key
    raise ConfigError(
        f"{owner}: there is no API key; set the environment variable {variable}, or write {owner}(..., api_key=...). "
        f'A server that needs none, such as a local one, accepts any: api_key="none"'
    )


class KeyRedactor:
    """Removes keys from the errors that leave its block: ``with keys: ...``.

    Keys are replaced in the texts of an exception and of those that it comes from or holds, in place: the exception
    stays the same object, and so does every part of it that contains no key.
    """

    __slots__ = ("redactor",)

    def __init__(self, keys: Iterable[str]) -> None:
        self.redactor = Redactor()
        for key in keys:
            self.redactor.add(key)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in _related(exc):
            if (args := self._redacted(each.args)) is not each.args:
                each.args = args
            for name, value in list(vars(each).items()):
                if (clean := self._redacted(value)) is not value:
                    vars(each)[name] = clean

    def _redacted(self, value: Any, around: tuple[int, ...] = ()) -> Any:
        """Return a value without keys; the same object if there is no key in it.

        ``around``: the ``id`` of each container that it stands in, so that circles end.
        """
        if isinstance(value, str):
            text = self.redactor.redact(value)
            return value if text == value else text
        if isinstance(value, bytes):
            data = self.redactor.redact(value.decode("latin-1")).encode("latin-1")
            return value if data == value else data
        if type(value) not in (dict, list, tuple) or id(value) in around:
            return value
        parts = list(value.items()) if type(value) is dict else value
        clean = [self._redacted(part, (*around, id(value))) for part in parts]
        return value if all(map(is_, clean, parts)) else type(value)(clean)


def _related(exc: BaseException | None) -> list[BaseException]:
    """Return an exception and all exceptions that it comes from or holds."""
    found: list[BaseException] = []
    todo = [exc]
    while todo:
        each = todo.pop()
        if each is None or any(each is known for known in found):
            continue
        found.append(each)
        todo += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
        todo += [value for value in vars(each).values() if isinstance(value, BaseException)]
    return found
