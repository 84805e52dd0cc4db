"""Measure one turn of an agent: a request to its model, and one tool that the model asks for.

The model's own time does not count. Processor time is the steadier clock for work that never waits.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import anyio

import railtracks as rt
from benchmarks.measure import Result, Variant, in_turns, micro, ratio, recorded_session
from railtracks.llm import AssistantMessage, Completion, Message, ToolCall, Usage

TURNS = 40
TARGET = 9.0
"""The highest ratio of a turn to its two nested calls made by hand in a session that is recorded the same.

The rest is the agent itself: the history, the prompt, the attributes, and their larger records. Derived from code that
just met the former target of 300 µs: its ratio is 7.6 on both backends, and a fifth is added.
"""


class Model:
    """A model that asks for a tool in each turn but the last.

    Attributes:
        seconds: The processor time that it took itself.
        turns: How often it asks for a tool.
    """

    name = "ready"
    provider = "none"
    settings: dict[str, Any] = {}
    api_key = None

    def __init__(self, turns: int) -> None:
        self.seconds = 0.0
        self.turns = turns

    async def complete(self, messages: Sequence[Message], **_: object) -> Completion:
        start = time.process_time()
        turn = len(messages) // 2
        asked = [ToolCall(f"call_{turn}", "look_up", {"word": f"word {turn}"})] if turn < self.turns else []
        answer = Completion(AssistantMessage("" if asked else "done", asked), Usage(100, 10), "ready", f"answer-{turn}")
        self.seconds += time.process_time() - start
        return answer

    def stream(self, messages: Sequence[Message], **_: object) -> Any:
        raise NotImplementedError


@rt.function_node
async def look_up(word: str) -> str:
    """Look a word up."""
    return f"what {word} means, in a sentence or two that a model can read"


@rt.function_node
async def answer(text: str) -> str:
    return f"look up the word after {text!r}"


@rt.function_node
async def two_calls_a_turn(turns: int) -> None:
    text = "Read this."
    for turn in range(turns):
        await rt.call(answer, text)
        text = await rt.call(look_up, f"word {turn}")


def by_hand(folder: str, turns: int) -> Variant:
    """Return a variant that makes the two calls of each turn without an agent."""

    async def run(count: int) -> float:
        async with recorded_session("async", folder):
            start = time.process_time()
            await rt.call(two_calls_a_turn, turns)
            return (time.process_time() - start) / turns * count

    return run


def by_agent(folder: str, turns: int, saves: bool = True) -> Variant:
    """Return a variant that runs an agent for some turns."""

    async def run(count: int) -> float:
        model = Model(turns)
        agent = rt.agent_node(
            "Reader", llm=model, system_message="You read for {who}.", tool_nodes=[look_up], max_requests=None
        )
        async with recorded_session("async", folder, context={"who": "me"}, save_state=saves):
            start = time.process_time()
            await rt.call(agent, "Read this.")
            return (time.process_time() - start - model.seconds) / turns * count

    return run


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure turns of an agent against the same calls by hand, and long runs against short ones."""
    with tempfile.TemporaryDirectory() as folder:
        variants = {
            "by hand": by_hand(folder, TURNS),
            "saved": by_agent(folder, TURNS),
            "unsaved": by_agent(folder, TURNS, saves=False),
            "long": by_agent(folder, 10 * TURNS),
        }
        times = anyio.run(in_turns, variants, 1, 2 * rounds, backend=backend)
    against = f"its two calls by hand, {micro(times['by hand'])}"
    growth = min(times["long"]) / min(times["saved"])
    return [
        Result("a turn of an agent, a tool", micro(times["saved"]), against, ratio(times, "saved", "by hand"), TARGET),
        Result("the same, not saved", micro(times["unsaved"]), against, ratio(times, "unsaved", "by hand")),
        Result(f"the same, in a run of {10 * TURNS} turns", micro(times["long"]), f"of {TURNS}", growth, 2.0),
    ]
