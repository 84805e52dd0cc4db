"""What the models behind SDKs have in common: options, clients, and errors without keys."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from pkgutil import resolve_name
from typing import Any, ClassVar, Generic, Self, TypeVar
from urllib.parse import urlsplit

import attrs

from railtracks._context_variable import current
from railtracks.exceptions import ConfigError
from railtracks.llm._messages import Message, ToolMessage
from railtracks.llm._model import Completion, OutputMode, OutputSchema, Piece, ToolSchema
from railtracks.llm._output import OUTPUT_MODES, ask_in, describe_schema
from railtracks.llm._prices import Price, prepare_prices, with_cost
from railtracks.llm._providers._attachments import AttachmentRules
from railtracks.llm._providers._clients import Client, Clients
from railtracks.llm._providers._keys import KeyRedactor, find_key
from railtracks.llm._providers._output_modes import Ability, OutputModes, Plan, ability_of, check_mode, is_refusal
from railtracks.llm._providers._request import Request
from railtracks.llm._repair import repaired
from railtracks.llm._sendable import sendable
from railtracks.llm._settings import merged_settings
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


class SDKModel(ABC, Generic[C]):
    """A model behind an SDK. It has all that the ``Model`` protocol asks for.

    Args:
        name: The provider's name for it.
        settings: Sent with every request.
        key: The key; None if there is none.
        clients: Its clients.
        headers: The headers that users have set, for the secrets in them.
        origin: Whom it reaches. Messages carry under this name what that provider wants back.
        ability: How that provider can be asked for objects.
        output_mode: How the user wants it to be asked. None: as the provider can.
    """

    _defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings that the provider requires, and their defaults."""
    _made_of: tuple[tuple[Any, ...], dict[str, Any]]
    """The arguments that it was made with."""
    output_modes: tuple[OutputMode, ...] = OUTPUT_MODES
    """The modes in which it can be asked for objects; see ``rt.agent_node``."""
    _attachment_rules: AttachmentRules | None = None
    """Which attachments can be sent, if that does not depend on the provider."""

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        key: str | None,
        clients: Clients[C],
        headers: Mapping[str, str],
        origin: str,
        ability: Ability,
        output_mode: OutputMode | None,
    ) -> None:
        check_name(name, type(self).__name__)
        check_mode(output_mode, type(self).__name__)
        self._modes = OutputModes(ability, output_mode, name)
        self._attachments = self._attachment_rules or ability.attachments
        self._name = name
        self._origin = origin
        self._left_out: set[str] = set()  # identifiers of calls that it was warned of
        self._not_shown: set[str] = set()  # attachments that it was warned of
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
    def attachment_types(self) -> tuple[str, ...]:
        """The types of attachments that it can be sent; see ``Model``."""
        return tuple(self._attachments.types)

    @property
    def price(self) -> Price | None:
        """What its tokens cost, as the user says."""
        return self._price

    @property
    def base_url(self) -> str | None:
        """The address of the server. None: the provider's own."""
        return self._base_url

    def _set_price(self, price: object, address: object) -> None:
        """Set the price, and the address by which it may be found.

        Raises:
            ConfigError: It is not a price.
        """
        if price is not None and not isinstance(price, Price):
            raise ConfigError(
                f"{type(self).__name__}: price is {price!r}; expected rt.llm.Price(input=1.25, output=10), in dollars "
                f"per million tokens, or None"
            )
        self._price, self._base_url = price, None if address is None else str(address)

    @property
    def api_key(self) -> Secret[str] | None:
        """The key, which is never written."""
        return self._key

    def with_settings(self, **settings: Any) -> Self:
        """Return the same model with other settings. It shares the client, its connections and the key with this one.

        Args:
            **settings: Those that change, as the class takes them. None: the setting has its default, or is not sent.

        Raises:
            ConfigError: A setting is reserved or unknown, or belongs to the client.
        """
        owner = type(self).__name__
        for name in settings:
            if name in _arguments(type(self)):
                raise ConfigError(
                    f"{owner}: {name} is not a setting, but an argument of the model; make another model: "
                    f"{owner}(..., {name}=...)"
                )
        self._check_settings(settings)
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        made._settings = dict(self._checked(self._name, merged_settings(self._settings, settings, self._defaults)))
        return made

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Note what a model is made of, by which it is pickled: for a worker process, above all."""
        made = super().__new__(cls)
        made._made_of = args, options
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        # A key that came from the environment does not travel.
        return _remade, (type(self), *self._made_of, self._settings)

    def __repr__(self) -> str:
        encoder = Encoder(Redactor())
        settings = (f"{name}={encoder.encode_member(name, value)!r}" for name, value in self._settings.items())
        return self._key_redactor.redactor.redact(f"{type(self).__name__}({', '.join([repr(self._name), *settings])})")

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> Completion:
        """Request one answer; see ``Model.complete``."""
        await prepare_prices(self)
        with self._key_redactor:
            async with self._clients.use() as client:
                plans = self._plans(output)
                for plan in plans:
                    request = self._request(messages, tools, output, plan)
                    try:
                        completion = await self._complete(client, request)
                    except Exception as exc:
                        if plan is plans[-1] or not is_refusal(exc):
                            raise
                    else:
                        self._note_refused(plans, plan, output)
                        return with_cost(self, request.answer(completion))
        raise AssertionError("the last plan returns or raises")

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> AsyncGenerator[Piece, None]:
        """Request one answer piece by piece; see ``Model.stream``."""
        await prepare_prices(self)
        with self._key_redactor:
            async with self._clients.use() as client:
                plans, has_begun = self._plans(output), False
                for plan in plans:
                    request = self._request(messages, tools, output, plan)
                    try:
                        async with aclosing(request.pieces(self._stream(client, request))) as pieces:
                            async for piece in pieces:
                                has_begun = True
                                yield with_cost(self, piece) if isinstance(piece, Completion) else piece
                    except Exception as exc:
                        if has_begun or plan is plans[-1] or not is_refusal(exc):
                            raise
                    else:
                        self._note_refused(plans, plan, output)
                        return

    def _plans(self, output: OutputSchema | None) -> Sequence[Plan | None]:
        """Return the ways to ask, the best first; one, which says nothing of it, if any text will do."""
        return [None] if output is None else self._modes.plans(output)

    def _note_refused(self, plans: Sequence[Plan | None], plan: Plan | None, output: OutputSchema | None) -> None:
        for refused in plans[: plans.index(plan)]:
            assert refused is not None
            assert output is not None
            self._modes.note_refused(refused, output)

    def _request(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSchema],
        output: OutputSchema | None,
        plan: Plan | None,
    ) -> Request:
        sent = sendable(messages, self._name, self._attachments.problem_with, self._not_shown)
        sent = repaired(sent, self._name, self._warn_left_out)
        if output is None or plan is None:
            return Request(sent, tools, None)
        if plan.mode == "native":
            fitting = OutputSchema(output.name, plan.schema)
            sent = describe_schema(sent, fitting) if plan.is_described else sent
            return Request(sent, tools, fitting, mode=plan.mode, is_strict=plan.is_strict)
        is_forced = plan.mode == "tool" and self._can_force
        asked = ask_in(plan.mode, sent, tools, output, is_forced=is_forced)
        return Request(asked.messages, asked.tools, None, asked.answer_tool, plan.mode, is_answer_forced=is_forced)

    def _warn_left_out(self, answer: ToolMessage) -> None:
        """Warn, once for each identifier, that the model does not read the answer of a tool."""
        if answer.tool_call_id in self._left_out:
            return
        self._left_out.add(answer.tool_call_id)
        text = "the answer of the tool %s is left out of what %s reads, as no call before it has its identifier %r"
        frame = current.get()
        log = logging.getLogger("RT").log if frame is None else frame.coordinator.log.log
        log(logging.WARNING, text, answer.name, self._name, answer.tool_call_id)

    @abstractmethod
    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        """Raise ConfigError if a setting is reserved or unknown."""

    def _checked(self, model: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the settings, with those that depend on the model.

        Raises:
            ConfigError: One has a value that cannot be right.
        """
        return settings

    @property
    def _can_force(self) -> bool:
        """Whether the settings allow that a request makes the model call a tool."""
        return True

    @abstractmethod
    async def _complete(self, client: C, request: Request) -> Completion: ...

    @abstractmethod
    def _stream(self, client: C, request: Request) -> AsyncGenerator[Piece, None]: ...


@cache
def _arguments(kind: type[SDKModel[Any]]) -> frozenset[str]:
    """Return the names of the arguments that a class of models takes beside settings."""
    classes = kind.__mro__[: kind.__mro__.index(SDKModel)]
    makers: list[Any] = [cls.__init__ for cls in classes]  # type: ignore[misc]
    parameters = (each for make in makers for each in signature(make).parameters.values())
    return frozenset(each.name for each in parameters if each.kind is not Parameter.VAR_KEYWORD)


def _remade(
    kind: type[SDKModel[Any]], args: tuple[Any, ...], options: dict[str, Any], settings: dict[str, Any]
) -> SDKModel[Any]:
    """Return a model that was pickled."""
    made = kind(*args, **options)
    made._settings = settings
    return made


class HTTPModel(SDKModel[Any]):
    """A model behind an SDK that reaches one provider, and servers that speak its format, over HTTP.

    Args:
        model: The provider's name for it.
        api_key: The key; by default that of the environment variable ``<PACKAGE>_API_KEY``.
        base_url: The address of another server that speaks this format.
        timeout: Seconds that a request may take. None: the SDK's default.
        max_retries: How often the SDK repeats a request that failed temporarily. None: its default.
        default_headers: Headers for every request.
        output_mode: How it is asked for objects; see ``SDKModel``.
        price: What its tokens cost. None: what is listed for the provider.
        settings: Sent with every request.

    Raises:
        ConfigError: The package is not installed, there is no key, or a setting is reserved or unknown.
    """

    _package: ClassVar[str]
    """The SDK; also the name of the provider, and of our extra."""
    _client: ClassVar[str]
    """The SDK's asynchronous client class."""
    _create: ClassVar[str]
    """The function that takes the settings, as "module:path"."""
    _origin_name: ClassVar[str] = ""
    """The API, where the SDK has several; see ``origin_of``. Empty: the name of the SDK."""
    _reserved: ClassVar[Mapping[str, str]]
    """Reserved settings beside ``RESERVED``, and what to write instead."""
    _allowed: ClassVar[Collection[str]] = ()
    """Settings of ``RESERVED`` that may be set all the same."""

    def __init__(
        self,
        model: str,
        *,
        api_key: str | Secret[str] | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        default_headers: Mapping[str, str] | None = None,
        output_mode: OutputMode | None = None,
        price: Price | None = None,
        **settings: Any,
    ) -> None:
        owner, package = type(self).__name__, self._package
        self._sdk = sdk = import_sdk(package, package)
        self._check_settings(settings)
        key = find_key(api_key, f"{package.upper()}_API_KEY", owner)
        options = {
            "api_key": key, "base_url": base_url, "timeout": timeout, "max_retries": max_retries,
            "default_headers": default_headers,
        }  # fmt: skip
        passed = {name: value for name, value in options.items() if value is not None}
        kind, http = getattr(sdk, self._client), sdk.DefaultAsyncHttpxClient
        tls = _tls_context(_http_library(http))
        clients = Clients(lambda: kind(http_client=http(verify=tls), **passed))
        origin = origin_of(self._origin_name or package, base_url)
        ability = ability_of(package, base_url)
        given = {**self._defaults, **self._checked(model, settings)}
        super().__init__(model, given, key, clients, default_headers or {}, origin, ability, output_mode)
        self._set_price(price, base_url)

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        reserved = {name: why for name, why in {**RESERVED, **self._reserved}.items() if name not in self._allowed}
        check_settings(settings, type(self).__name__, reserved, _function(self._create, self._package))

    @property
    def provider(self) -> str:
        """The name of the provider, such as "openai"."""
        return self._package


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


def _http_library(client: type) -> str:
    """Return the HTTP library that a client class comes from: httpx, or a successor of it."""
    modules = (base.__module__.partition(".")[0] for base in client.__mro__)
    return next(module for module in modules if module.startswith("httpx"))


@cache
def _tls_context(library: str) -> Any:
    """Return one TLS context for all clients: making one takes 30 ms."""
    return import_module(library).create_ssl_context()
