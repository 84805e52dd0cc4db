"""Runs drawn flows for minutes, and reports what they did and left: ``python -m tests.soak --help``.

Flows run a few at a time, in one event loop after the other, on the two backends in turn. Between two loops child
processes are killed, and memory is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import attrs

from tests import postgres
from tests.durability.killing import Server
from tests.postgres_server import programs
from tests.soak.census import Census, Memory, leaks_since, tasks_alive
from tests.soak.drawing import draw
from tests.soak.kills import kill_and_resume
from tests.soak.report import report
from tests.soak.runs import STORES, Soaked, Tally

AT_ONCE = 8
"""Flows that run at one time."""
SHIFT = 2.0
"""Seconds that one event loop runs."""
KILLS_EVERY = 4
"""Event loops after which processes are killed."""
WARM_UP = 3.0
"""Seconds on each backend after which the process has what it has once, and is counted for the first time."""


@attrs.define
class Soak:
    """One soak test.

    Attributes:
        folder: Where its stores are.
        stores: The stores by kind.
        seeds: The seeds of the flows to come.
        tally: What happened until now.
        tasks: The tasks that event loops had left.
    """

    folder: Path
    stores: dict[str, Any]
    seeds: Iterator[int]
    tally: Tally
    tasks: int = 0
    memory: Memory = attrs.field(factory=Memory)

    async def shift(self, backend: str, seconds: float) -> None:
        """Run flows for ``seconds``, or until there are no seeds, and count the tasks that are left."""
        before, deadline = tasks_alive(), time.monotonic() + seconds

        async def work() -> None:
            while time.monotonic() < deadline and (seed := next(self.seeds, None)) is not None:
                kinds = list(self.stores)
                kind = kinds[seed % len(kinds)]
                await Soaked(draw(seed, self.folder), self.stores[kind], kind, backend, self.tally).run()

        async with anyio.create_task_group() as group:
            for _ in range(AT_ONCE):
                group.start_soon(work)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        self.tasks += max(0, tasks_alive() - before)

    def close(self) -> None:
        """Close the stores."""
        for store in self.stores.values():
            getattr(store, "close", lambda: None)()
        postgres.close_stores()


def main() -> int:
    """Run what the arguments say, print the report, and return 1 if something was wrong, leaked or grew."""
    args = _arguments()
    warnings.simplefilter("ignore")  # threads are abandoned on purpose
    logging.disable()
    kinds = args.store or [kind for kind in STORES if kind != "postgres" or _has_postgres()]
    if "postgres" in kinds:
        postgres.server()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rt-soak-") as name, contextlib.ExitStack() as stack:
        server = None
        if args.kills:
            folder = Path(name, "server")
            folder.mkdir()
            server = stack.enter_context(Server(folder))
        tally, before = Tally(), Census.now()
        if args.flows is None:  # what a process has once is not a leak
            for backend in args.backend:
                _soak(args, Path(name, f"warm-up on {backend}"), [backend], kinds, server, WARM_UP, tally)
            leaks_since(before)
            before = Census.now()
        soak = _soak(args, Path(name, "soak"), args.backend, kinds, server, args.minutes * 60, tally)
        leaks = {"tasks": soak.tasks} if soak.tasks else {}
        leaks |= leaks_since(before)
    is_well = report(tally, soak.memory, leaks, args.backend, kinds, time.monotonic() - began)
    return 0 if is_well else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--flows", type=int, help="stop after so many, and kill no processes between event loops")
    parser.add_argument("--seed", type=int, default=0, help="of the first flow; the others have the next ones")
    parser.add_argument("--backend", action="append", choices=("asyncio", "trio"), help="both if it is not given")
    parser.add_argument("--store", action="append", choices=tuple(STORES), help="all if it is not given")
    args = parser.parse_args()
    args.backend = args.backend or ["asyncio", "trio"]
    args.kills = args.flows is None
    return args


def _has_postgres() -> bool:
    return programs() is not None and importlib.util.find_spec("psycopg") is not None


def _soak(
    args: argparse.Namespace,
    folder: Path,
    backends: list[str],
    kinds: list[str],
    server: Server | None,
    seconds: float,
    tally: Tally,
) -> Soak:
    folder.mkdir()
    deadline = time.monotonic() + seconds
    seeds = itertools.count(args.seed) if args.flows is None else iter(range(args.seed, args.seed + args.flows))
    soak = Soak(folder, {kind: STORES[kind](folder) for kind in kinds}, seeds, tally)
    durable = [kind for kind in kinds if kind != "memory"]
    for number in itertools.count():
        left = deadline - time.monotonic()
        if left <= 0 or (args.flows is not None and tally.sessions >= args.flows):
            break
        backend = backends[number % len(backends)]
        anyio.run(soak.shift, backend, min(SHIFT, left), backend=backend)
        if server is not None and durable and number % KILLS_EVERY == 0:
            turn = number // KILLS_EVERY
            kind = durable[turn % len(durable)]
            killed_on = backends[turn // len(durable) % len(backends)]
            kill_and_resume(server, folder / f"killed in {kind}", kind, killed_on, number, tally)
        soak.memory.measure(tally.sessions)
    soak.close()
    return soak


if __name__ == "__main__":
    sys.exit(main())
