"""Random programs keep the promise, and the fuzzer that says so notices when they do not.

They run in a process of their own: a program that never ends may leave threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

import railtracks as rt
from tests.effort import FACTOR
from tests.fuzz import drawing, runner, shrinking
from tests.fuzz import programs as p

CASES = pytest.mark.parametrize("cases", [100, pytest.param(1000, marks=pytest.mark.slow)])


def python(*args):
    command, root = [sys.executable, *args], Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300 * FACTOR)


def session(*steps, **options):
    return p.Program((p.OpenSession(steps, **options),))


@pytest.mark.either_backend
@CASES
def test_random_programs_keep_the_promise(backend, cases):
    """In virtual time, where a seed is one course of events; each tenth program has threads, and runs in real time."""
    options = ["--backend", backend, "--cases", str(cases * FACTOR), "--max-failures", "4"]
    process = python("-X", "no_debug_ranges", "-m", "tests.fuzz", *options)  # faster tracebacks
    assert process.returncode == 0, process.stdout[-10_000:] + process.stderr[-2_000:]


def test_a_seed_is_one_program():
    assert all(drawing.draw(seed) == drawing.draw(seed) for seed in range(20))
    assert len({p.show(drawing.draw(seed)) for seed in range(20)}) == 20


def test_a_session_that_waits_is_all_right(backend):
    calls = p.Call(p.Node((p.Sleep(3), p.Call(p.Node()))))
    assert runner.run(session(calls, stored=True, subscribers=(p.Subscriber(),)), backend) == []


def test_a_wrong_result_is_noticed_and_shrunk(backend, monkeypatch):
    async def call(node, *args):
        return list(await real(node, *args))

    real = rt.call
    monkeypatch.setattr(rt, "call", call)
    program = session(p.Sleep(1), p.Branches("gather", ((p.Call(p.Node((p.Turns(2),))),), (p.Put(),))))
    broken = runner.run(program, backend)
    assert [each.invariant for each in broken] == ["results"]
    smaller, _ = shrinking.shrink(program, backend, 0, broken, 100)
    assert smaller == session(p.Call(p.Node()))


def test_a_lost_ctrl_c_is_noticed(backend, monkeypatch):
    async def call(node, *args):
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            await real(node, *args)

    program = attrs.evolve(session(p.Call(p.Node((p.Sleep(2),)))), interrupts=((1, 0),))
    assert runner.run(program, backend) == []
    real = rt.call
    monkeypatch.setattr(rt, "call", call)
    lost = "interrupt lost" if backend == "trio" else "cancellation lost"
    assert lost in [each.invariant for each in runner.run(program, backend)]


NEVER_ENDS = """
import sys, anyio, railtracks as rt
from tests.fuzz import programs as p, runner

async def call(node, *args):
    await anyio.Event().wait()

rt.call = call
[broken] = runner.run(p.Program((p.OpenSession((p.Call(p.Node()),)),)), sys.argv[1])
print(broken.invariant)
"""


def test_a_program_that_never_ends_is_noticed(backend):
    assert python("-c", NEVER_ENDS, backend).stdout == "it never ends\n"
