"""Where agents meet the edges: other event loops, ended sessions, models that are broken, and what changes them."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks._schema._arguments import ArgumentError, structured_output
from railtracks.agents._histories import message_histories
from railtracks.exceptions import LLMError, NodeCreationError, SessionError
from railtracks.llm import AssistantMessage, Completion
from railtracks.llm._providers._clients import Clients
from railtracks.state import MemoryStore, Status
from railtracks.testing import ScriptedModel, tool_call


def scripted(*answers, name="Agent", words=False, **options):
    return rt.agent_node(name, llm=ScriptedModel(answers, words=words), **options)


async def texts_of(stream):
    return [chunk.text async for chunk in stream]


# ---- streams where they cannot be


@pytest.mark.parametrize("inner", ["asyncio", "trio"])
async def test_what_is_said_in_the_event_loop_of_a_thread_is_not_heard_and_waits_for_nobody(inner):
    far, near = scripted("far", name="Far"), scripted("near", name="Near")

    @rt.function_node
    def node():
        with rt.Session(backend=inner, run_identifier="inner"):
            said = rt.call_sync(far, "x").content
        return said, rt.call_sync(near, "x").content

    async with rt.Session():
        chunks = [chunk async for chunk in rt.astream(node)]
    assert [chunk.text for chunk in chunks] == ["near", ""]
    assert chunks[-1].response == ("far", "near")


@pytest.mark.parametrize("inner", ["asyncio", "trio"])
async def test_a_stream_in_the_event_loop_of_a_thread_is_refused(inner):
    refused = []

    async def main():
        with pytest.raises(
            SessionError, match=r"came in another event loop than its session's; .*rt\.call_sync"
        ) as told:
            with anyio.fail_after(5):
                await texts_of(rt.astream(scripted("never"), "x"))
        refused.append(told.value)

    def node():
        anyio.run(main, backend=inner)
        return str(rt.call_sync(scripted("said"), "x"))

    async with rt.Session() as session:
        assert await rt.call(node) == "said"
    assert [type(each) for each in refused] == [SessionError]
    assert {record.status for record in session.info.records} == {Status.COMPLETED}


@pytest.mark.parametrize("inner", ["asyncio", "trio"])
def test_a_stream_in_the_event_loop_of_a_thread_of_a_plain_session_is_refused(inner, backend):
    async def main():
        with pytest.raises(SessionError, match="came in another event loop than its session's"), anyio.fail_after(5):
            await texts_of(rt.astream(scripted("never"), "x"))

    def node():
        anyio.run(main, backend=inner)
        return "refused"

    with rt.Session(backend=backend):
        assert rt.call_sync(node) == "refused"


async def test_a_child_of_the_session_streams_after_the_body():
    agent = scripted("first", "second")
    found = []

    async def child():
        await anyio.sleep(1)
        assert body_is_over
        found.extend(await texts_of(rt.astream(agent, "x")))

    body_is_over = []
    async with rt.Session() as session:
        session.start_soon(child)
        session.start_soon(child)
        body_is_over.append(True)
    assert sorted(found) == ["", "", "first", "second"]
    assert {record.status for record in session.info.records} == {Status.COMPLETED}


async def test_a_child_of_the_session_that_keeps_its_stream_does_not_hold_the_session():
    kept = []

    async def child():
        await anyio.sleep(1)
        stream = rt.astream(rt.agent_node(llm=ScriptedModel(["one two"])), "x")
        kept.append(stream)
        return (await anext(stream)).text

    async with rt.Session() as session:
        session.start_soon(child)
    assert [record.status for record in session.info.records] == [
        Status.COMPLETED, Status.CANCELLED, Status.CANCELLED,
    ]  # fmt: skip


@pytest.mark.parametrize("after_body", [False, True])
async def test_a_stream_in_a_callback_is_refused(after_body):
    told = []

    async def callback(_):
        try:
            await texts_of(rt.astream(scripted("never"), "x"))
        except SessionError as exc:
            told.append(str(exc))

    async def node():
        await anyio.sleep(1)
        await rt.broadcast("now")

    async with rt.Session(broadcast_callback=callback) as session:
        if after_body:
            session.start_soon(node)
        else:
            await rt.call(node)
    (text,) = told
    assert "in a subscriber's callback" in text
    assert "stream in a node" in text
    assert [record.name for record in session.info.records] == ["node"]


async def test_a_node_that_a_callback_calls_may_stream():
    found = []

    async def node():
        found.extend(await texts_of(rt.astream(scripted("said"), "x")))

    async def callback(_):
        await rt.call(node)

    async with rt.Session(broadcast_callback=callback):
        await rt.broadcast("now")
    assert found == ["said", ""]


async def test_a_task_that_the_body_made_may_not_stream_after_it():
    told = []

    async def late():
        await anyio.sleep(1)
        try:
            await texts_of(rt.astream(scripted("never"), "x"))
        except SessionError as exc:
            told.append(str(exc))

    async def slow():
        await anyio.sleep(2)

    async with anyio.create_task_group() as group:
        async with rt.Session() as session:
            session.start_soon(slow)
            group.start_soon(late)
        assert [record.name for record in session.info.records] == ["slow"]
        (text,) = told  # the session ended after that
    assert "after the session's body had ended" in text


# ---- streams of what need not run again


def heard(chunks, session):
    """What was said, and by whom, as the records of this session know them."""
    nodes = session.info.node_forest.heap()
    for chunk in chunks[:-1]:
        assert nodes[chunk.node_id].name == chunk.agent
    return [(chunk.text, chunk.agent) for chunk in chunks[:-1]]


def numbers(chunks):
    """The calls that said it, in order, without their names."""
    ids = list(dict.fromkeys(chunk.node_id for chunk in chunks[:-1]))
    return [ids.index(chunk.node_id) for chunk in chunks[:-1]]


async def streamed(node, *args, store, again):
    """The chunks of a node that streams; with ``again`` in a new run that uses what is on record."""

    @rt.function_node(memo=False)
    async def tell():
        return [chunk async for chunk in rt.astream(node, *args)]

    given = {"resume": "run", "run_identifier": "run2"} if again else {"run_identifier": "run"}
    async with rt.Session(store=store, **given) as session:
        return await rt.call(tell), session


@rt.function_node
async def nothing() -> str:
    return "nothing"


def team():
    """Says several things, by two agents, one of which runs twice."""
    inner = scripted(["a", tool_call("nothing")], "b", "c", name="inner", tool_nodes=[nothing])
    calls = ["x", tool_call("inner", request="1")], ["y", tool_call("inner", request="2")]
    return scripted(*calls, "z", name="outer", tool_nodes=[inner])


SAID = [("x", "outer"), ("a", "inner"), ("b", "inner"), ("y", "outer"), ("c", "inner"), ("z", "outer")]


async def test_an_agent_that_had_completed_is_heard_again():
    store = MemoryStore()
    first, session = await streamed(team(), "x", store=store, again=False)
    assert heard(first, session) == SAID
    second, session = await streamed(team(), "x", store=store, again=True)
    assert [each.reused for each in session.info.resumed] == [False, True]
    assert heard(second, session) == SAID
    assert numbers(second) == numbers(first) == [0, 1, 1, 0, 2, 0]
    assert second[-1] == first[-1]
    assert {chunk.node_id for chunk in second[:-1]} & {chunk.node_id for chunk in first[:-1]} == set()


agents_below = [team(), team()]


@rt.function_node
async def plain() -> list[str]:
    return [str(await rt.call(agent, "x")) for agent in agents_below]


async def test_agents_below_a_node_that_had_completed_are_heard_again():
    store = MemoryStore()
    agents_below[:] = [team(), team()]
    first, session = await streamed(plain, store=store, again=False)
    assert heard(first, session) == [*SAID, *SAID]
    agents_below.clear()
    second, session = await streamed(plain, store=store, again=True)
    assert heard(second, session) == [*SAID, *SAID]
    assert numbers(second) == numbers(first)
    assert second[-1].response == first[-1].response == ["z", "z"]


async def test_agents_that_ran_at_once_below_a_node_that_had_completed_are_heard_again():
    @rt.function_node
    async def both() -> list[str]:
        return [str(each) for each in await rt.call_batch(agents.pop(), ["p", "q"], return_exceptions=False)]

    agents = [rt.agent_node("echo", llm=ScriptedModel(lambda messages: f"{messages[-1].content} said", words=False))]
    store = MemoryStore()
    first, _ = await streamed(both, store=store, again=False)
    second, session = await streamed(both, store=store, again=True)
    assert sorted(heard(second, session)) == [("p said", "echo"), ("q said", "echo")]
    assert numbers(second) == numbers(first) == [0, 1]


async def test_an_agent_that_failed_is_heard_again_as_far_as_it_came():
    def made(last):
        inner = scripted("a", name="inner")
        return scripted(["x", tool_call("inner", request="1")], last, name="outer", tool_nodes=[inner])

    store = MemoryStore()
    with pytest.raises(ConnectionError):
        await streamed(made(ConnectionError()), "x", store=store, again=False)
    # One answer fewer: the script begins where the record ends.
    outer = scripted("y", name="outer", tool_nodes=[scripted(name="inner")])
    second, session = await streamed(outer, "x", store=store, again=True)
    assert heard(second, session) == [("x", "outer"), ("a", "inner"), ("y", "outer")]


# ---- stray cancellations


class Stray(ScriptedModel):
    """Awaits something of its own that was cancelled."""

    async def stream(self, messages, **options):
        yield "one"
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
        yield await self.complete(messages, **options)


@pytest.mark.parametrize("in_node", [False, True])
async def test_a_stray_cancellation_of_a_streamed_model_reaches_its_consumer_alone(backend, in_node):
    if backend == "trio":
        pytest.skip("trio's Cancelled cannot be raised by hand")
    got = []

    async def consume():
        with pytest.raises(asyncio.CancelledError) as caught:
            async for chunk in rt.astream(rt.agent_node(llm=Stray([])), "x"):
                got.append(chunk.text)
        return type(caught.value)

    async def sibling():
        await anyio.sleep(1)
        return "done"

    async with rt.Session() as session:
        session.start_soon(sibling)
        assert await (rt.call(consume) if in_node else consume()) is asyncio.CancelledError
        assert got == ["one"]
        assert await rt.call(sibling) == "done"
        assert await texts_of(rt.astream(scripted("on"), "x")) == ["on", ""]
    ends = {record.name: record.status for record in session.info.records}
    assert ends["sibling"] is Status.COMPLETED
    assert asyncio.current_task().cancelling() == 0


# ---- what an agent is made of


class Set(ScriptedModel):
    def __init__(self, settings=None, name="m"):
        super().__init__([], name=name)
        self.settings = {} if settings is None else settings


def nested(value, levels=70):
    for _ in range(levels):
        value = {"inner": [value]}
    return value


def with_tool(annotation=str, description="", version="1"):
    def tool(password) -> str:
        return "known"

    tool.__annotations__["password"] = annotation
    tool.__doc__ = description
    return rt.agent_node(llm=Set(), tool_nodes=[rt.function_node(tool, name="tool", version=version)])


def with_agent(prompt="You help.", name="m"):
    return rt.agent_node(llm=Set(), tool_nodes=[rt.agent_node("inner", llm=Set(name=name), system_message=prompt)])


LONG = "word " * 220_000

MADE_OF = {
    "the type of a parameter called password": (with_tool, {"annotation": str}, {"annotation": int}),
    "the end of a long description": (with_tool, {"description": f"{LONG}A"}, {"description": f"{LONG}B"}),
    "the version of a tool": (with_tool, {"version": "1"}, {"version": "2"}),
    "a setting far inside": (
        lambda value: rt.agent_node(llm=Set({"extra": nested(value)})), {"value": 1}, {"value": 2},
    ),
    "a setting called as a secret": (
        lambda value: rt.agent_node(llm=Set({"max_tokens": value})), {"value": 1}, {"value": 2},
    ),
    "the name of the model": (lambda name: rt.agent_node(llm=Set(name=name)), {"name": "m"}, {"name": "n"}),
    "the prompt of an agent below": (with_agent, {"prompt": "You help."}, {"prompt": "You help"}),
    "the end of a long prompt of an agent below": (with_agent, {"prompt": f"{LONG}A"}, {"prompt": f"{LONG}B"}),
    "the model of an agent below": (with_agent, {"name": "m"}, {"name": "n"}),
}  # fmt: skip


@pytest.mark.parametrize(("make", "one", "other"), MADE_OF.values(), ids=MADE_OF)
def test_an_agent_is_another_when_what_it_is_made_of_is(make, one, other):
    assert make(**one).version() == make(**one).version()
    assert make(**one).version() != make(**other).version()


def test_requests_of_an_agent_are_others_when_what_the_model_is_told_is():
    one, other = with_tool(str), with_tool(int)
    assert one.definition.fingerprint != other.definition.fingerprint
    one, other = (rt.agent_node(llm=Set({"extra": nested(value)})) for value in (1, 2))
    assert one.definition.fingerprint != other.definition.fingerprint


# ---- answers in fences


@attrs.frozen
class Place:
    name: str


@pytest.mark.parametrize("space", [" ", "\n", "\t", "\r\n", "```", "`"])
def test_an_answer_that_goes_on_and_on_is_refused(space):
    with pytest.raises(ArgumentError):  # a quadratic search for the fence would take hours
        structured_output("```json\n" + space * 3_000_000 + "x", Place)


@pytest.mark.parametrize("opening", ["```", "```json", "```json  ", "  ```json", "\n\n```"])
@pytest.mark.parametrize("closing", ["\n```", "```", "\n```  \n", "\n\n  ```"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_fence_around_an_answer_is_taken_off(opening, closing, end):
    text = f'{opening}\n{{"name":\n"a```b"}}{closing}'.replace("\n", end)
    assert structured_output(text, Place) == Place("a```b")


@pytest.mark.parametrize("text", ['{"name": "a"}', '\r\n {"name": "a"} \n', '{"name":\r\n"a"}'])
def test_an_answer_needs_no_fence(text):
    assert structured_output(text, Place) == Place("a")


@pytest.mark.parametrize("text", ['```json\n{"name": "a"}', '{"name": "a"}\n```', "```", "```\n```", "``````", ""])
def test_half_a_fence_is_none(text):
    with pytest.raises(ArgumentError, match="the answer must be JSON alone"):
        structured_output(text, Place)


# ---- clients of a session


class Client:
    """Notes where it was made, and that it was closed in the same place."""

    def __init__(self):
        self.home = threading.get_ident(), anyio.lowlevel.current_token()
        self.closed = 0

    async def close(self):
        await anyio.lowlevel.checkpoint()
        assert self.home == (threading.get_ident(), anyio.lowlevel.current_token())
        self.closed += 1


def clients():
    """And all that were made."""
    made = []

    def make():
        made.append(Client())
        return made[-1]

    return Clients(make), made


@pytest.mark.parametrize("inner", ["asyncio", "trio"])
async def test_a_thread_with_an_event_loop_has_a_client_of_its_own(inner):
    pool, made = clients()

    async def main():
        async with pool.use() as client:
            assert client is made[1]
            assert client.closed == 0
        assert client.closed == 1

    def node():
        anyio.run(main, backend=inner)

    async with rt.Session(save_state=False):
        async with pool.use() as client:
            assert client is made[0]
        await rt.call(node)
        async with pool.use() as client:
            assert client is made[0]
        assert [each.closed for each in made] == [0, 1]
    assert [each.closed for each in made] == [1, 1]


@pytest.mark.parametrize("options", [{"save_state": False}, {}])
async def test_a_task_that_outlives_its_session_has_a_client_of_its_own(options):
    pool, made = clients()
    over = anyio.Event()

    async def late():
        await over.wait()
        async with pool.use() as client:
            assert client is made[1]
            assert client.closed == 0

    async with anyio.create_task_group() as group:
        async with rt.Session(**options):
            group.start_soon(late)
            async with pool.use() as client:
                assert client is made[0]
        assert [each.closed for each in made] == [1]
        over.set()
    assert [each.closed for each in made] == [1, 1]


async def test_a_session_that_saves_nothing_closes_its_client_when_its_body_raises():
    pool, made = clients()

    async def node():
        async with pool.use():
            raise KeyError

    with pytest.raises(KeyError):
        async with rt.Session(save_state=False):
            await rt.call(node)
    assert [each.closed for each in made] == [1]


def test_a_plain_session_that_saves_nothing_closes_its_client(backend):
    pool, made = clients()

    async def node():
        async with pool.use():
            pass

    with rt.Session(save_state=False, backend=backend):
        rt.call_sync(node)
        rt.call_sync(node)
        assert [each.closed for each in made] == [0]
    assert [each.closed for each in made] == [1]


# ---- models that are none


class Coroutine(ScriptedModel):
    """Its ``stream`` is a coroutine function; here one that keeps what it made."""

    def stream(self, messages, **options):
        self.made = self.complete(messages, **options)
        return self.made


class PlainIterator(ScriptedModel):
    def stream(self, messages, **options):
        yield "one"


class Yields(ScriptedModel):
    def __init__(self, *pieces):
        super().__init__([], name="odd")
        self.pieces = pieces

    async def stream(self, messages, **options):
        for piece in self.pieces:
            yield piece


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (PlainIterator([], name="odd"), "is no async generator; write `async def` and `yield`"),
        (Yields(5), r"gave 5; .* stream\(\) must yield one at its end"),
        (Yields("one", b"two"), r"gave b'two'; .* stream\(\) must yield one at its end"),
        (Yields(None), r"gave None; .* stream\(\) must yield one at its end"),
        (Yields(), r"stream\(\) must yield one at its end"),
        (Yields("one"), r"gave 'one'; .* stream\(\) must yield one at its end"),
        (Yields(Completion(AssistantMessage(b"bytes"))), r"stream\(\) must yield one at its end"),
        (Yields(Completion(AssistantMessage("x"), usage=7)), r"stream\(\) must yield one at its end"),
    ],
    ids=["plain", "number", "bytes", "None", "nothing", "text", "content", "usage"],
)
async def test_a_model_whose_stream_is_none_is_told_by_name(model, told):
    agent = rt.agent_node("Poor", llm=model)
    async with rt.Session():
        with pytest.raises(LLMError, match=f"model odd.*{told}"):
            await texts_of(rt.astream(agent, "x"))
        assert await texts_of(rt.astream(scripted("on"), "x")) == ["on", ""]


async def test_a_model_whose_stream_is_a_coroutine_function_is_told_by_name():
    model = Coroutine(["x"], name="odd")
    async with rt.Session():
        with pytest.raises(LLMError, match="model odd is no async generator; write `async def` and `yield`"):
            await texts_of(rt.astream(rt.agent_node(llm=model), "x"))
    model.made.close()


async def test_a_coroutine_that_should_have_been_a_stream_is_closed():
    """Python warns of one that nobody awaited, when it is collected."""
    model = Coroutine(["x"], name="odd")
    try:
        with pytest.raises(LLMError):
            async with rt.Session():
                await texts_of(rt.astream(rt.agent_node(llm=model), "x"))
        assert inspect.getcoroutinestate(model.made) == inspect.CORO_CLOSED
    finally:
        model.made.close()


# ---- objects


built = []


@attrs.frozen
class Built:
    name: str

    def __attrs_post_init__(self):
        built.append(self.name)


GOOD = '{"name": "good"}'


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize("streams", [False, True])
async def test_an_object_is_made_once(bad, streams):
    built.clear()
    agent = scripted(*["no JSON"] * bad, GOOD, output_schema=Built)
    async with rt.Session():
        if streams:
            response = [chunk async for chunk in rt.astream(agent, "x")][-1].response
        else:
            response = await rt.call(agent, "x")
    assert response.content == Built("good")
    assert built == ["good", "good"]  # the second one is that of this test


async def test_an_object_that_cannot_be_made_is_tried_once_for_each_answer():
    tried = []

    @attrs.frozen
    class Picky:
        name: str

        def __attrs_post_init__(self):
            tried.append(self.name)
            raise ValueError("not this one")

    agent = scripted(*[f'{{"name": "{number}"}}' for number in range(3)], output_schema=Picky)
    with pytest.raises(LLMError, match="not this one"):
        await rt.call(agent, "x")
    assert tried == ["0", "1", "2"]


async def test_an_agent_with_a_schema_gives_its_object_not_its_text_to_the_calling_model():
    finder = scripted('```json\n{"name":   "Oslo"}\n```', name="finder", output_schema=Place)
    model = ScriptedModel([tool_call("finder", request="x"), "Done."])
    await rt.call(rt.agent_node(llm=model, tool_nodes=[finder]), "Go.")
    text = model.calls[1][-1].content
    assert json.loads(text) == {"name": "Oslo"}
    assert "`" not in text


# ---- conversations


class Friend(rt.nodes.Node[str]):
    """Chat with a friend."""

    @classmethod
    def name(cls):
        return "chat with friend"

    async def invoke(self) -> str:
        return "Well."


class FriendWithWords(Friend):
    def __init__(self, words: str) -> None:
        self.words = words


class FriendAfter(Friend):
    def __init__(self, after: str) -> None:
        self.after = after


class FriendWithWordsAfter(Friend):
    def __init__(self, words: str, /, *, after: str) -> None:
        self.words, self.after = words, after


@pytest.mark.parametrize(
    ("friend", "arguments"),
    [
        (Friend, {}),
        (FriendWithWords, {"words": "x"}),
        pytest.param(FriendAfter, {"after": "x"}),
        pytest.param(FriendWithWordsAfter, {"words": "x", "after": "y"}),
    ],
)
@pytest.mark.parametrize("end", ["fails", "is heard again"])
async def test_a_tool_that_is_called_like_a_request_is_none(friend, arguments, end):
    """Neither in the conversation of an agent that failed, nor among what is said again."""
    store = MemoryStore()
    answers = ["x", tool_call("chat_with_friend", **arguments)], ConnectionError() if end == "fails" else "y"

    def agent():
        return scripted(*answers, tool_nodes=[friend])

    if end == "fails":
        async with rt.Session() as session:
            with pytest.raises(ConnectionError):
                await rt.call(agent(), "Hello.")
        record = session.info.records[2]
        assert (record.name, record.node_type, record.parent) == ("chat with friend", "Other", 0)
        (history,) = message_histories(session.info).values()
        assert [message.content for message in history] == ["Hello.", "x", "Well."]
    else:
        await streamed(agent(), "Hello.", store=store, again=False)
        again, _ = await streamed(agent(), "Hello.", store=store, again=True)
        assert [chunk.text for chunk in again] == ["x", "y", ""]


# ---- what agent_node is given


def model_with(**parts):
    model = ScriptedModel([])
    for name, value in parts.items():
        setattr(model, name, value)
    return model


class Inherits(rt.llm.Model):
    """Without settings and without a key."""

    name = "mine"
    provider = "me"

    async def complete(self, messages, *, tools=(), output=None):
        return Completion(AssistantMessage("Hello."))

    async def stream(self, messages, *, tools=(), output=None):
        yield "Hello."
        yield Completion(AssistantMessage("Hello."))


def as_tool(*parameters):
    """An agent that takes these, as the tool of another."""
    return {"tool_nodes": [scripted(name="inner", manifest=rt.ToolManifest("x", parameters))]}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: {"llm": Inherits}, "is the class Inherits, and not one of it; give it a model such as"),
        (lambda: {"llm": model_with(settings=None)}, "has to have settings, and has a NoneType; give"),
        (lambda: {"llm": model_with(settings=[("a", 1)])}, "has to have settings, and has a list; give"),
        (lambda: {"llm": model_with(api_key="abc")}, "has to have api_key, and has a str; write rt.Secret"),
        (lambda: {"llm": model_with(name=None)}, "has to have name, and has a NoneType; give"),
        (lambda: {"llm": model_with(complete=None)}, "has no method complete; give"),
        (lambda: {"name": "a\0b"}, r"name is 'a\\x00b'; give"),
        (lambda: {"name": "a\ud800"}, r"name is 'a\\ud800'; give"),
        (lambda: {"name": "a\nb"}, r"name is 'a\\nb'; give"),
        (lambda: {"manifest": rt.ToolManifest("x", [rt.Parameter("class")])}, "the parameter Parameter.name='class'"),
        (lambda: {"manifest": rt.ToolManifest(7)}, "manifest is ToolManifest"),
        (lambda: as_tool(rt.Parameter("x", "Nowhere")), "Nowhere"),
        (lambda: as_tool(rt.Parameter("x", 5)), "parameter 'x' of the tool 'inner' is of the type 5, .*; use"),
        (lambda: as_tool(rt.Parameter("x", print, required=False)), "parameter 'x' of the tool 'inner' .*; use"),
        (lambda: as_tool(rt.Parameter("x", list["Nowhere"])), "is annotated as .Nowhere., which names nothing"),  # noqa: F821
        (
            lambda: {"tool_nodes": [scripted(name=None), scripted(name=None)]},
            r"two tools are called 'Agent'; give one another name: rt\.agent_node\('another', \.\.\.\)",
        ),
    ],
    ids=[
        "class", "no settings", "settings a list", "key a text", "no name", "no method", "NUL", "surrogate",
        "two lines",        "keyword", "description", "text",
        "annotation", "optional annotation", "text within", "one name",
    ],
)  # fmt: skip
def test_misuse_of_agent_node_is_told_with_its_repair(make, told):
    with pytest.raises(NodeCreationError, match=told):
        rt.agent_node(**{"llm": ScriptedModel([]), **make()})


async def test_a_model_that_inherits_the_protocol_has_no_settings_and_no_key():
    agent = rt.agent_node(llm=Inherits())
    async with rt.Session():
        assert str(await rt.call(agent, "x")) == "Hello."
        assert await texts_of(rt.astream(agent, "x")) == ["Hello.", ""]
    assert (Inherits().settings, Inherits().api_key) == ({}, None)


def test_the_names_that_are_loaded_later_are_listed():
    assert {"agent_node", "astream", "llm", "ask"} <= {*dir(rt)}
    assert {"OpenAI", "Anthropic", "AnyLLM", "Model"} <= {*dir(rt.llm)}


async def test_a_reader_that_leaves_while_it_hears_again_what_was_said_is_a_plain_cancellation():
    agent = rt.agent_node("Speaker", llm=ScriptedModel(["one two", "three"]))
    left = []

    @rt.function_node(memo=False)
    async def listen() -> str:
        async with rt.astream(agent, "x") as stream:
            async for chunk in stream:
                if not left:
                    continue
                return chunk.text
        left.append(1)
        raise ConnectionError("lost")

    flow = rt.Flow("Listening", listen, run_identifier="run")
    with pytest.raises(ConnectionError):
        await flow.ainvoke()
    connection = flow.connect()
    assert await connection.aresume("run") == "one two"
    reused, ran = connection.session.info.resumed[1], connection.session.info.resumed[0]
    assert (ran.name, reused.name, reused.reused) == ("listen", "Speaker", True)
