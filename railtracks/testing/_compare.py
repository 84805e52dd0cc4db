"""``compare``: run two versions of a flow in the same ways, and report where they differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from railtracks import Flow
from railtracks._test_probe import counted
from railtracks.exceptions import ConfigError
from railtracks.testing._arguments import as_list, check_function, check_left_out
from railtracks.testing._simulation._outcome import Outcome
from railtracks.testing._simulation._simulate import simulate
from railtracks.testing._trace import stable_repr
from railtracks.testing._virtual_time._stuck_errors import EndlessRun
from railtracks.testing.faults import Fault, StoreFault

_IDENTITY: object = object.__eq__
Target = Flow[..., Any] | Callable[..., Any]


@attrs.frozen(eq=False)
class Difference:
    """One seed with which two versions of a flow differ."""

    seed: int
    """The seed."""
    what: str
    """What differs, and how."""
    old: Outcome
    """The run of the old version."""
    new: Outcome
    """The run of the new version."""

    def __str__(self) -> str:
        return f"with seed {self.seed} {self.what}\n\nold: {self.old}\n\nnew: {self.new}"


@attrs.frozen(eq=False, repr=False)
class Comparison:
    """The result of :func:`railtracks.testing.compare`."""

    runs: int
    """How many seeds were tried, with both versions."""
    differences: tuple[Difference, ...]
    """The seeds with which they differ, in the order in which these were tried."""

    def check(self) -> None:
        """Raise an AssertionError with both stories of the first difference. Does nothing if there is none."""
        if self.differences:
            seeds = f"{len(self.differences)} of {counted(self.runs, 'seed')}"
            raise AssertionError(f"the two versions differ with {seeds}; {self.differences[0]}")

    def __repr__(self) -> str:
        return f"<Comparison: {counted(self.runs, 'seed')}, {counted(len(self.differences), 'difference')}>"


def compare(
    old: Target,
    new: Target,
    /,
    *args: Any,
    seeds: Iterable[int] = range(100),
    backend: str | None = None,
    faults: Sequence[Fault | StoreFault] = (),
    by: Callable[[Outcome], Any] | None = None,
    **options: Any,
) -> Comparison:
    """Run two versions of a flow with the same seeds and faults, and compare how they end. Blocks.

    They are compared by what they return (``==``; objects whose class has no equality, by their texts), or by the type
    and the text of the exception that leaves them. The order that a seed gives depends on the code, so two versions do
    not run in the same order. If what they return may depend on the order, compare something else, as with
    ``by=lambda outcome: sorted(outcome.result)``. A run that does not end (``EndlessRun``) takes long, so no other
    seed is tried after it.

    Args:
        old: A flow, or anything that ``rt.call`` takes.
        new: The version to compare it with.
        *args: The arguments of both.
        seeds: The seeds to try.
        backend: "asyncio" or "trio", for both. By default that of each flow, as of ``flow.invoke``.
        faults: What goes wrong in both.
        by: Returns what to compare of a run, in place of its result and exception. It is called after each run, before
            the next one begins.
        **options: Other arguments of ``simulate`` except ``seed`` and ``clock``, for both, such as session options.

    Returns:
        What differs. Use its ``check`` in a test.

    Raises:
        ConfigError: there are no seeds, or an argument is not allowed; or as ``simulate``, and other errors of that.
        EndlessRun: a run did not end, and no difference was found.
        Exception: what ``by``, or comparing its values, raises.
    """
    tried = as_list("compare", "seeds", seeds, "write seeds=range(100)")
    if not tried:
        raise ConfigError("compare: seeds is empty; write seeds=range(100)")
    check_left_out("compare", options, {"seed": "seeds says which ones are tried", "clock": "each run has its own"})
    if by is not None:
        check_function("compare", "by", by, "write a function of an outcome, such as lambda outcome: outcome.end")
    differences: list[Difference] = []
    runs = 0
    for seed in tried:
        pair = []
        for version in (old, new):
            outcome = simulate(version, *args, seed=seed, backend=backend, faults=faults, **options)
            # Asked at once: ``by`` may read what the flow changes outside of the run, and the next run changes it too.
            pair.append((outcome, None if by is None else by(outcome)))
        (before, before_by), (after, after_by) = pair
        what = _difference(before, after) if by is None else _difference_by(by, before_by, after_by)
        runs += 1
        if what is not None:
            differences.append(Difference(seed, what, before, after))
        endless = [each.exception for each in (before, after) if isinstance(each.exception, EndlessRun)]
        if endless and not differences:
            raise endless[0]
        if endless:
            break
    return Comparison(runs, tuple(differences))


def _difference_by(by: Callable[[Outcome], Any], old: Any, new: Any) -> str | None:
    """Return how what ``by`` has returned of two runs differs, or None."""
    if _is_same(old, new):
        return None
    name = getattr(by, "__name__", "by")
    return f"{name} is {stable_repr(old)} for the old version, and {stable_repr(new)} for the new one"


def _difference(old: Outcome, new: Outcome) -> str | None:
    """Return how two runs differ, or None."""
    if old.exception is None and new.exception is None:
        if _is_same(old.result, new.result):
            return None
    elif _error(old) == _error(new):
        return None
    return f"the old version {old.end}, and the new one {new.end}"


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are equal; objects whose class has no equality are compared by their texts."""
    equality: object = type(one).__eq__
    if type(one) is type(other) and equality is _IDENTITY:
        return stable_repr(one) == stable_repr(other)
    return bool(one == other)


def _error(outcome: Outcome) -> tuple[type[BaseException], str] | None:
    return None if outcome.exception is None else (type(outcome.exception), str(outcome.exception))
