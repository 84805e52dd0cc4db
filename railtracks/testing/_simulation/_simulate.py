"""``simulate``: run a flow once, under virtual time, the same each time."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import attrs

from railtracks import Flow, Session, call
from railtracks._test_hooks import RuntimeHooks, harness_options, harness_overrides, outcome_observer
from railtracks._test_probe import (
    SessionProbe,
    as_node,
    current_scope,
    flow_session,
    is_cancellation,
    resolve_store,
    running_library,
    settled_backend,
)
from railtracks.exceptions import ConfigError
from railtracks.nodes import FunctionNode
from railtracks.state import MemoryStore, Store
from railtracks.testing._arguments import check_options
from railtracks.testing._simulation._injection import FaultyStore, ProcessKilled
from railtracks.testing._simulation._options import SimulationOptions
from railtracks.testing._simulation._outcome import ObservedSession, Outcome, stored_info
from railtracks.testing._simulation._unseen import UnseenFailures
from railtracks.testing._simulation._witness import Witness, caller
from railtracks.testing._virtual_time._clock import PATIENCE, WALL, VirtualClock
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._run import run_with
from railtracks.testing._virtual_time._step_budget import MAX_STEPS, MAX_TOTAL_STEPS
from railtracks.testing._virtual_time._stuck_errors import NEVER_ENDS
from railtracks.testing._virtual_time._tasks import describe, tasks, tasks_left
from railtracks.testing._virtual_time._thread_kinds import threads_left
from railtracks.testing.faults import Fault, Kill, StoreFault

SILENT = {"logging_setting": "NONE", "log_file": None, "progress": False}
"""Options of all sessions of a run, unless ``simulate`` is given others: those of a flow are for its real runs."""


def simulate(
    target: Flow[..., Any] | Callable[..., Any],
    /,
    *args: Any,
    seed: int = 0,
    backend: str | None = None,
    faults: Sequence[Fault | StoreFault] = (),
    max_steps: int = MAX_STEPS,
    max_total_steps: int = MAX_TOTAL_STEPS,
    patience: float = PATIENCE,
    clock: VirtualClock | None = None,
    world: str = "virtual",
    start: float | None = None,
    schedule: str | None = None,
    **session_options: Any,
) -> Outcome:
    """Run a flow or a node once, in a session of its own, under virtual time, the same each time. Blocks.

    Where tasks and threads could run in any order, the seed decides. The same seed and the same code give the same
    trace, byte for byte. Nothing is written to disk unless ``store`` or ``log_file`` is given, nothing is logged unless
    ``logging_setting`` is, and nothing is shown unless ``progress`` is, whatever the flow says; the same holds for
    sessions that nodes open. Several may run at a time, each in a thread of its own; threads that their nodes start
    themselves may then count as left behind in one another.

    A run that would never end is cancelled, so that its cleanup runs, and its outcome has a ``Deadlock``, ``Livelock``
    or ``EndlessRun``. Threads of the run take turns, and their sleeps and waits take virtual time; one that still
    pauses when the run is over is ended there by a ``SystemExit``. What the seed does not decide is in
    ``outcome.undetermined``.

    Args:
        target: A flow, or anything that ``rt.call`` takes.
        *args: Its arguments. Bind keyword arguments with ``functools.partial``.
        seed: Any whole number.
        backend: "asyncio" or "trio". By default that of the flow, as of ``flow.invoke``.
        faults: What goes wrong, and where; see ``railtracks.testing.faults``.
        max_steps: How many steps tasks may take while no virtual time passes; see ``VirtualClock``.
        max_total_steps: How many steps tasks and threads may take in the whole run, before it is an ``EndlessRun``.
        patience: Real seconds for which threads, sockets and ``clock.hold()`` may hold the clock.
        clock: The clock to run on, to read it or to hold it; by default a new one. It has its own ``max_steps``,
            ``max_total_steps`` and ``patience``.
        world: With "virtual", ``time``, ``datetime``, ``random``, ``uuid`` and ``os.urandom`` follow the virtual clock
            and the seed for code that runs in the run, and its threads wait in virtual time. With "real" all of these
            are as they always are, but the threads of sync nodes take turns all the same.
        start: What ``anyio.current_time()`` and, in a virtual world, ``time.monotonic()`` read when the run begins, in
            seconds. By default 0; in a virtual world another number for each seed but 0. With it, and with ``store``,
            the date is that of seed 0; otherwise half of the seeds from 20 on begin at a date of their own.
        schedule: How the order of tasks is decided: "shuffled", "priorities" or "late timers". By default seeds from 0
            to 19 shuffle, and of other seeds each has one of the three. "shuffled" is for tests of exact times.
        **session_options: Arguments of ``rt.Session``; they override those of a flow.

    Returns:
        What happened. An exception that leaves the run is in it, and is not raised.

    Raises:
        ConfigError: an argument is not allowed.
        NodeCreationError: ``target`` is not a node.
        SessionError: an event loop is running in this thread.
        ClockHeldError: something outside of the event loop held the clock for too long.
        KeyboardInterrupt, SystemExit: these leave the run as they are.
    """
    return simulate_any(
        False, target, *args, seed=seed, backend=backend, faults=faults, max_steps=max_steps,
        max_total_steps=max_total_steps, patience=patience, clock=clock, world=world, start=start, schedule=schedule,
        **session_options,
    )  # fmt: skip


def simulate_any(
    keeps_exit: bool, target: Flow[..., Any] | Callable[..., Any], /, *args: Any, **options: Any
) -> Outcome:
    """Do as ``simulate``; with ``keeps_exit`` a SystemExit that leaves the run is in the outcome, and is not raised."""
    simulation = _Simulation(target, args, *_split(target, options))
    simulation.raises = KeyboardInterrupt if keeps_exit else (KeyboardInterrupt, SystemExit)
    outcome = simulation.run()
    if (observe := outcome_observer.get()) is not None:
        observe(outcome)
    return outcome


def simulate_with(decisions: Decisions, target: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Outcome:
    """Do as ``simulate`` with these options, but let ``decisions`` decide in place of the seed."""
    return _Simulation(target, args, *_split(target, options), decisions).run()


def _split(target: Any, options: dict[str, Any]) -> tuple[SimulationOptions, dict[str, Any]]:
    """Return the options of a simulation of ``target`` among ``options``, and the rest."""
    if options.get("backend") is None:
        options = {**options, "backend": settled_backend(target)}
    return SimulationOptions.split(options)


RESUMED_AFTER = 60.0
"""Seconds, by the wall clock, from the last moment of a run to the beginning of one that resumes it."""


class _Simulation:
    """The state of one run of ``simulate``.

    Attributes:
        raises: The exceptions that leave the run as they are.
    """

    def __init__(
        self,
        target: Any,
        args: tuple[Any, ...],
        how: SimulationOptions,
        options: dict[str, Any],
        decisions: Decisions | None = None,
    ) -> None:
        self._target, self._args, self._how, self._options = target, args, how, options
        self._node: FunctionNode[..., Any] = (
            target.entry_point if isinstance(target, Flow) else as_node(target, "simulate")
        )
        check_options(target, self._node, how.names(), options)
        self._clock = how.new_clock()
        decisions = Decisions(how.seed, how.schedule) if decisions is None else decisions
        self._clock.decisions = self._decisions = decisions
        decisions.others_can_run = self._clock.others_can_run
        self._unseen = UnseenFailures()
        self._clock.on_loop_error = self._unseen.on_loop_error
        self._witness = Witness(self._clock, how.faults, decisions, self._cancel, self._unseen.on_callback_error)
        self._store: Store = resolve_store(options["store"]) if options.get("store") is not None else MemoryStore()
        decisions.switches.on_switch = self._witness.on_switch
        at_store = [fault for fault in how.faults if isinstance(fault, StoreFault)]
        self._faulty = None
        if at_store:
            self._faulty = FaultyStore(self._store, at_store, self._witness.on_store_fault, self._clock)
            self._witness.injector.on_call = self._faulty.begin_call
        self._scope: anyio.CancelScope | None = None
        self._session: Session | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._was_cancelled = False
        self.raises: type[BaseException] | tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit)
        self._started = self._ended = 0.0
        self._is_over = False
        self._left: list[str] = []

    def _cancel_hung_run(self) -> None:
        assert self._clock.failure is not None
        self._witness.on_hang(self._clock.failure.problem)
        self._cancel()

    def _cancel(self) -> None:
        assert self._scope is not None
        self._scope.cancel()

    def run(self) -> Outcome:
        threads = set(threading.enumerate())
        options = {"store": self._faulty or self._store, "logging_setting": "NONE"}
        if self._decisions.wall_start is None:
            self._decisions.wall_start = self._date_at_start()
        self._clock.wall_start = self._decisions.wall_start
        silent = {name: value for name, value in SILENT.items() if self._options.get(name) is None}
        token, silence = harness_options.set(options), harness_overrides.set(silent)
        try:
            with self._unseen.collect():
                run_with(self._customize_hooks, self._main, how=self._how, clock=self._clock, target=self._node)
        except NEVER_ENDS as exc:
            # Code that waits for what a dead process does not do any more hangs, and nobody sees that.
            self._error, self._was_cancelled = self._killed or exc, False
            if not self._is_over:  # it could not be cancelled, and none of it runs any more
                self._ended = self._clock.now
                self._note_open_sessions()
        finally:
            harness_overrides.reset(silence)
            harness_options.reset(token)
        self._left += dict.fromkeys([*self._clock.threads_left, *threads_left(threads)])
        self._unseen.examine(observed.task for observed in self._witness.calls.values())
        self._witness.release_tasks()
        outcome = self._outcome()
        self._witness.on_outcome(outcome)
        return outcome

    def _customize_hooks(self, hooks: RuntimeHooks) -> RuntimeHooks:
        witness, store, new_id = self._witness, self._store, hooks.new_id

        def unused_id() -> str:
            """Return a new identifier that no run in the store has."""
            while store.modified(identifier := new_id()) is not None:
                pass
            return identifier

        return attrs.evolve(hooks, observer=witness, wrap_strategy=witness.wrap, new_id=unused_id)

    def _date_at_start(self) -> float:
        """Return the wall clock at the beginning: no date is drawn where another run may have been in the store."""
        if self._options.get("store") is not None or self._clock.wall_start != WALL:
            return max(self._clock.wall_start, self._resumed_at())
        return self._how.wall_at_start

    def _resumed_at(self) -> float:
        """Return the time of day at which a run begins that another one is resumed by; 0 if there is none."""
        identifier = self._options.get("resume")
        stored = self._store.read(identifier) if isinstance(identifier, str) else None
        if stored is None:
            return 0.0
        saved = stored_info(stored)
        times = [time for record in saved.records for time in (record.started, record.ended) if time is not None]
        return math.ceil(max(times, default=0.0)) + RESUMED_AFTER

    async def _main(self) -> None:
        caller.set(None)  # this may be in a node of another simulation
        before, scope = set(tasks()), current_scope()
        try:
            with anyio.CancelScope() as self._scope:
                self._clock.cancel_run = self._cancel_hung_run  # not all tasks: the code below has to run as well
                await self._run_session()
        except BaseException as exc:
            if self._error is None or isinstance(exc, self.raises):
                raise  # the session was never entered
            self._note_error(exc)  # on trio a scope removes the cancellations from a group, and the rest leaves it
            _uncancel()
        if self._clock.scheduler is not None:
            self._clock.scheduler.settle()
        if current_scope() is not scope:
            self._left.append("the context of a session, which is still current")
        left = await tasks_left(before)
        self._left += [f"a task that waits in {describe(coroutine)}" for coroutine in left.values()]
        self._note_open_sessions()
        self._is_over = True

    def _note_error(self, exc: BaseException) -> None:
        """Note what has left the run, in its event loop if it may be a cancellation."""
        self._error = exc
        self._was_cancelled = not isinstance(exc, Exception) and is_cancellation(exc)

    def _note_open_sessions(self) -> None:
        self._left += [f"the session {session.identifier}" for session in self._witness.open]

    async def _run_session(self) -> None:
        self._session = session = self._new_session()
        self._check_plan(session)
        self._started = self._clock.now
        try:
            async with session:
                args: tuple[Any, ...] = self._args
                kwargs: Mapping[str, Any] = {}
                if session.resumes and not args:
                    args, kwargs = session.recorded_arguments(self._node)
                self._result = await call(self._node, *args, **kwargs)
            if self._killed is not None:
                self._result = None
        except BaseException as exc:
            self._note_error(exc)
            if not isinstance(exc, Exception) and (self._killed is None or isinstance(exc, self.raises)):
                raise
        finally:
            # Not what the runtime made of a kill: the process died, so no caller would have seen that.
            if self._killed is not None:
                self._error, self._was_cancelled = self._killed, False
            self._ended = self._clock.now

    @property
    def _killed(self) -> ProcessKilled | None:
        return None if self._faulty is None else self._faulty.killed

    def _new_session(self) -> Session:
        options = {**self._options}
        if self._faulty is not None:
            options["store"] = self._faulty
        resume = options.get("resume")
        if resume is not None and options.get("before") is None:
            options.setdefault("run_identifier", resume)
        if not isinstance(self._target, Flow):
            return Session(**options)
        flow = self._target
        if (context := options.pop("context", None)) is not None:
            flow = flow.update_context(context)
        options.setdefault("store", self._store)  # overrides the flow's own: a test should leave nothing on disk
        return flow_session(flow, **options)

    def _check_plan(self, session: Session) -> None:
        config = session.executor_config
        journals = config.save_state and config.durability != "exit"
        if not journals and any(isinstance(fault, Kill) for fault in self._how.faults):
            raise ConfigError(
                "faults: Kill needs a journal, and this session has none; use save_state=True and "
                "durability='async' or 'sync'"
            )

    # ---- after the run

    def _outcome(self) -> Outcome:
        session, witness = self._session, self._witness
        witness.hide_private_reads()
        scheduler = self._clock.scheduler
        assert session is not None
        assert scheduler is not None
        sessions = tuple(self._observed(each) for each in witness.sessions)
        return Outcome(
            target=self._target, args=self._args, run_options=self._how, options=self._options,
            result=self._result, exception=self._error,
            schedule=scheduler.kind, order=scheduler.log.digest(), decisions=self._decisions,
            was_cancelled=self._was_cancelled,
            trace=tuple(witness.trace),
            info=sessions[0].info if sessions else session.info, duration=self._ended - self._started,
            store=self._store, sessions=sessions, left_running=tuple(self._left),
            unused_faults=tuple(each for each in self._how.faults if not any(each is it for it in witness.injected)),
            undetermined=tuple(sorted(self._clock.undetermined)),
            unseen=tuple(map(witness.redact, self._unseen.texts)),
            cut_off=tuple(witness.cut_off), timers=tuple(sorted(self._clock.timers)),
            calls=witness.calls, failures=witness.failures,
            operations=tuple(witness.operations),
        )  # fmt: skip

    def _observed(self, session: Session) -> ObservedSession:
        config = session.executor_config
        keeps = config.save_state and SessionProbe(session).store in (self._faulty, self._store)
        stored = self._store.read(session.identifier) if keeps else None
        observed = ObservedSession(session.info, config, keeps, stored)
        if self._killed and observed.saved is not None:
            return attrs.evolve(observed, info=observed.saved)
        return observed


def _uncancel() -> None:
    """Take back cancellations of this task by ``task.cancel()``, which a node may have called; the outcome has them."""
    if running_library() == "asyncio":
        import asyncio

        task = asyncio.current_task()
        while task is not None and task.cancelling():
            task.uncancel()
