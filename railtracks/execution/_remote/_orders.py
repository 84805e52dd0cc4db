"""Making an order of a call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import attrs

from railtracks._concurrency._event_loop import running_library
from railtracks._concurrency._kinds import is_kind
from railtracks._identifiers import node_id, run_id
from railtracks._options import ExecutorConfig, NotSent
from railtracks.exceptions import TransferError
from railtracks.execution._home import CallFrame, Home
from railtracks.execution._remote._order import Order, WorkerCall
from railtracks.execution._remote._rows import rows_of
from railtracks.executors._pickling import dumps
from railtracks.executors._worker import interpreter, pack_work
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord
from railtracks.state._redaction._secret_names import secret_names


def config_in_worker(config: ExecutorConfig) -> ExecutorConfig:
    """Return the options of a session as those of the session in a worker: without what belongs to this process."""
    return attrs.evolve(
        config, run_identifier=None, save_state=False, log_file=None, broadcast_callback=None, ask_callback=None,
        store=None, if_exists="replace", suspend=False, tracing=False, progress=False, executors=None,
        timeout=math.inf, max_concurrency=None, budget=None,
        backend=running_library() or config.backend,
    )  # fmt: skip


def pickled_config(config: ExecutorConfig) -> bytes:
    """Return the options of the session in a worker that shares no memory, pickled.

    A model that cannot be pickled is left out: most nodes need none.
    """
    there = config_in_worker(config)
    if there.default_llm is not None:
        try:
            dumps(there.default_llm, "it")
        except TransferError as exc:
            there = attrs.evolve(there, default_llm=NotSent(f"{type(exc.__cause__).__name__}: {exc.__cause__}"))
    return dumps(there)


def make_order(frame: CallFrame, config: ExecutorConfig | bytes, store: Any, shares_memory: bool) -> Order:
    """Return the order for the call at a frame.

    Args:
        frame: The frame of the call.
        config: The options for the worker, as ``Order`` has them.
        store: The store of the session for the worker, as ``Order`` has it.
        shares_memory: Whether the worker is in this process, and uses the context itself.
    """
    coordinator, record, root = frame.coordinator, frame.record, frame.run
    assert record is not None
    assert root is not None
    session, redactor, limits = coordinator.session_id, coordinator.redactor, coordinator.limits
    history: list[CallRecord] = []
    values: dict[str, bytes] = {}
    if frame.history_node is not None and coordinator.recorder is not None:
        history, values = coordinator.recorder.hand_over(frame.history_node)
    return Order(
        session_id=session,
        config=config,
        context=coordinator.context if shares_memory else dict(coordinator.context),
        not_sent={},
        secrets=redactor.known,
        secret_keys=[*secret_names.registered],
        seconds=_seconds_left(root.deadline),
        identifiers=(
            node_id(session, record.index),
            run_id(session, record.run),
            None if record.parent is None else node_id(session, record.parent),
        ),
        attempt=record.attempt,
        key=record.node,
        inputs=record.inputs if history else None,
        history=rows_of(history, redactor) if history else None,
        values=values,
        depth=0 if limits is None else limits.depth_of(record) - 1,
        calls=0 if limits is None else limits.calls,
        store=store,
        home=interpreter() if coordinator.outbox is None else coordinator.outbox.home,
        held_limits=_held_limits(coordinator, record),
        retry=0 if record.policy is None else record.policy.retry,
    )


def _held_limits(coordinator: Home, record: CallRecord) -> Sequence[str]:
    """Return the names of the limits of which a call, or one above it, has a slot, here or where it was sent from."""
    above = () if coordinator.outbox is None else coordinator.outbox.held_limits
    return above if coordinator.limits is None else (*above, *coordinator.limits.held_by(record))


def _seconds_left(deadline: float) -> float:
    """Return the time that is left before a deadline, or before that of a scope around the call."""
    deadline = min(deadline, anyio.current_effective_deadline())
    return math.inf if deadline == math.inf else max(deadline - anyio.current_time(), 0.0)


def pack_order(
    order: Order, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Any, must_be_quick: bool = False
) -> bytes:
    """Return an order, with its node and the arguments, as bytes.

    Values of the context that cannot be pickled are left out. The node gets an error if it asks for one.

    Args:
        order: The order.
        node: The node.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        must_be_quick: Whether to give up as soon as it takes long.

    Raises:
        TransferError: The node or an argument cannot be pickled.
        NotQuickError: It takes long, and must be quick.
    """
    try:
        return pack_work(WorkerCall(order, node), args, kwargs, name=node.name, must_be_quick=must_be_quick)
    except TransferError as exc:
        if was_changed(exc):
            raise
        not_sent = _not_sent(order.context)
        if not not_sent:
            raise
    context = {key: value for key, value in order.context.items() if key not in not_sent}
    order = attrs.evolve(order, context=context, not_sent=not_sent)
    return pack_work(WorkerCall(order, node), args, kwargs, name=node.name)


def _not_sent(context: Mapping[str, Any]) -> dict[str, str]:
    """Return by the keys of values that cannot be pickled why not."""
    reasons: dict[str, str] = {}
    for key, value in context.items():
        try:
            dumps(value)
        except TransferError as exc:
            if was_changed(exc):
                raise
            reasons[key] = f"{type(exc.__cause__).__name__}: {exc.__cause__}"
    return reasons


def was_changed(exc: TransferError) -> bool:
    """Return whether something was not pickled because another thread has changed it meanwhile."""
    return is_kind(exc.__cause__, RuntimeError) and "during iteration" in str(exc.__cause__)
