"""The call that stands for a batch of which few records are kept."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from railtracks._context_variable import current
from railtracks._policies import OWN_POLICIES
from railtracks.execution import Frame
from railtracks.execution._batch_keeper import BatchKeeper, Keep
from railtracks.execution._entering import call_here, enter
from railtracks.nodes import FunctionNode
from railtracks.state._batch_summary import BATCH


async def call_as_batch(
    node: FunctionNode[..., Any],
    keep_records: Keep,
    returns: bool,
    run: Callable[[BatchKeeper], Awaitable[object]],
    branch: tuple[int, ...] | None = None,
) -> int | None:
    """Run a batch in a call of its own, below which its items are.

    As a top-level call it has no timeout, only the budget of the session: it takes as long as there are items. The
    policies of nodes are for the items, and not for this call.

    Args:
        node: The node of the items.
        keep_records: "failures" or "summary".
        returns: Whether exceptions of items are returned, and do not end the batch.
        run: Makes the calls. It is not called if the batch had completed in the run that is resumed.
        branch: The task of the calling call that makes it; None: that of the current task.

    Returns:
        The number of items of a batch that had completed then; None for one that has run.

    Raises:
        BaseException: what ``run`` raises.
    """
    has_run = False

    async def batch(_: str) -> int:  # which node it is of, to distinguish batches
        nonlocal has_run
        has_run = True
        keeper = BatchKeeper(current.get(), node, keep_records, returns)
        try:
            await run(keeper)
        finally:
            keeper.finish()
        return keeper.summary.items

    # What its caller had left is gone on with: it gets no results of the items that were done.
    call = FunctionNode(
        batch, name=f"batch of {node.name}", node_type="Other", is_async=True, origin=BATCH, retry_on_resume=True,
        policies=OWN_POLICIES,
    )  # fmt: skip
    call.code = node.code  # when that has changed, the batch has
    frame: Frame = current.get()
    args = (node.key or node.name,)
    if frame.run is None:
        root = frame.coordinator.new_root(timeout=math.inf)
        count = await enter(call, args, {}, frame, branch=branch, root=root)
    else:
        count = await call_here(call, args, {}, branch)
    return None if has_run else count
