"""``rt.recover``: a run that kills its process each time is left after some attempts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import railtracks as rt
from tests.durability.world import FOLDER, keep_journal
from tests.postgres import POSTGRES, url_of

PROGRAM = """
import os, sys
import anyio, anyio._backends._asyncio, anyio._backends._trio
import railtracks as rt
import railtracks._resume._replayer, railtracks._session._stored_run, railtracks.state._serialization._structuring

backend, store = sys.argv[1:]
rt.set_config(backend=backend, store=store, logging_setting="NONE")

@rt.function_node
async def charge():
    print("charge", flush=True)

@rt.function_node
async def kill():
    if os.path.exists("repaired"):
        return "done"
    if not os.path.exists("begun"):
        open("begun", "w").close()
        await anyio.sleep(0.5)  # SQLite gets what has happened every 50 ms; later attempts die at once
    os._exit(9)

@rt.function_node
async def main():
    await rt.call(charge)
    return await rt.call(kill)

flow = rt.Flow("Killer", main, run_identifier="run")

def in_child(run):
    pid = os.fork()  # before this process has any thread
    if not pid:
        print(run(), flush=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def recover(**options):
    return [run.result for run in rt.recover([flow], **options)]

print(in_child(flow.invoke), flush=True)
print([in_child(lambda: recover(max_attempts=3)) for _ in range(5)], flush=True)
print(in_child(lambda: recover(max_attempts=4)), flush=True)
print(in_child(lambda: flow.resume("run")), flush=True)
print(in_child(lambda: recover(max_attempts=5)), flush=True)
open("repaired", "w").close()
print(in_child(lambda: recover(max_attempts=6)), flush=True)
print(in_child(lambda: recover(max_attempts=None)), flush=True)
"""


@pytest.mark.either_backend
@pytest.mark.parametrize("store", ["file:runs", "sqlite:runs.db", POSTGRES])
def test_run_that_kills_its_process_each_time_is_left(store, backend, tmp_path):
    store = url_of(tmp_path) if store == "postgres" else store
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, backend, store],
        cwd=tmp_path, env={"PYTHONPATH": str(Path(rt.__file__).parents[1]), "PATH": ""},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    kept = [line for line in ended.stdout.splitlines() if line != "charge"]
    assert kept == ["9", "[]", "[]", "[9, 9, 9, 0, 0]", "9", "9", "[]", "0", "['done']", "0", "[]", "0"]
    assert ended.stdout.count("charge") == 1


class Dying:
    """A flow whose process dies in each attempt, as far as the run ``dead`` shows it, while it is broken."""

    def __init__(self):
        self.is_broken = True

        @rt.function_node
        async def main():
            if self.is_broken:
                keep_journal("kept")
            return "done"

        self.flow = rt.Flow("Dying", main, logging_setting="NONE")

    async def attempt(self, **options):
        """Let ``recover`` try it, and the process die. Return what it returned."""
        recovered = await rt.arecover([self.flow], **options)
        if (kept := FOLDER / "kept.journal").exists():
            (FOLDER / "dead.json").unlink(missing_ok=True)
            kept.rename(FOLDER / "dead.journal")
        return [run.identifier for run in recovered]


async def die():
    dying = Dying()
    connection = dying.flow.connect()
    await connection.ainvoke()
    (FOLDER / f"{connection.session.identifier}.json").unlink()
    (FOLDER / "kept.journal").rename(FOLDER / "dead.journal")
    return dying


async def test_error_names_the_run_and_what_to_write_once_in_each_call(caplog):
    dying = await die()
    assert [await dying.attempt(max_attempts=2) for _ in range(4)] == [["dead"], ["dead"], [], []]
    text = (
        "rt.recover: the run dead of Dying is left, as its process has died 2 times after it was tried again; when the "
        "cause is removed, go on with it by flow.resume('dead'), or use a larger max_attempts"
    )
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [text, text]
    dying.is_broken = False
    assert await dying.flow.aresume("dead") == "done"
    assert await dying.attempt() == []


async def test_default_is_twenty(caplog):
    dying = await die()
    assert sum([len(await dying.attempt()) for _ in range(22)]) == 20
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 2


async def test_attempts_count_from_the_latest_session_that_ended(caplog):
    dying = await die()
    assert await dying.attempt(max_attempts=1) == ["dead"]
    assert await dying.attempt(max_attempts=1) == []
    dying.is_broken = False
    assert await dying.flow.aresume("dead") == "done"
    dying.is_broken = True
    assert await dying.flow.aresume("dead") == "done"  # which was replayed, and no process died


@pytest.mark.parametrize("max_attempts", [0, -1, True, 1.5, "3"])
async def test_max_attempts_is_checked(max_attempts):
    with pytest.raises(rt.exceptions.ConfigError, match=r"rt\.recover: max_attempts must be a whole number above 0"):
        await rt.arecover([], max_attempts=max_attempts)
