"""The world outside of the processes that run a flow: what leaves do and answer there, and when a process is killed.

There are two worlds with the same methods: that of the run which is disturbed, and that of the undisturbed run, in
which the same is answered in the same order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

import anyio
import attrs

import railtracks as rt
from railtracks._test_hooks import runtime_hooks
from railtracks.state import MemoryStore
from railtracks.testing import ProcessKilled
from tests.durability.model import programs as p
from tests.durability.model.answers import Failure, answer, first_number, free_kinds, mark, show
from tests.durability.model.drawing import Kill
from tests.durability.model.mail import Mail, messages_taken

PUT = 1_000_000
"""What is added to the number of an answer for what the leaf puts into the context."""
Place = tuple[int, ...]
"""The position of a step: the numbers of the steps and branches that lead to it."""


def place_of_answer(place: Place, leaf: p.Leaf) -> Place:
    """Return the place that counts for what a leaf is answered: one for all equal ones whose results are cached."""
    return (leaf.argument,) if leaf.is_cached else place


def is_of_cached(place: Place) -> bool:
    """Return whether a place stands for all equal leaves whose results are cached."""
    return place[0] < 0


@attrs.define
class Answer:
    """What the world answered to a leaf, which is its effect.

    Attributes:
        is_lost: Whether the process was killed before the answer was on record.
    """

    number: int
    place: Place
    arguments: str
    value: Any
    attempt: int
    is_lost: bool = False

    @property
    def is_failure(self) -> bool:
        return isinstance(self.value, Failure)


class DisturbedWorld:
    """The world in which processes are killed.

    Attributes:
        attempt: The number of the process.
        answers: All answers, in order.
        moments: When each sleep, and each wait for something from outside, was over, as a number among those of the
            answers.
        received: What came for each wait, with the places in a batch.
        mail: The messages that were sent and removed.
        values: What was seen of values that differ from run to run, as text.
        problems: What is wrong.
        is_fork: Whether the process forks the run, so that values may differ from those that were seen.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._numbers = 0
        self.attempt = 0
        self.answers: list[Answer] = []
        self.moments: dict[Place, int] = {}
        self.received: dict[Place, Any] = {}
        self._earlier: dict[Place, tuple[Any, int]] = {}  # of a fork: what the run had received, and when
        self.mail = Mail()
        self.values: dict[Place, Any] = {}
        self.problems: list[str] = []
        self.is_fork = False
        self._kill: Kill | None = None
        self._count = 0
        self.is_dead = False
        self.run = ""
        self.store: MemoryStore | None = None
        self._limited: Counter[str] = Counter()
        self._slow = 0

    has_pool = True
    waits = 50, 90
    """Seconds between two tries of a leaf: at first, and at most."""

    def policy_of(self, leaf: p.Leaf) -> str:
        """Return what the node of a leaf does, beside trying it again."""
        return leaf.policy

    def begin(self, kill: Kill | None, run: str, store: MemoryStore) -> None:
        """Start a process, which is killed then.

        Args:
            kill: When; None for never.
            run: The identifier of the run that it begins or goes on with; "" if it is not known yet.
            store: Where the run is.
        """
        self.attempt += 1
        self.run, self.store = run, store
        self._kill, self._count, self.is_dead = kill, 0, False
        self._limited.clear()

    def rest(self, store: MemoryStore) -> None:
        """Have no process, so that nothing is killed."""
        self._kill, self.is_dead, self.store = None, False, store

    def fork(self) -> DisturbedWorld:
        """Return a world with the same past."""
        world = DisturbedWorld(self._seed)
        world.attempt, world._numbers, world.is_fork = self.attempt + 100, self._numbers, True
        world.answers, world.values, world.mail = list(self.answers), dict(self.values), self.mail.copy()
        world._earlier = {place: (value, self.moments[place]) for place, value in self.received.items()}
        return world

    def check_alive(self) -> None:
        """Raise ProcessKilled if the process is dead: nothing of it goes on."""
        if self.is_dead:
            raise ProcessKilled

    def reach(self, at: str) -> None:
        """Kill the process if it is time.

        Raises:
            ProcessKilled: It was killed.
        """
        self.check_alive()
        if self._kill is not None and self._kill.at == at:
            self._count += 1
            if self._count == self._kill.number:
                self.is_dead = True
                raise ProcessKilled

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def keep_earlier(self, records: Iterable[Any]) -> None:
        """Note, of a fork, what it has received before it was forked, below calls that were replayed as a whole."""
        on_record = messages_taken(records)
        for place, (value, moment) in self._earlier.items():
            if place not in self.received and first_number(show(value)) in on_record:
                self.received[place], self.moments[place] = value, moment

    async def answer(self, place: Place, leaf: p.Leaf, arguments: str) -> Any:
        """Do what a leaf does."""
        self.check_alive()
        if not is_in_worker():  # there it takes no time, so that answers come in the order of their numbers
            await self._take_time(place, leaf)
        self.check_alive()
        number = self._next_number()
        place = place_of_answer(place, leaf)
        if leaf.puts:
            rt.context.put(leaf.puts, value_to_put(leaf, number))
        before = sum(each.place == place for each in self.answers)
        value = Failure(mark(number), number) if before < leaf.fails else answer(leaf.kind, number)
        self.answers.append(Answer(number, place, arguments, value, self.attempt))
        if leaf.sends and self.run:
            self.send(self.run, leaf.sends)
        self.reach("effect")
        if isinstance(value, Failure):
            raise value
        return value

    async def _take_time(self, place: Place, leaf: p.Leaf) -> None:
        dice = f"{self._seed}/{self.attempt}/{place}"
        if leaf.policy == "timeout":  # another try takes another time
            self._slow += 1
            dice += f"/{self._slow}"
        alone = leaf.kind if leaf.policy == "limit" else f"argument {leaf.argument}" if leaf.is_cached else ""
        self._limited[alone] += bool(alone)
        if self._limited[alone] > 1:
            self.problems.append(f"{self._limited[alone]} leaves ran at once that are to run alone: {alone}")
        try:
            await anyio.sleep(Random(dice).uniform(100, 999))
        finally:
            self._limited[alone] -= bool(alone)

    async def sleep(self, place: Place, seconds: int) -> None:
        await rt.sleep(seconds)
        self.moments.setdefault(place, self._next_number())

    async def wait(self, place: Place, step: p.Wait) -> list[Any]:
        """Wait for what comes from outside."""
        wait, about = _wait_of(step)
        if step.count == 1:
            return self._receive(place, [await wait(about)])
        return self._receive(place, await rt.call_batch(wait, [about] * step.count, return_exceptions=False))

    def wait_in_thread(self, place: Place, step: p.Wait) -> list[Any]:
        wait, about = _wait_of(step)
        return self._receive(place, [rt.call_sync(wait, about) for _ in range(step.count)])

    def _receive(self, place: Place, values: list[Any]) -> list[Any]:
        """Note what has come."""
        self.check_alive()
        for at, value in enumerate(values):
            where = *place, at
            if where not in self.received and where in self._earlier and self._earlier[where][0] == value:
                self.received[where], self.moments[where] = self._earlier[where]
            if where in self.received:
                if self.received[where] != value:
                    self.problems.append(f"what came at {where} was {self.received[where]}, and is {value} now")
                continue
            number = first_number(show(value))
            for other, known in self.received.items():
                if first_number(show(known)) == number:
                    self.problems.append(f"the message {number} was taken at {other} and at {where}")
            self.received[where] = value
            self.moments[where] = self._next_number()
        return values

    def send(self, run: str, topic: str) -> None:
        """Send a message to a run, or answer its question."""
        rt.state.send(run, topic, self.message(), self.store)

    def message(self) -> Any:
        """Return a value to send."""
        number = self._next_number()
        return answer(Random(f"{self._seed}/{number}").choice(free_kinds()), number)

    def value(self, place: Place, of: str) -> Any:
        """Return a value that differs from run to run."""
        value = {"now": rt.now, "uuid4": rt.uuid4, "random": lambda: rt.random().random()}[of]()
        known = self.values.get(place, value)
        if known != value and not self.is_fork:
            self.problems.append(f"rt.{of} at {place} was {known}, and is {value} now")
        self.values[place] = value
        return value

    def note_lost(self, store: MemoryStore) -> None:
        """Note which answers never came: those that a process or a worker took with it when it died."""
        stored: list[Any] = [*store._documents.values(), *store._journals.values(), *store._cached.values()]
        content = b"".join(bytes(each.content) for each in stored)
        for each in self.answers:
            if each.attempt == self.attempt and mark(each.number).encode() not in content:
                each.is_lost = True


def is_in_worker() -> bool:
    """Return whether this runs in a worker of a pool."""
    return runtime_hooks.get().run_loop is not None


def _wait_of(step: p.Wait) -> tuple[Any, str]:
    """Return what waits, and its argument."""
    return (rt.ask, f"Which {step.about}?") if step.of == "answer" else (rt.receive, step.about)


def value_to_put(leaf: p.Leaf, number: int) -> Any:
    """Return what a leaf puts into the context, which has another number than its answer."""
    return answer(leaf.kind, number + PUT) if leaf.kind in free_kinds() else number


class UndisturbedWorld:
    """The world that answers what another one did, in the same order.

    Args:
        answers: What was answered.
        moments: As in the other world.
        received: As in the other world.
        values: As in the other world.
        late: Places in which something may be called after its time, and is answered soon then.

    Attributes:
        asked: The numbers of the answers that were asked for.
        problems: What is wrong.
    """

    STEP = 1_000.0
    """Seconds between two answers."""

    def __init__(
        self,
        answers: Iterable[Answer],
        moments: Mapping[Place, int],
        received: Mapping[Place, Any],
        values: Mapping[Place, Any],
        late: Sequence[Place],
    ) -> None:
        self._answers: dict[Place, list[Answer]] = {}  # in the order in which they were given
        for each in sorted(answers, key=lambda each: each.number):
            self._answers.setdefault(each.place, []).append(each)
        self._given: dict[Place, int] = {}  # how many of them were given again
        self._received = received
        events: list[tuple[int, Place | int]] = [(each.number, each.number) for each in answers]
        events += [(number, place) for place, number in moments.items()]
        self._times = {event: self.STEP * (at + 1) for at, (_, event) in enumerate(sorted(events))}
        self._values = values
        self._late = late
        self._bases: dict[Place, tuple[float, float]] = {}  # by such a place: a time, and the one that stands for it
        self._origin = 0.0
        self.asked: set[int] = set()
        self.problems: list[str] = []

    has_pool = False
    waits = 0, 0  # each answer has its time

    def policy_of(self, leaf: p.Leaf) -> str:
        return "cache" if leaf.is_cached else ""

    def begin(self) -> None:
        """Note the time, in the event loop."""
        self._origin = anyio.current_time()

    def check_alive(self) -> None:
        pass

    async def _wait(self, place: Place, event: Place | int | None) -> None:
        """Wait until it is time for what happens at a place.

        Args:
            place: The place.
            event: The number of the answer, or the place itself; None for what was never answered.
        """
        if event is None or event not in self._times:
            await anyio.sleep_forever()  # something cancels it
            raise AssertionError
        now = anyio.current_time() - self._origin
        left = self._times[event] - now
        if left <= 0:
            outer = next((each for each in self._late if place[: len(each)] == each), None)
            if outer is None:
                self.problems.append(f"what is at {place} was called after its time")
            else:
                left = self._late_time(outer, self._times[event], now) - now
        await anyio.sleep(max(0.0, left))

    def _late_time(self, outer: Place, time: float, now: float) -> float:
        """Return when something is answered that comes after its time: soon, but in the order of the others there."""
        base, at = self._bases.setdefault(outer, (time, now + 1))
        if at + (time - base) * 1e-6 <= now:
            base, at = self._bases[outer] = time, now + 1
        return at + (time - base) * 1e-6

    async def answer(self, place: Place, leaf: p.Leaf, arguments: str) -> Any:
        known = self._next_answer(place, leaf)
        await self._wait(place, None if known is None else known.number)
        assert known is not None
        self.asked.add(known.number)
        if known.arguments != arguments:
            self.problems.append(f"the leaf at {place} is given {arguments} undisturbed, not {known.arguments}")
        if leaf.puts:
            rt.context.put(leaf.puts, value_to_put(leaf, known.number))
        if isinstance(known.value, Failure):
            raise Failure(str(known.value), known.number)
        return known.value

    def _next_answer(self, place: Place, leaf: p.Leaf) -> Answer | None:
        """Return what a leaf is answered now. One that is tried again is answered all that it was on record, in turn.

        Of others the last one counts: a failure before it had ended an attempt of the run.
        """
        known = self._answers.get(place_of_answer(place, leaf))
        if known is None:
            return None
        if not leaf.tries:
            return known[-1]
        at = self._given.get(place, 0)
        self._given[place] = at + 1
        return known[at] if at < len(known) else None

    async def sleep(self, place: Place, seconds: int) -> None:
        await self._wait(place, place)

    async def wait(self, place: Place, step: p.Wait) -> list[Any]:
        places = [(*place, at) for at in range(step.count)]
        last = max(places, key=lambda each: self._times.get(each, math.inf))
        await self._wait(last, last)
        return [self._received[each] for each in places]

    def wait_in_thread(self, place: Place, step: p.Wait) -> list[Any]:
        values: list[Any] = rt.call_sync(self.wait, place, step)
        return values

    def value(self, place: Place, of: str) -> Any:
        if place not in self._values:
            self.problems.append(f"rt.{of} at {place} was never called")
        return self._values.get(place)


def shown_arguments(argument: int, given: tuple[Any, ...]) -> str:
    return " ".join([str(argument), *map(show, given)])
