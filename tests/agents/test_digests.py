"""The digests and the texts by which a resumed run finds the requests of an agent again.

All of them are on record: the agent's version and the fingerprint of its requests in node keys, ``after`` in the
arguments of each request, and the texts for the model in the messages. A run that an earlier release recorded is
resumed without asking the model again only as long as the same agent and the same conversation still lead to the same
values. A change that fails here makes every interrupted agent ask, and pay, again. The names of this module and of the
functions in it are part of the digests.
"""

from __future__ import annotations

import enum

import attrs

import railtracks as rt
from railtracks.llm import ToolCall
from railtracks.testing import ScriptedModel, tool_call
from tests.agents.helpers import records


class Sky(enum.Enum):
    CLEAR = "clear"
    GREY = "grey"


@attrs.frozen
class Advice:
    """What to wear.

    Args:
        layers: How many.
    """

    layers: int
    sky: Sky | None = None


@rt.function_node
async def forecast(city: str, days: int = 1) -> str:
    """Get the forecast.

    Args:
        city: Where.
    """
    if days > 1:
        raise ValueError("one day only")
    return f"rain in {city}"


@rt.function_node(version="2")
def heights(places: list[str]) -> dict[str, float]:
    return dict.fromkeys(places, 2.5)


Plain = rt.agent_node("Plain", llm=ScriptedModel(lambda _: "Yes."))
Atlas = rt.agent_node(
    "Atlas",
    llm=ScriptedModel(lambda _: "North."),
    manifest=rt.ToolManifest("Knows the map.", [rt.Parameter("place", str, "Its name."), rt.Parameter("near", int)]),
)


def weather(answers):
    return rt.agent_node(
        "Weather",
        llm=ScriptedModel(answers, name="m-1"),
        system_message="You advise people in {city}.",
        tool_nodes=[forecast, heights, Plain, Atlas, rt.ask],
        output_schema=Advice,
        max_tool_calls=9,
        version="1",
    )


SCRIPT = [
    [
        "Let me see.",
        tool_call("forecast", city="Turin"),
        tool_call("forecast", city="Turin", days=2),
        tool_call("heights", places=["Turin"]),
        tool_call("Plain", request="Is it far?"),
        tool_call("Atlas", place="Turin", near=3),
    ],
    [
        tool_call("forecast", town="Turin", days="two"),
        ToolCall("", "heights", "[1"),
        tool_call("Atlas", place=None),
        tool_call("search", q="Turin"),
        tool_call("forecast", city="Turin"),
    ],
    '{"layers": "two", "sky": "blue", "more": 1}',
    '{"layers": 2}',
]
READ_BY_THE_MODEL = [
    "Do I need a coat?",
    "rain in Turin",
    "ValueError: one day only",
    '{"Turin": 2.5}',
    "Yes.",
    "North.",
    (
        'forecast was not run: city: missing; days: expected an integer, got "two"; unknown argument "town" '
        "(the arguments are city, days)"
    ),
    'heights was not run: the arguments must be a JSON object, such as {"name": "value"}, not "[1"',
    "Atlas was not run: place: expected a text, got null; near: missing",
    "there is no tool 'search'; the tools are forecast, heights, Plain, Atlas, ask",
    "not run: no more than 9 tool calls are allowed; answer with what you have",
    (
        'That is not what was asked for: layers: expected an integer, got "two"; '
        'sky: expected one of "clear", "grey", got "blue"; unknown key "more" (the keys are layers, sky)'
    ),
]
FINGERPRINT = "67a5acc548632ad9"
AFTER = ["2fcb3136d61c314e", "c085f4525b2a6f3b", "9b1e9b32645d3c8b", "1ac35419a261873c"]


def test_the_digests_of_an_agent_are_those_on_record():
    """The fingerprint of the third changes with the docstring of ``rt.ask``, which its model reads."""
    assert (Plain.version(), Plain.definition.fingerprint) == ("a1085d1e144bd250", "1daf360f57742fe2")  # type: ignore[attr-defined]
    assert (Atlas.version(), Atlas.definition.fingerprint) == ("a1085d1e144bd250", "1daf360f57742fe2")  # type: ignore[attr-defined]
    assert (weather([]).version(), weather([]).definition.fingerprint) == ("1-b3a0e0721decad3d", FINGERPRINT)


async def test_the_requests_of_a_conversation_are_those_on_record():
    async with rt.Session(context={"city": "Turin"}) as session:
        response = await rt.call(weather(SCRIPT), "Do I need a coat?")
    assert response.content == Advice(2)
    assert [said.content for said in response.message_history if said.role != "assistant"] == READ_BY_THE_MODEL
    requests = records(session, "chat m-1")
    assert {record.node for record in requests} == {f"railtracks.chat@{FINGERPRINT}"}
    assert [record.kwargs["after"] for record in requests] == AFTER
