"""A model that records what another one was asked and has answered, and replays it in tests."""

from __future__ import annotations

import bisect
import copy
import difflib
import itertools
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, get_args

from anyio.lowlevel import checkpoint

from railtracks._test_probe import (
    ATTACHMENT_TYPES,
    attachment_types_of,
    counted,
    merged_settings,
    redact_data,
    with_cost,
    with_settings,
)
from railtracks.exceptions import ConfigError
from railtracks.llm import Completion, Message, MessageHistory, Model, OutputSchema, Price, ToolSchema
from railtracks.state import Secret
from railtracks.testing._cassettes import _files
from railtracks.testing._cassettes._exchanges import (
    CassetteError,
    Exchange,
    Part,
    Plain,
    as_json,
    end_of,
    messages_of,
    pieces_of,
    plain_outcome,
    plain_request,
)

Mode = Literal["replay", "missing", "anew"]
_MODES: tuple[str, ...] = get_args(Mode)
_MAX_LINES = 80
"""Lines of a difference that an error shows at most."""


class Cassette:
    """A model that replays recorded exchanges with another one, and records them.

    Record them once, with the model and its key, and replay them in tests from then on::

        model = Cassette("tests/cassettes/weather.json", rt.llm.OpenAI("gpt-5"), mode="missing")
        model = Cassette("tests/cassettes/weather.json")

    A request is on the cassette if its messages, tools, output schema and settings of the call are equal to those of an
    exchange, whether it is for a stream or not. Each exchange is replayed once, equal ones in their order. A request
    that is cancelled, and a stream that is left before its end, are not recorded.

    The file is JSON. In place of secrets it has a mask: of the key of the model, of what the session knows as a secret,
    of texts that have the shape of one, and of values under a name such as ``password``. Requests are compared without
    secrets, too. What is replayed has the masks.

    Args:
        path: The file.
        model: The model whose exchanges are recorded. Not needed to replay.
        mode: "replay": a request that is not on the cassette is an error. "missing": the model is asked, and the
            exchange is added. "anew": the model is asked each time, and the exchanges replace the file's.
        secrets: Further texts that must not be in the file, of 6 characters or more.

    Raises:
        CassetteError: There is no such file to replay, it is not a cassette, or it is that of another model.
        ConfigError: The mode needs a model, or is unknown.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        model: Model | None = None,
        *,
        mode: Mode = "replay",
        secrets: Iterable[str | Secret[str]] = (),
    ) -> None:
        if mode not in _MODES:
            raise ConfigError(f"Cassette: mode is {mode!r}; use one of {', '.join(map(repr, _MODES))}")
        if model is None and mode != "replay":
            raise ConfigError(
                f"Cassette: mode={mode!r} needs a model to ask; write Cassette({str(path)!r}, model, ...)"
            )
        if not isinstance(path, str | PathLike):
            raise ConfigError(f"Cassette: the path is {path!r}; write Cassette('cassettes/weather.json')")
        if model is not None and not (hasattr(model, "provider") and hasattr(model, "name")):
            raise ConfigError(f"Cassette: {model!r} is not a model; write Cassette({str(path)!r}, model)")
        self._path, self._model, self._mode = Path(path), model, mode
        self._secrets = [each if isinstance(each, Secret) else Secret(each) for each in secrets]
        self._exchanges: list[Exchange] = []
        self._numbers = itertools.count(1)
        self._changed: dict[str, Any] = {}  # settings of single calls
        self._description = {} if model is None else self._described(model)
        if mode == "replay" or (mode == "missing" and self._path.exists()):
            self._load()

    def __repr__(self) -> str:
        return f"Cassette({str(self._path)!r}, mode={self._mode!r})"

    @property
    def name(self) -> str:
        """The name of the recorded model."""
        return str(self._description["name"])

    @property
    def provider(self) -> str:
        """The provider of the recorded model."""
        return str(self._description["provider"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the recorded model, without secrets."""
        return merged_settings(self._description["settings"], self._changed, {})

    @property
    def api_key(self) -> Secret[str] | None:
        """The key of the model that is recorded; None without one."""
        return None if self._model is None else self._model.api_key

    @property
    def price(self) -> Price | None:
        """What the tokens cost of the model that is recorded; None without one. What was recorded has its cost."""
        return getattr(self._model, "price", None)

    @property
    def base_url(self) -> str | None:
        """The address of the server of the model that is recorded; None without one."""
        return getattr(self._model, "base_url", None)

    @property
    def attachment_types(self) -> Collection[str]:
        """The types of attachments that the model takes; all types without one."""
        return tuple(ATTACHMENT_TYPES) if self._model is None else attachment_types_of(self._model)

    def with_settings(self, **settings: Any) -> Self:
        """Return the same cassette for the model with other settings, which are part of the requests then.

        Raises:
            ConfigError: The recorded model does not take them.
        """
        made = copy.copy(self)
        made._changed = {**self._changed, **settings}
        if self._model is not None:
            made._model = with_settings(self._model, settings, "Cassette")
        return made

    @property
    def unused(self) -> list[MessageHistory]:
        """The messages of each exchange that was neither replayed nor recorded since the last ``rewind``."""
        return [messages_of(each.request["messages"]) for each in self._exchanges if not each.is_used]

    def rewind(self) -> None:
        """Have all exchanges replayed once more, as for another run."""
        for each in self._exchanges:
            each.is_used = False

    async def complete(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> Completion:
        """Return the recorded answer to a request, or ask the model, and record what it answers.

        Raises:
            CassetteError: The request is not on the cassette, and must not be recorded.
            Exception: The recorded error, or what the model raises.

        Cancellation: Cancels the request to the model; nothing is recorded.
        """
        request = self._request(messages, tools, output)
        await checkpoint()  # before an exchange is used, as this may be cancelled
        if (exchange := self._find(request)) is not None:
            return end_of(exchange.outcome)
        model, number = self._recorded_model, next(self._numbers)
        try:
            completion = await model.complete(messages, tools=tools, output=output)
        except Exception as exc:
            self._record(number, request, plain_outcome(None, exc))
            raise
        if isinstance(completion, Completion):
            completion = with_cost(self, completion)
            self._record(number, request, plain_outcome(None, completion))
        return completion

    async def stream(
        self, messages: Sequence[Message], *, tools: Sequence[ToolSchema] = (), output: OutputSchema | None = None
    ) -> AsyncGenerator[Part | Completion, None]:
        """Yield the recorded pieces of an answer, then the completion; or those of the model, and record them.

        Raises and is cancelled as ``complete``. An answer that was not recorded as a stream comes in one piece.
        """
        request = self._request(messages, tools, output)
        if (exchange := self._find(request)) is not None:
            async with aclosing(self._replayed(exchange)) as replayed:
                async for each in replayed:
                    yield each
            return
        model, number, pieces = self._recorded_model, next(self._numbers), list[Part]()
        try:
            async with aclosing(model.stream(messages, tools=tools, output=output)) as stream:
                async for each in stream:
                    if isinstance(each, Completion):  # recorded first, as a consumer may leave here
                        each = with_cost(self, each)
                        self._record(number, request, plain_outcome(pieces, each))
                    else:
                        pieces.append(each)
                    yield each
        except Exception as exc:
            self._record(number, request, plain_outcome(pieces, exc))
            raise

    # ---- what is on the cassette

    def _load(self) -> None:
        if not self._path.exists():
            raise CassetteError(
                f"there is no cassette {self._path}; record it: Cassette({str(self._path)!r}, model, mode='missing')"
            )
        recorded, self._exchanges = _files.read(self._path)
        self._numbers = itertools.count(len(self._exchanges) + 1)
        if self._model is not None and recorded != self._description:
            raise CassetteError(
                f"{self._path} was recorded with another model: {recorded}, and not {self._description}; record it "
                f"anew: Cassette({str(self._path)!r}, model, mode='anew')"
            )
        self._description = recorded

    def _described(self, model: Model) -> Plain:
        plain = {"provider": model.provider, "name": model.name, "settings": dict(model.settings)}
        return self._redacted(as_json(plain))

    def _request(self, messages: Sequence[Message], tools: Sequence[ToolSchema], output: OutputSchema | None) -> Plain:
        plain = plain_request(messages, tools, output)
        return self._redacted({**plain, "settings": as_json(self._changed)} if self._changed else plain)

    def _redacted(self, data: Plain) -> Plain:
        key = self.api_key
        secrets = [each.value for each in (*self._secrets, *(() if key is None else (key,)))]
        redacted: Plain = redact_data(data, secrets)
        return redacted

    @staticmethod
    async def _replayed(exchange: Exchange) -> AsyncGenerator[Part | Completion, None]:
        """Yield the pieces and the end of an exchange. If they are left before, it can be replayed once more.

        So it is when it is recorded: a stream that is left is not on the cassette, and the request after it is.
        """
        is_over = False
        try:
            for piece in pieces_of(exchange.outcome):
                await checkpoint()
                yield piece
            await checkpoint()
            is_over = True
        finally:
            exchange.is_used = is_over
        yield end_of(exchange.outcome)

    def _find(self, request: Plain) -> Exchange | None:
        """Return the first exchange with this request that was not used; None: the model is to be asked.

        The exchange is used then.
        """
        for exchange in self._exchanges:
            if not exchange.is_used and exchange.request == request:
                exchange.is_used = True
                return exchange
        if self._mode == "replay":
            raise CassetteError(self._difference(request))
        return None

    @property
    def _recorded_model(self) -> Model:
        assert self._model is not None  # as the mode is not "replay"
        return self._model

    def _record(self, number: int, request: Plain, outcome: Plain) -> None:
        """Add an exchange, and write the file: at once, and without a pause, so that no two writers meet."""
        exchange = Exchange(number, request, self._redacted(outcome), is_used=True)
        bisect.insort(self._exchanges, exchange, key=lambda each: each.number)
        _files.write(self._path, self._description, self._exchanges)

    def _difference(self, request: Plain) -> str:
        """Return what is to be said of a request that is not on the cassette."""
        what = f"the cassette {self._path} has no exchange for this request"
        how = (
            f"To record it, write Cassette({str(self._path)!r}, model, mode='missing'); to record all, mode='anew'. "
            f"cassette.rewind() replays all exchanges once more"
        )
        used = [each.number for each in self._exchanges if each.request == request]
        if used:
            return (
                f"{what}: it was made {counted(len(used), 'time')} before, which is as often as it is recorded. {how}"
            )
        candidates = [each for each in self._exchanges if not each.is_used] or self._exchanges
        sent = [*_files.lines_of(request)]
        if not candidates:
            return "\n".join([f"{what}: it is empty. What was sent:", *sent[:_MAX_LINES], how])

        def likeness(exchange: Exchange) -> float:
            return difflib.SequenceMatcher(None, [*_files.lines_of(exchange.request)], sent, autojunk=False).ratio()

        nearest = max(candidates, key=likeness)
        recorded = [*_files.lines_of(nearest.request)]
        lines = [*difflib.unified_diff(recorded, sent, f"exchange {nearest.number}", "sent", n=2, lineterm="")]
        more = [f"... and {len(lines) - _MAX_LINES} more lines"] if len(lines) > _MAX_LINES else []
        return "\n".join([f"{what}. The nearest one differs:", *lines[:_MAX_LINES], *more, how])
