"""Faults: what goes wrong in a simulated run, and where.

A plan is a list of them, as data: its repr can be pasted into a test. They are injected where the runtime runs a node
or writes to its store; nothing of the user's is patched::

    simulate(flow, faults=[Fault("charge", Raise(ConnectionError("lost"), after=True), call=1)])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs

from railtracks.exceptions import ConfigError
from railtracks.nodes._resolve import as_node
from railtracks.testing._trace import ReprAsCode

__all__ = ["Cancel", "Delay", "FailSave", "Fault", "Hang", "Kill", "LoseWorker", "Raise", "Return", "StoreFault"]


def _seconds(instance: object, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**62:
        raise ConfigError(f"{type(instance).__name__}: {attribute.name} is {value!r}; give 0 or more")


def _count_from(least: int) -> Callable[[object, Any, Any], None]:
    def check(instance: object, attribute: Any, value: Any) -> None:
        if value is None and attribute.default is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            kind = type(instance).__name__
            raise ConfigError(f"{kind}: {attribute.name} is {value!r}; give a whole number of at least {least}")

    return check


def _flag(instance: object, attribute: Any, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{type(instance).__name__}: {attribute.name} is {value!r}; give True or False")


@attrs.frozen(repr=False)
class Raise(ReprAsCode):
    """The call raises. ``after``: the node does its work first, and only its answer is lost.

    Args:
        exception: A class, or an exception, of which each time a copy is raised.
        after: See above; False: the node does not run at all.
    """

    exception: Exception | type[Exception] = attrs.field()
    after: bool = attrs.field(default=False, validator=_flag)

    @exception.validator
    def _check(self, attribute: object, value: Any) -> None:
        if not isinstance(value, Exception) and not (isinstance(value, type) and issubclass(value, Exception)):
            raise ConfigError(f"Raise: {value!r} is no exception; write Raise(ValueError('text'))")
        if isinstance(value, type):
            try:
                value("injected")
            except Exception:
                name = value.__name__
                raise ConfigError(f"Raise: {name} is not made of one text; write Raise({name}(...))") from None


@attrs.frozen(repr=False)
class Return(ReprAsCode):
    """The call returns ``value``, and the node does not run."""

    value: Any


@attrs.frozen(repr=False)
class Delay(ReprAsCode):
    """The call takes so many virtual seconds longer. ``after``: the node does its work first."""

    seconds: float = attrs.field(validator=_seconds)
    after: bool = attrs.field(default=False, validator=_flag)


@attrs.frozen(repr=False)
class Hang(ReprAsCode):
    """The call never ends, until it is cancelled; the node does not run."""


@attrs.frozen(repr=False)
class Cancel(ReprAsCode):
    """The whole run is cancelled from outside at the moment when the call begins."""


@attrs.frozen(repr=False)
class LoseWorker(ReprAsCode):
    """The node does its work, but its worker never reports: the call waits until it is cancelled.

    A call of a sync node is on record as abandoned then.
    """


Action = Raise | Return | Delay | Hang | Cancel | LoseWorker


def _node_name(node: Any) -> str | None:
    return node if node is None or isinstance(node, str) else as_node(node, "Fault").name


@attrs.frozen(repr=False)
class Fault(ReprAsCode):
    """Something goes wrong when a node is called.

    Args:
        node: The name of the node, or the node; None for any.
        does: What goes wrong.
        call: Which call of the node (with None: which call at all), counted from 1; None: each.
        probability: Of those calls, in how many; the seed decides in which.
    """

    node: str | None = attrs.field(converter=_node_name)
    does: Action = attrs.field()
    call: int | None = attrs.field(default=None, validator=_count_from(1))
    probability: float = attrs.field(default=1.0)

    @does.validator
    def _check_action(self, attribute: object, value: Any) -> None:
        if not isinstance(value, Action):
            raise ConfigError(f"Fault: {value!r} is nothing that it can do; write Fault('node', Raise(ValueError))")

    @probability.validator
    def _check_probability(self, attribute: object, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(f"Fault: probability is {value!r}; give a number from 0 to 1")


@attrs.frozen(repr=False)
class FailSave(ReprAsCode):
    """The store cannot write.

    Args:
        error: "disk full" or "no permission".
        at: "save", the document at the end of a session; "open", a journal; "append", to a journal; "sync", to disk.
        after: How often that works before it fails; from then on it always does.
    """

    error: Literal["disk full", "no permission"] = attrs.field(default="disk full")
    at: Literal["save", "open", "append", "sync"] = attrs.field(default="save")
    after: int = attrs.field(default=0, validator=_count_from(0))

    @error.validator
    def _check_error(self, attribute: object, value: Any) -> None:
        if value not in ("disk full", "no permission"):
            raise ConfigError(f"FailSave: error is {value!r}; give 'disk full' or 'no permission'")

    @at.validator
    def _check_at(self, attribute: object, value: Any) -> None:
        if value not in ("save", "open", "append", "sync"):
            raise ConfigError(f"FailSave: at is {value!r}; give 'save', 'open', 'append' or 'sync'")


@attrs.frozen(repr=False)
class Kill(ReprAsCode):
    """The process is killed after so many journal records; nothing is written after that.

    ``Outcome.info`` is then what the journal tells, and ``Outcome.store`` has it, to be resumed. Code of the user's
    stops where it is, but other than in a killed process its ``finally`` blocks still run.
    """

    after: int = attrs.field(validator=_count_from(0))


StoreFault = FailSave | Kill


def checked_plan(faults: Sequence[Fault | StoreFault]) -> tuple[Fault | StoreFault, ...]:
    """The plan, if it is one. ConfigError if it is not."""
    if isinstance(faults, Fault | StoreFault):
        raise ConfigError(f"faults is one fault, {faults!r}; give a list of them: faults=[{faults!r}]")
    if not isinstance(faults, Sequence):
        raise ConfigError(f"faults is {faults!r}; give a list of faults")
    for fault in faults:
        if not isinstance(fault, Fault | StoreFault):
            raise ConfigError(f"faults: {fault!r} is none; write Fault('node', {fault!r}), FailSave() or Kill(after=3)")
    return tuple(faults)
