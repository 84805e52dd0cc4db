"""``rt.recover``: runs that dead processes have left behind go on."""

from __future__ import annotations

import anyio
import pytest

import railtracks as rt
from railtracks import _recover
from railtracks.exceptions import RunSuspended
from tests.durability.world import FOLDER, keep_journal

pytestmark = pytest.mark.usefixtures("nothing_is_left")


async def test_runs_with_damaged_beginnings_are_named_once(caplog):
    shops = [Shop("Shop"), Shop("Other")]
    await shops[0].die("1", "2")
    path = FOLDER / "dead-1.journal"
    path.write_bytes(path.read_bytes().replace(b'"Shop"', b'"shop"'))
    caplog.clear()
    found = await rt.arecover([shop.flow for shop in shops])
    assert [run.identifier for run in found] == ["dead-2"]
    [text] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert text == (
        "1 run is damaged at the beginning, so it is not known of which flow it is, and rt.recover leaves it: the "
        f"journal beside {path.with_suffix('.json').absolute()}; rt.state.load_run('dead-1') says what is left"
    )


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


@pytest.mark.either_backend
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
    assert not any(r.exc_info for r in caplog.records if "rt.recover" in r.getMessage())  # it is in the exception


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


async def test_run_is_returned_by_the_process_that_went_on_with_it():
    shop = Shop()
    await shop.die("a", "b", "c")
    found = []

    async def recover():
        found.append([run.identifier for run in await rt.arecover([shop.flow])])

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(recover)
    assert sorted(identifier for each in found for identifier in each) == ["dead-a", "dead-b", "dead-c"]
    assert len([each for each in found if each]) > 1
    assert sorted(shop.done) == ["ship a", "ship b", "ship c"]


async def test_suspended_run_is_returned_by_one_process_alone(monkeypatch):
    @rt.function_node
    async def main():
        return await rt.receive("paid"), await rt.receive("sent")

    flow = rt.Flow("Shop", main, run_identifier="run", logging_setting="NONE")
    with pytest.raises(RunSuspended):
        await flow.ainvoke()
    rt.state.send("run", "paid", 1)

    def list_slowly(*args, **kwargs):
        runs = rt.state.list_runs(*args, **kwargs)
        monkeypatch.setattr(_recover, "list_runs", rt.state.list_runs)
        [other] = anyio.from_thread.run(rt.arecover, [flow])  # as another process would, between listing and resuming
        assert isinstance(other.exception, RunSuspended)
        return runs

    monkeypatch.setattr(_recover, "list_runs", list_slowly)
    assert await rt.arecover([flow]) == []


async def test_run_in_use_that_the_flow_itself_meets_is_reported():
    @rt.function_node
    async def main():
        keep_journal("dead")
        held = rt.state.FileStore().lock("other")
        try:
            await rt.Flow("Other", Shop().flow.entry_point, run_identifier="other", logging_setting="NONE").ainvoke("a")
        finally:
            held.release()

    flow = rt.Flow("Outer", main, run_identifier="run", logging_setting="NONE")
    with pytest.raises(rt.exceptions.RunInUseError):
        await flow.ainvoke()
    [run] = await rt.arecover([flow])
    assert (run.identifier, type(run.exception)) == ("dead", rt.exceptions.RunInUseError)


async def test_each_flow_has_its_own_store(tmp_path):
    shop = Shop(store=f"file:{tmp_path / 'elsewhere'}")
    here = Shop()
    await here.die("a")
    assert await rt.arecover([shop.flow]) == []
    FOLDER.rename(tmp_path / "elsewhere")
    assert [run.result for run in await rt.arecover([shop.flow])] == ["a shipped"]


@pytest.mark.parametrize(
    ("flows", "limit", "message"),
    [
        ([len], 1, "expected flows"),
        (len, 1, "expected flows"),
        ("Job", 1, "expected flows, got 'Job';"),
        *(([], limit, "limit") for limit in (0, True, 1.5)),
    ],
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


# ---- suspended runs


async def test_suspended_run_goes_on_when_a_message_has_come():
    @rt.function_node
    async def main(order):
        return await rt.receive("paid"), await rt.ask(f"Ship {order}?")

    flow = rt.Flow("Shop", main, logging_setting="NONE")
    identifiers = []
    for order in ("a", "b", "c"):
        with pytest.raises(RunSuspended) as caught:
            await flow.ainvoke(order)
        identifiers.append(caught.value.run_identifier)
    assert await rt.arecover([flow]) == []
    rt.state.send(identifiers[0], "paid", 1)
    rt.state.send(identifiers[1], "something else", 2)
    [run] = await rt.arecover([flow])
    assert run.identifier == identifiers[0]
    assert isinstance(run.exception, RunSuspended)
    [question] = run.exception.questions
    assert await rt.arecover([flow]) == []
    rt.state.send(identifiers[0], question.id, "yes")
    [run] = await rt.arecover([flow])
    assert (run.identifier, run.result) == (identifiers[0], (1, "yes"))


async def test_run_that_is_suspended_again_is_not_logged_as_an_error(caplog):
    @rt.function_node
    async def main():
        keep_journal("dead")
        return await rt.receive("paid")

    flow = rt.Flow("Waiting", main, run_identifier="run", logging_setting="NONE")
    with pytest.raises(RunSuspended):
        await flow.ainvoke()
    [run] = await rt.arecover([flow])
    assert run.identifier == "dead"
    assert isinstance(run.exception, RunSuspended)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
