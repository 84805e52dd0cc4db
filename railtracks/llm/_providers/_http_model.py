"""Models behind SDKs that reach one provider, and servers that speak its format, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib import import_module
from operator import attrgetter
from pkgutil import resolve_name
from typing import Any, ClassVar

import attrs

from railtracks._addresses import http_address, shown_address
from railtracks._context_variable import current
from railtracks.exceptions import ConfigError
from railtracks.llm._model import OutputMode
from railtracks.llm._prices import Price
from railtracks.llm._providers._clients import Clients
from railtracks.llm._providers._keys import Key, KeyFunction, find_credential
from railtracks.llm._providers._output_modes import ability_of
from railtracks.llm._providers._sdk import RESERVED, SDKModel, check_settings, import_sdk, origin_of
from railtracks.state import Secret
from railtracks.state._redaction._secret_names import is_secret_name


@attrs.frozen(kw_only=True)
class Connection:
    """How a model reaches its provider.

    Args:
        keys: What the user has passed of the options that are a key.
        variables: The environment variables that they have by default; the first that is set counts.
        http_client: See :class:`OpenAI`.
        options: The other options of the SDK's client. Those that are None are not passed.
    """

    keys: Mapping[str, Key | KeyFunction | None]
    variables: Mapping[str, str]
    http_client: Any
    options: Mapping[str, Any]

    def secrets(self) -> list[str]:
        """Return the secrets in headers and in the query."""
        given = [self.options.get(name) or {} for name in ("default_headers", "default_query")]
        secrets = [str(value) for each in given for name, value in each.items() if is_secret_name(name)]
        # Errors may show the "x" of "Bearer x" by itself.
        return [*secrets, *(text.split(" ")[-1] for text in secrets)]


class HTTPModel(SDKModel[Any]):
    """A model behind an SDK that reaches one provider, and servers that speak its format, over HTTP.

    Args:
        model: The provider's name for it.
        connection: How it is reached.
        output_mode: How it is asked for objects; see ``SDKModel``.
        price: What its tokens cost. None: what is listed for the provider.
        settings: Sent with every request.

    Raises:
        ConfigError: The package is not installed, there is no key, an option has a value that cannot be right, or a
            setting is reserved or unknown.
    """

    _package: ClassVar[str]
    """The SDK; also the name of our extra."""
    _provider: ClassVar[str]
    """OpenTelemetry's name of the provider."""
    _client: ClassVar[str]
    """The SDK's asynchronous client class."""
    _resource: ClassVar[str]
    """What of a client makes the requests, as a path of attributes."""
    _create: ClassVar[str]
    """The function that takes the settings, as "module:path"."""
    _origin_name: ClassVar[str]
    """Whom it reaches; see ``origin_of``."""
    _ability_name: ClassVar[str]
    """The provider, as ``ability_of`` knows it."""
    _reserved: ClassVar[Mapping[str, str]]
    """Reserved settings beside ``RESERVED``, and what to write instead."""
    _allowed: ClassVar[Collection[str]] = ()
    """Settings of ``RESERVED`` that may be set all the same."""

    def __init__(
        self,
        model: str,
        connection: Connection,
        output_mode: OutputMode | None,
        price: Price | None,
        settings: Mapping[str, Any],
    ) -> None:
        owner, package = type(self).__name__, self._package
        self._sdk = sdk = import_sdk(package, package)
        self._check_settings(settings)
        self._credential = find_credential(owner, connection.keys, connection.variables)
        _check_options(owner, connection.options)
        check_http_client(owner, connection.http_client, sdk)
        clients = Clients(lambda: self._make_client(connection), is_ours=not is_http_client(connection.http_client))
        address = self._address(connection.options)
        super().__init__(
            model,
            {**self._defaults, **self._checked(model, settings)},
            None if self._credential.key is None else self._credential.key.value,
            clients,
            connection.secrets(),
            origin_of(self._origin_name, address),
            ability_of(self._ability_name, address),
            output_mode,
        )
        self._set_price(price, address)

    def _make_client(self, connection: Connection) -> Any:
        """Make a client, and import what its first request needs. Takes a tenth of a second, and does no I/O."""
        key = self._credential.key
        passed = {name: value for name, value in connection.options.items() if value is not None}
        passed[self._credential.option] = _PLACEHOLDER if key is None else key.value
        own = connection.http_client
        if own is None:
            kind = self._sdk.DefaultAsyncHttpxClient
            own = kind(verify=_tls_context(_http_library(kind)))
        elif not is_http_client(own):
            own = own()
            check_http_client(type(self).__name__, own, self._sdk, is_made=True)
        client = self._settled(getattr(self._sdk, self._client)(http_client=own, **passed))
        attrgetter(f"{self._resource}.with_raw_response")(client)
        return client

    async def _authorized(self, client: Any) -> Any:
        """Return the client with the key for a request that is about to be made."""
        if self._credential.function is None:
            return client
        key = await self._credential.current()
        self._key = Secret(key)
        self._key_redactor.redactor.add(key)
        if (frame := current.get()) is not None:
            frame.coordinator.redactor.add(key)
        return self._settled(client.with_options(**{self._credential.option: key}))

    def _settled(self, client: Any) -> Any:
        """Return a client as it is used."""
        return client

    def _address(self, options: Mapping[str, Any]) -> str | None:
        """Return the address that users have set. None: the provider's own."""
        return options.get("base_url")

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        reserved = {name: why for name, why in {**RESERVED, **self._reserved}.items() if name not in self._allowed}
        check_settings(settings, type(self).__name__, reserved, _function(self._create, self._package))

    @property
    def provider(self) -> str:
        """OpenTelemetry's name of the provider, such as "openai"."""
        return self._provider


_PLACEHOLDER = "set-for-each-request"
"""The key of a client whose keys come from a function."""


def _function(path: str, package: str) -> Any:
    """Return a function of an SDK.

    Raises:
        ConfigError: The installed release of the SDK does not have it.
    """
    try:
        return resolve_name(path)
    except (ImportError, AttributeError) as exc:
        raise ConfigError(
            f"the installed release of {package!r} does not have {path}: {exc}; upgrade it: pip install -U {package}"
        ) from exc


def _check_options(owner: str, options: Mapping[str, Any]) -> None:
    """Raise ConfigError for an option whose value cannot be right, before anything is sent."""
    for name, value in options.items():
        if value is not None and (expected := _CHECKS[name](value)):
            is_shown = isinstance(value, int | float) or name in _SHOWN
            shown = shown_address(value) if is_shown else f"a {type(value).__name__}"
            raise ConfigError(f"{owner}: {name} is {shown}; expected {expected}")


def _address_problem(value: Any) -> str | None:
    return None if http_address(value) is not None else 'an address such as "https://host/v1"'


def _text_problem(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "a text"


def _count_problem(value: Any) -> str | None:
    return None if type(value) is int and value >= 0 else "a number of times, 0 or more"


def _mapping_problem(value: Any) -> str | None:
    is_right = isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
    return None if is_right else "a dict with texts as keys"


def _seconds_problem(value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return "a number of seconds above 0" if isinstance(value, str | bool) or (is_number and not value > 0) else None


_SHOWN = frozenset({"base_url", "azure_endpoint", "api_version", "timeout", "max_retries"})
"""Options whose wrong values errors show."""
_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "base_url": _address_problem,
    "azure_endpoint": _address_problem,
    "api_version": _text_problem,
    "organization": _text_problem,
    "project": _text_problem,
    "timeout": _seconds_problem,
    "max_retries": _count_problem,
    "default_headers": _mapping_problem,
    "default_query": _mapping_problem,
}


def is_http_client(value: object) -> bool:
    """Return whether this is an asynchronous client of httpx, or of a successor of it."""
    return any(base.__name__ == "AsyncClient" and _is_httpx(base) for base in type(value).__mro__)


def check_http_client(owner: str, value: Any, sdk: Any, *, is_made: bool = False) -> None:
    """Raise ConfigError unless this is None, a client that the SDK takes, or, if it is not made yet, a function.

    Args:
        owner: The class of the model, for the error.
        value: It.
        sdk: The SDK.
        is_made: Whether a function has returned it.
    """
    libraries = {_http_library(sdk.DefaultAsyncHttpxClient), *(("httpx",) if sdk.__name__ == "openai" else ())}
    if is_http_client(value):
        if {base.__module__.partition(".")[0] for base in type(value).__mro__} & libraries:
            return
    elif not is_made and (value is None or (callable(value) and not hasattr(value, "send"))):
        return
    what = "the function http_client returned" if is_made else "http_client is"
    names = " or ".join(f"{each}.AsyncClient" for each in sorted(libraries))
    raise ConfigError(
        f"{owner}: {what} a {type(value).__module__}.{type(value).__name__}; expected an {names}, or a function that "
        f"makes one"
    )


def _is_httpx(kind: type) -> bool:
    return kind.__module__.partition(".")[0].startswith("httpx")


def _http_library(client: type) -> str:
    """Return the HTTP library that a client class comes from: httpx, or a successor of it."""
    return next(base.__module__.partition(".")[0] for base in client.__mro__ if _is_httpx(base))


@cache
def _tls_context(library: str) -> Any:
    """Return one TLS context for all clients: making one takes 30 ms."""
    return import_module(library).create_ssl_context()
