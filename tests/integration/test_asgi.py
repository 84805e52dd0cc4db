"""Sessions in a web service under load, with real servers, sockets and time: a third of the clients leave.

``python -m pytest -m integration tests/integration/test_asgi.py`` makes 1,800 requests to each server;
``HYPOTHESIS_PROFILE=long`` makes it 10,000.
"""

from __future__ import annotations

import json
import signal
from functools import partial
from statistics import median

import anyio
import pytest

from tests.effort import FACTOR
from tests.integration.server import COMMANDS, GRACE, Server, load

pytestmark = pytest.mark.integration

REQUESTS = 1_800 if FACTOR == 1 else 10_000
WARM_UP = 300
ROUNDS = 9

BLOCKS = 5_000
"""How many objects may come and go: asyncio keeps cancelled timers for a while."""
SIZE = 4_000_000
"""The bytes by which the memory of the process may differ, which the allocator and new threads take."""

RIGHT = ["begun", *(f"child {i}" for i in range(5)), "last", "result 6"]
NOISE = ["Traceback", "never retrieved", "Task was destroyed", "never awaited", "Exception ignored", "Warning"]


@pytest.fixture(params=list(COMMANDS))
def server(request, tmp_path):
    with Server(request.param, tmp_path) as server:
        yield server


def growth(values: list[int]) -> float:
    """Return by how much the last third of the values is above the first, each by its median."""
    third = len(values) // 3
    return median(values[-third:]) - median(values[:third])


def settled(left):
    return {name: left[name] for name in ("tasks", "sessions", "locks", "files", "stored", "problems")}


async def until_idle(server, idle=None):
    """Return what is left once it is as expected, or when it does not become so: cancelled requests end later."""
    with anyio.move_on_after(60):
        while settled(left := await server.left()) != (idle or settled(left)):
            await anyio.sleep(0.05)
    return left


async def check_load(server):
    wrong = await load(server, 0, WARM_UP, RIGHT)
    await anyio.sleep(0.5)
    idle = settled(await server.left())
    assert (idle["sessions"], idle["locks"], idle["files"], idle["stored"], idle["problems"]) == (0, [], [], 0, {})
    points = []
    for i in range(1, ROUNDS + 1):
        wrong += await load(server, WARM_UP + (i - 1) * REQUESTS // ROUNDS, REQUESTS // ROUNDS, RIGHT)
        left = await until_idle(server, idle)
        assert settled(left) == idle
        points.append(left)
    assert wrong == []
    assert left["counts"]["completed"] > REQUESTS / 2
    assert left["counts"]["cancelled"] > REQUESTS / 5
    return points


def test_a_service_leaves_nothing_behind_under_load(server):
    points = anyio.run(check_load, server)
    assert growth([left["blocks"] for left in points]) < BLOCKS, points
    assert growth([left["rss"] for left in points]) < SIZE, points
    assert {len(left["threads"]) for left in points[3:]} <= set(range(60)), points[-1]["threads"]
    server.send_signal(signal.SIGTERM)
    assert server.wait(GRACE) in (0, -signal.SIGTERM)
    assert [noise for noise in NOISE if noise in server.errors.read_text()] == [], server.errors.read_text()


async def check_drain(server):
    """Send SIGTERM while requests run, and return their responses."""
    responses = []

    async def client(number, begun):
        responses.append(await server.get(f"/run?n={number}&pause=1", begun=begun))

    async with anyio.create_task_group() as group:
        for number in range(24):
            begun = anyio.Event()
            group.start_soon(client, number, begun)
            await begun.wait()
        server.send_signal(signal.SIGTERM)
    return responses


def test_sigterm_drains_the_requests_that_run(server, tmp_path):
    responses = anyio.run(partial(check_drain, server))
    assert [sorted(lines) for lines in responses] == 24 * [sorted(RIGHT)]
    assert server.wait(GRACE) in (0, -signal.SIGTERM)
    assert [noise for noise in NOISE if noise in server.errors.read_text()] == [], server.errors.read_text()
    left = json.loads((tmp_path / "left.json").read_text())
    assert (left["sessions"], left["locks"], left["files"], left["problems"]) == (0, [], [], {})
    assert left["counts"] == {"completed": 24}
