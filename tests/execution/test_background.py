"""Background work: it is done once, whatever becomes of its waiters, its event loop, its threads and its process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextvars import ContextVar
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks._concurrency import _background
from railtracks._concurrency._background import BackgroundThreads, Work
from tests import virtual

variable: ContextVar[str] = ContextVar("variable")


@pytest.fixture
def threads(monkeypatch):
    """Threads of this test alone, which end when they have nothing to do."""
    monkeypatch.setattr(_background, "IDLE", 0.01)
    threads = BackgroundThreads()
    yield threads
    while threads._threads:
        threading.Event().wait(0.001)
    assert not _background._pending


class Gate:
    """A piece of work that goes on when it may."""

    def __init__(self):
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()
        self.done = 0

    def __call__(self):
        self.has_begun.set()
        assert self.may_go_on.wait(20)
        self.done += 1


def submitted(threads, func):
    work = Work(func)
    threads.submit(work)
    return work


def refuse(error):
    def start(_thread):
        raise error

    return start


# ---- waiting


async def test_work_is_done_in_a_thread_with_the_context_of_its_maker(threads):
    seen = []
    variable.set("mine")
    work = submitted(threads, lambda: seen.append((threading.get_ident(), variable.get())))
    await virtual.wait_for(work)
    assert work.is_done
    [(thread, value)] = seen
    assert thread != threading.get_ident()
    assert value == "mine"
    await virtual.wait_for(work)
    assert work.wait()


async def test_cancelled_wait_leaves_the_work_and_can_be_repeated(threads):
    gate = Gate()
    with virtual.hold_clock():
        work = submitted(threads, gate)
        for _ in range(3):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await virtual.wait_for(work)
            assert scope.cancelled_caught
        assert not work.is_done
        gate.may_go_on.set()
        await virtual.wait_for(work)
    assert gate.done == 1


async def test_waiting_takes_no_longer_than_a_deadline(threads):
    gate = Gate()
    work = submitted(threads, gate)
    assert not work.wait(0.0)
    assert not work.wait(0.001)
    gate.may_go_on.set()
    assert work.wait(20)


async def test_all_waiters_are_woken(threads):
    gate, woken = Gate(), []
    work = submitted(threads, gate)

    async def wait(number):
        await virtual.wait_for(work)
        woken.append(number)

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(wait, number)
        await anyio.lowlevel.checkpoint()
        gate.may_go_on.set()
    assert sorted(woken) == [0, 1, 2, 3, 4]


def test_work_is_done_though_its_event_loop_has_ended(threads, backend):
    gate, made = Gate(), []

    async def main():
        made.append(submitted(threads, gate))
        with anyio.move_on_after(0):
            await virtual.wait_for(made[0])

    anyio.run(main, backend=backend)
    gate.may_go_on.set()
    assert made[0].wait(20)
    assert gate.done == 1


# ---- failing


@pytest.mark.parametrize("error", [ValueError, MemoryError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_work_raises_ends_the_wait_and_not_the_thread(threads, error):
    raised, ran = error("mine"), []

    def fail():
        ran.append(threading.current_thread())
        raise raised

    work = submitted(threads, fail)
    assert work.wait(20)
    assert work.error is raised
    assert submitted(threads, lambda: ran.append(threading.current_thread())).wait(20)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=repr)
def test_without_a_thread_work_is_done_at_once(threads, error, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", refuse(error))
    ran = []
    work = submitted(threads, lambda: ran.append(threading.current_thread()))
    assert work.is_done
    assert ran == [threading.current_thread()]


def test_work_waits_for_a_busy_thread_if_no_other_can_be_started(threads, monkeypatch):
    gate = Gate()
    first = submitted(threads, gate)
    assert gate.has_begun.wait(20)
    monkeypatch.setattr(threading.Thread, "start", refuse(RuntimeError("can't start new thread")))
    second = submitted(threads, int)
    assert not second.is_done
    gate.may_go_on.set()
    assert first.wait(20)
    assert second.wait(20)


# ---- threads


def test_submitting_again_does_nothing(threads):
    gate = Gate()
    work = submitted(threads, gate)
    threads.submit(work)
    gate.may_go_on.set()
    assert work.wait(20)
    threads.submit(work)
    work.run()
    assert gate.done == 1


def test_threads_stay_for_more_work_and_are_limited(threads, monkeypatch):
    monkeypatch.setattr(_background, "IDLE", 60.0)
    ran = set()
    for _ in range(20):
        assert submitted(threads, lambda: ran.add(threading.current_thread())).wait(20)
    assert len(ran) <= 2  # the first may have reported, and not yet be idle, when the second comes
    gates = [Gate() for _ in range(_background.MAX_THREADS + 5)]
    works = [submitted(threads, gate) for gate in gates]
    for gate in gates[: _background.MAX_THREADS]:
        assert gate.has_begun.wait(20)
    assert threads._threads == _background.MAX_THREADS
    monkeypatch.setattr(_background, "IDLE", 0.01)
    for gate in gates:
        gate.may_go_on.set()
    assert all(work.wait(20) for work in works)
    for _ in range(_background.MAX_THREADS):  # the idle ones, which wait for a minute
        submitted(threads, int)


def test_work_that_hangs_does_not_hold_up_other_work(threads):
    gate = Gate()
    hanging = submitted(threads, gate)
    for _ in range(50):
        assert submitted(threads, int).wait(20)
    gate.may_go_on.set()
    assert hanging.wait(20)


def test_work_of_many_threads_is_done_once_each(threads):
    done = []

    def submit():
        works = [submitted(threads, lambda i=i: done.append(i)) for i in range(50)]
        assert all(work.wait(20) for work in works)

    submitters = [threading.Thread(target=submit) for _ in range(4)]
    for thread in submitters:
        thread.start()
    for thread in submitters:
        thread.join()
    assert sorted(done) == sorted(list(range(50)) * 4)


# ---- processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_forked_child_does_not_wait_for_work_of_its_parent():
    gate = Gate()
    work = submitted(_background.background, gate)
    assert gate.has_begun.wait(20)
    if (child := os.fork()) == 0:
        ended = work.wait(20) and submitted(_background.background, int).wait(20)
        os._exit(0 if ended else 1)
    _, status = os.waitpid(child, 0)
    gate.may_go_on.set()
    assert work.wait(20)
    assert os.waitstatus_to_exitcode(status) == 0


def run_python(code):
    root = str(Path(rt.__file__).parents[1])
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env={"PYTHONPATH": root}, capture_output=True, text=True, timeout=60, check=False)


PREAMBLE = """
import os, sys, time
from railtracks._concurrency._background import Work, background

def later():
    time.sleep(0.2)
    print("done", flush=True)

"""


def test_the_end_of_a_process_waits_for_work():
    process = run_python(f"{PREAMBLE}background.submit(Work(later))")
    assert (process.stdout, process.stderr) == ("done\n", "")


def test_work_is_done_at_once_when_the_interpreter_shuts_down():
    """A daemon thread does not run any more then."""
    code = f"""{PREAMBLE}
class Late:
    def __del__(self, sys=sys, os=os, background=background, Work=Work):
        assert sys.is_finalizing()
        background.submit(Work(lambda: os.write(1, b"done\\n")))

background.submit(Work(int))
late = Late()
"""
    process = run_python(code)
    assert (process.stdout, process.stderr) == ("done\n", "")
