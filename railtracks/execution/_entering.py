"""Calls that enter a task: top-level calls, and the first call in each task that user code started below one.

Each has a cancel scope of its own, waits for what was started below it, and decides what its caller gets. Nested calls
have none of that: ``Coordinator.run`` runs them in the task, and so in the scope, of the call that makes them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from railtracks._concurrency._cancellation import checkpoint_if_cancelled
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._lost_cancellation import count_cancellations, lost_cancellation
from railtracks._concurrency._task_groups import split_cancellation
from railtracks._context_variable import current
from railtracks.exceptions import GlobalTimeOutError, SessionEndedError, SessionError
from railtracks.execution._budget import over_budget
from railtracks.execution._call_scopes import CallScope, RootCall
from railtracks.execution._coordinator import Coordinator, Frame
from railtracks.execution._lifecycle import Operation
from railtracks.execution._loop_access import require_own_loop
from railtracks.execution._node_errors import Unwound
from railtracks.execution._pump_nursery import run_with_pumps
from railtracks.nodes import FunctionNode
from railtracks.pubsub import callback_of
from railtracks.state import Reason


async def call_here(
    node: FunctionNode[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    branch: tuple[int, ...] | None = None,
) -> Any:
    """Make a call in the session of the running code: nested, if the task is that of a call, or else by ``enter``."""
    frame: Frame = current.get()
    coordinator = frame.coordinator
    task = coordinator.loop.task_here
    if frame.task is task and frame.run is not None:
        return await coordinator.run(node, args, kwargs, frame, frame.run, task)
    return await enter(node, args, kwargs, frame, branch=branch)


async def enter(
    node: FunctionNode[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    caller: Frame,
    commits: bool = True,
    branch: tuple[int, ...] | None = None,
    pauses: bool = True,
    root: RootCall | None = None,
) -> Any:
    """Run a call in a task that is not inside a call, as a call of the session that ``caller`` is in.

    The arguments are those of ``Coordinator.run``. Without a ``branch`` it is that of the current task; an
    empty one stands for the task that runs the calling call itself. ``root`` is the call itself, if the caller wants to
    know its record, and it is a top-level call; it has begun to count its timeout.

    Raises:
        Exception: whatever the node raises, as the same object; under ``end_on_error`` the session's first error.
        GlobalTimeOutError: the top-level call took longer than its ``timeout``.
        LimitExceededError: the session has used up its ``budget``.
        SessionEndedError: the call came too late, or the end of its session cancelled it.
        SessionError: it came in another event loop than its session's.

    Cancellation: everything below the call is cancelled, and its cleanup waited for, before this is passed on.
    """
    coordinator = caller.coordinator
    try:
        check_can_call(node, caller)
    except SessionError:
        await checkpoint_if_cancelled()  # in code that is being cancelled, that is what counts
        raise
    if coordinator.owns_nursery or callback_of.get() is coordinator.publisher:  # a callback has its pump
        return await _run_in_scope(node, args, kwargs, caller, commits, branch, pauses, root)
    coordinator.bind()
    return await run_with_pumps(
        coordinator,
        Frame(coordinator),
        lambda: _run_in_scope(node, args, kwargs, caller, commits, branch, pauses, root),
    )


def check_can_call(node: FunctionNode[..., Any], caller: Frame) -> None:
    """Check that a call may begin here and now.

    Raises:
        SessionError: it may not; ``__cause__`` is the error that ended the session, if one did.
    """
    coordinator, root = caller.coordinator, caller.run
    if not coordinator.lifecycle.allows(Operation.CALL):
        coordinator.lifecycle.require(Operation.CALL, f"the call of {node.name}")
    if root is not None and root.finished:
        raise SessionEndedError(
            f"the call of {node.name} came after the call it belongs to had ended; "
            f"wait for the task that makes it, for example in an `async with anyio.create_task_group()`"
        ) from coordinator.failure
    check_event_loop(node.name, coordinator)


def check_event_loop(name: str, coordinator: Coordinator) -> None:
    """Check that a call of a node called ``name`` can begin in the event loop that runs here, if one does.

    Raises:
        SessionError: the session is bound to another one.
    """
    if not coordinator.loop.is_this_thread:
        require_own_loop(coordinator, f"the call of {name}", f"rt.call_sync, {name}, ...")


async def _run_in_scope(
    node: FunctionNode[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    caller: Frame,
    commits: bool,
    branch: tuple[int, ...] | None,
    pauses: bool,
    root: RootCall | None,
) -> Any:
    coordinator = caller.coordinator
    scopes = coordinator.scopes
    is_top = caller.run is None
    root = caller.run or root or coordinator.new_root()
    if root.budget is not None and is_top and root.deadline <= coordinator.loop.current_time():
        raise over_budget(root.budget, f"the call of {node.name} came after the session had used up")
    task = coordinator.loop.current_task()
    if branch is None and not (is_top and coordinator.is_body(task)):
        branch = coordinator.branches.of_task(task, caller.record)
    cancellations = count_cancellations(task)
    if cancellations:
        raise_lost_cancellation(coordinator, task, is_top)
    scope = scopes.add(root, caller.record, task, cancellations)
    result: Any = None
    error: BaseException | None = None

    try:
        try:
            with scope.cancel_scope:
                try:
                    if pauses and coordinator.must_pause:  # before its index is known
                        await coordinator.pause(node.name, caller)
                    if is_top:
                        root.index = len(coordinator.state.entries)
                    result = await coordinator.run(
                        node, args, kwargs, caller, root, task, commits, branch or None, pauses=False
                    )
                except BaseException as exc:
                    if not is_kind(exc, Exception) and split_cancellation(exc)[0] is not None:
                        raise
                    error = exc  # kept from the scope: on trio a cancelled one rebuilds groups, into other objects
                # Like a nursery, a top-level call waits for what was started in it; within the scope, so that its
                # deadline counts.
                if is_top and error is None and len(root.scopes) > 1:
                    await scopes.changed.wait_while(lambda: _has_other_scopes(root, coordinator))
        except Exception as exc:  # what a scope leaves of a group that held cancellations too
            error = exc
        finally:
            if is_top:
                del root.scopes[scope]
                root.finished = True
                if coordinator.streams is not None:  # their calls may have ended, and wait for a consumer all the same
                    coordinator.streams.cancel_orphaned(root)
                if root.scopes:
                    await scopes.finish(root)
        # The scope is not removed yet: in a task that a thread started this may wait for a cancellation, and on asyncio
        # that never comes once the scopes around it were left.
        if error is None and not scope.cancel_scope.cancel_called and coordinator.lifecycle.failure is None:
            return result
        return await _outcome(node, scope, root, coordinator, result, error, is_top)
    finally:
        scopes.remove(root, scope)


def raise_lost_cancellation(coordinator: Coordinator, task: object, is_top: bool) -> None:
    """Raise the native cancellation of a task that is in no call, if one came there and was caught."""
    earlier = coordinator.earlier_cancellations(task, is_top)
    if earlier is not None and (lost := lost_cancellation(task, earlier)) is not None:
        raise lost


def _has_other_scopes(root: RootCall, coordinator: Coordinator) -> bool:
    if coordinator.streams is not None:  # or this would wait for calls that nothing consumes
        coordinator.streams.cancel_orphaned(root)
    return len(root.scopes) > 1


async def _outcome(
    node: FunctionNode[..., Any],
    scope: CallScope,
    root: RootCall,
    coordinator: Coordinator,
    result: Any,
    error: BaseException | None,
    is_top: bool,
) -> Any:
    """Return or raise what the caller gets, now that the scope was left and everything below it has ended."""
    failure = coordinator.failure
    if coordinator.state.is_suspending and failure is not None and not is_kind(error, (KeyboardInterrupt, SystemExit)):
        if not is_top:  # code of users must not take it for an error
            await checkpoint_if_cancelled()
            _retrieve_exception(coordinator.loop.current_task())
            raise Unwound
        raise failure.with_traceback(None)
    if error is not None and not is_kind(error, Exception):  # such as SystemExit, which nothing may replace
        raise error
    if not scope.cancel_scope.cancel_called and failure is None:
        if error is not None:
            raise error
        return result
    if not is_top:  # in a task of user code that is itself cancelled, that is what counts
        await checkpoint_if_cancelled()
    if scope.cause is not None:
        _retrieve_exception(coordinator.loop.current_task())
    if failure is not None:
        raise failure.with_traceback(coordinator.failure_traceback)
    if scope.timed_out:
        if is_top and not scope.cancel_scope.cancelled_caught:
            assert root.index is not None
            coordinator.call_log.timed_out(node.name, root.index, root.timeout, root.waiting or (), root.budget)
        if root.budget is not None:
            raise over_budget(root.budget, f"the call of {node.name} was cancelled: the session has used up") from error
        message = f"{node.name} exceeded the timeout of {root.timeout:g} s; set timeout=..., or math.inf for no limit"
        if root.has_streamed:
            message = (
                f"{node.name} exceeded the timeout of {root.timeout:g} s of its session, which holds for all of a loop "
                f"over rt.call_stream; a stream that takes longer, or never ends, needs timeout=math.inf"
            )
        raise GlobalTimeOutError(root.timeout, message, root.waiting or ()) from error
    if error is not None:
        raise error
    if scope.cancel_scope.cancelled_caught:
        assert scope.cause is not None
        why = _CAUSES.get(scope.cause, "the call that made it was cancelled")
        raise SessionEndedError(f"the call of {node.name} was cancelled: {why}")
    return result


_CAUSES = {
    Reason.SESSION_ENDED: "its session has ended",
    Reason.OUTSIDE: "its session was cancelled",
    Reason.REQUEST: "the run was cancelled on request",
    Reason.HANDLE: "cancel() of its handle was called",
    Reason.RUN_ENDED: "the top-level call it belongs to has ended",
}


def _retrieve_exception(task: object) -> None:
    """Spare the owner of a task that the session cancelled, and that nothing may await, asyncio's "never retrieved"."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(task, asyncio.Task):
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
