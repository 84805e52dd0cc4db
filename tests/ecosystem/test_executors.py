"""Work on a real Dask cluster of two processes."""

import os

import anyio
import pytest

from railtracks.exceptions import ConfigError, WorkerLostError
from railtracks.executors._executor_runner import runner_of
from railtracks.executors._outcome import unpack_outcome
from railtracks.executors._worker import pack_work
from tests.executors import nodes
from tests.programs import ROOT

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def client():
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    options = {"distributed.scheduler.allowed-failures": 0, "distributed.nanny.environ": {"PYTHONPATH": str(ROOT)}}
    with (
        dask.config.set(options),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def on(backend, client, body):
    """Run ``body`` in real time: the cluster has connections of its own."""

    async def main():
        runner = runner_of(client.get_executor(), "dask")
        try:
            return await body(runner)
        finally:
            await runner.close()

    return anyio.run(main, backend=backend)


async def result_of(runner, func, *args, **options):
    return unpack_outcome(await runner.run(pack_work(func, args, name="the_node"), node="the_node", **options)).unwrap()


def test_work_runs_on_a_cluster(backend, client):
    async def body(runner):
        assert await result_of(runner, nodes.add, 1, 2) == 3
        assert await result_of(runner, nodes.async_add, 1, 2) == 3
        assert await result_of(runner, os.getpid) != os.getpid()
        with pytest.raises(nodes.Picky, match="bad 7"):
            await result_of(runner, nodes.fail_picky, 7)

    on(backend, client, body)


def test_a_client_alone_is_refused(client):
    with pytest.raises(
        ConfigError, match=r"executors\['dask'\] is a client of Dask; pass rt\.executors\.Dask\(client\)"
    ):
        runner_of(client, "dask")


def test_equal_calls_run_each(backend, client, tmp_path):
    def count():
        with open(tmp_path / "calls", "a") as file:
            file.write("x")

    async def body(runner):
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(result_of, runner, count)

    on(backend, client, body)
    assert (tmp_path / "calls").read_text() == "xxxxx"


def test_a_worker_of_a_cluster_that_dies_is_an_error(backend, client):
    async def body(runner):
        with pytest.raises(WorkerLostError, match="the_node: a worker of the executor 'dask' was lost: KilledWorker"):
            await result_of(runner, nodes.exit_at_once)
        assert await result_of(runner, nodes.add, 1, 2) == 3

    on(backend, client, body)


def test_work_on_a_cluster_is_abandoned_on_cancellation(backend, client, tmp_path):
    abandoned = []

    def wait():
        (tmp_path / "begun").touch()
        while not (tmp_path / "release").exists():
            pass

    async def on_abandon():
        abandoned.append(True)
        (tmp_path / "release").touch()
        return False

    async def body(runner):
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: result_of(runner, wait, on_abandon=on_abandon))
            while not (tmp_path / "begun").exists():
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()

    on(backend, client, body)
    assert abandoned == [True]
