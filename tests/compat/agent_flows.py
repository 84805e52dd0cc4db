"""The flows with questions to people and with agents; see ``flows.py``."""

from __future__ import annotations

from typing import Any

import attrs

import railtracks as rt
from railtracks.llm import AssistantMessage, Completion, MessageHistory, ToolCall, Usage, UserMessage
from tests.compat.flows import effect


def answer(question: str) -> str:
    effect(f"answered {question}")
    return f"yes to {question}"


@rt.function_node
async def poll(questions: list[str]) -> list[str]:
    answers = [await rt.ask(question) for question in questions]
    effect("polled")
    return answers


class Scripted:
    """A model that answers by the number of assistant messages it is shown."""

    name = "scripted-1"
    provider = "none"
    settings: dict[str, Any] = {"temperature": 0}
    api_key = None

    def __init__(self, agent: str, *script: str | ToolCall) -> None:
        self.agent, self.script = agent, script

    async def complete(self, messages: Any, *, tools: Any = (), output: Any = None) -> Completion:
        position = sum(isinstance(message, AssistantMessage) for message in messages) % len(self.script)
        effect(f"{self.agent} {position}")
        said = self.script[position]
        message = AssistantMessage(said) if isinstance(said, str) else AssistantMessage("", [said])
        return Completion(message, Usage(10 + position, 5), self.name, f"answer-{position}", "stop")

    def stream(self, messages: Any, *, tools: Any = (), output: Any = None) -> Any:
        raise AssertionError("nothing streams here")


@attrs.frozen
class Advice:
    coat: bool
    layers: int


@rt.function_node
async def forecast(city: str) -> str:
    """Get the forecast.

    Args:
        city: Where.
    """
    effect(f"forecast {city}")
    return f"rain in {city}"


Weather = rt.agent_node(
    "Weather",
    llm=Scripted("Weather", ToolCall("call-1", "forecast", {"city": "Turin"}), '{"coat": true, "layers": 2}'),
    system_message="You advise people in {city}.",
    tool_nodes=[forecast],
    output_schema=Advice,
)

Host = rt.agent_node(
    "Host",
    llm=Scripted("Host", ToolCall("call-2", "ask", {"question": "a window?"}), "Welcome."),
    tool_nodes=[rt.ask],
)

Reader = rt.agent_node("Reader", llm=Scripted("Reader", "It is long."), memo=True)


@rt.function_node
async def advise(city: str) -> list[Any]:
    """An agent with a tool and a schema, one with ``rt.ask`` as a tool, and one that is given a long conversation."""
    rt.context.put("city", city)
    weather = await rt.call(Weather, "Do I need a coat?")
    host = await rt.call(Host, [UserMessage("Seat me.", inject_prompt=False)])
    said = [UserMessage(f"Line {n}.") if n % 2 == 0 else AssistantMessage(f"Line {n}.") for n in range(41)]
    reader = await rt.call(Reader, MessageHistory(said))
    effect("advised")
    return [weather.content.layers, host.text, reader.text, reader.usage.input_tokens]


POLL = (poll, (["now?", "later?", "now?"],))
POLL_LEAVES = ["answered now?", "answered later?", "answered now?", "polled"]
POLL_RESULT = ["yes to now?", "yes to later?", "yes to now?"]

ADVISE = (advise, ("Turin",))
ADVISE_LEAVES = [
    "Weather 0", "forecast Turin", "Weather 1", "Host 0", "answered a window?", "Host 1", "Reader 0", "advised",
]  # fmt: skip
ADVISE_RESULT = [2, "Welcome.", "It is long.", 10]
