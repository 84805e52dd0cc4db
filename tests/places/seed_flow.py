"""The flow of the second seed, with a model that needs no network."""

from __future__ import annotations

import railtracks as rt
from railtracks.testing import ScriptedModel, tool_call


@rt.function_node
def forecast(city: str) -> str:
    """Return the weather.

    Args:
        city: The city.
    """
    return f"rain in {city}"


def answer(messages):
    if any(message.role == "tool" for message in messages):
        return f"{messages[1].content} Take a coat."
    return tool_call("forecast", city="Oslo")


MyAgent = rt.agent_node(
    "MyAgent", llm=ScriptedModel(answer), tool_nodes=[forecast], system_message="You advise {user}, in one sentence."
)


@rt.function_node
async def my_workflow(user_input: str):
    result = await rt.call(MyAgent, user_input)
    return result.content
