"""Pickling for workers without blocking the event loop.

What is quickly done is done at once, because a thread costs more than that. What is larger goes through a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import anyio

from railtracks._concurrency._threads import run_in_thread
from railtracks.exceptions import TransferError
from railtracks.execution._remote._order import Order
from railtracks.execution._remote._orders import pack_order, was_changed
from railtracks.executors._pickling import MAX_QUICK_BYTES, NotQuickError
from railtracks.nodes import FunctionNode

T = TypeVar("T")


async def pack(order: Order, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Any) -> bytes:
    """Return an order, with its node and the arguments, as bytes.

    Raises:
        TransferError: The node or an argument cannot be pickled.

    Cancellation: a thread that pickles is left behind.
    """
    work = partial(pack_order, order, node, args, kwargs)
    try:
        return work(must_be_quick=True)
    except NotQuickError:
        pass
    try:
        return await run_in_thread(work, abandon_on_cancel=True, name=f"pickle the arguments of {node.name}")
    except TransferError as exc:
        if not was_changed(exc):
            raise
    return work()  # a task has changed a value while the thread read it, and none can do that here


async def unpack(size: int, load: Callable[[], T]) -> T:
    """Return what ``load`` makes of bytes that came from a worker.

    Args:
        size: How many bytes they are.
        load: Unpickles them.

    Raises:
        Exception: whatever ``load`` raises.

    Cancellation: not delivered here; only ``task.cancel()`` on asyncio is, when ``load`` has returned.
    """
    if size <= MAX_QUICK_BYTES:
        return load()
    with anyio.CancelScope(shield=True):
        value = await run_in_thread(load, name="unpickle an answer")
    return value  # noqa: RET504 (a scope may end without a result, as far as type checkers know)
