"""The flows whose records are kept in this folder.

Each release that wrote records ran these flows to write them, so their names, places and arguments never change: a node
is identified by its module and its qualified name. What a new release adds is recorded by new flows, in other modules.

Every leaf notes in ``EFFECTS`` that it ran, and calls ``on_effect``, which may interrupt the run there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import attrs

import railtracks as rt

EFFECTS: list[str] = []
"""What really ran, in order."""


def effect(name: str) -> None:
    EFFECTS.append(name)
    on_effect(name)


def on_effect(name: str, /) -> None:
    """Do nothing; replaced by whoever interrupts a run, by an exception or by the end of the process."""


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Order:
    number: int
    lines: list[str]
    total: Decimal


@attrs.frozen
class Parcel:
    order: Order
    route: tuple[Point, ...]
    label: PurePosixPath


# ---- values, context, and the kinds of nodes


@rt.function_node
async def price(line: str) -> Decimal:
    effect(f"price {line}")
    return Decimal(len(line)) / 4


@rt.function_node
def pack(number: int, *, lines: list[str], total: Decimal) -> Parcel:
    """Run in a worker thread."""
    effect("pack")
    return Parcel(Order(number, lines, total), (Point(0, 0), Point(3, 4)), PurePosixPath("out/label.txt"))


@rt.function_node(version="2")
async def reserve(number: int, token: str = "") -> dict[int, bytes]:
    effect("reserve")
    rt.context.put("reserved", number)
    rt.context.put("corner", [1, 2.5, None, True])
    return {number: b"\x00\xff", -1: token.encode()[:2]}


class Ship(rt.nodes.Node[str]):
    def __init__(self, parcel: Parcel, express: bool = False) -> None:
        self.parcel, self.express = parcel, express

    async def invoke(self) -> str:
        effect("ship")
        rt.context.delete("corner")
        return f"shipped {self.parcel.order.number}"


async def stamp(prefix: str, number: int) -> str:
    effect(f"stamp {prefix}")
    return f"{prefix}{number}"


@rt.function_node
async def fragile(number: int) -> int:
    effect("fragile")
    raise ValueError(f"number {number} is too fragile")


@rt.function_node
async def clerk(number: int, lines: list[str]) -> Decimal:
    """A branch: calls below calls."""
    return sum(await rt.call_batch(price, lines, return_exceptions=False), Decimal(0))


@rt.function_node
async def order(number: int, lines: list[str]) -> dict[str, Any]:
    """Most of what can be on record: kinds of nodes and values, context, a failure that was handled."""
    total = await rt.call(clerk, number, lines)
    await rt.call(reserve, number, token="tok-very-secret-1")
    parcel = await rt.call(pack, number, lines=lines, total=total)
    stamps = [await rt.call(functools.partial(stamp, prefix), number) for prefix in ("A", "B", "A")]
    try:
        await rt.call(fragile, number)
    except ValueError as exc:
        problem = str(exc)
    shipped = await rt.call(Ship, parcel, express=True)
    effect("last")
    return {"total": str(total), "stamps": stamps, "problem": problem, "shipped": shipped,
            "reserved": rt.context.get("reserved"), "keys": sorted(rt.context.keys())}  # fmt: skip


@rt.function_node
async def double(number: int) -> int:
    effect(f"double {number}")
    return 2 * number


ORDER = (order, (7, ["tea", "sugar"]))
"""The entry point and its arguments."""
ORDER_LEAVES = [
    "price tea", "price sugar", "reserve", "pack", "stamp A", "stamp B", "stamp A", "fragile", "ship", "last",
]  # fmt: skip
"""What an undisturbed run does, in order."""
ORDER_RESULT = {
    "total": "2.00", "stamps": ["A7", "B7", "A7"], "problem": "number 7 is too fragile", "shipped": "shipped 7",
    "reserved": 7, "keys": ["reserved"],
}  # fmt: skip
"""What it returns."""
