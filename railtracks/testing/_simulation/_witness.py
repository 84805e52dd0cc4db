"""The witness of a simulated run: it observes each call from outside of the runtime, and writes the trace.

The records are compared with what it observed. It stands where a node is run, so it knows what really came out of it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import FrameType
from typing import Any, Literal

import anyio
from anyio.lowlevel import checkpoint

from railtracks._test_hooks import Observer, runtime_hooks
from railtracks._test_probe import (
    ExecutionStrategy,
    SessionProbe,
    abandon_current,
    current_scope,
    index_of,
    is_cancellation,
    policies_of,
    running_call,
    shared_work,
    suspended_frames,
)
from railtracks.nodes import FunctionNode
from railtracks.state import Broadcast, CallCancelled, CallCreated, CallFailed, CallSucceeded, Reason
from railtracks.testing._simulation._causes import cause_of
from railtracks.testing._simulation._injection import Injector
from railtracks.testing._simulation._observed import CallKey, ContextReads, ObservedCall, ObservedOperation
from railtracks.testing._trace import TraceEvent, format_arguments, stable_repr
from railtracks.testing._virtual_time._acquired import Position, acquired_at, acquired_in
from railtracks.testing._virtual_time._clock import VirtualClock
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._tasks import place_of, positions_passed, tasks, where_raised
from railtracks.testing._virtual_time._waits import Wait, awaited, is_by_deadline, is_by_sibling
from railtracks.testing.faults import Fault, StoreFault

caller: ContextVar[CallKey | None] = ContextVar("railtracks_testing_caller", default=None)
"""The call that the running code is in, as the witness has it; the runtime is not asked."""


_EXTRA_TURNS = (0, 0, 0, 1, 2)
"""How many turns other tasks may get before a call."""


class Witness:
    """Observes all that happens in the sessions of one run: an ``Observer``, and a wrapper of strategies.

    Args:
        clock: The clock of the run.
        faults: The plan.
        decisions: Decide where faults with a probability happen, and how many turns other tasks get before a call.
        cancel: Cancels the run from outside.
        on_callback_error: Called with the name of a subscriber and what it has raised.
    """

    observes_calls = True

    def __init__(
        self,
        clock: VirtualClock,
        faults: Sequence[Fault | StoreFault],
        decisions: Decisions,
        cancel: Callable[[], None],
        on_callback_error: Callable[[str, BaseException], object] = lambda *_: None,
    ) -> None:
        self.trace: list[TraceEvent] = []
        self.calls: dict[CallKey, ObservedCall] = {}
        self.failures: dict[int, CallFailed] = {}
        """The events of calls that failed, by their places in the trace."""
        self.sessions: list[Any] = []
        self._probes: dict[str, SessionProbe] = {}
        self.open: dict[Any, None] = {}
        self.injected: list[Fault | StoreFault] = []
        """The faults that happened."""
        self.cut_off: list[CallKey] = []
        """The calls whose cleanup was cut off: a call that they made while being cancelled never began."""
        outer = runtime_hooks.get().observer  # of the test around this simulation, or of a simulation around it
        self._outer: Observer | None = outer._outer if isinstance(outer, Witness) else outer
        self._clock = clock
        self._on_callback_error = on_callback_error
        self._decisions = decisions
        self.injector = Injector(faults, decisions.faults, self._on_fault, cancel, abandon_current)
        self._context_reads = ContextReads()
        self._released: list[tuple[Any, str, str]] = []  # what calls had acquired that were cancelled at one moment
        self._released_at = -1.0
        self._waits: dict[CallKey, str] = {}  # what calls waited for when the run hung, before locks were released
        self.operations: list[ObservedOperation] = []
        self._moments = itertools.count()  # how many calls and operations have begun, and how many have ended

    # ---- around calls

    def wrap(self, strategy: ExecutionStrategy) -> ExecutionStrategy:
        return _WitnessedStrategy(strategy, self)

    async def execute(
        self,
        strategy: ExecutionStrategy,
        node: FunctionNode[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Any:
        current, scope = running_call(), current_scope()
        key = current.session_id, current.index
        in_cleanup = isinstance(sys.exc_info()[1], anyio.get_cancelled_exc_class())
        observed = ObservedCall(
            current.task, caller.get(), not node.is_async, self._clock.now, next(self._moments), in_cleanup=in_cleanup,
            policies=policies_of(node), target=node.target, work=shared_work(),
            name=node.name, args=args, kwargs=kwargs,
        )  # fmt: skip
        self.calls[key] = observed
        token = caller.set(key)
        try:
            # An event loop may take any number of turns to continue. Some races show only if it takes more than one.
            for turns in range(_EXTRA_TURNS[self._decisions.turns.choose(len(_EXTRA_TURNS))], 0, -1):
                self._decisions.note_turns_left(current.task, turns)
                await checkpoint()
            self._decisions.note_turns_left(current.task, 0)
            if self._clock.scheduler is not None:
                self._clock.scheduler.log.note_call(current.task, node.name, current.index)
            result = await self.injector.run_call(
                node.name, node.is_async, lambda: strategy.execute(node, args, kwargs)
            )
        except Exception as exc:
            self._note_end(key, observed, "raised", exc)
            raise
        except BaseException as exc:
            self._note_end(key, observed, "cancelled" if is_cancellation(exc) else "raised", exc)
            raise
        else:
            self._note_end(key, observed, "returned", result)
            return result
        finally:
            observed.context_leaked = current_scope() is not scope
            caller.reset(token)

    def _note_end(
        self, key: CallKey, observed: ObservedCall, outcome: Literal["returned", "raised", "cancelled"], value: Any
    ) -> None:
        observed.outcome, observed.value = outcome, value
        observed.order, observed.time = next(self._moments), self._clock.now
        if outcome == "cancelled" and value.__traceback__ is not None:
            inner, stop = value.__traceback__.tb_next, Witness.execute.__code__
            observed.place = where_raised(inner, stop)
            positions = positions_passed(inner, stop)
            wait = awaited([frame for frame, _ in positions])
            text = self._waits.get(key) or (wait and self._describe(wait, observed.task))
            self._note_released(key, positions)
            if observed.place and text:
                observed.place += f", {text}"
            if observed.in_thread:  # which goes on where it was
                paused = ((context.get(caller), place) for context, place in self._clock.paused_code())
                observed.place = next((place for call, place in paused if call == key), observed.place)
            observed.by_deadline, observed.by_sibling = is_by_deadline(value), is_by_sibling(value)

    def _note_released(self, key: CallKey, positions: Sequence[Position]) -> None:
        """Note what a call had acquired when it was cancelled: others were cancelled with it that waited for that."""
        if self._released_at != self._clock.now:
            self._released_at = self._clock.now
            self._released.clear()
        self._released += [(lock, self._who(key), place) for lock, place in acquired_in(positions)]

    def release_tasks(self) -> None:
        """Let the tasks of the calls be discarded; to be called after the run.

        An outcome may be kept for long, and asyncio goes through all tasks of the process, several times in each run.
        """
        stand_ins: dict[int, object] = {id(observed.task): object() for observed in self.calls.values()}
        for observed in self.calls.values():
            observed.task = stand_ins[id(observed.task)]

    def _note_waits(self) -> None:
        """Note what all calls wait for."""
        calls = self._open_calls()
        for task, coroutine in tasks().items():
            call, wait = calls.get(id(task)), awaited(list(suspended_frames(coroutine)))
            if call is not None and wait is not None:
                self._waits[call] = self._describe(wait, task)

    def _open_calls(self) -> dict[object, CallKey]:
        """Return the innermost call that each task is in."""
        return {id(observed.task): call for call, observed in self.calls.items() if observed.outcome is None}

    def _describe(self, wait: Wait, waiting: object) -> str:
        """Return what a call waits for in a task, which calls hold it, and where they have acquired it."""
        calls = {task: call for task, call in self._open_calls().items() if task != id(waiting)}
        ended = [(who, place) for lock, who, place in self._released if lock is wait.what]
        if ended or not (wait.holders or wait.text == "for a lock"):  # a lock of asyncio does not know who holds it
            return wait.text + _held(ended[:1])
        frames = {id(task): suspended_frames(coroutine) for task, coroutine in tasks().items() if id(task) in calls}
        places = {
            task: acquired_at([(frame, frame.f_lineno) for frame in each], wait.what, task in wait.holders)
            for task, each in frames.items()
        }
        holders = wait.holders or [task for task, place in places.items() if place]
        return wait.text + _held([(self._who(calls[task]), places.get(task, "")) for task in holders if task in calls])

    def _who(self, call: CallKey) -> str:
        return f"{call[0]}.{call[1]} {self.calls[call].name}"

    # ---- the trace

    def _add(
        self, session: str, call: int | None, name: str, what: str, detail: str = "", place: str = ""
    ) -> TraceEvent:
        probe = self._probes.get(session)
        if probe is not None:  # a trace is printed, also into logs that others read
            detail = probe.redact(detail)
        event = TraceEvent(self._clock.now, session, call, name, what, detail, place, self._clock.turns)
        self.trace.append(event)
        return event

    def redact(self, text: str) -> str:
        """Return ``text`` with the secrets that any session knows replaced."""
        for probe in self._probes.values():
            text = probe.redact(text)
        return text

    def on_session_opened(self, session: Any) -> None:
        self.sessions.append(session)
        self._probes[session.identifier] = SessionProbe(session)
        self.open[session] = None
        if self._outer is not None:
            self._outer.on_session_opened(session)
        self._add(session.identifier, None, session.name or "", "opened")

    def on_outcome(self, outcome: object) -> None:
        """Hand the outcome of the run to the observer around it, if that wants outcomes: the plugin for pytest does."""
        handle = getattr(self._outer, "on_outcome", None)
        if handle is not None:
            handle(outcome)

    def on_session_closed(self, session: Any) -> None:
        self.open.pop(session, None)
        if self._outer is not None:
            self._outer.on_session_closed(session)
        self._add(session.identifier, None, session.name or "", "closed")

    def on_event(self, event: Any) -> None:
        session = event.session_id
        if isinstance(event, Broadcast):
            call = None if event.node_id is None else index_of(event.node_id)
            self._add(session, call, self._name(session, call), "broadcast", stable_repr(event.item))
            return
        call = index_of(event.node_id)
        if isinstance(event, CallCreated):
            by = "" if event.parent_id is None else f"by {session}.{index_of(event.parent_id)}: "
            self._add(session, call, event.name, "created", f"{by}({format_arguments(event.args, event.kwargs)})")
        elif isinstance(event, CallSucceeded):
            what = "reused" if self._probes[session].is_replayed(call) else "completed"
            self._add(session, call, event.name, what, stable_repr(event.result))
        elif isinstance(event, CallFailed):
            self.failures[len(self.trace)] = event
            self._add(session, call, event.name, "failed", stable_repr(event.exception))
        elif isinstance(event, CallCancelled):
            observed = self.calls.get((session, call))
            place = "" if observed is None else observed.place
            if place and observed is not None and observed.by_deadline and event.reason is Reason.OUTSIDE:
                place += ", by a deadline"
            end_on_error = self._probes[session].session.executor_config.end_on_error
            cause = cause_of((session, call), event.reason, self.calls, self.failures.values(), end_on_error)
            place = ", ".join(filter(None, (place, cause)))
            self._add(session, call, event.name, "cancelled", f"({event.reason.value})", place)

    def on_call_refused(self, session_id: str, record: Any, name: str, handled: BaseException | None) -> None:
        self._add(session_id, record.index, record.name, "refused", name)
        if isinstance(handled, anyio.get_cancelled_exc_class()):
            self.cut_off.append((session_id, record.index))

    def on_callback_error(self, name: str, exc: BaseException) -> None:
        self._on_callback_error(name, exc)

    def on_context_change(self, session_id: str, record: Any, key: Any, value: Any, deleted: bool) -> None:
        detail = stable_repr(key) if deleted else f"{stable_repr(key)}: {stable_repr(value)}"
        call, name = (None, "") if record is None else (record.index, record.name)
        self._context_reads.note_write((session_id, key), call)
        self._add(session_id, call, name, "delete" if deleted else "put", detail)

    def on_context_read(self, session_id: str, record: Any, key: Any, value: Any, missing: bool) -> None:
        detail = f"{stable_repr(key)}: {'no such key' if missing else stable_repr(value)}"
        call, name = (None, "") if record is None else (record.index, record.name)
        if not self._context_reads.is_repeated((session_id, key), call, detail):
            event = self._add(session_id, call, name, "get", detail)
            self._context_reads.note_read(event, (session_id, key), call)

    def hide_private_reads(self) -> None:
        """Remove from the trace the reads of keys that no other call writes; to be called after the run."""
        private = self._context_reads.private()
        left = [place for place, event in enumerate(self.trace) if id(event) not in private]
        self.failures = {new: self.failures[old] for new, old in enumerate(left) if old in self.failures}
        self.trace = [self.trace[place] for place in left]

    def on_mark(self, text: str) -> None:
        """Note what user code wants to have in the story."""
        self._add_to_caller("mark", text)

    def on_switch(self, frame: FrameType) -> None:
        """Note that the running thread loses its turn in the code of a frame."""
        self._add_to_caller("switched", "", place_of(frame.f_code, frame.f_lineno))

    def on_numbered_fault(self, text: str) -> None:
        """Note what goes wrong with a message, a request or a piece of work of a call."""
        self._add_to_caller("fault", text)

    def _add_to_caller(self, what: str, text: str, place: str = "") -> None:
        call = caller.get()
        if call is None or call not in self.calls:
            self._add("the run", None, "", what, text, place)
        else:
            self._add(*call, self.calls[call].name, what, text, place)

    def _on_fault(self, fault: Fault) -> None:
        call = running_call()
        self.injected.append(fault)
        self._add(call.session_id, call.index, call.name, "fault", repr(fault.does))

    def on_store_fault(self, fault: StoreFault) -> None:
        """Note that the store did not write."""
        self.injected.append(fault)
        self._add("store", None, "", "fault", repr(fault))

    def begin_operation(self, operation: ObservedOperation) -> None:
        """Note that a block begins that user code has marked as an operation."""
        operation.call, operation.begin_order = caller.get(), next(self._moments)
        self.operations.append(operation)

    def end_operation(self, operation: ObservedOperation) -> None:
        """Note that the block has ended without an exception."""
        operation.order = next(self._moments)

    def on_hang(self, problem: str) -> None:
        """Note that the run cannot continue. It is cancelled next, so cancellations that follow come from that."""
        self._note_waits()
        self._add("the run", None, "", "hangs", problem)

    def _name(self, session: str, call: int | None) -> str:
        if call is None:
            return ""
        return next((e.name for e in self.trace if e.session == session and e.call == call), "")


def _held(holders: Sequence[tuple[str, str]]) -> str:
    """Return by whom something is held, and where it was acquired, if that is known."""
    if not holders:
        return ""
    if not any(place for _, place in holders):
        return f" that {' and '.join(who for who, _ in holders)} hold{'s' if len(holders) == 1 else ''}"
    each = (f"{who} acquired in {place}" if place else f"{who} holds" for who, place in holders)
    return f" that {' and '.join(each)}"


class _WitnessedStrategy:
    """A strategy whose executions the witness observes."""

    def __init__(self, strategy: ExecutionStrategy, witness: Witness) -> None:
        self._strategy = strategy
        self._witness = witness

    def execute(self, node: FunctionNode[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self._witness.execute(self._strategy, node, args, kwargs)
