"""Classes of arguments and results that have got fields since a run was recorded."""

from __future__ import annotations

import dataclasses
from typing import Any

import attrs
import pydantic
import pytest

import railtracks as rt
from railtracks.exceptions import StateError
from tests.durability.world import failing, failing_once, flow_of, resumed

pytestmark = pytest.mark.either_backend


def named(cls: Any, name: str = "Order") -> Any:
    """Return a class as if it were the one of a module."""
    cls.__module__, cls.__qualname__, cls.__name__ = "shop", name, name
    return cls


def made_by(kind: str, fields: dict[str, Any]) -> Any:
    """Return a class with ``item``, and with these fields with defaults; a callable makes one."""
    match kind:
        case "dataclass" | "frozen":
            extra = [
                (name, Any, dataclasses.field(default_factory=value) if callable(value) else value)
                for name, value in fields.items()
            ]
            return named(dataclasses.make_dataclass("Order", [("item", Any), *extra], frozen=kind == "frozen"))
        case "attrs":
            more = {
                name: attrs.field(factory=value) if callable(value) else attrs.field(default=value)
                for name, value in fields.items()
            }
            return named(attrs.make_class("Order", {"item": attrs.field(), **more}))
    given: Any = {
        name: (Any, pydantic.Field(default_factory=value) if callable(value) else value)
        for name, value in fields.items()
    }
    return named(pydantic.create_model("Order", item=(Any, ...), **given))


KINDS = ["dataclass", "frozen", "attrs", "pydantic"]
ADDED = {"urgent": False, "tags": list, "limit": (1, 2)}


class Shop:
    """A flow with an order among its arguments, of one class and then of another."""

    def __init__(self, world: Any, kind: str, before: dict[str, Any] | None = None) -> None:
        self.world = world
        self.kind = kind
        self.cls = made_by(kind, before or {"note": "x"})

    def flow(self, wrap: Any = lambda order: order, **options: Any) -> rt.Flow[..., Any]:
        async def charge(order: Any, amount: int = 1) -> Any:
            self.world.note("charge")
            return order

        charge.__annotations__.update({"order": self.cls, "return": wrap_hint(self.cls, wrap)})

        async def main(order: Any) -> Any:
            found = await rt.call(charge, order)
            await rt.call(self.world.step, "x")
            return found

        main.__annotations__["order"] = wrap_hint(self.cls, wrap)
        return flow_of(main, **options)

    def change(self, fields: dict[str, Any]) -> None:
        self.cls = made_by(self.kind, fields)


def wrap_hint(cls: Any, wrap: Any) -> Any:
    made = wrap(1)
    return list[cls] if isinstance(made, list) else dict[str, cls] if isinstance(made, dict) else cls


WRAPS: dict[str, Any] = {
    "itself": lambda order: order,
    "list": lambda order: [order, order],
    "value": lambda order: {"a": order, "b": order},
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("kind", KINDS)
async def test_added_fields_with_their_defaults_are_no_difference(world, kind, wrap):
    shop, put = Shop(world, kind), WRAPS[wrap]
    flow = shop.flow(put, if_exists="resume")
    world.broken.add("x")
    await failing(flow, put(shop.cls(item=(1, "a"))))
    world.broken.clear()
    world.ran()
    shop.change({"note": "x", **ADDED})
    result = await shop.flow(put, if_exists="resume").ainvoke(put(shop.cls(item=(1, "a"))))
    assert result == put(shop.cls(item=(1, "a")))
    assert world.ran() == ["x"]
    assert await shop.flow(put, if_exists="resume").ainvoke(put(shop.cls(item=(1, "a")))) == result
    assert world.ran() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_recorded_arguments_and_results_get_the_defaults(world, kind):
    shop = Shop(world, kind)
    await failing_with(shop)
    shop.change({"note": "x", **ADDED})
    result, _ = await resumed(shop.flow())
    assert (result.item, result.note, result.urgent, result.tags, result.limit) == (5, "x", False, [], (1, 2))
    assert type(result) is shop.cls
    assert world.ran() == ["x"]
    info = rt.state.load_run("run", flow=shop.flow())
    assert info.records[0].args == (shop.cls(item=5),)
    assert info.answer == shop.cls(item=5)


async def failing_with(shop, **given):
    shop.world.broken.add("x")
    await failing(shop.flow(if_exists="resume"), shop.cls(item=5, **given))
    shop.world.broken.clear()
    shop.world.ran()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_added_field_with_another_value_is_a_difference(world, logged, kind):
    shop = Shop(world, kind)
    await failing_with(shop)
    shop.change({"note": "x", "urgent": False})
    with pytest.raises(StateError, match=r"argument 0\.urgent was not there, and is true now"):
        await shop.flow(if_exists="resume").ainvoke(shop.cls(item=5, urgent=True))
    assert world.ran() == []
    await shop.flow().aresume("run", shop.cls(item=5, urgent=True))
    assert any("argument 0.urgent was not there, and is true now" in each for each in logged("WARNING"))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_removed_field_is_a_difference(world, kind):
    shop = Shop(world, kind, {"note": "x", "urgent": False})
    await failing_with(shop)
    shop.change({"note": "x"})
    with pytest.raises(StateError, match=r"argument 0\.urgent was false, and is not there now"):
        await shop.flow(if_exists="resume").ainvoke(shop.cls(item=5))
    assert world.ran() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_changed_field_beside_an_added_one_is_a_difference(world, kind):
    shop = Shop(world, kind)
    await failing_with(shop)
    shop.change({"note": "x", **ADDED})
    with pytest.raises(StateError, match=r"argument 0\.note was \"x\", and is \"y\" now"):
        await shop.flow(if_exists="resume").ainvoke(shop.cls(item=5, note="y"))


async def test_an_added_field_without_a_default_is_a_difference(world):
    shop = Shop(world, "dataclass", {})
    await failing_with(shop)
    shop.cls = named(dataclasses.make_dataclass("Order", [("item", Any), ("note", Any), ("urgent", bool)]))
    with pytest.raises(StateError, match=r"argument 0\.urgent was not there"):
        await shop.flow(if_exists="resume").ainvoke(shop.cls(item=5, note="x", urgent=False))


async def test_many_equal_arguments_without_fields_are_found_in_order(world):
    shop = Shop(world, "dataclass")

    def flow():
        async def charge(order: Any) -> Any:
            world.note("charge")
            return order.item

        async def main():
            found = [await rt.call(charge, shop.cls(item=number % 3)) for number in range(9)]
            await rt.call(world.step, "x")
            return found

        return flow_of(main)

    await failing_once(flow(), world, "x")
    shop.change({"note": "x", "urgent": False})
    result, _ = await resumed(flow())
    assert result == [0, 1, 2] * 3
    assert world.ran() == ["x"]
