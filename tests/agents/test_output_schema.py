"""Agents with an output schema: the object, its repair, and how often it is made."""

from __future__ import annotations

import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import LLMError
from railtracks.llm import AssistantMessage
from railtracks.state import Status
from railtracks.testing import tool_call
from tests.agents.helpers import Place, agent_of, asked, forecast, scripted

# ---- answers that fit, and answers that do not


async def test_an_answer_that_fits_the_schema_is_an_object():
    """It is an object of the class of the schema, and the text stays available."""
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


async def test_an_answer_that_does_not_fit_may_be_repaired():
    """It goes back to the model with what is wrong, and a later answer that fits counts."""
    agent, model = agent_of("Oslo.", '{"name": "Oslo"}', '{"name": "Oslo", "height": 23}', output_schema=Place)
    async with rt.Session() as session:
        response = await rt.call(agent, "Where?")
    assert response.content == Place("Oslo", 23.0)
    assert "That is not what was asked for: the answer must be JSON" in model.calls[1][-1].content
    assert model.calls[2][-1] == asked("That is not what was asked for: height: missing")
    assert len(response.message_history) == 6
    assert [record.status for record in session.info.records] == [Status.COMPLETED] * 4


async def test_an_answer_that_never_fits_is_an_error():
    """The error holds the conversation."""
    agent, model = agent_of(lambda _: "Oslo.", name="Finder", output_schema=Place)
    async with rt.Session() as session:
        with pytest.raises(LLMError, match="the model scripted of the agent Finder gave no valid answer") as caught:
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


# ---- how often an object is made


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


async def test_an_object_that_fails_is_tried_once_for_each_answer():
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
