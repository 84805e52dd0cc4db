"""Executor: workers that lose, delay, repeat and damage work, in virtual time.

A worker is a thread of this process that shares nothing with the session but bytes, as one on another machine would.
It does its work at the moment at which that begins, and everything else stands still meanwhile: so the order of what
happens is the same each time. Sleeps in it take virtual time. The answer comes when as much time has passed at home.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future
from contextvars import Context
from functools import partial
from random import Random
from typing import Any, Literal, get_args

from railtracks._test_hooks import RuntimeHooks, runtime_hooks
from railtracks._test_probe import run_in_loop, running_library
from railtracks.testing._numbered_faults import fault_at, note_fault, validate_faults
from railtracks.testing._virtual_time._choices import Choices, draw_from, seeded_choices
from railtracks.testing._virtual_time._clock import PATIENCE, VirtualClock
from railtracks.testing._virtual_time._run import run_on
from railtracks.testing._virtual_time._scheduler import Scheduler
from railtracks.testing._virtual_time._stuck_errors import ClockHeldError, Deadlock
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler
from railtracks.testing._virtual_time._timers import call_later

WorkerFault = Literal[
    "lose", "lose_answer", "delay", "duplicate", "corrupt", "truncate", "corrupt_work", "refuse", "break"
]
"""What goes wrong with work; see :class:`Executor`."""
_FAULTS: tuple[str, ...] = get_args(WorkerFault)
_ids = itertools.count()


class Executor:
    """An executor for tests: ``Session(executors={"pool": faults.Executor({1: "lose"})})``.

    What goes wrong with a piece of work:

    ============== ================================================================================================
    "lose"         its worker dies before the work begins
    "lose_answer"  its worker dies when it has done the work
    "delay"        it begins later
    "duplicate"    two workers do it, one after the other, and one of them answers
    "corrupt"      a bit of the answer changes on its way
    "truncate"     the end of the answer is lost
    "corrupt_work" a bit of the work changes on its way, before it comes to the worker
    "refuse"       the executor does not take it: ``submit`` raises
    "break"        the executor breaks: all that is under way fails, and it takes no more work
    ============== ================================================================================================

    Work that runs cannot be cancelled, as in most executors. A worker that waits for something of the session other
    than by Railtracks waits for ever, as the session stands still. Use a new executor for each run: it counts its work.

    Args:
        plan: What goes wrong, by the number of the piece of work, counted from 1 in the order of ``submit``.
        chances: Of work that is not in the plan: the share that goes wrong, by what goes wrong. Their sum is at most 1.
        seed: Decides which share that is, by how much work is delayed, and where bytes change.
        delay: The greatest delay, in virtual seconds.
        latency: Up to how many virtual seconds pass before any work begins.

    Attributes:
        happened: What went wrong so far: the number of the work, and what it was.

    Raises:
        ConfigError: an argument is not allowed.
    """

    def __init__(
        self,
        plan: Mapping[int, WorkerFault] | None = None,
        *,
        chances: Mapping[WorkerFault, float] | None = None,
        seed: int = 0,
        delay: float = 10.0,
        latency: float = 0.0,
    ) -> None:
        self._plan: dict[int, WorkerFault] = dict(plan or {})
        self._chances: dict[WorkerFault, float] = dict(chances or {})
        self._seed, self._delay, self._latency = seed, delay, latency
        validate_faults("Executor", _FAULTS, self._plan, self._chances, delay=delay, latency=latency)
        self.happened: list[tuple[int, WorkerFault]] = []
        self._random = Random(f"{seed}/executor")  # noqa: S311 (repeatable, not secret)
        self._count = 0
        self._under_way: dict[Future[Any], None] = {}
        self._is_broken = self._is_shut_down = False

    def submit(self, func: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Have a worker call ``func``. To be called in an event loop, or in a worker thread of one.

        Raises:
            RuntimeError: it was shut down, or refuses the work.
            BrokenExecutor: it is broken.
        """
        if running_library() is None:
            return run_in_loop(partial(self._submit_there, func, args), None)
        if self._is_shut_down:
            raise RuntimeError("cannot submit work: the executor was shut down")
        if self._is_broken:
            raise BrokenExecutor("the executor is broken")
        self._count += 1
        fault = fault_at(self._count, self._plan, self._chances, self._random)
        if fault is not None:
            self.happened.append((self._count, fault))
            note_fault(f"work {self._count}: {fault}")
        if fault == "refuse":
            raise RuntimeError("the executor refuses this work")
        future: Future[Any] = Future()
        self._under_way[future] = None
        future.add_done_callback(lambda _: self._under_way.pop(future, None))
        seconds = self._random.uniform(0, self._latency) if self._latency else 0.0
        seconds += self._random.uniform(0, self._delay) if fault == "delay" else 0.0
        call_later(seconds, partial(self._begin, self._count, fault, future, func, args))
        return future

    async def _submit_there(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Future[Any]:
        return self.submit(func, *args)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work. What is under way goes on, as nothing can be waited for here.

        Args:
            wait: Ignored.
            cancel_futures: Whether to cancel what has not begun.
        """
        self._is_shut_down = True
        for future in list(self._under_way) if cancel_futures else ():
            future.cancel()

    # ---- in the event loop

    def _begin(
        self, number: int, fault: WorkerFault | None, future: Future[Any], func: Callable[..., Any], args: Any
    ) -> None:
        if future.done() or not future.set_running_or_notify_cancel():
            return
        if fault == "break":
            self._break()
            return
        if fault == "lose":
            _fail(future, ChildProcessError("the worker has died"))
            return
        if fault == "corrupt_work":
            args = tuple(self._corrupt(each) if isinstance(each, bytes) else each for each in args)
        workers = [_Worker(f"{self._seed}/{number}/{which}") for which in range(2 if fault == "duplicate" else 1)]
        for worker in workers:
            worker.run(func, args)
        answering = self._random.choice(workers)
        if not answering.hangs:
            call_later(answering.seconds, partial(self._answer, fault, future, answering))

    def _answer(self, fault: WorkerFault | None, future: Future[Any], worker: _Worker) -> None:
        if future.done():  # the executor broke
            return
        if fault == "lose_answer":
            _fail(future, ChildProcessError("the worker has died"))
        elif worker.error is not None:
            _fail(future, worker.error)
        elif fault == "corrupt":
            future.set_result(self._corrupt(worker.answer))
        elif fault == "truncate":
            # At least a byte is left: nothing at all stands for an answer that was lost.
            future.set_result(worker.answer[: self._random.randrange(1, len(worker.answer))])
        else:
            future.set_result(worker.answer)

    def _corrupt(self, data: bytes) -> bytes:
        at, bit = self._random.randrange(len(data)), 1 << self._random.randrange(8)
        return data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]

    def _break(self) -> None:
        self._is_broken = True
        for future in list(self._under_way):
            if not future.cancelled():
                _fail(future, BrokenExecutor("a worker has died, and the executor is broken"))

    def __repr__(self) -> str:
        parts = [repr(self._plan)] if self._plan else []
        parts += [f"chances={self._chances!r}"] if self._chances else []
        parts += [f"seed={self._seed}"] if self._seed else []
        parts += [f"delay={self._delay!r}"] if self._delay != 10 else []
        parts += [f"latency={self._latency!r}"] if self._latency else []
        return f"Executor({', '.join(parts)})"


def _fail(future: Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


class _Worker:
    """A worker that does one piece of work.

    Args:
        seed: Decides the order of its tasks.

    Attributes:
        answer: What the work has returned.
        error: What it has raised; None if it has returned.
        hangs: Whether it waits for ever.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self.answer: Any = None
        self.error: BaseException | None = None
        self.hangs = False
        self._clocks: list[VirtualClock] = []
        self._older_threads = set(threading.enumerate())
        self._scheduler = SeededThreadScheduler(seeded_choices(seed, "threads"))

    @property
    def seconds(self) -> float:
        """How many virtual seconds it has been at work."""
        return sum(clock.now for clock in self._clocks)

    def run(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Do the work. Blocks.

        Raises:
            ClockHeldError: it takes more than 10 s of real time.
        """
        context = Context()
        context.run(runtime_hooks.set, self._hooks(runtime_hooks.get()))
        target = partial(context.run, self._work, func, args)
        thread = threading.Thread(target=target, name="railtracks-test-worker", daemon=True)
        thread.start()
        thread.join(PATIENCE)
        self._scheduler.release_all()
        if thread.is_alive():
            problem = f"a worker of faults.Executor has been at work for {PATIENCE:g} s of real time"
            self.error = ClockHeldError(f"{problem}; it may wait for the session, which waits for it", [])

    def _work(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            self.answer = func(*args)
        except BaseException as exc:  # it is the answer
            self.error = exc

    def _hooks(self, home: RuntimeHooks) -> RuntimeHooks:
        clock, wall, count = home.clock(), home.wall(), next(_ids) if home.hold_clock is None else self._seed
        numbers = itertools.count()
        jitter = Random(f"{self._seed}/jitter")  # noqa: S311 (repeatable, not secret)
        return RuntimeHooks(
            clock=lambda: clock + self.seconds,
            wall=lambda: wall + self.seconds,
            processor_clock=None,
            new_id=lambda: f"w{count}-{next(numbers)}".replace("/", "-"),
            random_bytes=Random(f"{self._seed}/values").randbytes,  # noqa: S311 (repeatable, not secret)
            jitter=lambda most: jitter.uniform(0, most),
            thread_scheduler=self._scheduler,
            run_loop=self._run_loop,
        )

    def _run_loop(self, func: Callable[..., Any], *args: Any, backend: str) -> Any:
        """Run an async function as ``anyio.run`` does, on a clock of its own."""
        seed = f"{self._seed}/{len(self._clocks)}"
        clock = VirtualClock()
        clock.thread_scheduler = self._scheduler
        clock.older_threads = self._older_threads  # the thread of a sync node may wake this event loop
        self._clocks.append(clock)
        try:
            scheduler = Scheduler(Choices(draw_from(Random(seed))))  # noqa: S311 (repeatable, not secret)
            return run_on(clock, scheduler, func, *args, backend=backend)
        except Deadlock:
            self.hangs = True
            raise
