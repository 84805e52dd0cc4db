"""The clock of one run under virtual time, and why it is hard.

When no task can run, the clock may jump to the next deadline. But "no task can run" does not mean "nothing is going
on": a worker thread may be about to report, or a socket to deliver. A jump past them lets a timeout fire that would
never fire in real time, and the test is wrong. So the clock is held while such a thing is under way, and real time
passes instead. If that takes very long, it is an error. If there is no deadline either, and nothing that could wake the
event loop, the run hangs for ever, and that is an error as well. So is a run in which tasks always have something to
do, and no time passes: after a number of steps that no flow needs at one moment, it counts as spinning for ever. And so
is one in which time passes and passes, after a number of steps that the run of a test does not need.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any, NoReturn

from railtracks.exceptions import ConfigError
from railtracks.testing._arguments import check_flag
from railtracks.testing._virtual_time import _real_clock
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._event_loop import EventLoop
from railtracks.testing._virtual_time._holders import A_THREAD, Holders
from railtracks.testing._virtual_time._pauses import OwnThread
from railtracks.testing._virtual_time._scheduler import Scheduler
from railtracks.testing._virtual_time._step_budget import MAX_STEPS, MAX_TOTAL_STEPS, STEPS_PER_TURN, Fail, StepBudget
from railtracks.testing._virtual_time._stuck_errors import ClockHeldError, Deadlock, Livelock, StuckError
from railtracks.testing._virtual_time._tasks import tasks, where_waits
from railtracks.testing._virtual_time._thread_kinds import name_of
from railtracks.testing._virtual_time._thread_scheduler import SeededThreadScheduler
from railtracks.testing._virtual_time._world import World

PATIENCE = 10.0
"""Real seconds that the clock may be held for a thread, a socket or a portal before that is an error."""
DIGITS = 9
"""The digits of the seconds since the run began, after the point."""
WALL = 1e9
"""The wall clock when a run begins, if no date is drawn: 2001-09-09, 01:46:40 UTC."""
STALLED = "a thread stood still, maybe for something that a sleeping thread has, and the clock moved on"
"""Why the seed does not decide a run in which that happened."""
NEWS = "something that has come for the event loop, which does not wake,"
"""What holds the clock until the event loop has taken it."""
TURNS_BETWEEN_COLLECTIONS = 100
"""How many turns of the event loop there are from one garbage collection to the next."""
MAX_TIMERS = 1000
"""How many different lengths of timers are noted at most."""


def check_limits(max_steps: Any, max_total_steps: Any, patience: Any) -> None:
    """Validate arguments of a clock. ConfigError if one is not allowed."""
    for name, steps in (("max_steps", max_steps), ("max_total_steps", max_total_steps)):
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ConfigError(f"{name} is {steps!r}; use a whole number of at least 1")
    if isinstance(patience, bool) or not isinstance(patience, int | float) or not patience >= 0:
        raise ConfigError(f"patience is {patience!r}; use a number of real seconds of at least 0")


class VirtualClock:
    """The time of one run under virtual time; made by :func:`railtracks.testing.run` unless it is given one.

    Args:
        jumps: Whether the clock jumps to the next deadline when nothing can run. Otherwise only ``jump`` moves it.
        patience: Real seconds for which it may be held; after that, ClockHeldError is raised.
        hold_for_sockets: Whether a task holds the clock that waits for a socket or a pipe whose other end is not in the
            same event loop.
        max_steps: How many steps tasks and callbacks may take while the clock does not move. A turn of the event loop
            counts as 25 steps at least.
        max_total_steps: How many steps tasks, callbacks and threads may take in the whole run.
    """

    event_loop: EventLoop | None = None
    """The event loop; it sets this itself."""
    scheduler: Scheduler | None = None
    """The scheduler of tasks; None if the event loop decides. Set by ``run``."""
    decisions: Decisions | None = None
    """What decides in the run; None: its seed, if it has one."""
    world: World | None = None
    """The world of the run, if that is virtual; set by ``run``."""

    def __init__(
        self,
        *,
        jumps: bool = True,
        patience: float = PATIENCE,
        hold_for_sockets: bool = True,
        max_steps: int = MAX_STEPS,
        max_total_steps: int = MAX_TOTAL_STEPS,
    ) -> None:
        check_flag("VirtualClock", "jumps", jumps)
        check_flag("VirtualClock", "hold_for_sockets", hold_for_sockets)
        check_limits(max_steps, max_total_steps, patience)
        self.jumps = jumps
        self.max_steps = max_steps
        self.max_total_steps = max_total_steps
        self.patience = patience
        self._hold_for_sockets = hold_for_sockets
        self._reading = self._now = self._start = 0.0
        self.wall_start = WALL
        """The wall clock when the run begins."""
        self.turns: int = 0
        """How many turns of the event loop have begun, in which something could happen."""
        self.collect_garbage: Callable[[], None] = lambda: None
        """Discards the garbage of the run; set by ``run``."""
        self.timers: set[float] = set()
        """The lengths of the timers that were set, in virtual seconds, to the microsecond."""
        self.counts_steps = True
        """Whether too many steps are a livelock."""
        self.failure: StuckError | None = None
        """Why the run could not continue, if that happened."""
        self.undetermined: dict[str, None] = {}
        """What of the run the seed does not decide, and why."""
        self.threads_left: list[str] = []
        """The threads of users that had not ended when the run was over, as far as they took turns."""
        self.older_threads: set[threading.Thread] = set(threading.enumerate())
        """Threads that do not know this event loop."""
        self._holders = Holders(self, hold_for_sockets)
        self._budget = StepBudget(max_steps, max_total_steps, self, self._holders, self._wait_for_steps, self._fail)
        self._waiting_since: float | None = None  # in real time
        self._is_waiting = False  # whether nothing has happened since the event loop has begun to wait in real time
        self.thread_scheduler: SeededThreadScheduler = SeededThreadScheduler()
        """The scheduler of worker threads; set by ``run``."""
        self.on_loop_error: Callable[[dict[str, Any]], bool] = lambda _: False
        """Called with what asyncio would log of a failure; returns whether it is known then, and not logged."""
        self.cancel_run: Callable[[], None] = lambda: None
        """Cancels everything after a failure; set by ``run``."""
        self._is_for_threads = False
        self._turns, self._turns_at = 0, -1.0  # of threads, since the clock moved

    def __repr__(self) -> str:
        """Return the code that makes such a clock."""
        options = {
            "jumps": (self.jumps, True),
            "patience": (self.patience, PATIENCE),
            "hold_for_sockets": (self._hold_for_sockets, True),
            "max_steps": (self.max_steps, MAX_STEPS),
            "max_total_steps": (self.max_total_steps, MAX_TOTAL_STEPS),
        }
        given = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
        return f"VirtualClock({', '.join(given)})"

    @property
    def now(self) -> float:
        """Virtual seconds since the run began. From any thread."""
        return self._now

    @property
    def reading(self) -> float:
        """What the event loop's clock and ``time.monotonic()`` read in the run: ``start``, and ``now`` more."""
        return self._reading

    @property
    def wall(self) -> float:
        """What ``time.time()`` returns in the run: seconds since 1970."""
        return self.wall_start + self._now

    def begin_at(self, start: float) -> None:
        """Set what the clock reads when the run begins."""
        self._start = self._reading = start

    def seconds_until(self, reading: float) -> float:
        """Return the seconds until the clock reads that."""
        return max(0.0, reading - self._reading)

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Hold the clock inside the block, for work that it does not know of. Can be used in any thread."""
        return self._holders.hold()

    @contextlib.contextmanager
    def only_threads(self) -> Iterator[None]:
        """Have the clock jump for threads that pause only inside the block, and not to deadlines of the event loop."""
        self._is_for_threads = True
        try:
            yield
        finally:
            self._is_for_threads = False

    def jump(self, seconds: float) -> None:
        """Advance the clock.

        Args:
            seconds: Virtual seconds.

        Raises:
            ConfigError: ``seconds`` is not a number of at least 0; it is a ValueError.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
            raise ConfigError(f"jump: {seconds!r} is not a number of seconds; use 0 or more")
        self.jump_to(self._reading + seconds)

    def jump_to(self, reading: float) -> None:
        """Advance the clock until it reads that; not further, so that a deadline at that moment is due exactly."""
        before, self._reading = self._reading, max(reading, self._reading)
        # The digits that are lost in a large number must not be seen in small ones.
        self._now = round(self._reading - self._start, DIGITS) if self._start else self._reading
        seconds = self._reading - before
        if self.event_loop is not None:
            self.event_loop.on_clock_moved(seconds)

    def sleep_in_thread(self, seconds: float) -> None:
        """Pass virtual seconds in a thread that does work of the run."""
        self.thread_scheduler.pause(self.reading + seconds, lambda: False, is_sleep=True)

    def is_in_work(self) -> bool:
        """Return whether the calling thread does work of the run."""
        return self.thread_scheduler.work_of_thread() is not None

    def others_can_run(self) -> bool:
        """Return whether, in this turn of the event loop or the next, another task than the running one can run."""
        loop = self.event_loop
        return loop is not None and (loop.count_ready() > 0 or bool(loop.jobs()))

    # ---- for the event loop

    def begin_turn(self) -> None:
        """Handle that a turn of the event loop begins."""
        if self._is_waiting:  # how often it wakes meanwhile is a matter of real time
            return
        self.turns += 1
        if not self.turns % TURNS_BETWEEN_COLLECTIONS:
            self.collect_garbage()

    def note_timer(self, seconds: float) -> None:
        """Note that a timer is due in so many seconds."""
        if 0 < seconds < math.inf and len(self.timers) < MAX_TIMERS:
            self.timers.add(round(seconds, 6))

    def note_activity(self) -> None:
        """Note that a task ran, or that the event loop has something to do."""
        self._waiting_since = None
        self._is_waiting = False

    def may_jump(self, deadline: float | None) -> bool:
        """Return whether to jump to ``deadline``; if not, the event loop looks again soon.

        To be called when nothing can run before ``deadline``.

        Args:
            deadline: What the clock reads when the next timer is due; None if none ever is.

        Raises:
            StuckError: the run cannot continue, and cancelling it has not helped.
        """
        self._is_waiting = not self._is_jump_next(deadline)
        return not self._is_waiting

    def _is_jump_next(self, deadline: float | None) -> bool:
        self._budget.note_idle()
        if self._is_for_threads:
            deadline = None
        failure = self.failure
        while True:
            if self._let_threads_go_on():
                if self._has_news():
                    return self._wait_for_news(deadline)
                if self.failure is not failure:
                    return False  # tasks are cancelled, and on trio that is no news
            holders = self._holders.find(self.is_blocked)
            if self._has_news():
                return self._wait_for_news(deadline)
            if not self._jump_to_thread(holders, deadline):
                break
        if not holders and (deadline is not None or not self.jumps):
            return self.jumps
        if not holders and not (holders := self._holders.find_wakers()) and not self._is_for_threads:
            if self._holders.find(self.is_blocked) or (self.event_loop is not None and self.event_loop.has_news()):
                return False  # another thread has ended just now, and before that it has done something
            self._fail(Deadlock, "nothing can run, and there is no deadline to wait for")
        else:
            self._waiting_since = self._wait_for(holders, deadline, self._waiting_since)
        return False

    def _wait_for_news(self, deadline: float | None) -> bool:
        """Return False, as the event loop is about to take what it has; fail if it never does.

        Then the file by which threads wake it is broken: something else has closed it, for instance.
        """
        self._waiting_since = self._wait_for([NEWS], deadline, self._waiting_since)
        return False

    def _has_news(self) -> bool:
        return self.event_loop is not None and self.event_loop.has_news()

    def _let_threads_go_on(self) -> bool:
        """Let threads take turns, until none can continue or the event loop has something to do.

        Returns:
            Whether there were any that might continue.
        """
        scheduler = self.thread_scheduler
        scheduler.heartbeat += 1
        if self.event_loop is None or not scheduler.has_candidates:
            return False
        if self._turns_at != self._now:
            self._is_for_threads = False
        self._turns, self._turns_at = 0, self._now
        most = self.max_steps // STEPS_PER_TURN
        turns = scheduler.take_turns(self.is_blocked, self.event_loop.has_news, most)
        self.note_thread_turns(turns, self._fail)
        self._turns += turns
        if self._turns >= most and self.counts_steps:
            self._turns = 0
            self._fail(Livelock, self._budget.spinning("threads"), self._holders.paused_threads())
        return True

    def let_threads_run(self, is_over: Callable[[], bool]) -> bool:
        """Let threads take turns while code of the event loop blocks, until ``is_over``; return whether any has.

        Raises:
            StuckError: they run on and on.
        """
        most = self.max_steps // STEPS_PER_TURN
        turns = self.thread_scheduler.take_turns(self.is_blocked, is_over, most)
        if turns >= most:
            self.fail_now(Livelock, self._budget.spinning("threads"), self._holders.paused_threads())
        return turns > 0

    def note_thread_turns(self, turns: int, fail: Fail) -> None:
        """Note that threads took so many turns, or moved the clock; call ``fail`` if the run has had too many steps."""
        self._budget.note_thread_turns(turns, fail)

    def _jump_to_thread(self, holders: list[str], deadline: float | None) -> bool:
        """Jump to the end of a pause of a thread, if that is what happens next, and return whether it is."""
        pause = self.thread_scheduler.next_end()
        if pause is None or pause.until is None or not self.jumps:
            return False
        if deadline is not None and deadline <= pause.until:
            return False
        if holders:
            if holders != [A_THREAD] or not self.thread_scheduler.has_stalled():
                return False
            self.note_undetermined(STALLED)
        self.jump_to(pause.until)
        return True

    def others_may_wake(self) -> bool:
        """Return whether there are threads that are not part of the run, and might end the wait of one that is."""
        return self._holders.others_may_wake()

    def others_may_unblock(self) -> bool:
        """Return whether such threads, or workers of pools, might end what code of the event loop blocks for."""
        return self._holders.others_may_wake() or self._holders.pools_are_busy()

    def threads_of_run(self) -> list[threading.Thread]:
        """Return the threads that were started during the run, but for those that are known otherwise."""
        return self._holders.threads_of_run()

    def paused_code(self) -> Iterator[tuple[Context, str]]:
        """Yield the contexts of threads that pause, each with where in user code that is, and for what it waits."""
        return self._holders.paused_code()

    def is_blocked(self, thread: int) -> bool:
        """Return whether the thread waits for the event loop."""
        return self._holders.is_blocked(thread)

    def finish_threads(self) -> None:
        """Let threads continue that can when the run is over, and note those of the user's that have not ended."""
        if self.event_loop is None or self.world is None:
            return
        self.thread_scheduler.take_turns(self.is_blocked, lambda: False, self.max_steps // STEPS_PER_TURN)
        own = {work.thread for work in self.thread_scheduler.unfinished() if isinstance(work, OwnThread)}
        self.threads_left = sorted(f"the thread {name_of(thread)}" for thread in own)

    def note_undetermined(self, text: str) -> None:
        """Note that the seed does not decide something in the run. From any thread."""
        self.undetermined[text] = None

    def note_turn(self, steps: int) -> None:
        """Note that the event loop runs ``steps`` steps of tasks and callbacks next.

        Raises:
            StuckError: the run spins for ever, and cancelling it has not helped.
        """
        self._budget.note_turn(steps)

    def grant_thread_turn(self) -> bool:
        """Let the next worker thread continue, if none runs, and return whether one is at work now."""
        return self.thread_scheduler.grant_turn(self.is_blocked)

    def _wait_for_steps(self, holders: list[str], since: float | None) -> float | None:
        assert self.event_loop is not None
        return self._wait_for(holders, self.event_loop.deadline(), since)

    def _wait_for(self, holders: list[str], deadline: float | None, since: float | None) -> float | None:
        """Fail if it was waited for ``holders`` for too long.

        Args:
            holders: What holds the clock.
            deadline: When the next timer is due; None if none ever is.
            since: When the wait began, in real time; None if it begins now.

        Returns:
            When the wait began.
        """
        real = _real_clock.monotonic()
        if since is None or real - since <= self.patience:
            return real if since is None else since
        then = (
            ""
            if deadline is None
            else f", and the next deadline, at {self._now + self.seconds_until(deadline):g} s, would be jumped past it"
        )
        self._fail(
            ClockHeldError,
            f"for {self.patience:g} s of real time {', '.join(sorted(set(holders)))} has been under way{then}; "
            f"let it end, or have it wait for the event loop, as does anyio.from_thread.run(anyio.sleep, seconds)",
        )
        return None

    def fail_now(self, kind: type[StuckError], problem: str, running: list[str] | None = None) -> NoReturn:
        """Fail in code of the event loop that blocks: by an exception there, as it cannot be cancelled."""
        self._note_failure(kind, problem, running, [place for each in tasks().values() if (place := where_waits(each))])
        self.cancel_run()
        assert self.failure is not None
        raise self.failure

    def _fail(self, kind: type[StuckError], problem: str, running: list[str] | None = None) -> None:
        assert self.event_loop is not None
        self._note_failure(kind, problem, running, self.event_loop.waiting())
        self.event_loop.call_soon(self.cancel_run)

    def _note_failure(
        self, kind: type[StuckError], problem: str, running: list[str] | None, waiting: list[str]
    ) -> None:
        if self.failure is not None:  # the run was cancelled for it, and still cannot continue
            raise self.failure
        problem = f"at {self.now:g} s of virtual time {problem}"
        waiting = [*waiting, *self._holders.paused_threads()]
        running = [*dict.fromkeys(running or [])]
        self.failure = kind(problem, [place for place in waiting if place not in running], running)
