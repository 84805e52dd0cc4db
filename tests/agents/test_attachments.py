"""Agents that are given images, and tools that return them: what the model gets, and what is on record."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import LLMError, NodeInvocationError, StateError
from railtracks.llm import AssistantMessage, Completion, Document, Image, ToolMessage, UserMessage
from railtracks.state import Status
from railtracks.testing import Cassette, ScriptedModel, check, faults, simulate, tool_call
from railtracks.testing.faults import Kill
from tests.agents.helpers import agent_of, tool_messages
from tests.llm.media import EACH, IMAGE, NOTES, PNG

LARGE = Image(PNG + Random(7).randbytes(300_000), name="large.png")
ran: Counter[str] = Counter()


@rt.function_node
async def draw(what: str) -> Image:
    """Draw something."""
    ran["draw"] += 1
    await anyio.sleep(0)
    return attrs.evolve(IMAGE, name=f"{what}.png")


def answer(messages):
    """Ask once for a drawing, and then say how many attachments there are."""
    ran["model"] += 1
    if not isinstance(messages[-1], ToolMessage):
        return tool_call("draw", what="dot")
    return f"{sum(len(getattr(each, 'attachments', ())) for each in messages)} pictures"


def painter(model=None, **options):
    return rt.agent_node("Painter", llm=model or ScriptedModel(answer), tool_nodes=[draw], **options)


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()


# ---- what the model gets


async def test_a_model_gets_what_is_attached():
    agent, model = agent_of("A dot.", system_message="Be brief.")
    response = await rt.call(agent, UserMessage("What is {this}?", attachments=EACH))
    assert [message.content for message in model.calls[0]] == ["Be brief.", "What is {this}?"]
    [*_, asked] = model.calls[0]
    assert asked.attachments == tuple(EACH)
    assert response.message_history[0] == asked


async def test_only_the_text_is_filled_from_the_context():
    agent, model = agent_of("A dot.")
    document = Document(b"{name}", media_type="text/plain", name="{name}")
    async with rt.Session(context={"name": "Ada"}):
        await rt.call(agent, UserMessage("Hello {name}", attachments=[document]))
    assert model.calls[0][0] == UserMessage("Hello Ada", inject_prompt=False, attachments=[document])


@attrs.frozen
class Page:
    title: str
    picture: Image


@pytest.mark.parametrize(
    ("result", "text", "attachments"),
    [
        (IMAGE, "[image: dot.png, image/png, 69 bytes]", [IMAGE]),
        (["See:", IMAGE, 3, NOTES], f"See:\n{IMAGE}\n3\n{NOTES}", [IMAGE, NOTES]),
        ({"a": [IMAGE]}, '{"a": ["[image: dot.png, image/png, 69 bytes]"]}', [IMAGE]),
        (Page("Dot", IMAGE), '{"title": "Dot", "picture": "[image: dot.png, image/png, 69 bytes]"}', [IMAGE]),
        (["no", 3], '["no", 3]', []),
    ],
)  # fmt: skip
async def test_what_a_tool_returns_is_attached_to_its_result(result, text, attachments):
    async def show():
        return result

    agent, model = agent_of(tool_call("show"), "Nice.", tool_nodes=[show])
    response = await rt.call(agent, "Go.")
    [message] = tool_messages(model)
    assert (message.content, list(message.attachments)) == (text, attachments)
    assert response.message_history[2] == message


async def test_the_chunk_of_a_result_has_what_is_attached():
    async with rt.Session(), rt.astream(painter(), "Draw.") as stream:
        chunks = [chunk async for chunk in stream]
    [result] = [chunk.tool_result for chunk in chunks if chunk.kind == "tool_result"]
    assert [each.name for each in result.attachments] == ["dot.png"]
    assert chunks[-1].response.content == "1 pictures"


async def test_history_processors_see_and_choose_attachments():
    def without(messages):
        return [attrs.evolve(each, attachments=()) if each.role == "user" else each for each in messages]

    agent, model = agent_of("A dot.", history_processors=[without])
    response = await rt.call(agent, UserMessage("What?", attachments=[IMAGE]))
    assert model.calls[0][0].attachments == ()
    assert response.message_history[0].attachments == (IMAGE,)


# ---- models that do not take them


class Texts:
    """A model as it was written before there were attachments."""

    name, provider, settings, api_key = "texts", "example", {}, None
    asked = 0

    async def complete(self, messages, *, tools=(), output=None):
        self.asked += 1
        return Completion(AssistantMessage("Hm."))

    async def stream(self, messages, *, tools=(), output=None):
        yield await self.complete(messages)


async def test_a_model_that_does_not_know_of_them_is_not_asked():
    model = Texts()
    agent = rt.agent_node("Reader", llm=model)
    problem = r"model texts of the agent Reader cannot be sent \[image: dot.png, .*\]: it takes no attachments"
    with pytest.raises(LLMError, match=problem):
        await rt.call(agent, UserMessage("What?", attachments=[IMAGE]))
    assert model.asked == 0
    assert (await rt.call(agent, UserMessage("What?"))).content == "Hm."


class Blind(ScriptedModel):
    attachment_types = ()


async def test_a_model_that_cannot_see_reads_what_a_tool_returned(caplog):
    model = Blind([tool_call("draw", what="dot"), tool_call("draw", what="dot"), "I cannot see it."])
    response = await rt.call(rt.agent_node("Painter", llm=model, tool_nodes=[draw]), "Draw.")
    first, second = tool_messages(model)
    assert (first.attachments, first.content) == (second.attachments, second.content)
    assert (first.attachments, first.content.splitlines()) == ((), [
        f"{IMAGE}", f"{IMAGE} cannot be shown to you: it takes no attachments (attachment_types of the model)",
    ])  # fmt: skip
    assert response.message_history[2].attachments == (IMAGE,)  # for a model that can
    assert caplog.text.count("the model scripted of the agent Painter is not shown [image: dot.png") == 1


async def test_what_is_given_in_another_form_says_what_to_write():
    with pytest.raises(NodeInvocationError, match="expected a text, a message"):
        await rt.call(painter(), [IMAGE])


# ---- tests of agents


async def test_faults_and_cassettes_let_them_through():
    asked = UserMessage("What?", attachments=[IMAGE, NOTES])
    for _ in range(2):  # recorded, and then replayed
        cassette = Cassette("dots.json", ScriptedModel(["A dot."]), mode="missing")
        agent = rt.agent_node(llm=faults.Model(cassette))
        assert (await rt.call(agent, asked)).content == "A dot."
    assert (await rt.call(rt.agent_node(llm=Cassette("dots.json")), asked)).content == "A dot."
    assert Path("dots.json").read_text(encoding="utf-8").count(IMAGE.base64) == 1


def test_a_simulated_run_passes_its_checks(backend):
    outcome = simulate(painter(), UserMessage("Draw.", attachments=[IMAGE]), backend=backend, seed=3)
    check(outcome)
    assert outcome.result.content == "2 pictures"


# ---- on record


def stored():
    return sum(path.stat().st_size for path in Path(".railtracks").rglob("*") if path.is_file())


async def test_a_large_image_is_stored_once_for_a_whole_conversation():
    agent = rt.agent_node("Chat", llm=ScriptedModel(lambda messages: f"{len(messages)}"))
    history = [UserMessage("What is this?", attachments=[LARGE])]
    async with rt.Session(name="chat") as session:
        for _ in range(5):
            response = await rt.call(agent, history)
            history = [*response.message_history, UserMessage("And now?")]
    assert len(LARGE.base64) < stored() < len(LARGE.base64) + 60_000
    loaded = rt.ExecutionInfo.load(".railtracks/chat.json")
    for info in (session.info, loaded):
        assert max(map(len, str(info.tree()).splitlines())) < 300


@pytest.mark.parametrize("image", [IMAGE, LARGE], ids=["small", "large"])
def test_the_conversation_of_a_run_has_its_images(image):
    agent = rt.agent_node("Chat", llm=ScriptedModel(lambda _: "A dot."))
    connection = rt.Flow("F", agent, run_identifier="run").connect()
    result = connection.invoke(UserMessage("What?", attachments=[image]))
    [history] = connection.message_histories().values()
    assert history == result.message_history
    assert history[0].attachments == (image,)


@pytest.mark.parametrize("durability", ["async", "sync"])
def test_a_run_that_was_killed_does_nothing_again(backend, durability):
    agent, asked = painter(), UserMessage("Draw.", attachments=[IMAGE, LARGE])
    options = {"backend": backend, "durability": durability}
    whole = simulate(agent, asked, **options)
    total, kills = Counter(ran), 0
    for after in range(1, 100, 2):
        ran.clear()
        outcome = simulate(agent, asked, faults=[Kill(after)], **options)
        if outcome.exception is None:
            break
        kills += 1
        completed = [record.name for record in outcome.info.records if record.status is Status.COMPLETED]
        done = Counter({"model": completed.count("chat scripted"), "draw": completed.count("draw")})
        ran.clear()
        again = simulate(agent, asked, store=outcome.store, resume="s0", **options)
        check(again)
        assert again.result == whole.result
        assert ran == total - done, f"after {after} records"
    assert kills > 5


class Lost(Exception):
    pass


@pytest.mark.parametrize("store", ["file:runs", "sqlite:runs.sqlite"])
def test_a_resumed_run_sends_the_same_images(store):
    """The file that the tool has read is another one by then."""
    is_lost = True

    @rt.function_node
    async def look(path: str) -> list[str | Image]:
        """Look at a picture."""
        ran["look"] += 1
        return ["Here:", Image(path)]

    def respond(messages):
        ran["model"] += 1
        if not isinstance(messages[-1], ToolMessage):
            return tool_call("look", path="a.png")
        return Lost() if is_lost else str(messages[-1].attachments[0] == attrs.evolve(LARGE, name="a.png"))

    agent = rt.agent_node("Viewer", llm=ScriptedModel(respond), tool_nodes=[look])
    flow = rt.Flow("F", agent, run_identifier="run", store=store, if_exists="resume")
    Path("a.png").write_bytes(LARGE.data)
    with pytest.raises(Lost):
        flow.invoke("Look.")
    Path("a.png").write_bytes(PNG)
    is_lost = False
    assert flow.invoke("Look.").content == "True"
    assert ran == {"look": 1, "model": 3}


def test_a_run_is_not_resumed_with_another_image():
    agent = rt.agent_node("Chat", llm=ScriptedModel(lambda _: "A dot."))
    flow = rt.Flow("F", agent, run_identifier="run", if_exists="resume")
    flow.invoke(UserMessage("What?", attachments=[LARGE]))
    with pytest.raises(StateError, match=r"argument 0.attachments\[0\].base64 was "):
        flow.invoke(UserMessage("What?", attachments=[IMAGE]))
