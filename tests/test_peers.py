"""The comparison with other libraries: the tables show what was measured, and our own scripts run."""

from __future__ import annotations

import sys

import pytest

from benchmarks.peers import report
from benchmarks.peers.environments import Environment
from benchmarks.peers.measure import repeated_steps, run_script
from benchmarks.peers.peers import JOBS, PEERS

HERE = Environment(python=sys.executable, version="", packages=0, megabytes=0, import_seconds=0)
MEASURABLE = [peer for peer in PEERS if peer.script in {"with_asyncio", "with_anyio", "with_trio", "with_railtracks"}]

pytestmark = pytest.mark.either_backend


def test_the_tables_show_what_was_measured():
    for path, blocks in report.blocks_of(report.load()).items():
        text = path.read_text()
        for name, block in blocks.items():
            assert report.put(text, name, block) == text


def test_every_peer_was_measured():
    assert set(report.load()["peers"]) == {peer.name for peer in PEERS}


@pytest.mark.slow
@pytest.mark.parametrize("peer", MEASURABLE, ids=lambda peer: peer.name)
def test_a_script_runs_its_jobs(peer):
    names = run_script(peer, HERE)
    for job in JOBS:
        if job.name in names:
            assert run_script(peer, HERE, job.name, str(max(job.least, 60)))["value"] > 0
    if "durable" in names:
        assert repeated_steps(peer, HERE) == [5]
