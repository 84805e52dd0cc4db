"""Agents as their users see them: what they take and give, where they run, their tools, limits and ends."""

from __future__ import annotations

import asyncio
import functools
import json
import threading

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import (
    ContextError,
    FatalError,
    GlobalTimeOutError,
    LLMError,
    NodeCreationError,
    NodeInvocationError,
)
from railtracks.llm import (
    AssistantMessage,
    Completion,
    MessageHistory,
    SystemMessage,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from railtracks.state import Reason, Status
from railtracks.testing import ScriptedModel, ScriptError, tool_call


def asked(text):
    """A user's message as it stands in a history: what was to be filled in is."""
    return UserMessage(text, inject_prompt=False)


def agent_of(*answers, name="Agent", **options):
    """An agent whose model gives these answers; and the model."""
    model = ScriptedModel(answers[0] if len(answers) == 1 and callable(answers[0]) else answers)
    return rt.agent_node(name, llm=model, **options), model


def tool_messages(model):
    """What the tools had answered when the model was asked last."""
    return [message for message in model.calls[-1] if isinstance(message, ToolMessage)]


def records(session, name):
    return [record for record in session.info.records if record.name == name]


@rt.function_node
async def forecast(city: str) -> str:
    """The weather of tomorrow.

    Args:
        city: Where.
    """
    return f"snow in {city}"


# ---- what an agent takes


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("Hello", [asked("Hello")]),
        ("", [asked("")]),
        (UserMessage("Hello"), [asked("Hello")]),
        (SystemMessage("Be brief."), [SystemMessage("Be brief.", inject_prompt=False)]),
        ([UserMessage("a"), AssistantMessage("b"), UserMessage("c")], [asked("a"), AssistantMessage("b"), asked("c")]),
        ((UserMessage("a"),), [asked("a")]),
        (MessageHistory([UserMessage("a")]), [asked("a")]),
    ],
)
async def test_an_agent_takes_a_text_a_message_or_a_conversation(given, sent):
    agent, model = agent_of("Hi.")
    response = await rt.call(agent, given)
    assert model.calls == [sent]
    assert response.message_history == [*sent, AssistantMessage("Hi.")]


async def test_an_agent_takes_what_yields_messages():
    agent, model = agent_of("Hi.")
    await rt.call(agent, (UserMessage(text) for text in "ab"))
    assert model.calls == [[asked("a"), asked("b")]]


async def test_a_conversation_goes_on_with_the_history_of_the_response():
    agent, model = agent_of("One.", "Two.", system_message="Count.")
    first = await rt.call(agent, "Begin.")
    second = await rt.call(agent, [*first.message_history, UserMessage("Go on.")])
    said = [asked("Begin."), AssistantMessage("One."), asked("Go on."), AssistantMessage("Two.")]
    assert second.message_history == said
    assert model.calls[1] == [SystemMessage("Count.", inject_prompt=False), *said[:-1]]


async def test_the_conversation_that_was_given_is_not_changed():
    agent, _ = agent_of("Hi.")
    given = MessageHistory([UserMessage("{who}")])
    async with rt.Session({"who": "me"}):
        await rt.call(agent, given)
    assert given == [UserMessage("{who}")]


@pytest.mark.parametrize("given", [None, 7, [], MessageHistory(), ["Hello"], [UserMessage("a"), "b"], {"a": 1}, b"a"])
async def test_what_is_no_conversation_is_refused_by_what_it_is(given):
    agent, model = agent_of("Hi.", name="Helper")
    with pytest.raises(
        NodeInvocationError, match=r"the agent Helper was given .*; give it a text, a message with a text such as"
    ):
        await rt.call(agent, given)
    assert model.calls == []


@pytest.mark.parametrize("given", [UserMessage(7), UserMessage(None), [AssistantMessage(None)]])
async def test_a_message_whose_content_is_no_text_is_refused_by_what_it_is(given):
    agent, model = agent_of("Hi.", name="Helper")
    with pytest.raises(NodeInvocationError, match=r"the agent Helper was given .*; give it a text"):
        await rt.call(agent, given)
    assert model.calls == []


async def test_an_agent_that_is_given_nothing_says_what_is_missing():
    agent, _ = agent_of("Hi.")
    with pytest.raises(TypeError, match="user_input"):
        await rt.call(agent)


# ---- what it gives


async def test_a_response_prints_as_its_content_and_counts_tokens():
    agent, _ = agent_of(tool_call("forecast", city="Oslo"), "Take a coat.", tool_nodes=[forecast])
    response = await rt.call(agent, "Do I need a coat?")
    assert (str(response), response.content, response.text) == ("Take a coat.",) * 3
    assert "message_history" not in repr(response)
    assert response.usage.output_tokens == 3
    assert response.usage.input_tokens == 5 + (5 + 3)


async def test_the_history_holds_all_but_the_system_message_in_order():
    agent, _ = agent_of(["Let me see.", tool_call("forecast", city="Oslo")], "Snow.", tool_nodes=[forecast],
                        system_message="You know the weather.")  # fmt: skip
    response = await rt.call(agent, "Well?")
    call = ToolCall("call_0", "forecast", {"city": "Oslo"})
    assert response.message_history == [
        asked("Well?"),
        AssistantMessage("Let me see.", [call]),
        ToolMessage("snow in Oslo", "call_0", "forecast"),
        AssistantMessage("Snow."),
    ]
    assert str(response.message_history) == (
        "user: Well?\nassistant: Let me see.; forecast(city='Oslo')\ntool: snow in Oslo\nassistant: Snow."
    )


async def test_an_empty_answer_is_an_answer():
    agent, _ = agent_of("")
    assert (await rt.call(agent, "Say nothing.")).content == ""


# ---- where it runs


def hello(name="Greeter"):
    return agent_of(lambda messages: f"Hello, {messages[-1].content}", name=name)[0]


async def test_an_agent_runs_without_a_session():
    assert str(await rt.call(hello(), "Ada")) == "Hello, Ada"


async def test_an_agent_runs_in_a_plain_session_in_async_code():
    with rt.Session() as session:
        assert str(await rt.call(hello(), "Ada")) == "Hello, Ada"
    assert [record.name for record in session.info.records] == ["Greeter", "chat scripted"]


def test_an_agent_runs_in_a_plain_session_in_synchronous_code(backend):
    with rt.Session({"who": "Ada"}, backend=backend) as session:
        assert str(rt.call_sync(hello(), "{who}")) == "Hello, Ada"
    assert [record.status for record in session.info.records] == [Status.COMPLETED] * 2


def test_an_agent_runs_by_call_sync_without_a_session(backend):
    rt.set_config(backend=backend)
    assert str(rt.call_sync(hello(), "Ada")) == "Hello, Ada"


async def test_an_agent_runs_in_a_batch():
    async with rt.Session() as session:
        responses = await rt.call_batch(hello(), ["Ada", "Bob"])
    assert [str(response) for response in responses] == ["Hello, Ada", "Hello, Bob"]
    assert len(records(session, "Greeter")) == 2


async def test_a_batch_of_agents_keeps_the_error_of_one_in_its_place():
    def answer(messages):
        return ValueError("no") if messages[-1].content == "bad" else "fine"

    agent, _ = agent_of(answer)
    fine, bad = await rt.call_batch(agent, ["good", "bad"])
    assert str(fine) == "fine"
    assert type(bad) is ValueError


async def test_an_agent_is_the_entry_point_of_a_flow():
    flow = rt.Flow("Greeting", entry_point=hello(), context={"who": "Ada"})
    assert str(await flow.ainvoke("{who}")) == "Hello, Ada"


def test_an_agent_is_the_entry_point_of_a_flow_in_synchronous_code(backend):
    flow = rt.Flow("Greeting", entry_point=hello(), context={"who": "Ada"}, backend=backend)
    assert str(flow.invoke("{who}")) == "Hello, Ada"


async def test_an_agent_runs_below_the_session_decorator():
    @rt.session(context={"who": "Ada"})
    async def main():
        return str(await rt.call(hello(), "{who}"))

    result, session = await main()
    assert result == "Hello, Ada"
    assert len(session.info.records) == 2


async def test_an_agent_runs_below_a_node():
    async def node():
        return await rt.call(hello(), "Ada")

    async with rt.Session() as session:
        assert str(await rt.call(node)) == "Hello, Ada"
    assert [record.parent for record in session.info.records] == [None, 0, 1]


async def test_an_agent_runs_below_a_sync_node():
    def node():
        return str(rt.call_sync(hello(), "Ada"))

    async with rt.Session() as session:
        assert await rt.call(node) == "Hello, Ada"
    assert [record.parent for record in session.info.records] == [None, 0, 1]


async def test_an_agent_is_started_beside_the_body():
    async with rt.Session() as session:
        session.start_soon(hello(), "Ada")
    assert str(session.info.answer) == "Hello, Ada"


async def test_an_agent_is_not_invoked_by_hand():
    with pytest.raises(ContextError, match=r"the agent Greeter was invoked by hand; write `await rt.call\(Greeter"):
        await hello()("Ada").invoke()


async def test_agents_of_two_sessions_at_once_do_not_see_each_other():
    met = anyio.Event()
    waiting = 0

    async def answer(messages):
        nonlocal waiting
        waiting += 1
        if waiting == 2:
            met.set()
        await met.wait()
        return messages[-1].content

    agent, _ = agent_of(answer)
    found = {}

    async def run(who):
        async with rt.Session({"who": who}) as session:
            found[who] = str(await rt.call(agent, "I am {who}.")), len(session.info.records)

    async with anyio.create_task_group() as group:
        for who in "ab":
            group.start_soon(run, who)
    assert found == {"a": ("I am a.", 2), "b": ("I am b.", 2)}


# ---- tools


class Square(rt.nodes.Node[int]):
    """The square of a number."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def invoke(self) -> int:
        return self.number**2

    @classmethod
    def name(cls) -> str:
        return "square"


def add(a: int, b: int = 1) -> int:
    """The sum."""
    return a + b


def test_each_kind_of_tool_runs(backend):
    threads = []

    @rt.function_node
    def sync_tool(text: str) -> str:
        threads.append(threading.current_thread())
        return text.upper()

    async def plain(values: list[float]) -> dict[str, float]:
        return {"most": max(values)}

    helper = hello("helper")
    agent, model = agent_of(
        [
            tool_call("forecast", city="Oslo"), tool_call("sync_tool", text="loud"), tool_call("plain", values=[1, 2]),
            tool_call("square", number=7), tool_call("add", a=2), tool_call("add_ten", a=5),
            tool_call("helper", request="you"),
        ],
        "Done.",
        tool_nodes=[forecast, sync_tool, plain, Square, add,
                    rt.function_node(functools.partial(add, b=10), name="add_ten"), helper],
    )  # fmt: skip
    flow = rt.Flow("F", entry_point=agent, backend=backend)
    connection = flow.connect()
    assert str(connection.invoke("Go.")) == "Done."
    answers = {message.tool_call_id: message.content for message in tool_messages(model)}
    assert not any(message.is_error for message in tool_messages(model))
    assert list(answers.values()) == ["snow in Oslo", "LOUD", '{"most": 2.0}', "49", "3", "15", "Hello, you"]
    assert threads[0] is not threading.main_thread()
    names = [record.name for record in connection.session.info.records if record.parent == 0]
    assert sorted(names) == sorted(
        ["chat scripted", "forecast", "sync_tool", "plain", "square", "add", "add_ten", "helper", "chat scripted"]
    )


async def test_a_class_node_with_a_bound_argument_is_a_tool():
    agent, model = agent_of(tool_call("square"), "Done.", tool_nodes=[functools.partial(Square, 4)])
    await rt.call(agent, "Go.")
    assert tool_messages(model)[0].content == "16"


async def test_the_model_is_told_of_the_tools_with_each_request():
    agent, model = agent_of(tool_call("forecast", city="Oslo"), "Snow.", tool_nodes=[forecast])
    await rt.call(agent, "Well?")
    first, second = model.tools
    assert first == second
    (schema,) = first
    assert (schema.name, schema.description) == ("forecast", "The weather of tomorrow.")
    assert schema.parameters["properties"]["city"] == {"type": "string", "description": "Where."}
    assert schema.parameters["required"] == ["city"]


async def test_tools_that_are_asked_for_at_once_run_at_once():
    begun = []
    all_begun = anyio.Event()

    async def meet(name: str) -> str:
        begun.append(name)
        if len(begun) == 3:
            all_begun.set()
        await all_begun.wait()  # of tools that ran one after the other, the first would wait for ever
        return name

    agent, model = agent_of([tool_call("meet", name=name) for name in "abc"], "Done.", tool_nodes=[meet])
    async with rt.Session(timeout=5) as session:
        await rt.call(agent, "Go.")
    assert [message.content for message in tool_messages(model)] == ["a", "b", "c"]
    spans = [(record.started_step, record.ended_step) for record in records(session, "meet")]
    assert max(start for start, _ in spans) < min(end for _, end in spans)


async def test_results_go_back_in_the_order_of_the_calls_not_of_their_ends():
    ends = []

    async def wait(seconds: float) -> float:
        await anyio.sleep(seconds)
        ends.append(seconds)
        return seconds

    agent, model = agent_of([tool_call("wait", seconds=s) for s in (3.0, 1.0, 2.0)], "Done.", tool_nodes=[wait])
    async with rt.Session():
        start = anyio.current_time()
        await rt.call(agent, "Go.")
        assert anyio.current_time() - start == pytest.approx(3)
    assert ends == [1, 2, 3]
    assert [message.content for message in tool_messages(model)] == ["3.0", "1.0", "2.0"]


@attrs.frozen
class Place:
    name: str
    height: float


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, "null"), (True, "true"), (1.5, "1.5"), ([1, "é"], '[1,"é"]'), ("as it is", "as it is"), ("", ""),
        (Place("Oslo", 23), '{"name":"Oslo","height":23.0}'), ({"a": [Place("b", 1.5)]}, None),
    ],
)  # fmt: skip
async def test_a_result_goes_back_as_text_or_as_json(result, text):
    async def tool():
        return result

    agent, model = agent_of(tool_call("tool"), "Done.", tool_nodes=[tool])
    await rt.call(agent, "Go.")
    (message,) = tool_messages(model)
    if text is None:
        assert json.loads(message.content) == {"a": [{"name": "b", "height": 1.5}]}
    elif text[:1] in "[{" and text:
        assert json.loads(message.content) == json.loads(text)
    else:
        assert message.content == text


async def test_a_result_that_json_cannot_hold_goes_back_all_the_same():
    async def tool():
        return object()

    agent, model = agent_of(tool_call("tool"), "Done.", tool_nodes=[tool])
    await rt.call(agent, "Go.")
    (message,) = tool_messages(model)
    assert "object" in message.content
    assert not message.is_error


async def test_tools_read_and_write_the_context():
    async def remember(what: str) -> str:
        rt.context.put("known", what)
        return rt.context.get("who")

    agent, model = agent_of(tool_call("remember", what="x"), "Done.", tool_nodes=[remember])
    async with rt.Session({"who": "me"}) as session:
        await rt.call(agent, "Go.")
    assert session.context["known"] == "x"
    assert tool_messages(model)[0].content == "me"


# ---- agents as tools


async def test_an_agent_takes_a_request_as_a_tool_by_default():
    helper, helpers_model = agent_of("Forty-two.", name="helper")
    agent, model = agent_of(tool_call("helper", request="What is it?"), "42", tool_nodes=[helper])
    async with rt.Session() as session:
        response = await rt.call(agent, "Ask the helper.")
    assert helpers_model.calls == [[asked("What is it?")]]
    assert tool_messages(model) == [ToolMessage("Forty-two.", "call_0", "helper")]
    assert response.usage.output_tokens == 1
    (schema,) = model.tools[0]
    assert schema.description == "Ask the agent helper."
    assert list(schema.parameters["properties"]) == ["request"]
    assert [(r.name, r.node_type, r.parent) for r in session.info.records] == [
        ("Agent", "Agent", None), ("chat scripted", "Other", 0), ("helper", "Agent", 0), ("chat scripted", "Other", 2),
        ("chat scripted", "Other", 0),
    ]  # fmt: skip


MANIFEST = rt.ToolManifest(
    "Knows the weather.",
    [
        rt.Parameter("city", str, "Where."), rt.Parameter("days", int, "How many."),
        rt.Parameter("unit", str, "Of the temperature.", required=False),
    ],
)  # fmt: skip


async def test_a_manifest_is_told_word_by_word():
    text = "Finds papers.\n\nArgs:\n    Give it a topic: such as physics.\n\nReturns:\n    A list."
    finder, _ = agent_of("None.", manifest=rt.ToolManifest(text))
    caller, model = agent_of("Fine.", tool_nodes=[finder])
    async with rt.Session():
        await rt.call(caller, "x")
    assert model.tools[0][0].description == text


async def test_an_agent_takes_the_parameters_of_its_manifest():
    weather, weathers_model = agent_of("Snow.", name="weather", manifest=MANIFEST)
    agent, model = agent_of(tool_call("weather", city="Oslo", days=2, unit="K"), "Done.", tool_nodes=[weather])
    await rt.call(agent, "Go.")
    assert weathers_model.calls == [[asked("city: Oslo\ndays: 2\nunit: K")]]
    (schema,) = model.tools[0]
    assert schema.description == "Knows the weather."
    assert schema.parameters["properties"]["days"] == {"type": "integer", "description": "How many."}
    assert schema.parameters["required"] == ["city", "days"]


async def test_an_argument_that_an_agent_need_not_be_given_may_be_left_out():
    weather, weathers_model = agent_of("Snow.", name="weather", manifest=MANIFEST)
    agent, _ = agent_of(tool_call("weather", city="Oslo", days=2), "Done.", tool_nodes=[weather])
    await rt.call(agent, "Go.")
    assert weathers_model.calls == [[asked("city: Oslo\ndays: 2")]]


async def test_wrong_arguments_for_an_agent_go_back_to_the_calling_model():
    weather, weathers_model = agent_of("Snow.", name="weather", manifest=MANIFEST)
    agent, model = agent_of(tool_call("weather", city="Oslo", days="two"), "Done.", tool_nodes=[weather])
    await rt.call(agent, "Go.")
    (message,) = tool_messages(model)
    assert message.is_error
    assert "days: expected an integer" in message.content
    assert weathers_model.calls == []


async def test_an_agent_with_a_schema_gives_its_json_to_the_calling_model():
    finder, _ = agent_of('{"name": "Oslo", "height": 23}', name="finder", output_schema=Place)
    agent, model = agent_of(tool_call("finder", request="Oslo"), "Done.", tool_nodes=[finder])
    await rt.call(agent, "Go.")
    assert json.loads(tool_messages(model)[0].content) == {"name": "Oslo", "height": 23}


async def test_the_error_of_an_agent_that_is_a_tool_goes_back_to_the_calling_model():
    helper, _ = agent_of(ConnectionError("lost"), name="helper")
    agent, model = agent_of(tool_call("helper", request="x"), "Done.", tool_nodes=[helper])
    assert str(await rt.call(agent, "Go.")) == "Done."
    assert tool_messages(model) == [ToolMessage("ConnectionError: lost", "call_0", "helper", is_error=True)]


async def test_agents_call_each_other_three_deep():
    inner = hello("inner")
    middle, _ = agent_of(tool_call("inner", request="deep"), lambda messages: messages[-1].content, name="middle",
                         tool_nodes=[inner])  # fmt: skip
    outer, _ = agent_of(tool_call("middle", request="x"), lambda messages: messages[-1].content, tool_nodes=[middle])
    assert str(await rt.call(outer, "Go.")) == "Hello, deep"


# ---- errors of tools


@rt.function_node
async def broken(why: str = "no") -> str:
    raise ValueError(why)


async def test_the_error_of_a_tool_goes_back_as_text():
    agent, model = agent_of([tool_call("broken", why="not today"), tool_call("forecast", city="Oslo")], "I see.",
                            tool_nodes=[broken, forecast])  # fmt: skip
    async with rt.Session() as session:
        assert str(await rt.call(agent, "Go.")) == "I see."
    assert tool_messages(model) == [
        ToolMessage("ValueError: not today", "call_0", "broken", is_error=True),
        ToolMessage("snow in Oslo", "call_1", "forecast"),
    ]
    assert [record.status for record in session.info.records] == [
        Status.COMPLETED, Status.COMPLETED, Status.FAILED, Status.COMPLETED, Status.COMPLETED,
    ]  # fmt: skip


class Odd(Exception):
    def __str__(self):
        raise RuntimeError("no text")


async def test_an_error_whose_text_cannot_be_had_goes_back_too():
    async def tool():
        raise Odd

    agent, model = agent_of(tool_call("tool"), "I see.", tool_nodes=[tool])
    assert str(await rt.call(agent, "Go.")) == "I see."
    assert tool_messages(model)[0].content.startswith("Odd")


@pytest.mark.parametrize("error", [FatalError("stop"), NodeInvocationError("stop", fatal=True)])
async def test_a_fatal_error_of_a_tool_ends_the_run_as_the_same_object(error):
    async def tool():
        raise error

    async def other():
        await anyio.sleep_forever()

    agent, model = agent_of([tool_call("other"), tool_call("tool")], "never", tool_nodes=[tool, other])
    async with rt.Session() as session:
        with pytest.raises(type(error)) as caught:
            await rt.call(agent, "Go.")
    assert caught.value is error
    assert len(model.calls) == 1
    (stopped,) = records(session, "other")
    assert (stopped.status, stopped.reason) == (Status.CANCELLED, Reason.END_ON_ERROR)


async def test_a_node_error_that_is_not_fatal_goes_back():
    async def tool():
        raise NodeInvocationError("not now", notes=["later"])

    agent, model = agent_of(tool_call("tool"), "I see.", tool_nodes=[tool])
    assert str(await rt.call(agent, "Go.")) == "I see."
    assert tool_messages(model)[0].content == "NodeInvocationError: not now"


async def test_with_end_on_error_the_error_of_a_tool_ends_the_run():
    agent, model = agent_of(tool_call("broken", why="enough"), "never", tool_nodes=[broken])
    async with rt.Session(end_on_error=True) as session:
        with pytest.raises(ValueError, match="enough") as caught:
            await rt.call(agent, "Go.")
    assert len(model.calls) == 1
    (record,) = records(session, "broken")
    assert record.exception is caught.value


async def test_a_timeout_that_a_tool_raises_itself_goes_back():
    async def tool():
        with anyio.fail_after(1):
            await anyio.sleep_forever()

    agent, model = agent_of(tool_call("tool"), "I see.", tool_nodes=[tool])
    assert str(await rt.call(agent, "Go.")) == "I see."
    assert tool_messages(model)[0].content.startswith("TimeoutError")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_in_a_tool_is_no_result(interrupt):
    async def tool():
        raise interrupt

    agent, model = agent_of(tool_call("tool"), "never", tool_nodes=[tool])
    with pytest.raises(interrupt):
        await rt.call(agent, "Go.")
    assert len(model.calls) == 1


# ---- what models ask for that cannot be done


async def test_an_unknown_tool_goes_back_with_the_names_of_those_that_there_are():
    agent, model = agent_of(tool_call("guess"), "I see.", tool_nodes=[forecast, broken])
    async with rt.Session() as session:
        await rt.call(agent, "Go.")
    assert tool_messages(model) == [
        ToolMessage("there is no tool 'guess'; the tools are forecast, broken", "call_0", "guess", is_error=True)
    ]
    assert len(session.info.records) == 3


async def test_a_tool_of_an_agent_without_tools_goes_back():
    agent, model = agent_of(tool_call("guess"), "I see.")
    await rt.call(agent, "Go.")
    assert tool_messages(model)[0].content == "there is no tool 'guess'; the tools are none"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "city: missing"),
        ({"city": 7}, "city: expected a text, got 7"),
        ({"city": "Oslo", "day": 1}, 'unknown argument "day" (the arguments are city)'),
        ("{'city': Oslo", "the arguments must be a JSON object"),
        ("", "the arguments must be a JSON object"),
    ],
)
async def test_wrong_arguments_go_back_and_nothing_is_run(arguments, told):
    agent, model = agent_of(ToolCall("id", "forecast", arguments), "I see.", tool_nodes=[forecast])
    async with rt.Session() as session:
        response = await rt.call(agent, "Go.")
    (message,) = tool_messages(model)
    assert message.content.startswith("forecast was not run: ")
    assert told in message.content
    assert message.is_error
    assert message.tool_call_id == "id"
    assert records(session, "forecast") == []
    assert response.message_history[1].tool_calls[0].arguments == arguments


async def test_a_model_may_correct_its_arguments():
    agent, model = agent_of(tool_call("forecast"), tool_call("forecast", city="Oslo"), "Snow.", tool_nodes=[forecast])
    assert str(await rt.call(agent, "Go.")) == "Snow."
    assert [message.is_error for message in tool_messages(model)] == [True, False]


# ---- max_tool_calls


async def test_no_more_tools_are_run_than_allowed():
    agent, model = agent_of([tool_call("forecast", city=city) for city in "abc"], "Done.", tool_nodes=[forecast],
                            max_tool_calls=2)  # fmt: skip
    async with rt.Session() as session:
        assert str(await rt.call(agent, "Go.")) == "Done."
    assert len(records(session, "forecast")) == 2
    assert [message.is_error for message in tool_messages(model)] == [False, False, True]
    assert "no more than 2 tool calls are allowed" in tool_messages(model)[-1].content


async def test_a_model_that_goes_on_past_the_limit_is_told_and_may_answer():
    agent, model = agent_of(*[tool_call("forecast", city=city) for city in "abc"], "Done.", tool_nodes=[forecast],
                            max_tool_calls=1)  # fmt: skip
    async with rt.Session() as session:
        assert str(await rt.call(agent, "Go.")) == "Done."
    assert len(records(session, "forecast")) == 1
    assert len(model.calls) == 4


async def test_a_model_that_never_stops_asking_for_tools_is_given_up():
    agent, model = agent_of(lambda _: tool_call("forecast", city="a"), tool_nodes=[forecast], max_tool_calls=1)
    async with rt.Session() as session:
        with pytest.raises(LLMError, match="no more than 1 tool calls are allowed") as caught:
            await rt.call(agent, "Go.")
    assert len(records(session, "forecast")) == 1
    assert isinstance(caught.value.message_history, MessageHistory)
    assert caught.value.message_history[0] == asked("Go.")
    assert isinstance(caught.value.message_history[-1], AssistantMessage)
    assert len(model.calls) == 4


async def test_without_any_tool_calls_allowed_none_is_run():
    agent, model = agent_of(tool_call("forecast", city="a"), "Done.", tool_nodes=[forecast], max_tool_calls=0)
    assert str(await rt.call(agent, "Go.")) == "Done."
    assert tool_messages(model)[0].is_error


async def test_each_run_of_an_agent_has_its_own_count():
    agent, _ = agent_of(*[tool_call("forecast", city="a"), "Done."] * 2, tool_nodes=[forecast], max_tool_calls=1)
    async with rt.Session() as session:
        await rt.call(agent, "Go.")
        await rt.call(agent, "Go.")
    assert len(records(session, "forecast")) == 2


# ---- output_schema


async def test_an_answer_that_fits_the_schema_is_an_object_of_its_class():
    agent, model = agent_of('{"name": "Oslo", "height": 23}', output_schema=Place)
    response = await rt.call(agent, "Where?")
    assert response.content == Place("Oslo", 23.0)
    assert str(response) == str(Place("Oslo", 23.0))
    assert response.text == '{"name": "Oslo", "height": 23}'
    (told,) = model.outputs
    assert told.name == "Place"
    assert set(told.schema["properties"]) == {"name", "height"}


async def test_an_answer_that_is_no_object_is_wrapped():
    agent, _ = agent_of('{"value": [1, 2]}', output_schema=list[int])
    assert (await rt.call(agent, "Count.")).content == [1, 2]


async def test_an_answer_that_does_not_fit_goes_back_and_may_be_repaired():
    agent, model = agent_of("Oslo.", '{"name": "Oslo"}', '{"name": "Oslo", "height": 23}', output_schema=Place)
    async with rt.Session() as session:
        response = await rt.call(agent, "Where?")
    assert response.content == Place("Oslo", 23.0)
    assert "That is not what was asked for: the answer must be JSON" in model.calls[1][-1].content
    assert model.calls[2][-1] == asked("That is not what was asked for: height: missing")
    assert len(response.message_history) == 6
    assert [record.status for record in session.info.records] == [Status.COMPLETED] * 4


async def test_an_answer_that_never_fits_is_an_error_with_the_conversation():
    agent, model = agent_of(lambda _: "Oslo.", name="Finder", output_schema=Place)
    async with rt.Session() as session:
        with pytest.raises(LLMError, match="the model scripted of the agent Finder gave no answer of use") as caught:
            await rt.call(agent, "Where?")
    assert len(model.calls) == 3
    history = caught.value.message_history
    assert history == [*model.calls[-1], AssistantMessage("Oslo.")]
    assert [record.status for record in session.info.records] == [
        Status.FAILED, Status.COMPLETED, Status.COMPLETED, Status.FAILED,
    ]  # fmt: skip


async def test_tools_and_a_schema_go_together():
    agent, _ = agent_of(tool_call("forecast", city="Oslo"), '{"name": "Oslo", "height": 1}', tool_nodes=[forecast],
                        output_schema=Place)  # fmt: skip
    assert (await rt.call(agent, "Go.")).content == Place("Oslo", 1)


# ---- models that fail


async def test_what_a_model_raises_reaches_the_caller_as_the_same_object():
    error = ConnectionError("lost")
    agent, _ = agent_of(error)
    async with rt.Session() as session:
        with pytest.raises(ConnectionError) as caught:
            await rt.call(agent, "Go.")
    assert caught.value is error
    assert [record.exception for record in session.info.records] == [error, error]


async def test_an_error_of_the_model_can_be_caught_by_the_caller():
    agent, _ = agent_of(ConnectionError("lost"), "Now.")

    async def retrying():
        try:
            return await rt.call(agent, "Go.")
        except ConnectionError:
            return await rt.call(agent, "Again.")

    assert str(await rt.call(retrying)) == "Now."


class Rubbish(ScriptedModel):
    def __init__(self, rubbish):
        super().__init__([])
        self.rubbish = rubbish

    async def complete(self, messages, **_):
        return self.rubbish

    async def stream(self, messages, **_):
        yield "a"
        if self.rubbish is not None:
            yield self.rubbish


@pytest.mark.parametrize("rubbish", [None, "text", 7, AssistantMessage("a"), {"role": "assistant"}])
async def test_a_model_that_returns_no_completion_is_told_what_to_return(rubbish):
    agent = rt.agent_node("Poor", llm=Rubbish(rubbish))
    with pytest.raises(LLMError, match=r"the model scripted of the agent Poor gave .*complete\(\) must return an"):
        await rt.call(agent, "Go.")


async def test_a_completion_whose_message_is_none_is_told():
    agent, _ = agent_of(Completion("Hello."))
    with pytest.raises(LLMError, match="Hello"):
        await rt.call(agent, "Go.")


async def test_a_script_that_is_too_short_says_so():
    agent, _ = agent_of(tool_call("forecast", city="a"), tool_nodes=[forecast])
    with pytest.raises(ScriptError, match="asked 2 times, but has 1 answers"):
        await rt.call(agent, "Go.")


# ---- timeout and cancellation


async def hang(*_):
    await anyio.sleep_forever()


@rt.function_node(name="wait")
async def wait_forever() -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize("where", ["request", "tool", "agent"])
async def test_a_timeout_cancels_what_runs(where):
    inner, _ = agent_of(hang, name="inner")
    answer = {"request": hang, "tool": tool_call("wait"), "agent": tool_call("inner", request="x")}[where]
    agent, _ = (
        agent_of([answer][0], "never", tool_nodes=[wait_forever, inner])
        if where != "request"
        else agent_of(hang, "never")
    )
    async with rt.Session(timeout=5) as session:
        start = anyio.current_time()
        with pytest.raises(GlobalTimeOutError):
            await rt.call(agent, "Go.")
        assert anyio.current_time() - start == pytest.approx(5)
    ends = {
        record.name: (record.status, record.reason)
        for record in session.info.records
        if record.status is not Status.COMPLETED
    }
    expected = {"request": ["Agent", "chat scripted"], "tool": ["Agent", "wait"],
                "agent": ["Agent", "inner", "chat scripted"]}[where]  # fmt: skip
    assert ends == dict.fromkeys(expected, (Status.CANCELLED, Reason.TIMEOUT))


@pytest.mark.parametrize("where", ["request", "tool"])
async def test_a_cancellation_from_outside_cancels_what_runs_and_is_passed_on(where):
    agent, _ = (
        agent_of(hang, "never")
        if where == "request"
        else agent_of([tool_call("wait"), tool_call("wait")], "never", tool_nodes=[wait_forever])
    )
    async with rt.Session() as session:
        with anyio.move_on_after(3) as scope:
            await rt.call(agent, "Go.")
            pytest.fail("it was cancelled")
        assert scope.cancelled_caught
        assert not [record for record in session.info.records if record.status is Status.OPEN]
    names = {record.name for record in session.info.records if record.status is Status.CANCELLED}
    assert names == ({"Agent", "chat scripted"} if where == "request" else {"Agent", "wait"})
    cancelled = [record.reason for record in session.info.records if record.status is Status.CANCELLED]
    assert set(cancelled) == {Reason.OUTSIDE}


async def test_a_model_may_clean_up_when_it_is_cancelled():
    closed = []

    async def answer(_):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            closed.append(True)

    agent, _ = agent_of(answer)
    with pytest.raises(GlobalTimeOutError):
        async with rt.Session(timeout=2):
            await rt.call(agent, "Go.")
    assert closed == [True]


async def test_a_model_that_raises_a_stray_cancellation_does_not_cancel_anybody_else(backend):
    if backend == "trio":
        pytest.skip("trio's Cancelled cannot be raised by hand")

    async def answer(_):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    agent, _ = agent_of(answer)
    async with rt.Session():
        with pytest.raises(asyncio.CancelledError):
            await rt.call(agent, "Go.")
        assert str(await rt.call(hello(), "Ada")) == "Hello, Ada"


async def test_a_session_whose_body_raises_cancels_its_agents():
    agent, _ = agent_of(hang, "never")
    with pytest.raises(KeyError):
        async with rt.Session() as session:
            session.start_soon(agent, "Go.")
            await anyio.sleep(1)
            raise KeyError
    assert {record.status for record in session.info.records} == {Status.CANCELLED}


# ---- what agent_node is given


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": ""}, r"name is ''; give rt.agent_node\(\) a text"),
        ({"name": 7}, r"name is 7; give rt.agent_node\(\) a text"),
        ({"version": ""}, "version is ''"),
        ({"llm": "gpt-5"}, r"the llm of the agent Agent, a str, has to have name, and has none; .*rt.llm.OpenAI"),
        ({"llm": None}, "has to have name, and has none"),
        ({"llm": ScriptedModel}, "is the class ScriptedModel, and not one of it"),
        ({"max_tool_calls": -1}, "max_tool_calls is -1; give"),
        ({"max_tool_calls": True}, "max_tool_calls is True; give"),
        ({"max_tool_calls": 1.5}, "max_tool_calls is 1.5; give"),
        ({"system_message": 7}, "system_message is 7; give"),
        ({"system_message": UserMessage("a")}, "system_message is UserMessage"),
        ({"tool_nodes": [7]}, "tool_nodes"),
        ({"tool_nodes": ["forecast"]}, "tool_nodes"),
        ({"tool_nodes": [forecast, rt.function_node(add, name="forecast")]}, "two tools are called 'forecast'; give"),
        ({"tool_nodes": [lambda city: city, lambda town: town]}, "two tools are called '_lambda_'"),
    ],
)
def test_misuse_of_agent_node_is_told_at_once(arguments, told):
    with pytest.raises(NodeCreationError, match=told):
        rt.agent_node(**{"llm": ScriptedModel([]), **arguments})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"tool_nodes": forecast}, "tool_nodes"),
        ({"tool_nodes": None}, "tool_nodes"),
        ({"manifest": "Knows the weather."}, "manifest"),
        ({"memo": "no"}, "memo"),
        ({"manifest": rt.ToolManifest("x", ["city"])}, "Parameter"),
        ({"manifest": rt.ToolManifest("x", [rt.Parameter("a b")])}, "a b"),
        ({"manifest": rt.ToolManifest("x", [rt.Parameter("a"), rt.Parameter("a")])}, "two parameters"),
        ({"system_message": SystemMessage(7)}, "text"),
    ],
)
def test_misuse_that_only_shows_later_is_told_at_once_as_well(arguments, told):
    with pytest.raises(NodeCreationError, match=told):
        rt.agent_node(**{"llm": ScriptedModel([]), **arguments})


def test_a_tool_whose_parameters_cannot_be_told_is_refused_by_name():
    def tool(what: ScriptedModel) -> None: ...

    with pytest.raises(NodeCreationError, match=r"parameter 'what' of the tool 'tool'"):
        rt.agent_node(llm=ScriptedModel([]), tool_nodes=[tool])


def test_the_model_is_a_keyword_and_has_to_be_given():
    with pytest.raises(TypeError, match="llm"):
        rt.agent_node("Agent")


def test_an_agent_looks_like_a_class_of_the_module_that_makes_it():
    agent = hello("Greeter")
    assert (agent.__name__, agent.__module__, agent.name(), agent.type()) == ("Greeter", __name__, "Greeter", "Agent")
    assert rt.agent_node(llm=ScriptedModel([])).name() == "Agent"


# ---- prompt injection


async def sent(text, context, *, message=UserMessage, system=None, **options):
    """What the model got."""
    agent, model = agent_of("Done.", system_message=system)
    async with rt.Session(context, **options):
        await rt.call(agent, text)
    return [message.content for message in model.calls[0]]


async def test_names_in_system_and_user_messages_are_filled_from_the_context():
    found = await sent("I am {who}, {age}; {unknown}", {"who": "Ada", "age": 36, "city": "Oslo"}, system="In {city}.")
    assert found == ["In Oslo.", "I am Ada, 36; {unknown}"]


async def test_messages_of_models_and_tools_are_not_filled():
    given = [AssistantMessage("{who}", [ToolCall("1", "t", {"a": "{who}"})]), ToolMessage("{who}", "1", "t")]
    agent, model = agent_of("Done.")
    async with rt.Session({"who": "Ada"}):
        await rt.call(agent, given)
    assert model.calls == [given]


async def test_a_session_may_switch_injection_off():
    assert await sent("{who}", {"who": "Ada"}, prompt_injection=False) == ["{who}"]


async def test_a_flow_may_switch_injection_off():
    agent, model = agent_of("Done.", system_message="{who}")
    await rt.Flow("F", entry_point=agent, context={"who": "Ada"}, prompt_injection=False).ainvoke("{who}")
    assert [message.content for message in model.calls[0]] == ["{who}"] * 2


async def test_the_configuration_may_switch_injection_off():
    rt.set_config(prompt_injection=False)
    assert await sent("{who}", {"who": "Ada"}) == ["{who}"]
    assert await sent("{who}", {"who": "Ada"}, prompt_injection=True) == ["Ada"]


async def test_the_environment_may_switch_injection_off(monkeypatch):
    monkeypatch.setenv("RAILTRACKS_PROMPT_INJECTION", "false")
    assert await sent("{who}", {"who": "Ada"}) == ["{who}"]


async def test_a_message_may_switch_injection_off():
    found = await sent(
        [UserMessage("{who}", inject_prompt=False), UserMessage("{who}")], {"who": "Ada"},
        system=SystemMessage("{who}", inject_prompt=False),
    )  # fmt: skip
    assert found == ["{who}", "{who}", "Ada"]


async def test_values_are_not_filled_again():
    assert await sent("{a} {b}", {"a": "{b}", "b": "{a}"}) == ["{b} {a}"]


async def test_values_are_not_filled_again_when_the_history_goes_to_another_agent():
    first, _ = agent_of("Said {secret}.")
    second, model = agent_of("Done.")
    async with rt.Session({"name": "{secret}", "secret": "hidden"}):
        response = await rt.call(first, "I am {name} {{secret}}")
        await rt.call(second, [*response.message_history, UserMessage("And {name}?")])
    assert [message.content for message in model.calls[0]] == [
        "I am {secret} {secret}", "Said {secret}.", "And {secret}?",
    ]  # fmt: skip


async def test_what_a_model_wrote_for_an_agent_is_not_filled():
    helper, model = agent_of("Done.", "Done.", name="helper", system_message="For {who}.")
    other, others_model = agent_of("Done.", name="other", manifest=rt.ToolManifest("x", [rt.Parameter("what")]))
    agent, _ = agent_of(
        [tool_call("helper", request="{secret}"), tool_call("other", what="{secret}")], "Done.",
        tool_nodes=[helper, other],
    )  # fmt: skip
    async with rt.Session({"secret": "hidden", "who": "Ada"}):
        await rt.call(agent, "Go.")
    assert [message.content for message in model.calls[0]] == ["For Ada.", "{secret}"]
    assert [message.content for message in others_model.calls[0]] == ["what: {secret}"]


async def test_what_a_tool_gave_is_not_filled():
    async def tool():
        return "{secret}"

    agent, model = agent_of(tool_call("tool"), "Done.", tool_nodes=[tool])
    async with rt.Session({"secret": "hidden"}):
        await rt.call(agent, "Go.")
    assert tool_messages(model)[0].content == "{secret}"


async def test_what_a_model_is_told_about_its_answer_is_not_filled():
    agent, model = agent_of('{"{secret}": 1}', '{"name": "a", "height": 1}', output_schema=Place)
    async with rt.Session({"secret": "hidden"}):
        await rt.call(agent, "Go.")
    assert '"{secret}"' in model.calls[1][-1].content


@pytest.mark.parametrize(
    "text", ['{"who": 1}', '{ "a": {"b": [1, {}]} }', "{}", "{ who }", "{who.real}", "{who[0]}", "{who!r}", "{who:>10}",
             "{0}", "{", "}", "{who", "who}", "{{", "}}"]
)  # fmt: skip
async def test_braces_that_hold_no_bare_name_survive(text):
    assert await sent(text, {"who": "Ada", "a": 1, "b": 2, "0": 3}, system=f"x{text}") == [f"x{text}", text]


async def test_a_doubled_brace_is_a_literal_name():
    assert await sent("{{who}} {who} {{{who}}}", {"who": "Ada"}) == ["{who} Ada {{who}}"]


async def test_the_context_that_a_tool_changes_does_not_change_the_prompts_of_the_run():
    async def change():
        rt.context.put("who", "Bob")
        rt.context.put("new", "x")

    agent, model = agent_of(tool_call("change"), "Done.", "Done.", tool_nodes=[change], system_message="{who} {new}")
    async with rt.Session({"who": "Ada"}):
        await rt.call(agent, "{who} {new}")
        await rt.call(agent, "{who} {new}")
    assert [[message.content for message in call[:2]] for call in model.calls] == [
        ["Ada {new}", "Ada {new}"], ["Ada {new}", "Ada {new}"], ["Bob x", "Bob x"],
    ]  # fmt: skip


async def test_a_value_that_has_no_text_fails_the_agent_with_its_error():
    with pytest.raises(RuntimeError, match="no text"):
        await sent("{odd}", {"odd": Odd()})


async def test_escaped_text_comes_through_as_it_is():
    text = '{who} {{who}} {"a": {who}} {who.x} { {who} }'
    assert await sent(rt.escape_braces(text), {"who": "Ada"}) == [text]


# ---- state of its own


async def test_one_agent_runs_many_times_at_once_without_mixing_up():
    async def answer(messages):
        number = int(messages[0].content)
        if len(messages) == 1:
            await anyio.sleep(1 / (1 + number))
            return tool_call("echo", number=number)
        assert messages[-1].content == str(number)
        return f"{number}!"

    async def echo(number: int) -> int:
        await anyio.sleep(number)
        return number

    agent, model = agent_of(answer, tool_nodes=[echo])
    async with rt.Session():
        responses = await rt.call_batch(agent, map(str, range(5)))
    assert [str(response) for response in responses] == [f"{number}!" for number in range(5)]
    assert len(model.calls) == 10


async def test_a_model_gets_a_list_of_its_own():
    class Greedy(ScriptedModel):
        async def complete(self, messages, **options):
            result = await super().complete(list(messages), **options)
            messages.clear()
            return result

    agent = rt.agent_node(llm=Greedy([tool_call("forecast", city="a"), "Done."]), tool_nodes=[forecast])
    response = await rt.call(agent, "Go.")
    assert len(response.message_history) == 4
