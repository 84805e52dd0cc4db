"""With ``durability="sync"`` the end of each call is on disk before anything outside can see its result."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import railtracks as rt
from railtracks.state._journal._reader import read_journal
from railtracks.testing import tool_call
from tests.agents.helpers import agent_of, tool_messages
from tests.state.stores import PERSISTENT


class Watched:
    """A store that notes which calls have ended on disk, and how often that was synced."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.syncs = 0
        self.on_disk: list[str] = []
        self._changed = threading.Condition()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def open(self, *args: Any) -> WatchedAppender:
        return WatchedAppender(self, self._store.open(*args))

    def note(self, ended: list[str]) -> None:
        with self._changed:
            self.syncs += 1
            self.on_disk = ended
            self._changed.notify_all()

    async def reached(self, *names: str) -> None:
        """Wait until calls with these names have ended on disk."""

        def wait() -> None:
            with self._changed:
                assert self._changed.wait_for(lambda: set(names) <= set(self.on_disk), timeout=20)

        await anyio.to_thread.run_sync(wait)


class WatchedAppender:
    def __init__(self, store: Watched, appender: Any) -> None:
        self._store, self._appender = store, appender
        self._nodes: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self._ended: list[str] = []

    def append(self, content: bytes) -> None:
        self._appender.append(content)
        entry = json.loads(content[8:])
        if entry["e"] == "created":
            node = self._nodes[entry["call"]] = self._nodes[entry["like"]] if "like" in entry else entry["name"]
            self._names[entry["call"]] = f"{node} {json.dumps(entry['input_args'])}"
        if entry["e"] == "ended":
            self._ended.append(self._names[entry["call"]])

    def sync(self) -> None:
        ended = list(self._ended)
        self._appender.sync()
        self._store.note(ended)

    def close(self) -> None:
        self._appender.close()


@pytest.fixture(params=PERSISTENT)
def store(request: Any, tmp_path: Any) -> Watched:
    return Watched(PERSISTENT[request.param](tmp_path))


def session(store: Watched) -> rt.Session:
    return rt.Session(run_identifier="run", durability="sync", store=store, logging_setting="NONE")


@pytest.mark.parametrize("limit", [1, 2, 7])
@pytest.mark.parametrize("waits", [False, True])
async def test_a_call_begins_after_the_commit_of_one_it_waited_for(store, limit, waits):
    """In a batch with a limit, all calls but the first ones begin because another has ended."""
    seen: list[int] = []

    async def step(i: int) -> int:
        seen.append(len(store.on_disk))
        if waits:
            await checkpoint()
        if i % 5 == 3:
            raise ValueError(i)
        return i

    async with session(store):
        await rt.call_batch(step, range(40), limit=limit)
    assert [at for at, count in enumerate(seen) if count < at + 1 - limit] == []


async def test_a_batch_commits_each_call_while_others_still_run(store):
    async def step(i: int) -> int:
        if i == 2:
            await store.reached("step [0]", "step [1]", "step [3]")
        if i == 1:
            raise ValueError(i)
        return i

    async with session(store):
        results = await rt.call_batch(step, range(4))
    assert [results[0], *results[2:]] == [0, 2, 3]


async def test_a_batch_within_a_call_commits_each_call_too(store):
    async def step(i: int) -> int:
        if i == 2:
            await store.reached("step [0]", "step [1]")
        return i

    async def parent() -> list[int]:
        return await rt.call_batch(step, range(3), return_exceptions=False)

    async with session(store):
        assert await rt.call(parent) == [0, 1, 2]


async def test_a_batch_is_on_disk_before_its_caller_goes_on(store):
    async def step(i: int) -> int:
        return i

    async with session(store):
        await rt.call_batch(step, range(20))
        assert {f"step [{i}]" for i in range(20)} <= set(store.on_disk)


async def test_a_failure_that_ends_a_batch_is_on_disk_first(store):
    async def step(i: int) -> int:
        if i == 3:
            raise ValueError(i)
        await anyio.sleep(math.inf)
        return i

    async with session(store):
        with pytest.raises(ValueError, match="3"):
            await rt.call_batch(step, range(5), return_exceptions=False)
        assert "step [3]" in store.on_disk


async def test_a_batch_without_a_limit_shares_its_syncs(store):
    async def step(i: int) -> int:
        return i

    async with session(store):
        await rt.call_batch(step, range(1_000))
    assert store.syncs <= 50


async def test_a_batch_with_a_limit_shares_a_sync_among_its_workers(store):
    async def step(i: int) -> int:
        return i

    async with session(store):
        await rt.call_batch(step, range(1_000), limit=100)
    assert store.syncs <= 100


async def test_tool_calls_of_an_agent_are_committed_one_by_one(store):
    @rt.function_node
    async def quick() -> str:
        """Answer at once."""
        return "quick"

    @rt.function_node
    async def slow() -> str:
        """Answer when the other answer is on disk."""
        await store.reached("quick []")
        return "slow"

    agent, model = agent_of([tool_call("quick"), tool_call("slow")], "done", tool_nodes=[quick, slow])
    async with session(store):
        assert (await rt.call(agent, "go")).text == "done"
    assert [message.content for message in tool_messages(model)] == ["quick", "slow"]


@pytest.mark.parametrize("limit", [None, 2])
async def test_what_was_on_disk_when_a_batch_died_is_found(store, limit):
    """A copy of the store as it was in the middle has every call that others could have seen the result of."""
    found: list[set[int]] = []

    async def step(i: int) -> int:
        if i == 30:
            await store.reached(*(f"step [{before}]" for before in range(29 if limit else 30)))
            content = store.read("run").journal
            assert content is not None
            found.append({r.args[0] for r in read_journal(content).records if r.result is not None})
        return i

    async with session(store):
        await rt.call_batch(step, range(32), limit=limit)
    assert set(range(29)) <= found[0]
