"""Plans of faults by numbers, and chances for the rest: what goes wrong with work, messages and requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Protocol, TypeVar, runtime_checkable

from railtracks._test_hooks import runtime_hooks
from railtracks.exceptions import ConfigError

F = TypeVar("F")


@runtime_checkable
class _Story(Protocol):
    """The part of the observer of a simulated run that is needed here."""

    def on_numbered_fault(self, text: str) -> None: ...


def note_fault(text: str) -> None:
    """Have the story of the simulated run show what goes wrong. Outside of one, do nothing."""
    observer: object = runtime_hooks.get().observer
    if isinstance(observer, _Story):
        observer.on_numbered_fault(text)


def fault_at(number: int, plan: Mapping[int, F], chances: Mapping[F, float], random: Random) -> F | None:
    """Return what goes wrong with the thing of this number, or None if nothing does."""
    if number in plan or not chances:
        return plan.get(number)
    point = random.random()
    for fault, chance in chances.items():
        point -= chance
        if point < 0:
            return fault
    return None


def validate_faults(
    kind: str, faults: Sequence[str], plan: Mapping[int, Any], chances: Mapping[Any, Any], **seconds: Any
) -> None:
    """Validate a plan, chances and options in seconds of a ``kind``. ConfigError if one is not allowed."""
    known = ", ".join(map(repr, faults))
    for number in plan:
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigError(f"{kind}: plan has the key {number!r}; count from 1, as in {{1: 'lose'}}")
    for fault in (*plan.values(), *chances):
        if fault not in faults:
            raise ConfigError(f"{kind}: {fault!r} is nothing that can go wrong; use one of {known}")
    shares = list(chances.values())
    if not all(isinstance(each, int | float) and 0 <= each <= 1 for each in shares) or sum(shares) > 1 + 1e-9:
        raise ConfigError(f"{kind}: chances are {dict(chances)!r}; use numbers from 0 to 1, with a sum of at most 1")
    for name, value in seconds.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**62:
            raise ConfigError(f"{kind}: {name} is {value!r}; use seconds, 0 or more")
