"""``resume`` and ``simulate_restarts``: go on with a simulated run in another process, as often as it is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import attrs

from railtracks import Flow
from railtracks.exceptions import ConfigError
from railtracks.testing._simulation._injection import ProcessKilled
from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing._simulation._simulate import simulate
from railtracks.testing.faults import Fault, Kill, StoreFault


def resume(outcome: Outcome, *, faults: Sequence[Fault | StoreFault] = (), seed: int | None = None) -> Outcome:
    """Resume a simulated run, as another process would. Blocks.

    It has the target, the arguments, the backend and the options of the run before. What the run has written is in
    ``outcome.store``, and the resumed run goes on writing there: so resume an outcome once.

    Args:
        outcome: The run to resume, which was killed or ended in another way.
        faults: What goes wrong in the resumed run. Calls and journal entries are counted anew.
        seed: By default the seed of the run before and 1: another process draws other random numbers.

    Returns:
        What happened in the resumed run. Its ``before`` is ``outcome``, and its ``code`` repeats both.

    Raises:
        ConfigError: ``outcome`` is not an outcome, or was not saved.
        Exception: as of ``simulate``.
    """
    if not isinstance(outcome, Outcome):
        raise ConfigError(f"resume: {outcome!r} is not an outcome; write resume(simulate(flow, faults=[Kill(3)]))")
    how: dict[str, Any] = {name: getattr(outcome.run_options, name) for name in outcome.run_options.names()}
    how |= {"clock": None, "faults": faults, **outcome.run_options.step_limits}
    how |= {"seed": outcome.seed + 1 if seed is None else seed}
    options = {**outcome.options, "store": outcome.store, "resume": outcome.info.session_id}
    resumed = simulate(outcome.target, *outcome.args, **how, **options)
    return attrs.evolve(resumed, before=outcome)


def simulate_restarts(
    target: Flow[..., Any] | Callable[..., Any],
    /,
    *args: Any,
    kills: Iterable[int] = (),
    faults: Sequence[Fault | StoreFault] = (),
    **options: Any,
) -> Iterator[Outcome]:
    """Run a flow or a node to its end, and kill and resume it again and again on the way. Each step blocks.

    ``check`` each of the outcomes: what a run promises, it promises when it is killed, too. The next process begins
    when the next outcome is asked for::

        @given(kills=st.lists(st.integers(0, 12), max_size=3))
        def test_it_survives(kills):
            for outcome in simulate_restarts(flow, kills=kills):
                check(outcome)

    Args:
        target: A flow, or anything that ``rt.call`` takes.
        *args: Its arguments.
        kills: How many journal entries each process writes before it is killed, in order. When they are used up, or
            the run ends before, it is not killed again.
        faults: What else goes wrong in the first process.
        **options: Other arguments of ``simulate``. The seed of each process is 1 higher than that of the one before.

    Yields:
        The outcome of each process. The last one was not killed.

    Raises:
        ConfigError: an argument is not allowed.
        Exception: as of ``simulate``.
    """
    if not isinstance(kills, Iterable):
        raise ConfigError(f"simulate_restarts: kills is {kills!r}; write a list, such as kills=[3, 1]")
    plans = iter([[Kill(after)] for after in kills])
    outcome = simulate(target, *args, faults=[*faults, *next(plans, ())], **options)
    yield outcome
    while isinstance(outcome.exception, ProcessKilled):
        outcome = resume(outcome, faults=next(plans, ()))
        yield outcome
