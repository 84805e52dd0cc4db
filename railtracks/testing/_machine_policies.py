"""The policies of calls that ``SessionMachine`` draws, and what runs a tree for calls that may be equal."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from railtracks import call
from railtracks._test_probe import Cache, Limit, Retry
from railtracks.nodes import function_node
from railtracks.testing import trees
from railtracks.testing.strategies import some_of

# The nodes of one name must have the same limit, so each name has one.
LIMITS = (Limit("one", concurrency=1), Limit("two", concurrency=2), Limit("rate", rate="2/3s"))
RETRIES = tuple(Retry(attempts=attempts, wait_initial=1, wait_jitter=0, timeout=None) for attempts in (2, 3))


def machine_policies() -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for the policies of calls, of which the model knows these; they shrink to none."""
    return some_of(
        {
            "timeout": st.sampled_from([3.23, 1.23]),  # no sum of these is the end of a session
            "retries": st.sampled_from(RETRIES),
            "limit": st.sampled_from(LIMITS),
            "cache": st.just(Cache(key=repr)),
            "where": st.just("pool"),
        }
    )


async def run_tree(tree: trees.Tree) -> Any:
    """Run a tree by one function for all, so that equal trees are equal calls."""
    return await (call(function_node(tree)) if isinstance(tree, trees.Thread) else tree())
