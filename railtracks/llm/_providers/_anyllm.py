"""Models behind any-llm: one library for the SDKs of many providers, some of which support asyncio only."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import attrs

from railtracks._concurrency._event_loop import running_library
from railtracks.exceptions import ConfigError, LLMError
from railtracks.llm._messages import AssistantMessage
from railtracks.llm._model import Completion, OutputMode, Piece
from railtracks.llm._prices import Price
from railtracks.llm._providers._chat_format import from_chat, to_chat
from railtracks.llm._providers._chat_stream import ChatStream
from railtracks.llm._providers._clients import Clients
from railtracks.llm._providers._output_modes import ability_of
from railtracks.llm._providers._request import Request
from railtracks.llm._providers._sdk import (
    RESERVED,
    SET_BY_CALL,
    SDKModel,
    check_name,
    check_settings,
    import_sdk,
    origin_of,
)
from railtracks.state import Secret

T = TypeVar("T")

_OTEL_NAMES = {
    "azure": "azure.ai.inference",
    "azureopenai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertexai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""any-llm's names of providers for which OpenTelemetry's ``gen_ai.provider.name`` has another name."""
_FORGET_ADDRESSES = frozenset({"groq"})
"""Providers whose SDK any-llm 1.40 does not give ``api_base``: requests would go to the provider's own servers."""
_NO_HEADERS = "with any-llm they would be recorded; use rt.llm.OpenAI or rt.llm.Anthropic with default_headers={...}"
_UNSUPPORTED = dict.fromkeys(("extra_headers", "default_headers"), _NO_HEADERS)


class AnyLLM(SDKModel["ClientHandle"]):
    """A model that the ``any-llm-sdk`` package reaches. Needs the extra: ``pip install '.[any-llm]'`` in a checkout.

    All calls on one event loop share one client. It is closed when it was not used for 10 seconds, and when the event
    loop ends.
    Under trio the client runs on an asyncio event loop in a thread, because some providers' SDKs support no other.

    Args:
        model: "provider/model", such as "mistral/mistral-small-latest"; with ``provider``, the model alone.
        provider: One of any-llm's providers.
        api_key: The key; by default that of the environment variable that any-llm reads for this provider. Servers
            that need none accept any, such as "none".
        api_base: The address of another server that the provider's SDK can reach.
        max_retries: How often the SDK repeats a request that failed temporarily. None: its default.
        output_mode: How it is asked for objects: "native", "tool" or "prompted", as ``rt.agent_node`` says. None: as
            is best for the provider.
        price: What its tokens cost. None: what is listed for the provider, if the extra ``prices`` is installed.
        settings: Sent with every request, as any-llm's ``acompletion`` takes them: ``temperature``, ``max_tokens``, ...

    Raises:
        ConfigError: A package is not installed, the provider is unknown, there is no key, or a setting is reserved.
    """

    def __init__(
        self,
        model: str,
        *,
        provider: str | None = None,
        api_key: str | Secret[str] | None = None,
        api_base: str | None = None,
        max_retries: int | None = None,
        output_mode: OutputMode | None = None,
        price: Price | None = None,
        **settings: Any,
    ) -> None:
        self._check_settings(settings)
        if provider is None and isinstance(model, str):
            provider, model = _split_name(model)
        check_name(model, "AnyLLM")
        sdk = import_sdk("any_llm", "any-llm")
        # any-llm warns when it raises the SDKs' exceptions directly; its own hold them, and _original takes them out.
        given = api_key.value if isinstance(api_key, Secret) else api_key
        if given is not None and not isinstance(given, str):
            raise ConfigError(
                f"AnyLLM: api_key is of the type {type(given).__name__}; expected a text or rt.Secret(...). Functions "
                f"that return keys work with rt.llm.OpenAI and rt.llm.Anthropic, which reach other servers by base_url"
            )
        options = {"api_key": given, "api_base": api_base, "max_retries": max_retries, "unified_exceptions": True}
        if provider in _FORGET_ADDRESSES and api_base is not None:
            options["base_url"] = api_base

        def make() -> ClientHandle:
            def make_client() -> Any:
                return sdk.AnyLLM.create(provider, **options)

            return _ThreadClient(make_client) if running_library() == "trio" else _DirectClient(make_client())

        self._provider = provider
        self._error: type[Exception] = import_sdk("any_llm.exceptions", "any-llm").AnyLLMError
        key, origin = _find_key(sdk, provider, options), origin_of(provider, api_base)
        is_httpx = _needs_no_event_loop(sdk.AnyLLM.get_provider_class(provider))
        clients = Clients(make, in_thread=lambda: is_httpx and running_library() == "asyncio")
        super().__init__(model, settings, key, clients, (), origin, ability_of(provider, api_base), output_mode)
        self._set_price(price, api_base)

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        check_settings(settings, "AnyLLM", RESERVED | _UNSUPPORTED | {"response_format": SET_BY_CALL})

    @property
    def provider(self) -> str:
        """The provider, under OpenTelemetry's name if it has one, such as "mistral_ai"."""
        return _OTEL_NAMES.get(self._provider, self._provider)

    @property
    def _can_force(self) -> bool:
        thinks = self._settings.get("reasoning_effort") not in (None, "none") or "thinking" in self._settings
        return not (thinks and self._provider.endswith(("anthropic", "bedrock")))  # their APIs refuse both at once

    async def _complete(self, client: ClientHandle, request: Request) -> Completion:
        payload = to_chat(_spoken(request), self._name, self._settings, streams=False, origin=self._origin)

        async def ask(llm: Any) -> Completion:
            answer = await llm.acompletion(**payload)
            return from_chat(answer.model_dump(warnings=False), self._origin, len(request.messages))

        try:
            return await client.run(ask)
        except self._error as exc:
            error = _original(exc)
        raise error

    async def _stream(self, client: ClientHandle, request: Request) -> AsyncGenerator[Piece, None]:
        payload = to_chat(_spoken(request), self._name, self._settings, streams=True, origin=self._origin)

        async def ask(llm: Any) -> AsyncGenerator[Piece, None]:
            answer = ChatStream(self._origin, len(request.messages), request.answer_tool)
            async with aclosing(await llm.acompletion(**payload)) as chunks:
                async for chunk in chunks:
                    for text in answer.add(chunk.model_dump(warnings=False)):
                        yield text
            if not answer.is_complete:
                raise LLMError(
                    f"the stream of {self._name} ended without a finish reason: the answer may be incomplete"
                )
            yield answer.completion()

        error = None
        async with aclosing(client.iterate(ask)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except self._error as exc:
                error = _original(exc)
        if error is not None:
            raise error


def _spoken(request: Request) -> Request:
    """Return a request without messages of the model that say nothing, which some of the APIs refuse."""
    said = [
        each for each in request.messages if not isinstance(each, AssistantMessage) or each.content or each.tool_calls
    ]
    return request if len(said) == len(request.messages) else attrs.evolve(request, messages=said)


def _original(exc: Exception) -> Exception:
    """Return the exception of the provider's SDK; ``exc`` itself if any-llm raised it on its own."""
    original: Exception | None = getattr(exc, "original_exception", None)
    return exc if original is None else original


def _split_name(model: str) -> tuple[str, str]:
    """Split a name at the first "/" or ":" into provider and model; names of models may contain both."""
    at = min((position for mark in "/:" if (position := model.find(mark)) > 0), default=-1)
    if at < 0 or not model[at + 1 :]:
        raise ConfigError(
            f"AnyLLM: the model {model!r} does not name a provider; write 'provider/model', or pass provider=..."
        )
    return model[:at], model[at + 1 :]


def _find_key(sdk: Any, provider: str, options: dict[str, Any]) -> str | None:
    """Return the key that any-llm finds for a client of this provider, without making a client.

    Raises:
        ConfigError: A client cannot be made.
    """
    errors = import_sdk("any_llm.exceptions", "any-llm")
    found: dict[str, Any] = {}
    try:
        kind = sdk.AnyLLM.get_provider_class(provider)
        type(kind.__name__, (kind,), {"_init_client": lambda _, **options: found.update(options)})(**options)
    except errors.UnsupportedProviderError as exc:
        raise ConfigError(f"AnyLLM: {exc}; use one of them: AnyLLM('mistral/...')") from exc
    except errors.MissingApiKeyError as exc:
        raise ConfigError(
            f"AnyLLM: there is no API key for {provider!r}; set the environment variable {exc.env_var_name}, or write "
            f'AnyLLM(..., api_key=...). A server that needs none, such as a local one, accepts any: api_key="none"'
        ) from exc
    except ImportError as exc:
        raise ConfigError(f"AnyLLM: {exc}; install it with: pip install 'any-llm-sdk[{provider}]'") from exc
    return found.get("api_key")


def _needs_no_event_loop(provider: type) -> bool:
    """Return whether a client can be made in any thread: some SDKs are known to, and others want the event loop.

    Args:
        provider: any-llm's class of the provider.
    """
    homes = {base.__module__ for base in provider.__mro__}
    return bool(homes & {"any_llm.providers.openai.base", "any_llm.providers.anthropic.base"})


class ClientHandle(Protocol):
    """A client, and access to the event loop that it runs on."""

    async def run(self, func: Callable[[Any], Awaitable[T]]) -> T:
        """Await ``func(client)`` on that event loop."""

    def iterate(self, make: Callable[[Any], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """Iterate over ``make(client)`` on that event loop."""

    async def close(self) -> None: ...


@attrs.frozen
class _DirectClient:
    """A client on the current event loop, asyncio's."""

    client: Any

    async def run(self, func: Callable[[Any], Awaitable[T]]) -> T:
        return await func(self.client)

    def iterate(self, make: Callable[[Any], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        return make(self.client)

    async def close(self) -> None:
        await _close(self.client)


class _ThreadClient:
    """A client on an asyncio event loop in a thread, for trio."""

    def __init__(self, make_client: Callable[[], Any]) -> None:
        from railtracks._concurrency._asyncio_thread import AsyncioThread  # here: otherwise trio needs no asyncio

        self._thread = AsyncioThread()
        self._make = make_client
        self._client: Any = None

    async def run(self, func: Callable[[Any], Awaitable[T]]) -> T:
        return await self._thread.run(lambda: func(self._get_client()))

    def iterate(self, make: Callable[[Any], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        return self._thread.iterate(lambda: make(self._get_client()))

    def _get_client(self) -> Any:
        """Make the client on its event loop's thread: some SDKs look for the event loop at once."""
        if self._client is None:
            self._client = self._make()
        return self._client

    async def close(self) -> None:
        try:
            if self._client is not None:
                await self._thread.run(lambda: _close(self._client))
        finally:
            await self._thread.close()


async def _close(llm: Any) -> None:
    """Close the SDK's client, whose method has one of two names; any-llm itself offers none."""
    client = getattr(llm, "client", None)
    close = getattr(client, "aclose", None) or getattr(client, "close", None)
    if callable(close) and inspect.isawaitable(closing := close()):
        await closing
