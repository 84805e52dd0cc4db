"""Nodes with policies that tests send to workers, which import them from here."""

from __future__ import annotations

import uuid
from pathlib import Path

import anyio

import railtracks as rt

AT_ONCE = rt.Retry(attempts=3, wait_initial=0, wait_jitter=0)


def mark(name, *args):
    """Note in a folder that something ran."""
    folder = Path(rt.context.get("marks"))
    (folder / f"{'-'.join(map(str, (name, *args)))}+{uuid.uuid4().hex[:8]}").touch()
    return marks(folder)


def marks(folder):
    """Return what ran, and how often."""
    found: dict[str, int] = {}
    for path in Path(folder).iterdir():
        name = path.name.partition("+")[0]
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


@rt.function_node(retries=AT_ONCE)
def flaky(x: int) -> int:
    """Fail twice."""
    if mark("flaky", x)[f"flaky-{x}"] < 3:
        raise ConnectionError(f"{x} is not there yet")
    return 2 * x


@rt.function_node(retries=AT_ONCE)
async def flaky_softly(x: int) -> int:
    await anyio.sleep(0)
    return flaky.func(x)


@rt.function_node(retries=AT_ONCE)
def never(x: int) -> int:
    mark("never", x)
    raise LookupError(x)


@rt.function_node(cache=True)
def square(x: int) -> int:
    mark("square", x)
    rt.context.put(f"square-{x}", x * x)
    return x * x


@rt.function_node(cache=rt.Cache(scope="store"))
def cube(x: int) -> int:
    mark("cube", x)
    rt.context.put(f"cube-{x}", x**3)
    rt.broadcast_sync(f"cube {x}")
    return x**3


@rt.function_node(limit=1)
async def alone(x: int) -> int:
    mark("alone", x)
    await anyio.sleep(0)
    return x


@rt.function_node(timeout=0.05)
async def slow(x: int) -> int:
    await anyio.sleep(60)
    return x


@rt.function_node
def all_sync(x: int) -> int:
    """Make nested calls that have all policies."""
    total = rt.call_sync(flaky, x) + rt.call_sync(square, x) + rt.call_sync(square, x) + rt.call_sync(alone, x)
    try:
        rt.call_sync(never, x)
    except LookupError:
        total += 1
    return total


@rt.function_node
async def all_async(x: int) -> int:
    """Do the same, with a batch."""
    total = await rt.call(flaky_softly, x)
    total += sum(await rt.call_batch(square, [x, x], return_exceptions=False))
    total += sum(await rt.call_batch(alone, [x, x], return_exceptions=False)) // 2
    try:
        await rt.call(slow, x)
    except TimeoutError:
        total += 1
    return total


@rt.function_node
async def dig(n: int) -> int:
    return 1 + await rt.call(dig, n - 1) if n else 1


@rt.function_node
def dig_sync(n: int) -> int:
    return 1 + rt.call_sync(dig_sync, n - 1) if n else 1


@rt.function_node
async def many(n: int) -> int:
    """Return how many of some calls were made."""
    results = await rt.call_batch(dig, [0] * n)
    return sum(not isinstance(each, Exception) for each in results)


@rt.function_node
async def unlucky(x: int) -> int:
    mark("unlucky", x)
    raise KeyError(x)


@rt.function_node
async def cubes(x: int) -> int:
    return await rt.call(cube, x) + await rt.call(cube, x)


@rt.function_node
def below(x: int) -> int:
    return rt.call_sync(never, x)


@rt.function_node
async def streams(x: int) -> int:
    """Make a batch in the worker that keeps few records."""
    found = [each async for each in rt.call_stream(alone, range(x), keep_records="summary")]
    failures = await rt.call_batch(never, range(2), keep_records="failures")
    return len(found) + len(failures)
