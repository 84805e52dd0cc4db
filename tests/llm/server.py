"""A server on this machine that speaks the wire formats of OpenAI and Anthropic, and misbehaves when told to.

It speaks both of OpenAI's: chat completions and responses.

It runs in a thread, on sockets of its own; what it answers stands in a list of ``Answer``. It never sleeps: where an
answer is to come slowly, it holds it back until ``release`` is called or the client is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Self

import attrs

from tests.llm import responses
from tests.llm.rules import problem_with

PATIENCE = 10.0
"""Real seconds that a test waits for something that ought to happen at once."""

Where = Literal["headers", "body", "end"]
"""Before the headers, in the middle of the body (of the stream), or before its last byte."""


@attrs.frozen(kw_only=True)
class Call:
    """A tool that the model asks for. ``arguments`` as text stands in the answer as it is."""

    name: str
    arguments: dict[str, Any] | str = attrs.field(factory=dict)
    id: str | None = "given"
    extra: dict[str, Any] = attrs.field(factory=dict)

    @property
    def json(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@attrs.frozen(kw_only=True)
class Answer:
    """What the server does with one request.

    Args:
        text: What the model says; a stream gives it word by word.
        usage: Tokens in and out; None: not said.
        details: More of what the provider counts, as it says it.
        error: Of an HTTP status other than 200; ``{key}`` in it is the key that the client sent.
        hold: Where the answer is held back.
        drop: Where the connection is cut.
        cut: The second half is missing, as if that were all.
        event: Comes last in a stream of Anthropic's, in place of what ends it.
        finish: Say why it ended; a text: this.
        reasoning: What the model thinks, in the format of OpenAI as DeepSeek has it.
        streams: True: it comes as a stream, False: as a whole, whatever was asked for.
        raw: The body as it stands, in place of all that; its type is among the ``headers``.
        fields: Added to the answer's JSON, or taken from it where the value is None.
        items: In the format of responses: what comes before the text.
    """

    text: str = "Hello dear world"
    calls: Sequence[Call] = ()
    usage: tuple[int, int] | None = (3, 4)
    details: dict[str, Any] = attrs.field(factory=dict)
    refusal: str | None = None
    thinking: str | None = None
    status: int = 200
    error: str = "it did not work"
    hold: Where | None = None
    drop: Where | None = None
    cut: bool = False
    event: dict[str, Any] | None = None
    finish: bool | str = True
    reasoning: str | None = None
    streams: bool | None = None
    raw: str | None = None
    fields: dict[str, Any] = attrs.field(factory=dict)
    items: Sequence[dict[str, Any]] = ()
    headers: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Request:
    path: str
    headers: dict[str, str]
    body: Any
    connection: int

    @property
    def key(self) -> str:
        given = self.headers.get("x-api-key") or self.headers.get("api-key")
        return given or self.headers.get("authorization", "").removeprefix("Bearer ")


class Gone(Exception):
    """The connection is no more."""


class Server:
    """Runs while it is entered. Its methods are for the test's thread."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        """Those to come; after the last one there are only ``Answer()``."""
        self.requests: list[Request] = []
        self.connections = 0
        """How many were ever accepted."""
        self._open: set[asyncio.StreamWriter] = set()
        self._held = 0
        self._changed = threading.Condition()
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def open_connections(self) -> int:
        with self._changed:
            return len(self._open)

    def wait_all_closed(self) -> None:
        """Until no connection is open; AssertionError if that does not come about."""
        self._wait_until(lambda: not self._open, "a connection is still open")

    def wait_held(self) -> None:
        """Until an answer is being held back."""
        self._wait_until(lambda: self._held > 0, "no answer is held back")

    def wait_requests(self, count: int) -> None:
        self._wait_until(lambda: len(self.requests) >= count, f"fewer than {count} requests came")

    def release(self) -> None:
        """Let what is held back go on, now and later."""
        self._loop.call_soon_threadsafe(self._released.set)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="model-server")
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    # ---- in the server's thread

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop, self._released = asyncio.Event(), asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        # Accept no more, let asyncio's own tasks end in which it is accepting, and only then close: a connection that
        # is being accepted while its server closes is left open.
        self._loop.remove_reader(server.sockets[0])
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(others)
        server.close()
        for writer in self._open:  # of tasks that were cancelled before they began
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._open), return_exceptions=True)
        await server.wait_closed()

    def _wait_until(self, condition: Callable[[], bool], problem: str) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), problem

    @contextlib.contextmanager
    def _change(self) -> Iterator[None]:
        with self._changed:
            yield
            self._changed.notify_all()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with self._change():
            self.connections += 1
            self._open.add(writer)
        task = asyncio.ensure_future(self._serve(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        try:
            while (request := await _read(reader, number)) is not None:
                with self._change():
                    self.requests.append(request)
                    answer = self.answers.pop(0) if self.answers else Answer()
                await self._answer(request, answer, reader, writer)
        except (Gone, OSError, asyncio.IncompleteReadError):
            pass  # that is the end of the connection
        finally:
            with contextlib.suppress(OSError):
                writer.close()
                await writer.wait_closed()
            with self._change():
                self._open.discard(writer)

    async def _answer(
        self, request: Request, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async def reach(where: Where) -> None:
            await writer.drain()
            if answer.hold == where:
                await self._hold(reader)
            if answer.drop == where:
                raise Gone

        await reach("headers")
        head, pieces = _response(request, answer)
        writer.write(head)
        for piece in pieces[: len(pieces) // 2]:
            writer.write(piece)
        await reach("body")
        for piece in () if answer.cut else pieces[len(pieces) // 2 :]:
            writer.write(piece)
        await reach("end")
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async def _hold(self, reader: asyncio.StreamReader) -> None:
        with self._change():
            self._held += 1
        gone, released = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(self._released.wait())
        try:
            await asyncio.wait({gone, released}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise Gone
        finally:
            for waiter in (gone, released):
                waiter.cancel()
            await asyncio.gather(gone, released, return_exceptions=True)
            with self._change():
                self._held -= 1


async def _read(reader: asyncio.StreamReader, connection: int) -> Request | None:
    """The next request; None: there are no more."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(first.split()[1], headers, json.loads(body) if body else None, connection)


def _response(request: Request, answer: Answer) -> tuple[bytes, list[bytes]]:
    """The headers, and the body in chunks."""
    kind = "application/json"
    problem = problem_with(request.path, request.body) if request.body else None
    if problem is not None:
        answer = attrs.evolve(answer, status=400, error=problem)
    if answer.status != 200:
        text = answer.error.replace("{key}", request.key)
        parts = _halves({"type": "error", "error": {"type": "some_error", "message": text, "code": text}})
    elif answer.raw is not None:
        parts = [part.encode() for part in answer.raw.splitlines(keepends=True)]
    elif not (request.body.get("stream") if answer.streams is None else answer.streams):
        parts = _halves(_maker(request)(answer))
    else:
        kind = "text/event-stream"
        parts = list(map(str.encode, _events(request, answer)))
    headers = {"content-type": kind, "transfer-encoding": "chunked", **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} Whatever", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode(), [b"%x\r\n%s\r\n" % (len(part), part) for part in parts]


def _maker(request: Request) -> Callable[[Answer], dict[str, Any]]:
    kind = request.path.partition("?")[0].rpartition("/")[2]
    return {"messages": _anthropic, "responses": responses.whole}.get(kind, _openai)


def _halves(data: Any) -> list[bytes]:
    text = json.dumps(data).encode()
    return [text[: len(text) // 2], text[len(text) // 2 :]]


def _events(request: Request, answer: Answer) -> Iterator[str]:
    if request.path.endswith("/messages"):
        events = list(_anthropic_events(answer))
        for event in events if answer.event is None else [*events[:-2], answer.event]:
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        return
    if _maker(request) is responses.whole:
        for event in responses.events(answer):
            yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
        return
    asked = (request.body.get("stream_options") or {}).get("include_usage")
    for chunk in _openai_chunks(answer, usage=bool(asked)):
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _patched(data: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (data | fields).items() if value is not None}


def _words(text: str) -> list[str]:
    return [word + " " for word in text.split(" ")[:-1]] + text.split(" ")[-1:] if text else []


# ---- OpenAI


def _openai_usage(answer: Answer) -> dict[str, Any] | None:
    if answer.usage is None:
        return None
    given, made = answer.usage
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made, **answer.details}


def _openai_finish(answer: Answer) -> str | None:
    if not answer.finish or isinstance(answer.finish, str):
        return answer.finish or None
    return "tool_calls" if answer.calls else "stop"


def _openai(answer: Answer) -> dict[str, Any]:
    calls = [
        {"id": call_id(call, n), "type": "function", "function": {"name": call.name, "arguments": call.json}}
        for n, call in enumerate(answer.calls)
    ]
    message = {"role": "assistant", "content": answer.text or None, "refusal": answer.refusal}
    if calls:
        message["tool_calls"] = [  # type: ignore[assignment]
            _patched(call, given.extra) for call, given in zip(calls, answer.calls, strict=True)
        ]
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    return _patched(
        {
            "id": "answer-1", "object": "chat.completion", "created": 1, "model": "served-model",
            "choices": [{"index": 0, "message": message, "finish_reason": _openai_finish(answer)}],
            "usage": _openai_usage(answer),
        },
        answer.fields,
    )  # fmt: skip


def _openai_chunks(answer: Answer, *, usage: bool) -> Iterator[dict[str, Any]]:
    def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head = {"id": "answer-1", "object": "chat.completion.chunk", "created": 1, "model": "served-model"}
        return _patched(head | {"choices": [choice]} | more, answer.fields)

    yield chunk({"role": "assistant", "content": ""})
    for word in _words(answer.reasoning or ""):
        yield chunk({"reasoning_content": word})
    for word in _words(answer.text):
        yield chunk({"content": word})
    for word in _words(answer.refusal or ""):
        yield chunk({"refusal": word})
    for n, call in enumerate(answer.calls):
        opening = _patched({"index": n, "id": call_id(call, n), "type": "function"}, call.extra)
        yield chunk({"tool_calls": [opening | {"function": {"name": call.name, "arguments": ""}}]})
        for part in (call.json[:5], call.json[5:]):
            yield chunk({"tool_calls": [{"index": n, "function": {"arguments": part}}]})
    yield chunk({}, _openai_finish(answer))
    if usage and answer.usage is not None:
        yield chunk({}, choices=[], usage=_openai_usage(answer))


def call_id(call: Call, number: int) -> str | None:
    return f"id-{number}" if call.id == "given" else call.id


# ---- Anthropic


def _anthropic_usage(answer: Answer) -> dict[str, Any]:
    given, made = answer.usage or (0, 0)
    return {"input_tokens": given, "output_tokens": made, **answer.details}


def _anthropic_stop(answer: Answer) -> str:
    if isinstance(answer.finish, str):
        return answer.finish
    return "tool_use" if answer.calls else "end_turn"


def _anthropic(answer: Answer) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = []
    if answer.thinking:
        blocks.append({"type": "thinking", "thinking": answer.thinking, "signature": "s"})
    if answer.text:
        blocks.append({"type": "text", "text": answer.text})
    for n, call in enumerate(answer.calls):
        blocks.append({"type": "tool_use", "id": call_id(call, n), "name": call.name, "input": call.arguments})
    head = {"id": "answer-1", "type": "message", "role": "assistant", "model": "served-model"}
    rest = {"content": blocks, "stop_reason": _anthropic_stop(answer), "stop_sequence": None}
    return _patched(head | rest | {"usage": _anthropic_usage(answer)}, answer.fields)


def _anthropic_events(answer: Answer) -> Iterator[dict[str, Any]]:
    start = _anthropic(attrs.evolve(answer, calls=(), text="", thinking=None)) | {"stop_reason": None}
    start["usage"] = start["usage"] | {"output_tokens": 1}
    yield {"type": "message_start", "message": start}
    index = 0
    if answer.thinking:
        yield from _block(index, {"type": "thinking", "thinking": "", "signature": ""}, [
            {"type": "thinking_delta", "thinking": answer.thinking}, {"type": "signature_delta", "signature": "s"},
        ])  # fmt: skip
        index += 1
    yield {"type": "ping"}
    if answer.text:
        deltas = [{"type": "text_delta", "text": word} for word in _words(answer.text)]
        yield from _block(index, {"type": "text", "text": ""}, deltas)
        index += 1
    for n, call in enumerate(answer.calls):
        parts = [call.json[:5], call.json[5:]] if call.json != "{}" else []
        block: dict[str, Any] = {"type": "tool_use", "id": call_id(call, n), "name": call.name, "input": {}}
        yield from _block(index + n, block, [{"type": "input_json_delta", "partial_json": part} for part in parts])
    delta = {"stop_reason": _anthropic_stop(answer), "stop_sequence": None}
    counted = _anthropic_usage(answer)
    yield {
        "type": "message_delta",
        "delta": delta,
        "usage": {name: counted[name] for name in counted if name != "input_tokens"},
    }
    yield {"type": "message_stop"}


def _block(index: int, block: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield {"type": "content_block_start", "index": index, "content_block": block}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}
