"""The clock of one run under virtual time, and why it is hard.

When no task can run, the clock may jump to the next deadline. But "no task can run" does not mean "nothing is going
on": a worker thread may be about to report, or a socket to deliver. A jump past them lets a timeout fire that would
never fire in real time, and the test is wrong. So the clock is held while such a thing is under way, and real time
passes instead. If that takes very long, it is an error. If there is no deadline either, and nothing that could wake the
event loop, the run hangs for ever, and that is an error as well. So is a run in which tasks always have something to
do, and no time passes: after a number of steps that no flow needs at one moment, it counts as spinning for ever.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from railtracks._test_probe import counted
from railtracks.exceptions import ConfigError, RTError
from railtracks.testing._virtual_time import _real_clock
from railtracks.testing._virtual_time._blocked_threads import where_thread_waits
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._scheduler import Scheduler
from railtracks.testing._virtual_time._thread_kinds import foreign_threads, name_of
from railtracks.testing._virtual_time._thread_scheduler import GRACE, OwnThread, SeededThreadScheduler
from railtracks.testing._virtual_time._world import World

PATIENCE = 10.0
"""Real seconds that the clock may be held for a thread, a socket or a portal before that is an error."""
MAX_STEPS = 500_000
"""Steps of tasks and callbacks that may run while no virtual time passes."""
STEPS_PER_TURN = 25
"""How many steps a turn of the event loop counts as at least, because a turn costs time too."""
SETTLING = 0.01
"""Real seconds that a thread has to wait for the event loop once it has handed something over to it."""
CHECKS = 25
"""How many times, within ``max_steps``, to check what else is going on."""
WATCHED_TURNS = 20
"""The turns after the last step that is allowed, in which what runs is noted."""
A_THREAD = "a worker thread"
"""What holds the clock while a thread has its turn."""
DIGITS = 9
"""The digits of the seconds since the run began, after the point."""
WALL = 1e9
"""The wall clock when a run begins: 2001-09-09, 01:46:40 UTC."""
MAX_PLACES = 10
"""How many places are listed at most."""
MAX_TIMERS = 1000
"""How many different lengths of timers are noted at most."""


class StuckError(RTError):
    """A run under virtual time cannot go on.

    Attributes:
        problem: What happened, and when.
        waiting: Where in user code each task waits.
    """

    def __init__(self, problem: str, waiting: list[str]) -> None:
        super().__init__("\n  waiting: ".join([problem, *waiting]))
        self.problem = problem
        self.waiting = waiting


class Deadlock(StuckError):
    """Nothing can run, there is no deadline, and nothing outside is under way: the run would hang for ever."""


class Livelock(StuckError):
    """Tasks run and run, and no virtual time passes, so that no deadline is ever due: the run would never end.

    Attributes:
        running: Where in user code the tasks, callbacks and threads are that ran last.
    """

    def __init__(self, problem: str, waiting: list[str], running: list[str]) -> None:
        more = [f"and {counted(len(running) - MAX_PLACES, 'more place')}"] if len(running) > MAX_PLACES else []
        super().__init__("\n  running: ".join([problem, *running[:MAX_PLACES], *more]), waiting)
        self.problem = problem
        self.running = running


class ClockHeldError(StuckError):
    """The clock was held for too long, because something outside the event loop was under way."""


class EventLoop(Protocol):
    """What a clock needs of the event loop that runs on it."""

    def on_clock_moved(self, seconds: float) -> None:
        """Handle that the clock jumped by ``seconds``."""

    def call_soon(self, func: Callable[[], None], /) -> object:
        """Call ``func`` such that the tasks it wakes run in the order that the seed decides."""

    def count_ready(self) -> int:
        """Return how many tasks and callbacks can run, without the running one."""

    def deadline(self) -> float | None:
        """Return when the next timer is due, or None if none ever is."""

    def jobs(self) -> list[tuple[int | None, str]]:
        """Return the work in threads that the event loop waits for: the thread, if it has begun, and a description."""

    def is_blocked(self, thread: int) -> bool:
        """Return whether the thread waits for this event loop."""

    def has_news(self) -> bool:
        """Return whether a thread has handed something over since the event loop last looked."""

    def sockets(self) -> list[str]:
        """Return descriptions of what the event loop waits for outside of the process."""

    def waiting(self) -> list[str]:
        """Return where each of its tasks waits."""

    def running(self) -> list[tuple[str, bool]]:
        """Return where the tasks and callbacks are that run in this turn, each with whether that is in user code."""


class VirtualClock:
    """The time of one run under virtual time; made by :func:`railtracks.testing.run` unless it is given one.

    Args:
        jumps: Whether the clock jumps to the next deadline when nothing can run. Otherwise only ``jump`` moves it.
        patience: Real seconds for which it may be held; after that, ClockHeldError is raised.
        hold_for_sockets: Whether a task holds the clock that waits for a socket or a pipe whose other end is not in the
            same event loop.
        max_steps: How many steps tasks and callbacks may take while the clock does not move. A turn of the event loop
            counts as 25 steps at least.
    """

    def __init__(
        self,
        *,
        jumps: bool = True,
        patience: float = PATIENCE,
        hold_for_sockets: bool = True,
        max_steps: int = MAX_STEPS,
    ) -> None:
        if isinstance(max_steps, bool) or not isinstance(max_steps, int) or max_steps < 1:
            raise ConfigError(f"max_steps is {max_steps!r}; use a whole number of at least 1")
        if isinstance(patience, bool) or not isinstance(patience, int | float) or not patience >= 0:
            raise ConfigError(f"patience is {patience!r}; use a number of real seconds of at least 0")
        self.jumps = jumps
        self.max_steps = max_steps
        self.counts_steps = True
        """Whether too many steps are a livelock."""
        self.turns = 0
        """How many turns of the event loop have begun; it counts them itself."""
        self.failure: StuckError | None = None
        """Why the run could not continue, if that happened."""
        self.thread_scheduler: SeededThreadScheduler = SeededThreadScheduler()
        """The scheduler of worker threads; set by ``run``."""
        self.decisions: Decisions | None = None
        """What decides in the run; None: its seed, if it has one."""
        self.scheduler: Scheduler | None = None
        """The scheduler of tasks; None if the event loop decides. Set by ``run``."""
        self._patience = patience
        self._sockets = hold_for_sockets
        self._reading = self._now = 0.0
        self._holds = 0
        self._lock = threading.Lock()
        self._waiting_since: float | None = None  # in real time
        self._steps = 0  # since the clock moved
        self._check_at = 0.0  # the number of steps at which to check what else is going on
        self._stands_at = -1.0
        self._interval = max_steps / CHECKS
        self._spinning_since: float | None = None  # in real time
        self._was_idle = False  # since the last check
        self._running: dict[str, bool] = {}
        self._watched_turns = 0
        self.timers: set[float] = set()
        """The lengths of the timers that were set, in virtual seconds, to the microsecond."""
        self._start = 0.0
        self.wall_start = WALL
        """The wall clock when the run begins."""
        self.older_threads: set[threading.Thread] = set(threading.enumerate())
        """Threads that do not know this event loop."""
        self.event_loop: EventLoop | None = None
        """The event loop; it sets this itself."""
        self.on_loop_error: Callable[[dict[str, Any]], bool] = lambda _: False
        """Called with what asyncio would log of a failure; returns whether it is known then, and not logged."""
        self.world: World | None = None
        """The world of the run, if that is virtual; set by ``run``."""
        self.undetermined: dict[str, None] = {}
        """What of the run the seed does not decide, and why."""
        self.threads_left: list[str] = []
        """The threads of users that had not ended when the run was over, as far as they took turns."""
        self._is_for_threads = False
        self._turns, self._turns_at = 0, -1.0  # of threads, since the clock moved
        self.cancel_run: Callable[[], None] = lambda: None
        """Cancels everything after a failure; set by ``run``."""

    def __repr__(self) -> str:
        """Return the code that makes such a clock."""
        options = {
            "jumps": (self.jumps, True),
            "patience": (self._patience, PATIENCE),
            "hold_for_sockets": (self._sockets, True),
            "max_steps": (self.max_steps, MAX_STEPS),
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

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the clock inside the block, for work that it does not know of. Can be used in any thread."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1

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
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"jump: {seconds!r} seconds is negative; use 0 or more")
        self.jump_to(self._reading + seconds)

    def jump_to(self, reading: float) -> None:
        """Advance the clock until it reads that; not further, so that a deadline at that moment is due exactly."""
        before, self._reading = self._reading, max(reading, self._reading)
        # The digits that are lost in a large number must not be seen in small ones.
        self._now = round(self._reading - self._start, DIGITS) if self._start else self._reading
        seconds = self._reading - before
        if self.event_loop is not None:
            self.event_loop.on_clock_moved(seconds)

    def others_can_run(self) -> bool:
        """Return whether, in this turn of the event loop or the next, another task than the running one can run."""
        loop = self.event_loop
        return loop is not None and (loop.count_ready() > 0 or bool(loop.jobs()))

    # ---- for the event loop

    def note_timer(self, seconds: float) -> None:
        """Note that a timer is due in so many seconds."""
        if 0 < seconds < math.inf and len(self.timers) < MAX_TIMERS:
            self.timers.add(round(seconds, 6))

    def note_activity(self) -> None:
        """Note that a task ran."""
        self._waiting_since = None

    def may_jump(self, deadline: float | None) -> bool:
        """Return whether to jump to ``deadline``; if not, the event loop looks again soon.

        To be called when nothing can run before ``deadline``.

        Args:
            deadline: What the clock reads when the next timer is due; None if none ever is.

        Raises:
            StuckError: the run cannot continue, and cancelling it has not helped.
        """
        self._was_idle = True
        self._spinning_since = None
        if self._is_for_threads:
            deadline = None
        while True:
            self._let_threads_go_on()
            if self.event_loop is not None and self.event_loop.has_news():
                return False
            holders = self._holders(self._is_blocked)
            if self.event_loop is not None and self.event_loop.has_news():
                return False
            if not self._jump_to_thread(holders, deadline):
                break
        if not holders and (deadline is not None or not self.jumps):
            return self.jumps
        if not holders and not (holders := self._wakers()) and not self._is_for_threads:
            self._fail(Deadlock, "nothing can run, and there is no deadline to wait for")
        else:
            self._waiting_since = self._wait_for(holders, deadline, self._waiting_since)
        return False

    def _let_threads_go_on(self) -> None:
        """Let threads take turns, until none can continue or the event loop has something to do."""
        scheduler = self.thread_scheduler
        scheduler.heartbeat += 1
        if self.event_loop is None or not scheduler.has_candidates:
            return
        if self._turns_at != self._now:
            self._is_for_threads = False
        self._turns, self._turns_at = 0, self._now
        most = self.max_steps // STEPS_PER_TURN
        self._turns += scheduler.take_turns(self._is_blocked, self.event_loop.has_news, most)
        if self._turns >= most and self.counts_steps:
            self._turns = 0
            problem = (
                f"threads run on and on, and no time passes (max_steps={self.max_steps}); sleep, or wait for an event"
            )
            self._fail(Livelock, problem, self._paused_threads())

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
            self.note_undetermined(
                "a thread stood still, maybe for something that a sleeping thread has, and the clock moved on"
            )
        self.jump_to(pause.until)
        return True

    def others_may_wake(self) -> bool:
        """Return whether there are threads that are not part of the run, and might end the wait of one that is."""
        own = self.thread_scheduler.threads
        return any(thread.ident not in own and thread.is_alive() for thread in foreign_threads())

    def is_blocked(self, thread: int) -> bool:
        """Return whether the thread waits for the event loop."""
        return self._is_blocked(thread)

    def finish_threads(self) -> None:
        """Let threads continue that can when the run is over, and note those of the user's that have not ended."""
        if self.event_loop is None or self.world is None:
            return
        self.thread_scheduler.take_turns(self._is_blocked, lambda: False, self.max_steps // STEPS_PER_TURN)
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
        if self._now != self._stands_at or not self.counts_steps:
            self._stands_at = self._now
            self._spinning_since = None
            self._restart_count()
        self._steps += max(steps, STEPS_PER_TURN)
        if self._steps >= self._check_at:
            self._check()

    def _restart_count(self) -> None:
        self._steps = self._watched_turns = 0
        self._check_at = self._interval
        self._running.clear()

    def _check(self) -> None:
        """Let a worker thread continue, for which the steps may wait, and see whether there were too many steps.

        They are counted again if tasks leave no room for something that they may wait for: the event loop was never
        idle, and a thread, a process or a socket is under way. If it is idle now and then, all of that goes on.
        """
        assert self.event_loop is not None
        if self._watched_turns:
            self._watch()
            return
        was_idle, self._was_idle = self._was_idle, False
        was_starved = self.thread_scheduler.grant_turn_between(self._rests)
        holders = self._lasting_holders()
        left = self.max_steps - self._steps
        if not was_idle and (holders or (was_starved and left <= 0)):
            self._restart_count()
            if holders:
                self._spinning_since = self._wait_for(holders, self.event_loop.deadline(), self._spinning_since)
        elif left <= 0 and (left <= -2 * self._interval or not (holders or was_starved)):
            self._watch()
        else:
            self._check_at += self._interval
            self._spinning_since = None

    def _watch(self) -> None:
        """Note what runs in this turn; after some turns, fail."""
        assert self.event_loop is not None
        self._watched_turns += 1
        self._running.update(self.event_loop.running())
        if self._watched_turns == WATCHED_TURNS:
            self._lasting_holders()  # until then a thread may still be about to wait, and its place unknown
            own = [*(place for place, is_own in self._running.items() if is_own), *self._blocked_threads()]
            running = own or list(self._running)
            self._restart_count()
            problem = (
                f"tasks run on and on, and no time passes (max_steps={self.max_steps}); sleep, or wait for an event"
            )
            self._fail(Livelock, problem, running)

    def _lasting_holders(self) -> list[str]:
        """Return what holds the clock, or might wake the event loop.

        A thread that has just handed something over seems to be at work for a moment.
        """
        until = _real_clock.monotonic() + SETTLING
        while (holders := self._holders(self._rests)) and _real_clock.monotonic() < until:
            _real_clock.block(SETTLING / 10)
        return holders or self._wakers()

    def _rests(self, thread: int) -> bool:
        """Return whether the thread waits for the event loop, or for its next job."""
        assert self.event_loop is not None
        return self._is_blocked(thread) or all(each != thread for each, _ in self.event_loop.jobs())

    def grant_thread_turn(self) -> bool:
        """Let the next worker thread continue, if none runs, and return whether one is at work now."""
        return self.thread_scheduler.grant_turn(self._is_blocked)

    def _is_blocked(self, thread: int) -> bool:
        """Return whether the thread waits for the event loop."""
        assert self.event_loop is not None
        return self.event_loop.is_blocked(thread)

    def _holders(self, rests: Callable[[int], bool]) -> list[str]:
        """Return what holds the clock.

        Args:
            rests: Returns whether a thread is not at work.
        """
        if self.thread_scheduler.grant_turn(rests):
            return [A_THREAD]
        if self._holds:
            return [f"{self._holds} x clock.hold()"]
        return self._threads_at_work() or self._sockets_in_flight() or self._waits_for_others()

    def _threads_at_work(self) -> list[str]:
        """Return the work in threads that the event loop waits for, except in threads that wait for the event loop."""
        known = self.thread_scheduler.threads
        jobs = [] if self.event_loop is None else self.event_loop.jobs()
        return [what for thread, what in jobs if thread is None or not (thread in known or self._is_blocked(thread))]

    def _waits_for_others(self) -> list[str]:
        """Return a text if a thread waits, and one outside of the run may be about to end that; for a moment only."""
        waits = self.thread_scheduler.waits()
        if not waits or not self.others_may_wake():
            return []
        if _real_clock.monotonic() - max(pause.began for pause in waits) < GRACE:
            return ["a thread that waits for another one"]
        self.note_undetermined("a thread waited while there were threads which are not part of the run")
        return []

    def _sockets_in_flight(self) -> list[str]:
        sockets = self.event_loop.sockets() if self.event_loop is not None and self._sockets else []
        if sockets:
            self.note_undetermined("when a socket or a pipe delivered whose other end is not in the event loop")
        return sockets

    def _wakers(self) -> list[str]:
        """Return the threads that were started during the run and might wake the event loop."""
        if self.thread_scheduler.waits() and self.others_may_wake():
            return ["a thread that waits for another one"]
        paused = set(self.thread_scheduler.paused_threads)
        return [f"the thread {name_of(thread)}" for thread in self.threads_of_run() if thread.ident not in paused]

    def threads_of_run(self) -> list[threading.Thread]:
        """Return the threads that were started during the run, but for those that are known otherwise."""
        return [thread for thread in foreign_threads() if thread not in self.older_threads]

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
        if since is None or real - since <= self._patience:
            return real if since is None else since
        then = (
            ""
            if deadline is None
            else f", and the next deadline, at {self._now + self.seconds_until(deadline):g} s, would be jumped past it"
        )
        self._fail(
            ClockHeldError,
            f"for {self._patience:g} s of real time {', '.join(sorted(set(holders)))} has been under way{then}; "
            f"let it end, or have it wait for the event loop, as does anyio.from_thread.run(anyio.sleep, seconds)",
        )
        return None

    def _fail(self, kind: type[StuckError], problem: str, running: list[str] | None = None) -> None:
        if self.failure is not None:  # the run was cancelled for it, and still cannot continue
            raise self.failure
        assert self.event_loop is not None
        problem = f"at {self.now:g} s of virtual time {problem}"
        waiting = [*self.event_loop.waiting(), *self._paused_threads()]
        if running is not None:
            self.failure = Livelock(problem, [place for place in waiting if place not in running], running)
        else:
            self.failure = kind(problem, waiting)
        self.event_loop.call_soon(self.cancel_run)

    def _paused_threads(self) -> list[str]:
        """Return where in user code the threads are that pause."""
        places = map(where_thread_waits, self.thread_scheduler.paused_threads)
        return [place for place in places if place is not None]

    def _blocked_threads(self) -> list[str]:
        """Return where in user code the threads are that wait for the event loop."""
        assert self.event_loop is not None
        threads = {*self.thread_scheduler.threads, *(thread for thread, _ in self.event_loop.jobs() if thread)}
        places = (where_thread_waits(thread) for thread in sorted(threads) if self._is_blocked(thread))
        return [place for place in places if place is not None]
