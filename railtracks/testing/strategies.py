"""Hypothesis strategies: call trees, session options, fault plans, seeds. Each shrinks to what a person reads.

    @given(flows(), session_options(), fault_plans(), seeds())
    def test_it_keeps_the_promise(flow, options, faults, seed):
        check(simulate(flow, seed=seed, faults=faults, **options))

Needs Hypothesis: ``pip install '.[testing]'`` in a checkout of the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import strategies as st

from railtracks._options import BACKENDS
from railtracks.nodes._resolve import as_node
from railtracks.testing import faults as f
from railtracks.testing import trees as t

__all__ = ["backends", "fault_plans", "flows", "seeds", "session_options"]

_seconds = st.integers(0, 4)
_KEYS = ("a", "b")


def seeds() -> st.SearchStrategy[int]:
    """Seeds for ``simulate``; they shrink to 0."""
    return st.integers(0, 2**16 - 1)


def backends() -> st.SearchStrategy[str]:
    """ "asyncio" and "trio"; they shrink to the first."""
    return st.sampled_from(BACKENDS)


def session_options() -> st.SearchStrategy[dict[str, Any]]:
    """Options of a session that make a difference; they shrink to none. The timeout is always finite."""
    return st.fixed_dictionaries(
        {},
        optional={
            "timeout": st.sampled_from([2.5, 6.5]),
            "end_on_error": st.just(True),
            "save_state": st.just(False),
            "durability": st.sampled_from(["sync", "exit"]),
        },
    )


def _leaves() -> st.SearchStrategy[t.Tree]:
    return st.one_of(
        st.builds(t.Return, st.integers(0, 9)),
        st.builds(t.Raise),
        st.builds(t.Sleep, _seconds),
        st.builds(t.Put, st.sampled_from(_KEYS), st.integers(0, 9)),
        st.builds(t.Broadcast, st.integers(0, 9)),
        st.builds(t.Shield, _seconds),
        st.builds(t.Swallow, _seconds),
        st.builds(t.Thread, _seconds),
        st.builds(t.Hang),
        st.builds(t.Fatal),
    )


def _branches(children: st.SearchStrategy[t.Tree]) -> st.SearchStrategy[t.Tree]:
    many = st.lists(children, max_size=4)

    def of_many(kind: Callable[..., t.Tree], **options: st.SearchStrategy[Any]) -> st.SearchStrategy[t.Tree]:
        return st.builds(lambda parts, given: kind(*parts, **given), many, st.fixed_dictionaries({}, optional=options))

    return st.one_of(
        of_many(t.Sequence),
        of_many(t.Parallel),
        of_many(t.Batch, limit=st.just(2), strict=st.just(True)),
        of_many(t.Race),
        st.builds(t.Try, children),
        st.builds(t.Retry, children, st.integers(2, 3)),
        st.builds(t.Timeout, children, st.sampled_from([1.5, 3.5])),
        st.builds(lambda part, given: t.Nested(part, **given), children, session_options()),
    )


def flows(max_leaves: int = 10) -> st.SearchStrategy[t.Tree]:
    """Call trees of ``railtracks.testing.trees``.

    Args:
        max_leaves: How many leaves they have, about, at the most.
    """
    return st.recursive(_leaves(), _branches, max_leaves=max_leaves)


def fault_plans(
    nodes: Iterable[Any] = (),
    *,
    exceptions: Iterable[Exception | type[Exception]] = (ConnectionError("injected"),),
    store: bool = True,
    kill: bool = False,
    max_size: int = 3,
) -> st.SearchStrategy[list[f.Fault | f.StoreFault]]:
    """Plans for ``simulate``; they shrink to none.

    Args:
        nodes: The nodes, or their names, at which something may go wrong; without any, all of them.
        exceptions: What calls may raise.
        store: Faults of the store too; False: only at calls.
        kill: The process may be killed too; for sessions that keep a journal.
        max_size: How many faults, at the most.
    """
    names: list[str | None] = [node if isinstance(node, str) else as_node(node, "fault_plans").name for node in nodes]
    at = st.sampled_from(names or [None])
    after = st.booleans()
    raising = st.builds(f.Raise, st.sampled_from(list(exceptions)), after)
    action = st.one_of(
        raising,
        raising,  # twice: it is what goes wrong most
        st.builds(f.Delay, st.integers(1, 4), after),
        st.sampled_from([f.Hang(), f.Return(None), f.Cancel(), f.LoseWorker()]),
    )
    call = st.sampled_from([1, 1, 2, 3, 4, 5])  # most nodes are called once
    kinds: list[st.SearchStrategy[Any]] = [
        st.builds(f.Fault, at, action, call),
        st.builds(f.Fault, at, action, st.none(), st.sampled_from([1.0, 0.5, 0.2])),
    ]
    if store:
        error = st.sampled_from(["disk full", "no permission"])
        kinds.append(st.builds(f.FailSave, error, st.sampled_from(["save", "open", "append"]), st.integers(0, 4)))
    if kill:
        kinds.append(st.builds(f.Kill, st.integers(0, 12)))
    return st.lists(st.one_of(kinds), max_size=max_size)
