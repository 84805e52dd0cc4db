"""A resumed run of which nothing is found is not executed again, and calls that are executed again are warned of."""

from __future__ import annotations

import pytest

import railtracks as rt
from railtracks.exceptions import StateError
from tests.durability.world import FOLDER, flow_of, keep_journal, reasons, resumed, reused

AGAIN = "use allow_rerun=True to run all of it again"
END = f"Resume it with the function and the arguments that it was begun with, or {AGAIN}"


def named(function, name, module):
    function.__name__, function.__qualname__, function.__module__ = name, name, module
    return rt.function_node(function)


class Shop:
    """An order and its charges, under the names that a test gives them."""

    def __init__(self, world, name="order", module="shop", step="charge"):
        async def charge(what):
            if what == "x":
                keep_journal("died")
            world.note(what)
            if what in world.broken:
                raise ValueError(what)
            return what

        async def order(count=2):
            for what in [*range(count), "x"]:
                await rt.call(self.charge, what)
            return "done"

        self.charge = named(charge, step, module)
        self.order = named(order, name, module)

    def flow(self, **options):
        return flow_of(self.order, **options)


async def begin(world, fails=True):
    """Leave a run of which two calls, or all, had completed."""
    if fails:
        world.broken.add("x")
        with pytest.raises(ValueError):
            await Shop(world).flow().ainvoke(2)
        world.broken.clear()
    else:
        await Shop(world).flow().ainvoke(2)
    world.ran()


async def resume(flow, how, *args):
    if how == "session":
        async with rt.Session(resume="run"):
            return await rt.call(flow.entry_point, *args)
    if how == "fork":
        return await flow.afork("run", *args, before=99)
    return await flow.aresume("run", *args)


UNKNOWN = {
    "another name": ({"name": "buy"}, "buy is not on record, only order"),
}


@pytest.mark.parametrize("fails", [True, False], ids=["failed", "completed"])
@pytest.mark.parametrize("how", ["resume", "session", "fork"])
@pytest.mark.parametrize("kind", UNKNOWN)
async def test_nothing_runs_if_the_entry_point_is_unknown(world, kind, how, fails):
    await begin(world, fails)
    before = (FOLDER / "run.json").read_bytes()
    changes, why = UNKNOWN[kind]
    with pytest.raises(StateError) as caught:
        await resume(Shop(world, **changes).flow(), how, 3)
    completed = "2 completed calls (charge (2))" if fails else "4 completed calls (charge (3), order)"
    assert str(caught.value) == f"the run 'run' has {completed}, and none of it can be used: {why}. {END}"
    assert world.ran() == []
    assert sorted(path.name for path in FOLDER.iterdir() if not path.name.startswith("died")) == ["run.json"]
    assert (FOLDER / "run.json").read_bytes() == before


@pytest.mark.parametrize("how", ["resume", "session", "fork"])
async def test_other_arguments_for_a_completed_run_are_refused(world, how):
    await begin(world, fails=False)
    with pytest.raises(StateError, match=r"order was called with \(2\), and not with \(3\)"):
        await resume(Shop(world).flow(), how, 3)
    assert world.ran() == []


@pytest.mark.parametrize("how", ["resume", "session", "fork"])
async def test_other_arguments_for_an_unfinished_run_are_taken(world, how, logged):
    """What it calls with the arguments that it had is not run again."""
    await begin(world)
    assert await resume(Shop(world).flow(), how, 3) == "done"
    assert world.ran() == [2, "x"]
    assert logged("WARNING")[-1] == (
        "The run went on with other arguments: order was called with (2), and is called with (3) now; calls below it "
        "with the arguments that they had were reused"
    )


@pytest.mark.parametrize("how", ["resume", "session", "fork", "if_exists"])
async def test_nothing_runs_if_everything_was_moved(world, how):
    """The entry point begins, as what it calls may be found, and its first call is refused."""
    await begin(world)
    flow = Shop(world, module="store").flow(if_exists="resume" if how == "if_exists" else "replace")
    with pytest.raises(StateError, match=r"charge is store.charge now, and was shop.charge\. Resume it"):
        await (flow.ainvoke(2) if how == "if_exists" else resume(flow, how, 2))
    assert world.ran() == []
    result, session = await resumed(Shop(world).flow(), "run", 2)
    assert (result, world.ran()) == ("done", ["x"])
    assert reused(session.info) == ["charge", "charge"]


@pytest.mark.parametrize("how", ["resume", "session", "fork", "if_exists"])
async def test_it_can_be_allowed(world, how, logged):
    await begin(world)
    options = {"allow_rerun": True, "if_exists": "resume" if how == "if_exists" else "replace"}
    flow = Shop(world, module="store").flow(**options)
    if how == "session":
        async with rt.Session(resume="run", allow_rerun=True):
            assert await rt.call(flow.entry_point, 2) == "done"
    else:
        assert await (flow.ainvoke(2) if how == "if_exists" else resume(flow, how, 2)) == "done"
    assert world.ran() == [0, 1, "x"]
    text = "2 calls that had completed ran again, first charge: it is not on record; info.resumed lists all calls"
    assert logged("WARNING").count(text) == 1


async def test_calls_below_unknown_callers_are_counted(world, logged):
    await begin(world)
    flow = Shop(world, name="buy", module="store").flow(allow_rerun=True)
    assert await flow.aresume("run", 3) == "done"
    assert world.ran() == [0, 1, 2, "x"]
    text = "2 calls that had completed ran again, first charge: the call that made it is not on record; info.resumed"
    assert any(each.startswith(text) for each in logged("WARNING"))


async def test_what_a_renamed_entry_point_calls_is_found(world, logged):
    await begin(world)
    result, session = await resumed(Shop(world, name="buy").flow(), "run", 2)
    assert (result, world.ran()) == ("done", ["x"])
    assert reused(session.info) == ["charge", "charge"]
    assert logged("WARNING") == []


async def test_a_session_may_make_new_calls_after_known_ones(world):
    await begin(world, fails=False)
    shop = Shop(world)
    async with rt.Session(resume="run"):
        await rt.call(shop.order, 2)
        await rt.call(shop.order, 1)
    assert world.ran() == [0, "x"]


async def test_a_session_that_is_started_again_takes_new_calls(world):
    """With ``if_exists="resume"`` a call with other arguments is a new one, even if it is the first."""
    shop = Shop(world)
    for count in (1, 0):
        async with rt.Session(run_identifier="run", if_exists="resume"):
            await rt.call(shop.order, count)
    assert world.ran() == [0, "x", "x"]


async def test_an_unknown_node_is_refused_in_it_too(world):
    await begin(world)
    with pytest.raises(StateError, match="refund is not on record, only order"):
        async with rt.Session(run_identifier="run", if_exists="resume"):
            await rt.call(named(lambda count: world.note("refund"), "refund", "shop"), 5)
    assert world.ran() == []


async def test_a_session_goes_on_after_a_refusal(world):
    """Its journal and its document hold the refused call, too, once there is another one."""
    await begin(world)
    shop = Shop(world)
    async with rt.Session(resume="run") as session:
        with pytest.raises(StateError):
            await rt.call(Shop(world, name="buy").order, 3)
        await rt.call(shop.order, 2)
        keep_journal("copy")
    assert world.ran() == ["x"]
    assert [record.status for record in session.info.records[:2]] == ["Failed", "Completed"]
    statuses = [record.status for record in rt.ExecutionInfo.load(FOLDER / "copy.journal").records]
    assert statuses == [record.status for record in session.info.records]


async def test_recover_leaves_a_run_of_which_nothing_is_found(world):
    await begin(world)
    (FOLDER / "run.json").unlink()
    (run,) = await rt.arecover([Shop(world, module="store").flow(run_identifier=None)])
    assert isinstance(run.exception, StateError)
    assert world.ran() == []
    assert await rt.arecover([Shop(world).flow(run_identifier=None)]) == []  # it has failed by now


async def test_calls_that_run_again_are_warned_of_once(world, logged):
    @rt.function_node
    async def token(number):
        world.note(number)
        return {"password": "hunter2-hunter2"}

    async def main():
        for number in range(3):
            await rt.call(token, number)
        await rt.call(world.step, "x")

    world.broken.add("x")
    with pytest.raises(ValueError):
        await flow_of(main).ainvoke()
    world.broken.clear()
    world.ran()
    _, session = await resumed(flow_of(main))
    assert world.ran() == [0, 1, 2, "x"]
    why = "its result is not all on record (a secret is masked)"
    assert reasons(session.info)["token"] == why
    text = f"3 calls that had completed ran again, first token: {why}; info.resumed lists all calls"
    assert logged("WARNING") == [text]


async def test_calls_that_are_to_run_again_are_not_warned_of(world, logged):
    """A node with ``memo=False``, and one with another version."""

    def flow(version):
        @rt.function_node(version=version)
        async def priced():
            world.note(version)

        async def main():
            await rt.call(world.gate)
            await rt.call(priced)
            await rt.call(world.step, "x")

        return flow_of(main)

    world.broken.add("x")
    with pytest.raises(ValueError):
        await flow("1").ainvoke()
    world.broken.clear()
    world.ran()
    await resumed(flow("2"))
    assert world.ran() == ["gate", "2", "x"]
    assert logged("WARNING") == []
