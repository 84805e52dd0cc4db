"""Fixtures of durability: nodes for runs that are resumed, disks that fail, and a check that nothing is left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import railtracks as rt
from railtracks._concurrency import _background
from railtracks.state._stores import _file_lock, _fsync_thread
from railtracks.state._stores._fsync_thread import fsync_thread
from tests import postgres

pytest.register_assert_rewrite(
    "tests.durability.world", "tests.durability.disk", "tests.durability.killing", "tests.durability.waiting"
)

from tests.durability.disk import Disk, open_files, triple  # noqa: E402 (their asserts are rewritten)
from tests.durability.world import FOLDER, World  # noqa: E402


@pytest.fixture
def world():
    """The nodes of this test and the list of those that ran."""
    return World()


@pytest.fixture
def nothing_is_left():
    """Check that no work, no open file and no lock is left behind. Threads stay, and wait for more work."""
    seen = Path("/proc/self/fd").exists()
    before = open_files() if seen else {}
    yield
    postgres.close_stores()
    # What else was open before may be closed by now: garbage of earlier tests.
    left = list(fsync_thread._scheduled), list(_background._pending), set(_file_lock._held)
    opened = dict(open_files().items() - before.items()) if seen else {}
    _file_lock.reset()  # what one test leaves behind must not disturb the next
    assert left == ([], [], set())
    assert opened == {}


@pytest.fixture
def disk(monkeypatch):
    """The disk, whose system calls can be made to fail."""
    return Disk(monkeypatch)


@pytest.fixture
def logged(caplog):
    """The messages that the session logged, by their level."""

    def messages(level):
        return [r.getMessage() for r in caplog.records if r.name == "RT.Session" and r.levelname == level]

    return messages


@pytest.fixture
def hurry(monkeypatch):
    """Group commits that come at once, for tests that wait for one."""
    monkeypatch.setattr(_fsync_thread, "INTERVAL", 0.0)


@pytest.fixture
def died(empty_world):
    """The journal of a process that died after one call."""
    with rt.Session(run_identifier="run"):
        rt.call_sync(triple, 1)
        shutil.copy(FOLDER / "run.journal", "copy")
    (FOLDER / "run.json").unlink()
    Path("copy").rename(FOLDER / "run.journal")
