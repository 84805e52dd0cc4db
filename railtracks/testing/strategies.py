"""Hypothesis strategies for call trees, session options, fault plans and seeds. They shrink to what is simple to read.

    @given(flows(), session_options(), fault_plans(), seeds())
    def test_it_keeps_the_promise(flow, options, faults, seed):
        check(simulate(flow, seed=seed, faults=faults, **options))

Needs Hypothesis: ``pip install '.[testing]'`` in a checkout of the repository.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

import attrs
from hypothesis import strategies as st

from railtracks import Flow
from railtracks._test_probe import BACKENDS, Cache, Limit, Retry, as_node
from railtracks.exceptions import ConfigError
from railtracks.testing import faults as f
from railtracks.testing import trees as t
from railtracks.testing._arguments import as_list, as_mapping, check_flag, check_number
from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing._simulation._simulate import simulate
from railtracks.testing._simulation._sweep_plans import (
    EXCEPTIONS,
    Place,
    calls_of,
    cancellations,
    delays_of,
    few,
    overlapping,
    spread,
)

__all__ = [
    "backends",
    "executors",
    "fault_plans",
    "flows",
    "model_faults",
    "networks",
    "policies",
    "seeds",
    "session_options",
]

_seconds = st.integers(0, 4)
_KEYS = ("a", "b")


def seeds() -> st.SearchStrategy[int]:
    """Return a strategy for seeds of ``simulate``; they shrink to 0."""
    return st.integers(0, 2**16 - 1)


def backends() -> st.SearchStrategy[str]:
    """Return a strategy for "asyncio" and "trio"; they shrink to "asyncio"."""
    return st.sampled_from(BACKENDS)


def session_options(limits: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for session options that make a difference; they shrink to none. The timeout is finite.

    Args:
        limits: Whether there may be limits on calls among them, over which calls fail or wait: ``max_concurrency``,
            ``max_calls`` and ``max_depth``.
    """
    options: dict[str, st.SearchStrategy[Any]] = {
        "timeout": st.sampled_from([2.5, 6.5]),
        "end_on_error": st.just(True),
        "save_state": st.just(False),
        "durability": st.sampled_from(["sync", "exit"]),
    }
    if limits:
        options["max_concurrency"] = st.sampled_from([2, 1])
        options["max_calls"] = st.sampled_from([20, 6])
        options["max_depth"] = st.sampled_from([6, 3])
    return some_of(options)


_RETRIES = (
    Retry(attempts=2, wait_initial=1, wait_jitter=0),
    Retry(attempts=3, wait_initial=0.5, wait_jitter=1),
)
# The nodes of one name must have the same limit, so each name has one.
_LIMITS = (
    2,
    1,
    Limit("one", concurrency=1),
    Limit("one", concurrency=1, wait=1.5),
    Limit("rate", rate="2/3s"),
    Limit("both", concurrency=2, rate="3/2s"),
)


def policies(places: Iterable[str] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for policies of calls, for ``node.options(**policies)``; they shrink to none.

    Waits for the next attempt take up to 1.5 s, and limits let one to three calls run or begin. Results are cached by
    the repr of the one argument.

    Args:
        places: Where calls may run besides their own place: "thread" for async nodes, "process", or executors that
            the session has.
    """
    drawn: dict[str, st.SearchStrategy[Any]] = {
        "timeout": st.sampled_from([3.25, 1.25]),
        "retries": st.sampled_from(_RETRIES),
        "limit": st.sampled_from(_LIMITS),
        "cache": st.just(Cache(key=repr)),
    }
    if where := as_list("policies", "places", places, "write a list, such as ['thread']"):
        drawn["where"] = st.sampled_from(where)
    return some_of(drawn)


def executors() -> st.SearchStrategy[f.Executor]:
    """Return a strategy for executors of ``Session(executors={"pool": ...})``; they shrink to one that loses nothing.

    What goes wrong is in the plan of each: see :class:`railtracks.testing.faults.Executor`.
    """
    plan = st.dictionaries(st.integers(1, 4), st.sampled_from(get_args(f.WorkerFault)), max_size=2)
    return st.builds(lambda plan, seed: f.Executor(plan, seed=seed), plan, st.integers(0, 9))


def networks(members: Iterable[str] = (), *, messages: int = 12, max_size: int = 3) -> st.SearchStrategy[f.Network]:
    """Return a strategy for networks between the members of a cluster; they shrink to one that loses nothing.

    Args:
        members: The names of the members. Without at least two there are no partitions.
        messages: The highest number of a message that goes wrong.
        max_size: The highest number of messages that go wrong.
    """
    names = as_list("networks", "members", members, "write a list of names: networks(['a', 'b'])")
    for name in names:
        if not isinstance(name, str):
            raise ConfigError(f"networks: {name!r} is not the name of a member; use a string")
    names.sort()
    check_number("networks", "messages", messages, 1)
    check_number("networks", "max_size", max_size, 0)
    plan = st.dictionaries(st.integers(1, messages), st.sampled_from(get_args(f.NetworkFault)), max_size=max_size)
    partitions: st.SearchStrategy[list[f.Partition]] = st.just([])
    if len(names) > 1:
        partitions = st.lists(_partitions(names), max_size=1)
    return st.builds(
        f.Network, plan, partitions=partitions, latency=st.sampled_from([0.0, 0.5, 3.0]), seed=st.integers(0, 9)
    )


@st.composite  # so that Hypothesis prints a partition as its repr, which is code
def _partitions(draw: st.DrawFn, names: list[str]) -> f.Partition:
    side = draw(st.lists(st.sampled_from(names), min_size=1, max_size=len(names) - 1, unique=True))
    begins = draw(st.integers(0, 5))
    return f.Partition([side], begins, begins + draw(st.sampled_from([1, 10, 1000])))


def model_faults(
    kinds: Iterable[f.ModelFault] = (), *, requests: int = 4, max_size: int = 3
) -> st.SearchStrategy[dict[int, f.ModelFault]]:
    """Return a strategy for the plans of :class:`railtracks.testing.faults.Model`; they shrink to no faults.

    Args:
        kinds: What may go wrong; if empty, everything that is known.
        requests: The highest number of a request that goes wrong.
        max_size: The highest number of faults in a plan.
    """
    check_number("model_faults", "requests", requests, 1)
    check_number("model_faults", "max_size", max_size, 0)
    known: tuple[f.ModelFault, ...] = get_args(f.ModelFault)
    chosen = as_list("model_faults", "kinds", kinds, "write a list, such as ['rate_limit']")
    for kind in chosen:
        if kind not in known:
            raise ConfigError(f"model_faults: there is no fault {kind!r}; use some of {', '.join(map(repr, known))}")
    drawn = st.sampled_from(chosen or known)
    return st.dictionaries(st.integers(1, requests), drawn, max_size=max_size)


def some_of(options: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for some of these options. Each of them shrinks to none by itself, whatever the others are."""
    drawn = st.fixed_dictionaries({name: st.none() | values for name, values in options.items()})
    return drawn.map(lambda given: {name: value for name, value in given.items() if value is not None})


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


def _branches(
    children: st.SearchStrategy[t.Tree], given: st.SearchStrategy[dict[str, Any]]
) -> st.SearchStrategy[t.Tree]:
    several = st.lists(children, max_size=4)

    def of_several(kind: Callable[..., t.Tree], **options: st.SearchStrategy[Any]) -> st.SearchStrategy[t.Tree]:
        drawn = st.fixed_dictionaries({}, optional=options)
        return st.builds(lambda parts, chosen: kind(*parts, **chosen), several, drawn)

    with_policies = st.builds(lambda part, policies: t.WithPolicies(part, **policies), children, given)
    return st.one_of(
        of_several(t.Sequence),
        of_several(t.Parallel),
        of_several(t.Batch, limit=st.just(2), strict=st.just(True)),
        of_several(t.Race),
        st.builds(t.Try, children),
        st.builds(t.Retry, children, st.integers(2, 3)),
        st.builds(t.Timeout, children, st.sampled_from([1.5, 3.5])),
        st.builds(lambda part, options: t.Nested(part, **options), children, session_options()),
        with_policies,
        # Equal parts, of which one runs if they are cached, and which have one limit.
        st.builds(lambda part, count: t.Batch(*[part] * count), with_policies, st.integers(2, 3)),
    )


def flows(max_leaves: int = 10, *, places: Iterable[str] = ()) -> st.SearchStrategy[t.Tree]:
    """Return a strategy for call trees of ``railtracks.testing.trees``; they shrink to one leaf that returns.

    Args:
        max_leaves: About how many leaves a tree may have.
        places: Where parts of a tree may run, as for :func:`policies`.
    """
    check_number("flows", "max_leaves", max_leaves, 1)
    given = policies(places)
    return st.recursive(_leaves(), lambda children: _branches(children, given), max_leaves=max_leaves)


def fault_plans(
    nodes: Iterable[Any] = (),
    *,
    exceptions: Iterable[Exception | type[Exception]] = EXCEPTIONS,
    store: bool = True,
    kill: bool = False,
    lease: bool = False,
    hang: bool = False,
    returns: Mapping[Any, Any] | None = None,
    like: Outcome | Flow[..., Any] | Callable[..., Any] | None = None,
    max_size: int = 3,
) -> st.SearchStrategy[list[f.Fault | f.StoreFault]]:
    """Return a strategy for fault plans for ``simulate``; they shrink to no faults.

    Args:
        nodes: The nodes, or their names, at which something may go wrong; if empty, all nodes; with ``like``, all that
            it called but the one that was run.
        exceptions: The exceptions that calls may raise; by default a ConnectionError and a ValueError.
        store: Whether the store may fail, once or for ever, and take long as well.
        kill: Whether the process may be killed as well; needs sessions that keep a journal.
        lease: Whether another machine may take the run over as well; it does in sessions that keep a journal.
        hang: Whether calls may hang and lose their workers as well. They do not end until they are cancelled.
        returns: What calls may return in place of their results, by node or its name; by None, at any node.
        like: A run in which nothing went wrong, ``like=simulate(flow, ...)``; or a flow or node without arguments,
            ``like=flow``, which is run once. Faults are at calls that it made, delays are a little longer than its
            timers, kills are at its journal entries, the run is also cancelled in its waits, and calls that ran at one
            time may fail together. Without it the ranges are guessed: the first 8 calls, up to 60 seconds, up to 30
            entries.
        max_size: The highest number of faults in a plan.

    Raises:
        ConfigError: an argument is not allowed, ``like`` is not an outcome, flow or node, it failed when it was run, or
            it made no call of ``nodes``.
    """
    names = f.node_names("fault_plans", nodes)
    for name, flag in (("store", store), ("kill", kill), ("lease", lease), ("hang", hang)):
        check_flag("fault_plans", name, flag)
    check_number("fault_plans", "max_size", max_size, 0)
    ranges = _Ranges.guessed(names) if like is None else _Ranges.of(_clean_run(like), names)
    after = st.booleans()
    exceptions = _exceptions(exceptions)
    raising = st.builds(f.Raise, st.sampled_from(exceptions), after)
    usual = st.builds(f.Raise, st.just(exceptions[0]), after)
    late = st.builds(f.Delay, st.sampled_from(ranges.delays), after)
    cancelled = st.builds(f.Cancel, st.sampled_from([0, *ranges.cancels]))
    stops = _one_in([cancelled, st.sampled_from([f.Hang(), f.LoseWorker()])] if hang else [cancelled])
    action = _one_in([usual, raising, late, late, stops, stops])
    one = st.builds(lambda place, action: [f.Fault(place[0], action, place[1])], st.sampled_from(ranges.places), action)
    often = st.builds(
        lambda node, action, share: [f.Fault(node, action, None, share)],
        st.sampled_from([*dict.fromkeys(node for node, _ in ranges.places)]), action, st.sampled_from([1.0, 0.5, 0.2]),
    )  # fmt: skip
    kinds: list[st.SearchStrategy[Any]] = [one] * 3 + [often]
    if ranges.together and max_size > 1:
        raised = st.permutations([*exceptions, exceptions[0]])  # mostly two that differ
        both = st.builds(_both_fail, st.sampled_from(ranges.together), raised, st.tuples(after, after))
        kinds += [both] * 2
    for node, value in as_mapping("fault_plans", "returns", returns, "write a dict of nodes and values").items():
        at = node if node is None or isinstance(node, str) else as_node(node, "fault_plans").name
        kinds.append(st.builds(partial(_returned, at, value), st.sampled_from(_CALLS)))
    if ranges.waits:
        kinds.append(st.sampled_from(ranges.waits).map(lambda fault: [fault]))
    entries = st.sampled_from(ranges.entries)
    if store:
        kinds.append(_store_faults(ranges.delays).map(lambda fault: [fault]))
    if lease:
        kinds.append(st.builds(lambda count: [f.LoseLease(count)], entries))
    kills = [st.builds(lambda count: [f.Kill(count)], entries)]
    if names and like is None:  # where the entries of a call are is not known
        soon = st.builds(lambda node, call, count: [f.Kill(count, node, call)], st.sampled_from(names),
                         st.sampled_from([1, 1, 1, 2]), st.sampled_from([0, 0, 1]))  # fmt: skip
        kills.append(soon)
    several = st.lists(_one_in(kinds + kills * 2 * kill), max_size=max_size)
    plans = several.map(lambda parts: [*itertools.chain(*parts)][:max_size])
    if not max_size:
        return plans
    # Often one thing goes wrong alone: a run in which more does is over before much of it has happened.
    return _one_in([plans] * len(kinds) + kinds + kills * (len(kinds) // len(kills)) * kill)


def _exceptions(given: Any) -> list[Exception | type[Exception]]:
    exceptions = as_list("fault_plans", "exceptions", given, "write a list: exceptions=[ConnectionError('lost')]")
    if not exceptions:
        raise ConfigError("fault_plans: exceptions is empty; write what calls may raise: exceptions=[ConnectionError]")
    return [f.Raise(each).exception for each in exceptions]  # which refuses what is none


def _one_in(parts: Sequence[st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Draw from one of the parts, each as likely as it is often there.

    ``st.one_of`` takes equal parts for one, and the parts of a part for parts of its own.
    """
    different = {id(part): part for part in parts}
    places = {each: place for place, each in enumerate(different)}
    return _one_at(st.sampled_from([places[id(part)] for part in parts]), [*different.values()])


@st.composite
def _one_at(draw: st.DrawFn, places: st.SearchStrategy[int], parts: Sequence[st.SearchStrategy[Any]]) -> Any:
    return draw(parts[draw(places)])


def _both_fail(
    places: tuple[Place, Place], exceptions: Sequence[Exception | type[Exception]], after: tuple[bool, bool]
) -> list[f.Fault]:
    actions = map(f.Raise, exceptions, after)
    return [f.Fault(node, action, call) for (node, call), action in zip(places, actions, strict=False)]


def _clean_run(like: Any) -> Outcome:
    """Return the argument ``like`` of ``fault_plans``, or a run of the flow that it is."""
    if isinstance(like, Outcome):
        return like
    if not (isinstance(like, Flow) or callable(like)):
        raise ConfigError(f"fault_plans: like is {like!r}; use a flow or an outcome: like=simulate(flow)")
    outcome = simulate(like)
    if outcome.exception is not None:
        raise ConfigError(
            f"fault_plans: the run of like {outcome.end}; write like=simulate(flow, ...), with its arguments"
        ) from outcome.exception
    return outcome


def _store_faults(delays: Sequence[float]) -> st.SearchStrategy[f.FailSave | f.DelaySave]:
    times = st.sampled_from([None, None, 1, 3])
    error = st.sampled_from(["disk full", "no permission"])
    fails = st.builds(f.FailSave, error, st.sampled_from(["save", "open", "append"]), st.integers(0, 4), times)
    late = st.builds(f.DelaySave, st.sampled_from(delays), st.sampled_from(["save", "sync"]), st.integers(0, 4), times)
    return _one_in([fails, fails, fails, late])


def _returned(node: str | None, value: Any, call: int) -> list[f.Fault]:
    return [f.Fault(node, f.Return(value), call)]


_CALLS = (1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8)
"""Which call of a node goes wrong, if that has to be guessed; most nodes are called once."""


@attrs.frozen
class _Ranges:
    """From what faults are drawn."""

    places: Sequence[tuple[str | None, int | None]]
    delays: Sequence[float]
    entries: Sequence[int]
    cancels: Sequence[float]
    """After how many seconds of a call the run is cancelled."""
    together: Sequence[tuple[Place, Place]] = ()
    waits: Sequence[f.Fault | f.StoreFault] = ()
    """Cancellations of the run while it waits."""

    @classmethod
    def guessed(cls, names: list[str]) -> _Ranges:
        nodes: list[str | None] = [*names] or [None]
        places = [(node, call) for call in _CALLS for node in nodes]
        first = [((one, 1), (other, 1)) for one, other in itertools.combinations(names, 2)]
        together = [*first, *first, *(((name, 1), (name, 2)) for name in names)]
        return cls(places, [1, 2, 3, 4, 10, 30, 60], range(31), [0, 0, 0.5, 2], together)

    @classmethod
    def of(cls, like: Outcome, names: list[str]) -> _Ranges:
        calls = calls_of(like)
        chosen = [call for call in calls if call.place[0] in names] if names else calls[1:]
        if not chosen:
            raise ConfigError(f"fault_plans: {like!r} made no call of {', '.join(names) or 'another node'}; name nodes")
        together = [(one.place, other.place) for one, other in overlapping(few(chosen))]
        halves = {round(call.seconds / 2, 6) for call in chosen if 0 < call.seconds < math.inf}
        cancels = spread(sorted({min(delays_of(like)) / 2, *halves}))[:4]
        places, entries = [call.place for call in chosen], range(len(like.trace))
        waits = [fault for plan in cancellations(like, chosen if names else calls) for fault in plan.faults]
        return cls(places, delays_of(like), entries, cancels, together, waits)
