"""What a planted defect is: a flow with one realistic mistake, and its corrected twin."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
from hypothesis import strategies as st

from railtracks.testing import Outcome

WAYS = ("seeds", "faults", "sweep", "schedules")
"""The ways to search for a defect, as the documentation advises them; see ``_finding.py``."""


@attrs.frozen
class Case:
    """The flow of one run. A new one is made for each example, so that its counters begin at zero."""

    target: Any
    invariants: tuple[Callable[[Outcome], None], ...] = ()
    """What must be true beyond the promise."""
    variant: AbstractContextManager[Any] = attrs.field(factory=nullcontext)
    """Entered around the run: replaces parts of the runtime, and restores them."""
    resumes: bool = False
    """Whether the process may be killed; then the run is resumed, and the outcome of that is checked as well."""
    args: tuple[Any, ...] = ()
    """The arguments of the flow, where none are drawn."""
    nodes: tuple[Any, ...] = ()
    """The nodes at which something may go wrong; if empty, all."""


@attrs.frozen
class Planted:
    """A defect and its corrected twin.

    ``make(True)`` makes the defect, ``make(False)`` the twin. Seed and backend are drawn; ``plans`` draws further
    keyword arguments of ``simulate``, and under ``"args"`` the arguments of the flow.
    """

    name: str
    defect: str
    make: Callable[[bool], Case]
    plans: st.SearchStrategy[dict[str, Any]] = attrs.field(factory=lambda: st.just({}))
    ways: tuple[str, ...] = attrs.field(default=("seeds",), validator=attrs.validators.deep_iterable(
        attrs.validators.in_(WAYS)))  # fmt: skip
    """By which ways it should be found."""
    backends: tuple[str, ...] = ("asyncio", "trio")
    options: dict[str, Any] = attrs.field(factory=dict)
    """Session options of each run."""
    exceptions: tuple[Exception, ...] = (ConnectionError("injected"),)
    """What calls may raise in fault plans."""
    raises: type[BaseException] | None = None
    """What the flow raises when nothing goes wrong, if it does."""
    least_calls: int = 1
    """How many calls the shortest run has that shows the mistake."""
    source: tuple[str, str] | None = None
    """Where the mistake was made, if it is one of a public project: the project, with its version, and the report."""

    def __str__(self) -> str:
        return self.name

    @property
    def text(self) -> str:
        """What the documentation says about it."""
        source = "" if self.source is None else f" ([{self.source[0]}]({self.source[1]}))"
        return f"{self.name}: {self.defect}{source}"


def drawn(*args: st.SearchStrategy[Any], **options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for plans: the arguments of the flow, and of ``simulate``."""
    return st.fixed_dictionaries({"args": st.tuples(*args), **options})


def defect(
    into: list[Planted],
    text: str,
    *ways: str,
    name: str | None = None,
    args: st.SearchStrategy[tuple[Any, ...]] | None = None,
    **more: Any,
) -> Callable[[Callable[[bool], Case]], Callable[[bool], Case]]:
    """Add the decorated function, which makes the defect or its twin, to the list ``into``.

    Args:
        into: The list.
        text: What is wrong.
        *ways: By which ways it should be found.
        name: Its name, if it is not that of the function.
        args: Draws the arguments of the flow; without it, those of the case are used.
        **more: Further fields of ``Planted``.
    """

    def register(make: Callable[[bool], Case]) -> Callable[[bool], Case]:
        plans = st.just({}) if args is None else st.fixed_dictionaries({"args": args})
        title = name or make.__name__.replace("_", " ")
        into.append(Planted(title, text, make, plans, ways=ways or ("seeds",), **more))
        return make

    return register
