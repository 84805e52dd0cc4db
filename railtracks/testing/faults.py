"""Faults: what goes wrong in a simulated run, and where.

A plan is a list of faults, as data: its repr can be pasted into a test. Faults are injected where the runtime runs a
node or writes to its store; no user code is patched::

    simulate(flow, faults=[Fault("charge", Raise(ConnectionError("lost"), after=True), call=1)])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import attrs

from railtracks._test_probe import as_node
from railtracks.exceptions import ConfigError
from railtracks.testing._arguments import as_list
from railtracks.testing._executor import Executor, WorkerFault
from railtracks.testing._faulty_model import Model, ModelFault, ModelRateLimit
from railtracks.testing._leases import LeaseStore
from railtracks.testing._network import Member, Network, NetworkFault, Partition
from railtracks.testing._trace import ReprAsCode

__all__ = [
    "Cancel", "Delay", "DelaySave", "Executor", "FailSave", "Fault", "Hang", "Kill", "LeaseStore", "LoseLease",
    "LoseWorker", "Member", "Model", "ModelFault", "ModelRateLimit", "Network", "NetworkFault", "Partition", "Raise",
    "Return", "StoreFault", "WorkerFault",
]  # fmt: skip


def _seconds(instance: object, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**62:
        raise ConfigError(f"{type(instance).__name__}: {attribute.name} is {value!r}; use 0 or more")


def _at_least(least: int) -> Callable[[object, Any, Any], None]:
    def check(instance: object, attribute: Any, value: Any) -> None:
        if value is None and attribute.default is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            kind = type(instance).__name__
            raise ConfigError(f"{kind}: {attribute.name} is {value!r}; use a whole number of at least {least}")

    return check


def _flag(instance: object, attribute: Any, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{type(instance).__name__}: {attribute.name} is {value!r}; use True or False")


@attrs.frozen(repr=False)
class Raise(ReprAsCode):
    """The call raises.

    Args:
        exception: An exception class, or an exception, of which a copy is raised each time.
        after: Whether the node does its work first, so that only its result is lost. Otherwise it does not run.
    """

    exception: Exception | type[Exception] = attrs.field()
    after: bool = attrs.field(default=False, validator=_flag)

    @exception.validator
    def _check(self, attribute: object, value: Any) -> None:
        if not isinstance(value, Exception) and not (isinstance(value, type) and issubclass(value, Exception)):
            raise ConfigError(f"Raise: {value!r} is not an exception; write Raise(ValueError('text'))")
        if isinstance(value, type):
            try:
                value("injected")
            except Exception:
                name = value.__name__
                raise ConfigError(f"Raise: {name} cannot be made from one text; write Raise({name}(...))") from None


@attrs.frozen(repr=False)
class Return(ReprAsCode):
    """The call returns ``value``, and the node does not run."""

    value: Any


@attrs.frozen(repr=False)
class Delay(ReprAsCode):
    """The call takes longer.

    Args:
        seconds: By how many virtual seconds.
        after: Whether the node does its work first.
    """

    seconds: float = attrs.field(validator=_seconds)
    after: bool = attrs.field(default=False, validator=_flag)


@attrs.frozen(repr=False)
class Hang(ReprAsCode):
    """The call does not end until it is cancelled; the node does not run."""


@attrs.frozen(repr=False)
class Cancel(ReprAsCode):
    """The whole run is cancelled from outside.

    Args:
        seconds: For how many virtual seconds the call runs before. If it ends earlier, nothing happens.
    """

    seconds: float = attrs.field(default=0, validator=_seconds)


@attrs.frozen(repr=False)
class LoseWorker(ReprAsCode):
    """The node does its work, but its worker never reports, so the call waits until it is cancelled.

    A call of a sync node is on record as abandoned then.
    """


Action = Raise | Return | Delay | Hang | Cancel | LoseWorker


def as_nodes(owner: str, nodes: Any) -> list[Any]:
    """Return the argument ``nodes`` of ``owner`` as a list of nodes and names; ConfigError if it is none."""
    listed = as_list(owner, "nodes", nodes, "write a list of nodes, or of their names")
    return [node if isinstance(node, str) else as_node(node, owner) for node in listed]


def node_names(owner: str, nodes: Any) -> list[str]:
    """Return the names in the argument ``nodes`` of ``owner``; ConfigError if it is not a list of nodes."""
    return [node if isinstance(node, str) else as_node(node, owner).name for node in as_nodes(owner, nodes)]


def _node_name(node: Any) -> str | None:
    return node if node is None or isinstance(node, str) else as_node(node, "Fault").name


@attrs.frozen(repr=False)
class Fault(ReprAsCode):
    """Something that goes wrong when a node is called.

    Args:
        node: The node, or its name; None for any node.
        does: What goes wrong.
        call: Which call of the node, counted from 1; for any node, which call of all. None for each.
        probability: The share of these calls; the seed decides at which ones it happens.
    """

    node: str | None = attrs.field(converter=_node_name)
    does: Action = attrs.field()
    call: int | None = attrs.field(default=None, validator=_at_least(1))
    probability: float = attrs.field(default=1.0)

    @does.validator
    def _check_action(self, attribute: object, value: Any) -> None:
        if not isinstance(value, Action):
            raise ConfigError(f"Fault: {value!r} is not an action; write Fault('node', Raise(ValueError))")

    @probability.validator
    def _check_probability(self, attribute: object, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ConfigError(f"Fault: probability is {value!r}; use a number from 0 to 1")


@attrs.frozen(repr=False)
class FailSave(ReprAsCode):
    """A store that cannot write.

    Args:
        error: "disk full" or "no permission".
        at: What fails: "save", writing the document at the end of a session; "open", opening a journal; "append",
            writing to a journal; "sync", syncing a journal to disk.
        after: How many times it works before.
        times: How many times it fails then, until it works again; None for always.
    """

    error: Literal["disk full", "no permission"] = attrs.field(default="disk full")
    at: Literal["save", "open", "append", "sync"] = attrs.field(default="save")
    after: int = attrs.field(default=0, validator=_at_least(0))
    times: int | None = attrs.field(default=None, validator=_at_least(1))

    @error.validator
    def _check_error(self, attribute: object, value: Any) -> None:
        if value not in ("disk full", "no permission"):
            raise ConfigError(f"FailSave: error is {value!r}; use 'disk full' or 'no permission'")

    @at.validator
    def _check_at(self, attribute: object, value: Any) -> None:
        if value not in ("save", "open", "append", "sync"):
            raise ConfigError(f"FailSave: at is {value!r}; use 'save', 'open', 'append' or 'sync'")


@attrs.frozen(repr=False)
class DelaySave(ReprAsCode):
    """A store that takes long to write.

    It writes in a thread, and the event loop goes on meanwhile, as it does with a store on a slow disk or in a network.

    Args:
        seconds: For how many virtual seconds.
        at: What takes long: "save", writing the document at the end of a session; "sync", syncing a journal to disk.
        after: How many times it is quick before.
        times: How many times it takes long then; None for always.
    """

    seconds: float = attrs.field(validator=_seconds)
    at: Literal["save", "sync"] = attrs.field(default="save")
    after: int = attrs.field(default=0, validator=_at_least(0))
    times: int | None = attrs.field(default=None, validator=_at_least(1))

    @at.validator
    def _check_at(self, attribute: object, value: Any) -> None:
        if value not in ("save", "sync"):
            raise ConfigError(f"DelaySave: at is {value!r}; use 'save' or 'sync'")


@attrs.frozen(repr=False)
class Kill(ReprAsCode):
    """The process is killed, and nothing is written after that.

    ``Outcome.info`` is then what the journal holds, and ``Outcome.store`` has the journal, so that it can be resumed.
    User code stops where it is, but its ``finally`` blocks still run, as they would not in a killed process.

    Args:
        after: How many journal entries are written before. With 0 and a node, nothing is written any more once its
            code runs: what a call without nested calls has done is not on record.
        node: A node, or its name: entries count from the moment at which it begins to run; None to count them all.
        call: At which call of that node, counted from 1.
    """

    after: int = attrs.field(validator=_at_least(0))
    node: str | None = attrs.field(default=None, converter=_node_name)
    call: int = attrs.field(default=1, validator=_at_least(1))


@attrs.frozen(repr=False)
class LoseLease(ReprAsCode):
    """Another machine takes the run over, as from a session whose lease has expired, and that has not noticed it.

    From then on the store refuses what the session writes, with ``RunLostError``.

    Args:
        after: How many journal entries are written before.
    """

    after: int = attrs.field(validator=_at_least(0))


StoreFault = FailSave | DelaySave | Kill | LoseLease


def validate_plan(faults: Sequence[Fault | StoreFault]) -> tuple[Fault | StoreFault, ...]:
    """Return the plan. ConfigError if it is not one."""
    if isinstance(faults, Fault | StoreFault):
        raise ConfigError(f"faults is one fault, {faults!r}; use a list: faults=[{faults!r}]")
    if not isinstance(faults, Sequence):
        raise ConfigError(f"faults is {faults!r}; use a list of faults")
    for fault in faults:
        if not isinstance(fault, Fault | StoreFault):
            raise ConfigError(
                f"faults: {fault!r} is not a fault; write Fault('node', {fault!r}), FailSave() or Kill(after=3)"
            )
    return tuple(faults)
