"""Settings for single calls, models that come from the session, and system messages that a function makes."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, NodeCreationError, NodeInvocationError
from railtracks.llm import AssistantMessage, Completion, SystemMessage
from railtracks.nodes._resolve import as_node
from railtracks.testing import ScriptedModel, check, faults, simulate, tool_call
from tests.agents.helpers import agent_of, asked, records


def said(text):
    """Return a model that always says this."""
    return ScriptedModel(lambda _: text, name=text)


# ---- options


async def test_settings_are_those_of_the_call():
    agent, model = agent_of(lambda _: "Hi")
    async with rt.Session() as session:
        await rt.call(agent.options(temperature=0), "Hello")
        await rt.call(agent, "Hello")
    assert model.all_settings == [{"temperature": 0}, {}]
    first, second = (json.loads(record.attributes) for record in records(session, "chat scripted"))
    assert first["gen_ai.request.temperature"] == 0
    assert "gen_ai.request.temperature" not in second


async def test_none_takes_a_setting_away():
    agent, model = agent_of(lambda _: "Hi")
    warm = agent.options(temperature=1, seed=3)
    async with rt.Session():
        await rt.call(warm.options(temperature=None), "Hello")
    assert model.all_settings == [{"seed": 3}]


async def test_the_model_and_instructions_are_those_of_the_call():
    agent, model = agent_of("never asked", system_message="Be brief.")
    other = said("other")
    async with rt.Session(context={"how": "kind"}):
        response = await rt.call(agent.options(llm=other, system_message="Be {how}.", retries=1), "Hello")
        plain = await rt.call(agent.options(llm=other, system_message=None), "Hello")
    assert (response.content, plain.content, model.calls) == ("other", "other", [])
    assert [call[0] for call in other.calls] == [SystemMessage("Be kind.", inject_prompt=False), asked("Hello")]


async def test_bounds_are_those_of_the_call():
    agent, _ = agent_of(tool_call("none"), tool_call("none"), "done", max_requests=1)
    async with rt.Session():
        assert (await rt.call(agent.options(max_requests=None), "Go")).content == "done"


def test_bounds_and_policies_leave_the_agent_the_same_on_record():
    agent, _ = agent_of("Hi")
    same = [agent.options(max_requests=3), agent.options(retries=2), agent.options(repairs=0, tool_errors="raise")]
    others = [agent.options(temperature=0), agent.options(system_message="No."), agent.options(llm=said("x"))]
    assert {_key(each) for each in same} == {_key(agent)}
    assert _key(agent) not in {_key(each) for each in others}


def _key(node):
    return as_node(node).key


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"tool_nodes": []}, ConfigError, r"Agent\.options: tool_nodes cannot be changed for single calls"),
        ({"name": "B"}, ConfigError, "name cannot be changed"),
        ({"max_requests": 0}, NodeCreationError, "max_requests is 0"),
        ({"max_tool_calls": -1}, NodeCreationError, "max_tool_calls is -1"),
        ({"llm": "gpt-5"}, NodeCreationError, "the llm of the agent Agent, a str,"),
        ({"retries": -1}, ConfigError, r"Agent\.options: -1 is not allowed for retries"),
    ],
)
def test_options_are_checked_at_once(options, error, text):
    agent, _ = agent_of("Hi")
    with pytest.raises(error, match=text):
        agent.options(**options)


def test_a_model_without_settings_for_calls_says_so():
    class Plain:
        name, provider, settings, api_key = "plain", "example", {}, None

        async def complete(self, messages, **options):
            return Completion(AssistantMessage("Hi"))

        async def stream(self, messages, **options):
            yield await self.complete(messages)

    with pytest.raises(ConfigError, match=r"the model plain, a Plain, takes no settings .*\(temperature\)"):
        rt.agent_node(llm=Plain()).options(temperature=0)


async def test_an_agent_with_settings_is_a_tool():
    helper, model = agent_of(lambda _: "done", name="Helper")
    agent, _ = agent_of(tool_call("Helper", request="Go"), "Yes.", tool_nodes=[helper.options(temperature=0)])
    async with rt.Session():
        await rt.call(agent, "Go")
    assert model.all_settings == [{"temperature": 0}]


async def test_models_that_fail_take_settings_too():
    inner = ScriptedModel(lambda _: "Hi")
    agent = rt.agent_node(llm=faults.Model(inner, {2: "filtered"}))
    async with rt.Session():
        await rt.call(agent.options(temperature=0), "Hello")
        with pytest.raises(rt.exceptions.Filtered):
            await rt.call(agent, "Hello")
    assert inner.all_settings == [{"temperature": 0}, {}]


async def interrupted(agent, name, **options):
    """Run an agent up to its first tool, in which the run is cancelled."""
    with anyio.move_on_after(5):
        async with rt.Session(run_identifier=name, **options):
            await rt.call(agent, "Go")


@rt.function_node
async def wait() -> str:
    """Wait."""
    await anyio.sleep(rt.context.get("seconds"))
    return "waited"


def waiting(messages):
    return "done" if messages[-1].role == "tool" else tool_call("wait")


@pytest.mark.parametrize(("settings", "requests"), [({"temperature": 1}, 2), ({"temperature": 0}, 3)])
async def test_a_resumed_run_asks_again_where_settings_changed(settings, requests):
    agent, model = agent_of(waiting, tool_nodes=[wait])
    await interrupted(agent.options(temperature=1), "run", context={"seconds": 10})
    async with rt.Session(run_identifier="run", if_exists="resume", allow_rerun=True, context={"seconds": 0}):
        assert (await rt.call(agent.options(**settings), "Go")).content == "done"
    assert len(model.calls) == requests


# ---- the model of the session


@pytest.mark.parametrize("source", ["session", "set_config", "options"])
async def test_an_agent_without_a_model_has_that_of_its_session(source):
    agent, model = rt.agent_node("Open"), said("Hi")
    options = {"default_llm": model} if source == "session" else {}
    if source == "set_config":
        rt.set_config(default_llm=model)
    node = agent.options(llm=model) if source == "options" else agent
    async with rt.Session(**options):
        assert (await rt.call(node, "Hello")).content == "Hi"


async def test_settings_of_a_call_reach_the_model_of_the_session():
    model = said("Hi")
    async with rt.Session(default_llm=model) as session:
        await rt.call(rt.agent_node("Open").options(temperature=0), "Hello")
    assert model.all_settings == [{"temperature": 0}]
    assert [record.name for record in session.info.records] == ["Open", "chat Hi"]


async def test_an_agent_without_any_model_says_what_to_write():
    agent, _ = agent_of(tool_call("Open", request="Go"), "never", tool_nodes=[rt.agent_node("Open")])
    text = r"the agent Open has no model; write rt.agent_node\('Open', llm=...\), .*rt.Session\(default_llm=...\)"
    async with rt.Session():
        with pytest.raises(ConfigError, match=text):
            await rt.call(agent, "Hello")


async def test_the_model_of_the_session_is_checked():
    class Half(ScriptedModel):
        provider = None  # type: ignore[assignment]

    async with rt.Session(default_llm=Half(["Hi"])):
        with pytest.raises(
            NodeCreationError, match="default_llm of the session, a Half, has a NoneType as its provider"
        ):
            await rt.call(rt.agent_node("Open"), "Hello")


@pytest.mark.parametrize(("name", "requests"), [("one", 2), ("two", 3)])
async def test_a_resumed_run_asks_another_default_model_again(name, requests):
    made = []

    def model(name):
        made.append(ScriptedModel(waiting, name=name))
        return made[-1]

    agent = rt.agent_node("Open", tool_nodes=[wait])
    await interrupted(agent, "run", context={"seconds": 10}, default_llm=model("one"))
    options = {"default_llm": model(name), "context": {"seconds": 0}, "allow_rerun": True}
    async with rt.Session(run_identifier="run", if_exists="resume", **options):
        assert (await rt.call(agent, "Go")).content == "done"
    assert sum(len(each.calls) for each in made) == requests


async def test_the_key_of_a_default_model_is_never_written():
    model = ScriptedModel(lambda _: "the key is sk-0123456789abcdef")
    model.api_key = rt.Secret("sk-0123456789abcdef")
    async with rt.Session(default_llm=model, name="secret"):
        await rt.call(rt.agent_node("Open"), "Is it sk-0123456789abcdef?")
        await rt.call(agent_of("never")[0].options(llm=model), "Is it sk-0123456789abcdef?")
    text = Path(".railtracks/secret.json").read_text()
    assert "the key is ***" in text
    assert "sk-0123456789abcdef" not in text


async def test_a_stream_asks_the_model_of_the_session():
    async with rt.Session(default_llm=said("one two")):
        chunks = [chunk async for chunk in rt.astream(rt.agent_node("Open"), "Hello")]
    assert [chunk.text for chunk in chunks] == ["one", " two", ""]


# ---- a model for each attempt


async def test_each_attempt_has_its_model():
    retries = rt.Retry(attempts=4, wait_initial=1, wait_jitter=0)
    broken = [ScriptedModel([OSError(name)] * 9, name=name) for name in ("small", "large")]
    agent = rt.agent_node("Agent", llm=[*broken, said("last")], retries=retries)
    async with rt.Session() as session:
        assert (await rt.call(agent, "Hello")).content == "last"
        with pytest.raises(OSError, match="small"):
            await rt.call(agent.options(retries=0), "Hello")
    chats = [record.name for record in session.info.records if record.name != "Agent"]
    assert chats == ["chat small", "chat large", "chat last", "chat small"]


async def test_the_last_model_is_for_all_further_attempts():
    retries = rt.Retry(attempts=3, wait_initial=1, wait_jitter=0)
    models = [ScriptedModel([OSError("no")], name="a"), ScriptedModel([OSError("no"), "Hi"], name="b")]
    async with rt.Session():
        assert (await rt.call(rt.agent_node(llm=models, retries=retries), "Hello")).content == "Hi"


# ---- system messages from functions


@rt.function_node
async def instructions():
    return SystemMessage(f"It is {rt.context.get('day')}, {{name}}.")


@pytest.mark.parametrize(
    "function",
    [
        instructions,
        lambda: f"It is {rt.context.get('day')}, {{name}}.",
        lambda: instructions.func(),
    ],
)
async def test_a_function_makes_the_system_message_once_a_run(function):
    agent, model = agent_of(tool_call("none"), "Hi", "Hi", system_message=function)
    async with rt.Session(context={"day": "Monday", "name": "Ada"}):
        await rt.call(agent, "Hello")
        rt.context.put("day", "Tuesday")
        await rt.call(agent, "Hello")
    texts = [call[0].content for call in model.calls]
    assert texts == ["It is Monday, Ada.", "It is Monday, Ada.", "It is Tuesday, Ada."]


async def test_what_a_function_returns_may_be_left_as_it_is():
    agent, model = agent_of("Hi", system_message=lambda: SystemMessage("{name}", inject_prompt=False))
    async with rt.Session(context={"name": "Ada"}):
        await rt.call(agent, "Hello")
    assert model.calls[0][0].content == "{name}"


@pytest.mark.parametrize("is_lambda", [False, True])
async def test_a_resumed_run_has_the_system_message_it_had(is_lambda):
    times = iter("abc")

    def now():
        return SystemMessage(f"It is {next(times)}.")

    agent, model = agent_of(waiting, tool_nodes=[wait], system_message=(lambda: now()) if is_lambda else now)
    await interrupted(agent, "run", context={"seconds": 10})
    async with rt.Session(run_identifier="run", if_exists="resume", context={"seconds": 0}):
        assert (await rt.call(agent, "Go")).content == "done"
    assert [call[0].content for call in model.calls] == ["It is a.", "It is a."]


async def test_a_function_that_returns_no_text_is_named():
    agent, _ = agent_of("Hi", system_message=lambda: 3)
    async with rt.Session():
        with pytest.raises(NodeInvocationError, match=r"the function system_message, .* returned 3"):
            await rt.call(agent, "Hello")


def test_a_function_with_arguments_is_no_system_message():
    with pytest.raises(NodeCreationError, match="has the parameters context, and is called without arguments"):
        agent_of("Hi", system_message=lambda context: "Hi")


def test_agents_with_all_of_it_are_simulated():
    agent = rt.agent_node("Open", system_message=instructions).options(temperature=0)
    flow = rt.Flow("Open", agent, default_llm=said("Hi"), context={"day": "Monday"})
    outcome = simulate(flow, "Hello", seed=5)
    check(outcome)
    assert str(outcome.result) == "Hi"
