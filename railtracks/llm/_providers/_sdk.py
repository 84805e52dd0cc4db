"""What the models behind SDKs have in common: options, clients, and errors without keys."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
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
from railtracks.llm._providers._keys import KeyRedactor
from railtracks.llm._providers._output_modes import Ability, OutputModes, Plan, check_mode, is_refusal
from railtracks.llm._providers._request import Request
from railtracks.llm._repair import repaired
from railtracks.llm._sendable import sendable
from railtracks.llm._settings import merged_settings
from railtracks.state import Secret
from railtracks.state._redaction._redactor import Redactor
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
        secrets: What errors must not show either.
        origin: Whom it reaches. Messages carry under this name what that provider wants back.
        ability: How that provider can be asked for objects.
        output_mode: How the user wants it to be asked. None: as the provider can.
    """

    _defaults: ClassVar[Mapping[str, Any]] = {}
    """Settings that the provider requires, and their defaults."""
    _made_of: Secret[tuple[tuple[Any, ...], dict[str, Any]]]
    """The arguments that it was made with, the key among them."""
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
        secrets: Iterable[str],
        origin: str,
        ability: Ability,
        output_mode: OutputMode | None,
    ) -> None:
        check_name(name, type(self).__name__)
        check_mode(output_mode, type(self).__name__)
        self._modes = OutputModes(ability, output_mode, name)
        self._attachments = self._attachment_rules or ability.attachments
        self._conversation_rules = ability.conversation
        self._name = name
        self._origin = origin
        self._left_out: set[str] = set()  # identifiers of calls that it was warned of
        self._not_shown: set[str] = set()  # attachments that it was warned of
        self._settings = dict(settings)
        self._key = None if key is None else Secret(key)
        self._clients = clients
        self._key_redactor = KeyRedactor([key or "", *secrets])

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
        """The key, which is never written; the last one, if a function returns them."""
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
        made._made_of = Secret((args, options))
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        # A key that came from the environment does not travel.
        return _remade, (type(self), *self._made_of.value, self._settings)

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
            async with self._clients.use() as shared:
                client, plans = await self._authorized(shared), self._plans(output)
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
            async with self._clients.use() as shared:
                client, plans, has_begun = await self._authorized(shared), self._plans(output), False
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

    async def _authorized(self, client: C) -> C:
        """Return the client for a request that is about to be made, with the key for it."""
        return client

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
        sent = repaired(sent, self._name, self._warn_left_out, self._conversation_rules)
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
