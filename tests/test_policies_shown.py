"""What people see of what policies have done: in the tree, the numbers, the log, events and on the page."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
import stamina

import railtracks as rt
from railtracks.cli._output import run_as_data
from railtracks.exceptions import NodeTimeOutError
from railtracks.page._data import page_data
from railtracks.state import Status
from railtracks.state._comparison import compare as compare_runs
from railtracks.state._views._failures import failures_of
from tests import virtual

AGAIN = rt.Retry(attempts=3, wait_initial=1, wait_jitter=0)
tries: list[int] = []


@pytest.fixture(autouse=True)
def _no_tries():
    tries.clear()


@rt.function_node(retries=AGAIN)
async def flaky(number: int, fails: int = 2) -> int:
    tries.append(number)
    if len(tries) <= fails:
        raise OSError("no route")
    return number


@rt.function_node(cache=True)
async def double(number: int) -> int:
    return 2 * number


@rt.function_node(timeout=5)
async def slow() -> None:
    await anyio.sleep(10)


async def run_flaky(**options):
    async with rt.Session(**options) as session:
        await rt.call(flaky, 1)
        await rt.call(double, 1)
        await rt.call(double, 1)
    return session.info


async def test_the_tree_says_what_policies_have_done():
    info = await run_flaky(name="mine")
    lines = str(info).splitlines()
    assert lines[0] == "session mine  Completed  3 s  5 calls, 2 retried, 1 cached"
    assert "flaky(1)  Failed, tried again (attempt 1)  0 µs  OSError: no route" in lines[1]
    assert "flaky(1)  Failed, tried again (attempt 2)" in lines[2]
    assert "flaky(1)  Completed (attempt 3)" in lines[3]
    assert "double(1)  Completed (cached)" in lines[5]
    assert str(rt.state.load_run("mine")) == str(info)


async def test_a_timeout_of_a_node_is_shown():
    async with rt.Session() as session:
        with pytest.raises(NodeTimeOutError):
            await rt.call(slow)
    assert "slow()  Failed (node_timeout)  5 s  NodeTimeOutError" in str(session.info)


async def test_attempts_that_were_tried_again_are_no_answers():
    async with rt.Session() as session:
        await rt.call(flaky, 1)
    assert session.info.answer == 1
    assert session.info.name == "flaky"
    assert run_as_data(session.info)["result"] == 1
    assert run_as_data(session.info)["error"] is None


async def test_attempts_that_were_tried_again_are_no_failures():
    info = await run_flaky()
    assert info.failures == ()
    assert failures_of(info.records) == []
    tries.clear()
    async with rt.Session() as session:
        with pytest.raises(OSError, match="no route"):
            await rt.call(flaky, 1, fails=3)
    assert [record.index for record in session.info.failures] == [2]


async def test_a_summary_counts_what_policies_have_done():
    summary = (await run_flaky()).summary()
    assert summary.calls == {Status.COMPLETED: 3}
    assert (summary.retried, summary.cached) == (2, 1)
    assert {(node.name, node.calls, node.failed, node.retried, node.cached) for node in summary.nodes} == {
        ("flaky", 3, 0, 2, 0),
        ("double", 2, 0, 0, 1),
    }
    assert "calls: 3 completed (1 cached), 2 retried" in str(summary)
    [row] = [line.split() for line in str(summary).splitlines() if line.startswith("flaky")]
    assert row[:5] == ["flaky", "3", "0", "2", "0"]


async def test_folds_count_what_was_tried_again():
    async with rt.Session() as session:
        await rt.call_batch(flaky.options(retries=rt.Retry(attempts=30, wait_jitter=0, wait_initial=0)), [1] * 10)
    tree = session.info.tree()
    assert "flaky × 12: 10 ok, 2 retried" in tree
    assert session.info.tree(failed=True).count("\n") == 0


async def test_the_log_says_that_an_attempt_is_tried_again(caplog):
    caplog.set_level(logging.DEBUG, "RT")
    await run_flaky(logging_setting="VERBOSE")
    failed = [(r.levelno, r.getMessage()) for r in caplog.records if "FAILED" in r.getMessage()]
    assert [level for level, _ in failed] == [logging.INFO] * 2
    assert failed[0][1].endswith(", attempt 1, is tried again")
    assert "double CACHED" in [r.getMessage() for r in caplog.records]
    assert any("END 5 calls, 0 failed, 2 retried, 1 cached, 3.000 s" in r.getMessage() for r in caplog.records)


async def test_the_last_attempt_that_fails_is_a_warning(caplog):
    async with rt.Session():
        with pytest.raises(OSError, match="no route"):
            await rt.call(flaky, 1, fails=3)
    [warning] = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and r.name == "RT"]
    assert warning.startswith("flaky(1, fails=3) FAILED OSError: no route")
    assert warning.endswith(", attempt 3")


async def test_events_say_what_policies_have_done():
    events = []
    async with rt.Session() as session:
        session.subscribe(events.append)
        await rt.call(flaky, 1)
        await rt.call(double, 1)
        await rt.call(double, 1)
    assert [event.is_retried for event in events if isinstance(event, rt.state.CallFailed)] == [True, True]
    assert [event.cached for event in events if isinstance(event, rt.state.CallSucceeded)] == [None, None, "session"]


async def test_runs_with_other_numbers_of_attempts_compare_alike():
    first = await run_flaky()
    second = await run_flaky()
    found = compare_runs(first, second)
    assert (found.failed_first, found.failed_second) == ((), ())
    assert found.matched == 3


async def test_the_page_knows_what_policies_have_done():
    data = page_data(await run_flaky())
    assert data["run"]["calls"] == {"Completed": 3, "Retried": 2}
    assert data["run"]["cached"] == 1
    assert data["run"]["failureCount"] == 0
    assert data["run"]["headline"] == "It completed."
    assert data["calls"][0][10]["policy"] == {"retried": True}
    assert data["calls"][4][10]["policy"] == {"cached": "session"}


async def test_a_run_that_failed_after_all_attempts_has_failed():
    async with rt.Session(run_identifier="r") as session:
        with pytest.raises(OSError, match="no route"):
            await rt.call(flaky, 1, fails=3)
    assert page_data(session.info)["run"]["headline"] == "It failed: OSError: no route"
    assert run_as_data(session.info)["error"] == "OSError: no route"
    assert run_as_data(session.info)["failed"] == 1


async def test_cancelling_a_run_leaves_attempts_as_they_were():
    async with rt.Session(run_identifier="r"):
        with pytest.raises(OSError, match="no route"):
            await rt.call(flaky, 1, fails=3)
    rt.state.cancel_run("r")
    statuses = [record.status for record in rt.state.load_run("r").records]
    assert statuses == [Status.FAILED, Status.FAILED, Status.CANCELLED]


async def test_a_retry_is_logged_by_the_session_alone(caplog):
    caplog.set_level("DEBUG")
    await run_flaky(logging_setting="REGULAR")
    assert {record.name for record in caplog.records} == {"RT", "RT.Session"}
    again = [record.levelname for record in caplog.records if "is tried again" in record.getMessage()]
    assert again == ["INFO", "INFO"]


@pytest.mark.parametrize("is_configured", [False, True])
def test_retries_print_nothing_unless_structlog_is_configured(is_configured):
    pytest.importorskip("structlog")
    program = Path("program.py")
    configure = "import structlog\nstructlog.configure()\n" if is_configured else ""
    program.write_text(
        f"{configure}import railtracks as rt\n"
        "tries = []\n"
        "@rt.function_node(retries=rt.Retry(wait_initial=0, wait_jitter=0))\n"
        "def flaky() -> int:\n"
        "    tries.append(1)\n"
        "    return 1 // (len(tries) - 1)\n"
        "with rt.Session(logging_setting='NONE'):\n"
        "    rt.call_sync(flaky)\n"
        "import logging\n"
        "from stamina._config import CONFIG\n"
        "assert CONFIG._on_retry is None\n"
        "assert logging.getLogger('stamina').handlers == []\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(rt.__file__).parents[1])}
    done = subprocess.run([sys.executable, program], env=environment, capture_output=True, text=True, check=True)
    assert ("stamina.retry_scheduled" in done.stdout) is is_configured
    assert done.stderr == ""


def test_hooks_of_stamina_are_as_before_after_a_retry(backend):
    """Also those that the application has set, and while another call waits."""
    CONFIG = pytest.importorskip("stamina._config").CONFIG
    hooks, seen = CONFIG._on_retry, []

    def flaky():
        seen.append(CONFIG._on_retry)
        if len(seen) < 3:
            raise ConnectionError("no route")

    async def main():
        async with rt.Session(logging_setting="NONE"):
            await rt.call(rt.function_node(flaky, retries=2))

    try:
        for given in (None, ()):
            seen.clear()
            stamina.instrumentation.set_on_retry_hooks(given)
            virtual.run(backend, main)
            assert seen == [given] * 3
    finally:
        stamina.instrumentation.set_on_retry_hooks(hooks)
