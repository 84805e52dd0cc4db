"""Measure how soon a timeout and a first error are seen that cancel 100 calls, against a task group of anyio.

What other programs on the machine take away would count for more than the work itself. So processor time is measured,
from the moment at which all children wait to that at which the caller has the error, and the best round counts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable

import anyio

import railtracks as rt
from benchmarks.measure import Result, Variant, in_turns, milli

CHILDREN = 100
DELAY = 0.2
"""Seconds after which the timeout comes, or the error."""
LEAST_ROUNDS = 10
TARGET = 5.0


class Failure(Exception):
    """Raised by one of the children."""


class Clock:
    """The processor time at which the last of the children began to wait."""

    def __init__(self) -> None:
        self.begun = 0
        self.start = 0.0

    def note(self) -> None:
        self.begun += 1
        self.start = time.thread_time()


async def waits(clock: Clock) -> None:
    clock.note()
    await anyio.sleep(100)


async def waits_or_fails(number: int, clock: Clock) -> None:
    clock.note()
    await anyio.sleep(DELAY if number == CHILDREN // 2 else 100)
    raise Failure


wait = rt.function_node(waits)
wait_or_fail = rt.function_node(waits_or_fails)


@rt.function_node
async def all_wait(clock: Clock) -> None:
    await rt.call_batch(wait, [clock] * CHILDREN, return_exceptions=False)


@rt.function_node
async def one_fails(clock: Clock) -> None:
    await rt.call_batch(wait_or_fail, range(CHILDREN), [clock] * CHILDREN, return_exceptions=False)


async def timeout_of_group(clock: Clock) -> None:
    with anyio.fail_after(DELAY):
        async with anyio.create_task_group() as group:
            for _ in range(CHILDREN):
                group.start_soon(waits, clock)


async def error_of_group(clock: Clock) -> None:
    async with anyio.create_task_group() as group:
        for number in range(CHILDREN):
            group.start_soon(waits_or_fails, number, clock)


def session(node: Callable[[Clock], Awaitable[None]], timeout: float) -> Callable[[Clock], Awaitable[None]]:
    async def run(clock: Clock) -> None:
        async with rt.Session(save_state=False, logging_setting="NONE", timeout=timeout):
            await rt.call(node, clock)

    return run


def until_seen(run: Callable[[Clock], Awaitable[None]]) -> Variant:
    """Return a variant that takes the processor time until the error of ``run`` is seen, which leaves it."""

    async def measured(_: int) -> float:
        while True:
            clock = Clock()
            with contextlib.suppress(TimeoutError, Failure, ExceptionGroup):
                await run(clock)
            seen = time.thread_time()
            if clock.begun == CHILDREN:  # on a busy machine the timeout may come before all have begun
                return seen - clock.start

    return measured


def measure(backend: str, rounds: int) -> list[Result]:
    """Measure both."""
    variants = {
        "timeout": until_seen(session(all_wait, DELAY)),
        "group timeout": until_seen(timeout_of_group),
        "error": until_seen(session(one_fails, 100)),
        "group error": until_seen(error_of_group),
    }
    times = anyio.run(in_turns, variants, 1, max(rounds, LEAST_ROUNDS), backend=backend)
    return [
        Result(
            f"ms until a {what} is seen that cancels {CHILDREN} calls (processor time)",
            milli([min(times[what])]),
            f"task group, {milli([min(times[f'group {what}'])])}",
            min(times[what]) * 1e3,
            TARGET,
        )
        for what in ("timeout", "error")
    ]
