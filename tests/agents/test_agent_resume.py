"""Agents that were cut off go on where they were: what a model has answered is not asked again, on any store."""

from __future__ import annotations

import dataclasses
from collections import Counter
from contextlib import nullcontext
from typing import Any, NamedTuple, TypedDict

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import railtracks as rt
from railtracks.exceptions import LLMError
from railtracks.llm import AssistantMessage, MessageHistory, SystemMessage, ToolCall, UserMessage
from railtracks.state import MemoryStore, Status
from railtracks.state._serialization._plain_data import MAX_TEXT
from railtracks.testing import ProcessKilled, ScriptedModel, check, simulate, tool_call
from railtracks.testing.faults import Kill
from railtracks.testing.strategies import seeds
from tests.agents import drawn
from tests.agents.drawn import KINDS, Verdict, agent_of, line, scenarios
from tests.effort import examples

try:
    import pydantic
except ImportError:
    pydantic = None  # type: ignore[assignment]


# ---- killed anywhere


def of_interest(records, statuses=(Status.COMPLETED,)):
    """What had one of these statuses by name, or is below what had."""
    done = Counter()
    for record in records:
        above = record
        while above is not None and above.status not in statuses:
            above = None if above.parent is None else records[above.parent]
        if above is not None:
            done[record.name] += 1
    return done


harmless = scenarios([kind for kind in KINDS if kind not in ("fatal", "put")])


@pytest.mark.either_backend
@examples(25)
@given(harmless, st.lists(st.integers(1, 40), min_size=1, max_size=2), st.sampled_from(["async", "sync"]), seeds())
def test_what_had_completed_before_a_kill_does_not_run_again(backend, scenario, kills, durability, seed):
    agent = agent_of(scenario)

    async def flow():
        return await rt.call(agent, "Who is {name}?")

    options = {"backend": backend, "seed": seed, "durability": durability, "context": {"name": "Ada"}}
    drawn.ran.clear()
    whole, store = simulate(flow, **options), MemoryStore()
    total, done, ended = Counter(drawn.ran), Counter(), Counter()
    for kill in [*kills, None]:
        drawn.ran.clear()
        faults = [] if kill is None else [Kill(kill)]
        again = simulate(flow, store=store, faults=faults, resume=resume_in(store), **options)
        check(again)
        if kill is None or not isinstance(again.exception, ProcessKilled):
            break
        done |= of_interest(again.info.records)
        ended |= of_interest(again.info.records, (Status.COMPLETED, Status.FAILED))  # a failure may be handled by now
    # After two kills a call may be on record as completed by either attempt, and which is not counted here.
    assert drawn.ran <= total - done
    assert len(kills) > 1 or total - ended <= drawn.ran
    assert type(again.exception) is type(whole.exception)
    if whole.exception is None:
        assert again.result == whole.result
        assert type(again.result.content) is type(whole.result.content)
        assert list(map(line, again.result.message_history)) == list(map(line, whole.result.message_history))


def resume_in(store):
    return "s0" if store.modified("s0") is not None else None


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("durability", ["async", "sync"])
def test_a_kill_anywhere_leaves_each_request_recorded_once(backend, durability, every):
    """One agent, every place; in the suite every third one."""
    scenario = drawn.Scenario(
        turns=(drawn.Use((("echo", 1), ("A00", 2), ("sync", 3))), drawn.Say("misfit"), drawn.Use((("many", 2),))),
        agents=(drawn.Scenario("A00", (drawn.Use((("sleep", 2), ("put", 1))),)),),
        schema=True,
    )
    agent = agent_of(scenario)
    options = {"backend": backend, "durability": durability, "context": {"name": "Ada"}}
    drawn.ran.clear()
    whole = simulate(agent, "Who is {name}?", **options)
    total, kills = Counter(drawn.ran), 0
    for after in range(1, 100, every):
        drawn.ran.clear()
        outcome = simulate(agent, "Who is {name}?", faults=[Kill(after)], **options)
        if outcome.exception is None:
            break
        kills += 1
        done = of_interest(outcome.info.records)
        drawn.ran.clear()
        again = simulate(agent, store=outcome.store, resume="s0", **options)
        check(again)
        assert again.result == whole.result
        assert isinstance(again.result.content, Verdict)
        assert drawn.ran == total - done, f"after {after} records"
    assert kills > 20 // every


# ---- one agent on all stores

STORES = {"memory": MemoryStore, "file": lambda: "file:runs", "sqlite": lambda: "sqlite:runs.sqlite"}
every = pytest.mark.parametrize("durability", ["async", "sync", "exit"])
on_each = pytest.mark.parametrize(
    ("store", "durability"),
    [(STORES["memory"], "exit"), (STORES["file"], "async"), (STORES["sqlite"], "sync")],
    ids=["memory-exit", "file-async", "sqlite-sync"],
)
on_stores = pytest.mark.parametrize("store", STORES.values(), ids=STORES)
QUESTION = "What is it like in {city}?"
looked_up = []
agent: Any = None
"""The one that the flow calls."""


@pytest.fixture(autouse=True)
def nothing_looked_up():
    looked_up.clear()


@rt.function_node
async def look_up(place: str, day: int = 0) -> str:
    """Look up the weather."""
    looked_up.append((place, day))
    await anyio.sleep(0)
    return f"rain in {place}"


@rt.function_node
async def other(place: str) -> str:
    """Do something else."""
    return place


@rt.function_node(memo=False)  # so that it is the agent that is found, or not
async def entry(question: Any = QUESTION):
    return await rt.call(agent, question)


SCRIPT = [
    [tool_call("look_up", place="Oslo"), tool_call("look_up", place="Oslo", day=1)],
    ["Wait.", tool_call("look_up", place="Rome"), tool_call("look_up", plaice="Rome"), tool_call("look_down")],
    "Take a coat.",
]


class Model(ScriptedModel):
    """Answers by how often it was answered; the requests in ``broken``, counted from 0, fail."""

    def __init__(self, script=SCRIPT, broken=(), settings=None, provider="scripted", **options):
        def respond(messages):
            turn = sum(isinstance(message, AssistantMessage) for message in messages)
            self.turns.append(turn)
            return ConnectionError("lost") if turn in broken else script[turn]

        super().__init__(respond, **options)
        self.provider = provider
        self.settings = settings or {}
        self.turns = []


def new_agent(model, **options):
    global agent
    given = {"system_message": "You know {city}.", "tool_nodes": [look_up], **options}
    agent = rt.agent_node("Guide", llm=model, **given)
    return model


def new_flow(store, durability="async", entry_point=entry, **options):
    return rt.Flow("F", entry_point, context={"city": "Oslo"}, run_identifier="run", store=store,
                   durability=durability, **options)  # fmt: skip


async def uninterrupted():
    before = list(looked_up)
    result = await rt.Flow("F", entry, context={"city": "Oslo"}, save_state=False).ainvoke()
    looked_up[:] = before
    return result


@every
@on_stores
@pytest.mark.parametrize("broken", [0, 1, 2])
async def test_after_a_lost_connection_it_goes_on_where_it_was(store, durability, broken):
    new_agent(Model())
    whole = await uninterrupted()
    model, flow = new_agent(Model(broken={broken})), new_flow(store(), durability)
    with pytest.raises(ConnectionError):
        await flow.ainvoke()
    assert model.turns == list(range(broken + 1))
    model = new_agent(Model())
    result = await flow.aresume("run")
    assert model.turns == list(range(broken, 3))
    assert sorted(looked_up) == [("Oslo", 0), ("Oslo", 1), ("Rome", 0)]
    assert result == whole
    assert list(map(type, result.message_history)) == list(map(type, whole.message_history))
    assert type(result.message_history) is MessageHistory


@every
@on_stores
async def test_a_run_that_completed_asks_nothing(store, durability):
    model, flow = new_agent(Model()), new_flow(store(), durability)
    result = await flow.ainvoke()
    connection = flow.connect()
    assert await connection.aresume("run") == result
    assert model.turns == [0, 1, 2]
    assert len(looked_up) == 3
    histories = connection.message_histories()
    assert list(histories.values()) == [result.message_history]


@every
@on_stores
async def test_people_are_not_asked_again(store, durability):
    asked = []

    @rt.function_node(memo=False)
    async def confirm(place: str) -> str:
        """Ask whether that is right."""
        return await rt.ask(f"{place}?")

    script = [tool_call("confirm", place="Oslo"), tool_call("confirm", place="Rome"), "Fine."]
    kept = store()
    for broken, expected in (({1}, ["Oslo?"]), ({2}, ["Oslo?", "Rome?"]), ((), ["Oslo?", "Rome?"])):
        model = new_agent(Model(script, broken), tool_nodes=[confirm])
        flow = new_flow(kept, durability, ask_callback=lambda question: asked.append(question) or "yes")  # type: ignore[func-returns-value]
        if broken:
            with pytest.raises(ConnectionError):
                await (flow.aresume("run") if asked else flow.ainvoke())
        else:
            result = await flow.aresume("run")
        assert asked == expected
    assert model.turns == [2]
    assert [m.content for m in result.message_history if m.role == "tool"] == ["yes", "yes"]


@every
@on_stores
async def test_answers_that_were_of_no_use_are_asked_for_again(store, durability):
    bad = "no JSON"
    model, flow = new_agent(Model([bad] * 3), output_schema=Verdict), new_flow(store(), durability)
    with pytest.raises(LLMError):
        await flow.ainvoke()
    assert model.turns == [0, 1, 2]
    model = new_agent(Model([bad, bad, '{"text": "good", "count": 1}']), output_schema=Verdict)
    result = await flow.aresume("run")
    assert result.content == Verdict("good", 1)
    assert model.turns == [2], "only the last one was an error"


@every
async def test_a_recorded_stream_comes_again_without_a_request(durability):
    said = []

    @rt.function_node(memo=False)
    async def tell():
        said.clear()
        async for chunk in rt.astream(agent, QUESTION):
            if chunk.kind in ("text", "final"):
                said.append(chunk.text)
        return chunk.response

    model, flow = new_agent(Model(broken={2})), new_flow(MemoryStore(), durability, tell)
    with pytest.raises(ConnectionError):
        await flow.ainvoke()
    model = new_agent(Model())
    result = await flow.aresume("run")
    assert model.turns == [2]
    assert said == ["Wait.", "Take", " a", " coat.", ""]
    assert result.content == "Take a coat."


# ---- what is not the same


class Other(NamedTuple):
    text: str


CHANGES = {
    "nothing": ({}, {}),
    "system message": ({"system_message": "You know {city} well."}, {}),
    "no system message": ({"system_message": None}, {}),
    "a message that is not filled": ({"system_message": SystemMessage("You know {city}.", inject_prompt=False)}, {}),
    "more tools": ({"tool_nodes": [look_up, other]}, {}),
    "version": ({"version": "2"}, {}),
    "limit": ({"max_tool_calls": 9}, {}),
    "schema": ({"output_schema": str}, {}),
    "settings": ({}, {"settings": {"temperature": 1}}),
    "model": ({}, {"name": "other"}),
    "provider": ({}, {"provider": "other"}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("complete", [True, False], ids=["complete", "failed"])
async def test_an_agent_that_was_changed_runs_again(change, complete):
    """It asks its model again, unless the requests are the same as before."""
    options, of_model = change
    flow = new_flow(MemoryStore())
    new_agent(Model(broken=() if complete else {2}))
    if complete:
        await flow.ainvoke()
    else:
        with pytest.raises(ConnectionError):
            await flow.ainvoke()
    script = SCRIPT if "output_schema" not in options else [*SCRIPT[:2], '{"value": "A coat"}']
    model = new_agent(Model(script, **of_model), **options)
    await flow.aresume("run")
    same_requests = options.keys() <= {"version", "max_tool_calls"} and not of_model
    again = ([] if complete else [2]) if same_requests else [0, 1, 2]
    assert model.turns == again


@pytest.mark.parametrize("complete", [True, False], ids=["complete", "failed"])
async def test_an_agent_that_is_asked_something_else_runs_again(complete):
    flow = new_flow(MemoryStore(), allow_rerun=True)
    new_agent(Model(broken=() if complete else {2}))
    with pytest.raises(ConnectionError) if not complete else nullcontext():
        await flow.ainvoke("One")
    model = new_agent(Model())
    result = await flow.aresume("run", "Other")
    assert model.turns == [0, 1, 2]
    assert result.message_history[0].content == "Other"


async def test_a_context_that_changes_the_prompt_makes_it_run_again():
    flow = new_flow(MemoryStore())
    new_agent(Model(broken={2}))
    with pytest.raises(ConnectionError):
        await flow.ainvoke()
    model = new_agent(Model())
    result = await flow.update_context({"city": "Rome"}).aresume("run")
    assert (model.turns, result.message_history[0].content) == ([0, 1, 2], "What is it like in Rome?")


async def test_a_context_that_changes_the_system_message_counts():
    """The agent runs again, though the rest of the prompt stays as it was."""
    flow = new_flow(MemoryStore())
    new_agent(Model(broken={2}))
    with pytest.raises(ConnectionError):
        await flow.ainvoke("Hello.")
    model = new_agent(Model())
    await flow.update_context({"city": "Rome"}).aresume("run")
    assert model.turns == [0, 1, 2]
    assert model.calls[0][0].content == "You know Rome."


async def test_without_memo_only_the_model_is_asked_again():
    """Tools that had completed do not run again."""
    flow = new_flow(MemoryStore())
    model = new_agent(Model(), memo=False)
    await flow.ainvoke()
    result = await flow.aresume("run")
    assert model.turns == [0, 1, 2] * 2
    assert len(looked_up) == 3
    assert result.content == "Take a coat."


async def test_a_fork_before_a_tool_runs_it_again_and_what_comes_after():
    flow = new_flow(MemoryStore())
    model = new_agent(Model())
    result = await flow.ainvoke()
    connection = flow.connect()
    assert await connection.afork("run", before=look_up) == result
    assert model.turns == [0, 1, 2, 1, 2]
    assert len(looked_up) == 6
    first_of_rome = next(r for r in connection.session.info.records if r.kwargs.get("place") == "Rome")
    again = flow.connect()
    await again.afork(connection.session_id, before=first_of_rome.started_step)
    assert model.turns == [0, 1, 2, 1, 2, 2]
    assert looked_up[6:] == [("Rome", 0)]


async def test_a_fork_before_a_request_asks_it_again():
    flow = new_flow(MemoryStore())
    model = new_agent(Model())
    await flow.ainvoke()
    await flow.afork("run", before="chat scripted")
    assert model.turns == [0, 1, 2] * 2


async def test_a_prompt_whose_values_a_tool_changes_stays_as_it_was():
    @rt.function_node
    async def move(to: str) -> str:
        """Move to another city."""
        looked_up.append(to)
        rt.context.put("city", to)
        return "moved"

    script = [tool_call("move", to="Rome"), tool_call("move", to="Paris"), "Here we are."]
    flow = new_flow(MemoryStore())
    new_agent(Model(script, broken={2}), tool_nodes=[move])
    with pytest.raises(ConnectionError):
        await flow.ainvoke()
    model = new_agent(Model(script), tool_nodes=[move])
    connection = flow.connect()
    result = await connection.aresume("run")
    assert model.turns == [2]
    assert looked_up == ["Rome", "Paris"]
    assert model.calls[0][0].content == "You know Oslo."
    assert result.message_history[0].content == "What is it like in Oslo?"
    assert connection.context["city"] == "Paris"


# ---- values


@dataclasses.dataclass
class Data:
    text: str
    parts: list[Verdict]


class Typed(TypedDict):
    text: str


class Named(NamedTuple):
    text: str
    count: int | None  # type: ignore[assignment]


@attrs.frozen
class Deep:
    data: Data | None
    by_name: dict[str, Named]


SCHEMAS = [
    (Verdict, '{"text": "a", "count": 2}', Verdict("a", 2)),
    (Data, '{"text": "a", "parts": [{"text": "b", "count": 1}]}', Data("a", [Verdict("b", 1)])),
    (Typed, '{"text": "a"}', {"text": "a"}),
    (Named, '{"text": "a", "count": null}', Named("a", None)),
    (Deep, '{"data": null, "by_name": {"n": {"text": "a", "count": 1}}}', Deep(None, {"n": Named("a", 1)})),
    (list[Verdict], '{"value": [{"text": "a", "count": 2}]}', [Verdict("a", 2)]),
    (int, '{"value": 3}', 3),
    (None, "a text", "a text"),
]
if pydantic is not None:

    class Inner(pydantic.BaseModel):
        number: int | None

    class Outer(pydantic.BaseModel):
        text: str
        inner: list[Inner]

    SCHEMAS.append((Outer, '{"text": "a", "inner": [{"number": 1}]}', Outer(text="a", inner=[Inner(number=1)])))


@on_each
@pytest.mark.parametrize(("schema", "text", "value"), SCHEMAS, ids=[str(schema) for schema, _, _ in SCHEMAS])
async def test_a_structured_result_comes_back_as_its_type(store, durability, schema, text, value):
    flow = new_flow(store(), durability)
    model = new_agent(Model([text]), output_schema=schema)
    for run in (flow.ainvoke, lambda: flow.aresume("run")):
        result = await run()
        assert type(result) is rt.LLMResponse
        assert result.content == value
        assert type(result.content) is type(value)
        assert result.usage == rt.llm.Usage(9, len(text.split()))
    assert model.turns == [0]


GIVEN = {
    "text": "Hi {city}",
    "message": UserMessage("Hi {city}"),
    "unfilled": UserMessage("Hi {city}", inject_prompt=False),
    "messages": [UserMessage("Hi"), AssistantMessage("Hello"), UserMessage("And {city}?")],
    "history": MessageHistory(
        [
            UserMessage("Hi"),
            AssistantMessage("", [ToolCall("1", "look_up", {"place": "x"}), ToolCall("2", "t", "{broken")]),
            rt.llm.ToolMessage("rain", "1", "look_up"),
            rt.llm.ToolMessage("no", "2", "t", is_error=True),
        ]
    ),
}


@on_each
@pytest.mark.parametrize(
    "given",
    [pytest.param(given, id=name) for name, given in GIVEN.items()],
)
async def test_the_input_of_an_agent_is_known_when_it_is_resumed(store, durability, given):
    kept = store()
    model = new_agent(ScriptedModel([ConnectionError("lost"), "Fine."]))
    flow = new_flow(kept, durability, agent)
    with pytest.raises(ConnectionError):
        await flow.ainvoke(given)
    result = await flow.aresume("run")
    assert model.calls[0] == model.calls[1]
    assert result.content == "Fine."


@on_each
async def test_a_conversation_that_goes_on_finds_all_of_it_again(store, durability):
    @rt.function_node(memo=False)
    async def talk():
        first = await rt.call(agent, "Hi {city}")
        return await rt.call(agent, [*first.message_history, UserMessage("And {city}?")])

    kept = store()
    answers = [tool_call("look_up", place="Oslo"), "One {city}", ConnectionError("lost"), "Two"]
    model = new_agent(ScriptedModel(answers))
    flow = new_flow(kept, durability, talk)
    with pytest.raises(ConnectionError):
        await flow.ainvoke()
    result = await flow.aresume("run")
    assert result.content == "Two"
    assert model.calls[2] == model.calls[3]
    assert [m.content for m in result.message_history if m.role != "tool"] == [
        "Hi Oslo", "", "One {city}", "And Oslo?", "Two",
    ]  # fmt: skip
    assert len(looked_up) == 1


@on_each
@pytest.mark.parametrize(
    "asked",
    [
        ToolCall("x", "look_up", "{broken"), ToolCall("x", "look_up", ""),
        ToolCall("x", "nowhere", {"a": [1, {"b": None}]}),
        ToolCall("x", "look_up", {"place": "a\ud800b"}), ToolCall("x", "look_up", {"place": "$type", "$type": "x"}),
        ToolCall("x", "look_up", {"place": "\x00", "day": 2**70}), ToolCall("x", "look_up", {"place": 1.5}),
    ],
    ids=repr,
)  # fmt: skip
async def test_whatever_a_model_asks_for_is_found_again(store, durability, asked):
    flow = new_flow(store(), durability)
    script = [[asked], "Done."]
    new_agent(Model(script))
    whole = await uninterrupted()
    new_agent(Model(script, broken={1}))
    with pytest.raises(ConnectionError):
        await flow.ainvoke()
    ran = len(looked_up)
    model = new_agent(Model(script))
    assert await flow.aresume("run") == whole
    assert model.turns == [1]
    assert len(looked_up) == ran


@on_each
async def test_a_secret_from_a_model_to_a_tool_is_never_a_mask(store, durability):
    got = []

    @rt.function_node
    async def log_in(user: str, password: str) -> str:
        """Log in."""
        got.append(password)
        return "in"

    script = [tool_call("log_in", user="ada", password="xyzzy-plugh"), tool_call("look_up", place="Oslo"), "Fine."]
    flow = new_flow(store(), durability)
    for broken in ({1}, {2}, ()):
        new_agent(Model(script, broken), tool_nodes=[log_in, look_up])
        if broken:
            with pytest.raises(ConnectionError):
                await (flow.aresume("run") if got else flow.ainvoke())
    result = await flow.aresume("run")
    assert set(got) == {"xyzzy-plugh"}
    assert result.content == "Fine."
    assert result.message_history[1].tool_calls[0].arguments["password"] == "xyzzy-plugh"


async def test_a_change_at_the_end_of_a_long_system_message_counts():
    flow = new_flow(MemoryStore())
    long = "x" * (MAX_TEXT + 10)
    new_agent(Model(["One"]), system_message=f"{long}1", tool_nodes=[])
    await flow.ainvoke()
    new_agent(Model(["Two"]), system_message=f"{long}2", tool_nodes=[])
    assert (await flow.aresume("run")).content == "Two"
