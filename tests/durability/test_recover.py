"""``rt.recover``: runs that dead processes have left behind go on."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from tests.durability.world import FOLDER, keep_journal

pytestmark = pytest.mark.usefixtures("nothing_is_left")


class Shop:
    """A flow whose process can die in the middle, and the orders that it has charged and shipped."""

    def __init__(self, name="Shop", **options):
        self.done = []
        self.dying = False
        self.broken = set()
        self.running = self.most = 0

        @rt.function_node
        async def charge(order: str) -> None:
            self.done.append(f"charge {order}")

        @rt.function_node
        async def ship(order: str) -> str:
            if self.dying:
                keep_journal(f"dead-{order}")
            if order in self.broken:
                raise ValueError(order)
            self.running += 1
            self.most = max(self.most, self.running)
            await anyio.sleep(1)
            self.running -= 1
            self.done.append(f"ship {order}")
            return f"{order} shipped"

        @rt.function_node
        async def sell(order: str) -> str:
            await rt.call(charge, order)
            return await rt.call(ship, order)

        self.flow = rt.Flow(name, sell, logging_setting="NONE", **options)

    async def die(self, *orders):
        """Leave the runs of these orders behind, as if their processes had died before they shipped."""
        self.dying = True
        for order in orders:
            await self.flow.ainvoke(order)
            for path in FOLDER.glob("*.json"):
                path.unlink()
        self.dying = False
        self.done.clear()


async def test_runs_of_dead_processes_go_on():
    shop = Shop()
    await shop.die("a", "b")
    recovered = await rt.arecover(flows=[shop.flow])
    assert recovered == [
        ("dead-a", "Shop", "a shipped", None),
        ("dead-b", "Shop", "b shipped", None),
    ]
    assert shop.done == ["ship a", "ship b"]
    assert [run.state for run in rt.state.list_runs()] == ["ended", "ended"]
    assert await rt.arecover(flows=[shop.flow]) == []


def test_in_synchronous_code(backend):
    shop = Shop(backend=backend)
    anyio.run(shop.die, "a", backend=backend)
    rt.set_config(backend=backend)
    assert [run.result for run in rt.recover([shop.flow])] == ["a shipped"]


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 2), (10, 3)])
async def test_limit_says_how_many_go_on_at_once(limit, most):
    shop = Shop()
    await shop.die("a", "b", "c")
    shop.most = 0
    assert len(await rt.arecover([shop.flow], limit=limit)) == 3
    assert shop.most == most


async def test_run_that_fails_is_reported_and_the_others_go_on(caplog):
    shop = Shop()
    await shop.die("a", "b")
    shop.broken.add("a")
    first, second = await rt.arecover([shop.flow])
    assert (first.identifier, first.result, repr(first.exception)) == ("dead-a", None, "ValueError('a')")
    assert (second.identifier, second.result) == ("dead-b", "b shipped")
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == [
        "rt.recover: the run dead-a of Shop raised ValueError('a')"
    ]


async def test_runs_that_ended_and_runs_of_other_flows_are_left():
    shop, other = Shop(), Shop("Other")
    await other.die("x")
    shop.broken.add("a")
    with pytest.raises(ValueError, match="a"):
        await shop.flow.ainvoke("a")
    shop.broken.clear()
    shop.done.clear()
    assert await rt.arecover([shop.flow]) == []
    assert (shop.done, other.done) == ([], [])


async def test_run_that_a_live_process_holds_is_left_to_it():
    shop = Shop()
    await shop.die("a")
    held = rt.state.FileStore().lock("dead-a")
    try:
        assert await rt.arecover([shop.flow]) == []
    finally:
        held.release()
    assert [run.result for run in await rt.arecover([shop.flow])] == ["a shipped"]


async def test_each_flow_has_its_own_store(tmp_path):
    shop = Shop(store=f"file:{tmp_path / 'elsewhere'}")
    here = Shop()
    await here.die("a")
    assert await rt.arecover([shop.flow]) == []
    FOLDER.rename(tmp_path / "elsewhere")
    assert [run.result for run in await rt.arecover([shop.flow])] == ["a shipped"]


@pytest.mark.parametrize(
    ("flows", "limit", "message"),
    [([len], 1, "expected flows"), (len, 1, "expected flows"), *(([], limit, "limit") for limit in (0, True, 1.5))],
)
async def test_arguments_are_checked(flows, limit, message):
    with pytest.raises(rt.exceptions.ConfigError, match=rf"rt\.recover: {message}"):
        await rt.arecover(flows, limit=limit)


async def test_two_flows_of_one_name_are_refused():
    with pytest.raises(rt.exceptions.ConfigError, match="two flows with the name 'Shop'"):
        await rt.arecover([Shop().flow, Shop().flow])


async def test_recover_refuses_to_block_an_event_loop():
    with pytest.raises(rt.exceptions.SessionError, match=r"await rt\.arecover"):
        rt.recover([])
