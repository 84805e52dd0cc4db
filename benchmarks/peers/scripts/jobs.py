"""What the scripts of all peers share: the jobs' names, clocks, and how a result is reported.

A script defines a function for each job that its library can do. It runs in an environment of its own, which has that
library and no other, so this module imports the standard library only.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import json
import logging
import os
import signal
import sys
import time
import tracemalloc
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

LIMIT = 0.5
"""Seconds after which the job ``timeout`` ends a flow of 100 children."""

FAILS_AFTER = 0.1
"""Seconds after which one of 100 children fails in the job ``first_error``."""

WATCHED = 0.5
"""Seconds for which ticks are counted after the flow has ended. Each is work that nobody waits for."""

DEPTH = 50
"""Levels of the job ``nested``."""

STEPS = 10
KILLED_AT = 5
"""The job ``durable`` has ten steps. The first process is killed in step 5, after its effect and before its result."""

Result = dict[str, object]

ticks: list[float] = []
sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
"""How the jobs wait; a script for trio replaces it."""


class Broken(Exception):
    """The error of the job ``first_error``."""


async def tick(number: int) -> int:
    """Work for five seconds in slices of 10 ms, and count each slice."""
    for _ in range(500):
        await sleep(0.01)
        ticks.append(time.perf_counter())
    return number


async def tick_or_fail(number: int) -> int:
    """Do as ``tick`` does, but fail if this is child 50."""
    if number == 50:
        await sleep(FAILS_AFTER)
        raise Broken("child 50")
    return await tick(number)


async def seen_and_leaked(flow: Callable[[], Awaitable[object]]) -> Result:
    """Return when the end of a flow was seen, in seconds, what came out, and how many ticks came after it."""
    start = time.perf_counter()
    try:
        await flow()
    except BaseException as error:  # what comes out is part of the result
        out = type(error).__name__
    else:
        out = "nothing"
    end = time.perf_counter()
    await sleep(WATCHED)
    return {"value": end - start, "leaked": sum(at > end for at in ticks), "raised": out}


async def per_item(count: int, work: Callable[[int], Awaitable[object]]) -> Result:
    """Return the seconds that each of ``count`` items takes."""
    gc.collect()
    start = time.perf_counter()
    await work(count)
    return {"value": (time.perf_counter() - start) / count}


class Kept:
    """Measure the memory that is kept for each call: ``with Kept(count) as kept: ...``, then ``kept.result``."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.result: Result = {}

    def __enter__(self) -> Kept:  # noqa: PYI034 - `Self` would be one more thing to know here
        gc.collect()
        tracemalloc.start()
        return self

    def __exit__(self, *exc: object) -> None:
        gc.collect()
        self.result = {"value": tracemalloc.get_traced_memory()[0] / self.count}
        tracemalloc.stop()


async def effect(folder: str, number: int) -> None:
    """Do the work of a step for 50 ms, and die in the fifth of the first process."""
    await sleep(0.05)
    effect_at_once(folder, number)


def effect_at_once(folder: str, number: int) -> None:
    """Do what ``effect`` does, without the 50 ms in which libraries can save the last step."""
    done = Path(folder) / "effects"
    before = done.read_text().split() if done.exists() else []
    with done.open("a") as file:
        file.write(f"{number}\n")
    if number == KILLED_AT and str(KILLED_AT) not in before:
        os.kill(os.getpid(), signal.SIGKILL)


def main(script: dict[str, Any], run: Callable[[Callable[[], Awaitable[object]]], object] | None = None) -> None:
    """Run the job that the command line names, with its count or folder, and print its result as JSON.

    ``run`` runs an async function, ``asyncio.run`` unless the script says otherwise.

    Without a name, print the jobs that the script has.
    """
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    names = [name for name in JOBS if name in script]
    if len(sys.argv) == 1:
        print(json.dumps(names))
        return
    job, argument = sys.argv[1:]
    function, value = script[job], argument if job == "durable" else int(argument)
    if inspect.iscoroutinefunction(function):
        result = (run or _run)(functools.partial(function, value))
    else:
        result = function(value)
    sys.stdout.flush()
    print("\n" + json.dumps(result), flush=True)
    os._exit(0)  # what a library left running is counted above, and must not hold up the next one


def _run(function: Callable[[], Awaitable[object]]) -> object:
    return asyncio.run(function())  # type: ignore[arg-type]


JOBS = (
    "sequential",
    "fan_out",
    "nested",
    "runs",
    "saved_runs",
    "memory",
    "timeout",
    "first_error",
    "events",
    "durable",
)
