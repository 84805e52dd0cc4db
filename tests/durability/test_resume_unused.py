"""Completed calls that are not found, as the code has changed, and run again: a warning says so, and compares them."""

from __future__ import annotations

from dataclasses import make_dataclass

import anyio
import pytest

import railtracks as rt
from tests.durability.world import flow_of, resumed


def order_class(*fields, module):
    cls = make_dataclass("Order", fields)
    cls.__module__ = module
    return cls


Order = order_class(("id", int), module="shop")
Moved = order_class(("id", int), module="models")
Wider = order_class(("id", int), ("express", bool), module="shop")


class Shop:
    """A flow of two charges that fails after them, until it is mended.

    Args:
        world: Notes what ran.
        order: The class of an order.
        more: More arguments of an order.
        extra: More arguments of a charge.
        options: Options of the node.
    """

    def __init__(self, world, order=Order, more=(), extra=(), first=1, **options):
        self.is_broken = False

        async def charge(order):
            world.note(order.id)
            return f"charged {order.id}"

        async def wider(order, extra):
            return await charge(order)

        wider.__name__, wider.__qualname__ = charge.__name__, charge.__qualname__
        self.node = rt.function_node(wider if extra else charge, **options)

        async def pay(one):
            return await rt.call(self.node, one, *extra)

        async def process():
            done = [await self.pay(order(each, *more)) for each in (first, first + 1)]
            if self.is_broken:
                raise OSError("stop")
            return done

        self.pay = pay
        self.flow = flow_of(process)


async def begin(world):
    shop = Shop(world)
    shop.is_broken = True
    with pytest.raises(OSError):
        await shop.flow.ainvoke()
    assert world.ran() == [1, 2]


START = "2 completed calls of charge were not used, and calls of charge ran: the first was charge("
BEGINNING = START.partition(":")[0]
END = "; what they had done may be done twice. info.resumed lists all calls"
NEW_FIELD = (
    "(argument 0.express was not there, and is true now; if it is a new field, give `express` a default, and pass that)"
)
CHANGES = {
    "moved class": (
        {"order": Moved},
        '{"id": 1}) and is charge({"id": 1}) now (argument order: it was shop.Order, and is models.Order now)',
    ),
    "new field": (
        {"order": Wider, "more": (True,)},
        f'{{"id": 1}}) and is charge({{"id": 1, "express": true}}) now {NEW_FIELD}',
    ),
    "other value": (
        {"first": 5},
        '{"id": 1}) and is charge({"id": 5}) now (argument 0.id was 1, and is 5 now)',
    ),
    "new parameter": ({"extra": (3,)}, '{"id": 1}) and is charge({"id": 1}, 3) now'),
}


@pytest.mark.parametrize("fails", [False, True], ids=["completes", "fails again"])
@pytest.mark.parametrize("change", CHANGES)
async def test_charges_that_run_again_are_warned_of(world, logged, change, fails):
    await begin(world)
    options, text = CHANGES[change]
    shop = Shop(world, **options)
    shop.is_broken = fails
    if fails:
        with pytest.raises(OSError):
            await shop.flow.aresume("run")
    else:
        await shop.flow.aresume("run")
    assert len(world.ran()) == 2
    assert [each for each in logged("WARNING") if "not used" in each] == [f"{START}{text}{END}"]


async def test_a_call_in_between_is_warned_of(world, logged):
    await begin(world)
    shop = Shop(world)
    pay = shop.pay

    @rt.function_node
    async def between(order):
        return await pay(order)

    shop.pay = lambda order: rt.call(between, order)
    await resumed(shop.flow)
    assert world.ran() == [1, 2]
    text = '{"id": 1}), called by process, which calls it in another place now'
    assert logged("WARNING") == [f"{START}{text}{END}"]


async def test_a_call_in_between_that_is_gone_is_warned_of(world, logged):
    shop = Shop(world)
    pay = shop.pay

    @rt.function_node
    async def between(order):
        return await pay(order)

    shop.pay, shop.is_broken = lambda order: rt.call(between, order), True
    with pytest.raises(OSError):
        await shop.flow.ainvoke()
    world.ran()
    await resumed(Shop(world).flow)
    assert world.ran() == [1, 2]
    assert [each.split(":")[0] for each in logged("WARNING")] == [BEGINNING]


async def test_charges_of_a_batch_that_run_again_are_warned_of(world, logged):
    def flow(cls, is_broken):
        charge = Shop(world).node

        async def process():
            await rt.call_batch(charge, [cls(1), cls(2)])
            if is_broken:
                raise OSError("stop")

        return flow_of(process)

    with pytest.raises(OSError):
        await flow(Order, is_broken=True).ainvoke()
    world.ran()
    with pytest.raises(OSError):
        await flow(Moved, is_broken=True).aresume("run")
    assert world.ran() == [1, 2]
    assert [each.split(":")[0] for each in logged("WARNING")] == [BEGINNING]
    await flow(Moved, is_broken=False).aresume("run")  # they are on record by now
    assert world.ran() == []
    assert len(logged("WARNING")) == 1


async def test_a_key_may_be_given_later(world, logged):
    """Calls that were made before are found under the path of the function."""
    await begin(world)
    result, _ = await resumed(Shop(world, key="billing.charge").flow)
    assert (result, world.ran()) == (["charged 1", "charged 2"], [])
    assert logged("WARNING") == []


async def test_the_entry_point_may_get_a_key_later(world, logged):
    await begin(world)
    shop = Shop(world)
    flow = flow_of(rt.function_node(shop.flow.entry_point.func, key="process"))
    result, _ = await resumed(flow)
    assert (result, world.ran()) == (["charged 1", "charged 2"], [])
    assert logged("WARNING") == []


async def test_a_call_that_gets_a_key_keeps_what_is_below_it(world):
    world.broken.add("x")
    outer = world.steps.func
    with pytest.raises(ValueError):
        await flow_of(world.steps).ainvoke("a", "x")
    world.broken.clear()
    world.ran()
    await flow_of(rt.function_node(outer, key="steps", version="2")).aresume("run", "a", "x")
    assert world.ran() == ["x"]


async def test_another_version_is_not_warned_of(world, logged):
    await begin(world)
    await resumed(Shop(world, version="2").flow)
    assert world.ran() == [1, 2]
    assert logged("WARNING") == []


async def test_a_flow_that_takes_another_way_is_not_warned_of(world, logged):
    """What a call gives that runs again may decide which others are made."""

    @rt.function_node(retry_on_resume=True)
    async def fetch():
        if "fetch" in world.broken:
            raise ConnectionError("down")

    async def main():
        try:
            await rt.call(fetch)
        except ConnectionError:
            await rt.call(world.step, "apology")
        else:
            await rt.call(world.step, "thanks")
        await rt.call(world.step, "end")

    world.broken |= {"fetch", "end"}
    with pytest.raises(ValueError):
        await flow_of(main).ainvoke()
    world.broken.clear()
    world.ran()
    await resumed(flow_of(main))
    assert world.ran() == ["thanks", "end"]
    assert logged("WARNING") == []


async def test_calls_that_other_tasks_have_not_come_to_are_quiet(world, logged):
    """A session that fails early has not made all calls of its other tasks again."""

    ends_early = False

    async def entry():
        has_begun = anyio.Event()

        async def one():
            await rt.call(world.step, "a")
            if ends_early:
                await rt.call(world.step, "new")
                raise OSError("stop")
            has_begun.set()

        async def other():
            await has_begun.wait()
            await rt.call(world.step, "b")
            raise OSError("stop")

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(other)

    with pytest.raises(ExceptionGroup):
        await flow_of(entry).ainvoke()
    ends_early = True
    world.ran()
    with pytest.raises(ExceptionGroup):
        await flow_of(entry).aresume("run")
    assert world.ran() == ["new"]
    assert not any("not used" in each for each in logged("WARNING"))
