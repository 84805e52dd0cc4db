"""Runs one program from its beginning to its end, on one backend."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import trio

from railtracks._context_variable import current
from railtracks._test_hooks import RuntimeHooks, runtime_hooks
from tests.fuzz import loops, oracle
from tests.fuzz import programs as p
from tests.fuzz.interpreter import Env, Interpreter, running
from tests.fuzz.notes import Broken, Notes, Outcome, leaves_of, outcome_of
from tests.fuzz.tasks import without_errors

THREAD_PATIENCE = 2.0
"""Seconds of real time that threads may go on when everything else is over."""


def run(program: p.Program, backend: str, seed: int = 0) -> list[Broken]:
    """Run a program, and return the invariants that do not hold.

    Args:
        program: What to run.
        backend: "asyncio" or "trio".
        seed: Decides the order of tasks on trio.
    """
    return contextvars.Context().run(_Run(program, backend).run, seed)


def _hooks() -> RuntimeHooks:
    """Return a clock that goes on at each reading, and identifiers: a program takes the same course each time."""
    readings, numbers = itertools.count(), itertools.count()
    return RuntimeHooks(clock=lambda: next(readings) * 2e-5, new_id=lambda: f"id-{next(numbers)}")


class _Run:
    def __init__(self, program: p.Program, backend: str) -> None:
        self._program = program
        self._backend = backend
        self._watch = loops.Watch()
        self._notes = Notes(unit=0.002 if program.threads else 1.0)
        self._interpreter = Interpreter(backend, self._notes)
        self._scope: Any = None
        self._outcome: Outcome | None = None
        self._native = 0  # times that the task was cancelled itself

    def run(self, seed: int) -> list[Broken]:
        running.set(self._interpreter)
        runtime_hooks.set(_hooks())
        virtual, error = not self._program.threads, None
        with _collecting_at_the_end(), self._watch.alarm():
            try:
                if self._backend == "asyncio":
                    loops.run_asyncio(self._asyncio_main, self._watch, virtual, self._check_tasks)
                else:
                    loops.run_trio(self._trio_main, self._watch, virtual, seed)
            except BaseException as exc:
                error = exc
                if not self._notes.interrupts and not self._program.interrupts:  # they end any loop
                    self._notes.fail("the loop", f"the event loop ended with {exc!r}")
        self._wait_for_threads()
        if self._watch.story is not None:
            return [Broken("it never ends", self._watch.story)]
        self._check_ctrl_c(error)
        return oracle.check(self._notes, self._outcome, self._native)

    def _check_ctrl_c(self, error: BaseException | None) -> None:
        """Check that Ctrl-C has come out of the event loop of trio, if no cleanup can have raised something else.

        The first one on asyncio is a cancellation, which must not be lost either.
        """
        if not self._notes.ctrl_c or self._backend == "asyncio" or self._notes.interrupts:
            return
        may_be_lost = any(step in repr(self._program.block) for step in ("Cleanup", "Generator"))
        if not may_be_lost and not any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves_of(error or OSError())):
            self._notes.fail("interrupt lost", f"Ctrl-C came, and the event loop ended with {error!r}")

    def _wait_for_threads(self) -> None:
        ends = time.monotonic() + THREAD_PATIENCE
        while self._interpreter.threads and time.monotonic() < ends:
            time.sleep(0.001)
        if self._interpreter.threads:
            self._notes.fail("it never ends", f"the threads of these calls never end: {self._interpreter.threads}")

    # ---- what both backends have in common

    async def _job(self) -> None:
        """Run the block of the program; only cancellations and interrupts come out."""
        try:
            with anyio.CancelScope() as self._scope:
                try:
                    await self._interpreter.block(self._program.block, Env())
                except BaseException as exc:
                    self._outcome = outcome_of(exc)
                    raise
                self._outcome = Outcome("returned")
                if current.get() is not None:
                    self._notes.fail("context", "the context variable names a session after all of them")
        except BaseException as exc:
            rest = without_errors(exc)
            if rest is exc:
                raise
            if rest is not None:
                raise rest from None

    async def _reach(self, moment: p.Moment) -> None:
        units, turns = moment
        if units:
            await anyio.sleep(units * self._notes.unit)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()

    async def _interrupt(self, moment: p.Moment) -> None:
        await self._reach(moment)
        self._notes.ctrl_c = True
        self._notes.causes.add("Ctrl-C")
        if self._backend == "asyncio" and self._program.shutdown is None:
            self._native += 1
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as exc:  # the second one on asyncio
            self._notes.interrupts.append(exc)
            raise

    def _check_tasks(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Check that nothing is left when all has been waited for or cancelled."""
        if names := self._interpreter.tasks.left_by_railtracks(loop):
            self._notes.fail("left running", f"tasks are left when the event loop ends: {names}")

    # ---- asyncio

    async def _asyncio_main(self) -> None:
        this = asyncio.current_task()
        assert this is not None
        is_main = self._program.interrupts and self._program.shutdown is None
        job = this if is_main else asyncio.create_task(self._job())
        cancellers = [asyncio.create_task(self._cancel(each, job)) for each in self._program.cancellations]
        cancellers += [asyncio.create_task(self._interrupt(each)) for each in self._program.interrupts]
        if self._program.shutdown is not None:
            self._notes.causes.add("all tasks were cancelled")
            self._notes.handled.add("shut down")
            await self._reach(self._program.shutdown)
            return
        await (self._job() if job is this else asyncio.wait([job]))
        for canceller in cancellers:
            canceller.cancel()
        while left := [task for task in asyncio.all_tasks() if task is not this]:
            strays = [task for task in left if not task.get_name().startswith("railtracks.")]
            if not strays:
                self._check_tasks()
                return
            await asyncio.wait(strays)

    async def _cancel(self, cancellation: p.Cancellation, job: asyncio.Task[None]) -> None:
        await self._reach(cancellation.moment)
        if self._outcome is not None:
            return
        self._notes.causes.add("cancelled from outside")
        if cancellation.native:
            self._native += 1
            job.cancel()
        else:
            self._scope.cancel()

    # ---- trio

    async def _trio_main(self) -> None:
        for moment in self._program.interrupts:
            trio.lowlevel.spawn_system_task(self._interrupt, moment)  # in which the signal waits for the main task
        if self._program.shutdown is None:
            await self._trio_job()
            while self._interpreter.threads:  # those that were abandoned may ask something of the event loop
                await anyio.sleep(self._notes.unit)
            self._check_tasks()
            return
        trio.lowlevel.spawn_system_task(self._trio_job, context=contextvars.copy_context())
        self._notes.causes.add("all tasks were cancelled")
        await self._reach(self._program.shutdown)

    async def _trio_job(self) -> None:
        async with trio.open_nursery() as strays:
            self._interpreter.tasks.nursery = strays
            async with trio.open_nursery() as cancellers:
                for each in self._program.cancellations:
                    cancellers.start_soon(self._cancel_on_trio, each)
                await self._job()
                cancellers.cancel_scope.cancel()

    async def _cancel_on_trio(self, cancellation: p.Cancellation) -> None:
        await self._reach(cancellation.moment)
        self._notes.causes.add("cancelled from outside")
        if self._scope is not None:
            self._scope.cancel()


@contextmanager
def _collecting_at_the_end() -> Iterator[None]:
    """Keep the garbage collector from running at moments of its own."""
    gc.disable()
    try:
        yield
    finally:
        gc.collect(1)  # all that is new
        gc.enable()
