"""Models behind any-llm: one library for the SDKs of many providers, some of which know asyncio only."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

import attrs

from railtracks._concurrency._event_loop import running_library
from railtracks.exceptions import ConfigError, LLMError
from railtracks.llm._model import Completion
from railtracks.llm._providers._chat_format import ChatStream, from_chat, to_chat
from railtracks.llm._providers._clients import Clients
from railtracks.llm._providers._sdk import (
    RESERVED,
    SET_BY_CALL,
    Request,
    SDKModel,
    check_name,
    check_settings,
    import_sdk,
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
"""Providers that OpenTelemetry's list of ``gen_ai.provider.name`` calls otherwise than any-llm does."""
_NO_HEADERS = "any-llm takes none off the record; rt.llm.OpenAI and rt.llm.Anthropic do, as default_headers={...}"
_NOT_THERE = dict.fromkeys(("extra_headers", "default_headers"), _NO_HEADERS)


class AnyLLM(SDKModel["Side"]):
    """A model that the ``any-llm-sdk`` package reaches. Needs the extra: ``pip install '.[any-llm]'`` in a checkout.

    Each session has one client, which its calls share, and closes it; a call outside of sessions has one of its own.
    Under trio the client lives on an asyncio event loop in a thread beside it, as some providers' SDKs know no other.

    Args:
        model: "provider/model", such as "mistral/mistral-small-latest"; with ``provider`` the model alone.
        provider: One of those that any-llm has.
        api_key: Else the environment variable that any-llm reads for this provider. Servers that ask for none take
            any, such as "none".
        api_base: Of another server that the provider's SDK can reach.
        max_retries: How often the SDK repeats a request that failed for the moment. None: its default.
        settings: Go to every request, as any-llm's ``acompletion`` takes them: ``temperature``, ``max_tokens``, ...

    Raises:
        ConfigError: a package is not installed, there is no such provider, no key, or a setting is not to be set here.
    """

    def __init__(
        self,
        model: str,
        *,
        provider: str | None = None,
        api_key: str | Secret[str] | None = None,
        api_base: str | None = None,
        max_retries: int | None = None,
        **settings: Any,
    ) -> None:
        check_settings(settings, "AnyLLM", RESERVED | _NOT_THERE | {"response_format": SET_BY_CALL})
        if provider is None and isinstance(model, str):
            provider, model = _split(model)
        check_name(model, "AnyLLM")
        sdk = import_sdk("any_llm", "any-llm")
        # With any-llm's own exceptions, which hold those of the SDKs: it warns whenever it raises the latter directly.
        key = api_key.value if isinstance(api_key, Secret) else api_key
        options = {"api_key": key, "api_base": api_base, "max_retries": max_retries, "unified_exceptions": True}

        def make() -> Side:
            def make_client() -> Any:
                return sdk.AnyLLM.create(provider, **options)

            return _InThread(make_client) if running_library() == "trio" else _Here(make_client())

        self._provider = provider
        self._error: type[Exception] = import_sdk("any_llm.exceptions", "any-llm").AnyLLMError
        super().__init__(model, settings, _checked_key(sdk, provider, options), Clients(make), {})

    @property
    def provider(self) -> str:
        """Such as "mistral_ai"."""
        return _OTEL_NAMES.get(self._provider, self._provider)

    async def _complete(self, client: Side, asked: Request) -> Completion:
        request = to_chat(asked, self._name, self._settings, streams=False)

        async def ask(llm: Any) -> Completion:
            answer = await llm.acompletion(**request)
            return from_chat(answer.model_dump(warnings=False))

        try:
            return await client.run(ask)
        except self._error as exc:
            error = _original(exc)
        raise error

    async def _stream(self, client: Side, asked: Request) -> AsyncGenerator[str | Completion, None]:
        request = to_chat(asked, self._name, self._settings, streams=True)

        async def ask(llm: Any) -> AsyncGenerator[str | Completion, None]:
            whole = ChatStream()
            async with aclosing(await llm.acompletion(**request)) as chunks:
                async for chunk in chunks:
                    for text in whole.add(chunk.model_dump(warnings=False)):
                        yield text
            if not whole.is_complete:
                raise LLMError(f"the stream of {self._name} ended without saying why: it may be cut off")
            yield whole.completion()

        error = None
        async with aclosing(client.iterate(ask)) as pieces:
            try:
                async for piece in pieces:
                    yield piece
            except self._error as exc:
                error = _original(exc)
        if error is not None:
            raise error


def _original(exc: Exception) -> Exception:
    """What the provider's SDK raised; ``exc``, where any-llm itself found the fault."""
    original: Exception | None = getattr(exc, "original_exception", None)
    return exc if original is None else original


def _split(model: str) -> tuple[str, str]:
    """At the first "/" or ":", as the names of models may have both."""
    at = min((position for mark in "/:" if (position := model.find(mark)) > 0), default=-1)
    if at < 0 or not model[at + 1 :]:
        raise ConfigError(
            f"AnyLLM: the model {model!r} names no provider; write 'provider/model', or give provider=..."
        )
    return model[:at], model[at + 1 :]


def _checked_key(sdk: Any, provider: str, options: dict[str, Any]) -> str | None:
    """The key that a client of this provider will have, as any-llm finds it, without making a client.

    Raises:
        ConfigError: no client can be made.
    """
    errors = import_sdk("any_llm.exceptions", "any-llm")
    found: dict[str, Any] = {}
    try:
        kind = sdk.AnyLLM.get_provider_class(provider)
        type(kind.__name__, (kind,), {"_init_client": lambda _, **given: found.update(given)})(**options)
    except errors.UnsupportedProviderError as exc:
        raise ConfigError(f"AnyLLM: {exc}; write one of them: AnyLLM('mistral/...')") from exc
    except errors.MissingApiKeyError as exc:
        raise ConfigError(
            f"AnyLLM: there is no API key for {provider!r}; set the environment variable {exc.env_var_name}, or write "
            f'AnyLLM(..., api_key=...). A server that asks for none, such as a local one, takes any: api_key="none"'
        ) from exc
    except ImportError as exc:
        raise ConfigError(f"AnyLLM: {exc}; install it with: pip install 'any-llm-sdk[{provider}]'") from exc
    return found.get("api_key")


class Side(Protocol):
    """A client, and the event loop that it is used on."""

    async def run(self, func: Callable[[Any], Awaitable[T]]) -> T:
        """Await ``func(client)`` there."""

    def iterate(self, make: Callable[[Any], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        """Iterate over ``make(client)`` there."""

    async def close(self) -> None: ...


@attrs.frozen
class _Here:
    """On asyncio."""

    client: Any

    async def run(self, func: Callable[[Any], Awaitable[T]]) -> T:
        return await func(self.client)

    def iterate(self, make: Callable[[Any], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        return make(self.client)

    async def close(self) -> None:
        await _close(self.client)


class _InThread:
    """Beside trio."""

    def __init__(self, make_client: Callable[[], Any]) -> None:
        from railtracks._concurrency._asyncio_thread import AsyncioThread  # as asyncio is not needed under trio else

        self._thread = AsyncioThread()
        self._make = make_client
        self._client: Any = None

    async def run(self, func: Callable[[Any], Awaitable[T]]) -> T:
        return await self._thread.run(lambda: func(self._made()))

    def iterate(self, make: Callable[[Any], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
        return self._thread.iterate(lambda: make(self._made()))

    def _made(self) -> Any:
        """Made there: some SDKs look for the event loop at once."""
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
    """any-llm has no way to close a client; the SDKs behind it have, under one of two names."""
    client = getattr(llm, "client", None)
    close = getattr(client, "aclose", None) or getattr(client, "close", None)
    if callable(close) and inspect.isawaitable(closing := close()):
        await closing
