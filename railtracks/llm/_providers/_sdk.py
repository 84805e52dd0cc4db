"""What the adapters of the providers' SDKs share: options, clients, keys, and errors without keys."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from importlib import import_module
from inspect import signature
from operator import attrgetter, is_
from types import TracebackType
from typing import Any, ClassVar, Generic, TypeVar

import attrs

from railtracks.exceptions import ConfigError
from railtracks.llm._messages import Message
from railtracks.llm._model import Completion, OutputSchema, ToolSchema
from railtracks.llm._providers._clients import Client, Clients
from railtracks.state import Secret
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._redaction._secret_names import is_secret_name
from railtracks.state._serialization._encoder import Encoder

C = TypeVar("C", bound=Client)


def import_sdk(module: str, extra: str) -> Any:
    """Import the module of an SDK. ConfigError if it cannot be imported, with the command that installs it."""
    try:
        return import_module(module)
    except ImportError as exc:
        raise ConfigError(
            f"the package {module!r} cannot be imported: {exc}; install it with `pip install '.[{extra}]'` "
            f"in a checkout of the Railtracks repository"
        ) from exc


def check_name(model: object, owner: str) -> None:
    """ConfigError unless this can be the name of a model."""
    if not isinstance(model, str) or not model:
        raise ConfigError(f"{owner}: the model is {model!r}; give its name as the provider knows it, such as 'gpt-5'")


def find_key(api_key: str | Secret[str] | None, variable: str, owner: str) -> str:
    """The key that was given, or that of the environment. ConfigError if there is none."""
    given = api_key.value if isinstance(api_key, Secret) else api_key
    key = given or os.environ.get(variable)
    if key:
        return key
    raise ConfigError(
        f"{owner}: there is no API key; set the environment variable {variable}, or write {owner}(..., api_key=...). "
        f'A server that asks for none, such as a local one, takes any: api_key="none"'
    )


def check_settings(
    settings: Mapping[str, Any], owner: str, reserved: Mapping[str, str], create: Callable[..., Any] | None = None
) -> None:
    """ConfigError for a setting that is not the user's to make, or that the installed SDK does not know.

    Args:
        reserved: The former, and what to write instead.
        create: What takes the settings; None: anything goes.
    """
    known = None if create is None else signature(create).parameters
    for name in settings:
        if name in reserved:
            raise ConfigError(f"{owner}: {name} is no setting; {reserved[name]}")
        if known is not None and name not in known:
            raise ConfigError(
                f"{owner}: {name} is no setting that the installed SDK knows; if it is spelled rightly, and the "
                f"server takes it, write {owner}(..., extra_body={{{name!r}: ...}})"
            )


SET_BY_CALL = "it is part of each call, and set by the agent"
RESERVED = {
    "messages": SET_BY_CALL,
    "tools": SET_BY_CALL,
    "stream": "iterate over stream(...) to have the answer piece by piece",
    "extra_headers": "write default_headers={...}, which is not put on record",
}


class Keys:
    """Keeps keys out of the errors that pass it: ``with keys: ...``.

    They are cut out of the texts of an exception and of those that it comes from, in place: it stays the same object,
    and so does all of it that has no key in it.
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
        for each in _all_of(exc):
            if (args := self._without(each.args)) is not each.args:
                each.args = args
            for name, value in list(vars(each).items()):
                if (clean := self._without(value)) is not value:
                    vars(each)[name] = clean

    def _without(self, value: Any, around: tuple[int, ...] = ()) -> Any:
        """The same object, if there is no key in it. ``around``: the containers that it stands in, by ``id``."""
        if isinstance(value, str):
            text = self.redactor.redact(value)
            return value if text == value else text
        if isinstance(value, bytes):
            data = self.redactor.redact(value.decode("latin-1")).encode("latin-1")
            return value if data == value else data
        if type(value) not in (dict, list, tuple) or id(value) in around:
            return value
        parts = list(value.items()) if type(value) is dict else value
        clean = [self._without(part, (*around, id(value))) for part in parts]
        return value if all(map(is_, clean, parts)) else type(value)(clean)


def _all_of(exc: BaseException | None) -> list[BaseException]:
    """An exception and all that it comes from or holds."""
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


@attrs.frozen
class Request:
    """What one request is about."""

    messages: Sequence[Message]
    tools: Sequence[ToolSchema]
    output: OutputSchema | None


class SDKModel(ABC, Generic[C]):
    """A model behind an SDK. Satisfies the ``Model`` protocol."""

    def __init__(
        self, name: str, settings: Mapping[str, Any], key: str | None, clients: Clients[C], headers: Mapping[str, str]
    ) -> None:
        check_name(name, type(self).__name__)
        self._name = name
        self._settings = dict(settings)
        self._key = None if key is None else Secret(key)
        self._clients = clients
        secret = [value for header, value in headers.items() if is_secret_name(header)]
        self._keys = Keys([key or "", *secret, *(value.split(" ")[-1] for value in secret)])  # of "Bearer x", x too

    @property
    def name(self) -> str:
        """The model, as the provider names it."""
        return self._name

    @property
    @abstractmethod
    def provider(self) -> str:
        """OpenTelemetry's ``gen_ai.provider.name``."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What goes to every request, beside the conversation."""
        return dict(self._settings)

    @property
    def api_key(self) -> Secret[str] | None:
        """What must never be written."""
        return self._key

    def __repr__(self) -> str:
        encoder = Encoder(Redactor())
        shown = (f"{name}={encoder.encode_member(name, value)!r}" for name, value in self._settings.items())
        return self._keys.redactor.redact(f"{type(self).__name__}({', '.join([repr(self._name), *shown])})")

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> Completion:
        """See ``Model.complete``."""
        with self._keys:
            async with self._clients.use() as client:
                return await self._complete(client, Request(messages, tools, output))

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> AsyncGenerator[str | Completion, None]:
        """See ``Model.stream``."""
        with self._keys:
            async with (
                self._clients.use() as client,
                aclosing(self._stream(client, Request(messages, tools, output))) as pieces,
            ):
                async for piece in pieces:
                    yield piece

    @abstractmethod
    async def _complete(self, client: C, asked: Request) -> Completion: ...

    @abstractmethod
    def _stream(self, client: C, asked: Request) -> AsyncGenerator[str | Completion, None]: ...


class HTTPModel(SDKModel[Any]):
    """A model behind an SDK that reaches one provider, and whoever speaks as that one, over HTTP.

    Args:
        model: As the provider names it.
        api_key: Else ``<PACKAGE>_API_KEY`` of the environment.
        base_url: Of another server that speaks this format.
        timeout: Seconds that a request may take. None: the SDK's default.
        max_retries: How often the SDK repeats a request that failed for the moment. None: its default.
        default_headers: Sent with every request.
        settings: Go to every request.

    Raises:
        ConfigError: the package is not installed, there is no key, or a setting is not to be set here.
    """

    _package: ClassVar[str]
    """The SDK; also the provider's name, and that of our extra."""
    _client: ClassVar[str]
    """The SDK's asynchronous client."""
    _create: ClassVar[str]
    """What takes the settings, by the way to it from the SDK."""
    _reserved: ClassVar[Mapping[str, str]]
    """As of ``check_settings``, beside those of all adapters."""
    _defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings that the provider insists on."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str | Secret[str] | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        default_headers: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        owner, package = type(self).__name__, self._package
        self._sdk = sdk = import_sdk(package, package)
        check_settings(settings, owner, {**RESERVED, **self._reserved}, attrgetter(self._create)(sdk))
        key = find_key(api_key, f"{package.upper()}_API_KEY", owner)
        options = {
            "api_key": key, "base_url": base_url, "timeout": timeout, "max_retries": max_retries,
            "default_headers": default_headers,
        }  # fmt: skip
        given = {name: value for name, value in options.items() if value is not None}
        kind, http = getattr(sdk, self._client), sdk.DefaultAsyncHttpxClient
        tls = _tls_context(_home(http))
        clients = Clients(lambda: kind(http_client=http(verify=tls), **given))
        super().__init__(model, {**self._defaults, **settings}, key, clients, default_headers or {})

    @property
    def provider(self) -> str:
        """Such as "openai"."""
        return self._package


def _home(client: type) -> str:
    """The HTTP library: httpx, or a successor of it."""
    homes = (base.__module__.partition(".")[0] for base in client.__mro__)
    return next(home for home in homes if home.startswith("httpx"))


@cache
def _tls_context(library: str) -> Any:
    """One for all clients: it takes 30 ms to make."""
    return import_module(library).create_ssl_context()
