"""GroupCommit: waiters share one write, and each returns only when what it appended is on disk."""

from __future__ import annotations

import contextlib
import random
import threading

import anyio
import pytest

from railtracks._concurrency import _group_commit
from railtracks._concurrency._group_commit import GroupCommit


class Disk:
    """A disk whose syncs can be held up. ``synced`` is the number of appended entries that are on it."""

    def __init__(self):
        self.appended = self.synced = self.syncs = 0
        self.threads = []
        self.is_syncing = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self._at_once = threading.Lock()

    @contextlib.contextmanager
    def held(self):
        self.may_go_on.clear()
        try:
            yield
        finally:
            self.may_go_on.set()

    def sync(self):
        assert self._at_once.acquire(blocking=False), "two syncs at once"
        appended = self.appended
        self.threads.append(threading.get_ident())
        self.is_syncing.set()
        self.may_go_on.wait()
        self.syncs += 1
        self.synced = appended
        self._at_once.release()


@pytest.fixture
def disk():
    return Disk()


@pytest.fixture
def commit():
    return GroupCommit()


async def append_and_wait(commit, disk, returned=None):
    disk.appended += 1
    own = disk.appended
    await commit.wait(disk.sync)
    assert disk.synced >= own
    if returned is not None:
        returned.append(own)


async def until(condition):
    """Let other tasks run until the condition is true. Not `wait_all_tasks_blocked`: a thread holds the clock."""
    while not condition():
        await anyio.lowlevel.checkpoint()


async def test_wait_syncs_in_a_worker_thread(commit, disk):
    await append_and_wait(commit, disk)
    assert disk.syncs == 1
    assert disk.threads != [threading.get_ident()]


@pytest.mark.parametrize("waiters", [1, 2, 50])
async def test_waiters_that_come_together_need_two_syncs_at_most(commit, disk, waiters):
    """The first may be written before the others have come."""
    async with anyio.create_task_group() as group:
        for _ in range(waiters):
            group.start_soon(append_and_wait, commit, disk)
    assert 1 <= disk.syncs <= min(waiters, 2)


@pytest.mark.parametrize("waiters", [1, 2, 50])
async def test_waiters_that_come_during_a_sync_share_the_next(commit, disk, waiters):
    returned = []
    async with anyio.create_task_group() as group:
        with disk.held():
            group.start_soon(append_and_wait, commit, disk, returned)
            await until(disk.is_syncing.is_set)
            for _ in range(waiters):
                group.start_soon(append_and_wait, commit, disk, returned)
            await until(lambda: disk.appended == waiters + 1)
            assert returned == []
    assert disk.syncs == 2
    assert returned[0] == 1
    assert sorted(returned) == list(range(1, waiters + 2))


async def test_waits_one_after_the_other_sync_each(commit, disk):
    for _ in range(3):
        await append_and_wait(commit, disk)
    assert disk.syncs == 3


@pytest.mark.parametrize("seed", range(5))
async def test_each_waiter_returns_when_its_entry_is_on_disk(commit, disk, seed):
    draw = random.Random(seed)

    async def waiter(turns):
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        for _ in range(3):
            await append_and_wait(commit, disk)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(waiter, draw.randrange(10))
    assert disk.synced == disk.appended == 60
    assert disk.syncs <= 60


async def test_cancelled_waiter_leaves_at_once_and_the_others_go_on(commit, disk):
    returned = []
    async with anyio.create_task_group() as group:
        with disk.held():
            group.start_soon(append_and_wait, commit, disk, returned)
            await until(disk.is_syncing.is_set)
            group.start_soon(append_and_wait, commit, disk, returned)  # the first of the next group
            await until(lambda: disk.appended == 2)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await append_and_wait(commit, disk, returned)
            assert scope.cancelled_caught
            assert returned == []
    assert returned == [1, 2]
    assert disk.syncs == 2


async def test_cancelled_first_waiter_syncs_for_its_group(commit, disk):
    returned, left = [], []

    async def first(scope):
        with scope:
            await append_and_wait(commit, disk, returned)
        left.append(disk.synced)

    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        with disk.held():
            group.start_soon(first, scope)
            await until(disk.is_syncing.is_set)
            scope.cancel()
            group.start_soon(append_and_wait, commit, disk, returned)
            await until(lambda: disk.appended == 2)
            assert left == []
    assert left[0] >= 1
    assert returned[-1] == 2


async def test_cancelled_first_waiter_of_the_next_group_syncs_too(commit, disk):
    returned = []

    async def cancelled():
        with anyio.CancelScope() as scope:
            scope.cancel()
            await append_and_wait(commit, disk)

    async with anyio.create_task_group() as group:
        with disk.held():
            group.start_soon(append_and_wait, commit, disk, returned)
            await until(disk.is_syncing.is_set)
            group.start_soon(cancelled)
            await until(lambda: disk.appended == 2)
            group.start_soon(append_and_wait, commit, disk, returned)
            await until(lambda: disk.appended == 3)
    assert returned == [1, 3]
    assert disk.synced == 3


async def test_sync_that_raises_does_not_block_those_that_wait(commit, disk):
    """A sync should not raise. If one does, its group is woken, and the next is written."""

    def fail():
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        await commit.wait(fail)
    await append_and_wait(commit, disk)
    assert disk.syncs == 1


async def test_without_a_thread_the_group_is_written_by_its_caller(disk, commit, monkeypatch):
    async def refuse(*_args, **_options):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_group_commit, "run_in_thread", refuse)
    await append_and_wait(commit, disk)
    assert disk.threads == [threading.get_ident()]
