"""Errors of tools: which of them go back to the model, and which end the run."""

from __future__ import annotations

import logging

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, ContextError, FatalError, ModelRetry, NodeInvocationError
from railtracks.llm import ToolMessage
from railtracks.state import Reason, Status
from railtracks.testing import tool_call
from tests.agents.helpers import Odd, agent_of, broken, forecast, records, tool_messages


async def test_the_error_of_a_tool_goes_back_as_text():
    agent, model = agent_of([tool_call("broken", why="not today"), tool_call("forecast", city="Oslo")], "I see.",
                            tool_nodes=[broken, forecast])  # fmt: skip
    async with rt.Session() as session:
        assert str(await rt.call(agent, "Go.")) == "I see."
    assert tool_messages(model) == [
        ToolMessage("ValueError: not today", "call_0", "broken", is_error=True),
        ToolMessage("snow in Oslo", "call_1", "forecast"),
    ]
    assert [record.status for record in session.info.records] == [
        Status.COMPLETED, Status.COMPLETED, Status.FAILED, Status.COMPLETED, Status.COMPLETED,
    ]  # fmt: skip


async def test_an_error_whose_text_cannot_be_had_goes_back_too():
    async def tool():
        raise Odd

    agent, model = agent_of(tool_call("tool"), "I see.", tool_nodes=[tool])
    assert str(await rt.call(agent, "Go.")) == "I see."
    assert tool_messages(model)[0].content.startswith("Odd")


@pytest.mark.parametrize("error", [FatalError("stop"), NodeInvocationError("stop", fatal=True)])
async def test_a_fatal_error_of_a_tool_ends_the_run_as_the_same_object(error):
    async def tool():
        raise error

    async def other():
        await anyio.sleep_forever()

    agent, model = agent_of([tool_call("other"), tool_call("tool")], "never", tool_nodes=[tool, other])
    async with rt.Session() as session:
        with pytest.raises(type(error)) as caught:
            await rt.call(agent, "Go.")
    assert caught.value is error
    assert len(model.calls) == 1
    (stopped,) = records(session, "other")
    assert (stopped.status, stopped.reason) == (Status.CANCELLED, Reason.END_ON_ERROR)


async def test_a_node_error_that_is_not_fatal_goes_back():
    async def tool():
        raise NodeInvocationError("not now", notes=["later"])

    agent, model = agent_of(tool_call("tool"), "I see.", tool_nodes=[tool])
    assert str(await rt.call(agent, "Go.")) == "I see."
    assert tool_messages(model)[0].content == "NodeInvocationError: not now"


async def test_with_end_on_error_the_error_of_a_tool_ends_the_run():
    agent, model = agent_of(tool_call("broken", why="enough"), "never", tool_nodes=[broken])
    async with rt.Session(end_on_error=True) as session:
        with pytest.raises(ValueError, match="enough") as caught:
            await rt.call(agent, "Go.")
    assert len(model.calls) == 1
    (record,) = records(session, "broken")
    assert record.exception is caught.value


async def test_a_timeout_that_a_tool_raises_itself_goes_back():
    async def tool():
        with anyio.fail_after(1):
            await anyio.sleep_forever()

    agent, model = agent_of(tool_call("tool"), "I see.", tool_nodes=[tool])
    assert str(await rt.call(agent, "Go.")) == "I see."
    assert tool_messages(model)[0].content.startswith("TimeoutError")


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
async def test_an_interrupt_in_a_tool_does_not_go_back_to_the_model(interrupt):
    async def tool():
        raise interrupt

    agent, model = agent_of(tool_call("tool"), "never", tool_nodes=[tool])
    with pytest.raises(interrupt):
        await rt.call(agent, "Go.")
    assert len(model.calls) == 1


# ---- what is for the developer, and what is for the model


@pytest.mark.parametrize("error", [NameError("naem"), TypeError("no"), AttributeError("no"), ImportError("no")])
async def test_a_mistake_in_a_tool_is_logged_with_its_traceback(error, caplog):
    async def tool():
        raise error

    agent, model = agent_of(tool_call("tool"), "I see.", tool_nodes=[tool])
    with caplog.at_level(logging.WARNING, "RT"):
        assert str(await rt.call(agent, "Go.")) == "I see."
    (record,) = [each for each in caplog.records if "looks like a mistake" in each.getMessage()]
    assert record.getMessage().startswith("the tool tool of the agent Agent")
    assert "raise error" in record.exc_text
    assert tool_messages(model)[0].is_error


async def test_another_error_of_a_tool_has_no_traceback_in_the_log(caplog):
    agent, _ = agent_of(tool_call("broken", why="not today"), "I see.", tool_nodes=[broken])
    with caplog.at_level(logging.WARNING, "RT"):
        await rt.call(agent, "Go.")
    assert "Traceback" not in caplog.text


async def test_errors_of_tools_are_raised_where_that_is_wanted():
    agent, model = agent_of(tool_call("broken", why="not today"), "never", tool_nodes=[broken], tool_errors="raise")
    with pytest.raises(ValueError, match="not today"):
        await rt.call(agent, "Go.")
    assert len(model.calls) == 1


@pytest.mark.parametrize("tool_errors", ["model", "raise"])
async def test_a_tool_may_ask_the_model_to_try_again(tool_errors):
    async def find(name: str) -> str:
        if name.islower():
            raise ModelRetry("names begin with a capital letter")
        return f"{name} was found"

    agent, _ = agent_of(tool_call("find", name="ada"), tool_call("find", name="Ada"), "Found.",
                        tool_nodes=[find], tool_errors=tool_errors)  # fmt: skip
    response = await rt.call(agent, "Go.")
    told = [message for message in response.message_history if isinstance(message, ToolMessage)]
    assert [(each.content, each.is_error) for each in told] == [
        ("names begin with a capital letter", True), ("Ada was found", False),
    ]  # fmt: skip


@pytest.mark.parametrize("tool_errors", ["model", "raise"])
async def test_what_a_session_lacks_reaches_the_developer(tool_errors):
    async def tool() -> str:
        return await rt.ask("Shall I?")

    agent, model = agent_of(tool_call("tool"), "never", tool_nodes=[tool], tool_errors=tool_errors)
    async with rt.Session():
        with pytest.raises(ContextError, match="ask_callback"):
            await rt.call(agent, "Go.")
    assert len(model.calls) == 1


async def test_a_wrong_option_in_a_tool_reaches_the_developer():
    async def tool() -> str:
        return await rt.call(broken.options(timeout="soon"), "no")  # type: ignore[arg-type, call-overload]

    agent, _ = agent_of(tool_call("tool"), "never", tool_nodes=[tool])
    with pytest.raises(ConfigError):
        await rt.call(agent, "Go.")
