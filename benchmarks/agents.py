"""One turn of an agent (a request to its model, and one tool that the model asks for) over the model's own time.

Processor time, as a target in microseconds should not depend on what else the machine does.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from typing import Any

import anyio

import railtracks as rt
from benchmarks.measure import Result, in_turns
from railtracks.llm import AssistantMessage, Completion, Message, ToolCall, Usage

TARGET = 300.0
"""Microseconds."""
TURNS = 40


class Model:
    """Asks for a tool in each turn but the last. What it takes itself is measured."""

    name = "ready"
    provider = "none"
    settings: dict[str, Any] = {}
    api_key = None

    def __init__(self) -> None:
        self.seconds = 0.0
        self.turns = TURNS

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


async def seconds_a_turn(turns: int, saves: bool) -> float:
    model = Model()
    model.turns = turns
    agent = rt.agent_node("Reader", llm=model, system_message="You read for {who}.", tool_nodes=[look_up])  # type: ignore[arg-type]
    async with rt.Session({"who": "me"}, save_state=saves, logging_setting="NONE"):
        start = time.process_time()
        await rt.call(agent, "Read this.")
        return (time.process_time() - start - model.seconds) / turns


def measure(backend: str, rounds: int) -> list[Result]:
    async def saved(count: int) -> float:
        return await seconds_a_turn(TURNS, saves=True) * count

    async def unsaved(count: int) -> float:
        return await seconds_a_turn(TURNS, saves=False) * count

    async def long(count: int) -> float:
        return await seconds_a_turn(10 * TURNS, saves=True) * count

    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        variants = {"saved": saved, "unsaved": unsaved, "long": long}
        times = anyio.run(in_turns, variants, 1, rounds, backend=backend)
    best = {name: 1e6 * min(values) for name, values in times.items()}
    against = f"without saving {best['unsaved']:.0f} µs"
    growth = best["long"] / best["saved"]
    return [
        Result("a turn of an agent, a tool (value in µs)", f"{best['saved']:.0f} µs", against, best["saved"], TARGET),
        Result(f"the same, in a run of {10 * TURNS} turns", f"{best['long']:.0f} µs", f"of {TURNS}", growth, 2.0),
    ]
