"""How code in another thread gets to the event loop of its session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from railtracks._concurrency._asyncio_requests import CHECK_EVERY
from railtracks._concurrency._event_loop import call_soon, running_library
from railtracks._concurrency._interrupts import Gate
from railtracks._concurrency._kinds import is_kind
from railtracks._concurrency._threads import UnansweredError, run_in_loop
from railtracks._concurrency._work_item import Outcome
from railtracks._context_variable import current
from railtracks.exceptions import SessionEndedError
from railtracks.execution._coordinator import Frame
from railtracks.execution._entering import call_here
from railtracks.execution._lifecycle import Operation, Phase
from railtracks.execution._node_errors import Unwound
from railtracks.execution._node_policies import place_of
from railtracks.execution._work_thread import WorkThread
from railtracks.nodes import FunctionNode

if TYPE_CHECKING:
    from anyio.lowlevel import EventLoopToken

T = TypeVar("T")
WAIT_FOR_THREAD = "wait for the thread that calls it before the session ends"
"""What to do about a call of another thread that comes too late; for errors."""


def run_in_session(frame: Frame, func: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
    """Run ``func`` on the event loop of the session that this thread is in, and wait for it. Blocks.

    Args:
        frame: The frame of the code in this thread.
        func: What to run.
        name: What the user has called, for errors.

    Raises:
        BaseException: whatever ``func`` raises, as the same object.
        SessionEndedError: the session has ended, or the call that this thread works for was cancelled.
        SessionError: the session has no event loop that can be reached.
    """
    coordinator = frame.coordinator
    if _is_unwound(frame):
        raise Unwound
    if is_abandoned(frame):
        raise SessionEndedError(
            f"{name} came from a thread whose call was cancelled; let its function return, "
            f"or have its call wait for it: @rt.function_node(abandon_on_cancel=False)"
        ) from coordinator.failure
    try:
        token = None if coordinator.threads.is_host_of_this_thread() else coordinator.loop.require_token()
        return run_in_loop(func, token)
    except Exception as exc:
        if _is_unwound(frame):
            raise Unwound from None
        if not is_kind(exc, UnansweredError):
            raise
        reason = (
            "the call of its thread was cancelled; let the function return"
            if is_abandoned(frame)
            else f"its session has ended; {WAIT_FOR_THREAD}"
        )
        raise SessionEndedError(f"{name} was not finished: {reason}") from coordinator.failure or exc


def call_from_thread(node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Any:
    """Make a call in the session that this thread is in, and wait for it. Blocks.

    Args:
        node: What to call.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        name: What the user has called, for errors.

    Raises:
        BaseException: as ``run_in_session``.
    """
    frame: Frame = current.get()
    coordinator = frame.coordinator
    if coordinator.lifecycle.is_closed:
        raise SessionEndedError(f"{name} came after its session had ended; {WAIT_FOR_THREAD}") from coordinator.failure
    # The thread of a sync node does what the task of an async one does: its calls follow each other.
    is_own = coordinator.threads.is_host_of_this_thread() or (isinstance(frame.task, WorkThread) and frame.task.is_here)
    branch = () if frame.record is None or is_own else None
    make_call = partial(call_here, node, args, kwargs, branch)
    if place_of(node, coordinator.policies) == "caller":
        return _run_and_serve(frame, make_call, name)
    return run_in_session(frame, make_call, name)


def _run_and_serve(frame: Frame, func: Callable[[], Coroutine[Any, Any, T]], name: str) -> T:
    """Do as ``run_in_session``, and run here meanwhile what is to run in the thread that calls."""
    from railtracks.execution._calling_thread import CallingThread  # here, as few programs need it

    coordinator = frame.coordinator
    if is_abandoned(frame):
        return run_in_session(frame, func, name)  # which raises
    token = coordinator.loop.require_token()

    def spawn(run: Callable[[], Awaitable[None]], on_end: Callable[[], object]) -> None:
        coordinator.lifecycle.require(Operation.CALL, name)
        nursery = coordinator.nursery
        if nursery is None:
            raise SessionEndedError(f"{name} came after its session had ended; {WAIT_FOR_THREAD}")
        nursery.spawn(run, on_end)

    try:
        return CallingThread(token).wait(func, spawn, lambda: coordinator.lifecycle.phase is Phase.OVER)
    except LookupError:
        reason = (
            "the call of its thread was cancelled; let the function return"
            if is_abandoned(frame)
            else f"its session has ended; {WAIT_FOR_THREAD}"
        )
        raise SessionEndedError(f"{name} was not finished: {reason}") from None


def _is_unwound(frame: Frame) -> bool:
    """Return whether the run is being suspended, so that code of nodes must not take what comes for an error."""
    return frame.record is not None and frame.coordinator.state.is_suspending


def is_abandoned(frame: Frame) -> bool:
    """Return whether the call at ``frame`` was cancelled, and its thread left behind."""
    return frame.record is not None and frame.record.abandoned


def run_quickly(frame: Frame, func: Callable[[], T], name: str) -> T:
    """Run a function that never waits where the session's records may be changed: on its event loop. May block.

    The arguments are those of ``run_in_session``.
    """
    coordinator = frame.coordinator
    is_in_loop = running_library() is not None and not coordinator.threads.is_host_of_this_thread()
    if is_in_loop and (coordinator.loop.is_this_thread or not coordinator.loop.is_bound):
        return func()

    token = coordinator.loop.token
    if running_library() == "trio" and token is not None:  # there trio refuses to wait for another event loop
        return _run_soon(frame, func, token, name)

    async def run() -> T:
        return func()

    return run_in_session(frame, run, name)


def _run_soon(frame: Frame, func: Callable[[], T], token: EventLoopToken, name: str) -> T:
    outcome: list[Outcome[T]] = []
    answered = Gate()

    def answer() -> None:
        try:
            outcome.append(Outcome(func()))
        except BaseException as exc:
            outcome.append(Outcome(exc=exc))
        answered.open()

    call_soon(token, answer)
    while not answered.wait(CHECK_EVERY):
        if is_abandoned(frame) or frame.coordinator.lifecycle.is_closed:
            raise SessionEndedError(f"{name} was not finished: its session has ended; {WAIT_FOR_THREAD}")
    return outcome[0].unwrap()
