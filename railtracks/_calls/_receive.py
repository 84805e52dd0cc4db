"""``receive``: wait for a message that something outside sends to the run."""

from __future__ import annotations

import math
from typing import Any

import anyio

from railtracks._calls._call import call
from railtracks._calls._in_worker import refused_in_worker
from railtracks._context_variable import current
from railtracks._policies import OWN_POLICIES
from railtracks._wording import expected_value
from railtracks.exceptions import ContextError, NodeInvocationError
from railtracks.execution import Frame
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._questions import TOPIC
from railtracks.state._serialization._record_text import loads
from railtracks.state._stores._messages import MESSAGE, check_topic

_UNTIL = "railtracks.receive.until"
"""The attribute of a call that has a timeout: when it ends, in seconds since the epoch."""


async def receive(topic: str, timeout: float | None = None) -> Any:  # noqa: ASYNC109 (its deadline is on record)
    """Wait for the next message of a topic, which ``rt.state.send`` has sent to this run, and take it.

    It is a call like any other, on record as ``receive``: a flow that is resumed has the message, and does not wait
    again. Each message is taken once, and those of one topic in the order in which they were sent. Messages that were
    sent before are there already.

    If nothing else in the run can go on, a flow is suspended: see ``docs/durability.md``. Otherwise this waits. The
    time counts towards the ``timeout`` of the top-level call. In a sync node write
    ``rt.call_sync(rt.receive, topic)``.

    Args:
        topic: The topic.
        timeout: How many seconds to wait at most; None for no limit. A run that is resumed waits for what is left, and
            a run in which a call has a limit is not suspended.

    Returns:
        The value that was sent.

    Raises:
        TimeoutError: no message came in time.
        ConfigError: the topic is not a text.
        NodeInvocationError: ``timeout`` is not a number of at least 0.
        ContextError: there is no session, or it is not stored where messages can be kept.

    Cancellation: the wait ends, and no message is taken.
    """
    check_topic("rt.receive", topic)
    if timeout is None:
        return await call(_RECEIVE, topic)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < math.inf:
        expected = expected_value(f"a timeout in seconds of at least 0, got {timeout!r}", timeout)
        raise NodeInvocationError(f"rt.receive: expected {expected}")
    return await call(_RECEIVE, topic, timeout=timeout)


async def _receive(topic: str, timeout: float | None = None) -> Any:  # noqa: ASYNC109 (as above)
    frame: Frame = current.get()
    coordinator, record = frame.coordinator, frame.record
    assert record is not None
    if coordinator.mailbox is None and coordinator.outbox is not None:
        raise refused_in_worker(f"rt.receive({topic!r})", "receive", "the message")
    if coordinator.mailbox is None:
        raise ContextError(
            f"rt.receive({topic!r}) needs a session whose run is stored, in a store that keeps messages; "
            f"use save_state=True and, for example, store=rt.state.FileStore()"
        )
    check_is_kept(record, f"rt.receive({topic!r})")
    attributes: dict[str, Any] = {TOPIC: topic}
    until: float | None = None
    if timeout is not None:
        now = coordinator.now()
        attributes[_UNTIL] = _recorded_until(frame, now + timeout)
        until = anyio.current_time() + min(timeout, attributes[_UNTIL] - now)  # the clock may have been set back
    coordinator.set_attributes(record, attributes)
    message = await coordinator.mailbox.take(topic, frame, until)
    if message is None:
        raise TimeoutError(f"no message for {topic!r} came within {timeout:g} s")
    coordinator.set_attributes(record, {**attributes, MESSAGE: message.number})
    return message.value


def check_is_kept(record: CallRecord, what: str) -> None:
    """Check that a call that waits for a message is on record, or a message that it took could be taken again.

    Raises:
        ContextError: it is not.
    """
    if record.is_item:
        raise ContextError(
            f"{what} was called in an item of a batch of which few records are kept, but a message must be on record; "
            f'use keep_records="all"'
        )


def _recorded_until(frame: Frame, until: float) -> float:
    """Return when the call ends according to the run that is resumed, unless it had failed there and is tried again."""
    known = None if frame.history_node is None else frame.history_node.record
    if known is None or known.attributes is None or known.status is Status.FAILED:
        return until
    recorded: float = loads(known.attributes).get(_UNTIL, until)
    return recorded


_RECEIVE = FunctionNode(
    _receive, name="receive", node_type="Other", is_async=True, origin="railtracks.receive", policies=OWN_POLICIES
)
