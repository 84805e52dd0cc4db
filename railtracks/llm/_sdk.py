"""What the adapters of the providers' SDKs share: keys, errors without keys, and answers that come as a stream."""

from __future__ import annotations

import contextlib
import operator
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import cache
from importlib import import_module
from inspect import signature
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import anyio
import attrs

from railtracks._shield import shielded
from railtracks.exceptions import ConfigError
from railtracks.llm._clients import Client, Clients
from railtracks.llm._messages import Message
from railtracks.llm._model import Completion, OutputSchema, ToolSchema
from railtracks.state import Secret
from railtracks.state._codec import Encoder
from railtracks.state._redact import names_secret
from railtracks.state._secrets import Secrets

C = TypeVar("C", bound=Client)

DRAIN_DEADLINE = 1.0
"""Seconds that the end of a stream may take to come after its last event; else its connection is not used again."""


def import_sdk(module: str, extra: str) -> Any:
    """The module of an SDK. ConfigError if it cannot be imported, with the command that installs it."""
    try:
        return import_module(module)
    except ImportError as exc:
        raise ConfigError(
            f"the package {module!r} cannot be imported: {exc}; install it with: pip install 'railtracks[{extra}]'"
        ) from exc


def client_maker(sdk: Any, kind: Callable[..., Any], **options: Any) -> Callable[[], Any]:
    """What makes the clients of an SDK, quickly: a TLS context, of which one will do for all, takes 30 ms to make.

    Args:
        sdk: Its module.
        kind: The class.
        options: For it; those that are None are left to the SDK.
    """
    given = {name: value for name, value in options.items() if value is not None}
    http = sdk.DefaultAsyncHttpxClient
    homes = (base.__module__.partition(".")[0] for base in http.__mro__)
    context = _tls_context(next(home for home in homes if home.startswith("httpx")))
    return lambda: kind(http_client=http(verify=context), **given)


@cache
def _tls_context(httpx: str) -> Any:
    return import_module(httpx).create_ssl_context()


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


BROKEN_OFF = "The connection was closed before the answer was complete."
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

    __slots__ = ("secrets",)

    def __init__(self, keys: Iterable[str]) -> None:
        self.secrets = Secrets()
        for key in keys:
            self.secrets.learn(key)

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
            text = self.secrets.hide(value)
            return value if text == value else text
        if isinstance(value, bytes):
            data = self.secrets.hide(value.decode("latin-1")).encode("latin-1")
            return value if data == value else data
        if type(value) not in (dict, list, tuple) or id(value) in around:
            return value
        parts = list(value.items()) if type(value) is dict else value
        clean = [self._without(part, (*around, id(value))) for part in parts]
        return value if all(map(operator.is_, clean, parts)) else type(value)(clean)


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
        secret = [value for header, value in headers.items() if names_secret(header)]
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
        encoder = Encoder(Secrets())
        shown = (f"{name}={encoder.member(name, value)!r}" for name, value in self._settings.items())
        return self._keys.secrets.hide(f"{type(self).__name__}({', '.join([repr(self._name), *shown])})")

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


class Response(Protocol):
    """What this needs of the response of httpx, and of its successors, whose body is not read yet."""

    @property
    def request(self) -> Any: ...

    def aiter_bytes(self) -> Any: ...

    async def aclose(self) -> None: ...


class Events:
    """The server-sent events of a response, each the text of its ``data``.

    The SDKs have iterators for this. They are generators inside generators, which stay suspended when the outermost is
    left, and with OpenAI's also at the ordinary end of every stream; trio warns of each of them.

    Args:
        response: Closed by ``aclose``.
        sdk: Its ``APIConnectionError`` and ``APITimeoutError`` are raised for what breaks on the way.
    """

    def __init__(self, response: Response, sdk: Any) -> None:
        self._response = response
        self._sdk = sdk
        self._chunks = response.aiter_bytes()
        self._rest = b""
        self._data: list[str] = []
        self._ready: deque[str] = deque()

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> str:
        while not self._ready:
            self._feed(await self._read())
        return self._ready.popleft()

    async def _read(self) -> bytes:
        try:
            return await self._chunks.__anext__()  # type: ignore[no-any-return]
        except Exception as exc:
            bases = {base.__name__ for base in type(exc).__mro__ if base.__module__.startswith("httpx")}
            if "TimeoutException" in bases:
                raise self._sdk.APITimeoutError(request=self._response.request) from exc
            if "TransportError" in bases:
                raise self._sdk.APIConnectionError(request=self._response.request) from exc
            raise

    def _feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            name, _, value = line.decode("utf-8", "replace").rstrip("\r").partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            elif not name and not value and self._data:  # an empty line ends the event; one with ":" is a comment
                self._ready.append("\n".join(self._data))
                self._data.clear()

    async def finish(self) -> None:
        """There are no more events: read what little of the response is left, so that its connection can be kept."""
        with anyio.move_on_after(DRAIN_DEADLINE), contextlib.suppress(Exception):  # the answer is complete all the same
            while True:
                await self._chunks.__anext__()

    async def aclose(self) -> None:
        """Close the response, and its connection if there is more to come on it. Runs to its end when cancelled."""
        await shielded(self._close)

    async def _close(self) -> None:
        await self._response.aclose()
        # httpx's generators are suspended inside each other. Reading from what is closed fails, and unwinds them all;
        # there is nobody whom that failure concerns.
        with contextlib.suppress(Exception):
            while True:
                await self._chunks.__anext__()
