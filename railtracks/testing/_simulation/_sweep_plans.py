"""The plans of a sweep: what can go wrong in a run, as a run in which nothing went wrong shows."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing.faults import (
    Action,
    Cancel,
    Delay,
    DelaySave,
    FailSave,
    Fault,
    Hang,
    LoseWorker,
    Raise,
    Return,
    StoreFault,
)

T = TypeVar("T")

Place = tuple[str, int]
"""The name of a node, and which call of it, counted from 1."""

EXCEPTIONS: tuple[Exception | type[Exception], ...] = (ConnectionError("injected"), ValueError("injected"))
"""What calls raise if the user does not say it: what flows are written for, and what few are written for."""
MOST_DELAYS = 8
"""How many delays are tried at a call."""
SEEDS_OF_PAIRS = 4
"""With how many seeds two calls fail that run at one time: which of them fails first depends on the order."""
MOST_SINGLE_FAILURES = 5
"""How many single failures of each operation of a store are tried."""
FEW = 40
"""Of how many calls, and of how many kills, pairs are made."""
SHORTEST_SPAN = 1e-5
"""The shortest time, in seconds, in the middle of which a run is cancelled."""
ANY_DELAYS = (1.0, 60.0)
"""Delays in seconds that are tried whatever the timers of a flow are: it may read the clock instead."""


@attrs.frozen
class Plan:
    """What goes wrong in one run of a sweep, and in those that resume it."""

    kind: str
    """The row of the table that it counts for."""
    faults: tuple[Fault | StoreFault, ...] = ()
    kills: tuple[int, ...] = ()
    """After how many journal entries each process is killed."""
    seed: int = 0
    """By how much its seed is higher than that of the sweep."""

    @property
    def cost(self) -> int:
        """How many runs it takes."""
        return 1 + len(self.kills)


@attrs.frozen
class CleanCall:
    """A call of a run in which nothing went wrong."""

    place: Place
    began: int
    """How many calls had begun or ended before it began."""
    ended: float
    """How many before it ended; infinite if it did not."""
    time: float
    """When it began, in virtual seconds."""
    seconds: float
    """How long it took."""


def calls_of(outcome: Outcome) -> list[CleanCall]:
    """Return the calls of a run that faults can be injected at, in the order in which they began."""
    names = {(event.session, event.call): event.name for event in outcome.trace if event.what == "created"}
    seen: Counter[str] = Counter()
    found = []
    for key, observed in sorted(outcome.calls.items(), key=lambda item: item[1].begin_order):
        if (name := names.get(key)) is not None:
            seen[name] += 1
            ended = observed.order if observed.order >= 0 else math.inf
            seconds = observed.time - observed.began
            found.append(CleanCall((name, seen[name]), observed.begin_order, ended, observed.began, seconds))
    return found


def overlapping(calls: Sequence[CleanCall]) -> list[tuple[CleanCall, CleanCall]]:
    """Return the pairs of calls that ran at one time."""
    return [(one, other) for one, other in itertools.combinations(calls, 2) if other.began < one.ended]


def places_of(outcome: Outcome) -> list[Place]:
    """Return the calls of a run that faults can be injected at."""
    return [call.place for call in calls_of(outcome)]


def delays_of(outcome: Outcome) -> list[float]:
    """Return the delays that matter to a flow, in seconds: a short one, and a little more than each of its timers."""
    timers = [*outcome.timers, *([outcome.duration] if outcome.duration > 0 else [])]
    short = min(timers, default=1.0) / 10
    longer = {round(timer + min(1.0, max(timer / 10, 0.001)), 3) for timer in timers}
    return sorted(spread(sorted({round(short, 4), *longer, *ANY_DELAYS}))[:MOST_DELAYS])


def spread(items: Sequence[T]) -> list[T]:
    """Return the items in an order of which each beginning is spread evenly over all: the ends, then the middles."""
    ends = [0, len(items) - 1] if len(items) > 1 else [*range(len(items))]
    parts = [(0, len(items) - 1)]
    for low, high in parts:  # grows meanwhile
        if high - low > 1:
            middle = (low + high) // 2
            ends.append(middle)
            parts += [(low, middle), (middle, high)]
    return [items[index] for index in ends]


def few(items: Sequence[T]) -> list[T]:
    """Return the items, or if there are many some of them, spread evenly, in their order."""
    chosen = {*spread(range(len(items)))[:FEW]}
    return [item for place, item in enumerate(items) if place in chosen]


@attrs.frozen
class Actions:
    """What may go wrong at one call."""

    exceptions: tuple[Exception | type[Exception], ...]
    delays: tuple[float, ...]
    hang: bool
    returns: Mapping[str, Any]

    def at(self, node: str) -> Iterator[tuple[str, Action]]:
        """Yield what may go wrong at a call of the node, each with the kind that it is of."""
        for after, suffix in ((False, ""), (True, ", after the work")):
            for exception in self.exceptions:
                yield f"raises{suffix}", Raise(exception, after)
            for seconds in self.delays:
                yield f"is late{suffix}", Delay(seconds, after)
        yield "cancelled", Cancel()
        if self.hang:
            yield "hangs", Hang()
            yield "loses its worker", LoseWorker()
        if node in self.returns:
            yield "returns something else", Return(self.returns[node])


def single_faults(places: Sequence[Place], actions: Actions) -> list[Plan]:
    """Return the plans with one fault each: at each call, and at all calls of a node."""
    plans, known = [], {*places}
    for node in dict.fromkeys(name for name, _ in places):
        for kind, action in actions.at(node):
            if isinstance(action, Raise | Delay) and not action.after and (node, 2) in known:
                plans.append(Plan(f"each call {kind}", (Fault(node, action),)))
    for node, call in places:
        plans += [Plan(f"a call {kind}", (Fault(node, action, call=call),)) for kind, action in actions.at(node)]
    return plans


def cancellations(outcome: Outcome, calls: Sequence[CleanCall]) -> list[Plan]:
    """Return the plans in which the run is cancelled while it waits in one of the calls.

    It is cancelled in the middle of each span of time between two events of the run. A call may sleep several times
    with no event in between, so a span also ends where a timer would that was set at its beginning.
    """
    times = sorted({event.time for event in outcome.trace})
    plans = []
    for begin, end in itertools.pairwise(times):
        ends = [begin + timer for timer in outcome.timers if begin + timer < end - SHORTEST_SPAN]
        for one, other in itertools.pairwise([begin, *ends, end]):
            moment = (one + other) / 2
            running = [call for call in calls if call.time < moment < call.time + call.seconds]
            if running and other - one > SHORTEST_SPAN:
                last = max(running, key=lambda call: call.began)
                cancel = Cancel(round(moment - last.time, 6))
                plans.append(Plan("cancelled during a call", (Fault(last.place[0], cancel, call=last.place[1]),)))
    return few(plans)


def store_failures(writes: Mapping[str, int]) -> list[Plan]:
    """Return the plans in which the store fails from one of its writes on, and those in which it fails once.

    Args:
        writes: How often each operation of the store wrote.
    """
    always = [
        Plan("the store fails", (FailSave(at=at, after=after),))  # type: ignore[arg-type]
        for at, count in writes.items()
        for after in range(count)
    ]
    once = [
        Plan("the store fails once", (FailSave(at=at, after=after, times=1),))  # type: ignore[arg-type]
        for at, count in writes.items()
        for after in sorted(spread(range(count))[:MOST_SINGLE_FAILURES])
    ]
    return [*always, *once]


def store_delays(writes: Counter[str], delays: Sequence[float]) -> list[Plan]:
    """Return the plans in which the store takes long: a little, as long as most timers, and longer than all.

    Args:
        writes: How often each operation of the store wrote.
        delays: The delays that matter to the flow.
    """
    chosen = sorted({delays[0], delays[len(delays) // 2], delays[-1]}) if delays else []
    return [
        Plan("the store is late", (DelaySave(seconds, at),))
        for at in ("save", "sync")
        if writes[at]
        for seconds in chosen
    ]


def kills(entries: int) -> list[Plan]:
    """Return the plans in which a run that writes so many journal entries is killed once."""
    return [Plan("killed, and resumed", kills=(after,)) for after in range(entries)]


def second_kills(entries: int) -> list[Plan]:
    """Return the plans in which a run is killed, resumed and killed again."""
    after = few(range(entries))
    pairs = [(first, second) for first in after for second in range(entries - first)]
    return [Plan("killed again, and resumed", kills=pair) for pair in pairs]


def pairs_of_faults(calls: Sequence[CleanCall], actions: Actions) -> list[Plan]:
    """Return the plans in which two calls go wrong: those first that run at one time, and those that raise."""
    raises: list[Action] = [Raise(exception) for exception in actions.exceptions]
    lost: list[Action] = [Raise(exception, after=True) for exception in actions.exceptions[:1]]
    slow: list[Action] = [Delay(actions.delays[len(actions.delays) // 2])] if actions.delays else []
    both_raise: list[tuple[Action, ...]] = [*itertools.product(raises, repeat=2)]
    others = [both for both in itertools.product([*raises, *lost, *slow], repeat=2) if both not in both_raise]
    calls = few(calls)
    together = overlapping(calls)
    known = {*together}
    apart = [pair for pair in itertools.combinations(calls, 2) if pair not in known]
    seeds = range(SEEDS_OF_PAIRS)
    return [
        _pair(*each)
        for each in (
            *spread([*itertools.product(together, both_raise, seeds)]),
            *spread([*itertools.product(together, others, seeds[:1])]),
            *spread([*itertools.product(apart, [*both_raise, *others], seeds[:1])]),
        )
    ]


def _pair(pair: tuple[CleanCall, CleanCall], actions: tuple[Action, ...], seed: int) -> Plan:
    faults = [Fault(call.place[0], action, call=call.place[1]) for call, action in zip(pair, actions, strict=True)]
    return Plan("two calls fail", tuple(faults), seed=seed)


def faults_after(plan: Plan, new: Iterable[Place], actions: Actions) -> list[Plan]:
    """Return the plans in which a call fails as well that was made because of the fault of ``plan``.

    Args:
        plan: A plan with one fault.
        new: The calls of its run that a run without faults does not make.
        actions: What may go wrong.
    """
    return [
        Plan("two calls fail", (*plan.faults, Fault(node, Raise(exception, after), call=call)))
        for node, call in new
        for after in (False, True)
        for exception in actions.exceptions[:1]
    ]


def again(plan: Plan, new: Iterable[Place]) -> list[Plan]:
    """Return the plan in which each call of a node goes wrong as one did after which the node was called again.

    Args:
        plan: A plan with one fault.
        new: The calls of its run that a run without faults does not make.
    """
    [fault] = plan.faults
    if not isinstance(fault, Fault) or fault.call is None or all(node != fault.node for node, _ in new):
        return []
    return [Plan(plan.kind.replace("a call", "each call", 1), (Fault(fault.node, fault.does),))]


def shares(costs: Mapping[str, int], budget: int) -> dict[str, int]:
    """Return how many runs each kind may take: as equal as it can be, and none more than it needs."""
    found = {}
    for place, (kind, cost) in enumerate(sorted(costs.items(), key=lambda item: item[1])):
        found[kind] = min(cost, budget // (len(costs) - place))
        budget -= found[kind]
    return found
