"""The flow with policies of calls, work in worker processes, and streams; see ``flows.py``."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import railtracks as rt
from tests.compat.flows import effect

# ---- in worker processes, where nothing can be interrupted


@rt.function_node
async def measure(line: str) -> Decimal:
    return Decimal(len(line)) / 2


@rt.function_node(where="process")
async def weigh(lines: list[str]) -> Decimal:
    return sum(await rt.call_batch(measure, lines, return_exceptions=False), Decimal(0))


# ---- policies


@rt.function_node(retries=rt.Retry(attempts=3, on=ConnectionError, wait_initial=0, wait_max=0))
async def book(number: int) -> str:
    """Fail at the first attempt."""
    tries = rt.context.get("tries", 0)
    effect(f"book, attempt {tries + 1}")
    rt.context.put("tries", tries + 1)
    if not tries:
        raise ConnectionError(f"the line of {number} is busy")
    return f"booked {number}"


@rt.function_node(limit=1)
async def load(line: str) -> int:
    effect(f"load {line}")
    return len(line)


@rt.function_node(cache=True)
async def rate(zone: str) -> tuple[str, Decimal]:
    effect(f"rate {zone}")
    rt.context.put("zone", zone)
    return zone, Decimal("1.25")


@rt.function_node(cache=rt.Cache(scope="store"))
async def tariff(run: str | None) -> Decimal:
    """Return what is cached in the store, for each run by itself."""
    effect("tariff")
    return Decimal("0.5")


# ---- streams


@rt.function_node
async def count(line: str) -> int:
    effect(f"count {line}")
    return len(line)


@rt.function_node
async def check(line: str) -> str:
    effect(f"check {line}")
    if line == "glass":
        raise ValueError(f"{line} is broken")
    return line


@rt.function_node
async def note(line: str) -> None:
    effect(f"note {line}")


@rt.function_node
async def deliver(number: int, lines: list[str]) -> dict[str, Any]:
    """Most of what policies and streams leave on record."""
    weight = await rt.call(weigh, lines)
    booked = await rt.call(book, number)
    loaded = await rt.call_batch(load, lines, return_exceptions=False)
    rates = [await rt.call(rate, zone) for zone in ("A", "B", "A")]
    tariffs = [await rt.call(tariff, rt.session_id()) for _ in range(2)]
    counted = [each async for each in rt.call_stream(count, lines, limit=1)]
    things = ["paper", "glass"]
    async for _ in rt.call_stream(check, things, limit=1, return_exceptions=True, keep_records="failures"):
        pass  # the results of what has completed are not on record
    async for _ in rt.call_stream(note, lines, limit=1, keep_records="summary"):
        pass
    effect("delivered")
    return {"weight": str(weight), "booked": booked, "loaded": loaded, "rates": [str(each) for _, each in rates],
            "tariffs": [str(each) for each in tariffs], "counted": counted,
            "zone": rt.context.get("zone"), "tries": rt.context.get("tries")}  # fmt: skip


DELIVER = (deliver, (7, ["tea", "sugar"]))
DELIVER_LEAVES = [
    "book, attempt 1", "book, attempt 2", "load tea", "load sugar", "rate A", "rate B", "tariff", "count tea",
    "count sugar", "check paper", "check glass", "note tea", "note sugar", "delivered",
]  # fmt: skip
DELIVER_RESULT = {
    "weight": "4.0", "booked": "booked 7", "loaded": [3, 5], "rates": ["1.25", "1.25", "1.25"],
    "tariffs": ["0.5", "0.5"], "counted": [3, 5], "zone": "A", "tries": 2,
}  # fmt: skip
