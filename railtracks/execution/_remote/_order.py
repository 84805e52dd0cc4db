"""What travels to a worker, and what comes back: plain data.

It is pickled for each call, so it consists of as few objects as possible, and classes are named once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from operator import attrgetter
from typing import Any

import attrs

from railtracks.execution._outbox import Item
from railtracks.execution._remote._rows import Row
from railtracks.nodes import FunctionNode

WORKER = "railtracks._worker._run"
"""The module that does an order. It is in a layer below this one, where sessions are, and is imported in the worker."""


@attrs.frozen(kw_only=True)
class Order:
    """A call that a worker is to run, and what of its session it needs there."""

    session_id: str
    config: Any
    """The options of the session there, as an ``ExecutorConfig`` or, for a worker with a memory of its own, pickled."""
    context: Mapping[str, Any]
    """A snapshot of the context; for a worker that shares memory, the context itself."""
    not_sent: Mapping[str, str]
    """By the key of the context: why its value is not in the snapshot."""
    secrets: Sequence[str]
    secret_keys: Sequence[tuple[str, ...]]
    """The names of keys that were registered as those of secrets."""
    seconds: float
    """The time that is left to the call."""
    identifiers: tuple[str, str, str | None]
    """Those of the call, of its top-level call, and of its caller."""
    attempt: int
    key: str | None
    """The node key of the call."""
    inputs: str | None
    """The text of its arguments, if its run is resumed."""
    history: Sequence[Row] | None
    """What a resumed run has recorded of the call and of those below it; None if there is nothing."""
    values: Mapping[str, bytes]
    """The large values in ``history``, by their digests."""
    depth: int
    """How many calls are above the call. For ``max_depth``; 0 without that."""
    calls: int
    """How many calls the session has counted. For ``max_calls``; 0 without that."""
    store: Any = None
    """The store of the session: a ``StoreReference``, or, for a worker that shares memory, itself; None if it has
    none."""
    home: tuple[str, int] = ("", 0)
    """What identifies the process of the session."""
    held_limits: Sequence[str] = ()
    """The names of the limits of which the call, or one above it, has a slot."""
    retry: int = 0
    """How many attempts of the call had failed before this one."""


@attrs.frozen(kw_only=True)
class Report:
    """What has become of an order."""

    ended: Mapping[str, Any]
    """The result or the exception: what ``pack_result`` or ``pack_exception`` returned; or as ``value`` or ``error``
    the object itself."""
    started: float
    """When the call began, by the clock of the worker, in seconds since the epoch."""
    ended_at: float
    rows: Sequence[Row] = ()
    """The records of the calls; the first is that of the call itself, and is a part of the record at home."""
    items: Sequence[Item] = ()
    secrets: Sequence[str] = ()
    """Those that the worker has learned."""
    calls: int = 0
    """How many calls count for ``max_calls`` there."""
    timed_out: bool = False
    """Whether the time that was left has passed."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_report, _values_of_report(self)


class WorkerCall:
    """The function that a worker runs for an order: it takes the arguments of the node, and returns a report.

    Args:
        order: The order.
        node: The node.
    """

    def __init__(self, order: Order, node: FunctionNode[..., Any]) -> None:
        self.order = order
        self.node = node

    def __call__(self, *args: Any, **kwargs: Any) -> Report:
        report: Report = import_module(WORKER).run(self.order, self.node, args, kwargs)
        return report

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_call, (_values_of_order(self.order), self.node)


_ORDER_FIELDS = tuple(attrs.fields_dict(Order))
_REPORT_FIELDS = tuple(attrs.fields_dict(Report))
_values_of_order = attrgetter(*_ORDER_FIELDS)
_values_of_report = attrgetter(*_REPORT_FIELDS)


def _make_call(values: tuple[Any, ...], node: FunctionNode[..., Any]) -> WorkerCall:
    return WorkerCall(Order(**dict(zip(_ORDER_FIELDS, values, strict=True))), node)


def _make_report(*values: Any) -> Report:
    return Report(**dict(zip(_REPORT_FIELDS, values, strict=True)))
