"""Agents whose tools wait for people: the run is suspended, and on resume the model is not asked again."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.exceptions import RunSuspended
from railtracks.testing import ScriptedModel, tool_call


async def approve(amount: int) -> str:
    """Ask a person to approve a payment.

    Args:
        amount: The amount.
    """
    return await rt.ask(f"Pay {amount}?")


def approve_in_thread(amount: int) -> str:
    """Ask a person to approve a payment.

    Args:
        amount: The amount.
    """
    answer: str = rt.call_sync(rt.ask, f"Pay {amount}?")
    return answer


async def wait_for_payment() -> str:
    """Wait for a payment."""
    return f"{await rt.receive('paid')} euros"


def flow_with(model, *tools):
    agent = rt.agent_node("Clerk", llm=model, tool_nodes=tools)

    async def main():
        return str(await rt.call(agent, "Pay the bill."))

    return rt.Flow("Office", main, run_identifier="run", logging_setting="QUIET")


@pytest.mark.parametrize("tool", [approve, approve_in_thread, rt.ask])
async def test_tool_that_asks_suspends_the_run(tool):
    name = tool.__name__
    wanted = tool_call(name, question="Pay 5?") if tool is rt.ask else tool_call(name, amount=5)
    model = ScriptedModel([wanted, "Paid."])
    flow = flow_with(model, tool)
    with pytest.raises(RunSuspended) as caught:
        await flow.ainvoke()
    [question] = caught.value.questions
    assert question.text == "Pay 5?"
    assert len(model.calls) == 1
    assert await flow.aresume("run", answers={question.id: "yes"}) == "Paid."
    assert len(model.calls) == 2
    assert model.calls[1][-1].content == "yes"


async def test_several_tools_wait_at_once():
    model = ScriptedModel(
        [[tool_call("approve", amount=5), tool_call("wait_for_payment"), tool_call("approve", amount=7)], "Done."]
    )
    flow = flow_with(model, approve, wait_for_payment)
    with pytest.raises(RunSuspended) as caught:
        await flow.ainvoke()
    first, second = caught.value.questions
    assert caught.value.topics == ("paid",)
    rt.state.send("run", "paid", 12)
    with pytest.raises(RunSuspended) as caught:
        await flow.aresume("run", answers={second.id: "no"})
    assert (caught.value.questions, caught.value.topics) == ((first,), ())
    assert len(model.calls) == 1
    assert await flow.aresume("run", answers={first.id: "yes"}) == "Done."
    assert [message.content for message in model.calls[1][-3:]] == ["yes", "12 euros", "no"]


async def test_model_does_not_get_the_suspension_as_a_tool_error():
    async def careless(amount: int) -> str:
        """Ask, and make the best of errors.

        Args:
            amount: The amount.
        """
        try:
            return await approve(amount)
        except Exception:
            return "no person is there"

    model = ScriptedModel([tool_call("careless", amount=5), "Paid."])
    flow = flow_with(model, careless)
    with pytest.raises(RunSuspended) as caught:
        await flow.ainvoke()
    assert len(model.calls) == 1
    assert await flow.aresume("run", answers={caught.value.questions[0].id: "yes"}) == "Paid."
    assert model.calls[1][-1].content == "yes"


async def test_agent_that_is_a_tool_is_suspended_with_its_caller():
    inner = rt.agent_node(
        "Helper",
        llm=ScriptedModel([tool_call("approve", amount=3), "Helped."]),
        tool_nodes=[approve],
        manifest=rt.ToolManifest("Helps."),
    )
    model = ScriptedModel([tool_call("Helper", request="Help me."), "Thanks."])
    flow = flow_with(model, inner)
    with pytest.raises(RunSuspended) as caught:
        await flow.ainvoke()
    assert await flow.aresume("run", answers={caught.value.questions[0].id: "yes"}) == "Thanks."
    assert model.calls[1][-1].content == "Helped."


async def test_stream_of_a_suspended_agent_ends_with_the_suspension():
    model = ScriptedModel([tool_call("approve", amount=5), "Paid."])
    agent = rt.agent_node("Clerk", llm=model, tool_nodes=[approve])

    with pytest.raises(RunSuspended):
        async with rt.Session(run_identifier="run", suspend=True), rt.astream(agent, "Pay the bill.") as stream:
            async for _ in stream:
                pass
