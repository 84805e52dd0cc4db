"""A state machine over sessions: Hypothesis opens and cancels them, makes calls and advances the clock, in any order.

    class MyMachine(SessionMachine):
        @rule(session=SessionMachine.sessions)
        def refill(self, session): ...

    TestMyMachine = MyMachine.TestCase

After each step, when nothing can run until the clock advances, a model says what must have become of each call, and
the records are compared with it. Hypothesis shrinks a sequence of steps that fails to the shortest one.

Needs Hypothesis: ``pip install '.[testing]'`` in a checkout of the repository.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from contextvars import Token
from typing import Any

import anyio
import attrs
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, initialize, invariant, multiple, rule

from railtracks import ExecutionInfo, Session, broadcast
from railtracks._test_hooks import harness_options, runtime_hooks
from railtracks.exceptions import SessionEndedError
from railtracks.nodes import function_node
from railtracks.state import Broadcast, MemoryStore, Status, load_run
from railtracks.testing import faults, trees
from railtracks.testing._machine_model import LiveCall, LiveSession, calls_again, can_be_resumed, stop_session_if_failed
from railtracks.testing._machine_policies import machine_policies, run_tree
from railtracks.testing._machine_waits import check_waits
from railtracks.testing._simulation import _report
from railtracks.testing._simulation._witness import Witness
from railtracks.testing._virtual_time._clock import WALL, VirtualClock
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._run import virtual_hooks
from railtracks.testing._virtual_time._stepping import SteppedLoop
from railtracks.testing.strategies import backends, seeds

__all__ = ["LiveCall", "LiveSession", "SessionMachine"]


class SessionMachine(RuleBasedStateMachine):
    """Sessions under a clock that moves only when a rule advances it, and a model of them; a base class.

    Rules: open a session, inside another one or beside it; close one; start a call, or several at once; advance the
    clock; cancel a session from outside; broadcast; inject a fault into the next call; save a session and load it;
    resume a session that is over, in its place or as a branch from a step. Bundles: ``sessions``, ``calls``.

    Attributes:
        backend: "asyncio" or "trio".
        clock: The virtual clock; ``clock.now`` is in seconds.
        live: All sessions, including those that are over.
        store: The store that they are saved to.
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
        self._calls_made = 0

    @initialize(backend=backends(), seed=seeds())
    def start(self, backend: str, seed: int) -> None:
        """Start the event loop."""
        self.backend = backend
        self._loop = SteppedLoop(backend, seed)
        clock = self._loop.clock
        self.clock: VirtualClock = clock
        self._faults: list[faults.Fault | faults.StoreFault] = []
        self._witness = witness = Witness(clock, self._faults, Decisions(seed), lambda: None)
        hooks = attrs.evolve(virtual_hooks(clock), observer=witness, wrap_strategy=witness.wrap)
        self._tokens = [
            (runtime_hooks, runtime_hooks.set(hooks)),
            (harness_options, harness_options.set({"store": self.store, "logging_setting": "NONE"})),
        ]

    # ---- rules

    @rule(
        target=sessions,
        timeout=st.sampled_from([2.5, 6.5, 150.5]),
        end_on_error=st.booleans(),
        inside=st.none() | sessions,
        max_concurrency=st.sampled_from([None, 2, 1]),
    )
    def open_session(
        self, timeout: float, end_on_error: bool, inside: LiveSession | None, max_concurrency: int | None = None
    ) -> LiveSession:
        """Open a session: inside ``inside``, if that is still open, or else beside all others."""
        outer = None if inside is None else self._innermost(inside)
        if outer is not None and (outer.closing or outer.over or outer.stopped <= self.clock.now):
            outer = None
        executors = {"pool": faults.Executor()}
        session = Session(
            timeout=timeout, end_on_error=end_on_error, max_concurrency=max_concurrency, executors=executors
        )
        return self._open(LiveSession(session, outer))

    @rule(
        target=calls,
        live=sessions,
        runs=st.runner().flatmap(lambda machine: machine.leaves()),
        policies=st.runner().flatmap(lambda machine: machine.policies()),
    )
    def start_call(self, live: LiveSession, runs: Any, policies: dict[str, Any] | None = None) -> LiveCall:
        """Start a call in a session; if the session is over, it must refuse the call.

        Of the policies, ``cache`` and ``where`` are for trees alone.
        """
        call = self._new_call(live, runs, policies or {})
        self._start(live, [call])
        return call

    @rule(
        target=calls,
        live=sessions,
        several=st.runner().flatmap(lambda machine: st.lists(machine.leaves(), min_size=2, max_size=4)),
        policies=st.just({}) | st.runner().flatmap(lambda machine: machine.policies()),
    )
    def start_together(
        self, live: LiveSession, several: list[Any], policies: dict[str, Any] | None = None
    ) -> MultipleResults[LiveCall]:
        """Start calls in a session, all before any of them runs."""
        if live.over:
            return multiple()
        started = [self._new_call(live, runs, policies or {}) for runs in several]
        self._start(live, started)
        return multiple(*started)

    @rule(target=sessions, live=sessions, branch=st.booleans())
    def resume_session(self, live: LiveSession, branch: bool = False) -> MultipleResults[LiveSession]:
        """Cancel a session that is not over, resume its run, and make its calls again: what had completed is replayed.

        With ``branch`` that run stays as it is, and its last call to complete is done again under another identifier.
        Nothing happens if the model does not know what becomes of a call: one with a policy or a fault, one that was
        replayed, one that does not run a tree, and one of two that are equal, which may change places.
        """
        if live.outer is not None or live.is_superseded or not can_be_resumed(live.calls):
            return multiple()
        self.cancel_session(live)
        if not live.over:  # a call ends later
            return multiple()
        ended = [call.last.ended_step for call in live.calls if call.last.status is Status.COMPLETED]
        before = max(step for step in ended if step is not None) if branch and ended else None
        session = Session(
            resume=live.session.identifier, before=before, timeout=150.5, executors={"pool": faults.Executor()}
        )
        live.is_superseded = before is None
        resumed = self._open(LiveSession(session, None))
        self._start(resumed, calls_again(live.calls, resumed, self.clock.now, before))
        return multiple(resumed)

    @rule(seconds=st.integers(1, 4))
    def advance(self, seconds: int) -> None:
        """Advance the clock."""
        for _ in range(seconds):
            self._running_loop.advance(1)
            for live in self.live:
                for call in live.calls:
                    stop_session_if_failed(call, self.clock.now)

    @rule(live=sessions)
    def close_session(self, live: LiveSession) -> None:
        """End the body of a session, or of the innermost one inside it."""
        live = self._innermost(live)
        if not live.closing and not live.over:
            live.closing = True
            self._send(live, None)

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
        self._running_loop.call(live.scope.cancel)

    @rule(live=sessions, item=st.integers(0, 9))
    def broadcast(self, live: LiveSession, item: int) -> None:
        """Broadcast from the body of a session, or of the innermost one inside it."""
        live = self._innermost(live)
        if not live.closing and not live.over:
            live.sent.append(item)
            self._send(live, item)

    @rule(
        fault=st.sampled_from(
            [faults.Raise(ConnectionError("injected")), faults.Return(None), faults.Delay(2), faults.Hang()]
        )
    )
    def inject(self, fault: faults.Action) -> None:
        """Inject a fault into the next call that is started."""
        self._next_fault = fault

    @rule(live=sessions)
    def save_and_load(self, live: LiveSession) -> None:
        """Check that what is loaded of a session is what was saved."""
        info = live.session.info
        loaded = ExecutionInfo.from_document("".join(info.document()).encode("ascii"))
        assert loaded == info, f"session {live}: what is loaded is not what was saved"
        if info.records and not live.is_superseded:
            journal = load_run(live.session.identifier, store=self.store)
            statuses = [record.status for record in info.records]
            assert [record.status for record in journal.records] == statuses, f"session {live}: its journal differs"

    # ---- the model

    @invariant()
    def every_call_is_as_the_model_says(self) -> None:
        """Check that all records have the statuses that their calls must have by now."""
        for live in self.live:
            for call in live.calls:
                self._check_attempts(call)
                expected, status = call.expected(self.clock.now), call.last.status
                assert status in expected, self._story(
                    f"{call} ({call.target!r}) is {status.value} at {self.clock.now:g} s, and should be "
                    f"{' or '.join(sorted(each.value for each in expected)) or 'tried again'}"
                )

    @invariant()
    def a_session_is_over_when_its_calls_are(self) -> None:
        """Check that a session whose body has ended is left as soon as its calls have ended, and not before."""
        for live in self.live:
            running = [call for call in live.calls if call.runs(self.clock.now)]
            inner = live.inner is not None and not live.inner.over
            should = live.closing and not running and not inner
            assert live.over == should, self._story(
                f"session {live} is {'over' if live.over else 'open'}, and {running or 'nothing'} runs in it"
            )
            if live.over:
                assert all(record.status is not Status.OPEN for record in live.session.info.records)

    @invariant()
    def no_call_waits_in_vain(self) -> None:
        """Check that no more calls run than their limits allow, and that what waits for a limit or a call has to."""
        try:
            check_waits(self.live, self.clock.now)
        except AssertionError as exc:
            raise AssertionError(self._story(str(exc))) from None

    @invariant()
    def every_broadcast_is_heard(self) -> None:
        """Check that subscribers have received what was broadcast, in order."""
        for live in self.live:
            assert live.heard == live.sent, self._story(f"session {live} sent {live.sent} and heard {live.heard}")

    def teardown(self) -> None:
        """End all sessions and the event loop, and check that nothing is left."""
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

    # ---- helpers

    @staticmethod
    def leaves() -> st.SearchStrategy[Any]:
        """Return a strategy for what calls run: leaves of call trees that the model knows."""
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

    @staticmethod
    def policies() -> st.SearchStrategy[dict[str, Any]]:
        """Return a strategy for the policies of calls, of which the model knows these; they shrink to none."""
        return machine_policies()

    @property
    def _running_loop(self) -> SteppedLoop:
        assert self._loop is not None
        return self._loop

    def _open(self, live: LiveSession) -> LiveSession:
        """Enter a session."""
        live.session.subscribe(lambda event: live.heard.append(event.item), kinds=(Broadcast,))
        self.live.append(live)
        if live.outer is None:
            self._running_loop.start(self._host, live)
        else:
            live.outer.inner = live
            self._send(live.outer, live)
        return live

    def _new_call(self, live: LiveSession, runs: Any, policies: dict[str, Any]) -> LiveCall:
        """Return a call that has not been started."""
        chosen = {
            name: each
            for name, each in policies.items()
            if isinstance(runs, trees.Tree) or name not in ("cache", "where")
        }
        self._calls_made += 1
        fault, self._next_fault = self._next_fault, None
        refused = live.stopped <= self.clock.now or live.closing or live.over
        return LiveCall(f"call{self._calls_made - 1}", live, runs, self.clock.now, fault, refused, chosen)

    def _start(self, live: LiveSession, calls: list[LiveCall]) -> None:
        """Start calls in a session, all before any of them runs; if the session is over, it must refuse them."""
        if live.over:
            with contextlib.suppress(SessionEndedError):
                self._running_loop.call(self._start_soon, calls)
                raise AssertionError(f"session {live} is over, and accepted a call")
        taken = [call for call in calls if not call.refused]
        live.calls += taken
        self._faults += [faults.Fault(call.name, call.fault) for call in taken if call.fault is not None]
        if taken:
            try:
                self._running_loop.call(self._start_soon, taken)
            except SessionEndedError as exc:
                raise AssertionError(self._story(f"session {live} is open, and refused a call: {exc}")) from exc
        for call in taken:
            if call.attempts:
                stop_session_if_failed(call, self.clock.now)
        if live.stopped <= self.clock.now:  # one of them ended the session before others began
            live.calls = [call for call in live.calls if call.attempts]

    def _start_soon(self, calls: list[LiveCall]) -> None:
        for call in calls:
            call.live.session.start_soon(*self._node(call))

    async def _host(self, live: LiveSession) -> None:
        """Open a session, and do in its body what is sent to ``live.commands``, until that is None."""
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

    def _send(self, live: LiveSession, command: Any) -> None:
        self._running_loop.call(live.commands.send_nowait, command)

    def _innermost(self, live: LiveSession) -> LiveSession:
        while live.inner is not None:
            live = live.inner
        return live

    def _node(self, call: LiveCall) -> tuple[Any, ...]:
        """Return the node of a call, and its arguments. Calls that may be equal have one function."""
        if "cache" in call.policies or "where" in call.policies:
            return function_node(run_tree, name=call.name).options(**call.policies), call.target
        return (function_node(call.target, name=call.name).options(**call.policies),)

    def _check_attempts(self, call: LiveCall) -> None:
        """Check that the attempts of a call follow each other at their times."""
        attempts = call.attempts
        for before, after in itertools.pairwise(attempts):
            again, created = call.tried_again_at(before), after.started - WALL
            assert again is not None, self._story(f"{call} is tried again, and should not be")
            assert abs(again - created) < 0.001, self._story(f"{call} is tried again at {created:g} s, not {again:g} s")

    def _story(self, problem: str) -> str:
        return f"{problem}\n\n{_report.timeline(self._witness.trace, self._witness.calls)}"
