"""A state machine over sessions: Hypothesis opens and cancels them, makes calls and lets time go on, in any order.

    class MyMachine(SessionMachine):
        @rule(session=SessionMachine.sessions)
        def refill(self, session): ...

    TestMyMachine = MyMachine.TestCase

After each step, when nothing can run any more without time going on, a model says what must have become of each call,
and the records are compared with it. Hypothesis shrinks a history that breaks it to the shortest.

Needs Hypothesis: ``pip install railtracks[testing]``.
"""

from __future__ import annotations

import contextlib
import math
from contextvars import Token
from typing import Any

import anyio
import attrs
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from railtracks._call import broadcast
from railtracks._config import scoped
from railtracks._ids import sources
from railtracks._session import Session
from railtracks.exceptions import SessionEndedError
from railtracks.nodes import FunctionNode, function_node
from railtracks.state import Broadcast, ExecutionInfo, MemoryStore, Status
from railtracks.state._runs import load_run
from railtracks.testing import _report, faults, trees
from railtracks.testing._clock import VirtualClock
from railtracks.testing._loops import virtual_sources
from railtracks.testing._stepping import SteppedLoop
from railtracks.testing._witness import Witness
from railtracks.testing.strategies import backends, seeds

__all__ = ["LiveCall", "LiveSession", "SessionMachine"]

ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
_Expected = frozenset[Status]


@attrs.define(eq=False)
class LiveSession:
    """A session of a state machine, and what the model knows of it."""

    session: Session
    outer: LiveSession | None
    inner: LiveSession | None = None
    """The one that is open inside it."""
    calls: list[LiveCall] = attrs.field(factory=list)
    sent: list[Any] = attrs.field(factory=list)
    """What was broadcast."""
    heard: list[Any] = attrs.field(factory=list)
    """What a subscriber got."""
    stopped: float = math.inf
    """When all its calls were cancelled, by an error or from outside."""
    closing: bool = False
    """Its body has ended; it waits for its calls."""
    over: bool = False
    error: BaseException | None = None
    """What left it."""
    scope: anyio.CancelScope | None = None
    commands: Any = None  # where its body takes what it is to do from

    @property
    def info(self) -> ExecutionInfo:
        """What has happened in it so far."""
        return self.session.info

    def __repr__(self) -> str:
        return self.session.identifier


@attrs.define(eq=False)
class LiveCall:
    """A call of a state machine: what was called, when, and what the model expects of it."""

    name: str
    live: LiveSession
    target: Any
    started: float
    fault: faults.Action | None
    refused: bool
    """The session took no more calls."""

    def __repr__(self) -> str:
        return f"{self.live!r}.{self.name}"

    def expected(self, now: float) -> _Expected:
        """What its status may be at that time."""
        end, status = self._by_itself()
        limit = min(self.started + self.live.session.executor_config.timeout, self.live.stopped)
        if end < limit:
            return status if now >= end else frozenset({Status.OPEN})
        if now < limit:
            return frozenset({Status.OPEN})
        if end == limit:  # which of the two came first is open
            return status | {Status.CANCELLED}
        return self._stopped(limit, end, now)

    def _by_itself(self) -> tuple[float, _Expected]:
        """When it ends if nobody cancels it, and how."""
        if isinstance(self.fault, faults.Hang):
            return math.inf, ENDED
        if isinstance(self.fault, faults.Raise):
            return self.started, frozenset({Status.FAILED})
        if isinstance(self.fault, faults.Return):
            return self.started, frozenset({Status.COMPLETED})
        delay = self.fault.seconds if isinstance(self.fault, faults.Delay) else 0.0
        if isinstance(self.target, trees.Hang):
            return math.inf, ENDED
        fails = isinstance(self.target, trees.Raise | trees.Fatal)
        end = self.started + delay + getattr(self.target, "seconds", 0.0)
        return end, frozenset({Status.FAILED if fails else Status.COMPLETED})

    def _stopped(self, limit: float, end: float, now: float) -> _Expected:
        """What it may be after it was cancelled at ``limit``, and would have ended later, at ``end``."""
        runs = self.started + (self.fault.seconds if isinstance(self.fault, faults.Delay) else 0.0)
        if limit < runs or isinstance(self.fault, faults.Hang):
            return frozenset({Status.CANCELLED})
        began = ENDED if limit == runs else frozenset()  # which of the two came first is open
        if isinstance(self.target, trees.Shield):
            return ENDED if now >= end else began | {Status.OPEN}
        return began | {Status.COMPLETED if isinstance(self.target, trees.Swallow) else Status.CANCELLED}


class SessionMachine(RuleBasedStateMachine):
    """Sessions under a clock that moves only when a rule says so, and a model of them. To be subclassed.

    Rules: open a session, inside another or beside it; close one; start a call; let time go on; cancel a session from
    outside; broadcast; have the next call go wrong; save a session and load it. Bundles: ``sessions``, ``calls``.

    Attributes:
        backend: "asyncio" or "trio".
        clock: The virtual clock; ``clock.now`` in seconds.
        live: All sessions, those that are over too.
        store: Where they are kept.
    """

    sessions: Bundle[LiveSession] = Bundle("sessions")
    calls: Bundle[LiveCall] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.backend: str = ""
        self.live: list[LiveSession] = []
        self.store: MemoryStore = MemoryStore()
        self._loop: SteppedLoop | None = None
        self._tokens: list[tuple[Any, Token[Any]]] = []
        self._next_fault: faults.Action | None = None

    @initialize(backend=backends(), seed=seeds())
    def start(self, backend: str, seed: int) -> None:
        """Start the event loop."""
        self.backend = backend
        self._loop = SteppedLoop(backend, seed)
        clock = self._loop.clock
        self.clock: VirtualClock = clock
        self._faults: list[faults.Fault | faults.StoreFault] = []
        self._witness = witness = Witness(clock, self._faults, seed, lambda: None)
        source = attrs.evolve(virtual_sources(clock), observer=witness, wrap_strategy=witness.wrap)
        self._tokens = [
            (sources, sources.set(source)),
            (scoped, scoped.set({"store": self.store, "logging_setting": "NONE"})),
        ]

    # ---- rules

    @rule(
        target=sessions,
        timeout=st.sampled_from([2.5, 6.5, 150.5]),
        end_on_error=st.booleans(),
        inside=st.none() | sessions,
    )
    def open_session(self, timeout: float, end_on_error: bool, inside: LiveSession | None) -> LiveSession:
        """Open a session: inside another, if that can have one, or beside all."""
        outer = None if inside is None else self._innermost(inside)
        if outer is not None and (outer.closing or outer.over or outer.stopped <= self.clock.now):
            outer = None
        live = LiveSession(Session(timeout=timeout, end_on_error=end_on_error), outer)
        live.session.subscribe(lambda event: live.heard.append(event.item), kinds=(Broadcast,))
        self.live.append(live)
        if outer is None:
            self._started.start(self._host, live)
        else:
            outer.inner = live
            self._tell(outer, live)
        return live

    @rule(target=calls, live=sessions, runs=st.runner().flatmap(lambda machine: machine.leaves()))
    def start_call(self, live: LiveSession, runs: Any) -> LiveCall:
        """Start a call in a session; if it is over, that must be refused."""
        name = f"call{sum(len(each.calls) for each in self.live)}"
        fault, self._next_fault = self._next_fault, None
        refused = live.stopped <= self.clock.now or live.closing or live.over
        call = LiveCall(name, live, runs, self.clock.now, fault, refused)
        if live.over:
            with contextlib.suppress(SessionEndedError):
                self._started.call(live.session.start_soon, self._node(call))
                raise AssertionError(f"session {live} is over, and took a call")
        if not refused:
            live.calls.append(call)
            if fault is not None:
                self._faults.append(faults.Fault(name, fault))
            self._started.call(live.session.start_soon, self._node(call))
            self._note_failure(call)
        return call

    @rule(seconds=st.integers(1, 4))
    def advance(self, seconds: int) -> None:
        """Let time go on."""
        for _ in range(seconds):
            self._started.advance(1)
            for live in self.live:
                for call in live.calls:
                    self._note_failure(call)

    @rule(live=sessions)
    def close_session(self, live: LiveSession) -> None:
        """End the body of a session, or of the innermost one inside it."""
        live = self._innermost(live)
        if not live.closing and not live.over:
            live.closing = True
            self._tell(live, None)

    @rule(live=sessions)
    def cancel_session(self, live: LiveSession) -> None:
        """Cancel a session from outside, and those inside it."""
        if live.over:
            return
        each: LiveSession | None = live
        while each is not None:
            each.stopped = min(each.stopped, self.clock.now)
            each.closing = True
            each = each.inner
        assert live.scope is not None
        self._started.call(live.scope.cancel)

    @rule(live=sessions, item=st.integers(0, 9))
    def broadcast(self, live: LiveSession, item: int) -> None:
        """Broadcast from the body of a session, or of the innermost one inside it."""
        live = self._innermost(live)
        if not live.closing and not live.over:
            live.sent.append(item)
            self._tell(live, item)

    @rule(
        fault=st.sampled_from(
            [faults.Raise(ConnectionError("injected")), faults.Return(None), faults.Delay(2), faults.Hang()]
        )
    )
    def inject(self, fault: faults.Action) -> None:
        """Have the next call go wrong."""
        self._next_fault = fault

    @rule(live=sessions)
    def save_and_load(self, live: LiveSession) -> None:
        """What is saved of a session is what is loaded."""
        info = live.session.info
        loaded = ExecutionInfo.from_document("".join(info.document()).encode("ascii"))
        assert loaded == info, f"session {live}: what is loaded is not what was saved"
        if info.records:
            kept = load_run(live.session.identifier, store=self.store)
            assert [r.status for r in kept.records] == [r.status for r in info.records], f"session {live}: its journal"

    # ---- the model

    @invariant()
    def every_call_is_as_the_model_says(self) -> None:
        """The records of all sessions say what must have become of their calls by now."""
        for live in self.live:
            statuses = {record.name: record.status for record in live.session.info.records if record.parent is None}
            for call in live.calls:
                expected = call.expected(self.clock.now)
                status = statuses.get(call.name)
                assert status in expected, self._story(
                    f"{call} ({call.target!r}) is {status and status.value} at {self.clock.now:g} s, and should be "
                    f"{' or '.join(sorted(each.value for each in expected))}"
                )

    @invariant()
    def a_session_is_over_when_its_calls_are(self) -> None:
        """A session whose body has ended is left as soon as its calls have ended, and not before."""
        for live in self.live:
            running = [call for call in live.calls if Status.OPEN in call.expected(self.clock.now)]
            inner = live.inner is not None and not live.inner.over
            should = live.closing and not running and not inner
            assert live.over == should, self._story(
                f"session {live} is {'over' if live.over else 'open'}, and {running or 'nothing'} runs in it"
            )
            if live.over:
                assert all(record.status is not Status.OPEN for record in live.session.info.records)

    @invariant()
    def every_broadcast_is_heard(self) -> None:
        """Subscribers have got what was broadcast, in order."""
        for live in self.live:
            assert live.heard == live.sent, self._story(f"session {live} sent {live.sent} and heard {live.heard}")

    def teardown(self) -> None:
        """End all sessions and the event loop; nothing may be left."""
        if self._loop is None:
            return
        try:
            for live in self.live:
                if live.outer is None and not live.over:
                    self.cancel_session(live)
            self._loop.advance(10)
            assert all(live.over for live in self.live), self._story("a session does not end")
        finally:
            self._loop.close()
            for variable, token in reversed(self._tokens):
                variable.reset(token)

    # ---- inside

    @staticmethod
    def leaves() -> st.SearchStrategy[Any]:
        """What calls run: leaves of call trees, of which the model knows what becomes of them."""
        seconds = st.integers(0, 4)
        return st.one_of(
            st.builds(trees.Return, st.integers(0, 9)),
            st.builds(trees.Sleep, seconds),
            st.builds(trees.Raise),
            st.just(trees.Hang()),
            st.builds(trees.Shield, seconds),
            st.builds(trees.Swallow, seconds),
            st.builds(trees.Thread, seconds),
            st.builds(trees.Put),
            st.builds(trees.Fatal),
        )

    @property
    def _started(self) -> SteppedLoop:
        assert self._loop is not None
        return self._loop

    async def _host(self, live: LiveSession) -> None:
        """The body of a session: does what it is told, until it is told to end."""
        send, receive = anyio.create_memory_object_stream[Any](math.inf)
        live.commands = send
        with anyio.CancelScope() as live.scope, send, receive:
            try:
                async with live.session:
                    while (command := await receive.receive()) is not None:
                        if isinstance(command, LiveSession):
                            await self._host(command)
                        else:
                            await broadcast(command)
            except Exception as exc:
                live.error = exc
            except BaseException as exc:
                live.error = exc
                raise
            finally:
                live.over = True
                if live.outer is not None:
                    live.outer.inner = None

    def _tell(self, live: LiveSession, command: Any) -> None:
        self._started.call(live.commands.send_nowait, command)

    def _innermost(self, live: LiveSession) -> LiveSession:
        while live.inner is not None:
            live = live.inner
        return live

    def _node(self, call: LiveCall) -> FunctionNode[..., Any]:
        return function_node(call.target, name=call.name)

    def _note_failure(self, call: LiveCall) -> None:
        """A call that fails by itself may stop its session."""
        end, status = call._by_itself()
        live = call.live
        fails = status == {Status.FAILED} and end <= self.clock.now
        limit = min(call.started + live.session.executor_config.timeout, live.stopped)
        runs = call.fault is None or isinstance(call.fault, faults.Delay)
        fatal = runs and isinstance(call.target, trees.Fatal)
        if fails and end < limit and (fatal or live.session.executor_config.end_on_error):
            live.stopped = end

    def _story(self, problem: str) -> str:
        return f"{problem}\n\n{_report.timeline(self._witness.trace)}"
