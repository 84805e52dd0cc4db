"""The policies of a node at a call of it: what stands between the record of the call and the strategy that runs it.

A call without policies comes nowhere near this. With them, in this order: its result may be in the cache; it waits for
its limit, and its strategy for a place; then its timeout begins, and the function runs. Retries are further out, in
``_attempts.py``, as each attempt is a call on record.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from railtracks._concurrency._task_groups import split_cancellation
from railtracks._context_variable import current
from railtracks._policies import Cache, Policies
from railtracks.exceptions import NodeTimeOutError
from railtracks.execution._call_scopes import CallScopes, NodeDeadline, RootCall
from railtracks.execution._strategies import ExecutionStrategy
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Reason
from railtracks.state._transitions import RTState

if TYPE_CHECKING:  # not loaded before they are needed
    from railtracks.execution._cached_calls import CachedCalls
    from railtracks.execution._limits import SessionLimits


class CallingSession(Protocol):
    """The ``Coordinator``, as far as this module needs it. It explains these members."""

    limits: SessionLimits | None

    def use_limits(self) -> SessionLimits: ...
    def use_cached_calls(self) -> CachedCalls: ...


class Call(NamedTuple):
    """A call that is about to run."""

    node: FunctionNode[..., Any]
    """What is called."""
    args: tuple[Any, ...]
    """Its positional arguments."""
    kwargs: Mapping[str, Any]
    """Its keyword arguments."""
    record: CallRecord
    """Its record."""
    root: RootCall
    """The top-level call that it is part of."""


def place_of(node: FunctionNode[..., Any], session: Policies | None) -> str | None:
    """Return where a node runs: as it says, or, if it is sync, as the session says; None if neither does.

    Args:
        node: The node.
        session: The policies of its session, if that has some.
    """
    declared = None if node.policies is None else node.policies.where
    if declared is not None or node.is_async or session is None:
        return declared
    return node.policies_over(session).where


def run_with_policies(
    policies: Policies,
    strategy: ExecutionStrategy,
    call: Call,
    state: RTState,
    scopes: CallScopes,
    may_be_cached: bool = True,
) -> Awaitable[Any]:
    """Run one attempt of a call as the policies of its node say. Awaiting what is returned gives its result.

    Args:
        policies: The policies.
        strategy: Runs the function.
        call: The call.
        state: The records of the session.
        scopes: The cancel scopes of its calls.
        may_be_cached: Whether its result may be that of an equal call; False for the call that makes such a result.

    Raises:
        NodeTimeOutError: it took longer than its ``timeout``.
        LimitExceededError: it would exceed a limit, and may not wait, or not any longer.
        BaseException: whatever the node raises, as the same object.

    Cancellation: passed on; nothing is left that the policies had taken.
    """
    cache = policies.cache
    if cache and may_be_cached:
        assert isinstance(cache, Cache)
        compute = partial(run_with_policies, policies, strategy, call, state, scopes, may_be_cached=False)
        return _session().use_cached_calls().run(cache, call.node, call.record, compute)
    limits = _session().limits
    if policies.is_own or (limits is None and policies.limit is None):  # no coroutine more than it needs
        return _run_in_time(policies.timeout, strategy, call, state, scopes)
    return _run_within_limits(policies, strategy, call, state, scopes)


def _session() -> CallingSession:
    return current.get().coordinator  # type: ignore[no-any-return]


async def _run_within_limits(
    policies: Policies, strategy: ExecutionStrategy, call: Call, state: RTState, scopes: CallScopes
) -> Any:
    session = _session()
    limits = session.limits or session.use_limits()
    places = limits.acquire_nowait(policies, call.node, call.record)
    if places is None:
        places = await limits.acquire(policies, call.node, call.record)
    try:
        seconds = policies.timeout
        if seconds is None:
            return await strategy.execute(call.node, call.args, call.kwargs)
        return await _run_in_time(seconds, strategy, call, state, scopes)
    finally:
        limits.release(places)


async def _run_in_time(
    seconds: float | None, strategy: ExecutionStrategy, call: Call, state: RTState, scopes: CallScopes
) -> Any:
    if seconds is None or seconds == math.inf:
        return await strategy.execute(call.node, call.args, call.kwargs)
    root, record = call.root, call.record
    error: BaseException | None = None
    result: Any = None
    deadline = NodeDeadline(record, seconds, scopes.scope_type)
    scope = deadline.scope
    root.node_deadlines[scope] = deadline
    try:
        with scope:
            try:
                result = await strategy.execute(call.node, call.args, call.kwargs)
            except Exception as exc:
                error = exc  # kept from the scope: on trio a cancelled one rebuilds groups, into other objects
            except BaseException as exc:
                note_waiting(state, root, record, exc, sys._getframe())
                raise
    finally:
        del root.node_deadlines[scope]
    if not scope.cancel_called:  # read after the scope was left: before, trio answers for the clock
        if error is not None:
            raise error
        return result
    await scopes.cancel_calls_of(lambda caller: state.is_within(caller, record), Reason.NODE_TIMEOUT)
    record.reason, record.timeout = Reason.NODE_TIMEOUT, seconds
    message = f"{record.name} exceeded its timeout of {seconds:g} s; set the timeout of the node, or math.inf for none"
    raise NodeTimeOutError(seconds, message, deadline.waiting or ()) from error


def note_waiting(state: RTState, root: RootCall, record: CallRecord, exc: BaseException, frame: Any) -> None:
    """Note where calls waited when a deadline of a node expired, at the first call that the cancellation has left.

    Args:
        state: The records of the session.
        root: The top-level call.
        record: The call.
        exc: What has left it.
        frame: The Python frame that ``exc`` has reached.
    """
    cancellation = split_cancellation(exc)[0]
    if cancellation is None or not root.node_deadlines:
        return
    deadline = root.expired_deadline(cancellation, frame)
    if deadline is not None and deadline.waiting is None:
        from railtracks.execution._waiting import waiting_calls  # here, as few programs need it

        traceback = exc.__traceback__
        below = deadline.record
        deadline.waiting = waiting_calls(
            state.live_entries(), record.run, record, traceback and traceback.tb_next,
            lambda each: state.is_within(each, below),
        )  # fmt: skip
