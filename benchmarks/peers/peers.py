"""The libraries that are compared, and the work that they do."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Peer:
    """A library, or a way to use it.

    Attributes:
        name: What the tables call it.
        script: The script in ``scripts/``, without ``.py``, which has a function for each job.
        requires: What pip installs into the environment; the first is the library itself, whose version is shown.
        module: The module whose import is timed.
        uses: What its script uses of the module and the module loads only then; it is timed as well.
        scale: How many of the usual items it gets, as a part of 1: slow libraries get fewer, or a run would take hours.
        environment: Variables that the script is started with.
        floor: Whether it is there as the floor, and records nothing.
    """

    name: str
    script: str
    requires: tuple[str, ...]
    module: str
    uses: tuple[str, ...] = ()
    scale: float = 1.0
    environment: Mapping[str, str] = attrs.field(factory=dict)
    floor: bool = False


@attrs.frozen
class Job:
    """A piece of work that is measured.

    Attributes:
        name: The name of the function in the scripts.
        title: What the tables call it.
        unit: "µs", "ms", "s" or "bytes".
        count: How many items a run of it has.
        least: How many items it has at least, for slow libraries.
    """

    name: str
    title: str
    unit: str
    count: int
    least: int = 1


OFFLINE = {
    "DO_NOT_TRACK": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}
"""Variables with which libraries ask nothing of servers elsewhere."""

PATIENT = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}

HERE = "railtracks"
"""In ``requires``, stands for this checkout."""

OURS = ("Flow", "Session", "call", "call_batch", "broadcast")

PEERS = (
    Peer("Railtracks, asyncio", "with_railtracks", (HERE,), "railtracks", OURS),
    Peer("Railtracks, trio", "with_railtracks", (HERE,), "railtracks", OURS, environment={"BACKEND": "trio"}),
    Peer("Apache Burr", "with_burr", ("apache-burr", "apache-burr[tracking]", "aiosqlite"), "burr.core"),
    Peer("pydantic-graph", "with_pydantic_graph", ("pydantic-graph",), "pydantic_graph"),
    Peer("LangGraph", "with_langgraph", ("langgraph", "langgraph-checkpoint-sqlite"), "langgraph.func"),
    Peer("LlamaIndex Workflows", "with_llama_workflows", ("llama-index-workflows",), "workflows", scale=0.2),
    Peer("Railtracks 1.7.0", "with_railtracks17", ("railtracks==1.7.0",), "railtracks", scale=0.5),
    Peer("DBOS, SQLite", "with_dbos", ("dbos",), "dbos", scale=0.1),
    Peer("Prefect", "with_prefect", ("prefect",), "prefect", scale=0.05, environment=PATIENT),
    Peer("asyncio", "with_asyncio", (), "asyncio", floor=True),
    Peer("anyio", "with_anyio", ("anyio",), "anyio", floor=True),
    Peer("trio", "with_trio", ("trio",), "trio", floor=True),
)

JOBS = (
    Job("sequential", "a call after another", "µs", 2000, 20),
    Job("fan_out", "one of many at once", "µs", 1000, 20),
    Job("nested", "a level of nesting", "µs", 1000, 50),
    Job("runs", "a run of two calls, not saved", "µs", 200, 10),
    Job("saved_runs", "a run of two calls, saved", "ms", 100, 10),
    Job("memory", "memory kept per call", "bytes", 1000, 50),
    Job("timeout", "timeout of 0.5 s, seen after", "s", 100, 100),
    Job("first_error", "error at 0.1 s, seen after", "s", 100, 100),
    Job("events", "an event to a subscriber", "µs", 1000, 50),
)
