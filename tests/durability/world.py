"""The nodes that resumed runs are made of, and checks of runs and sessions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import pytest

import railtracks as rt

FOLDER = Path(".railtracks")


def without_checksums(text: str) -> str:
    """Return the text of a saved run, as it may be edited."""
    text = re.sub(r', "checksum": "\w*"', "", text, count=1)
    return re.sub(r', "checksums": \{[^{}]*\}\}$', "}", text)


class World:
    """Nodes that wait, fail or hang as the test says, and the list of those that ran.

    All state that differs from attempt to attempt is here, because the arguments of calls are on record.
    """

    def __init__(self) -> None:
        self.broken: set[Any] = set()
        """The steps that raise, for now."""
        self.hanging: set[str] = set()
        """The steps that never end, for now."""
        self.delays: dict[str, float] = {}
        """The seconds that steps take."""
        self._ran: list[Any] = []

        @rt.function_node
        async def step(name, *_equal):
            self.note(name)
            await anyio.sleep(self.delays.get(name, 0))
            if name in self.hanging:
                await anyio.sleep_forever()
            if name in self.broken:
                raise ValueError(name)
            return f"{name}!"

        @rt.function_node
        async def steps(*names):
            return [await rt.call(step, name) for name in names]

        @rt.function_node(memo=False)
        async def gate(name="gate"):
            self.note(name)
            if name in self.broken:
                raise ValueError(name)

        @rt.function_node
        async def die(to="dead"):
            self.note("die")
            keep_journal(to)

        @rt.function_node
        def in_thread(name) -> tuple[str, str]:
            self.note(f"thread {name}")
            rt.context.put(f"thread {name}", name)
            return name, rt.call_sync(step, name)

        self.step, self.steps, self.gate, self.in_thread = step, steps, gate, in_thread
        self.die = die
        """In this node the process dies, as far as the run ``to`` shows it."""

    def note(self, what: Any) -> None:
        """Note that something ran."""
        self._ran.append(what)

    def ran(self) -> list[Any]:
        """Return what ran, in order, since this was called last."""
        found, self._ran = self._ran, []
        return found


def keep_journal(to: str = "dead") -> None:
    """Copy the journal of the session, which stays behind as that of a run whose process died now."""
    (FOLDER / f"{to}.journal").write_bytes((FOLDER / f"{rt.session_id()}.journal").read_bytes())


def reasons(info):
    """Return why each call ran, by the name of its node."""
    return {decision.name: decision.why for decision in info.resumed if not decision.reused}


def reused(info):
    """Return the names of the nodes whose calls were reused."""
    return [decision.name for decision in info.resumed if decision.reused]


def shape(info):
    """Return the tree of calls, without what differs from run to run."""
    callers = [None if r.parent is None else info.records[r.parent].args for r in info.records]
    return [
        (caller, r.name, r.args, dict(r.kwargs), r.status, r.result)
        for caller, r in zip(callers, info.records, strict=True)
    ]


def check(session, folder=FOLDER):
    """Check what holds for every state, however it came about."""
    info = session.info
    assert rt.ExecutionInfo.load(folder / f"{session.identifier}.json") == info
    stamped = sorted(s for r in info.records for s in (r.started_step, r.ended_step) if s is not None)
    assert stamped == list(range(len(stamped)))
    assert [stamp.step for stamp in info.all_stamps] == stamped
    assert [r.index for r in info.records] == list(range(len(info.records)))
    assert sorted(info.records, key=lambda r: r.started_step) == list(info.records)
    for record in info.records:
        if record.parent is not None:
            parent = info.records[record.parent]
            assert parent.run == record.run
            assert parent.started_step < record.started_step
            assert record.ended_step is None or record.ended_step < parent.ended_step
        assert record.ended is None or record.started <= record.ended


async def failing(flow, *args, **kwargs):
    """Run the flow, which fails, and return its session."""
    connection = flow.connect()
    with pytest.raises(ValueError):
        await connection.ainvoke(*args, **kwargs)
    check(connection.session)
    return connection.session


async def failing_once(flow, world, step):
    """Run the flow, which fails at ``step``. Repair the step, and forget what ran."""
    world.broken.add(step)
    await failing(flow)
    world.broken.clear()
    world.ran()


async def resumed(flow, run="run", *args, **kwargs):
    """Resume a run, and return the result and the session."""
    connection = flow.connect()
    result = await connection.aresume(run, *args, **kwargs)
    check(connection.session)
    return result, connection.session


async def resumed_badly(flow, run="run"):
    """Resume a run, which fails, and return the session."""
    connection = flow.connect()
    with pytest.raises(ValueError):
        await connection.aresume(run)
    check(connection.session)
    return connection.session


def flow_of(entry, **options):
    """Return a flow whose run has the identifier ``run``."""
    return rt.Flow("Flow", entry, **{"run_identifier": "run", **options})
