"""What the models behind SDKs have in common: options, clients, and errors without keys."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from importlib import import_module
from inspect import isawaitable, signature
from operator import attrgetter
from typing import Any, ClassVar, Generic, TypeVar
from urllib.parse import urlsplit

import attrs

from railtracks.exceptions import ConfigError
from railtracks.llm._messages import Message, ToolMessage
from railtracks.llm._model import Completion, OutputSchema, Piece, ToolSchema
from railtracks.llm._providers._clients import Client, Clients
from railtracks.llm._providers._keys import KeyRedactor, find_key
from railtracks.llm._repair import repaired
from railtracks.state import Secret
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._redaction._secret_names import is_secret_name
from railtracks.state._serialization._encoder import Encoder

C = TypeVar("C", bound=Client)


def import_sdk(module: str, extra: str) -> Any:
    """Import the module of an SDK.

    Raises:
        ConfigError: It cannot be imported. The text shows the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError as exc:
        raise ConfigError(
            f"the package {module!r} cannot be imported: {exc}; install it with `pip install '.[{extra}]'` "
            f"in a checkout of the Railtracks repository"
        ) from exc


def check_name(model: object, owner: str) -> None:
    """Raise ConfigError unless this can be the name of a model. ``owner``: the class, for the error."""
    if not isinstance(model, str) or not model:
        raise ConfigError(f"{owner}: the model is {model!r}; expected the provider's name for it, such as 'gpt-5'")


def check_settings(
    settings: Mapping[str, Any], owner: str, reserved: Mapping[str, str], create: Callable[..., Any] | None = None
) -> None:
    """Refuse settings that are reserved, or unknown to the installed SDK.

    Args:
        settings: The settings.
        owner: The class that takes them, for the error.
        reserved: Names that users must not set, and what to write instead.
        create: The SDK's function that takes the settings. None: any name is accepted.

    Raises:
        ConfigError: A setting is reserved or unknown.
    """
    known = None if create is None else signature(create).parameters
    for name in settings:
        if name in reserved:
            raise ConfigError(f"{owner}: {name} is not a setting; {reserved[name]}")
        if known is not None and name not in known:
            raise ConfigError(
                f"{owner}: the installed SDK does not know the setting {name}; if it is spelled correctly, and the "
                f"server accepts it, write {owner}(..., extra_body={{{name!r}: ...}})"
            )


def origin_of(provider: str, address: str | None) -> str:
    """Return whom a model reaches: the provider, or the host of the address that users have set."""
    host = urlsplit(str(address)).hostname if address is not None else None
    return provider if host is None else f"{provider} {host}"


SET_BY_CALL = "it is part of each call, and set by the agent"
RESERVED = {
    "messages": SET_BY_CALL,
    "tools": SET_BY_CALL,
    "stream": "iterate over stream(...) to receive the answer piece by piece",
    "extra_headers": "use default_headers={...}, which is not recorded",
}
"""The settings that no model takes, and what to write instead."""


def with_retries(completion: Completion, response: Any) -> Completion:
    """Return an answer with how often the SDK has repeated its request, as the raw ``response`` says."""
    taken = getattr(response, "retries_taken", 0)
    return attrs.evolve(completion, sdk_retries=taken) if taken else completion


async def parsed(response: Any) -> Any:
    """Return what the raw ``response`` of an SDK says. Some releases of the SDKs have it awaited, and others not."""
    answer = response.parse()
    return await answer if isawaitable(answer) else answer


@attrs.frozen
class Request:
    """The content of one request."""

    messages: Sequence[Message]
    tools: Sequence[ToolSchema]
    output: OutputSchema | None

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a model as they are sent with this request.

        Without tools, what is about tools is left out, as the APIs refuse it. A tool that the model is forced to call
        is forced in the first request of a turn only: a model that obeys could never answer.

        Args:
            given: The settings.
        """
        if not self.tools:
            return {name: value for name, value in given.items() if name not in _ABOUT_TOOLS}
        if not isinstance(self.messages[-1], ToolMessage) or not _is_forced(given.get("tool_choice")):
            return dict(given)
        kept = {name: value for name, value in given.items() if name != "tool_choice"}
        others = given["tool_choice"] if isinstance(given["tool_choice"], Mapping) else {}
        if "disable_parallel_tool_use" in others:  # Anthropic's, which stands beside the choice
            kept["tool_choice"] = {**others, "type": "auto"}
            kept["tool_choice"].pop("name", None)
        return kept


_ABOUT_TOOLS = frozenset({"tool_choice", "parallel_tool_calls"})


def _is_forced(choice: Any) -> bool:
    """Return whether a ``tool_choice`` makes the model call a tool."""
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    return kind not in (None, "auto", "none")


class SDKModel(ABC, Generic[C]):
    """A model behind an SDK. It has all that the ``Model`` protocol asks for.

    Args:
        name: The provider's name for it.
        settings: Sent with every request.
        key: The key; None if there is none.
        clients: Its clients.
        headers: The headers that users have set, for the secrets in them.
        origin: Whom it reaches. Messages carry under this name what that provider wants back.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        key: str | None,
        clients: Clients[C],
        headers: Mapping[str, str],
        origin: str,
    ) -> None:
        check_name(name, type(self).__name__)
        self._name = name
        self._origin = origin
        self._settings = dict(settings)
        self._key = None if key is None else Secret(key)
        self._clients = clients
        secrets = [value for header, value in headers.items() if is_secret_name(header)]
        tokens = [value.split(" ")[-1] for value in secrets]  # the "x" of "Bearer x", which errors show by itself
        self._key_redactor = KeyRedactor([key or "", *secrets, *tokens])

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
        """The settings that are sent with every request."""
        return dict(self._settings)

    @property
    def api_key(self) -> Secret[str] | None:
        """The key, which is never written."""
        return self._key

    def __repr__(self) -> str:
        encoder = Encoder(Redactor())
        settings = (f"{name}={encoder.encode_member(name, value)!r}" for name, value in self._settings.items())
        return self._key_redactor.redactor.redact(f"{type(self).__name__}({', '.join([repr(self._name), *settings])})")

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> Completion:
        """Request one answer; see ``Model.complete``."""
        with self._key_redactor:
            async with self._clients.use() as client:
                return await self._complete(client, self._request(messages, tools, output))

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> AsyncGenerator[Piece, None]:
        """Request one answer piece by piece; see ``Model.stream``."""
        with self._key_redactor:
            async with (
                self._clients.use() as client,
                aclosing(self._stream(client, self._request(messages, tools, output))) as pieces,
            ):
                async for piece in pieces:
                    yield piece

    def _request(
        self, messages: Sequence[Message], tools: Sequence[ToolSchema], output: OutputSchema | None
    ) -> Request:
        return Request(repaired(messages, self._name), tools, output)

    @abstractmethod
    async def _complete(self, client: C, request: Request) -> Completion: ...

    @abstractmethod
    def _stream(self, client: C, request: Request) -> AsyncGenerator[Piece, None]: ...


class HTTPModel(SDKModel[Any]):
    """A model behind an SDK that reaches one provider, and servers that speak its format, over HTTP.

    Args:
        model: The provider's name for it.
        api_key: The key; by default that of the environment variable ``<PACKAGE>_API_KEY``.
        base_url: The address of another server that speaks this format.
        timeout: Seconds that a request may take. None: the SDK's default.
        max_retries: How often the SDK repeats a request that failed temporarily. None: its default.
        default_headers: Headers for every request.
        settings: Sent with every request.

    Raises:
        ConfigError: The package is not installed, there is no key, or a setting is reserved or unknown.
    """

    _package: ClassVar[str]
    """The SDK; also the name of the provider, and of our extra."""
    _client: ClassVar[str]
    """The SDK's asynchronous client class."""
    _create: ClassVar[str]
    """The function that takes the settings, as a path of attributes from the SDK."""
    _reserved: ClassVar[Mapping[str, str]]
    """Reserved settings beside ``RESERVED``, and what to write instead."""
    _defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings that the provider requires, and their defaults."""

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
        passed = {name: value for name, value in options.items() if value is not None}
        kind, http = getattr(sdk, self._client), sdk.DefaultAsyncHttpxClient
        tls = _tls_context(_http_library(http))
        clients = Clients(lambda: kind(http_client=http(verify=tls), **passed))
        origin = origin_of(package, base_url)
        super().__init__(model, {**self._defaults, **settings}, key, clients, default_headers or {}, origin)

    @property
    def provider(self) -> str:
        """The name of the provider, such as "openai"."""
        return self._package


def _http_library(client: type) -> str:
    """Return the HTTP library that a client class comes from: httpx, or a successor of it."""
    modules = (base.__module__.partition(".")[0] for base in client.__mro__)
    return next(module for module in modules if module.startswith("httpx"))


@cache
def _tls_context(library: str) -> Any:
    """Return one TLS context for all clients: making one takes 30 ms."""
    return import_module(library).create_ssl_context()
