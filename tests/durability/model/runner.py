"""Runs histories, and compares each with the undisturbed run."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import attrs

import railtracks as rt
from railtracks.state import MemoryStore, Status
from railtracks.state._views._place import was_lost
from railtracks.testing import Deadlock, ProcessKilled, VirtualClock
from railtracks.testing._virtual_time._run import run_with
from railtracks.testing._virtual_time._run_options import RunOptions
from railtracks.testing.faults import WorkerFault
from tests.durability.model import programs as p
from tests.durability.model.answers import Failure, first_number, show
from tests.durability.model.drawing import History, Kill
from tests.durability.model.interpreter import Pool, Process, here, work
from tests.durability.model.store import DyingStore
from tests.durability.model.world import DisturbedWorld, Place, UndisturbedWorld, is_of_cached

RUN = "run"
MORE = 3
"""Attempts after the last kill, until one succeeds. Those that are suspended do not count."""
MOST_FAILURES = 2
"""The greatest number of failures of a leaf that does not fail always."""
CHANCES: dict[WorkerFault, float] = {
    "lose": 0.08, "lose_answer": 0.08, "delay": 0.1, "duplicate": 0.08, "corrupt": 0.05, "truncate": 0.05,
    "corrupt_work": 0.05, "refuse": 0.05,
}  # fmt: skip
"""The share of work in workers that goes wrong."""
MOST_WAITS = 60
"""The greatest number of attempts that are suspended."""
SUPPLIED = 0.6
"""The part of what runs wait for that comes before the next attempt."""
EXPECTED_WARNINGS = re.compile(
    "The run failed again|leaf has waited 60 s for its turn: limit=1|"
    "The execution info could not be saved|The run .* has completed; .* that nothing received"
    r"|[\w.]+(\(.*\))? (FAILED|CANCELLED|TIMED OUT)\b"
)


@attrs.frozen
class End:
    """How a process ended."""

    how: str
    """"killed", "returned", "raised", "suspended" or "hung"."""
    value: str = ""
    context: tuple[tuple[str, str], ...] = ()
    session: Any = attrs.field(default=None, eq=False, repr=False)


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@contextmanager
def _listening() -> Any:
    handler, logger = _Warnings(), logging.getLogger("RT")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.texts
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


class Run:
    """One run, which is killed and resumed as its history says.

    Args:
        history: The history.
        backend: "asyncio" or "trio".
    """

    def __init__(self, history: History, backend: str) -> None:
        self._history = history
        self._backend = backend
        self._reraising = list(p.reraising(history.program))
        self._given_up = list(p.given_up(history.program))
        # What handled a failure that ended the run is replayed when the failure has come again; and so is what began
        # because a call of a batch had failed.
        steps = list(p.placed(history.program))
        self._late = [*self._reraising, *(place for place, step in steps if p.goes_on_after_failures(step))]
        self._waits = any(isinstance(step, p.Wait) for step in p.steps_in(history.program))
        self._has_pool = any("pool" in (getattr(step, "policy", ""), getattr(step, "how", "")) for _, step in steps)
        self.world = DisturbedWorld(history.seed)
        self._store: DyingStore | None = None
        self._wall = 0.0
        self._has_failed = False  # whether the failure of an attempt is on record
        self.problems: list[str] = []
        self.ends: list[End] = []
        self.story: list[str] = []

    def run(self) -> list[str]:
        """Run everything, and return what is wrong."""
        with _listening() as warnings:
            ends = self._attempts()
            self.problems += [f"warning: {text}" for text in warnings if not EXPECTED_WARNINGS.match(text)]
        final = ends[-1]
        failures = Counter(end.value for end in ends if end.how == "raised" and end.value.startswith(Failure.__name__))
        self.problems += [f"{each} ended {count} attempts" for each, count in failures.items() if count > 1]
        self.problems += self.world.problems
        self._check_effects(final)
        self._check_mail(self.world)
        self._compare(final, self.world, self._numbers_on_record(final))
        return self.problems

    # ---- the disturbed run

    def _attempts(self) -> list[End]:
        """Run and resume the flow: once for each kill, and then until it succeeds, or has failed some times."""
        ends, kills, fork = self.ends, self._history.kills, self._history.fork
        failures = 0
        for number in range(len(kills) + MORE + MOST_WAITS):
            if fork is not None and fork[0] == number and number:
                self._fork(fork[1])
            ends.append(self._attempt(kills[number] if number < len(kills) else None))
            failures += number >= len(kills) and ends[-1].how != "suspended"
            is_over = ends[-1].how == "returned" or self._fails_always(ends[-1]) or failures == MORE
            if ends[-1].how == "hung" or (number >= len(kills) and is_over):
                break
        if ends[-1].how == "returned" and self._history.seed % 3 == 0:
            before = len(self.world.answers)
            again = self._attempt(None)
            if again != ends[-1] or len(self.world.answers) > before:
                self.problems.append(f"the completed run gave {ends[-1]}, and is resumed as {again}")
        return ends

    def _fails_always(self, end: End) -> bool:
        """Return whether a failure has ended an attempt that would end each."""
        if end.how != "raised" or not end.value.startswith(Failure.__name__):
            return False
        number = first_number(end.value)
        place = next(each.place for each in self.world.answers if each.number == number)
        return sum(each.place == place for each in self.world.answers) > MOST_FAILURES

    def _attempt(self, kill: Kill | None) -> End:
        self._store = store = DyingStore(self.world, self._store)
        is_known = store.modified(RUN) is not None
        is_resumed = is_known and self.world.attempt % 2 == 0
        answers = self._supply(self.world, store, RUN if is_resumed else "")
        self.world.begin(kill, RUN, store)

        async def start(flow: Any) -> Any:
            return await (flow.aresume(RUN, answers=answers) if is_resumed else flow.ainvoke(0))

        end = self._process(self.world, store, self.world.attempt, start, run_identifier=RUN, if_exists="resume")
        if self.world.is_dead or self._has_pool:
            self.world.note_lost(store)
        if store.modified(RUN) is not None:
            top = [each for each in rt.state.load_run(RUN, store).records if each.parent is None]
            self._has_failed = self._has_failed or any(each.status is Status.FAILED for each in top)
        if self.world.is_dead:
            end = End("killed")
        elif end.session is not None:
            self._check_decisions(end)
        self._note_mail(self.world, store)
        self.story.append(f"attempt {self.world.attempt}: {end}")
        return end

    # ---- what comes from outside

    def _supply(self, world: DisturbedWorld, store: DyingStore, resumed: str) -> dict[str, Any]:
        """Send some of what the runs in a store wait for. Return answers to pass to the run that is resumed next.

        Args:
            world: The world of the store.
            store: The store.
            resumed: The identifier of that run; "" if none can be passed to it.
        """
        world.rest(store)
        answers: dict[str, Any] = {}
        if not self._waits:
            return answers
        dice = Random(f"{self._history.seed}/{world.attempt}/supply")
        infos = {name: rt.state.load_run(name, store) for name in store.contents()}
        answered = set(world.mail.topics(store))  # a question takes one answer
        asked = [(name, each.id) for name, info in infos.items() for each in info.questions]
        open_ones = [each for each in asked if each not in answered]
        open_ones += [(name, topic) for name, info in infos.items() for topic in info.topics]
        chosen = [each for each in open_ones if dice.random() < SUPPLIED]
        if open_ones and not chosen:
            chosen = [dice.choice(open_ones)]
        for name, topic in chosen:
            is_question = topic in {each.id for each in infos[name].questions}
            if is_question and name == resumed and dice.random() < 0.5:
                answers[topic] = world.message()
                continue
            for _ in range(1 if is_question else dice.choice((1, 1, 2))):
                world.send(name, topic)
        return answers

    def _note_mail(self, world: DisturbedWorld, store: DyingStore) -> None:
        if self._waits:
            world.mail.note(store)

    def _check_mail(self, world: DisturbedWorld) -> None:
        if self._waits:
            self.problems += [f"the message {each} was lost" for each in world.mail.lost()]

    def _process(
        self, world: Any, store: MemoryStore | None, number: int, start: Callable[[Any], Any], **options: Any
    ) -> End:
        """Run the flow in a process of its own, as far as the library can see."""
        Process.world = world
        Process.options = {
            "timeout": math.inf, "logging_setting": "QUIET",
            **({"save_state": False} if store is None else {"store": store}),
            "durability": "sync" if self._history.is_sync else "async",
            **({"executors": {"pool": self._pool(number)}} if self._has_pool else {}),
        }  # fmt: skip
        clock, wall = VirtualClock(), self._wall
        flow = rt.Flow("Model", work, **Process.options, **options).connect()

        async def main() -> Any:
            if isinstance(world, UndisturbedWorld):
                world.begin()
            here.set(((), p.Below(self._history.program)))
            return await start(flow)

        def customize(hooks: Any) -> Any:
            names = iter(range(1_000_000))
            origin = hooks.wall
            return attrs.evolve(hooks, wall=lambda: origin() + wall, new_id=lambda: f"p{number}-{next(names)}")

        try:
            seed = self._history.seed * 1000 + number
            how = RunOptions(backend=self._backend, seed=seed, schedule="shuffled")  # as times are compared
            value = run_with(customize, main, how=how, clock=clock)
            end = End("returned", show(value), _shown_context(flow), flow.session)
        except ProcessKilled:
            end = End("killed")
        except rt.RunSuspended as exc:
            end = End("suspended", str(exc), session=flow.session)
        except Deadlock as exc:
            end = End("hung", str(exc))
        except Exception as exc:
            end = End("raised", show(exc), _shown_context(flow), flow.session)
        self._wall += clock.now + 7
        return end

    def _pool(self, number: int) -> Pool:
        """Return the executor of a process, whose workers are lost now and then."""
        return Pool(chances=CHANCES, seed=self._history.seed * 1000 + number, latency=900)

    # ---- checks

    def _check_decisions(self, end: End) -> None:
        """Check that ``info.resumed`` says what happened."""
        attempts = {each.number: each.attempt for each in self.world.answers}
        for record in end.session.info.records:
            if record.policy is not None and record.policy.cached is not None:
                continue  # the answer is that of another call
            for number in _numbers([record]):
                is_new = attempts.get(number) == self.world.attempt
                if is_new == (record.reuse == "reused"):
                    self.problems.append(f"the leaf with the answer {number} is recorded as {record.reuse!r}")

    def _numbers_on_record(self, final: End) -> set[int]:
        """Return the numbers of the answers that the run has seen in the end."""
        assert self._store is not None
        inner = [rt.state.load_run(name, self._store).records for name in self._store.contents() if name != RUN]
        own = [] if final.session is None else final.session.info.records
        return set().union(*map(_numbers, [own, *inner]))

    def _check_effects(self, final: End) -> None:
        """Check that nothing that had completed ran twice, and that nothing of it was dropped."""
        used = self._numbers_on_record(final)
        seen: dict[Any, int] = {}
        for each in self.world.answers:
            if each.is_failure or each.is_lost:
                continue
            if each.place in seen:
                self.problems.append(f"the leaf at {each.place} completed as {seen[each.place]} and as {each.number}")
            seen[each.place] = each.number
            may_be_left = _may_be_in(each.place, [*(self._reraising if self._has_failed else ()), *self._given_up])
            if final.how == "returned" and each.number not in used and not may_be_left:
                self.problems.append(f"the leaf at {each.place} completed as {each.number}, which was not used")

    def _compare(self, final: End, world: DisturbedWorld, used: set[int]) -> None:
        """Compare with the undisturbed run."""
        answers = [each for each in world.answers if each.number in used]
        other = UndisturbedWorld(answers, world.moments, world.received, world.values, self._late)

        async def start(flow: Any) -> Any:
            return await flow.ainvoke(0)

        end = self._process(other, None, 999, start)
        self.story.append(f"undisturbed: {end}")
        self.problems += other.problems
        if end != final:
            self.problems.append(f"it {final}\nundisturbed, it {end}")
        # A handler of a failure that ended an attempt may have run for nothing; what it called may still be on record.
        by_number = {each.number: each.place for each in answers}
        missing = {number for number in used - other.asked if not _may_be_in(by_number[number], self._reraising)}
        if final.how == "returned" and missing:
            self.problems.append(f"undisturbed, the leaves with the answers {sorted(missing)} do not run")

    def _fork(self, fraction: float) -> None:
        steps_in_it = list(p.steps_in(self._history.program))
        if any(isinstance(step, p.Sleep) or getattr(step, "how", "") == "flow" for step in steps_in_it):
            return  # nothing says which of their events the fork has seen again
        if any(getattr(step, "policy", "") == "cache in store" for step in steps_in_it):
            return  # it finds results that are later than where it begins
        store, world = self._store, self.world.fork()
        assert store is not None
        if store.modified(RUN) is None:
            return
        records = rt.state.load_run(RUN, store).records
        steps = [step for record in records for step in (record.started_step, record.ended_step) if step is not None]
        before = round(fraction * (max(steps, default=0) + 1))
        copy, kept = DyingStore(world, store), store.contents()
        world.begin(None, "", copy)
        end = self._process(world, copy, world.attempt, lambda flow: flow.afork(RUN, 0, before=before))
        self.story.append(f"fork before {before}: {end}")
        self._note_mail(world, copy)
        for _ in range(MOST_WAITS):
            if end.how != "suspended":
                break
            name = end.session.identifier
            answers = self._supply(world, copy, name)
            world.begin(None, name, copy)
            end = self._process(world, copy, world.attempt, partial(_resume, name, answers))
            self.story.append(f"resumed fork: {end}")
            self._note_mail(world, copy)
        self._check_mail(world)
        if copy.contents()[RUN] != kept[RUN]:
            self.problems.append("the fork changed the run")
        self.problems += world.problems
        if end.session is None:
            self.problems.append(f"the fork ended with {end}")
            return
        records = end.session.info.records
        world.keep_earlier(records)
        self._compare(end, world, _numbers(records))


def _is_in(place: Place, outer: Iterable[Place]) -> bool:
    """Return whether a place is one of some others, or in one."""
    return any(place[: len(each)] == each for each in outer)


def _may_be_in(place: Place, outer: Sequence[Place]) -> bool:
    """Return the same, or whether some of the equal leaves may be in one of the others for which a place stands."""
    return _is_in(place, outer) or (is_of_cached(place) and bool(outer))


def _numbers(records: Iterable[Any]) -> set[int]:
    """Return the numbers of the answers in the records of leaves of one session.

    What is below a call whose worker was lost was only handed over to that, and is below the next try as well.
    """
    ended = Status.COMPLETED, Status.FAILED
    records = list(records)
    lost = {record.index for record in records if was_lost(record)}
    leaves = [each for each in records if each.name == "leaf" and each.status in ended and each.parent not in lost]
    return {first_number(record.output) for record in leaves if not _is_lost(record)}


def _is_lost(record: Any) -> bool:
    """Return whether a leaf has failed without an answer: it took too long, or its worker was lost."""
    return record.status is Status.FAILED and '"$type": "railtracks.exceptions.' in record.output[:60]


async def _resume(name: str, answers: dict[str, Any], flow: Any) -> Any:
    return await flow.aresume(name, answers=answers)


def _shown_context(flow: Any) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, show(value)) for key, value in flow.context.items()))


def run(history: History, backend: str) -> list[str]:
    """Run a history, and return what is wrong."""
    return Run(history, backend).run()
