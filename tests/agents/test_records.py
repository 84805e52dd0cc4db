"""What stands on record of agents: nodes, attributes, conversations; and what never does: secrets."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.agents._attributes import of_request
from railtracks.exceptions import GlobalTimeOutError
from railtracks.llm import (
    AssistantMessage,
    Completion,
    MessageHistory,
    Price,
    ToolCall,
    ToolMessage,
    Usage,
    UserMessage,
)
from railtracks.state import Reason, Secret, Status
from railtracks.testing import ScriptedModel, tool_call

FOLDER = Path(".railtracks")
KEY = "Qz7-hunter2-of-the-model"


class Model(ScriptedModel):
    """With all that a real one has."""

    provider = "openai"
    settings = {"temperature": 0.5, "max_completion_tokens": 100, "reasoning_effort": "low"}
    api_key = Secret(KEY)

    def __init__(self, answers, **options):
        super().__init__(answers, price=Price(input=1000, output=2000), **options)


def completion(text="", *calls):
    return Completion(AssistantMessage(text, calls), Usage(10, 5), "gpt-5-2025", "resp-1",
                      "tool_calls" if calls else "stop")  # fmt: skip


def said(text):
    return UserMessage(text, inject_prompt=False)


@rt.function_node
async def look_up(word: str) -> str:
    return f"about {word}"


CALL = ToolCall("c1", "look_up", {"word": "x"})
CONVERSATION = [said("Hello."), AssistantMessage("", [CALL]), ToolMessage("about x", "c1", "look_up"),
                AssistantMessage("Done.")]  # fmt: skip


def reader(*answers, name="Reader", **options):
    given = answers or (completion("", CALL), completion("Done."))
    return rt.agent_node(name, llm=Model(given, name="gpt-5"), tool_nodes=[look_up],
                         system_message=options.pop("system_message", "You read."), **options)  # fmt: skip


def attributes(info, name):
    """What the calls of this name said about themselves, in order."""
    nodes = info.node_forest.heap().values()
    return [node.details.get("attributes") for node in nodes if node.name == name]


def written():
    return b"".join(path.read_bytes() for path in FOLDER.rglob("*") if path.is_file())


# ---- nodes and attributes


async def test_each_request_and_each_tool_is_a_node_below_the_agent():
    async with rt.Session() as session:
        await rt.call(reader(), "Hello.")
    assert [(r.name, r.node_type, r.parent) for r in session.info.records] == [
        ("Reader", "Agent", None), ("chat gpt-5", "Other", 0), ("look_up", "Tool", 0), ("chat gpt-5", "Other", 0),
    ]  # fmt: skip


AGENT = {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.agent.name": "Reader",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.system_instructions": [{"type": "text", "content": "You read."}],
}
REQUEST = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-5",
    "gen_ai.request.stream": False,
    "gen_ai.request.temperature": 0.5,
    "gen_ai.request.max_tokens": 100,
    "railtracks.request.reasoning_effort": "low",
}
RESPONSE = {
    "gen_ai.response.model": "gpt-5-2025",
    "gen_ai.response.id": "resp-1",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 5,
    "railtracks.cost": 0.02,
}


def check_attributes(info):
    usage = {"gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 10, "railtracks.cost": 0.04}
    assert attributes(info, "Reader") == [{**AGENT, **usage}]
    assert attributes(info, "chat gpt-5") == [
        {**REQUEST, **RESPONSE, "gen_ai.response.finish_reasons": ["tool_calls"]},
        {**REQUEST, **RESPONSE, "gen_ai.response.finish_reasons": ["stop"]},
    ]
    assert attributes(info, "look_up") == [None]


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
@pytest.mark.parametrize("store", ["file:runs", "sqlite:runs.db"])
async def test_the_attributes_have_the_names_of_opentelemetry(durability, store):
    """In the live session and in the run that is loaded."""
    async with rt.Session(run_identifier="run", durability=durability, store=store) as session:
        await rt.call(reader(), "Hello.")
        check_attributes(session.info)
    check_attributes(session.info)
    rt.set_config(store=store)
    loaded = rt.state.load_run("run")
    check_attributes(loaded)
    assert loaded == session.info
    assert [set(node["details"]) for node in loaded.payload()["runs"][0]["nodes"]] == [
        set(node["details"]) for node in session.payload()["runs"][0]["nodes"]
    ]


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_the_attributes_of_a_run_that_died_are_in_its_journal(durability):
    """The process dies in the second request."""

    async def die(_):
        await anyio.sleep(10)  # what happened before is written
        (FOLDER / "dead.journal").write_bytes((FOLDER / "run.journal").read_bytes())
        return completion("Done.")

    async with rt.Session(run_identifier="run", durability=durability):
        await rt.call(reader(completion("", CALL), die), "Hello.")
    dead = rt.state.load_run("dead")
    assert [record.status for record in dead.records] == [Status.OPEN, Status.COMPLETED, Status.COMPLETED, Status.OPEN]
    assert attributes(dead, "Reader") == [AGENT]
    assert attributes(dead, "chat gpt-5") == [
        {**REQUEST, **RESPONSE, "gen_ai.response.finish_reasons": ["tool_calls"]},
        REQUEST,
    ]


async def test_a_request_that_failed_records_what_was_asked():
    async with rt.Session() as session:
        with pytest.raises(ConnectionError):
            await rt.call(reader(ConnectionError("lost")), "Hello.")
    assert attributes(session.info, "chat gpt-5") == [REQUEST]
    assert attributes(session.info, "Reader") == [AGENT]


async def test_a_request_that_was_cancelled_records_what_was_asked():
    async def hang(_):
        await anyio.sleep_forever()

    async with rt.Session(timeout=5) as session:
        with pytest.raises(GlobalTimeOutError):
            await rt.call(reader(hang), "Hello.")
    assert attributes(session.info, "chat gpt-5") == [REQUEST]


async def test_a_streamed_request_says_so():
    async with rt.Session() as session:
        async for _ in rt.astream(reader(completion("Done.")), "Hello."):
            pass
    assert attributes(session.info, "chat gpt-5")[0]["gen_ai.request.stream"] is True


async def test_a_request_for_an_object_says_so():
    agent = rt.agent_node(llm=ScriptedModel(['{"value": 2}']), output_schema=int)
    async with rt.Session() as session:
        await rt.call(agent, "How many?")
    assert attributes(session.info, "chat scripted")[0]["gen_ai.output.type"] == "json"


@pytest.mark.parametrize(("given", "recorded"), [("END", ["END"]), (["a", "b"], ["a", "b"])])
def test_what_stops_a_model_is_a_list_on_record(given, recorded):
    model = ScriptedModel([])
    model.settings = {"stop": given}
    assert of_request(model, False, None)["gen_ai.request.stop_sequences"] == recorded


async def test_the_attributes_hold_only_what_is_known():
    """The agent has no system message, and its model counts no tokens."""
    agent = rt.agent_node(llm=ScriptedModel([Completion(AssistantMessage("Hi."))]))
    async with rt.Session() as session:
        await rt.call(agent, "Hello.")
    assert attributes(session.info, "chat scripted") == [
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "scripted",
            "gen_ai.request.model": "scripted",
            "gen_ai.request.stream": False,
        }
    ]
    assert "gen_ai.system_instructions" not in attributes(session.info, "Agent")[0]


async def test_the_input_and_output_of_a_model_are_recorded_once():
    async with rt.Session(run_identifier="run") as session:
        await rt.call(reader(), "Hello.")
    first, second = (record for record in session.info.records if record.name == "chat gpt-5")
    assert (first.args, second.args) == (([said("Hello.")],), (CONVERSATION[2:3],))
    assert first.kwargs["after"] != second.kwargs["after"]
    assert second.result.message == AssistantMessage("Done.")
    text = written().decode()
    assert text.count("about x") == 4  # of the tool, to the model, and in the agent's result


async def test_the_record_shows_what_was_sent_and_what_was_written():
    async with rt.Session({"who": "Ada"}) as session:
        await rt.call(reader(completion("Hi."), system_message="For {who}."), "I am {who}.")
    agent, request = session.info.records
    assert agent.args == ("I am {who}.",)
    assert request.args == ([said("I am Ada.")],)
    (told,) = attributes(session.info, "Reader")
    assert told["gen_ai.system_instructions"][0]["content"] == "For Ada."


async def test_settings_with_a_secret_in_them_are_masked():
    class Odd(Model):
        settings = {"extra_headers": {"Authorization": "Bearer abcdefgh123"}}

    async with rt.Session() as session:
        await rt.call(rt.agent_node(llm=Odd(["Hi."])), "Hello.")
    assert "abcdefgh123" not in json.dumps(session.payload())
    assert b"abcdefgh123" not in written()


# ---- conversations


def conversations(connection):
    return list(connection.message_histories().values())


async def test_the_conversation_of_an_agent_that_completed():
    connection = rt.Flow("F", entry_point=reader()).connect()
    response = await connection.ainvoke("Hello.")
    assert conversations(connection) == [CONVERSATION]
    assert response.message_history == CONVERSATION
    (node_id,) = connection.message_histories()
    assert connection.session.info.node_forest.heap()[node_id].name == "Reader"
    assert type(conversations(connection)[0]) is MessageHistory


async def test_the_conversations_of_nested_agents_are_in_call_order():
    inner = reader(completion("Yes."), name="inner")
    outer = rt.agent_node("outer", llm=ScriptedModel([tool_call("inner", request="Is it?"), "It is."]),
                          tool_nodes=[inner])  # fmt: skip
    connection = rt.Flow("F", entry_point=outer).connect()
    await connection.ainvoke("Ask.")
    first, second = conversations(connection)
    assert [message.content for message in first] == ["Ask.", "", "Yes.", "It is."]
    assert second == [said("Is it?"), AssistantMessage("Yes.")]


async def test_a_flow_without_agents_has_no_conversations():
    connection = rt.Flow("F", entry_point=look_up).connect()
    await connection.ainvoke("x")
    assert connection.message_histories() == {}


async def test_the_conversation_of_a_failed_agent_ends_at_the_failure():
    connection = rt.Flow("F", entry_point=reader(completion("", CALL), ConnectionError())).connect()
    with pytest.raises(ConnectionError):
        await connection.ainvoke("Hello.")
    assert conversations(connection) == [CONVERSATION[:3]]


async def test_the_conversation_of_an_agent_cancelled_in_its_request():
    async def hang(_):
        await anyio.sleep_forever()

    connection = rt.Flow("F", entry_point=reader(completion("", CALL), hang), timeout=5).connect()
    with pytest.raises(GlobalTimeOutError):
        await connection.ainvoke("Hello.")
    assert conversations(connection) == [CONVERSATION[:3]]


async def test_the_conversation_of_an_agent_that_still_runs():
    found = []

    def look(_):
        found.extend(conversations(connection))
        return completion("Done.")

    connection = rt.Flow("F", entry_point=reader(completion("", CALL), look)).connect()
    await connection.ainvoke("Hello.")
    assert found == [CONVERSATION[:3]]


async def test_the_conversation_of_an_agent_with_wrong_input_is_empty():
    connection = rt.Flow("F", entry_point=reader()).connect()
    with pytest.raises(rt.exceptions.NodeInvocationError):
        await connection.ainvoke(7)
    assert conversations(connection) == [[]]


async def test_the_conversation_with_an_answer_that_had_to_be_repaired():
    agent = rt.agent_node(llm=ScriptedModel(["two", '{"value": 2}']), output_schema=int)
    connection = rt.Flow("F", entry_point=agent).connect()
    await connection.ainvoke("How many?")
    (history,) = conversations(connection)
    assert [message.role for message in history] == ["user", "assistant", "user", "assistant"]


async def test_a_hopeless_answer_is_in_the_conversation_of_the_error():
    agent = rt.agent_node(llm=ScriptedModel(lambda _: "two"), output_schema=int)
    connection = rt.Flow("F", entry_point=agent).connect()
    with pytest.raises(rt.exceptions.LLMError) as caught:
        await connection.ainvoke("How many?")
    (history,) = conversations(connection)
    assert caught.value.message_history[: len(history)] == history
    assert len(history) == 5


# ---- resuming


@pytest.fixture
def broken():
    return [True]


def failing_after(agent, broken):
    async def entry(text):
        response = await rt.call(agent, text)
        if broken:
            raise RuntimeError("later")
        return response.content

    return entry


async def test_a_resumed_run_uses_the_answers_that_it_has(broken):
    flow = rt.Flow("F", entry_point=failing_after(reader(), broken), run_identifier="run")
    with pytest.raises(RuntimeError, match="later"):
        await flow.ainvoke("Hello.")
    broken.clear()
    connection = flow.connect()
    assert await connection.aresume("run") == "Done."
    assert conversations(connection) == [CONVERSATION]
    check_attributes(connection.session.info)
    check_attributes(rt.state.load_run("run"))
    reused = {decision.name: decision.reused for decision in connection.session.info.resumed}
    assert reused == {"entry": False, "Reader": True}


async def test_a_run_that_failed_in_a_request_repeats_that_alone():
    """The first request had completed, and is not asked again."""
    model = Model([completion("", CALL), ConnectionError("lost"), completion("Done.")], name="gpt-5")
    agent = rt.agent_node("Reader", llm=model, tool_nodes=[look_up], system_message="You read.")
    flow = rt.Flow("F", entry_point=agent, run_identifier="run")
    with pytest.raises(ConnectionError):
        await flow.ainvoke("Hello.")
    connection = flow.connect()
    assert str(await connection.aresume("run")) == "Done."
    assert len(model.calls) == 3
    assert model.calls[1] == model.calls[2]
    assert conversations(connection) == [CONVERSATION]
    check_attributes(connection.session.info)


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_a_run_that_died_in_a_request_repeats_that_alone(durability):
    """The first request had completed, and is not asked again."""

    async def die(_):
        if rt.session_id() == "run":
            await anyio.sleep(10)
            (FOLDER / "dead.journal").write_bytes((FOLDER / "run.journal").read_bytes())
        return completion("Done.")

    model = Model([completion("", CALL), die, die], name="gpt-5")
    agent = rt.agent_node("Reader", llm=model, tool_nodes=[look_up], system_message="You read.")
    flow = rt.Flow("F", entry_point=agent, durability=durability)
    async with rt.Session(run_identifier="run", durability=durability):
        await rt.call(agent, "Hello.")
    connection = flow.connect()
    assert str(await connection.aresume("dead")) == "Done."
    assert len(model.calls) == 3
    assert conversations(connection) == [CONVERSATION]
    check_attributes(connection.session.info)


async def test_a_run_that_was_cancelled_in_a_tool_runs_that_tool_alone():
    hanging = [True]
    ran = []

    async def slow(word: str) -> str:
        ran.append(word)
        if hanging and word == "b":
            await anyio.sleep_forever()
        return word

    model = Model([[tool_call("slow", word="a"), tool_call("slow", word="b")], "Done."])
    agent = rt.agent_node(llm=model, tool_nodes=[slow])
    flow = rt.Flow("F", entry_point=agent, run_identifier="run", timeout=5)
    with pytest.raises(GlobalTimeOutError):
        await flow.ainvoke("Hello.")
    hanging.clear()
    assert str(await flow.aresume("run")) == "Done."
    assert sorted(ran) == ["a", "b", "b"]
    assert len(model.calls) == 2


async def test_an_agent_of_other_instructions_asks_again(broken):
    flow = rt.Flow("F", entry_point=failing_after(reader(), broken), run_identifier="run")
    with pytest.raises(RuntimeError):
        await flow.ainvoke("Hello.")
    broken.clear()
    model = Model(["Something else."], name="gpt-5")
    other = rt.agent_node("Reader", llm=model, tool_nodes=[look_up], system_message="You write.")
    again = rt.Flow("F", entry_point=failing_after(other, broken), run_identifier="run")
    assert await again.aresume("run") == "Something else."


async def test_an_agent_that_is_not_to_be_remembered_asks_again(broken):
    agent = reader(completion("One."), completion("Two."), memo=False)
    flow = rt.Flow("F", entry_point=failing_after(agent, broken), run_identifier="run")
    with pytest.raises(RuntimeError):
        await flow.ainvoke("Hello.")
    broken.clear()
    assert await flow.aresume("run") == "Two."


async def test_a_structured_result_is_reused(broken):
    agent = rt.agent_node(llm=ScriptedModel(['{"value": [1, 2]}']), output_schema=list[int])
    flow = rt.Flow("F", entry_point=failing_after(agent, broken), run_identifier="run")
    with pytest.raises(RuntimeError):
        await flow.ainvoke("Hello.")
    broken.clear()
    assert await flow.aresume("run") == [1, 2]


async def test_hopeless_answers_are_asked_for_again_on_resuming():
    model = ScriptedModel(["two"] * 3 + ['{"value": 2}'])
    agent = rt.agent_node(llm=model, output_schema=int)
    flow = rt.Flow("F", entry_point=agent, run_identifier="run")
    with pytest.raises(rt.exceptions.LLMError):
        await flow.ainvoke("How many?")
    assert (await flow.aresume("run")).content == 2
    assert len(model.calls) == 4


# ---- secrets


class Heard(logging.Handler):
    def __init__(self):
        super().__init__()
        self.texts = []

    def emit(self, record):
        self.texts.append(self.format(record))


@pytest.fixture
def heard():
    handler = Heard()
    logging.getLogger("RT").addHandler(handler)
    yield handler.texts
    logging.getLogger("RT").removeHandler(handler)


async def run_watched(entry, *args, durability="sync", context=None):
    """Run it, looking at what is written all the while; all that was ever written, and the session."""
    seen = []
    async with rt.Session(context, run_identifier="run", durability=durability, logging_setting="VERBOSE",
                          log_file="log.txt") as session:  # fmt: skip
        session.subscribe(lambda _: seen.append(written()), policy="wait", capacity=1)
        try:
            await rt.call(entry, *args)
        except Exception as exc:
            seen.append(type(exc).__name__.encode())
    seen += [written(), Path("log.txt").read_bytes(), json.dumps(session.payload()).encode()]
    seen += [path.read_bytes() for path in Path().rglob("*") if path.is_file()]
    return b"".join(seen), session


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
@pytest.mark.parametrize(
    "road", ["tool result", "tool error", "model error", "answer", "tool argument", "hopeless", "system", "settings"]
)
async def test_the_key_of_the_model_is_never_written(road, durability, heard):
    async def tool(word: str = "") -> str:
        if road == "tool error":
            raise ConnectionError(f"https://host/?q={KEY} refused")
        return f"the environment has {KEY}"

    answers: Any = {
        "tool result": [tool_call("tool"), "Done."],
        "tool error": [tool_call("tool"), "Done."],
        "model error": [ConnectionError(f"401: {KEY} is wrong")],
        "answer": [f"It is {KEY}."],
        "tool argument": [tool_call("tool", word=KEY), "Done."],
        "hopeless": lambda _: KEY,
    }.get(road, ["Done."])
    model = Model(answers)
    if road == "settings":
        model.settings = {"user": KEY}
    agent = rt.agent_node(
        llm=model, tool_nodes=[tool], system_message=KEY if road == "system" else None,
        output_schema=int if road == "hopeless" else None,
    )  # fmt: skip
    everything, session = await run_watched(agent, "Hello.", durability=durability)
    assert KEY.encode() not in everything
    assert KEY not in "".join(heard)
    assert b"***" in everything
    fails = {"model error": ConnectionError, "hopeless": rt.exceptions.LLMError}
    assert type(session.info.records[0].exception) is fails.get(road, type(None))


async def test_the_error_of_a_tool_does_not_show_a_key_to_the_model():
    async def tool() -> str:
        raise ConnectionError(f"https://host/?q={KEY} refused")

    model = Model([tool_call("tool"), "Done."])
    await rt.call(rt.agent_node(llm=model, tool_nodes=[tool]), "Hello.")
    assert KEY not in str(model.calls[1])
    assert "refused" in model.calls[1][-1].content


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
async def test_the_key_of_the_model_is_not_written_from_a_question(durability):
    """The user wrote the key into the question."""
    agent = rt.agent_node(llm=Model(["Hi."]))
    everything, session = await run_watched(agent, f"Is {KEY} my key?", durability=durability)
    assert KEY.encode() not in everything
    assert [record.status for record in session.info.records] == [Status.COMPLETED] * 2


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
async def test_the_key_of_a_model_is_not_written_by_another_model(durability):
    inner = rt.agent_node("inner", llm=Model(["Hi."]))
    outer = rt.agent_node("outer", llm=ScriptedModel([tool_call("inner", request=KEY), "Done."]), tool_nodes=[inner])
    everything, session = await run_watched(outer, "Hello.", durability=durability)
    assert KEY.encode() not in everything
    assert [record.status for record in session.info.records] == [Status.COMPLETED] * 5


async def test_a_secret_of_the_context_is_sent_and_not_recorded(heard):
    model = Model(["Your pin is pin-9087-xyz."])
    agent = rt.agent_node(llm=model, system_message="The password is {password}.")
    context = {"password": "hunter-of-9087", "pin": Secret("pin-9087-xyz")}
    everything, session = await run_watched(agent, "Hello {password}.", context=context)
    assert [message.content for message in model.calls[0]] == [
        "The password is hunter-of-9087.",
        "Hello hunter-of-9087.",
    ]
    assert b"hunter-of-9087" not in everything
    assert b"pin-9087-xyz" not in everything
    assert "hunter-of-9087" not in "".join(heard)
    (told,) = attributes(session.info, "Agent")
    assert "hunter" not in json.dumps(told)


async def test_a_marked_secret_is_not_filled_in_by_its_value():
    """``str`` of a Secret hides it. A plain text under a secret name is filled in."""
    model = Model(["Hi."])
    agent = rt.agent_node(llm=model)
    async with rt.Session({"pin": Secret("pin-9087-xyz")}):
        await rt.call(agent, "My pin is {pin}.")
    assert "pin-9087-xyz" not in str(model.calls)


async def test_masked_conversations_run_again_on_resuming(broken):
    """What is not all on record cannot be compared, so it is not used."""
    model = Model([f"It is {KEY}.", f"It is {KEY}."])
    agent = rt.agent_node(llm=model)
    flow = rt.Flow("F", entry_point=failing_after(agent, broken), run_identifier="run")
    with pytest.raises(RuntimeError):
        await flow.ainvoke("Hello.")
    broken.clear()
    assert await flow.aresume("run") == f"It is {KEY}."
    assert len(model.calls) == 2


async def test_requests_after_another_answer_are_asked_again(broken):
    """The first answer is not all on record and is asked for again; what came after the old one is of no use then."""
    before = [completion(f"It is {KEY}.", CALL), completion("", CALL), "One."]
    model = Model([*before, completion("It is not.", CALL), completion("", CALL), "Two."])
    agent = rt.agent_node(llm=model, tool_nodes=[look_up])
    flow = rt.Flow("F", entry_point=failing_after(agent, broken), run_identifier="run")
    with pytest.raises(RuntimeError):
        await flow.ainvoke("Hello.")
    broken.clear()
    assert await flow.aresume("run") == "Two."
    assert len(model.calls) == 6


async def test_records_of_agents_know_why_they_ended():
    async def hang(_):
        await anyio.sleep_forever()

    async with rt.Session() as session:
        with anyio.move_on_after(1):
            await rt.call(reader(hang), "Hello.")
    assert {(record.status, record.reason) for record in session.info.records} == {(Status.CANCELLED, Reason.OUTSIDE)}
