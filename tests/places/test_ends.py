"""How nodes in workers end: policies, cancellation, ends of sessions, kills of the process that has sent them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import NodeTimeOutError, SessionEndedError, WorkerLostError
from railtracks.state import ExecutionInfo, Reason, Status
from railtracks.state._journal._reader import read_journal
from tests.places import nodes
from tests.places.helpers import at, place_attributes, shape_of

pytestmark = pytest.mark.either_backend  # what workers do is the same on either; trio runs with the slow tests


def run(backend, func):
    return anyio.run(func, backend=backend)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition):
    for _ in range(500):
        if condition():
            return True
        time.sleep(0.01)  # real: another process does it
    return False


def test_a_lost_worker_is_tried_again_if_the_policy_says_so(backend, tmp_path):
    async def main():
        async with rt.Session() as session:
            pid = await rt.call(nodes.die_once.options(where="process", retries=1), str(tmp_path / "died"))
        first, second = session.info.records
        assert (first.status, second.status) == (Status.FAILED, Status.COMPLETED)
        assert place_attributes(second)["process"] == pid

    run(backend, main)


def test_a_timeout_of_a_node_ends_its_process(backend, tmp_path):
    async def main():
        async with rt.Session() as session:
            await rt.call(at(nodes.where_am_i, "process"))  # the process has started
            with pytest.raises(NodeTimeOutError):
                await rt.call(nodes.sleep_and_call.options(where="process", timeout=0.5), str(tmp_path / "ran"), 30)
            assert await rt.call(at(nodes.double, "process"), 2) == 4
        assert [each.status for each in session.info.records] == [Status.COMPLETED, Status.FAILED, Status.COMPLETED]

    run(backend, main)


def test_no_process_is_left_when_the_session_ends(backend):
    async def main():
        async with rt.Session():
            pid, _, _ = await rt.call(at(nodes.where_am_i, "process"))
            assert is_running(pid)
        return pid

    pid = run(backend, main)
    assert wait_until(lambda: not is_running(pid))


def test_an_error_elsewhere_ends_work_in_a_process(backend, tmp_path):
    async def main():
        session = rt.Session(end_on_error=True)
        with pytest.raises(ValueError, match="refused"):
            async with session:
                pid, _, _ = await rt.call(at(nodes.where_am_i, "process"))
                session.start_soon(at(nodes.sleep_and_call, "process"), str(tmp_path / "ran"), 30)
                await anyio.sleep(0.1)
                await rt.call(nodes.refuse)
        assert session.info.records[1].reason is Reason.END_ON_ERROR
        return pid

    pid = run(backend, main)
    assert wait_until(lambda: not is_running(pid))


def test_synchronous_code_uses_processes(backend):
    with rt.Session(backend=backend, name="sync") as session:
        pid, _, _ = rt.call_sync(at(nodes.where_am_i, "process"))
        assert session.info.records[0].status is Status.COMPLETED
    assert wait_until(lambda: not is_running(pid))


def test_a_plain_with_in_async_code_uses_executors(backend):
    async def main():
        with ThreadPoolExecutor(1) as pool, rt.Session({"offset": 1}, executors={"pool": pool}) as session:
            assert await rt.call(at(nodes.work, "pool"), 3) == 7
        assert len(session.info.records) == 4

    run(backend, main)


def test_what_came_home_is_in_the_journal_at_once(backend):
    async def main():
        async with rt.Session({"offset": 1}, name="journaled") as session:
            await rt.call(at(nodes.work_async, "process"), 3)
            content = read_journal(_journal())
            assert content.damage is None
            live = shape_of(session.info)
        assert shape_of(ExecutionInfo.load(".railtracks/journaled.json")) == live
        assert [each.name for each in content.records] == [each.name for each in session.info.records]
        assert [each.output for each in content.records] == [each.output for each in session.info.records]

    run(backend, main)


def _journal():
    [path] = [each for each in Path(".railtracks").iterdir() if "journal" in each.suffix]
    return path.read_bytes()


DRIVER = """
import anyio, os, signal, sys
import railtracks as rt
from tests.places import nodes

@rt.function_node
async def flow(ran):
    await rt.call(nodes.count.options(where="process"), ran, "one")
    await rt.call(nodes.steps.options(where="process"), ran, "absent")
    if len(sys.argv) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return await rt.call(nodes.count.options(where="process"), ran, "last")

if __name__ == "__main__":
    made = rt.Flow("Killed", entry_point=flow, run_identifier="killed", if_exists="resume", backend=sys.argv[1])
    print(made.invoke("ran"))
"""


@pytest.mark.either_backend
def test_a_killed_driver_does_nothing_twice_that_came_home(backend, tmp_path):
    program = tmp_path / "driver.py"
    program.write_text(textwrap.dedent(DRIVER))
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(program), backend]
    killed = subprocess.run([*command, "kill"], env=environment, cwd=tmp_path, timeout=60, check=False)
    assert killed.returncode < 0
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, timeout=60, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "last"
    assert (tmp_path / "ran").read_text().split() == ["one", "first", "second", "last"]


def test_nodes_that_are_waited_for_are_not_abandoned(backend, tmp_path):
    @rt.function_node(abandon_on_cancel=False)
    def patient(path):
        return nodes.block.func(path)

    async def main():
        path = tmp_path / "go"
        with ThreadPoolExecutor(1) as pool:
            async with rt.Session(executors={"pool": pool}) as session, anyio.create_task_group() as group:
                group.start_soon(rt.call, at(patient, "pool"), str(path))
                while not os.path.exists(f"{path}.begun"):
                    await anyio.sleep(0.01)
                group.cancel_scope.cancel()
                path.touch()
        assert not session.info.records[0].abandoned

    run(backend, main)


def test_a_lost_worker_is_logged_with_its_node(backend, caplog):
    async def main():
        async with rt.Session():
            with pytest.raises(WorkerLostError, match="die"):
                await rt.call(at(nodes.die, "process"))

    run(backend, main)
    assert [record.levelno for record in caplog.records if "die" in record.getMessage()] == [logging.WARNING]


async def test_the_clock_stands_still_while_a_worker_works():
    with ThreadPoolExecutor(1) as pool:
        async with rt.Session(executors={"pool": pool}, timeout=1):
            assert await rt.call(at(nodes.double, "pool"), 4) == 8
            with anyio.fail_after(0.5):
                assert await rt.call(at(nodes.double, "pool"), 5) == 10
            assert await rt.call(at(nodes.add, "thread"), 1, 2) == 3


def test_a_caller_node_of_a_cancelled_call_ends_with_an_error(backend):
    begun, release, raised = threading.Event(), threading.Event(), []

    @rt.function_node(where="caller")
    def inner():
        begun.set()
        release.wait(10)

    @rt.function_node
    def outer():
        try:
            rt.call_sync(inner)
        except BaseException as exc:
            raised.append(exc)
            raise

    async def main():
        async with rt.Session() as session, anyio.create_task_group() as group:
            group.start_soon(rt.call, outer)
            while not begun.is_set():
                await anyio.sleep(0.01)
            threading.Timer(0.1, release.set).start()
            group.cancel_scope.cancel()
        assert [each.status for each in session.info.records] == [Status.CANCELLED, Status.CANCELLED]

    run(backend, main)
    assert wait_until(lambda: len(raised) == 1)
    assert type(raised[0]) is SessionEndedError
