"""Work in processes of the session's own."""

import asyncio
import atexit
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from railtracks.exceptions import WorkerLostError
from railtracks.executors._outcome import unpack_outcome
from railtracks.executors._process_runner import process_runner
from railtracks.executors._worker import pack_work
from tests.executors import nodes


@asynccontextmanager
async def processes(max_workers=2):
    runner = process_runner(max_workers)
    try:
        yield runner
    finally:
        await runner.close()


async def outcome_of(runner, func, *args):
    return unpack_outcome(await runner.run(pack_work(func, args, name="the_node"), node="the_node"))


async def result_of(runner, func, *args):
    return (await outcome_of(runner, func, *args)).unwrap()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_work_runs_in_another_process():
    async with processes() as runner:
        pid = await result_of(runner, os.getpid)
        assert pid != os.getpid()
        assert await result_of(runner, os.getpid) == pid  # an idle one is used again
        assert await result_of(runner, nodes.async_add, 1, 2) == 3
    assert not is_running(pid)


async def test_no_more_processes_run_than_allowed():
    pids = set()
    async with processes(max_workers=2) as runner:

        async def note():
            pids.add(await result_of(runner, os.getpid))

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(note)
    assert 1 <= len(pids) <= 2


async def test_what_is_local_travels_by_value():
    offset = 5
    async with processes() as runner:
        assert await result_of(runner, lambda x: x + offset, 3) == 8


async def test_large_values_travel_both_ways():
    data = os.urandom(5_000_000)
    async with processes() as runner:
        assert await result_of(runner, bytes, data) == data


async def test_all_that_is_printed_comes_back():
    async with processes() as runner:
        outcome = await outcome_of(runner, nodes.talk)
        assert [*outcome.output] == [
            ("stdout", "to stdout\n"),
            ("stderr", "to stderr\n"),
            ("stdout", "from a child\n"),
            ("stderr", "child stderr\n"),
        ]
        outcome = await outcome_of(runner, nodes.add, 1, 2)
        assert [*outcome.output] == []


@pytest.mark.parametrize(
    ("how", "text"), [(nodes.exit_at_once, "exit code 3"), (nodes.kill_self, "killed by SIGKILL.*out of memory")]
)
async def test_a_process_that_dies_is_replaced(how, text):
    async with processes() as runner:
        with pytest.raises(WorkerLostError, match=rf"the_node: its worker process \d+ .*{text}") as caught:
            await result_of(runner, how)
        assert caught.value.executor == "process"
        assert await result_of(runner, nodes.add, 1, 2) == 3


async def test_the_last_words_of_a_process_are_shown():
    def die():
        os.write(2, b"cannot go on\n")
        os._exit(1)

    async with processes() as runner:
        with pytest.raises(WorkerLostError) as caught:
            await result_of(runner, die)
    assert "cannot go on" in caught.value.__notes__[0]


async def test_cancellation_kills_the_process_and_its_children(tmp_path):
    def spawn_and_wait():
        child = subprocess.Popen(["sleep", "600"])
        Path(tmp_path, "pids").write_text(f"{os.getpid()} {child.pid} .")
        child.wait()

    async with processes() as runner:
        async with anyio.create_task_group() as group:
            group.start_soon(result_of, runner, spawn_and_wait)
            pids = await first_line(tmp_path / "pids")
            group.cancel_scope.cancel()
        worker, child = map(int, pids)
        assert not is_running(worker)
        assert await is_gone(child)
        assert await result_of(runner, nodes.add, 1, 2) == 3


async def test_a_native_cancellation_kills_the_process(tmp_path, backend):
    if backend == "trio":
        pytest.skip("trio has no other cancellation than that of scopes")

    def begin_and_wait():
        Path(tmp_path, "pids").write_text(f"{os.getpid()} .")
        time.sleep(600)

    async with processes() as runner:
        task = asyncio.get_running_loop().create_task(result_of(runner, begin_and_wait))
        [pid] = map(int, await first_line(tmp_path / "pids"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not is_running(pid)
        assert runner._workers == set()


def fork_and_return(path, fails):
    child = os.fork()
    if child == 0:
        Path(path).touch()
        if fails:
            raise LookupError("in the child")
        return "child"
    os.waitpid(child, 0)
    return "parent"


@pytest.mark.either_backend
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded")
@pytest.mark.parametrize("fails", [False, True])
async def test_a_child_that_a_node_forks_does_not_answer(fails, tmp_path):
    async with processes() as runner:
        assert await result_of(runner, fork_and_return, str(tmp_path / "child"), fails) == "parent"
        assert (tmp_path / "child").exists()
        assert await result_of(runner, nodes.add, 1, 2) == 3


async def test_a_child_that_lives_on_does_not_hide_a_crash(tmp_path):
    def leave_child():
        child = os.fork()
        if child == 0:
            Path(tmp_path, "pids").write_text(f"{os.getpid()} .")
            time.sleep(600)
        while not Path(tmp_path, "pids").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

    async with processes() as runner:
        with pytest.raises(WorkerLostError, match="killed by SIGKILL"):
            await result_of(runner, leave_child)
        (child,) = await first_line(tmp_path / "pids")
        assert await is_gone(int(child))


async def first_line(path):
    """Wait, in a thread that holds the clock, until a process has written to a file. Return its words."""

    def wait():
        until, words = time.monotonic() + 60, []
        while not words or words[-1] != ".":
            assert time.monotonic() < until, "the process has not written"
            time.sleep(0.005)  # real time: it is another process
            words = path.read_text().split() if path.exists() else []
        return words[:-1]

    return await anyio.to_thread.run_sync(wait)


async def is_gone(pid):
    """Wait until a process that is not ours has ended; it may be a zombie until its new parent looks."""

    def wait():
        until = time.monotonic() + 20
        while is_running(pid):
            if time.monotonic() > until:
                return False
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                break
        return True

    return await anyio.to_thread.run_sync(wait)


async def test_a_closed_runner_takes_no_work():
    async with processes() as runner:
        await result_of(runner, nodes.add, 1, 2)
    with pytest.raises(WorkerLostError, match="have ended with it"):
        await result_of(runner, nodes.add, 1, 2)


async def test_an_idle_process_runs_its_exit_handlers(tmp_path):
    def leave_note():
        atexit.register(Path(tmp_path, "note").write_text, "done")

    async with processes() as runner:
        await result_of(runner, leave_note)
    assert Path(tmp_path, "note").read_text() == "done"


async def test_a_start_that_is_cancelled_leaves_nothing_behind():
    async with processes() as runner:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await result_of(runner, nodes.add, 1, 2)
        assert runner._workers == set(runner._idle)


PROGRAM = """
import os, sys, anyio
from railtracks.executors._outcome import unpack_outcome
from railtracks.executors._process_runner import process_runner
from railtracks.executors._worker import pack_work

class Thing:
    def __init__(self, value): self.value = value

def double(thing):
    if thing.value == "wait":
        print(os.getpid(), flush=True)
        os.write(int(sys.argv[2]) if len(sys.argv) > 2 else 2, b"")
        import time; time.sleep(600)
    return Thing(thing.value * 2)

async def main():
    runner = process_runner(2)
    async def call(value):
        return unpack_outcome(await runner.run(pack_work(double, (Thing(value),), name="double"))).unwrap()
    thing = await call(4)
    assert type(thing) is Thing
    print(thing.value, flush=True)
    print(runner._idle[0].process.pid, flush=True)
    if "fork" in sys.argv:
        child = os.fork()
        if not child:
            import time; time.sleep(60); os._exit(0)
        print(child, flush=True)
    if "wait" in sys.argv:
        await call("wait")
    if "stay" in sys.argv:
        await anyio.sleep(600)
    await runner.close()

anyio.run(main, backend=sys.argv[1])
"""  # without `if __name__ == "__main__"`


def test_a_program_needs_no_guard_of_its_main_module(tmp_path, backend):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    result = subprocess.run([sys.executable, program, backend], capture_output=True, text=True, check=False, timeout=60)
    assert (result.stdout.split()[0], result.stderr, result.returncode) == ("8", "", 0)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_its_session(tmp_path, backend, how):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, program, backend, "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as home:
        lines = [home.stdout.readline() for _ in range(2)]
        worker = int(lines[1])
        home.send_signal(how)
        home.wait(30)
        assert anyio.run(is_gone, worker)


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_forked_child_keeps_no_process_alive(tmp_path, backend, is_busy):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, program, backend, "fork", *(["wait"] if is_busy else ["stay"])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as home:
        lines = [home.stdout.readline() for _ in range(3)]
        worker, child = int(lines[1]), int(lines[2])
        home.kill()
        home.wait(30)
        try:
            assert anyio.run(is_gone, worker)
        finally:
            os.kill(child, signal.SIGKILL)
