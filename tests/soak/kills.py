"""Child processes that are killed and resumed, as in ``tests/durability/killing.py``, as part of the soak test."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any

from railtracks.state._stores._settings import resolve_store
from tests import postgres
from tests.durability.killing import Run, Server, a_moment
from tests.soak.runs import Tally

SIZE = (4, 8, 6)


def kill_and_resume(server: Server, folder: Path, kind: str, backend: str, seed: int, tally: Tally) -> None:
    """Kill one run a few times, resume it each time, and note what is wrong.

    Args:
        server: What forks the processes.
        folder: A folder for the run, which is made and removed.
        kind: Its store: "file", "sqlite" or "postgres".
        backend: Its event loop.
        seed: Decides about the moments.
        tally: Where it is noted.
    """
    dice = Random(f"kills {seed}")
    # In async mode a database may lose what returned just before the kill; a file may not.
    durability = dice.choice(("sync", "async"))
    promised: set[str] | None = None if durability == "sync" or kind == "file" else set()
    run = Run(server, folder, kind, SIZE, backend=backend, durability=durability)
    try:
        for _ in range(dice.randint(1, 4)):
            outcome = run.attempt(a_moment(dice, run.calls // 3))
            tally.sessions += 1
            run.check(outcome, promised)
            if not outcome.killed:
                break
            tally.survived["process killed"] += 1
        tally.sessions += 1
        tally.calls += run.calls
        run.finish()
    except AssertionError as exc:
        tally.wrong.append(f"a process that is killed in {folder} ({kind}, {backend}, seed {seed}): {exc!r}")
    finally:
        store: Any = resolve_store(run.store)
        store.remove("run")
        getattr(store, "close", lambda: None)()
        postgres.close_stores()
        shutil.rmtree(folder)
