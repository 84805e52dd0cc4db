"""A process that forks others, which run a flow and are killed, and checks of their run.

One child process that has imported railtracks forks the processes that are killed: starting Python for each would take
ten times as long. They report on a pipe what has returned, and note in a file what they begin.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs

import railtracks as rt
from railtracks.exceptions import StateError
from railtracks.state import Opaque, Reason, Status
from tests import postgres

SERVER = """
import json, os, signal, sqlite3, sys, time, traceback
import anyio, anyio.from_thread, anyio.to_thread
import anyio._backends._asyncio, anyio._backends._trio
import railtracks as rt
import railtracks.state._serialization._structuring
try:
    import psycopg
except ImportError:
    psycopg = None

write, kill = os.write, os.kill

def say(*words):
    write(REPORTS, (" ".join(map(str, words)) + "\\n").encode())

def did(*call):
    say("did", time.monotonic(), *call)
    ORDER["hang"] -= 1
    if not ORDER["hang"]:
        signal.pause()  # until it is killed

def begins(*call):
    write(EFFECTS, (" ".join(map(str, (ORDER["attempt"], *call))) + "\\n").encode())

def work(b, i):
    rt.context.put(f"{b}.{i}", i)
    if i == ORDER["fail"]:
        raise RuntimeError("not this time")
    return 1000 * b + i

async def leaf(b, i):
    begins("leaf", b, i)
    await anyio.sleep(ORDER["pause"])
    return work(b, i)

def sync_leaf(b, i):
    begins("sync_leaf", b, i)
    return work(b, i)

async def step(b, i):
    begins("step", b, i)
    node = sync_leaf if i % 20 == 1 else leaf
    result = await rt.call(node, b, i)
    did(node.__name__, b, i)
    return result

async def blob(b, i):
    begins("blob", b, i)
    return bytes([b, i]) * 50_000

async def branch(b, steps, batch):
    begins("branch", b, steps, batch)
    results = []
    for i in range(steps):
        results.append(await rt.call(step, b, i))
        did("step", b, i)
    others = range(steps, steps + batch)
    results += await rt.call_batch(leaf, [b] * batch, others, return_exceptions=False)
    for i in others:
        did("leaf", b, i)
    for i in range(ORDER["blobs"]):
        content = await rt.call(blob, b, i)
        did("blob", b, i)
        assert content == bytes([b, i]) * 50_000
    return sum(results)

async def entry(branches, steps, batch):
    begins("entry", branches, steps, batch)
    numbers = range(branches)
    lengths = [steps * (b + 1) // branches for b in numbers]  # some end while others run
    results = await rt.call_batch(branch, numbers, lengths, [batch] * branches, return_exceptions=False)
    for b in numbers:
        did("branch", b, lengths[b], batch)
    say("last")
    return [sum(results), sum(rt.context.get(key) for key in rt.context.keys())]  # a tuple would not be reused

def die_at(count, torn):
    '''Die before the count-th system call that changes something, or within the count-th write.'''
    def wrap(owner, name):
        original = getattr(owner, name)
        def wrapper(*args, **kwargs):
            nonlocal count
            count -= 1
            if not count:
                if torn:
                    original(args[0], args[1][: len(args[1]) // 2])
                kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)
        setattr(owner, name, wrapper)
    for name in ["write"] if torn else ["open", "write", "fsync", "replace", "rename", "unlink", "close"]:
        wrap(os, name)
    class Connection(sqlite3.Connection):
        pass
    if not torn:
        wrap(Connection, "execute")
        connect = sqlite3.connect
        sqlite3.connect = lambda *args, **kwargs: connect(*args, factory=Connection, **kwargs)
        if psycopg is not None:
            wrap(psycopg.Connection, "wait")  # which sends each statement, and the ends of transactions

def child():
    global REPORTS, EFFECTS
    REPORTS = os.open(ORDER["pipe"], os.O_WRONLY)
    EFFECTS = os.open(ORDER["effects"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    if ORDER["die"]:
        die_at(*ORDER["die"])
    flow = rt.Flow("F", entry, logging_setting="NONE", timeout=600, **ORDER["options"])
    say("begin")
    try:
        resumed = [] if ORDER["fresh"] else [ORDER["options"]["run_identifier"]]
        result = (flow.invoke if ORDER["fresh"] else flow.resume)(*resumed, *ORDER["arguments"])
    except BaseException as exc:
        say("error", repr(exc))
        if ORDER["fail"] is None:
            traceback.print_exc()
    else:
        say("result", json.dumps(result))

for line in sys.stdin:
    ORDER = json.loads(line)
    pid = os.fork()
    if not pid:
        try:
            child()
        finally:
            os._exit(0)
    print(pid, flush=True)
    sys.stdin.readline()  # until then the process keeps its id, dead or alive
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Server:
    """Forks processes that run the flow."""

    def __init__(self, folder: Path) -> None:
        self.pipe = folder / "pipe"
        os.mkfifo(self.pipe)
        self.errors = folder / "errors"
        root = str(Path(rt.__file__).parents[1])
        with self.errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-c", SERVER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=folder,
                env={"PYTHONPATH": root, "PATH": ""},
                text=True,
            )

    def __enter__(self):
        return self

    def __exit__(self, *_info):
        self._process.communicate()

    def _ask(self, line: str) -> int:
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self.errors.read_text()
        return int(answer)

    def run(self, order: dict[str, Any], moment: Moment | None) -> Outcome:
        """Run one process, and kill it at the moment, if it comes."""
        pid = self._ask(json.dumps({**order, "pipe": str(self.pipe)}))
        text, killed_at = b"", 0.0
        with self.pipe.open("rb", buffering=0) as pipe:
            while chunk := pipe.read(65536):
                text += chunk
                if moment is not None and not killed_at and text.count(moment.word) >= moment.count:
                    time.sleep(moment.delay)
                    killed_at = time.monotonic()
                    os.kill(pid, signal.SIGKILL)
        status = self._ask("wait")
        assert status in (0, -signal.SIGKILL)
        outcome = Outcome(killed=status != 0, killed_at=killed_at)
        for line in text.decode().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "did":
                at, _, call = rest.partition(" ")
                outcome.returned[call] = float(at)
            elif kind == "result":
                outcome.result = json.loads(rest)
            elif kind == "error":
                outcome.error = rest
        return outcome


@attrs.define
class Outcome:
    """The reports of one process, and how it ended."""

    killed: bool
    killed_at: float
    returned: dict[str, float] = attrs.field(factory=dict)
    """The calls that it reported as done, and when."""
    result: list[int] | None = None
    error: str | None = None


@attrs.frozen
class Moment:
    """The moment ``delay`` seconds after the process has reported a word ``count`` times."""

    word: bytes
    count: int = 1
    delay: float = 0.0


def a_moment(dice: random.Random, expected: int) -> Moment:
    """Draw a moment: at the very beginning, after some call, or while the state is saved."""
    kind = dice.random()
    if kind < 0.15:
        return Moment(b"begin\n", delay=dice.uniform(0, 0.01))
    if kind < 0.85:
        return Moment(b"did ", dice.randint(1, max(1, expected)), dice.choice([0, 0, dice.uniform(0, 0.003)]))
    return Moment(b"last\n", delay=dice.uniform(0, 0.03))


class Run:
    """A run that is killed and resumed, and the calls known to be on record."""

    def __init__(self, server: Server, folder: Path, kind: str, size: tuple[int, int, int], **options: Any) -> None:
        self._server = server
        folder.mkdir()
        self.folder = folder / "runs"
        if kind == "postgres":
            self.store = postgres.url_of(folder)
        else:
            self.store = f"{kind}:{self.folder / 'runs.db' if kind == 'sqlite' else self.folder}"
        self._effects = folder / "effects"
        self._size = size
        self._options = {"store": self.store, "run_identifier": "run", **options}
        self._attempt = 0
        self._is_known = False
        self.completed: dict[str, int] = {}
        """The calls on record as completed, and the attempt from which on they may not begin."""

        branches, steps, batch = size
        lengths = [steps * (b + 1) // branches for b in range(branches)]
        self.calls = 1 + sum(1 + 2 * length + batch for length in lengths)
        numbers = sum(sum(range(length + batch)) for length in lengths)
        self.right = [numbers + sum(1000 * b * (length + batch) for b, length in enumerate(lengths)), numbers]

    def attempt(self, moment: Moment | None = None, *, fresh: bool = False, **changes: Any) -> Outcome:
        """Start the run, or resume it if there is something to resume, and check that nothing completed began again."""
        order = {
            "fresh": fresh or not self._is_known,
            "arguments": self._size,
            "attempt": self._attempt,
            "effects": str(self._effects),
            "die": None,
            "fail": None,
            "hang": 0,
            "pause": 0,
            "blobs": 0,
            **changes,
            "options": {**self._options, **changes.get("options", {})},
        }
        outcome = self._server.run(order, moment)
        self._attempt += 1
        self._check_that_nothing_completed_began_again()
        return outcome

    def _info(self) -> rt.ExecutionInfo | None:
        try:
            return rt.state.load_run("run", self.store)
        except StateError:
            return None

    def check(self, outcome: Outcome, promised: set[str] | None = None) -> None:
        """Check that all is on record that was there before, and all that returned (or that was promised)."""
        assert outcome.error is None, (outcome.error, self._server.errors.read_text()[-3000:])
        promised = set(outcome.returned) if promised is None else promised
        info = self._info()
        self._is_known = info is not None
        if info is None:
            assert not promised
            assert not self.completed
            return
        completed = done(info)
        assert promised <= completed
        assert set(self.completed) <= completed
        assert outcome.killed or info.damage is None
        for record in info.records:
            if record.status is Status.OPEN:
                assert record.reason is Reason.PROCESS_DIED
        for call in completed:
            self.completed.setdefault(call, self._attempt)

    def _check_that_nothing_completed_began_again(self) -> None:
        begun = self._effects.read_text().splitlines() if self._effects.exists() else []
        assert len(set(begun)) == len(begun), "a call was made twice by one process"
        for line in begun:
            attempt, _, call = line.partition(" ")
            assert int(attempt) < self.completed.get(call, self._attempt), f"{call} ran again"

    def finish(self, **changes: Any) -> None:
        """Resume the run without a kill, and check that the result is right and that nothing else is left."""
        outcome = self.attempt(**changes)
        self.check(outcome)
        assert outcome.result == self.right
        info = self._info()
        assert info.answer == self.right
        assert info.end_time is not None
        states = {run.identifier: run.state for run in rt.state.list_runs(self.store)}
        assert states["run"] == "ended"
        assert not list(self.folder.glob("*.lock"))


def done(info: rt.ExecutionInfo) -> set[str]:
    """Return the calls on record as completed, with their results, those of resumed sessions included."""
    records = [r for r in (*info.records, *info.earlier) if r.status is Status.COMPLETED]
    return {" ".join(map(str, (r.name, *r.args))) for r in records if not isinstance(r.result, Opaque)}
