"""API keys: where a model's key comes from, and how keys are removed from errors."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from inspect import isawaitable
from operator import is_
from types import TracebackType
from typing import Any

import attrs

from railtracks._concurrency._threads import run_in_thread
from railtracks.exceptions import ConfigError
from railtracks.nodes._callables import is_async
from railtracks.state import Secret
from railtracks.state._redaction._redactor import Redactor

Key = str | Secret[str]
KeyFunction = Callable[[], Key | Awaitable[Key]]
"""Returns the key for the next request, such as a token that expires."""


@attrs.frozen
class Credential:
    """What a model shows its provider.

    Args:
        option: The option of the SDK's client that takes it, such as "api_key".
        owner: The class of the model, for errors.
        key: It. None: it comes from ``function``.
        function: Returns it, for each request.
    """

    option: str
    owner: str
    key: Secret[str] | None
    function: KeyFunction | None = None

    async def current(self) -> str:
        """Return the key for a request that is about to be made. A sync function is called in a worker thread.

        Raises:
            ConfigError: The function returned something else than a key.
            Exception: What the function raises.

        Cancellation: A function in a worker thread is abandoned.
        """
        if self.function is None:
            assert self.key is not None
            return self.key.value
        if is_async(self.function):
            given: Any = self.function()
        else:
            given = await run_in_thread(self.function, abandon_on_cancel=True)
        found = _plain(await given if isawaitable(given) else given)
        if not isinstance(found, str) or not found:
            what = "an empty text" if found == "" else f"a {type(found).__name__}"
            raise ConfigError(
                f"{self.owner}: the function {self.option} returned {what}; expected a key, as a text or rt.Secret(...)"
            )
        return found


def find_credential(
    owner: str, given: Mapping[str, Key | KeyFunction | None], variables: Mapping[str, str]
) -> Credential:
    """Return the credential that was passed, or else that of the environment.

    Args:
        owner: The class of the model, for errors.
        given: What was passed, by options of the SDK's client.
        variables: The environment variables that the options have by default; the first that is set counts.

    Raises:
        ConfigError: There is none, there are two, or it is something else.
    """
    passed = {option: value for option, value in given.items() if _plain(value) not in (None, "")}
    if len(passed) > 1:
        raise ConfigError(f"{owner}: both {' and '.join(passed)} are given; a request shows one of them")
    for option, value in passed.items():
        found = _plain(value)
        if isinstance(found, str):
            return Credential(option, owner, Secret(found))
        if not callable(found):
            raise ConfigError(
                f"{owner}: {option} is of the type {type(found).__name__}; expected a text, rt.Secret(...), or a "
                f"function, sync or async, that returns one"
            )
        return Credential(option, owner, None, found)
    for option, variable in variables.items():
        if key := os.environ.get(variable):
            return Credential(option, owner, Secret(key))
    names = " or ".join(variables.values())
    raise ConfigError(
        f"{owner}: there is no API key; set the environment variable {names}, or write {owner}(..., api_key=...). "
        f'A server that needs none, such as a local one, accepts any: api_key="none"'
    )


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Secret) else value


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
