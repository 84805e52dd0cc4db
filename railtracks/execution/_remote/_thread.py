"""Async nodes in a worker thread: each with an event loop of its own, and all memory of the session."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from contextvars import copy_context
from importlib import import_module
from typing import Any

import attrs

from railtracks._concurrency._threads import run_in_thread
from railtracks._context_variable import current
from railtracks._test_hooks import runtime_hooks
from railtracks.execution._home import CallFrame
from railtracks.execution._node_errors import reason_of
from railtracks.execution._remote._arrival import Arrival
from railtracks.execution._remote._order import WORKER, Report
from railtracks.execution._remote._orders import config_in_worker, make_order
from railtracks.execution._remote._outcome import note_failure, wait_for_timeout
from railtracks.execution._remote._place import note_place
from railtracks.nodes import FunctionNode
from railtracks.state import Reason


class OwnLoopStrategy:
    """Runs an async node in a worker thread, with an event loop of its own.

    A cancellation is passed on to that event loop, and its end is waited for.
    """

    async def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        frame: CallFrame = current.get()
        coordinator = frame.coordinator
        order = make_order(frame, config_in_worker(coordinator.config), coordinator.store, shares_memory=True)
        cancellation = _Cancellation()
        reports: list[Report] = []
        context = copy_context()
        context.run(current.set, None)
        # The session here is what is observed, and no thread may wait there for a turn that is given here.
        hooks = attrs.evolve(runtime_hooks.get(), observer=None, wrap_strategy=None, thread_scheduler=None)
        context.run(runtime_hooks.set, hooks)
        if (sniffio := sys.modules.get("sniffio")) is not None:  # or no event loop could be started there
            context.run(sniffio.current_async_library_cvar.set, None)

        def work() -> None:
            run = import_module(WORKER).run_here
            reports.append(run(order, node, args, kwargs, coordinator.redactor, cancellation.set_up))

        async def abandon() -> bool:
            assert frame.run is not None
            exc = sys.exc_info()[1]
            cancellation.request(Reason.OUTSIDE if exc is None else reason_of(exc, frame.run, sys._getframe()))
            return True

        note_place(frame, {"place": "thread"})
        try:
            await run_in_thread(
                functools.partial(context.run, work),
                abandon_on_cancel=True,
                limit=coordinator.threads.limit,
                name=node.name,
                on_abandon=abandon,
            )
        finally:
            if reports:
                arrival = Arrival(frame, reports[0], is_packed=False)
                await arrival.take_in()
        ended = reports[0].ended
        if "error" not in ended:
            return ended["value"]
        if reports[0].timed_out:
            await wait_for_timeout()
        note_failure(frame, arrival, ended["error"])
        raise ended["error"]


class _Cancellation:
    """A cancellation that may come before there is something to cancel. For two threads."""

    def __init__(self) -> None:
        self._cancel: Callable[[Reason], None] | None = None
        self._cause: Reason | None = None

    def set_up(self, cancel: Callable[[Reason], None]) -> None:
        """Note what cancels the call, in its thread."""
        self._cancel = cancel
        if self._cause is not None:
            cancel(self._cause)

    def request(self, cause: Reason) -> None:
        """Cancel the call, in the thread of its caller."""
        self._cause = cause
        if self._cancel is not None:
            self._cancel(cause)
