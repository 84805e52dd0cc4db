"""Measure a conversation that goes on from call to call in a session: what it takes on record, in memory and in time.

Each call of the agent gets all messages until then, and returns them with some more. Written whole each time, they
would take the square of their length.
"""

from __future__ import annotations

import gc
import tempfile
import time
import tracemalloc

import anyio

import railtracks as rt
from benchmarks.measure import Result, Variant, in_turns, micro, recorded_session
from railtracks.llm import Message, UserMessage
from railtracks.testing import ScriptedModel

TURNS = 25
LONG = 4
"""How many times as many turns the long conversation has. What grows by twice as much and more is not linear."""
SAID = "q" * 500
ANSWER = "a" * 500


async def chat(turns: int) -> None:
    agent = rt.agent_node("Chatter", llm=ScriptedModel(lambda _: ANSWER))
    history: list[Message] = []
    for _ in range(turns):
        history = (await rt.call(agent, [*history, UserMessage(SAID)])).message_history


async def state_size(turns: int) -> int:
    """Return the bytes of the state of a conversation."""
    with tempfile.TemporaryDirectory() as folder:
        async with recorded_session("async", folder) as session:
            await chat(turns)
        return sum(map(len, session.info.document()))


async def kept(turns: int) -> int:
    """Return the bytes of memory that a session has kept after a conversation."""
    with tempfile.TemporaryDirectory() as folder:
        async with recorded_session("async", folder):
            await chat(2)
            tracemalloc.start()
            await chat(turns)
            gc.collect()
            size, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return size


def by_turns(folder: str, turns: int) -> Variant:
    """Return a variant that takes the processor time of a turn."""

    async def run(count: int) -> float:
        async with recorded_session("async", folder):
            start = time.process_time()
            await chat(turns)
            return (time.process_time() - start) / turns * count

    return run


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure a long conversation against a short one, and its state against its text."""
    many = LONG * TURNS
    few_bytes, bytes_ = (anyio.run(state_size, turns, backend=backend) for turns in (TURNS, many))
    few_kept, kept_ = (anyio.run(kept, turns, backend=backend) for turns in (TURNS, many))
    with tempfile.TemporaryDirectory() as folder:
        variants = {"short": by_turns(folder, TURNS), "long": by_turns(folder, many)}
        times = anyio.run(in_turns, variants, 1, rounds, backend=backend)
    text = many * len(SAID + ANSWER)
    return [
        Result(f"state of {many} turns", f"{bytes_ / 1e3:.0f} kB", f"of {TURNS}", bytes_ / few_bytes, 1.1 * LONG),
        Result("the same", f"{bytes_ / 1e3:.0f} kB", f"its text, {text / 1e3:.0f} kB", bytes_ / text, 9.0),
        Result(f"memory of {many} turns", f"{kept_ / 1e3:.0f} kB", f"of {TURNS}", kept_ / few_kept, 1.6 * LONG),
        Result(
            f"a turn of {many}", micro(times["long"]), f"of {TURNS}, {micro(times['short'])}",
            min(times["long"]) / min(times["short"]), 2.0,
        ),
    ]  # fmt: skip
