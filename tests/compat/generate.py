"""Write the records of this folder: ``python -m tests.compat.generate tests/compat/VERSION``.

Run it once for each release, with the code of that release, and never again: what is in the folder of a version was
written by that version. ``--only flows`` leaves out what the release does not have.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import anyio

import railtracks as rt
from tests.compat import flows

KILLED, FAILED = "killed", "failed"
INTERRUPTIONS: dict[str, list[tuple[str, tuple[int, ...]]]] = {
    "order": [*((KILLED, (n,)) for n in (0, 2, 4, 6, 7, 9)), (KILLED, (3, 8)), (FAILED, (9,)), (FAILED, (4, 9))],
    "poll": [(KILLED, (1,)), (KILLED, (2, 3)), (FAILED, (3,))],
    "deliver": [*((KILLED, (n,)) for n in (0, 1, 3, 5, 7, 10, 12, 13)), (KILLED, (1, 11)), (FAILED, (4, 7))],
    "advise": [*((KILLED, (n,)) for n in (1, 2, 4, 5, 7)), (KILLED, (2, 7)), (FAILED, (7,)), (FAILED, (3, 7))],
    "converse": [*((KILLED, (n,)) for n in (1, 2, 4, 5, 8, 11)), (KILLED, (2, 9)), (FAILED, (6,))],
}
"""Of each flow: how it is interrupted, and at which leaves; each attempt after the first resumes the one before."""


MODULES = {"order": "flows", "poll": "agent_flows", "advise": "agent_flows", "deliver": "policy_flows",
           "converse": "conversation_flows"}  # fmt: skip
"""Where each flow is."""


def entry(name: str) -> tuple[Any, tuple[Any, ...]]:
    """Return a flow's entry point and its arguments."""
    return getattr(importlib.import_module(f"tests.compat.{MODULES[name]}"), name.upper())


def options(name: str) -> dict[str, Any]:
    """Return the session options that a flow needs."""
    module = importlib.import_module(f"tests.compat.{MODULES[name]}")
    return {"ask_callback": module.answer} if hasattr(module, "answer") else {}


def identifier(name: str, how: str, leaves: tuple[int, ...]) -> str:
    """Name a run after how it was interrupted."""
    return "-".join([name, how, *map(str, leaves)])


def run(name: str, run_identifier: str, how: str, leaf: int, earlier: int | None) -> None:
    """Run a flow in this process, and interrupt it at a leaf.

    Args:
        leaf: Counted from 0, over all attempts; -1 for none.
        earlier: How many leaves had returned in earlier attempts; None if this is the first.
    """

    def on_effect(done: str) -> None:
        if done == "reserve" and earlier is not None:  # it is given a secret, so every attempt repeats it
            flows.EFFECTS.remove(done)
        elif len(flows.EFFECTS) - 1 == leaf:
            if how == KILLED:
                os._exit(9)
            raise RuntimeError(f"interrupted at {done}")

    flows.on_effect = on_effect
    entry_point, args = entry(name)
    flows.EFFECTS += ["(earlier)"] * (earlier or 0)
    flow = rt.Flow(name, entry_point, run_identifier=run_identifier, logging_setting="NONE", **options(name))
    with suppress(RuntimeError):
        flow.invoke(*args) if earlier is None else flow.resume(run_identifier)


async def several() -> None:
    """Record a session with several top-level calls, one of them cancelled."""

    @rt.function_node
    async def forever() -> None:
        await anyio.sleep_forever()

    async with rt.Session(run_identifier="several", name="Several", timeout=60, logging_setting="NONE") as session:
        session.start_soon(flows.double, 1)
        with anyio.move_on_after(0.01):
            await rt.call(forever)
        await rt.call(flows.double, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=list(INTERRUPTIONS), help="the flows to run")
    parser.add_argument("--run", nargs=5, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.run:
        name, run_identifier, how, leaf, earlier = parsed.run
        run(name, run_identifier, how, int(leaf), None if earlier == "first" else int(earlier))
        return
    folder: Path = parsed.folder
    folder.mkdir(parents=True)
    os.environ["RAILTRACKS_HOME"] = str(folder.resolve())

    def attempt(name: str, run_identifier: str, how: str, leaf: int, earlier: object) -> None:
        arguments = [name, run_identifier, how, str(leaf), str(earlier)]
        subprocess.run([sys.executable, "-m", "tests.compat.generate", str(folder), "--run", *arguments], check=False)

    def interrupt(name: str, how: str, leaves: tuple[int, ...]) -> None:
        for earlier, leaf in zip(("first", *leaves), leaves, strict=False):
            attempt(name, identifier(name, how, leaves), how, leaf, earlier)

    for name in parsed.only:
        attempt(name, f"{name}-completed", KILLED, -1, "first")
        for how, leaves in INTERRUPTIONS[name]:
            interrupt(name, how, leaves)
    anyio.run(several)

    database = folder / "runs.sqlite"
    os.environ.update(RAILTRACKS_STORE=f"sqlite:{database}", RAILTRACKS_DURABILITY="sync")  # a kill loses nothing
    for name in parsed.only:
        attempt(name, f"{name}-completed", KILLED, -1, "first")
        for how, leaves in INTERRUPTIONS[name][1::2]:
            interrupt(name, how, leaves)
    with closing(
        sqlite3.connect(database)
    ) as connection:  # what killed processes left beside the database goes into it
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for lock in folder.glob("*.lock"):
        lock.unlink()


if __name__ == "__main__":
    main()
