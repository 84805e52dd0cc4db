"""The flow with conversations that go on, and with what people and other agents decide; see ``flows.py``."""

from __future__ import annotations

import base64
from typing import Any

import railtracks as rt
from railtracks.exceptions import ModelRetry
from railtracks.llm import AssistantMessage, Completion, Fallback, Image, Message, ToolCall, Usage, UserMessage
from tests.compat.flows import effect

DOT = Image(
    base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")
)


def answer(question: str) -> bool:
    effect(f"asked: {question}")
    return True


class Scripted:
    """A model that answers by the number of assistant messages it is shown."""

    name = "scripted-2"
    provider = "none"
    settings: dict[str, Any] = {}
    api_key = None
    attachment_types = ("image",)

    def __init__(self, agent: str, *script: str | ToolCall) -> None:
        self.agent, self.script = agent, script

    async def complete(self, messages: Any, *, tools: Any = (), output: Any = None) -> Completion:
        position = sum(isinstance(message, AssistantMessage) for message in messages) % len(self.script)
        effect(f"{self.agent} {position}")
        said = self.script[position]
        text, calls = (said, []) if isinstance(said, str) else ("", [said])
        extra = {"none": {"signature": f"s{position}"}}
        message = AssistantMessage(text, calls, reasoning=f"Thought {position}.", extra=extra)
        usage = Usage(10 + position, 5, cache_read_tokens=4, reasoning_tokens=2)
        return Completion(message, usage, self.name, f"answer-{position}", "stop")

    def stream(self, messages: Any, *, tools: Any = (), output: Any = None) -> Any:
        raise AssertionError("nothing streams here")


class Down(Scripted):
    name = "down"

    async def complete(self, messages: Any, *, tools: Any = (), output: Any = None) -> Completion:
        raise ConnectionError("down")


def ledger() -> str:
    return "ledger"


@rt.function_node
async def pay(amount: int, book: str = rt.Depends(ledger)) -> str:
    """Pay an amount."""
    effect(f"paid {amount}")
    return f"paid {amount} by the {book}"


@rt.function_node
async def is_polite(text: str) -> None:
    effect(f"checked: {text}")
    if not text.startswith("Please"):
        raise ModelRetry("Begin with 'Please'.")


Talker = rt.agent_node(
    "Talker",
    llm=Fallback(Down("Talker"), Scripted("Talker", *(f"Answer {number}." for number in range(3)))),
    system_message="You talk about {place}.",
)
Clerk = rt.agent_node(
    "Clerk",
    llm=Scripted("Clerk", ToolCall("call-1", "pay", {"amount": 7}), "It is paid."),
    tool_nodes=[rt.tool(pay, needs_approval=True)],
)
Billing = rt.agent_node(
    "Billing", llm=Scripted("Billing", "unused", "Wait.", "Please wait."), output_guards=[is_polite]
)
Desk = rt.agent_node(
    "Desk", llm=Scripted("Desk", ToolCall("call-2", "hand_off_to_Billing")), tool_nodes=[rt.hand_off(Billing)]
)


@rt.function_node
async def converse(place: str) -> list[Any]:
    """Have a conversation of three turns, a tool that is approved, and a conversation that is handed over."""
    rt.context.put("place", place)
    history: list[Message] = []
    for turn in range(3):
        said = UserMessage(f"Line {turn}.", attachments=[DOT] if turn == 0 else [])
        history = (await rt.call(Talker, [*history, said])).message_history
    clerk = await rt.call(Clerk, "Pay.")
    desk = await rt.call(Desk, "I was charged twice.")
    effect("conversed")
    first = history[0]
    assert isinstance(first, UserMessage)
    return [len(history), first.attachments == (DOT,), clerk.text, desk.agent, desk.text, desk.usage.cache_read_tokens]


CONVERSE = (converse, ("Turin",))
CONVERSE_LEAVES = [
    "Talker 0", "Talker 1", "Talker 2", "Clerk 0",
    "asked: Clerk asks to call pay(amount=7). Answer \"yes\", or why not.", "paid 7", "Clerk 1", "Desk 0", "Billing 1",
    "checked: Wait.", "Billing 2", "checked: Please wait.", "conversed",
]  # fmt: skip
CONVERSE_RESULT = [6, True, "It is paid.", "Billing", "Please wait.", 12]
