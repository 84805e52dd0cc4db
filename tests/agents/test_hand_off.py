"""Hand-offs: another agent goes on with the conversation, and its answer is the answer."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import LimitExceeded, LLMError, NodeCreationError, NodeInvocationError
from railtracks.llm import AssistantMessage, SystemMessage, ToolCall, ToolMessage, UserMessage
from railtracks.state import MemoryStore, Status
from railtracks.testing import ScriptedModel, check, simulate, tool_call
from railtracks.testing.faults import Kill
from tests.agents.helpers import Place, agent_of, asked, ends, forecast, scripted

TO_BILLING = tool_call("hand_off_to_Billing")
HANDED = ToolMessage("the conversation was handed over", "call_0", "hand_off_to_Billing")


def pair(first, *second, options=None, **others):
    """Return two agents of which the first hands over to the second, and the model of the second."""
    billing, model = agent_of(*second, name="Billing", **others)
    return scripted(*first, name="Support", tool_nodes=[rt.hand_off(billing), forecast], **(options or {})), model


# ---- what becomes of the conversation


async def test_the_other_agent_answers_with_the_whole_history():
    support, model = pair([["One moment.", TO_BILLING]], "It is paid back.", system_message="You do bills.")
    async with rt.Session() as session:
        response = await rt.call(support, "I paid twice.")
    before = [asked("I paid twice."), AssistantMessage("One moment.", [ToolCall("call_0", "hand_off_to_Billing")])]
    assert model.calls == [[SystemMessage("You do bills.", inject_prompt=False), *before, HANDED]]
    assert response.message_history == [*before, HANDED, AssistantMessage("It is paid back.")]
    assert (str(response), response.agent, response.finish_reason) == ("It is paid back.", "Billing", "stop")
    first, second = (record.result.usage for record in session.info.records if record.name == "chat scripted")
    assert response.usage == first + second
    assert [(record.name, record.parent) for record in session.info.records] == [
        ("Support", None), ("chat scripted", 0), ("Billing", 0), ("chat scripted", 2),
    ]  # fmt: skip


async def test_without_a_hand_off_the_agent_itself_has_answered():
    response = await rt.call(pair(["Hello."], "x")[0], "Hello?")
    assert (response.content, response.agent) == ("Hello.", "Support")


async def test_the_model_knows_when_to_hand_over():
    billing = scripted("x", name="Billing", manifest=rt.ToolManifest("Knows about bills."))
    plain = scripted("x", name="Mr. Plain")
    model = ScriptedModel(["Hello."])
    tools = [rt.hand_off(billing), rt.hand_off(plain), rt.hand_off(plain, name="other", description="Never.")]
    await rt.call(rt.agent_node(llm=model, tool_nodes=tools), "Hello?")
    assert [(schema.name, schema.description) for schema in model.tools[0]] == [
        ("hand_off_to_Billing", "Knows about bills."),
        ("hand_off_to_Mr__Plain", "Hand the conversation over to Mr. Plain, which then answers."),
        ("other", "Never."),
    ]
    assert model.tools[0][0].parameters["properties"] == {}


async def test_of_two_hand_offs_the_first_one_counts():
    other, others_model = agent_of("x", name="Other")
    billing, model = agent_of("Done.", name="Billing")
    wanted = [TO_BILLING, tool_call("hand_off_to_Other"), tool_call("hand_off_to_Billing")]
    support = scripted(wanted, tool_nodes=[rt.hand_off(other), rt.hand_off(billing)])
    assert (await rt.call(support, "Go.")).agent == "Billing"
    said = [message for message in model.calls[0] if isinstance(message, ToolMessage)]
    assert said[0] == HANDED
    assert [(each.content, each.is_error) for each in said[1:]] == [
        ("not run: the conversation was handed over by hand_off_to_Billing", True)
    ] * 2
    assert others_model.calls == []


async def test_other_tools_of_the_round_run_first():
    support, model = pair([[TO_BILLING, tool_call("forecast", city="Oslo")]], "Done.")
    async with rt.Session() as session:
        await rt.call(support, "Go.")
    assert [message.content for message in model.calls[0][-2:]] == [HANDED.content, "snow in Oslo"]
    assert [record.name for record in session.info.records][2:4] == ["forecast", "Billing"]


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_filter_chooses_what_the_other_agent_gets(is_async):
    """The result has all of the messages nonetheless."""

    def users(messages):
        return [message for message in messages if message.role == "user"]

    async def users_later(messages):
        return users(messages)

    billing, model = agent_of("Done.", name="Billing")
    hand_off = rt.hand_off(billing, history_filter=users_later if is_async else users)
    response = await rt.call(scripted(TO_BILLING, tool_nodes=[hand_off]), "Go.")
    assert model.calls == [[asked("Go.")]]
    assert [message.role for message in response.message_history] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("chosen", [[], "all", None, [1]])
async def test_a_filter_must_return_messages(chosen):
    billing = scripted("x", name="Billing")
    support = scripted(TO_BILLING, tool_nodes=[rt.hand_off(billing, history_filter=lambda _: chosen)])
    with pytest.raises(NodeInvocationError, match=r"history_filter .* of hand_off_to_Billing returned .*; expected"):
        await rt.call(support, "Go.")


async def test_an_agent_that_was_handed_over_to_hands_over_again():
    last, model = agent_of("Done.", name="Last")
    middle = scripted(tool_call("hand_off_to_Last"), name="Middle", tool_nodes=[rt.hand_off(last)])
    first = scripted(tool_call("hand_off_to_Middle"), name="First", tool_nodes=[rt.hand_off(middle)])
    response = await rt.call(first, "Go.")
    assert response.agent == "Last"
    assert response.message_history == [*model.calls[0], AssistantMessage("Done.")]
    again = await rt.call(scripted("Fine."), [*response.message_history, UserMessage("And now?")])
    assert str(again) == "Fine."


async def test_an_agent_that_is_a_tool_may_hand_over():
    support, _ = pair([TO_BILLING], "Paid.")
    outer, model = agent_of(tool_call("Support", request="x"), "Done.", tool_nodes=[support])
    await rt.call(outer, "Go.")
    assert model.calls[1][-1].content == "Paid."


async def test_policies_of_the_other_agent_hold():
    billing = scripted(ConnectionError("lost"), "Done.", name="Billing")
    support = scripted(TO_BILLING, tool_nodes=[rt.hand_off(billing.options(retries=1))])
    async with rt.Session() as session:
        assert str(await rt.call(support, "Go.")) == "Done."
    assert [record.status for record in session.info.records if record.name == "Billing"] == [
        Status.FAILED, Status.COMPLETED,
    ]  # fmt: skip


# ---- bounds and errors


def circle(**options):
    """Return an agent that hands over to another one, which hands back, and so on."""
    agents: dict[str, Any] = {}
    for name, other in (("A", "B"), ("B", "A")):
        model = ScriptedModel(itertools.repeat(tool_call(f"hand_off_to_{other}"), 100))
        later = rt.hand_off(lambda other=other: agents[other], name=f"hand_off_to_{other}")
        agents[name] = rt.agent_node(name, llm=model, tool_nodes=[later], **options)
    return agents["A"]


async def test_a_circle_ends_at_the_requests_of_the_whole_conversation():
    with pytest.raises(LimitExceeded, match="the agent A has made 6 requests") as caught:
        await rt.call(circle(max_requests=6), "Go.")
    assert len([message for message in caught.value.message_history if message.role == "assistant"]) == 6
    assert caught.value.usage.input_tokens > 0
    with pytest.raises(LimitExceeded, match="max_tokens=30 allows no other request"):
        await rt.call(circle(max_tokens=30), "Go.")


async def test_the_error_of_the_other_agent_has_the_whole_history():
    def users(messages):
        return [message for message in messages if message.role == "user"]

    billing = scripted("not JSON", name="Billing", output_schema=Place, repairs=0)
    support = scripted(TO_BILLING, output_schema=Place, tool_nodes=[rt.hand_off(billing, history_filter=users)])
    with pytest.raises(LLMError) as caught:
        await rt.call(support, "Go.")
    assert [message.role for message in caught.value.message_history] == ["user", "assistant", "tool", "assistant"]


async def test_the_error_of_the_other_agent_is_raised_unchanged():
    """It is the same object."""
    error = ConnectionError("lost")
    support, _ = pair([TO_BILLING], error)
    with pytest.raises(ConnectionError) as caught:
        await rt.call(support, "Go.")
    assert caught.value is error


async def test_both_agents_are_cancelled():
    class Silent(ScriptedModel):
        async def complete(self, *_, **__):
            await anyio.sleep_forever()

    billing = rt.agent_node("Billing", llm=Silent([], name="silent"))
    async with rt.Session() as session:
        with anyio.move_on_after(5):
            await rt.call(scripted(TO_BILLING, name="Support", tool_nodes=[rt.hand_off(billing)]), "Go.")
    assert {name: status for name, (status, _) in ends(session).items()} == {
        "Support": Status.CANCELLED, "chat scripted": Status.COMPLETED, "Billing": Status.CANCELLED,
        "chat silent": Status.CANCELLED,
    }  # fmt: skip


# ---- types


@attrs.frozen
class Refund:
    amount: int


def test_both_agents_answer_with_the_same_type():
    place = scripted("x", name="Finder", output_schema=Place)
    with pytest.raises(NodeCreationError, match="Finder answers with Place, and an agent that hands over to it with t"):
        scripted("x", tool_nodes=[rt.hand_off(place)])
    with pytest.raises(NodeCreationError, match="answers with text"):
        scripted("x", output_schema=Place, tool_nodes=[rt.hand_off(scripted("x"))])


async def test_the_other_agent_may_answer_with_a_part_of_a_union():
    refund = scripted('{"amount": 5}', name="Billing", output_schema=Refund)
    support = scripted(TO_BILLING, output_schema=Place | Refund, tool_nodes=[rt.hand_off(refund)])
    assert (await rt.call(support, "Go.")).content == Refund(5)


async def test_the_type_of_a_later_agent_is_checked_when_it_is_there():
    place = scripted("x", name="Finder", output_schema=Place)
    with pytest.raises(NodeCreationError, match="Finder answers with Place"):
        await rt.call(
            scripted(tool_call("find"), tool_nodes=[rt.hand_off(lambda: place, name="find")]),
            "Go.",
        )
    with pytest.raises(NodeCreationError, match="returned 5; expected an agent"):
        await rt.call(scripted(tool_call("find"), tool_nodes=[rt.hand_off(lambda: 5, name="find")]), "Go.")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: rt.hand_off(forecast), "was given <node forecast>; expected an agent"),
        (lambda: rt.hand_off("Billing"), "was given 'Billing'; expected an agent"),  # type: ignore[arg-type]
        (lambda: rt.hand_off(lambda: scripted("x")), "the name of its agent is not known yet"),
        (lambda: rt.hand_off(scripted("x"), name=""), "name is ''; expected a text"),
        (lambda: rt.hand_off(scripted("x"), history_filter=5), "history_filter is 5; expected a function"),  # type: ignore[arg-type]
        (lambda: rt.tool(rt.hand_off(scripted("x")), needs_approval=True), "pass rt.hand_off"),  # type: ignore[arg-type]
        (
            lambda: scripted("x", tool_nodes=[rt.hand_off(scripted("x"))] * 2),
            "two tools are called 'hand_off_to_Agent'",
        ),
        (
            lambda: scripted("x", tool_nodes=[forecast, rt.hand_off(scripted("x"), name="forecast")]),
            "two tools are called 'forecast'",
        ),
    ],
)
def test_a_wrong_hand_off_is_refused(make, says):
    with pytest.raises(NodeCreationError, match=says):
        make()


def test_hand_offs_are_part_of_the_version():
    def version(**options):
        return scripted("x", tool_nodes=[rt.hand_off(scripted("x", name="Billing", **options))]).version()

    assert version() == version()
    assert len({version(), version(system_message="You do bills."), scripted("x").version()}) == 3


# ---- streams and resuming


def shown(chunk):
    result = None if chunk.tool_result is None else chunk.tool_result.content
    return chunk.kind, chunk.agent, chunk.text, chunk.tool_call and chunk.tool_call.name, result


async def test_a_stream_shows_both_agents_and_so_does_its_replay():
    support, _ = pair([["One moment.", TO_BILLING]], "Paid.")
    expected = [
        ("text", "Support", "One moment.", None, None), ("tool_call", "Support", "", "hand_off_to_Billing", None),
        ("tool_result", "Support", "", None, HANDED.content), ("text", "Billing", "Paid.", None, None),
    ]  # fmt: skip
    is_broken = [True]

    async def entry():
        response = await rt.call(support, "Go.")
        if is_broken:
            raise ConnectionError
        return response

    async def chunks(**options):
        found: list[Any] = []
        async with rt.Session(run_identifier="run", save_state=True, logging_setting="NONE", **options):
            async for chunk in rt.astream(entry):
                found.append(shown(chunk))
        return found

    first: list[Any] = []
    async with rt.Session(run_identifier="run", logging_setting="NONE"):
        with pytest.raises(ConnectionError):
            async for chunk in rt.astream(entry):
                first.append(shown(chunk))
    assert joined(first) == expected
    is_broken.clear()
    assert joined(await chunks(if_exists="resume"))[:-1] == expected


def joined(chunks):
    """Return the chunks with pieces of one text put together."""
    found: list[Any] = []
    for chunk in chunks:
        if found and chunk[0] == "text" and found[-1][:2] == chunk[:2]:
            found[-1] = (*chunk[:2], found[-1][2] + chunk[2], *chunk[3:])
        else:
            found.append(chunk)
    return found


@pytest.mark.parametrize("after", range(4, 22, 4))
def test_a_killed_run_asks_no_model_twice(backend, after):
    billing, second = agent_of(lambda _: "Done.", name="Billing")
    support, first = agent_of(
        lambda _: [TO_BILLING, tool_call("forecast", city="Oslo")], tool_nodes=[rt.hand_off(billing), forecast]
    )
    options: dict[str, Any] = {"backend": backend, "store": MemoryStore(), "durability": "sync"}
    outcome = simulate(support, "Go.", faults=[Kill(after)], **options)
    requests = [record for record in outcome.info.records if record.name == "chat scripted"]
    lost = [record for record in requests if record.status is not Status.COMPLETED]
    again = simulate(support, "Go.", resume="s0", **options)
    check(again)
    assert again.result.agent == "Billing"
    assert len(first.calls) + len(second.calls) <= 2 + len(lost) + 1  # one more may have completed, but not on record
