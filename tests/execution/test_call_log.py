"""The log lines and events of calls, as a table over the transitions of a record."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from railtracks._logging import SessionLog
from railtracks.execution._call_log import CallLog
from railtracks.pubsub import RTPublisher
from railtracks.state import CallCancelled, CallCreated, CallFailed, CallSucceeded, Reason
from railtracks.state._records import REUSED
from railtracks.state._transitions import RTState

ERROR = ValueError("no")
EXIT = SystemExit(3)


class Observed:
    """A publisher's observer that keeps the events."""

    observes_calls = True

    def __init__(self):
        self.events = []

    def on_event(self, event):
        self.events.append(event)


def ended(kind):
    """Return a record that ended in some way, below another one."""
    state = RTState()
    parent = state.created("parent", "Tool", (), {}, None, 1.0)
    record = state.created("child", "Tool", (1,), {"x": 2}, parent, 2.0)
    match kind:
        case "succeeded" | "replayed":
            state.succeeded(record, 7, 3.5)
            record.reuse = REUSED if kind == "replayed" else None
        case "failed":
            state.failed(record, ERROR, 3.5)
        case "exited":
            state.failed(record, EXIT, 3.5)
        case _:
            state.cancelled(record, Reason(kind), 3.5)
    return parent, record


ENDS: dict[str, tuple[str, type[Any], dict[str, Any]]] = {
    "succeeded": ("child DONE", CallSucceeded, {"result": 7}),
    "replayed": ("child REUSED", CallSucceeded, {"result": 7}),
    "failed": ("child FAILED", CallFailed, {"exception": ERROR}),
    "exited": ("child FAILED", CallFailed, {"exception": EXIT}),
    "timeout": ("child CANCELLED (timeout)", CallCancelled, {"reason": Reason.TIMEOUT}),
    "end_on_error": ("child CANCELLED (end_on_error)", CallCancelled, {"reason": Reason.END_ON_ERROR}),
    "outside": ("child CANCELLED (outside)", CallCancelled, {"reason": Reason.OUTSIDE}),
}


def call_log(level="REGULAR", observer=None):
    log = SessionLog(level, None, "s", lambda: 0.0)
    return CallLog("s", 100.0, log, RTPublisher(log, observer))


@pytest.mark.parametrize("kind", ENDS)
def test_the_end_of_a_call_is_one_line_and_one_event(caplog, kind):
    line, event_class, members = ENDS[kind]
    observer = Observed()
    caplog.set_level(logging.INFO, "RT")
    _, record = ended(kind)
    call_log(observer=observer).ended(record)
    assert [(entry.getMessage(), entry.run_id, entry.node_id) for entry in caplog.records] == [(line, "s-r0", "s-n1")]
    (event,) = observer.events
    assert type(event) is event_class
    assert {name: getattr(event, name) for name in members} == members
    assert (event.time, event.step, event.parent_id) == (103.5, record.ended_step, "s-n0")


def test_a_call_is_announced_with_its_caller(caplog):
    observer = Observed()
    caplog.set_level(logging.INFO, "RT")
    parent, record = ended("succeeded")
    log = call_log(observer=observer)
    log.created(parent, None)
    log.created(record, parent)
    assert [entry.getMessage() for entry in caplog.records] == ["START CREATED parent", "parent CREATED child"]
    assert [type(event) for event in observer.events] == [CallCreated] * 2
    assert (observer.events[1].args, observer.events[1].kwargs, observer.events[1].time) == ((1,), {"x": 2}, 102.0)


@pytest.mark.parametrize(
    ("level", "observed", "active"),
    [("REGULAR", False, True), ("QUIET", False, False), ("NONE", True, True), ("NONE", False, False)],
)
def test_it_is_active_if_a_line_or_an_event_has_a_receiver(level, observed, active):
    assert call_log(level, Observed() if observed else None).is_active is active


def test_an_abandoned_thread_is_a_warning(caplog):
    _, record = ended("outside")
    call_log("QUIET").abandoned(record)
    (entry,) = caplog.records
    assert entry.levelno == logging.WARNING
    assert "child was cancelled" in entry.getMessage()
    assert "abandon_on_cancel=False" in entry.getMessage()
