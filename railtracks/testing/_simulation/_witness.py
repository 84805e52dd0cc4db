"""The witness of a simulated run: sees each call from outside the runtime, and writes the trace.

What it saw is what the records are compared with: it stands where a node is run, and knows what really came out of it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from random import Random
from typing import Any, Literal

import anyio
import attrs
from anyio.lowlevel import checkpoint

from railtracks._context_variable import current
from railtracks._test_hooks import Observer, runtime_hooks
from railtracks.execution import ExecutionStrategy, Frame, abandon_current
from railtracks.nodes import FunctionNode
from railtracks.state import Broadcast, CallCancelled, CallCreated, CallFailed, CallSucceeded
from railtracks.state._records import REUSED
from railtracks.testing._simulation._injection import Injector
from railtracks.testing._trace import TraceEvent, arguments, stable_repr
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._tasks import where_raised
from railtracks.testing.faults import Fault, StoreFault

caller: ContextVar[tuple[str, int] | None] = ContextVar("railtracks_testing_caller", default=None)
"""The call that the running code is in, by session and place: what the runtime says of it is not asked."""


@attrs.define(eq=False)
class Seen:
    """A call as the witness saw it.

    ``how`` is None while it runs. ``order`` counts the ends of calls over all sessions.
    """

    task: object
    """In which it runs."""
    caller: tuple[str, int] | None
    """The call in which it was made, by session and place."""
    in_thread: bool
    """It is of a sync node."""
    began: float
    """When it began, in virtual seconds."""
    how: Literal["returned", "raised", "cancelled"] | None = None
    value: Any = None
    order: int = -1
    time: float = math.inf
    """When it ended."""
    place: str = ""
    """Where in the user's code it was when it was cancelled."""
    in_cleanup: bool = False
    """It was made while a cancellation was on its way through its caller."""
    misplaced: bool = False
    """When it ended, another session or call was current than when it began."""


class Witness:
    """Sees all that happens in the sessions of one run; an ``Observer``, and a wrapper of strategies.

    Args:
        clock: Of the run.
        faults: The plan.
        seed: Of the run; decides on faults with a probability, and on extra turns for other tasks before calls.
        cancel: Cancels the run from outside.
    """

    observes_calls = True

    def __init__(
        self, clock: VirtualClock, faults: Sequence[Fault | StoreFault], seed: int, cancel: Callable[[], None]
    ) -> None:
        self.trace: list[TraceEvent] = []
        self.calls: dict[tuple[str, int], Seen] = {}
        self.sessions: list[Any] = []
        self._by_identifier: dict[str, Any] = {}
        self.open: dict[Any, None] = {}
        self.met: list[Fault | StoreFault] = []
        """The faults that happened."""
        self.cut_off: list[tuple[str, int]] = []
        """Calls whose cleanup was cut off: calls that they made while being cancelled never began."""
        outer = runtime_hooks.get().observer  # of a test that simulates; or of a simulation in which this one runs
        self._outer: Observer | None = outer._outer if isinstance(outer, Witness) else outer
        self._clock = clock
        self._turns = Random(f"{seed}/turns")  # noqa: S311 (repeatable, not secret)
        self._injector = Injector(faults, Random(f"{seed}/faults"), self._injected, cancel, abandon_current)  # noqa: S311
        self._ended = 0

    # ---- around calls

    def wrap(self, strategy: ExecutionStrategy) -> ExecutionStrategy:
        return _Witnessed(strategy, self)

    async def execute(
        self,
        strategy: ExecutionStrategy,
        node: FunctionNode[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        frame: Frame = current.get()
        assert frame.record is not None
        cancelled = anyio.get_cancelled_exc_class()
        key = frame.coordinator.session_id, frame.record.index
        in_cleanup = isinstance(sys.exc_info()[1], cancelled)
        seen = Seen(frame.task, caller.get(), not node.is_async, self._clock.now, in_cleanup=in_cleanup)
        self.calls[key] = seen
        token = caller.set(key)
        try:
            # An event loop may take any number of turns to go on; a race that needs some shows only if it does.
            for _ in range(self._turns.choice((0, 0, 0, 1, 2))):
                await checkpoint()
            result = await self._injector.around(node.name, node.is_async, lambda: strategy.execute(node, args, kwargs))
        except Exception as exc:
            self._end(seen, "raised", exc)
            raise
        except BaseException as exc:
            self._end(seen, "cancelled", exc)
            raise
        else:
            self._end(seen, "returned", result)
            return result
        finally:
            seen.misplaced = current.get() is not frame
            caller.reset(token)

    def _end(self, seen: Seen, how: Literal["returned", "raised", "cancelled"], value: Any) -> None:
        seen.how, seen.value, seen.order, seen.time = how, value, self._ended, self._clock.now
        self._ended += 1
        if how == "cancelled" and value.__traceback__ is not None:
            seen.place = where_raised(value.__traceback__.tb_next, Witness.execute.__code__)

    # ---- the trace

    def _add(self, session: str, call: int | None, name: str, what: str, detail: str = "", place: str = "") -> None:
        known = self._by_identifier.get(session)
        if known is not None:  # a trace is printed, in logs that others read
            detail = known._redactor.redact(detail)
        self.trace.append(TraceEvent(self._clock.now, session, call, name, what, detail, place))

    def on_session_opened(self, session: Any) -> None:
        self.sessions.append(session)
        self._by_identifier[session.identifier] = session
        self.open[session] = None
        if self._outer is not None:
            self._outer.on_session_opened(session)
        self._add(session.identifier, None, session.name or "", "opened")

    def on_session_closed(self, session: Any) -> None:
        self.open.pop(session, None)
        if self._outer is not None:
            self._outer.on_session_closed(session)
        self._add(session.identifier, None, session.name or "", "closed")

    def on_event(self, event: Any) -> None:
        session = event.session_id
        if isinstance(event, Broadcast):
            call = None if event.node_id is None else _index(event.node_id)
            self._add(session, call, self._name(session, call), "broadcast", stable_repr(event.item))
            return
        call = _index(event.node_id)
        if isinstance(event, CallCreated):
            by = "" if event.parent_id is None else f"by {session}.{_index(event.parent_id)}: "
            self._add(session, call, event.name, "created", f"{by}({arguments(event.args, event.kwargs)})")
        elif isinstance(event, CallSucceeded):
            what = "reused" if self._is_reused(session, call) else "completed"
            self._add(session, call, event.name, what, stable_repr(event.result))
        elif isinstance(event, CallFailed):
            self._add(session, call, event.name, "failed", stable_repr(event.exception))
        elif isinstance(event, CallCancelled):
            seen = self.calls.get((session, call))
            place = "" if seen is None else seen.place
            self._add(session, call, event.name, "cancelled", f"({event.reason.value})", place)

    def on_call_refused(self, session_id: str, record: Any, name: str, handled: BaseException | None) -> None:
        self._add(session_id, record.index, record.name, "refused", name)
        if isinstance(handled, anyio.get_cancelled_exc_class()):
            self.cut_off.append((session_id, record.index))

    def on_context_change(self, session_id: str, record: Any, key: Any, value: Any, deleted: bool) -> None:
        detail = stable_repr(key) if deleted else f"{stable_repr(key)}: {stable_repr(value)}"
        call, name = (None, "") if record is None else (record.index, record.name)
        self._add(session_id, call, name, "delete" if deleted else "put", detail)

    def _injected(self, fault: Fault) -> None:
        frame: Frame = current.get()
        assert frame.record is not None
        self.met.append(fault)
        self._add(frame.coordinator.session_id, frame.record.index, frame.record.name, "fault", repr(fault.does))

    def hangs(self, problem: str) -> None:
        """The run is stuck; what comes now is its being cancelled for that."""
        self._add("the run", None, "", "hangs", problem)

    def store_failed(self, fault: StoreFault) -> None:
        """The store did not write."""
        self.met.append(fault)
        self._add("store", None, "", "fault", repr(fault))

    def _is_reused(self, session: str, call: int) -> bool:
        return bool(self._by_identifier[session]._coordinator.state.records[call].reuse == REUSED)

    def _name(self, session: str, call: int | None) -> str:
        if call is None:
            return ""
        return next((e.name for e in self.trace if e.session == session and e.call == call), "")


class _Witnessed:
    """A strategy, seen by the witness."""

    def __init__(self, strategy: ExecutionStrategy, witness: Witness) -> None:
        self._strategy = strategy
        self._witness = witness

    def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self._witness.execute(self._strategy, node, args, kwargs)


def _index(node_id: str) -> int:
    return int(node_id.rpartition("-n")[2])
