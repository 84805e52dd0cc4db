"""Two examples of planted defects: one in a flow, one in the runtime."""

from __future__ import annotations

from unittest import mock

import anyio
from hypothesis import strategies as st

import railtracks as rt
from railtracks.state._transitions import RTState
from railtracks.testing import trees
from tests.harness.planted._planted import Case, Planted


def race_on_context(broken):
    """Read, wait, and write, so that two calls may read the same balance."""
    lock = None if broken else anyio.Lock

    @rt.function_node
    async def deposit(amount):
        async def add():
            balance = rt.context.get("balance", 0)
            await anyio.sleep(0)
            rt.context.put("balance", balance + amount)

        if lock is None:
            await add()
        else:
            async with rt.context.get("lock"):
                await add()

    @rt.function_node
    async def deposits(amounts):
        if lock is not None:
            rt.context.put("lock", lock())
        await rt.call_batch(deposit, amounts)
        return rt.context.get("balance", 0)

    def nothing_is_lost(outcome):
        assert outcome.result == sum(outcome.args[0])

    return Case(deposits, (nothing_is_lost,))


def completed_for_cancelled(broken):
    """Record a call that was cancelled as Completed."""
    variant = mock.patch.object(
        RTState, "cancelled", lambda self, record, reason, now: self.succeeded(record, None, now)
    )
    return Case(trees.Sequence(trees.Sleep(3)), variant=variant) if broken else Case(trees.Sequence(trees.Sleep(3)))


PLANTED = [
    Planted(
        "race on context", "two calls read, wait and write one key", race_on_context,
        st.builds(lambda amounts: {"args": (amounts,)}, st.lists(st.integers(1, 9), max_size=5)),
    ),
    Planted(
        "completed for cancelled", "the state says Completed for a call that was cancelled", completed_for_cancelled,
        st.fixed_dictionaries({"timeout": st.sampled_from([1.0, 2.0, 5.0])}),
    ),
]  # fmt: skip
