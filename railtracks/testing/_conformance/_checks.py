"""The checks: each is a function of a case, and raises AssertionError."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from functools import partial

import anyio
import attrs
from anyio.lowlevel import checkpoint

from railtracks import Secret, Session, agent_node, call
from railtracks._test_probe import attachment_types_of
from railtracks.exceptions import Truncated
from railtracks.llm import (
    AssistantMessage,
    Attachment,
    Audio,
    Completion,
    Document,
    Image,
    Message,
    Model,
    OutputDelta,
    OutputSchema,
    Reasoning,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolSchema,
    Usage,
    UserMessage,
)
from railtracks.testing._answers import Answer, answer, tool_call
from railtracks.testing._conformance._asking import (
    BOTH_WAYS,
    assert_hidden,
    assert_said,
    cancelled_when,
    error_of,
    open_stream,
    streamed,
    whole,
)

ModelFactory = Callable[[Sequence[Answer]], Model]
"""Makes a model whose provider gives these answers, one for each request."""

_DAY = 86_400.0
_TEXT = "Hello dear world"
_ASKED: list[Message] = [SystemMessage("Be brief."), UserMessage("Greet the world.")]
_CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_TOOLS = [ToolSchema("forecast", "Forecast the weather.", _CITY)]
_OUTPUT = OutputSchema("place", {**_CITY, "additionalProperties": False})

_ATTACHED: dict[str, Attachment] = {
    "image": Image(
        base64="iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
    ),
    "audio": Audio(base64="UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA=="),
    "document": Document(b"Once upon a time", media_type="text/plain", name="story.txt"),
}
"""The smallest of each type: a red dot, a sample of silence, and a text."""


@attrs.frozen
class Case:
    """What a check is about.

    Args:
        make: Makes the model.
        is_scripted: Whether its provider gives the answers that ``make`` is called with.
    """

    make: ModelFactory
    is_scripted: bool


_Run = Callable[[Case], Awaitable[None]]


@attrs.frozen
class Check:
    """A check, and whether it needs a provider that gives the answers which it asks for."""

    run: _Run
    needs_script: bool


checks: dict[str, Check] = {}
"""All of them, by their names."""


def check(needs_script: bool = True) -> Callable[[_Run], _Run]:
    """Return a decorator that adds a check under the name of its function."""

    def register(func: _Run) -> _Run:
        checks[func.__name__] = Check(func, needs_script)
        return func

    return register


# ---- what a model says of itself


@check(needs_script=False)
async def says_what_it_is(case: Case) -> None:
    model = case.make([])
    for name in ("name", "provider"):
        value = getattr(model, name)
        assert value, f"its {name} is {value!r}; expected a text"
        assert isinstance(value, str), f"its {name} is {value!r}; expected a text"
    assert isinstance(model.settings, Mapping), f"its settings are {model.settings!r}; expected a mapping"
    assert isinstance(model.api_key, Secret | None), f"its api_key is {type(model.api_key)}; expected rt.Secret or None"


@check(needs_script=False)
async def hides_its_key(case: Case) -> None:
    model = case.make([])
    if model.api_key is not None:
        shown = {"repr": repr(model), "settings": repr(dict(model.settings)), "name": model.name}
        shown["attributes"] = repr(getattr(model, "__dict__", {}))
        for what, text in shown.items():
            assert model.api_key.value not in text, f"its {what} shows the key; hold it as rt.Secret(key)"


# ---- answers


@check(needs_script=False)
async def answers(case: Case) -> None:
    messages = [*_ASKED]
    completion = await whole(case.make([answer(_TEXT)]), messages)
    assert messages == _ASKED, "complete() changed the list of messages; make a new one"
    if case.is_scripted:
        assert_said(completion, _TEXT)
        assert not completion.message.tool_calls, f"it has tool calls that nobody made: {completion}"


@check(needs_script=False)
async def streams_what_it_answers(case: Case) -> None:
    given = answer(_TEXT, usage=Usage(3, 4))
    model, pieces = case.make([given, given]), list[str | Reasoning | OutputDelta]()
    by_stream = await streamed(model, _ASKED, pieces)
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    assert text == by_stream.message.content, (
        f"the pieces say {text!r}, and the completion {by_stream.message.content!r}"
    )
    if case.is_scripted:
        as_one = await whole(model, _ASKED)
        for name in ("message", "usage", "finish_reason"):
            one, other = getattr(by_stream, name), getattr(as_one, name)
            assert one == other, f"the {name} of stream() is {one!r}, and that of complete() is {other!r}"


@check()
async def counts_usage(case: Case) -> None:
    for ask in BOTH_WAYS:
        completion = await ask(case.make([answer(_TEXT, usage=Usage(3, 4))]), _ASKED)
        assert completion.usage == Usage(3, 4), f"the usage is {completion.usage!r}; the provider said Usage(3, 4)"


@check()
async def says_that_an_answer_was_cut(case: Case) -> None:
    agent = agent_node("Teller", llm=case.make([answer(_TEXT, max_tokens=2)]))
    async with Session(save_state=False, logging_setting="QUIET"):
        try:
            found = await call(agent, "Greet the world.")
        except Truncated:
            return
    raise AssertionError(f"an answer that was cut passes for a whole one: finish_reason is {found.finish_reason!r}")


@check(needs_script=False)
async def takes_an_output_schema(case: Case) -> None:
    for ask in BOTH_WAYS:
        completion = await ask(case.make([answer('{"city": "Oslo"}')]), _ASKED, output=_OUTPUT)
        try:
            place = json.loads(completion.message.content)
        except ValueError:
            place = None
        is_place = isinstance(place, dict) and "city" in place
        assert is_place, f"{completion.message.content!r} is not of the schema"


# ---- tools


@check()
async def asks_for_tools(case: Case) -> None:
    calls = [tool_call("forecast", city="Oslo", days=[1, None]), tool_call("forecast", city="北京")]
    for ask in BOTH_WAYS:
        completion = await ask(case.make([answer("Let me see.", *calls)]), _ASKED, tools=_TOOLS)
        assert_said(completion, "Let me see.")
        found = [(each.name, each.arguments) for each in completion.message.tool_calls]
        expected = [(each.name, each.arguments) for each in calls]
        assert found == expected, f"the tool calls are {found}; the provider sent {expected}"


@check()
async def keeps_arguments_that_are_not_json(case: Case) -> None:
    """The agent has the model try again: an error here would end its run."""
    for ask in BOTH_WAYS:
        model = case.make([answer(ToolCall("", "forecast", '{"city": '))])
        found = [each.arguments for each in (await ask(model, _ASKED, tools=_TOOLS)).message.tool_calls]
        texts = [each for each in found if isinstance(each, str) and "city" in each]
        assert len(texts) == 1, f"the arguments are {found}; keep the text if it is not a JSON object"


_CALLS = (ToolCall("call_1", "forecast", {"city": "Oslo"}), ToolCall("call_2", "forecast", {"city": "Rome"}))
_RESULTS = [ToolMessage("snow", "call_1", "forecast"), ToolMessage("lost", "call_2", "forecast", is_error=True)]
_HISTORIES: dict[str, list[Message]] = {
    "with results of tools": [*_ASKED, AssistantMessage("", _CALLS), *_RESULTS],
    "with calls of tools that have no result": [*_ASKED, AssistantMessage("", _CALLS), UserMessage("Go on.")],
    "with one result of two": [*_ASKED, AssistantMessage("", _CALLS), _RESULTS[1], UserMessage("Go on.")],
    "with a result without a call": [*_ASKED, AssistantMessage("Hm."), _RESULTS[0], UserMessage("Go on.")],
    "with identifiers that repeat": [
        *_ASKED, AssistantMessage("", _CALLS[:1]), _RESULTS[0], AssistantMessage("", _CALLS[:1]), _RESULTS[0],
    ],
    "with arguments that are not JSON": [
        *_ASKED, AssistantMessage("", [ToolCall("call_1", "forecast", "{")]), _RESULTS[0],
    ],
    "with what belongs to another provider": [
        *_ASKED, AssistantMessage("Hm.", extra={"another": {"signature": "x"}}), UserMessage("Go on."),
    ],
    "with an answer that says nothing": [*_ASKED, AssistantMessage(""), UserMessage("Go on.")],
}  # fmt: skip


@check(needs_script=False)
async def takes_any_history(case: Case) -> None:
    for what, messages in _HISTORIES.items():
        for ask in BOTH_WAYS:
            try:
                await ask(case.make([answer(_TEXT)]), messages, tools=_TOOLS)
            except Exception as exc:
                raise AssertionError(f"a conversation {what} is refused: {exc!r}") from exc


@check(needs_script=False)
async def takes_attachments(case: Case) -> None:
    for kind in attachment_types_of(case.make([])):
        assert kind in _ATTACHED, f"its attachment_types have {kind!r}; use {', '.join(map(repr, _ATTACHED))}"
        attached, draw = [_ATTACHED[kind]], ToolCall("call_1", "draw")
        conversations: list[list[Message]] = [
            [UserMessage("What is this?", attachments=attached)],
            [*_ASKED, AssistantMessage("", [draw]), ToolMessage("Here:", "call_1", "draw", attachments=attached)],
        ]
        for messages in conversations:
            for ask in BOTH_WAYS:
                try:
                    await ask(case.make([answer(_TEXT)]), messages, tools=_TOOLS)
                except Exception as exc:
                    raise AssertionError(f"{messages[-1]} is refused: {exc!r}") from exc


# ---- errors


@check()
async def lets_errors_through(case: Case) -> None:
    for ask in BOTH_WAYS:
        model = case.make([answer(error=RuntimeError("it did not work"))])
        error = await error_of(partial(ask, model, _ASKED), ask.__name__)
        assert_hidden(model, error)


@check()
async def raises_when_an_answer_breaks_off(case: Case) -> None:
    for ask in BOTH_WAYS:
        model = case.make([answer(_TEXT, error=ConnectionError("lost"))])
        error = await error_of(partial(ask, model, _ASKED), "an answer that broke off")
        assert_hidden(model, error)


# ---- cancellation


@check()
async def can_be_cancelled(case: Case) -> None:
    async def steps(count: int) -> None:
        for _ in range(count):
            await checkpoint()

    for ask in BOTH_WAYS:
        for count in (1, 2, 10, 100):
            model = case.make([answer(_TEXT, delay=_DAY), answer(_TEXT)])
            await cancelled_when(partial(ask, model, _ASKED), partial(steps, count), "a request")


@check()
async def can_be_cancelled_while_it_streams(case: Case) -> None:
    model, has_begun = case.make([answer(_TEXT, pause=_DAY), answer(_TEXT)]), anyio.Event()

    async def read() -> None:
        try:
            async with aclosing(open_stream(model, _ASKED)) as stream:
                async for _ in stream:
                    has_begun.set()
        finally:
            has_begun.set()  # also if nothing came

    await cancelled_when(read, has_begun.wait, "a stream")
    assert_said(await whole(model, _ASKED), _TEXT)


@check(needs_script=False)
async def can_be_left_while_it_streams(case: Case) -> None:
    model = case.make([answer(_TEXT, pause=_DAY), answer(_TEXT)])
    async with aclosing(open_stream(model, _ASKED)) as stream:
        first = await anext(stream)
        if case.is_scripted:
            is_piece = isinstance(first, str) and first != _TEXT
            assert is_piece, f"the first piece is {first!r}; yield each as it comes"
    completion = await whole(model, _ASKED)
    if case.is_scripted:
        assert_said(completion, _TEXT)


@check(needs_script=False)
async def answers_several_at_once(case: Case) -> None:
    model, found = case.make([answer(_TEXT)] * 4), list[Completion]()

    async def ask(way: Callable[..., Awaitable[Completion]]) -> None:
        found.append(await way(model, _ASKED))

    async with Session(save_state=False, logging_setting="QUIET"), anyio.create_task_group() as group:
        for way in BOTH_WAYS * 2:
            group.start_soon(ask, way)
    for completion in found if case.is_scripted else ():
        assert_said(completion, _TEXT)
