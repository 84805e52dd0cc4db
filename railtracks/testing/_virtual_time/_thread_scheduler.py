"""Worker threads under virtual time: which ones are at work, and which one may continue.

Two threads that run at once race for real, and no seed brings the race back. So with a seed, or in a virtual world,
they take turns: one continues when the event loop has nothing else to do, until it ends, waits for the event loop, or
pauses, because it sleeps or waits for another thread. The seed decides which. If the event loop always has something to
do, one continues after many steps: the tasks may be waiting for it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from itertools import islice
from typing import Any, cast

import anyio

from railtracks._test_probe import running_library
from railtracks.testing._virtual_time import _real_clock
from railtracks.testing._virtual_time._admissions import Admissions
from railtracks.testing._virtual_time._blocked_threads import StallDetector
from railtracks.testing._virtual_time._choices import Choices
from railtracks.testing._virtual_time._pauses import (
    GRACE,
    POLL_INTERVAL,
    OwnThread,
    Pause,
    RealCondition,
    RunEnded,
    has_returned,
)
from railtracks.testing._virtual_time._switches import Switcher, SwitchPlan
from railtracks.testing._virtual_time._world import World

CANDIDATES = 16
"""How many of those that have waited longest can be next. Work that has no thread yet, of the 40, cannot begin."""
LONG_TURN = 1.0
"""Real seconds for which the event loop waits for a thread that has its turn and advances: it may wait for the loop."""
STALL_INTERVAL = 0.005
"""Real seconds between two checks of whether a thread that has its turn stands still."""
STUCK = 1.0
"""Real seconds for which the event loop may block before a thread that pauses goes on: it may block for that thread."""


class SeededThreadScheduler:
    """The ``ThreadScheduler`` of one run.

    Invariant, under the lock: each piece of work is in one of ``_ready``, ``_running`` and ``_paused``, or in none of
    them while it waits for the event loop, and after its end.

    Args:
        choices: Decides which piece of work is next. With None, all continue at once, or in a world, the one that has
            waited longest.
        world: The world in which the threads are while they do the work.
        now: Returns what the clock reads.
        switches: Where threads lose their turns; None for nowhere.
    """

    def __init__(
        self,
        choices: Choices | None = None,
        world: World | None = None,
        now: Callable[[], float] = lambda: 0.0,
        switches: SwitchPlan | None = None,
    ) -> None:
        self._choices = choices
        self._world = world
        self._now = now
        self._changed = RealCondition()
        self._ready: dict[object, None] = {}  # waits for its turn
        self._running: dict[object, None] = {}  # has its turn
        self._paused: dict[object, Pause] = {}
        self._threads: dict[object, int] = {}  # the threads of the work that has begun
        self._work: dict[int, list[object]] = {}  # by thread, the innermost last
        self._granted_at = 0.0
        self._stalls = StallDetector()
        self._loop_stalls = StallDetector(most=STUCK)
        self._released = choices is None and world is None
        self.heartbeat = 0
        """Changes while the event loop runs."""
        self._admissions = Admissions()
        self._passed_over: object = None  # has lost its turn, so that another one is next
        self._switcher = None if switches is None or not switches.places else self._switcher_for(switches)

    def _switcher_for(self, switches: SwitchPlan) -> Switcher:
        return Switcher(switches, self._others_can_continue, self._lose_turn, lambda: self.work_of_thread() is not None)

    def on_queued(self, work: object) -> None:
        with self._changed:
            self._paused.pop(work, None)
            (self._running if self._released else self._ready)[work] = None
            self._changed.notify_all()
        self._trace_thread()

    def wait_turn(self, work: object) -> None:
        thread = threading.get_ident()
        with self._changed:
            if work not in self._threads and (work in self._ready or work in self._running):
                # or else it has finished before its thread began
                self._threads[work] = thread
                self._work.setdefault(thread, []).append(work)
                if self._world is not None:
                    self._world.enter()
            self._changed.wait_for(lambda: self._released or work not in self._ready)
        self._trace_thread()

    def on_suspended(self, work: object) -> None:
        with self._changed:
            self._running.pop(work, None)
            self._paused.pop(work, None)
            self._changed.notify_all()

    def on_finished(self, work: object) -> None:
        with self._changed:
            self._running.pop(work, None)
            self._ready.pop(work, None)
            self._paused.pop(work, None)
            thread = self._threads.pop(work, None)
            if thread is not None:
                self._work[thread].remove(work)
                if not self._work[thread]:
                    del self._work[thread]
                    if self._world is not None:
                        self._world.leave(thread)
            self._changed.notify_all()

    def discard(self, work: object) -> bool:
        """Take work away that waits for its first turn, and return whether it did."""
        with self._changed:
            if work not in self._ready:
                return False
            self.on_finished(work)
            return True

    def limiter(self, given: anyio.CapacityLimiter | None, admit: Callable[[], None]) -> anyio.CapacityLimiter | None:
        """Return a limiter that calls ``admit`` on trio, and ``given`` on asyncio."""
        return self._admissions.limiter(given, admit) if not self._released and running_library() == "trio" else given

    def take_admitted(self) -> bool:
        """Return whether what begins now was let in by a limiter of this scheduler, once."""
        return self._admissions.take()

    # ---- in the threads

    def _trace_thread(self) -> None:
        """Have the calling thread lose its turn where that is planned, if it has one."""
        if self._switcher is not None and self.work_of_thread() is not None:
            self._switcher.trace_thread()

    def _others_can_continue(self) -> bool:
        with self._changed:
            return bool(self._candidates())

    def _lose_turn(self) -> None:
        with self._changed:
            self._passed_over = self.work_of_thread()
            self.pause(None, lambda: True)

    def finish_returned(self) -> None:
        """Note that what the calling thread has done ends, if its function has returned and what waits is notified."""
        works = self._work.get(threading.get_ident())
        if works and hasattr(works[-1], "finish") and has_returned(works[-1]):
            cast(Any, works[-1]).finish()

    def work_of_thread(self) -> object | None:
        """Return the work that the calling thread does; None if it does none, or the run is over."""
        works = self._work.get(threading.get_ident())
        return works[-1] if works and not self._released and not has_returned(works[-1]) else None

    def pause(
        self,
        until: float | None,
        is_over: Callable[[], bool],
        *,
        is_sleep: bool = False,
        holder: Callable[[], str] = str,
    ) -> bool:
        """Let others continue until something happens, in a thread that does work.

        The thread goes on when it gets its turn after that.

        Args:
            until: What the clock reads when the pause ends at the latest; None for no such limit.
            is_over: Whether the pause ends earlier; it must be cheap, and may be called in any thread.
            is_sleep: Whether only time ends it.
            holder: Returns where what the thread waits for is held, or "".

        Returns:
            Whether ``is_over`` returned true.

        Raises:
            RunEnded: the run has ended meanwhile.
        """
        with self._changed:
            while True:
                work = self.work_of_thread()
                if work is None:
                    raise RunEnded
                if work in self._running:
                    del self._running[work]
                    self._paused[work] = Pause(until, is_over, is_sleep, holder=holder)
                    self._changed.notify_all()
                self._wait_until_running(work)
                if self._released:
                    raise RunEnded
                self._trace_thread()
                if is_over():
                    return True
                if until is not None and until <= self._now():
                    return False

    def wait_for_loop(self, is_over: Callable[[], bool]) -> None:
        """Block this thread until the event loop has answered, and it is its turn: two that are answered would race."""
        with self._changed:
            work = self.work_of_thread()
            if work is None or work not in self._running:
                return
            del self._running[work]
            self._paused[work] = Pause(None, is_over, is_sleep=False, is_for_loop=True)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._released or not (work in self._paused or work in self._ready))
        self._trace_thread()

    def _wait_until_running(self, work: object) -> None:
        beat, since = self.heartbeat, _real_clock.monotonic()
        while not (self._released or work in self._running):
            self._changed.wait(GRACE)
            if beat != self.heartbeat:
                beat, since = self.heartbeat, _real_clock.monotonic()
            elif _real_clock.monotonic() - since > STUCK and self._loop_is_stuck(work):
                self._go_on(work)

    def _loop_is_stuck(self, work: object) -> bool:
        """Return whether the event loop blocks, maybe for something that a thread which pauses has."""
        assert self._world is not None
        first = min(self._paused.items(), key=lambda item: math.inf if item[1].until is None else item[1].until)[0]
        return first is work and not self._running and self._loop_stalls.stalled_for(self._world.loop_thread) > STUCK

    def _go_on(self, work: object) -> None:
        """Let the work of this thread continue although the event loop has not granted it a turn."""
        assert self._world is not None
        pause = self._paused.pop(work)
        self._running[work] = None
        self._world.note_undetermined("the event loop blocked, until a thread which paused went on")
        if pause.until is not None:
            self._world.clock.jump_to(pause.until)

    # ---- in the thread of the event loop

    @property
    def threads(self) -> set[int]:
        """The identifiers of the threads in which work has begun."""
        if not self._threads:
            return set()
        with self._changed:
            return set(self._threads.values())

    @property
    def paused_threads(self) -> list[int]:
        """The threads that pause, in the order in which they began to."""
        return list(self.pauses())

    def pauses(self) -> dict[int, Pause]:
        """Return the pauses by thread, in the order in which they began."""
        with self._changed:
            return {self._threads[work]: pause for work, pause in self._paused.items() if not pause.is_for_loop}

    def unfinished(self) -> list[object]:
        """Return the work that has not ended."""
        with self._changed:
            return [*self._ready, *self._running, *self._paused]

    def is_kept_by_others(self) -> bool:
        """Return whether work waits for a thread that does work of another run."""
        with self._changed:
            return any(getattr(work, "is_kept_by_others", False) for work in islice(self._ready, CANDIDATES))

    def next_end(self) -> Pause | None:
        """Return the pause that time ends first; None if time ends none."""
        if not self._paused:  # as in nearly all flows, at each jump of the clock
            return None
        with self._changed:
            timed = [pause for pause in self._paused.values() if pause.until is not None]
            return min(timed, key=lambda pause: cast(float, pause.until), default=None)

    def waits(self) -> list[Pause]:
        """Return the pauses that something else than time ends."""
        if not self._paused:
            return []
        with self._changed:
            return [pause for pause in self._paused.values() if not (pause.is_sleep or pause.is_for_loop)]

    @property
    def has_candidates(self) -> bool:
        """Whether there is work that may continue now or later."""
        return bool(self._ready or self._paused)

    def take_turns(self, is_blocked: Callable[[int], bool], has_news: Callable[[], bool], most: int = 1000) -> int:
        """Let one piece of work after the other continue, until none can or one has something for the event loop.

        Args:
            is_blocked: As for ``grant_turn``.
            has_news: Returns whether the event loop has something to do.
            most: How many turns there may be.

        Returns:
            How many turns there were. The last one may still be going on: it may take long, or have stalled.
        """
        turns = 0
        while turns < most and not has_news():
            with self._changed:
                if not self._grant(is_blocked):
                    break
            turns += 1
            if self._wait_for_end_of_turn(is_blocked):
                break
        return turns

    def grant_turn(self, is_blocked: Callable[[int], bool]) -> bool:
        """Let the next piece of work continue, if no other runs. To be called when the event loop has nothing to do.

        Args:
            is_blocked: Returns whether a thread waits for the event loop although ``on_suspended`` was not called.

        Returns:
            Whether a thread is at work now.
        """
        if not self._running and not self.has_candidates:
            return False
        with self._changed:
            self._grant()
            return self._is_at_work(is_blocked)

    def grant_turn_between(self, rests: Callable[[int], bool]) -> bool:
        """Do what ``grant_turn`` does although the event loop has something to do, and wait for the thread a little.

        The event loop stands still meanwhile, so that what the thread does comes at the same step each time.

        Args:
            rests: Returns whether a thread has finished its work, or waits for the event loop.

        Returns:
            Whether a piece of work waited for its turn and got it.
        """
        with self._changed:
            granted = self._grant()
        self._wait_for_end_of_turn(rests)
        return granted

    def has_begun_turn(self, is_blocked: Callable[[int], bool]) -> bool:
        """Return whether a thread has its turn and does not wait for the event loop, also if it has stalled."""
        with self._changed:
            return any(work in self._threads and not is_blocked(self._threads[work]) for work in self._running)

    def has_stalled(self) -> bool:
        """Return whether there is work that has its turn, and none of it has advanced for a while."""
        with self._changed:
            return bool(self._running) and all(map(self._is_stalled, self._running))

    def _grant(self, is_blocked: Callable[[int], bool] = lambda _: False) -> bool:
        """Let the next piece of work continue, if no other runs, and return whether it does.

        One that waits for the event loop counts as running for ``grant_turn``: it may be about to be queued again.
        """
        if not all(self._rests(work, is_blocked) or self._is_stalled(work) for work in self._running):
            return False
        candidates = self._candidates()
        if not candidates:
            return False
        if len(candidates) > 1 and self._passed_over in candidates:
            candidates.remove(self._passed_over)
        self._passed_over = None
        work = candidates[0 if self._choices is None else self._choices.choose(len(candidates))]
        if self._world is not None and any(not self._rests(each, is_blocked) for each in self._running):
            self._world.note_undetermined(
                "the order of threads: one stood still for more than 0.1 s, and another went on; if it waits for a "
                "lock that was made before the run, make the lock in the run, or make it a global variable"
            )
        self._ready.pop(work, None)
        self._paused.pop(work, None)
        self._running[work] = None
        self._granted_at = _real_clock.monotonic()
        self._changed.notify_all()
        return True

    def _candidates(self) -> list[object]:
        """Return the work that can continue now, if no other runs."""
        begin = [work for work in islice(self._ready, CANDIDATES) if getattr(work, "can_begin", True)]
        reading = self._now()
        return [*begin, *(work for work, pause in self._paused.items() if pause.has_ended(reading))]

    def _wait_for_end_of_turn(self, rests: Callable[[int], bool]) -> bool:
        """Wait until no thread is at work, for a while, and return whether one still is.

        One that advances is waited for longer than one that stands still: if the event loop answered it before it
        waits for the answer, it would go on in the same turn.
        """
        began = asked_at = _real_clock.monotonic()
        with self._changed:
            while at_work := [work for work in self._running if not (self._rests(work, rests) or has_returned(work))]:
                now = _real_clock.monotonic()
                if now - began > LONG_TURN:
                    break
                if now - asked_at > STALL_INTERVAL:
                    asked_at = now
                    if all(map(self._is_stalled, at_work)):
                        break
                self._changed.wait(POLL_INTERVAL)
            return bool(at_work)

    def _is_at_work(self, is_blocked: Callable[[int], bool]) -> bool:
        return any(not self._rests(work, is_blocked) for work in self._running)

    def _rests(self, work: object, is_blocked: Callable[[int], bool]) -> bool:
        if work in self._threads and is_blocked(self._threads[work]):
            # Where waits are virtual, it pauses next; until then it may still be answered without having waited.
            return self._world is None or self._is_stalled(work)
        if not isinstance(work, OwnThread) or not self._is_stalled(work):
            return False
        if self._world is not None:
            self._world.note_undetermined("a thread that was started in the run waited for something outside of it")
        return True

    def _is_stalled(self, work: object) -> bool:
        if work in self._threads:
            return self._stalls.stalled_for(self._threads[work]) > GRACE
        return _real_clock.monotonic() > self._granted_at + 10 * GRACE  # it waits for a thread, and there may be none

    def release_all(self) -> None:
        """Let all work continue from now on, because the run is over and grants no more turns."""
        with self._changed:
            self._released = True
            self._changed.notify_all()
