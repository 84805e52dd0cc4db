"""``sweep``: run a flow once, and then again with each thing that can go wrong in it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from railtracks import Flow
from railtracks.testing._arguments import check_function, check_left_out
from railtracks.testing._simulation import _sweep_plans as plans
from railtracks.testing._simulation._sweep_plans import EXCEPTIONS, Plan
from railtracks.testing._sweep_options import MAX_RUNS, PAIRS, SweepOptions
from railtracks.testing._sweeping import Subject, Sweep, Sweeping
from railtracks.testing.invariants import Invariant, as_invariants


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
    with the whole run. Each call of a node raises or is late. The run is cancelled in the middle of each of its waits.
    The store fails from each of its writes on, fails once, and takes long. The process is killed after each journal
    entry, and the run is resumed; and is killed once more, and resumed again. At last two calls fail. Every run is
    checked as ``check(outcome, *invariants)`` does. A run that does not end (``EndlessRun``) takes long, so it is the
    last one. The same each time::

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
    sweeping = Sweeping(make, {"seed": 0, **simulated}, how.max_runs)
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


def _some(candidates: list[Plan], most: int, sweeping: Sweeping) -> list[Plan]:
    """Return the first ``most`` of the plans, and note how many are left out."""
    if len(candidates) > most > 0:
        sweeping.left_out.append(f"{candidates[0].kind}: {len(candidates) - most} of {len(candidates)} (pairs={most})")
    return candidates[:most]
