"""Sessions that are opened in a call of another session: steps of its run, which go on when that is resumed.

The identifier of the run that the inner session is stored as is on record in the outer run, as the result of a call.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from railtracks.execution import Frame
from railtracks.execution._from_thread import run_quickly
from railtracks.execution._recording._recorder import Recorder
from railtracks.execution._steps import begin_step, end_step, fail_step, record_step
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord

_ORIGIN = "railtracks.session"


class FlowStep(NamedTuple):
    """What a flow calls in its session."""

    name: str
    """The name of the flow."""
    entry_point: FunctionNode[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class OuterCall(NamedTuple):
    """Where a session is a step of another one."""

    recorder: Recorder
    """The recorder of the outer session."""
    record: CallRecord
    """The record of the step."""

    def note_failure(self, exc: BaseException) -> None:
        """Note that an exception leaves the inner session, and so comes to the code that opened it."""
        self.recorder.failed_calls.add_step(self.record, exc)


class _Session(Protocol):
    """A session, as far as this module needs it."""

    identifier: str
    name: str | None
    _flow_step: FlowStep | None
    _outer_call: OuterCall | None

    def _rename(self, identifier: str) -> None: ...

    def _fork_from(self, identifier: str) -> None: ...

    def _acquire_run(self, goes_on: bool = False, is_left: bool = False) -> None: ...


def is_in_recorded_call(frame: Frame | None) -> bool:
    """Return whether the running code is in a call of a session that is stored or resumes a run."""
    if frame is None or frame.record is None:
        return False
    coordinator = frame.coordinator
    return coordinator.recorder is not None and coordinator.lifecycle.is_recorded


def acquire_as_step(frame: Frame, session: _Session) -> None:
    """Acquire the run of a session that is opened in a call, and record that in the call's session.

    If the run of that session is resumed, the inner session goes on with the run that it had. In a fork, it goes on
    with a copy of it. If the call had gone on after it, the inner session ends as it did, also if that was a failure.

    Raises:
        RunInUseError: another session has the run open.
    """
    assert frame.coordinator.recorder is not None

    def begin(known: str | None, is_left: bool) -> str:
        session._acquire_run(_take_identifier(frame, session, known), is_left)
        return session.identifier

    node, args, kwargs = _called(session)
    record = functools.partial(record_step, node, args, kwargs, frame, _branch_of(frame), begin)
    opened = run_quickly(frame, record, f"the session {session.identifier}")
    session._outer_call = OuterCall(frame.coordinator.recorder, opened)


@contextmanager
def recorded_step(frame: Frame, session: _Session) -> Iterator[tuple[bool, bool]]:
    """Return a context manager in which the run is acquired, for a store whose locks block.

    It records the same as :func:`acquire_as_step`, and gives the arguments for ``session._acquire_run``. The outer
    session's event loop goes on meanwhile. When it is left, :func:`commit_step` is to be called.
    """
    recorder = frame.coordinator.recorder
    assert recorder is not None
    (node, args, kwargs), name = _called(session), f"the session {session.identifier}"
    begin = functools.partial(begin_step, node, args, kwargs, frame, _branch_of(frame))
    record, known, is_left = run_quickly(frame, begin, name)
    try:
        yield _take_identifier(frame, session, known), is_left
    except BaseException as exc:
        run_quickly(frame, functools.partial(fail_step, record, frame, exc), name)
        raise
    run_quickly(frame, functools.partial(end_step, record, frame, session.identifier), name)
    session._outer_call = OuterCall(recorder, record)


def commit_step(frame: Frame) -> None:
    """Put the record of a step on disk, in a session with ``durability="sync"``. Blocks.

    Raises:
        StateError: it cannot be written, and the outer session ends for that.
    """
    recorder = frame.coordinator.recorder
    if recorder is not None and recorder.is_synchronous:
        recorder.require_commit()


def _take_identifier(frame: Frame, session: _Session, known: str | None) -> bool:
    """Have a session go on with the run that it had, if that is known, and return whether it does."""
    is_fork = frame.coordinator.recorder is not None and frame.coordinator.recorder.is_fork
    if known is not None and is_fork:
        session._fork_from(known)
    elif known is not None:
        session._rename(known)
    return known is not None and not is_fork


def _called(session: _Session) -> tuple[FunctionNode[..., Any], tuple[Any, ...], Mapping[str, Any]]:
    """Return what the record of a step says was called, and with what."""
    step = session._flow_step
    label = session.name or "session" if step is None else step.name
    # A session of another flow is another step, also where the arguments are equal.
    origin, version = f"{_ORIGIN}:{label}", None if step is None else step.entry_point.key
    node = FunctionNode(_called, name=label, node_type="Other", is_async=False, origin=origin, version=version)
    if step is not None:
        node.target = step.entry_point.target  # whose parameters may name secrets
    return (node, (), {}) if step is None else (node, step.args, step.kwargs)


def _branch_of(frame: Frame) -> tuple[int, ...] | None:
    """Return the numbers of the current task among those of the call at ``frame``; None if it is the call's own one."""
    loop = frame.coordinator.loop
    is_own = not loop.is_current or loop.task_here is frame.task
    return None if is_own else frame.coordinator.branches.of_task(loop.current_task(), frame.record)
