"""Calls that end at once: a value that differs from run to run, and a session that a call opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from railtracks.execution._call_ends import record_end, replay

if TYPE_CHECKING:
    from railtracks.execution._coordinator import Frame
    from railtracks.nodes import FunctionNode
    from railtracks.state import CallRecord


def record_value(node: FunctionNode[..., Any], caller: Frame) -> Any:
    """Record what the function of ``node`` returns as a call that ends at once, and return it.

    In a session that resumes a run the recorded value is returned instead, if there is one. With ``durability="sync"``
    the value is on disk when this returns, for which it blocks.
    """
    coordinator = caller.coordinator
    state, recorder = coordinator.state, coordinator.recorder
    record = state.created(node.name, node.node_type, (), {}, caller.record, coordinator.now())
    match = None if recorder is None else recorder.on_created(record, node, caller.history_node)
    if match is not None and match.is_replayed:
        return replay(coordinator, record, match, caller.record, node)
    if coordinator.call_log.is_active:
        coordinator.call_log.created(record, caller.record, node)
    value = node.func()
    state.succeeded(record, value, coordinator.now())
    record_end(coordinator, record)
    if recorder is not None and recorder.is_synchronous:
        recorder.require_commit()
    return value


def record_step(
    node: FunctionNode[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    caller: Frame,
    branch: tuple[int, ...] | None,
    begin: Callable[[str | None, bool], str],
) -> CallRecord:
    """Record that a call opens a session, as a call that ends at once and whose result is the run identifier.

    Returns the record.

    Args:
        node: What the record says was called.
        args: The positional arguments.
        kwargs: The keyword arguments.
        caller: The frame of the call.
        branch: The task that opens it; see ``CallRecord.branch``.
        begin: Begins the session, and returns its run identifier. It is called with the identifier on record if the
            run of this session is resumed and had opened such a session at this place, or else with None; and with
            whether the call had gone on after that session.
    """
    record, known, is_left = begin_step(node, args, kwargs, caller, branch)
    try:
        identifier = begin(known, is_left)
    except BaseException as exc:
        fail_step(record, caller, exc)
        raise
    end_step(record, caller, identifier)
    recorder = caller.coordinator.recorder
    if recorder is not None and recorder.is_synchronous:
        recorder.require_commit()
    return record


def begin_step(
    node: FunctionNode[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    caller: Frame,
    branch: tuple[int, ...] | None,
) -> tuple[CallRecord, str | None, bool]:
    """Begin what :func:`record_step` records, where beginning the session takes long.

    Returns the record, and what ``begin`` would be called with. :func:`end_step` or :func:`fail_step` ends the call.
    """
    coordinator = caller.coordinator
    state, recorder = coordinator.state, coordinator.recorder
    record = state.created(node.name, node.node_type, args, kwargs, caller.record, coordinator.now())
    record.branch = branch
    assert recorder is not None
    try:
        match = recorder.on_created(record, node, caller.history_node)
        known = None if match is None else match.recorded_result
    except BaseException as exc:
        fail_step(record, caller, exc)
        raise
    return record, known, match is not None and known is not None and match.is_left


def end_step(record: CallRecord, caller: Frame, identifier: str) -> None:
    """Record that the session was begun, as the run with this identifier. The caller puts that on disk."""
    coordinator = caller.coordinator
    coordinator.state.succeeded(record, identifier, coordinator.now())
    record_end(coordinator, record)


def fail_step(record: CallRecord, caller: Frame, exc: BaseException) -> None:
    """Record that the session could not be begun."""
    coordinator = caller.coordinator
    coordinator.state.failed(record, exc, coordinator.now())
    record_end(coordinator, record)
