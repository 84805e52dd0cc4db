"""The nodes that run programs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import Any

import anyio
import attrs

import railtracks as rt
from railtracks.exceptions import NodeTimeOutError, RunSuspended, TransferError, WorkerLostError
from railtracks.testing import ProcessKilled
from railtracks.testing.faults import Executor
from tests.durability.model import programs as p
from tests.durability.model.answers import KINDS, Raised, annotation, show
from tests.durability.model.world import DisturbedWorld, Place, UndisturbedWorld, shown_arguments

here: ContextVar[tuple[Place, Any]] = ContextVar("here")
"""The place and the step of the call that is made, which no argument says."""


class Process:
    """The process that runs now: the world, and the options of its sessions.

    Attributes:
        sent: The place and the step of the call that a worker does now.
    """

    world: DisturbedWorld | UndisturbedWorld
    options: dict[str, Any]
    sent: tuple[Place, Any] | None = None


class Pool(Executor):
    """An executor whose workers know which step they do. They work one at a time, and nothing else runs meanwhile."""

    def submit(self, func: Callable[..., Any], /, *args: Any) -> Future[Any]:
        if not isinstance(func, partial):  # it comes a second time, in the event loop
            func = partial(_do_sent, here.get(), func)
        return super().submit(func, *args)


def _do_sent(sent: tuple[Place, Any], func: Callable[..., Any], *args: Any) -> Any:
    Process.sent = sent
    try:
        return func(*args)
    finally:
        Process.sent = None


def current() -> tuple[Place, Any]:
    """Return the place and the step of the call that runs."""
    found = here.get(None)
    if found is None:
        assert Process.sent is not None
        return Process.sent
    return found


def _leaf_node(kind: str) -> Any:
    async def leaf(argument, *given):
        place, step = current()
        return await Process.world.answer(place, step, shown_arguments(argument, given))

    leaf.__annotations__["return"] = annotation(kind)
    return rt.function_node(leaf, name="leaf", key=f"model.leaf.{re.sub('[^a-z]', '_', kind)}")


LEAVES = {kind: _leaf_node(kind) for kind in KINDS}


def node_of(leaf: p.Leaf) -> Any:
    """Return the node of a leaf, which tries again as the leaf says."""
    node = LEAVES[leaf.kind]
    match Process.world.policy_of(leaf):
        case "limit":
            node = node.options(limit=1)
        case "timeout":
            return node.options(timeout=600, retries=rt.Retry(attempts=None, on=NodeTimeOutError, timeout=None))
        case "pool":
            return in_pool(node)
        case "cache":
            return node.options(cache=True)
        case "cache in store":
            return node.options(cache=rt.Cache(scope="store"))
    if not leaf.tries:
        return node
    initial, most = Process.world.waits
    return node.options(retries=rt.Retry(attempts=1 + leaf.tries, wait_initial=initial, wait_max=most, timeout=None))


def in_pool(node: Any) -> Any:
    """Return a node that runs in a worker, and is tried again when that is lost."""
    retries = rt.Retry(attempts=None, on=(WorkerLostError, TransferError), timeout=None)
    return node.options(where="pool", retries=retries)


@rt.function_node
async def work(argument: int) -> list[str]:
    place, step = current()
    return [show(value) for value in await run_block(place, step.block)]


@rt.function_node(abandon_on_cancel=False)
def work_in_thread(argument: int) -> list[str]:
    place, step = here.get()
    values: list[Any] = []

    def call(place: Place, leaf: p.Leaf, *given: Any) -> Any:
        here.set((place, leaf))
        return rt.call_sync(node_of(leaf), leaf.argument, *given)

    for at, inner in enumerate(step.block):
        if isinstance(inner, p.Leaf):
            values.append(call((*place, at), inner, *_given(inner, values)))
            continue
        values += Process.world.wait_in_thread((*place, at), inner)
        if inner.then is not None:
            values.append(call((*place, at, inner.count), inner.then, *_given(inner.then, values, takes=True)))
    return [show(value) for value in values]


def _given(leaf: p.Leaf, values: list[Any], takes: bool = False) -> tuple[Any, ...]:
    if not (leaf.takes_latest or takes) or not values:
        return ()
    latest = values[-1]
    return (show(latest) if isinstance(latest, BaseException) else latest,)  # exceptions are not comparable


async def run_block(place: Place, block: p.Block) -> list[Any]:
    """Run a block, and return its values."""
    values: list[Any] = []
    for at, step in enumerate(block):
        Process.world.check_alive()
        values += await _run_step((*place, at), step, values)
    return values


async def _run_step(place: Place, step: p.Step, values: list[Any]) -> list[Any]:
    here.set((place, step))
    match step:
        case p.Leaf():
            return [await rt.call(node_of(step), step.argument, *_given(step, values))]
        case p.Wait():
            found = await Process.world.wait(place, step)
            if step.then is None:
                return found
            here.set(((*place, step.count), step.then))
            then = await rt.call(node_of(step.then), step.then.argument, *_given(step.then, found, takes=True))
            return [*found, then]
        case p.Below(how="flow"):
            return await rt.Flow("Inner", work, **Process.options).ainvoke(step.argument)
        case p.Below():
            node: Any = work_in_thread if step.how == "thread" else work
            if step.how == "pool" and Process.world.has_pool:
                node = in_pool(node)
            return await rt.call(node, step.argument)
        case p.Branches():
            return await _run_branches(place, step)
        case p.Batch():
            return await _run_batch(place, step)
        case p.Try():
            return await _try(place, step)
        case p.Raise():
            raise Raised(f"at {place}")
        case p.Context():
            return _use_context(place, step)
        case p.Value():
            return [Process.world.value(place, step.of)]
        case p.Sleep():
            await Process.world.sleep(place, step.seconds)
    return []


async def _run_branches(place: Place, step: p.Branches) -> list[Any]:
    """Run blocks concurrently. The first failure cancels the others, and is raised as it is.

    A flow in one of them that is suspended is no failure. It is raised when the others have ended.
    """
    found: dict[int, list[Any]] = {}
    failures: list[BaseException] = []
    suspended: list[RunSuspended] = []

    async def run(at: int) -> None:
        try:
            result = await run_block((*place, at), step.blocks[at])
        except RunSuspended as exc:
            suspended.append(exc)
            return
        except (Exception, ProcessKilled) as exc:
            failures.append(exc)
            group.cancel_scope.cancel()
            return
        if not step.first:
            found[at] = result
        elif not found:
            found[at] = result
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for at in range(len(step.blocks)):
            group.start_soon(run, at)
    Process.world.check_alive()
    if failures and not (step.first and found):
        raise failures[0]
    if suspended and not (step.first and found):
        raise suspended[0]
    return [value for at in sorted(found) for value in [f"branch {at}", *found[at]]]


async def _run_batch(place: Place, step: p.Batch) -> list[Any]:
    def arguments() -> Iterator[int]:
        for at, item in enumerate(step.items):
            # They have one node, and are tried again as often as the first of them.
            tried = (
                attrs.evolve(item, tries=first.tries, policy=first.policy)
                if isinstance(item, p.Leaf) and isinstance(first, p.Leaf)
                else item
            )
            here.set(((*place, at), tried))
            yield item.argument

    first = step.items[0]
    node: Any = node_of(first) if isinstance(first, p.Leaf) else work
    values: list[Any] = await rt.call_batch(
        node, arguments(), return_exceptions=step.returns_exceptions, limit=step.limit
    )
    suspended = [value for value in values if isinstance(value, RunSuspended)]
    if suspended:
        raise suspended[0]
    return values


async def _try(place: Place, step: p.Try) -> list[Any]:
    failure: Exception | None = None
    for time in range(step.times):
        try:
            return ["tried", *await run_block((*place, time), step.block)]
        except RunSuspended:
            raise
        except Exception as exc:
            failure = exc
            if time == step.times - 1 and step.handler is not None and step.inside:
                values = await run_block((*place, step.times), step.handler)
                if step.reraises:
                    raise
                return [show(exc), *values]
    assert failure is not None
    values = [] if step.handler is None else await run_block((*place, step.times), step.handler)
    if step.handler is None or step.reraises:
        raise failure
    return [show(failure), *values]


def _use_context(place: Place, step: p.Context) -> list[Any]:
    match step.does:
        case "put":
            rt.context.put(step.key, f"put at {place}")
        case "add":
            rt.context.put(step.key, f"{rt.context.get(step.key, 'nothing')} + {place}")
        case "delete":
            with contextlib.suppress(KeyError):
                rt.context.delete(step.key)
        case "read":
            return [rt.context.get(step.key, None)]
    return []
