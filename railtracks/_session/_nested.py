"""Sessions that are opened in a call of another session: steps of its run, which go on when that is resumed.

The identifier of the run that the inner session is stored as is on record in the outer run, as the result of a call.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from railtracks.execution import Frame
from railtracks.execution._from_thread import run_quickly
from railtracks.execution._recording._recorder import Recorder
from railtracks.execution._steps import record_step
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
    is_fork, step = frame.coordinator.recorder.is_fork, session._flow_step

    def begin(known: str | None, is_left: bool) -> str:
        if known is not None and is_fork:
            session._fork_from(known)
        elif known is not None:
            session._rename(known)
        session._acquire_run(known is not None and not is_fork, is_left)
        return session.identifier

    label = session.name or "session" if step is None else step.name
    # A session of another flow is another step, also where the arguments are equal.
    origin, version = f"{_ORIGIN}:{label}", None if step is None else step.entry_point.key
    node = FunctionNode(begin, name=label, node_type="Other", is_async=False, origin=origin, version=version)
    if step is not None:
        node.target = step.entry_point.target  # whose parameters may name secrets
    args, kwargs = ((), {}) if step is None else (step.args, step.kwargs)
    record = functools.partial(record_step, node, args, kwargs, frame, _branch_of(frame), begin)
    opened = run_quickly(frame, record, f"the session {session.identifier}")
    session._outer_call = OuterCall(frame.coordinator.recorder, opened)


def _branch_of(frame: Frame) -> tuple[int, ...] | None:
    """Return the numbers of the current task among those of the call at ``frame``; None if it is the call's own one."""
    loop = frame.coordinator.loop
    is_own = not loop.is_current or loop.task_here is frame.task
    return None if is_own else frame.coordinator.branches.of_task(loop.current_task(), frame.record)
