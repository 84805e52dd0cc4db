"""``rt.recover``: runs that SIGTERM or Ctrl-C ended go on, and those that were to end do not."""

from __future__ import annotations

import signal
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import railtracks as rt
from railtracks.state import Reason, Status
from tests.durability.world import FOLDER
from tests.postgres import POSTGRES, store_of

pytestmark = pytest.mark.usefixtures("nothing_is_left")

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture(params=["file", "sqlite", POSTGRES])
def store(request):
    if request.param == "file":
        yield rt.state.FileStore()
        return
    store = rt.state.SQLiteStore("runs.db") if request.param == "sqlite" else store_of(Path.cwd())
    yield store
    store.close()


class Service:
    """A flow that gets a signal in the middle, once, and what it has done."""

    def __init__(self, number=signal.SIGTERM, **options):
        self.done = []
        self.number = number

        @rt.function_node
        async def charge(order: str) -> None:
            self.done.append(f"charge {order}")

        @rt.function_node
        async def ship(order: str) -> str:
            if (number := self.number) is not None:
                self.number = None
                signal.raise_signal(number)
                await anyio.sleep(30)
            self.done.append(f"ship {order}")
            return f"{order} shipped"

        @rt.function_node
        async def sell(order: str) -> str:
            await rt.call(charge, order)
            return await rt.call(ship, order)

        self.flow = rt.Flow("Shop", sell, run_identifier="run", logging_setting="NONE", **options)

    def stop(self, start=None):
        """Run the flow until the signal comes."""
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            (start or self.flow.invoke)("a")


@pytest.mark.parametrize("number", SIGNALS)
def test_run_that_a_signal_ended_goes_on(number, store, backend):
    service = Service(number, backend=backend, store=store)
    service.stop()
    [run] = rt.state.list_runs(store)
    assert (run.state, run.status, run.interrupted) == ("ended", Status.CANCELLED, True)
    assert rt.recover([service.flow]) == [("run", "Shop", "a shipped", None)]
    assert service.done == ["charge a", "ship a"]
    [run] = rt.state.list_runs(store)
    assert (run.status, run.interrupted) == (Status.COMPLETED, False)
    assert rt.recover([service.flow]) == []


def test_ctrl_c_in_an_event_loop_of_the_program_is_recognised(backend):
    service = Service(signal.SIGINT)
    service.stop(lambda order: anyio.run(service.flow.ainvoke, order, backend=backend))
    assert rt.state.load_run("run").interrupted
    assert [run.result for run in rt.recover([service.flow])] == ["a shipped"]


def test_run_that_is_stopped_again_and_again_goes_on_each_time(backend):
    service = Service(backend=backend)
    service.stop()
    for _ in range(3):
        service.number = signal.SIGTERM
        service.stop(lambda _: rt.recover([service.flow], max_attempts=1))
    assert [run.result for run in rt.recover([service.flow], max_attempts=1)] == ["a shipped"]
    assert service.done == ["charge a", "ship a"]


def test_state_file_keeps_that_a_signal_came(backend, tmp_path):
    service = Service(backend=backend)
    service.stop()
    info = rt.ExecutionInfo.load(FOLDER / "run.json")
    assert info.interrupted
    assert [(record.status, record.reason) for record in info.records if record.parent is None] == [
        (Status.CANCELLED, Reason.OUTSIDE)
    ]
    info.save(tmp_path / "copy.json")
    again = rt.ExecutionInfo.load(tmp_path / "copy.json")
    assert (again.interrupted, again) == (True, info)
    assert again.payload()["interrupted"] is True


def test_run_that_was_cancelled_after_the_signal_is_left(backend):
    service = Service(backend=backend)
    service.stop()
    rt.state.cancel_run("run")
    assert not rt.state.load_run("run").interrupted
    assert rt.recover([service.flow]) == []


def test_run_that_failed_at_the_signal_is_left(backend):
    @rt.function_node
    async def work():
        try:
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep(30)
        except BaseException:
            raise ValueError("not stopped in order") from None

    flow = rt.Flow("Work", work, run_identifier="run", backend=backend, logging_setting="NONE")
    with pytest.raises((ValueError, KeyboardInterrupt)):
        flow.invoke()
    assert rt.state.list_runs()[0].status is Status.FAILED
    assert rt.recover([flow]) == []


async def test_run_that_the_program_cancelled_is_left():
    @rt.function_node
    async def work():
        await anyio.sleep_forever()

    flow = rt.Flow("Work", work, run_identifier="run", logging_setting="NONE")
    with anyio.move_on_after(1):
        await flow.ainvoke()
    [run] = rt.state.list_runs()
    assert (run.status, run.interrupted) == (Status.CANCELLED, False)
    assert await rt.arecover([flow]) == []


async def test_runs_that_the_program_cancelled_go_on_if_they_are_to(store):
    stops = True

    @rt.function_node
    async def work(order):
        if order == "broken":
            raise ValueError(order)
        if stops:
            await anyio.sleep_forever()
        return order

    def flow(identifier, **options):
        return rt.Flow("Work", work, run_identifier=identifier, store=store, logging_setting="NONE", **options)

    for order in ("a", "b"):
        with anyio.move_on_after(1):
            await flow(order).ainvoke(order)
    with pytest.raises(ValueError, match="broken"):
        await flow("failed").ainvoke("broken")
    with pytest.raises(rt.exceptions.GlobalTimeOutError):
        await flow("late", timeout=0.01).ainvoke("late")
    with anyio.move_on_after(1):
        await flow("request").ainvoke("request")
    rt.state.cancel_run("request", store)
    stops = False
    lock = store.lock("b")  # another process has gone on with it
    assert [run[:3] for run in await rt.arecover([flow("a")], cancelled=True)] == [("a", "Work", "a")]
    await anyio.to_thread.run_sync(lock.release)  # on an event loop, a store may do it a little later
    assert [run[:3] for run in await rt.arecover([flow("a")], cancelled=True)] == [("b", "Work", "b")]
    left = {run.identifier for run in rt.state.list_runs(store, unfinished=True)}
    assert left == {"failed", "late", "request"}


async def test_whether_cancelled_runs_go_on_is_checked():
    with pytest.raises(rt.exceptions.ConfigError, match="cancelled must be True or False, not 1"):
        await rt.arecover([], cancelled=1)  # type: ignore[arg-type]


def test_run_that_had_timed_out_before_the_signal_is_left():
    @rt.function_node
    async def work():
        try:
            await anyio.sleep(30)
        finally:
            with anyio.CancelScope(shield=True):
                signal.raise_signal(signal.SIGTERM)

    flow = rt.Flow("Work", work, run_identifier="run", timeout=0.01, backend="asyncio", logging_setting="NONE")
    with pytest.raises(SystemExit):  # on trio the signal is raised in the node, in place of the timeout
        flow.invoke()
    info = rt.state.load_run("run")
    assert (info.records[0].reason, info.interrupted) == (Reason.TIMEOUT, False)
    assert rt.recover([flow]) == []
