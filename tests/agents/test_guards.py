"""Guards of agents: what they get, what a verdict does, and that nothing passes before they have decided."""

from __future__ import annotations

import pickle
from typing import Any

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import GuardTripped, LLMError, ModelRetry, NodeCreationError, NodeInvocationError, Truncated
from railtracks.llm import AssistantMessage, MessageHistory
from railtracks.state import MemoryStore, Reason, Status
from railtracks.testing import ScriptedModel, answer, check, simulate, tool_call
from railtracks.testing.faults import Kill
from tests.agents.helpers import Place, agent_of, asked, forecast, records, scripted

SEEN: list[Any] = []
"""What guards were given, in order."""


@pytest.fixture(autouse=True)
def nothing_seen():
    SEEN.clear()


async def passes(subject):
    SEEN.append(subject)


def refuses(subject):
    SEEN.append(subject)
    return "not our topic"


async def refuses_late(_):
    await anyio.sleep(5)
    return "not our topic"


async def passes_late(_):
    await anyio.sleep(5)


@rt.function_node(retries=1)
async def fails(_):
    raise ConnectionError("lost")


def slow_answer(*parts, **options):
    return answer(*parts, delay=10, **options)


def statuses(session):
    return {record.name: record.status for record in session.info.records}


async def tripped(agent, **options):
    """Return the error, the session and the seconds that it took."""
    async with rt.Session(**options) as session:
        start = anyio.current_time()
        with pytest.raises(GuardTripped) as caught:
            await rt.call(agent, "Go.")
        return caught.value, session, anyio.current_time() - start


async def chunks_of(agent, **options):
    """Return what a stream yields, pieces of texts put together, and the error of its end."""
    found: list[tuple[str, str, str]] = []
    error = None
    async with rt.Session(logging_setting="NONE", **options):
        try:
            async for chunk in rt.astream(agent, "Go."):
                if found and chunk.kind == "text" and found[-1][:2] == ("text", chunk.agent):
                    found[-1] = ("text", chunk.agent, found[-1][2] + chunk.text)
                else:
                    found.append((chunk.kind, chunk.agent, chunk.text))
        except Exception as exc:
            error = exc
    return found, error


# ---- input guards


async def test_input_guards_get_the_conversation_and_let_it_pass():
    agent, _ = agent_of("Hello.", input_guards=[passes, passes_late], system_message="Be brief.")
    async with rt.Session() as session:
        assert str(await rt.call(agent, [AssistantMessage("Hi."), asked("Go.")])) == "Hello."
    [given] = SEEN
    assert given == [AssistantMessage("Hi."), asked("Go.")]
    assert isinstance(given, MessageHistory)
    assert [record.parent for record in session.info.records] == [None, 0, 0, 0]


@pytest.mark.parametrize("guard", [refuses_late, rt.function_node(refuses_late)])
async def test_a_tripped_input_guard_cancels_the_request(guard):
    error, session, seconds = await tripped(scripted(slow_answer("Hello."), input_guards=[passes_late, guard]))
    assert seconds == 5
    assert (error.guard, error.reason) == ("refuses_late", "not our topic")
    assert str(error) == "the guard refuses_late of the agent Agent does not accept what it was given: not our topic"
    assert error.message_history == [asked("Go.")]
    assert error.usage is not None
    assert isinstance(error, LLMError)
    ends = statuses(session)
    assert (ends["chat scripted"], ends["refuses_late"]) == (Status.CANCELLED, Status.COMPLETED)
    assert (ends["Agent"], records(session, "Agent")[0].reason) == (Status.FAILED, None)


async def test_the_error_of_a_guard_can_be_pickled():
    error, _, _ = await tripped(scripted("x", input_guards=[refuses]))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.guard, again.reason, again.usage) == (str(error), "refuses", "not our topic", error.usage)


async def test_no_tool_runs_before_the_input_guards_have_passed():
    agent = scripted(tool_call("forecast", city="Oslo"), "Done.", tool_nodes=[forecast], input_guards=[refuses_late])
    _, session, _ = await tripped(agent)
    assert records(session, "forecast") == []
    agent = scripted(tool_call("forecast", city="Oslo"), "Done.", tool_nodes=[forecast], input_guards=[passes_late])
    async with rt.Session() as session:
        await rt.call(agent, "Go.")
    assert [record.name for record in session.info.records] == [
        "Agent", "passes_late", "chat scripted", "forecast", "chat scripted",
    ]  # fmt: skip


async def test_input_guards_are_asked_once_a_run():
    agent = scripted(tool_call("forecast", city="Oslo"), "Done.", tool_nodes=[forecast], input_guards=[passes])
    await rt.call(agent, "Go.")
    assert len(SEEN) == 1


async def test_an_error_of_the_request_waits_for_the_guards():
    """The error has the answer, so it must not come before they have passed."""
    cut = [answer("some words more", max_tokens=1)]
    error, _, _ = await tripped(scripted(*cut, input_guards=[refuses_late]))
    assert error.message_history == [asked("Go.")]
    with pytest.raises(Truncated):
        await rt.call(scripted(*cut, input_guards=[passes_late]), "Go.")


async def test_a_bug_in_a_guard_fails_the_run():
    """It never counts as passed, and the policies of the guard hold."""
    for guards in ({"input_guards": [fails]}, {"output_guards": [fails]}):
        async with rt.Session() as session:
            with pytest.raises(ConnectionError):
                await rt.call(scripted(slow_answer("Hello."), **guards), "Go.")
        assert len(records(session, "fails")) == 2


@pytest.mark.parametrize("verdict", [True, False, "", 0, ["no"]])
async def test_a_guard_that_returns_something_else_fails_the_run(verdict):
    for label in ("input_guards", "output_guards"):
        with pytest.raises(NodeInvocationError, match=r"the guard .* returned .*; expected None if it has nothing"):
            await rt.call(scripted("Hello.", **{label: [rt.function_node(lambda _: verdict, name="odd")]}), "Go.")


async def test_a_guard_may_be_an_agent():
    """It continues the conversation with instructions of its own, and reads an answer as a message."""
    said = ['{"value": null}', '{"value": "rude"}']
    model = ScriptedModel(said)
    judge = rt.agent_node("Judge", llm=model, system_message="Is it rude? {who}", output_schema=str | None)
    error, _, _ = await tripped(
        scripted("You {who}!", input_guards=[judge], output_guards=[judge]), context={"who": "Ada"}
    )
    assert (error.guard, error.reason) == ("Judge", "rude")
    assert [[message.content for message in call[1:]] for call in model.calls] == [["Go."], ["You {who}!"]]


def test_an_agent_that_answers_with_text_is_no_guard():
    with pytest.raises(NodeCreationError, match=r"input_guards has the agent Judge, which .* output_schema=str"):
        scripted("x", input_guards=[scripted("x", name="Judge")])


@pytest.mark.parametrize("given", [refuses, "refuses", None, [5]])
def test_guards_are_a_list_of_nodes(given):
    with pytest.raises(NodeCreationError, match="output_guards"):
        scripted("x", output_guards=given)


def test_guards_are_part_of_the_version():
    versions = [
        scripted("x", **options).version()
        for options in ({}, {"input_guards": [passes]}, {"output_guards": [passes]}, {"input_guards": [refuses]})
    ]
    assert len({*versions}) == 4
    assert versions[0] == scripted("x", input_guards=[], output_guards=()).version()


# ---- output guards


async def test_output_guards_get_the_content_of_the_answer():
    agent = scripted('{"name": "Oslo", "height": 1.5}', output_schema=Place, output_guards=[passes])
    response = await rt.call(agent, "Go.")
    assert SEEN == [response.content] == [Place("Oslo", 1.5)]


async def test_a_tripped_output_guard_fails_the_run_with_what_was_said():
    agent = scripted(tool_call("forecast", city="Oslo"), "Snow.", tool_nodes=[forecast], output_guards=[refuses])
    error, _, _ = await tripped(agent)
    assert SEEN == ["Snow."]
    assert str(error) == "the guard refuses of the agent Agent does not accept its answer: not our topic"
    assert error.message_history[-1] == AssistantMessage("Snow.")
    assert error.usage.output_tokens == 1


async def refuses_blue(content):
    SEEN.append(content)
    if content == "Blue.":
        raise ModelRetry("any colour but blue")


async def test_a_guard_may_have_the_model_try_again():
    agent, model = agent_of("Blue.", "Red.", output_guards=[refuses_blue])
    assert str(await rt.call(agent, "A colour?")) == "Red."
    assert model.calls[1][-1].content == "That is not what was asked for: any colour but blue"


async def test_trying_again_counts_as_a_repair():
    agent, model = agent_of(*["Blue."] * 5, output_guards=[refuses_blue], repairs=2)
    with pytest.raises(LLMError, match="gave no valid answer: any colour but blue") as caught:
        await rt.call(agent, "A colour?")
    assert type(caught.value) is LLMError
    assert len(model.calls) == 3
    assert len(caught.value.message_history) == 6
    assert caught.value.usage.output_tokens == 3


async def test_the_first_guard_that_trips_cancels_the_others():
    error, session, seconds = await tripped(scripted("x", output_guards=[passes_late, refuses_late, refuses]))
    assert (error.guard, seconds) == ("refuses", 0)
    assert statuses(session)["passes_late"] is Status.CANCELLED


async def test_output_guards_see_the_answer_after_a_hand_off():
    """Its own guards, and those of the agent that handed over."""
    other = scripted("Snow.", name="Other", output_guards=[passes])
    agent = scripted(tool_call("hand_off_to_Other"), tool_nodes=[rt.hand_off(other)], output_guards=[refuses])
    error, _, _ = await tripped(agent)
    assert SEEN == ["Snow."] * 2
    assert [message.role for message in error.message_history] == ["user", "assistant", "tool", "assistant"]
    assert error.usage.output_tokens == 1


async def test_who_has_answered_after_a_hand_off_cannot_try_again():
    other = scripted("Blue.", name="Other")
    agent = scripted(tool_call("hand_off_to_Other"), tool_nodes=[rt.hand_off(other)], output_guards=[refuses_blue])
    error, _, _ = await tripped(agent)
    assert (error.guard, error.reason) == ("refuses_blue", "any colour but blue")


async def test_the_calling_model_reads_that_a_guard_of_a_tool_tripped():
    helper = scripted("x", name="helper", output_guards=[refuses])
    agent, model = agent_of(tool_call("helper", request="x"), "Done.", tool_nodes=[helper])
    await rt.call(agent, "Go.")
    assert model.calls[1][-1].content.startswith("GuardTripped: the guard refuses of the agent helper")


async def test_cancelling_an_agent_cancels_its_guards():
    for label in ("input_guards", "output_guards"):
        async with rt.Session() as session:
            with anyio.move_on_after(2) as scope:
                await rt.call(scripted("x", **{label: [passes_late]}), "Go.")
        assert scope.cancelled_caught
        [record] = records(session, "passes_late")
        assert (record.status, record.reason) == (Status.CANCELLED, Reason.OUTSIDE)


# ---- streams


async def test_nothing_is_streamed_before_the_input_guards_have_passed():
    start = anyio.current_time()
    times = []
    agent = scripted(answer("one two three four", pause=2), words=True, input_guards=[passes_late])
    async with rt.Session():
        async for chunk in rt.astream(agent, "Go."):
            times.append((chunk.text, anyio.current_time() - start))
    assert [text for text, _ in times] == ["one", " two", " three", " four", ""]
    assert [seconds for _, seconds in times[:-1]] == [6, 6, 6, 6]
    found, error = await chunks_of(scripted("one two", input_guards=[refuses_late]))
    assert found == []
    assert isinstance(error, GuardTripped)


async def test_an_answer_is_streamed_once_the_output_guards_passed():
    agent = scripted(["Wait.", tool_call("forecast", city="Oslo")], "Blue.", "Red.", tool_nodes=[forecast],
                     output_guards=[refuses_blue])  # fmt: skip
    found, _ = await chunks_of(agent)
    assert [(kind, text) for kind, _, text in found] == [
        ("tool_call", ""), ("tool_result", ""), ("rejected", ""), ("text", "Red."), ("final", ""),
    ]  # fmt: skip
    found, error = await chunks_of(scripted("one two", output_guards=[refuses]))
    assert found == []
    assert isinstance(error, GuardTripped)


async def test_what_follows_a_hand_off_is_held_back_too():
    other = scripted("Snow.", name="Other")
    for guard, expected in ((passes, [("text", "Other", "Snow."), ("final", "Agent", "")]), (refuses, [])):
        hand_off = [rt.hand_off(other.options(llm=ScriptedModel(["Snow."])))]
        agent = scripted(tool_call("hand_off_to_Other"), tool_nodes=hand_off, output_guards=[guard])
        found, _ = await chunks_of(agent)
        assert [chunk for chunk in found if not chunk[0].startswith("tool")] == expected


async def test_what_a_guard_writes_is_not_streamed():
    judge = scripted('{"value": null}', '{"value": null}', name="Judge", output_schema=str | None)
    found, _ = await chunks_of(scripted("Hello.", input_guards=[judge], output_guards=[judge]))
    assert found == [("text", "Agent", "Hello."), ("final", "Agent", "")]


@pytest.mark.parametrize("options", [{"input_guards": [refuses_late]}, {"output_guards": [refuses]}, {}])
async def test_a_replay_streams_no_more_than_the_run_did(options):
    """Not what a guard did not accept, nor what a guard has written."""
    judge = scripted('{"value": null}', '{"value": null}', name="Judge", output_schema=str | None)
    said = ["Blue.", "Red."] if not options else ["Blue."]
    options = options or {"input_guards": [judge], "output_guards": [refuses_blue]}
    agent = scripted(*said, name="Speaker", **options)
    is_broken = [True]

    async def careful(text):
        try:
            return str(await rt.call(agent, text))
        except GuardTripped as exc:
            return f"{exc.guard}: {exc.reason}"

    async def entry(text):
        said = await rt.call(careful, text)
        if is_broken:
            raise ConnectionError
        return said

    first, error = await chunks_of(entry, run_identifier="run")
    assert isinstance(error, ConnectionError)
    is_broken.clear()
    again, error = await chunks_of(entry, run_identifier="run", if_exists="resume")
    assert error is None
    assert again[:-1] == first
    assert "Blue." not in str(first)


# ---- resuming


async def test_a_guard_may_ask_a_person_tomorrow():
    """The model is not asked again."""

    async def permitted(messages):
        return None if await rt.ask(f"May we answer {messages[-1].content!r}?") == "yes" else "not permitted"

    agent, model = agent_of(lambda _: "Hello.", input_guards=[permitted])
    flow = rt.Flow("F", agent, run_identifier="run", logging_setting="NONE")
    with pytest.raises(rt.RunSuspended) as caught:
        await flow.ainvoke("Go.")
    [question] = caught.value.questions
    assert str(await flow.aresume("run", answers={question.id: "yes"})) == "Hello."
    assert len(model.calls) == 1


async def test_a_verdict_stays_as_it_is_when_a_run_is_resumed():
    model = ScriptedModel(lambda _: "Snow.")
    agent = rt.agent_node(llm=model, output_guards=[refuses])
    flow = rt.Flow("F", agent, run_identifier="run", logging_setting="NONE")
    for again in (flow.ainvoke("Go."), flow.aresume("run")):
        with pytest.raises(GuardTripped, match="not our topic"):
            await again
    assert len(model.calls) == len(SEEN) == 1


@pytest.mark.parametrize("after", range(4, 30, 4))
def test_a_killed_run_asks_no_guard_twice(backend, after):
    agent, model = agent_of(
        lambda messages: "Blue." if len(messages) == 1 else "Red.",
        input_guards=[passes, passes_late],
        output_guards=[refuses_blue],
    )
    options: dict[str, Any] = {"backend": backend, "store": MemoryStore(), "durability": "sync"}
    outcome = simulate(agent, "Go.", faults=[Kill(after)], **options)
    lost = sum(record.status is not Status.COMPLETED for record in outcome.info.records)
    again = simulate(agent, "Go.", resume="s0", **options)
    check(again)
    assert str(again.result) == "Red."
    assert len(SEEN) + len(model.calls) <= 5 + lost


def test_a_tripped_guard_holds_whatever_comes_first(backend):
    for seed in range(8):
        agent = scripted("Hello.", input_guards=[passes, refuses, passes_late], output_guards=[passes])
        outcome = simulate(agent, "Go.", backend=backend, seed=seed)
        check(outcome)
        assert isinstance(outcome.exception, GuardTripped)
