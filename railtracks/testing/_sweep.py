"""``sweep``: run a flow once, and then again with each thing that can go wrong in it."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from railtracks import Flow
from railtracks._test_probe import counted, resolve_store
from railtracks.state import MemoryStore
from railtracks.testing._arguments import check_function, check_left_out
from railtracks.testing._simulation import _sweep_plans as plans
from railtracks.testing._simulation._injection import FaultyStore, ProcessKilled
from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing._simulation._questions import InvariantError
from railtracks.testing._simulation._restarts import simulate_restarts
from railtracks.testing._simulation._simulate import simulate
from railtracks.testing._simulation._sweep_plans import EXCEPTIONS, Plan
from railtracks.testing._sweep_options import MAX_RUNS, PAIRS, SweepOptions
from railtracks.testing._virtual_time._stuck_errors import EndlessRun
from railtracks.testing.faults import Fault
from railtracks.testing.invariants import Invariant, Violation, as_invariants, check


@attrs.frozen
class Subject:
    """What one run of a sweep runs and asserts. A new one is made for each, so that nothing is left of the last."""

    target: Any
    args: tuple[Any, ...] = ()
    invariants: tuple[Invariant, ...] = ()
    restart: Callable[[], object] | None = None
    """Called before a run that was killed is resumed."""


@attrs.frozen(eq=False, repr=False)
class Sweep:
    """The result of :func:`railtracks.testing.sweep`; ``str(result)`` is a table of what was tried.

    Use ``check`` in a test. Nothing that was found is raised before.
    """

    clean: Outcome
    """The run in which nothing went wrong."""
    runs: int
    """How many runs it took. A run that is killed, and each that resumes it, count."""
    violations: tuple[Violation, ...]
    """What was found, the simplest first: that with the fewest faults, and of these the one with the shortest story."""
    tried: dict[str, int]
    """How many plans were tried, by their kinds."""
    failed: dict[str, int]
    """How many of them broke an invariant, by their kinds."""
    left_out: str
    """What was not tried, and why; empty if everything was."""

    def check(self) -> None:
        """Raise the first of ``violations``, with the table as a note. Does nothing if there are none."""
        if self.violations:
            raise self.violations[0]

    def __repr__(self) -> str:
        return f"<Sweep: {counted(self.runs, 'run')}, {counted(len(self.violations), 'violation')}>"

    def __str__(self) -> str:
        width = max(map(len, self.tried), default=0)
        rows = [f"  {kind:<{width}}  {count:>5}  {self.failed.get(kind, 0):>10}" for kind, count in self.tried.items()]
        lines = [
            f"{counted(self.runs, 'run')}, {counted(len(self.violations), 'violation')}",
            f"  {'':<{width}}  plans  violations", *rows, f"left out: {self.left_out or 'nothing'}",
        ]  # fmt: skip
        return "\n".join(lines)


def sweep(
    target: Flow[..., Any] | Callable[..., Any],
    /,
    *args: Any,
    invariants: Iterable[Invariant] = (),
    setup: Callable[[], object] | None = None,
    restart: Callable[[], object] | None = None,
    nodes: Iterable[Any] = (),
    exceptions: Iterable[Exception | type[Exception]] = EXCEPTIONS,
    hang: bool = False,
    returns: Mapping[Any, Any] | None = None,
    raises: type[BaseException] | tuple[type[BaseException], ...] | None = None,
    kills: bool = True,
    pairs: int = PAIRS,
    max_runs: int = MAX_RUNS,
    seed: int = 0,
    backend: str | None = None,
    **options: Any,
) -> Sweep:
    """Run a flow once as it is, and then with each thing that can go wrong in it, one at a time. Blocks.

    The first run shows the calls, the timers and the journal entries. Then each call raises, before and after its work;
    is late by a little, and by a little more than each timer of the flow, before and after its work; and is cancelled
    with the whole run. Each call of a node raises or is late. The store fails from each of its writes on. The process
    is killed after each journal entry, and the run is resumed; and is killed once more, and resumed again. At last
    two calls fail. Every run is checked as ``check(outcome, *invariants)`` does. A run that does not end
    (``EndlessRun``) takes long, so it is the last one. The same each time::

        sweep(shop, "A1", invariants=[no_order_is_charged_twice], setup=bank.clear).check()

    Args:
        target: A flow, or anything that ``rt.call`` takes.
        *args: Its arguments.
        invariants: More invariants, for ``check``. They have to hold whatever goes wrong, and of a run that was killed.
        setup: Called before each run, to reset what the flow changes outside of it. It is not called before a run is
            resumed: what a killed process did stays done.
        restart: Called before each run is resumed, to clear what a process that dies loses: variables in memory, such
            as those of a module. Without it they are still there.
        nodes: The nodes, or their names, at whose calls something goes wrong; if empty, all but the one that is run.
        exceptions: The exceptions that calls raise; by default a ConnectionError and a ValueError.
        hang: Whether calls may hang and lose their workers, too: they do not end until they are cancelled.
        returns: What calls may return in place of their results, by node or its name. By default nothing.
        raises: The class, or classes, of the exception that must leave the run when nothing goes wrong. By default any
            may, with a warning: a flow that fails by itself does not get to what could go wrong.
        kills: Whether to kill and resume the process.
        pairs: How many pairs of faults, and how many pairs of kills, are tried at most.
        max_runs: How many runs it takes at most, in about 5 ms each. All kinds of faults get a share; ``left_out``
            says what was not tried.
        seed: Decides the order of tasks. It is the same in all runs, but for those that are resumed, where it is 1
            higher each time, and for those in which two calls fail at one time, which are tried with some more seeds.
        backend: "asyncio" or "trio". By default that of the flow, as of ``flow.invoke``.
        **options: Other arguments of ``simulate`` except ``faults`` and ``clock``, and those of ``rt.Session``.

    Returns:
        What was tried and found. Call its ``check``.

    Raises:
        Violation: the run in which nothing goes wrong broke an invariant, or did not raise what ``raises`` names.
        ConfigError: an argument is not allowed, or a name in ``nodes`` or ``returns`` is not that of a node that was
            called in the first run. A node that is called only if something goes wrong is given itself.
        Exception: as of ``simulate``, and what ``setup`` and ``restart`` raise.
    """
    check_left_out("sweep", options, {"faults": "it injects its own", "clock": "each run has its own"})
    invariants = as_invariants("sweep", invariants)
    for name, function in (("setup", setup), ("restart", restart)):
        if function is not None:
            check_function("sweep", name, function, "use a function without arguments")

    def make() -> Subject:
        if setup is not None:
            setup()
        return Subject(target, args, invariants, restart)

    result = sweep_subjects(
        make, nodes=nodes, exceptions=exceptions, hang=hang, returns=returns, raises=raises, kills=kills,
        pairs=pairs, max_runs=max_runs, seed=seed, backend=backend, **options,
    )  # fmt: skip
    if raises is None and (failure := result.clean.exception) is not None:
        warnings.warn(
            f"sweep: with nothing going wrong, the run {result.clean.end}; what would follow was not tried. "
            f"If it should raise that, write raises={type(failure).__name__}",
            stacklevel=2,
        )
    return result


def sweep_subjects(make: Callable[[], Subject], **options: Any) -> Sweep:
    """Do as ``sweep`` with what ``make`` makes for each run, and the other arguments of ``sweep``."""
    own = SweepOptions.names()
    how = SweepOptions(**{name: value for name, value in options.items() if name in own})
    names, pairs = how.node_names, how.pairs
    simulated = {name: value for name, value in options.items() if name not in own}
    sweeping = _Sweeping(make, {"seed": 0, **simulated}, how.max_runs)
    sweeping.run_clean(how.raises)
    if sweeping.clean.exception is not None:
        sweeping.left_out.append(f"what would follow: with nothing going wrong, the run {sweeping.clean.end}")
    learned = plans.calls_of(sweeping.clean)
    how.check_names(call.place[0] for call in learned)
    chosen = [call for call in learned if call.place[0] in names] if names else learned[1:]
    actions = plans.Actions(how.exceptions, tuple(plans.delays_of(sweeping.clean)), how.hang, how.returned)
    if missing := sorted({*names, *actions.returns} - {call.place[0] for call in learned}):
        sweeping.left_out.append(f"{', '.join(missing)}: not called when nothing goes wrong")
    if not chosen:
        sweeping.left_out.append("faults at calls: there is no call to inject them at")
    first = [
        *plans.single_faults([call.place for call in chosen], actions),
        *plans.cancellations(sweeping.clean, chosen if names else learned),
        *plans.store_failures(sweeping.writes),
        *plans.store_delays(sweeping.writes, actions.delays),
    ]
    second = []
    if how.kills and sweeping.has_journal:
        first += plans.kills(sweeping.writes["append"])
        second = plans.second_kills(sweeping.writes["append"])
    elif how.kills:
        sweeping.left_out.append("kills: the session keeps no journal (save_state=False or durability='exit')")
    sweeping.run_plans(first, keep=min(5 * pairs, how.max_runs // 5))
    double = [*sweeping.faults_after(names, actions), *plans.pairs_of_faults(chosen, actions)]
    repeated = sweeping.faults_again() if pairs else []
    last = [*_some(plans.spread(second), pairs, sweeping), *repeated, *_some(double, pairs, sweeping)]
    sweeping.run_plans(last, in_order=True)
    return sweeping.result()


def _ends_as_expected(raises: tuple[type[BaseException], ...]) -> Invariant:
    """Return an invariant of the run in which nothing goes wrong: it raises one of these."""
    expected = " or ".join(kind.__name__ for kind in raises)

    def it_ends_as_expected_when_nothing_goes_wrong(outcome: Outcome) -> None:
        if outcome.exception is None:
            raise AssertionError(f"it {outcome.end}, and raises={expected} is given; leave that out if it may return")
        if not isinstance(outcome.exception, raises):
            text = f"it {outcome.end}; raises={expected} is given"
            raise InvariantError(text, (outcome.info.session_id, 0)) from outcome.exception

    return it_ends_as_expected_when_nothing_goes_wrong


def _some(candidates: list[Plan], most: int, sweeping: _Sweeping) -> list[Plan]:
    """Return the first ``most`` of the plans, and note how many are left out."""
    if len(candidates) > most > 0:
        sweeping.left_out.append(f"{candidates[0].kind}: {len(candidates) - most} of {len(candidates)} (pairs={most})")
    return candidates[:most]


def _length(outcome: Outcome | None) -> int:
    """Return how many events there were in a run, and in those before it that it resumed."""
    return 0 if outcome is None else len(outcome.trace) + _length(outcome.before)


class _Sweeping:
    """The state of one sweep.

    Attributes:
        clean: The run in which nothing went wrong.
        writes: How often each operation of the store wrote in it.
        left_out: What is not tried, and why.
    """

    def __init__(self, make: Callable[[], Subject], options: dict[str, Any], max_runs: int) -> None:
        self._make, self._options, self._max_runs = make, options, max_runs
        self._runs = 0
        self._has_endless_run = False  # and others may take as long
        self._tried: Counter[str] = Counter()
        self._found: list[tuple[Plan, Violation]] = []
        self._new: list[tuple[Plan, list[plans.Place]]] = []  # the calls that were made because of a fault
        self._usual: set[plans.Place] = set()  # the calls that are made when nothing goes wrong
        self.clean: Outcome
        self.writes: Counter[str] = Counter()
        self.left_out: list[str] = []

    def run_clean(self, raises: tuple[type[BaseException], ...]) -> None:
        """Run it with nothing going wrong, and count what it writes.

        Raises:
            Violation: it broke an invariant, or did not raise what ``raises`` names, if that is given.
        """
        subject = self._make()
        given = self._options.get("store")
        store = MemoryStore() if given is None else resolve_store(given)
        counting = FaultyStore(store)
        outcome = simulate(subject.target, *subject.args, **{**self._options, "store": counting})
        options = {name: value for name, value in outcome.options.items() if name != "store" or given is not None}
        self.clean = attrs.evolve(outcome, options=options, store=store)
        self._runs += 1
        expected = [_ends_as_expected(raises)] if raises else []
        check(self.clean, *expected, *subject.invariants)
        self._usual = set(plans.places_of(self.clean))
        self.writes = counting.writes

    @property
    def has_journal(self) -> bool:
        """Whether what was run can be killed and resumed."""
        config = self.clean.config
        return config is not None and config.save_state and config.durability != "exit" and self.writes["append"] > 0

    def run_plans(self, chosen: list[Plan], keep: int = 0, in_order: bool = False) -> None:
        """Run the plans, or as many of each kind as the budget allows.

        Args:
            chosen: The plans.
            keep: How many runs to keep for others.
            in_order: Whether to run the first ones of each kind if not all can be; otherwise they are spread evenly.
        """
        kinds: dict[str, list[Plan]] = {}
        for plan in chosen:
            kinds.setdefault(plan.kind, []).append(plan)
        costs = {kind: sum(plan.cost for plan in each) for kind, each in kinds.items()}
        budget = plans.shares(costs, max(0, self._max_runs - self._runs - keep))
        for kind, each in kinds.items():
            until = self._runs + budget[kind]
            ordered = each if in_order or costs[kind] <= budget[kind] else plans.spread(each)
            for place, plan in enumerate(ordered):
                if self._has_endless_run or self._runs + plan.cost > until:
                    left = len(ordered) - place
                    why = "a run did not end" if self._has_endless_run else f"max_runs={self._max_runs}"
                    self.left_out.append(f"{kind}: {left} of {len(ordered)} ({why})")
                    break
                self._run(plan)

    def _run(self, plan: Plan) -> None:
        subject = self._make()
        self._tried[plan.kind] += 1
        outcomes = simulate_restarts(
            subject.target, *subject.args, kills=plan.kills, faults=plan.faults,
            **{**self._options, "seed": self._options["seed"] + plan.seed},
        )  # fmt: skip
        first: Outcome | None = None
        try:
            for outcome in outcomes:  # each is checked before it is resumed
                self._runs += 1
                first = first or outcome
                self._has_endless_run |= isinstance(outcome.exception, EndlessRun)
                check(outcome, *subject.invariants)
                if subject.restart is not None and isinstance(outcome.exception, ProcessKilled):
                    subject.restart()
        except Violation as violation:
            self._found.append((plan, violation))
        except Exception as exc:
            exc.add_note(f"in a run of sweep with {plan}")
            raise
        if first is not None and any(isinstance(fault, Fault) for fault in plan.faults):
            self._new.append((plan, [place for place in plans.places_of(first) if place not in self._usual]))

    def faults_after(self, names: Sequence[str], actions: plans.Actions) -> list[Plan]:
        """Return the plans in which a call fails as well that was made because of another fault."""
        found = []
        for plan, new in self._new:
            wanted = [place for place in new if not names or place[0] in names]
            found += plans.faults_after(plan, wanted, actions)
        return plans.spread(found)

    def faults_again(self) -> list[Plan]:
        """Return the plans in which each call of a node goes wrong, for the nodes that are then called more often."""
        known = {name for name, call in self._usual if call > 1}  # each call of these has failed before
        found = {repr(again): again for plan, new in self._new for again in plans.again(plan, new)}
        return [again for again in found.values() if getattr(again.faults[0], "node", None) not in known]

    def result(self) -> Sweep:
        """Return what was found."""
        self._found.sort(key=lambda each: (len(each[0].faults) + len(each[0].kills), _length(each[1].outcome)))
        violations = tuple(violation for _, violation in self._found)
        failed = Counter(plan.kind for plan, _ in self._found)
        result = Sweep(self.clean, self._runs, violations, dict(self._tried), dict(failed), "; ".join(self.left_out))
        if violations:
            violations[0].add_note(f"the sweep: {result}")
        return result
