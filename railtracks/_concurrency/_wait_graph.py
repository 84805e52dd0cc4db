"""Who waits for what, and circles in that: those who wait for each other would wait for ever.

What is waited for is a resource: the slots of a limit, or equal work that is being done. Those who have it are its
holders, and it becomes free when one of them goes on. A holder goes on when everything below it does, so each wait is
noted for all that it holds up: its owners. That gives a graph from resources to holders to resources. A resource is
stuck if each of its holders is held up by a stuck resource, and the greatest set for which that is true is what will
never be free. So there is no circle as long as one holder of a limit just runs.

It is examined when a wait begins, and when a holder becomes one that waits. Then a wait of the circle ends: one for
equal work, which can be done twice, or else one that fails.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Protocol, final

from railtracks._concurrency._after_fork import after_fork

guard = threading.RLock()
"""Held for a moment, and nothing that waits is called under it. Locks of resources are taken before it."""


class Resource(Protocol):
    """What can be waited for."""

    def held_by(self) -> Sequence[object]:
        """Return who has it. In any thread."""


class CircleError(Exception):
    """A wait has ended because it would never have ended otherwise. Its text says who waits for what."""


@final
class Wait:
    """One that waits.

    Args:
        resource: What it waits for.
        owners: What it holds up: all that can go on only after it.
        text: What is said of it, such as "load for limit db".
        let_go: Called with a text about the circle, in any thread, to have the wait end; None if it ends by itself.
        is_free: Whether nothing fails when it is let go.
    """

    __slots__ = ("_owners", "is_free", "let_go", "number", "resource", "text")

    def __init__(
        self,
        resource: Resource,
        owners: Iterable[object],
        text: str,
        let_go: Callable[[str], object] | None,
        is_free: bool = False,
    ) -> None:
        self.resource: Resource = resource
        self.text: str = text
        self.let_go: Callable[[str], object] | None = let_go
        self.is_free: bool = is_free
        self._owners = tuple(dict.fromkeys(owners))
        with guard:
            self.number: int = next(_numbers)
            for owner in self._owners:
                _waits.setdefault(owner, {}).setdefault(resource, {})[self] = None

    def end(self) -> None:
        """Note that it waits no more. Idempotent."""
        with guard:
            owners, self._owners = self._owners, ()
            for owner in owners:
                waits = _waits[owner]
                del waits[self.resource][self]
                if not waits[self.resource]:
                    del waits[self.resource]
                if not waits:
                    del _waits[owner]


_numbers = count()
_waits: dict[object, dict[Resource, dict[Wait, None]]] = {}
"""The waits by their owner and their resource, in the order in which they began."""


def is_stuck(resource: Resource) -> bool:
    """Return whether a resource will never be free."""
    with guard:
        return resource in _stuck(resource)


def resolve(resource: Resource) -> None:
    """If a resource is stuck, let waits go until it is not, or none is left that can be let go."""
    let_go: list[tuple[Callable[[str], object], str]] = []
    with guard:
        while (stuck := _stuck(resource)) and (wait := _choose(stuck)) is not None:
            wait.end()
            assert wait.let_go is not None
            let_go.append((wait.let_go, _text_of(stuck)))
    for call, text in let_go:
        call(text)


def _stuck(start: Resource) -> dict[Resource, list[Wait]]:
    """Return the resources from which ``start`` leads to that are stuck, each with the waits that hold its holders up.

    The dictionary is empty if ``start`` is not stuck, as in all cases but those of a circle.
    """
    holders: dict[Resource, Sequence[object]] = {}
    left = [start]
    while left:
        resource = left.pop()
        if resource in holders:
            continue
        found = resource.held_by()
        holders[resource] = found
        if found and all(holder in _waits for holder in found):
            left += [each for holder in found for each in _waits[holder]]
        elif resource is start:
            return {}
        else:
            holders[resource] = ()
    is_changing = True
    while is_changing:
        free = [
            resource
            for resource, found in holders.items()
            if not found or not all(any(each in holders for each in _waits[holder]) for holder in found)
        ]
        for resource in free:
            del holders[resource]
        is_changing = bool(free)
    if start not in holders:
        return {}
    return {
        resource: [
            wait for holder in found for each, waits in _waits[holder].items() if each in holders for wait in waits
        ]
        for resource, found in holders.items()
    }


def _choose(stuck: dict[Resource, list[Wait]]) -> Wait | None:
    """Return the wait of a circle that is to end; None if one of them ends by itself.

    If there are some that cost nothing, it is the latest of these, or else the latest of all.
    """
    circle = {resource for resource in stuck if _leads_back(resource, stuck)}
    in_circle = [wait for waits in stuck.values() for wait in waits if wait.resource in circle]
    free = [wait for wait in in_circle if wait.is_free]
    if not free and any(wait.let_go is None for wait in in_circle):
        return None
    return max(free or in_circle, key=lambda wait: wait.number, default=None)


def _leads_back(start: Resource, stuck: dict[Resource, list[Wait]]) -> bool:
    seen: set[Resource] = set()
    left = [start]
    while left:
        for wait in stuck[left.pop()]:
            if wait.resource is start:
                return True
            if wait.resource not in seen:
                seen.add(wait.resource)
                left.append(wait.resource)
    return False


def _text_of(stuck: dict[Resource, list[Wait]]) -> str:
    texts = dict.fromkeys(wait.text for waits in stuck.values() for wait in waits)
    shown = [*texts][:_MAX_SHOWN]
    return ", ".join([*shown, "..."] if len(texts) > _MAX_SHOWN else shown)


_MAX_SHOWN = 5
"""The greatest number of waits that an error names."""


@after_fork
def _reset() -> None:
    global guard
    guard = threading.RLock()
    _waits.clear()
