"""Values that differ from run to run, and time: ``now``, ``uuid4``, ``random`` and ``sleep``.

What such a function gave is on record, as a call of its own, so a run that is resumed sees the same again.
"""

from __future__ import annotations

import functools
import math
import random as _random
import uuid
from datetime import UTC, datetime
from typing import Any

import anyio

from railtracks._calls._call import call
from railtracks._context_variable import current
from railtracks._policies import OWN_POLICIES
from railtracks._test_hooks import runtime_hooks
from railtracks._wording import expected_value
from railtracks.exceptions import NodeInvocationError
from railtracks.execution import Frame
from railtracks.execution._from_thread import run_quickly
from railtracks.execution._steps import record_value
from railtracks.nodes import FunctionNode
from railtracks.state._serialization._record_text import loads

_UNTIL = "railtracks.sleep.until"
"""The attribute of a call of ``sleep`` that says when it ends, in seconds since the epoch."""


def now() -> datetime:
    """Return the current time, in UTC. A run that is resumed gets the time that it got before.

    It can be called anywhere: in a node, in the body of a session, in threads. Outside sessions nothing is recorded.
    Under ``rt.testing`` it is the virtual time.
    """
    value: datetime = _recorded(_NOW)
    return value


def uuid4() -> uuid.UUID:
    """Return a random UUID. A run that is resumed gets the one that it got before; see :func:`now`.

    It serves as a key that makes a request idempotent: the request that is repeated has the same key.
    Under ``rt.testing`` it depends on the seed.
    """
    value: uuid.UUID = _recorded(_UUID4)
    return value


def random() -> _random.Random:
    """Return a new random generator. A run that is resumed gets one that gives the same numbers; see :func:`now`.

    Not for secrets: the seed is on record. Under ``rt.testing`` it depends on the seed there.
    """
    return _random.Random(_recorded(_RANDOM))  # noqa: S311 (it must be repeatable)


async def sleep(seconds: float) -> None:
    """Wait. A run that is resumed in the meantime waits only for what is left, however long it was not running.

    The time counts towards the ``timeout`` of the top-level call.

    Args:
        seconds: How long to wait.

    Raises:
        NodeInvocationError: ``seconds`` is not a number of at least 0.

    Cancellation: ends the wait.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        expected = expected_value(f"a number of seconds of at least 0, got {seconds!r}", seconds)
        raise NodeInvocationError(f"rt.sleep: expected {expected}")
    await call(_SLEEP, seconds)


# ---- the nodes behind these functions. Their keys are on record, so they do not change.


def _now() -> datetime:
    return datetime.fromtimestamp(_wall(current.get()), UTC)


def _uuid4() -> uuid.UUID:
    return uuid.UUID(bytes=runtime_hooks.get().random_bytes(16), version=4)


def _seed() -> int:
    return int.from_bytes(runtime_hooks.get().random_bytes(16), "big")


async def _sleep(seconds: float) -> None:
    frame: Frame = current.get()
    started = _wall(frame)
    known = None if frame.history_node is None else frame.history_node.record
    recorded = {} if known is None or known.attributes is None else loads(known.attributes)
    until = recorded.get(_UNTIL, started + seconds)
    assert frame.record is not None
    frame.coordinator.set_attributes(frame.record, {_UNTIL: until})
    await anyio.sleep(max(0.0, min(seconds, until - started)))  # the clock may have been set back meanwhile


def _wall(frame: Frame | None) -> float:
    """Return the time in seconds since the epoch."""
    return runtime_hooks.get().wall() if frame is None else frame.coordinator.now()


def _node(func: Any, name: str, is_async: bool = True) -> FunctionNode[..., Any]:
    return FunctionNode(
        func, name=name, node_type="Other", is_async=is_async, origin=f"railtracks.{name}", policies=OWN_POLICIES
    )


_NOW, _UUID4, _RANDOM = _node(_now, "now"), _node(_uuid4, "uuid4"), _node(_seed, "random")
_SLEEP = _node(_sleep, "sleep")


def _recorded(node: FunctionNode[..., Any]) -> Any:
    """Return what the function of ``node`` returns, or what it returned in the run that is resumed."""
    frame: Frame | None = current.get()
    if frame is None or not frame.coordinator.lifecycle.is_recorded:
        return node.func()
    return run_quickly(frame, functools.partial(record_value, node, frame), f"rt.{node.name}()")
