"""Event loops that a program runs in: in virtual time, with an end even if the program has none.

The time of a virtual loop jumps to the next timer when nothing can run. The order of what can run is the backend's own:
first in, first out on asyncio; shuffled on trio, by the seed.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

import trio
import trio.testing
from anyio._backends._asyncio import CancelScope

STEP_BUDGET = 20_000
"""Turns of the event loop that a program may take."""
MAX_SPIN = 400
"""Turns without a change of time, after which virtual time goes on although something can run: anyio delivers a
cancellation again at each turn, for as long as code of the user, such as ``asyncio.TaskGroup``, does not end."""
PATIENCE = {signal.ITIMER_PROF: 2.0, signal.ITIMER_REAL: 15.0}
"""Seconds of the processor, and of real time, that a program may take: one that gives the event loop no turn uses up no
turns."""


class StandsStill(BaseException):
    """The program never ends: nothing can run, or it uses up its budget."""


class Watch:
    """Notices that a program never ends, and notes why and where.

    Attributes:
        story: Why, and the stacks of all tasks; None while all is well.
    """

    def __init__(self) -> None:
        self.story: str | None = None
        self.stacks: Callable[[], str] = str
        self._steps = 0

    def count(self) -> None:
        """Count a turn of the event loop."""
        self._steps += 1
        if self._steps > STEP_BUDGET:
            self.give_up(f"it has taken {STEP_BUDGET} turns of the event loop")

    def give_up(self, why: str) -> None:
        """Note that the program never ends; :meth:`check` raises from now on."""
        if self.story is None:
            self.story = f"{why}\n{self.stacks()}"

    def check(self) -> None:
        """Raise StandsStill if the program never ends."""
        if self.story is not None:
            raise StandsStill(self.story)

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        where = "".join(traceback.format_stack(frame, 12))
        self.give_up(f"it takes too long ({signal.Signals(number).name}); in the main thread:\n{where}")
        self.check()

    @contextmanager
    def alarm(self) -> Iterator[None]:
        """Stop the program in any case when its time is over. In the main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGPROF, signal.SIGALRM)
        before = {number: signal.signal(number, self._on_alarm) for number in numbers}
        # asyncio and trio handle Ctrl-C in place of Python, and of nothing else.
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
        for timer, seconds in PATIENCE.items():
            signal.setitimer(timer, seconds, 1)
        try:
            yield
        finally:
            for timer in PATIENCE:
                signal.setitimer(timer, 0)
            for number, handler in before.items():
                signal.signal(number, handler)


# ---- asyncio


class NumberedTask(asyncio.Task):
    """A task whose hash is a number: sets of tasks, as anyio has them, have the same order in each run."""

    _numbers = itertools.count()

    _number: int

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        task = super().__new__(cls)
        task._number = next(cls._numbers)
        return task

    def __hash__(self) -> int:
        return self._number


@contextmanager
def _numbered_scopes() -> Iterator[None]:
    """Give anyio's cancel scopes such hashes too, for the sets that they are kept in."""
    numbers: dict[int, int] = {}  # by the identity of the scope, which has no place for its number
    scope_class: Any = CancelScope
    new = scope_class.__new__

    def number(cls: Any, **options: Any) -> Any:
        scope = new(cls, **options)
        numbers[id(scope)] = len(numbers)
        return scope

    scope_class.__new__, scope_class.__hash__ = number, lambda scope: numbers[id(scope)]
    try:
        yield
    finally:
        scope_class.__new__, scope_class.__hash__ = new, object.__hash__


class Loop(asyncio.SelectorEventLoop):
    """An event loop of asyncio that is watched, and whose time may be virtual."""

    def __init__(self, watch: Watch, virtual: bool) -> None:
        self._watch, self._virtual, self._now = watch, virtual, 0.0
        self._turns_now = 0  # since the time last changed
        super().__init__()
        NumberedTask._numbers = itertools.count()
        self.set_task_factory(lambda loop, coro, **kwargs: NumberedTask(coro, loop=loop, **kwargs))
        self.set_exception_handler(lambda *_: None)  # what was never retrieved is the program's own affair
        watch.stacks = lambda: "".join(map(_asyncio_stack, asyncio.all_tasks(self)))

    def time(self) -> float:
        return self._now if self._virtual else super().time()

    def _run_once(self) -> None:
        self._watch.count()
        self._watch.check()
        self._turns_now += 1
        if self._virtual and (not self._ready or self._turns_now > MAX_SPIN):  # type: ignore[attr-defined]
            self._jump()
        super()._run_once()  # type: ignore[misc]

    def _jump(self) -> None:
        """Let the time jump to the next timer."""
        if self._turns_now > MAX_SPIN and (spinning := _spinning_in_railtracks(self)):
            self._watch.give_up(f"a busy loop: a cancellation is delivered in vain, {MAX_SPIN} times, to\n{spinning}")
        times = [handle.when() for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        if times:
            self._now, self._turns_now = max(self._now, min(times)), 0
        elif not self._ready:  # type: ignore[attr-defined]
            self._watch.give_up("nothing can ever run")
        self._watch.check()

    def discard(self) -> None:
        """Close the loop of a program that never ends, whatever it still holds."""
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._ready.clear()  # type: ignore[attr-defined]
        self.close()


def run_asyncio(
    main: Callable[[], Any], watch: Watch, virtual: bool, before_end: Callable[[asyncio.AbstractEventLoop], None]
) -> None:
    """Run ``main()`` as ``asyncio.run`` does: when it has returned, all tasks are cancelled.

    Args:
        main: The async function to run.
        watch: Ends it in any case.
        virtual: Whether time is virtual.
        before_end: Called when all tasks that were cancelled have ended.
    """
    loop = Loop(watch, virtual)
    asyncio.set_event_loop(loop)
    try:
        with _numbered_scopes():
            try:
                asyncio.Runner(loop_factory=lambda: loop).run(main())
            finally:
                if watch.story is None:
                    _cancel_all_tasks(loop)
                    # asyncio.run drops the tasks that are started now, whatever they are doing. The sessions of such
                    # tasks cannot end, which is the program's own fault.
                    while any(not task.get_name().startswith("railtracks.") for task in asyncio.all_tasks(loop)):
                        _cancel_all_tasks(loop)
                    before_end(loop)
                    loop.run_until_complete(loop.shutdown_asyncgens())
    except StandsStill:
        pass
    finally:
        asyncio.set_event_loop(None)
        if watch.story is None:
            loop.close()
        else:
            loop.discard()


def _cancel_all_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Do what ``asyncio.run`` does at its end; once more, if a task passes on SystemExit or Ctrl-C of another."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    try:
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    except (SystemExit, KeyboardInterrupt, RuntimeError):  # RuntimeError: an earlier one has stopped the loop
        _cancel_all_tasks(loop)


def _frames(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Yield the frames of a task that waits, from its own coroutine to what it waits for."""
    awaited: Any = task.get_coro()
    while awaited is not None:
        for name in ("cr_frame", "gi_frame", "ag_frame"):
            if (frame := getattr(awaited, name, None)) is not None:
                yield frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


def _asyncio_stack(task: asyncio.Task[Any]) -> str:
    lines = [f"  {task.get_name()}\n"]
    for frame in _frames(task):
        lines.append(f"    {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}\n")
    return "".join(lines)


def _spinning_in_railtracks(loop: asyncio.AbstractEventLoop) -> str:
    """Return the stacks of the tasks that are cancelled in vain, if all of them wait in code of Railtracks.

    If one waits in code of the user, such as ``asyncio.gather``, it may pass the cancellations on to the others.
    """
    stacks = []
    for task in asyncio.all_tasks(loop):
        if task.cancelling() > MAX_SPIN / 4:
            modules = [frame.f_globals.get("__name__", "").partition(".")[0] for frame in _frames(task)]
            own = [module for module in modules if module in ("railtracks", "tests")]
            if not own or own[-1] != "railtracks":
                return ""
            stacks.append(_asyncio_stack(task))
    return "".join(stacks)


# ---- trio


def _clock(watch: Watch, virtual: bool) -> trio.testing.MockClock:
    """Return a clock that runs, or jumps when nothing can run. trio reads it at each turn, and so notices the watch."""
    clock = trio.testing.MockClock(0 if virtual else 1, 0 if virtual else math.inf)
    read, jump = clock.current_time, clock._autojump

    def current_time() -> float:
        watch.check()
        return read()

    def autojump() -> None:
        if trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf:
            watch.give_up("nothing can ever run")
        jump()

    clock.current_time, clock._autojump = current_time, autojump  # type: ignore[method-assign]  # the class is final
    return clock


class _CountTurns(trio.abc.Instrument):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def before_io_wait(self, timeout: float) -> None:
        self._watch.count()


def run_trio(main: Callable[[], Any], watch: Watch, virtual: bool, seed: int) -> None:
    """Run ``main()`` as ``trio.run`` does, with a schedule that the seed decides.

    Args:
        main: The async function to run.
        watch: Ends it in any case.
        virtual: Whether time is virtual.
        seed: Decides the order of the tasks that can run.
    """
    run: Any = sys.modules["trio._core._run"]
    run._r.seed(seed)
    run._ALLOW_DETERMINISTIC_SCHEDULING = True
    watch.stacks = _trio_stacks
    try:
        trio.run(main, clock=_clock(watch, virtual), instruments=[_CountTurns(watch)])
    except BaseException:
        if watch.story is None:
            raise


def _trio_stacks() -> str:
    lines = []
    root = trio.lowlevel.current_root_task()
    nurseries = list(root.child_nurseries) if root else []
    while nurseries:
        for task in nurseries.pop().child_tasks:
            lines.append(f"  {task.name}\n")
            lines += [
                f"    {frame.f_code.co_filename}:{line} {frame.f_code.co_name}\n"
                for frame, line in task.iter_await_frames()
            ]
            nurseries += task.child_nurseries
    return "".join(lines)
