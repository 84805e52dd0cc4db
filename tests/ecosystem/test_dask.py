"""Nodes on a real Dask cluster of two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import WorkerLostError
from railtracks.state import Status
from tests.ecosystem import dask_nodes as nodes
from tests.places.helpers import place_attributes
from tests.programs import ROOT

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("default")]
pytest.importorskip("distributed")

import dask  # noqa: E402 (where it is installed)
import distributed  # noqa: E402


def make_cluster(**options):
    """A cluster that would run a task four times whose worker dies, as Dask does by default."""
    with dask.config.set({"distributed.nanny.environ": {"PYTHONPATH": str(ROOT)}}):
        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", **options}
        return distributed.LocalCluster(**options)


@pytest.fixture(scope="module")
def cluster():
    with make_cluster() as cluster:
        assert cluster.scheduler.allowed_failures == 3
        yield cluster


def at_cluster(cluster, **options):
    return rt.Session(executors={"cluster": rt.executors.Dask(cluster)}, logging_setting="NONE", **options)


def test_a_node_runs_on_a_cluster(backend, cluster):
    async def main(given):
        async with at_cluster(given, context={"offset": 1}) as session:
            assert await rt.call(nodes.calls_below.options(where="cluster"), 3) == 7
            with pytest.raises(ValueError, match="no 3"):
                await rt.call(nodes.refuse.options(where="cluster"), 3)
            assert rt.context.get("seen") == 3
        assert [each.name for each in session.info.records] == ["calls_below", "double", "refuse"]
        assert place_attributes(session.info.records[0])["process"] != os.getpid()

    with distributed.Client(cluster, set_as_default=False) as client:
        for given in (cluster, client, cluster.scheduler_address):
            anyio.run(main, given, backend=backend)
        assert client.status == "running"
    assert cluster.status.name == "running"


def test_a_cluster_of_its_own_ends_with_the_session(backend, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    async def main():
        dask_here = rt.executors.Dask(workers=1)
        async with rt.Session(executors={"cluster": dask_here}, logging_setting="NONE") as session:
            await rt.call(nodes.double.options(where="cluster"), 2)
        return place_attributes(session.info.records[0])["process"]

    process = anyio.run(main, backend=backend)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_node_that_ends_its_worker_runs_once(backend, cluster, tmp_path):
    async def main():
        async with at_cluster(cluster):
            with pytest.raises(WorkerLostError, match="end_worker: its worker of the executor 'cluster' died"):
                await rt.call(nodes.end_worker.options(where="cluster"), str(tmp_path / "ran"))
            assert (tmp_path / "ran").read_text() == "x"
            with pytest.raises(WorkerLostError):
                await rt.call(nodes.end_worker.options(where="cluster", retries=1), str(tmp_path / "ran"))
            assert (tmp_path / "ran").read_text() == "xxx"
            assert await rt.call(nodes.double.options(where="cluster"), 2) == 4

    anyio.run(main, backend=backend)


def test_a_node_on_a_worker_that_retires_runs_once(backend, tmp_path):
    async def main():
        with make_cluster(n_workers=1) as cluster, distributed.Client(cluster, set_as_default=False) as client:
            async with at_cluster(client), anyio.create_task_group() as group:
                group.start_soon(lose)
                await wait_for_file(tmp_path / "begun")
                [worker] = client.scheduler_info()["workers"]
                await anyio.to_thread.run_sync(client.retire_workers, [worker])
        assert (tmp_path / "ran").read_text() == "x"

    async def lose():
        with pytest.raises(WorkerLostError, match="died, or left the cluster"):
            await rt.call(nodes.wait_in_worker.options(where="cluster"), str(tmp_path))

    anyio.run(main, backend=backend)


async def wait_for_file(path):
    """Real time: another process writes it."""
    while not path.exists():
        await anyio.sleep(0.01)


def test_large_arguments_travel_as_data(backend, cluster):
    async def main():
        async with at_cluster(cluster):
            return await rt.call(nodes.length.options(where="cluster"), b"x" * 20_000_000)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # of a large graph
        assert anyio.run(main, backend=backend) == 20_000_000


def test_equal_calls_run_each_on_a_cluster(backend, cluster, tmp_path):
    async def main():
        async with at_cluster(cluster):
            await rt.call_batch(nodes.mark.options(where="cluster"), [str(tmp_path / "ran")] * 5)

    anyio.run(main, backend=backend)
    assert (tmp_path / "ran").read_text().split() == [str(tmp_path / "ran")] * 5


def test_calls_on_a_cluster_that_wait_never_begin(backend, tmp_path):
    async def main(cluster):
        async with at_cluster(cluster) as session, anyio.create_task_group() as group:
            group.start_soon(rt.call, nodes.wait_for_all, str(tmp_path))
            await wait_for_file(tmp_path / "ran")
            group.cancel_scope.cancel()
        return session.info.records

    with make_cluster(n_workers=1) as cluster:
        records = anyio.run(main, cluster, backend=backend)
        (tmp_path / "release").touch()
        settle(cluster)
    assert [each.status for each in records] == [Status.CANCELLED] * len(records)
    assert 1 <= (tmp_path / "ran").read_text().count("x") <= 2  # the one that ran, and the one to run next
    assert len(records) == 21
    assert any(each.abandoned for each in records)


NODES = 5_000
"""Of the large flows."""
AT_ONCE = 100
"""How many of them are sent at once; ``count_all`` says so."""


def ended(path):
    """Return how often each node came to its end."""
    return Counter(map(int, path.read_text().split()))


def test_a_large_flow_survives_the_death_of_a_worker(backend, cluster, tmp_path):
    path = tmp_path / "ended"

    async def main():
        async with at_cluster(cluster, timeout=200) as session, anyio.create_task_group() as group:
            group.start_soon(kill_one)
            results = await rt.call(nodes.count_all, NODES, str(path))
        assert results == list(range(1, NODES + 1))
        return session.info

    async def kill_one():
        await wait_for_lines(path, NODES // 3)
        with distributed.Client(cluster, set_as_default=False) as client:
            killed = next(iter(client.run(os.getpid).values()))
        os.kill(killed, signal.SIGKILL)

    info = anyio.run(main, backend=backend)
    lost = [each for each in info.records if each.status is Status.FAILED]
    assert 1 <= len(lost) <= 20  # what the worker ran, was to run next, and had just answered
    assert {type(each.exception) for each in lost} == {WorkerLostError}
    assert len(info.records) == 1 + NODES + len(lost)
    assert set(ended(path)) == set(range(NODES))
    assert {number for number, times in ended(path).items() if times > 1} <= {each.args[0] for each in lost}


async def wait_for_lines(path, lines):
    """Real time: other processes write them."""
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        await anyio.sleep(0.02)


DRIVER = """
import sys

import anyio

import railtracks as rt
from tests.ecosystem import dask_nodes as nodes


async def main(address, numbers, path):
    executors = {"cluster": rt.executors.Dask(address)}
    async with rt.Session(run_identifier="large", if_exists="resume", executors=executors, durability="sync"):
        print(sum(await rt.call(nodes.count_all, int(numbers), path)))


anyio.run(main, *sys.argv[1:4], backend=sys.argv[4])
"""


def driver(cluster, path, backend):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAILTRACKS_LOGGING_SETTING": "NONE"}
    arguments = [cluster.scheduler_address, str(NODES), str(path), backend]
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments], env=environment, cwd=path.parent, stdout=subprocess.PIPE, text=True
    )


def test_a_killed_driver_goes_on_with_another_cluster(backend, cluster, tmp_path):
    path = tmp_path / "ended"
    with driver(cluster, path, backend) as first:
        anyio.run(wait_for_lines, path, NODES // 3, backend=backend)
        first.kill()
    settle(cluster)
    before = rt.state.load_run("large", store=f"file:{tmp_path}/.railtracks")
    done = {each.args[0] for each in before.records if each.name == "count" and each.status is Status.COMPLETED}
    assert NODES // 4 <= len(done) <= len(ended(path)) < NODES
    with make_cluster() as other, driver(other, path, backend) as second:
        assert second.communicate()[0].split() == [str(sum(range(1, NODES + 1)))]
    assert set(ended(path)) == set(range(NODES))
    again = {number for number, times in ended(path).items() if times > 1}
    assert not again & done
    assert len(again) <= AT_ONCE  # those whose answers were not on disk


def settle(cluster):
    """Wait until the cluster has noticed that its client has gone, and has ended what ran."""
    with distributed.Client(cluster, set_as_default=False) as client:
        while any(client.processing().values()):
            time.sleep(0.02)
