"""The tools of an agent: what can be one, the order of their results, the arguments, the limit on calls."""

from __future__ import annotations

import functools
import json
import threading

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import LLMError, NodeCreationError
from railtracks.llm import AssistantMessage, MessageHistory, ToolCall, ToolMessage
from railtracks.testing import tool_call
from tests.agents.helpers import Place, add, agent_of, asked, broken, forecast, hello, records, tool_messages

# ---- kinds of tools, and their results


class Square(rt.nodes.Node[int]):
    """The square of a number."""

    def __init__(self, number: int) -> None:
        self.number = number

    async def invoke(self) -> int:
        return self.number**2

    @classmethod
    def name(cls) -> str:
        return "square"


async def shout(text: str) -> str:
    return text.upper()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            lambda: shout("a"),
            r"not the coroutine of shout\(\.\.\.\); write tool_nodes=\[shout\]$",
        ),
        (lambda: Square(2), r"not an instance of Square; write tool_nodes=\[Square\]$"),
        (lambda: "forecast", r"^'forecast' is not a node; pass tool_nodes a function"),
    ],
)
def test_what_cannot_be_a_tool_is_refused(given, says):
    with pytest.raises(NodeCreationError, match=says):
        rt.agent_node(tool_nodes=[given()])


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


async def test_each_request_has_the_schemas_of_the_tools():
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


async def test_results_go_back_in_the_order_of_the_calls():
    """The order in which the tools end does not matter."""
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


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, "null"), (True, "true"), (1.5, "1.5"), ([1, "é"], '[1,"é"]'), ("as it is", "as it is"), ("", ""),
        (Place("Oslo", 23), '{"name":"Oslo","height":23.0}'), ({"a": [Place("b", 1.5)]}, None),
        (["北京", "Köln"], '["北京", "Köln"]'), ({1: b"\x00", "b": float("inf")}, '{"1": "AA==", "b": "inf"}'),
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
        assert "\\u" not in message.content
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


# ---- calls that cannot be run


async def test_an_unknown_tool_goes_back_with_the_names_of_the_tools():
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


async def test_a_model_past_the_limit_of_calls_may_still_answer():
    """Each call past the limit goes back as an error, and an answer after that counts."""
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


async def test_a_limit_of_zero_tool_calls_runs_no_tool():
    agent, model = agent_of(tool_call("forecast", city="a"), "Done.", tool_nodes=[forecast], max_tool_calls=0)
    assert str(await rt.call(agent, "Go.")) == "Done."
    assert tool_messages(model)[0].is_error


async def test_each_run_of_an_agent_has_its_own_count():
    agent, _ = agent_of(*[tool_call("forecast", city="a"), "Done."] * 2, tool_nodes=[forecast], max_tool_calls=1)
    async with rt.Session() as session:
        await rt.call(agent, "Go.")
        await rt.call(agent, "Go.")
    assert len(records(session, "forecast")) == 2
