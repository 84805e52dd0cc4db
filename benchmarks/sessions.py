"""Measure opening and closing an empty session, against an empty task group."""

from __future__ import annotations

import anyio

import railtracks as rt
from benchmarks.measure import Result, in_turns, micro, ratio

COUNT = 1_000


async def group(count: int) -> None:
    for _ in range(count):
        async with anyio.create_task_group():
            pass


async def session(count: int) -> None:
    for _ in range(count):
        async with rt.Session(save_state=False, logging_setting="QUIET"):
            pass


async def logging_session(count: int) -> None:
    for _ in range(count):
        async with rt.Session(save_state=False):
            pass


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure opening and closing: the session alone, and with the line that it logs at its end."""
    variants = {"group": group, "session": session, "logging": logging_session}
    times = anyio.run(in_turns, variants, COUNT, rounds, backend=backend)
    against = f"empty task group, {micro(times['group'])}"
    return [
        Result("open and close a session", micro(times["session"]), against, ratio(times, "session", "group"), 3.0),
        Result("the same, and log its end", micro(times["logging"]), against, ratio(times, "logging", "group"), None),
    ]
