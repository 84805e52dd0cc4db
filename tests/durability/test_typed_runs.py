"""``load_run(flow=)``: the values of a stored run with the types that they had."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

import attrs
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from railtracks.state import Failure
from tests.durability.values import Color
from tests.durability.world import FOLDER, flow_of, keep_journal

WHEN = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class Item:
    name: str
    color: Color


@attrs.frozen
class Order:
    items: tuple[Item, ...]
    when: datetime


@dataclass
class Hidden:
    number: int


@rt.function_node
async def pack(item: Item) -> Item:
    return Item(item.name.upper(), item.color)


@rt.function_node
async def where(number: int):
    return PurePosixPath(f"shelf/{number}")


@rt.function_node
async def hide(hidden) -> Hidden:
    return Hidden(2)


@rt.function_node
async def order(items: list[Item], *, when: datetime) -> Order:
    packed = [await rt.call(pack, item) for item in items]
    await rt.call(where, 1)
    await rt.call(hide, Hidden(1))
    if (FOLDER / "run.journal").exists():
        keep_journal("died")
    if when.year == 2000:
        raise ValueError
    return Order(tuple(packed), when)


ITEMS = [Item("a", Color.RED), Item("b", Color.RED)]
RESULT = Order((Item("A", Color.RED), Item("B", Color.RED)), WHEN)


async def test_results_and_arguments_are_as_they_were():
    flow = flow_of(order)
    assert await flow.ainvoke(ITEMS, when=WHEN) == RESULT
    info = rt.state.load_run("run", flow=flow)
    assert info.answer == RESULT
    assert type(info.answer.items[0].color) is Color
    root, first, second, path, hidden = info.records
    assert (root.args, dict(root.kwargs)) == ((ITEMS,), {"when": WHEN})
    assert (first.args, first.result, second.result) == ((ITEMS[0],), *RESULT.items)
    assert path.result == PurePosixPath("shelf/1")
    assert (hidden.args, hidden.result) == (({"number": 1},), {"number": 2})  # no annotation of the flow names it
    plain = rt.state.load_run("run")
    assert info == plain
    items = [{"name": "A", "color": "red"}, {"name": "B", "color": "red"}]
    assert plain.answer == {"items": items, "when": WHEN.isoformat()}


async def test_a_run_that_died_has_typed_values_too():
    flow = flow_of(order)
    await flow.ainvoke(ITEMS, when=WHEN)
    info = rt.state.load_run("died", flow=flow)
    assert isinstance(info.answer, Failure)
    assert [record.result for record in info.records[1:3]] == list(RESULT.items)
    assert info.records[0].args == (ITEMS,)


async def test_calls_of_an_earlier_attempt_have_typed_values_too():
    flow = flow_of(order)
    for _ in range(2):
        with pytest.raises(ValueError):
            await flow.aresume("run") if (FOLDER / "run.json").exists() else await flow.ainvoke(
                ITEMS, when=WHEN.replace(year=2000)
            )
    info = rt.state.load_run("run", flow=flow)
    assert [record.result for record in info.earlier if record.name == "pack"] == list(RESULT.items)


@pytest.mark.parametrize("kind", ["lossy", "changed annotation", "other class"])
async def test_what_cannot_be_brought_back_stays_plain(kind):
    async def made(client) -> Item:
        return Item("a", Color.RED)

    await flow_of(made).ainvoke(object() if kind == "lossy" else 1)
    made.__annotations__["return"] = {"changed annotation": int, "other class": Hidden}.get(kind, Item)
    info = rt.state.load_run("run", flow=flow_of(made))
    assert info.answer == (Item("a", Color.RED) if kind == "lossy" else {"name": "a", "color": "red"})
    if kind == "lossy":
        assert type(info.records[0].args[0]).__name__ == "Opaque"


async def test_it_looks_in_the_store_of_the_flow(tmp_path):
    store = rt.state.FileStore(tmp_path / "runs")
    flow = flow_of(order, store=store)
    await flow.ainvoke(ITEMS, when=WHEN)
    assert rt.state.load_run("run", flow=flow).answer == RESULT
    assert rt.state.load_run("run", store, flow=flow_of(order)).answer == RESULT
    with pytest.raises(rt.exceptions.RunNotFoundError):
        rt.state.load_run("run", "file:elsewhere", flow=flow)


@pytest.mark.parametrize("flow", ["Flow", order, 3])
def test_something_else_than_a_flow(flow):
    with pytest.raises(ConfigError, match="is not allowed for flow; use a flow"):
        rt.state.load_run("run", flow=flow)
