"""Whole flows at all places: the seed's, and the audit demo of the documentation."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import re
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError, ContextError
from railtracks.state import ExecutionInfo, Status
from railtracks.testing import ScriptedModel
from tests.places.helpers import at, shape_of

DOCUMENTED = Path(__file__).parents[2] / "docs" / "scripts"


def make_loky():
    return pytest.importorskip("loky").ProcessPoolExecutor(2)


def make_pebble():
    return pytest.importorskip("pebble").ProcessPool(2, context=multiprocessing.get_context("spawn"))


def make_dask():
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    return distributed.Client(cluster).get_executor()


EXECUTORS = {
    "pool": lambda: ThreadPoolExecutor(2),
    "processes": lambda: ProcessPoolExecutor(2, multiprocessing.get_context("spawn")),
    "loky": make_loky,
    "pebble": make_pebble,
    "dask": make_dask,
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("processes", "loky", "pebble", "dask")]
EVERYWHERE = ["task", "thread", "pool", "process", *SLOW]


@pytest.fixture
def executors(request, monkeypatch):
    """Executors that outlive the sessions, as those of an application do."""
    monkeypatch.syspath_prepend(str(DOCUMENTED))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(DOCUMENTED), os.environ.get("PYTHONPATH", "")]))
    name = request.node.callspec.params["where"]
    if name not in EXECUTORS:
        yield {}
        return
    executor = EXECUTORS[name]()
    yield {name: executor}
    if name == "dask":
        client = executor._client
        cluster = client.cluster
        client.close()
        cluster.close()
    elif name == "pebble":
        executor.close()
        executor.join()
    else:
        executor.shutdown()


def saved(session):
    """What is in the state file: values of the other session are objects yet."""
    return ExecutionInfo.load(f".railtracks/{session.identifier}.json")


def drawn(info):
    """Return the tree of a session as people see it, without times and places."""
    text = re.sub(r" session \w+", " session", str(info))
    time = r"  (?:\d+ (?:h|min) )*[\d.]+ (?:ns|µs|ms|s|min|h)\b"
    place = r" in (?:thread|process \d+|\w+, process \d+)(?: on [\w.-]+)?"
    wait = rf"(?:  after it waited{time.removeprefix(' ')})?"  # for a free worker, where there are workers
    text = re.sub(rf"(?: \((?:in|on) [\w ]+\))?{time}(?:{place})?(?: \(own[^)]*\))?{wait}", "", text)
    return [line.rstrip() for line in text.splitlines()]


def run_seed(where, backend, executors):
    flow = importlib.import_module("tests.places.seed_flow")
    made = rt.Flow(
        "My Workflow",
        entry_point=at(flow.my_workflow, where),
        timeout=60,
        context={"api_key": "secret", "user": "Ada"},
        backend=backend,
        executors=executors,
    )
    connection = made.connect()
    return connection.invoke("Hello!"), connection.session


@pytest.mark.parametrize("where", EVERYWHERE)
def test_the_flow_of_the_seed_is_the_same_everywhere(where, backend, executors):
    result, session = run_seed(where, backend, executors)
    plain, other = run_seed(None, backend, {})
    assert result == plain == "Hello! Take a coat."
    assert shape_of(saved(session)) == shape_of(saved(other))
    assert drawn(session.info) == drawn(other.info)
    assert "You advise Ada" not in str(session.info.records[0].result)


@pytest.mark.parametrize("where", ["thread", "pool", "process"])
def test_texts_of_agents_in_workers_come_in_one_piece(where, backend, executors):
    flow = importlib.import_module("tests.places.seed_flow")

    async def main():
        async with rt.Session({"user": "Ada"}, executors=executors):
            stream = rt.astream(at(flow.my_workflow, where), "Hello!")
            chunks = [chunk async for chunk in stream]
            return [(each.agent, each.text, each.response) for each in chunks if each.kind in ("text", "final")]

    text = "Hello! Take a coat."
    assert anyio.run(main, backend=backend) == [("MyAgent", text, None), ("my_workflow", "", text)]


def test_agents_in_worker_processes_have_the_models_of_home(backend):
    nodes = importlib.import_module("tests.places.nodes")
    model = ScriptedModel(lambda messages: f"{len(messages)} messages")
    again = rt.Retry(attempts=2, wait_initial=0, wait_jitter=0)

    async def main():
        async with rt.Session(default_llm=model):
            return [
                await rt.call(nodes.ask_open_agent.options(where="process"), "Hello"),
                str(await rt.call(nodes.OpenAgent.options(where="process", llm=ScriptedModel(["other"])), "Hello")),
                str(await rt.call(nodes.TwoModels.options(where="process", retries=again), "Hello")),
            ]

    assert anyio.run(main, backend=backend) == ["2 messages", "other", "Large."]


class Unsent(ScriptedModel):
    def __reduce__(self):
        raise TypeError("it has a connection")


def test_a_model_that_cannot_be_sent_is_missed_only_by_agents(backend):
    nodes = importlib.import_module("tests.places.nodes")

    async def main():
        async with rt.Session(default_llm=Unsent(["never"])):
            assert await rt.call(nodes.double.options(where="process"), 2) == 4
            with pytest.raises(ConfigError, match="default_llm of its session is not there: TypeError: it has a con"):
                await rt.call(nodes.ask_open_agent.options(where="process"), "Hello")

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("where", ["thread", "pool", "process"])
def test_dependencies_are_filled_in_where_the_node_runs(where, backend, executors):
    nodes = importlib.import_module("tests.places.nodes")

    async def main():
        async with rt.Session({"value": {1}}, executors=executors):
            return await rt.call(at(nodes.use, where), 5)

    assert anyio.run(main, backend=backend) == (5, "set", True)


def test_a_dependency_that_cannot_be_sent_is_named(backend):
    nodes = importlib.import_module("tests.places.nodes")

    async def main():
        async with rt.Session({"value": threading.Lock()}):
            with pytest.raises(ContextError, match="the value of 'value' in the context is not in this worker"):
                await rt.call(nodes.use.options(where="process"), 5)

    anyio.run(main, backend=backend)


def run_audit(where, backend, executors, folder):
    audit = importlib.import_module("audit")
    heard = []
    flow = rt.Flow(
        "Audit",
        entry_point=audit.audit,
        context={"folder": str(folder), "max_lines": 3, "limit": 4, "top": 2},
        broadcast_callback=heard.append,
        timeout=120,
        backend=backend,
        where=where,
        executors=executors,
    )
    connection = flow.connect()
    return connection.invoke(), connection.session, heard


@pytest.mark.parametrize("where", EVERYWHERE)
def test_the_audit_runs_unchanged_everywhere(where, backend, executors, tmp_path):
    for number in range(6):
        (tmp_path / f"module_{number}.py").write_text("def f():\n    x = 1\n    y = 2\n    return x + y\n" * number)
    (tmp_path / "broken.py").write_text("def f(:")
    result, session, heard = run_audit(where, backend, executors, tmp_path)
    plain, other, expected = run_audit("task", backend, {}, tmp_path)
    assert result == plain
    assert (result.files, len(result.unreadable), result.functions) == (7, 1, 15)
    assert heard[0] == 7
    assert sorted(map(str, heard)) == sorted(map(str, expected))
    assert shape_of(saved(session)) == shape_of(saved(other))
    assert drawn(session.info) == drawn(other.info)
    assert [each.status for each in session.info.records].count(Status.FAILED) == 1


def test_a_run_on_one_place_goes_on_at_another(backend, tmp_path):
    nodes = importlib.import_module("tests.places.nodes")
    ran, fails = tmp_path / "ran", tmp_path / "fails"
    fails.touch()

    async def main():
        for where in ("process", "thread", "pool"):
            with pytest.raises(RuntimeError, match="not yet"):
                async with rt.Session(run_identifier="moves", if_exists="resume", executors=EXECUTORS):
                    await rt.call(at(nodes.steps, where), str(ran), str(fails))
        fails.unlink()
        async with rt.Session(run_identifier="moves", if_exists="resume", executors=EXECUTORS) as session:
            assert await rt.call(nodes.steps, str(ran), str(fails)) == ["first", "second", "first"]
        assert ran.read_text().split() == ["first", "second"]
        assert session.info.records[0].attempt == 4

    anyio.run(main, backend=backend)
