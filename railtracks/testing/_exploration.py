"""The search of ``explore``: which decisions the next run takes, and which runs need not be made.

All steps of tasks, and all callbacks, may touch what others see, with two exceptions that the harness knows: a call
that lets others have a turn and will do so once more, and a worker of a batch that finds no call left. What counts of a
run is its history: all the other steps and callbacks, in their order. Two rules follow:

- In one turn each task takes one step. Orders of a turn that differ only in where such exceptions stand lead to the
  same state, so one of them is tried (Flanagan and Godefroid, *Dynamic partial-order reduction*, 2005). What a step did
  is known after it, so the order is compared with those that were tried before.
- Runs with the same history, the same queue, and the same calls that let others go first are in the same state
  (Musuvathi and Qadeer, *Partial-order reduction for context-bounded state exploration*, 2007). What can follow is
  tried once.

Once threads are at work neither rule is used, because it is not known what they touch.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Container, Iterator

from railtracks._test_probe import Worker, new_worker
from railtracks.testing._possibilities import Number, Order
from railtracks.testing._virtual_time._asyncio_order import task_of
from railtracks.testing._virtual_time._choices import Choices
from railtracks.testing._virtual_time._decisions import Decisions
from railtracks.testing._virtual_time._scheduler import FROM_THREAD, Callback, Scheduler, Step
from railtracks.testing._virtual_time._tasks import age_of

_TURNS = (4, 3, 0)
"""Of the possibilities for the turns that others get before a call: two turns, one, none."""
_TASK_DONE = "TaskGroup._spawn.<locals>.task_done"
"""What anyio calls on asyncio when a task of a group has ended."""


class Search:
    """A search through all decisions, depth first.

    Args:
        reduces: Whether to leave out runs that cannot differ from others; False to compare, in tests.

    Attributes:
        runs: How many runs there were.
        has_next: Whether there is a run left.
        changed: Whether the same decisions have led to another run.
    """

    def __init__(self, reduces: bool = True) -> None:
        self.runs = 0
        self.has_next = True
        self.changed = False
        self._reduces = reduces
        self._path: list[Number | Order] = []
        self._depth = 0
        self._is_known = False  # what can follow in this run was tried
        self._states: set[object] = set()
        self._histories: dict[tuple[int, object], int] = {}
        self._observer: _Observer | None = None

    def decisions(self) -> Decisions:
        """Return what decides in the next run."""
        self._depth = 0
        self._is_known = False
        self._observer = _Observer(self, self._reduces)
        return _Enumerated(self.draw, self._observer)

    def draw(self, count: int) -> int:
        """Choose as the search wants it, and where it does not know yet the last possibility."""
        if count == 1 or self._is_known:
            return count - 1
        if self._depth == len(self._path):
            self._path.append(Number(count))
        decision = self._next()
        if isinstance(decision, Number) and decision.count == count:
            return decision.chosen
        self.changed = True
        return count - 1

    def order(self, count: int, alike: list[list[int]]) -> Order | None:
        """Return in which order that many steps are to be taken; None if that does not matter any more.

        Args:
            count: How many steps there are.
            alike: The numbers of those that are interchangeable.
        """
        if self._is_known:
            return None
        if self._depth == len(self._path):
            self._path.append(Order(count, alike))
        decision = self._next()
        if isinstance(decision, Order) and decision.count == count:
            return decision
        self.changed = True
        return None

    def _next(self) -> Number | Order:
        self._depth += 1
        return self._path[self._depth - 1]

    def history(self, before: int, entry: object) -> int:
        """Return the number of the history that continues the one with the number ``before``."""
        return self._histories.setdefault((before, entry), len(self._histories) + 1)

    def reach(self, state: object) -> None:
        """Note that the run is in a state, from which all is tried once."""
        if self._depth == len(self._path) and not self._is_known:  # before, it repeats an earlier run
            self._is_known = state in self._states
            self._states.add(state)

    def advance(self) -> None:
        """Handle that a run has ended: go on with the next possibility of the last decision that has one left."""
        self.runs += 1
        assert self._observer is not None
        self._observer.end_turn([], is_calm=False)
        self.changed = self.changed or self._depth < len(self._path)
        while self._path and not self._path[-1].advance():
            self._path.pop()
        self.has_next = bool(self._path)


class _Enumerated(Decisions):
    """Decisions that a search makes: about the order of tasks and threads."""

    from_seed = False

    def __init__(self, draw: Callable[[int], int], observer: _Observer) -> None:
        super().__init__(0)
        self._observer = observer
        self.threads = Choices(self._choose_thread)
        # While no other task can run, it makes no difference how many turns the others get.
        self.turns = Choices(lambda _: _TURNS[draw(len(_TURNS)) if self.others_can_run() else -1])
        self._draw = draw

    def scheduler(self) -> Scheduler:
        self.scheduler_of_run = self._observer
        return self._observer

    def note_turns_left(self, task: object, turns: int) -> None:
        self._observer.note_turns_left(age_of(task), turns)

    def _choose_thread(self, count: int) -> int:
        self._observer.reduces = False
        return self._draw(count)


class _Observer(Scheduler):
    """The scheduler of a run: it arranges steps as the search wants, and observes what they do.

    Tasks have numbers here, in the order in which they were first seen, because their ages differ from run to run.

    Attributes:
        reduces: Whether it is known what is at work.
    """

    observes = True

    def __init__(self, search: Search, reduces: bool) -> None:
        super().__init__(Choices(search.draw))
        self.reduces = reduces
        self._search = search
        self._history = 0
        self._numbers: dict[int, int] = {}  # by the age of the task
        self._turn: list[int | Callback] = []  # what runs in this turn, in order
        self._is_calm = True  # no step in it notices a cancellation
        self._orders: list[tuple[Order, list[int]]] = []  # of this turn
        self._new: dict[int, Worker] = {}  # of this turn
        self._workers: dict[int, Worker] = {}
        self._taken: dict[int, int] = {}  # how many calls they had begun when this turn did
        self._turns_left: dict[int, int] = {}  # of the tasks that let others go first
        self._noted: dict[int, list[int]] = {}  # in this turn, by task: the turns left, for each call and turn

    # ---- what happens in a turn

    def begin_turn(self, queue: list[Step | Callback]) -> Container[int]:
        is_calm = not any(isinstance(each, Step) and _is_cancelled(each) for each in queue)
        passed = {place for place, each in enumerate(queue) if is_calm and self._can_be_passed(each)}
        ended = sorted(self._label(each) for place, each in enumerate(queue) if place in passed)
        queue = [each for place, each in enumerate(queue) if place not in passed]
        self.end_turn(queue, is_calm)
        if any(each.name == FROM_THREAD for each in queue if isinstance(each, Callback)):
            self.reduces = False
        steps = sorted((each for each in queue if isinstance(each, Step)), key=_age)
        for step in steps:
            self._number(step.age)
        self._new = {self._number(each.age): worker for each in steps if (worker := new_worker(each.coroutine))}
        self._turn = [self._number(each.age) if isinstance(each, Step) else each for each in queue]
        self._workers |= self._new
        self._taken = {number: worker.taken for number, worker in self._workers.items()}
        if (queue or ended) and self.reduces:
            turns = tuple(sorted(self._turns_left.items()))
            self._search.reach((self._history, self._shape(queue), tuple(ended), turns))
        return passed

    def _can_be_passed(self, each: Step | Callback) -> bool:
        """Return whether nothing can be seen of when it runs: what anyio does when a worker of a batch has ended.

        Who waits for the workers of a batch waits from the beginning, and so sees the end of the last one only.
        """
        worker = self._workers.get(self._numbers.get(each.age, -1))
        is_end = isinstance(each, Callback) and each.name == _TASK_DONE
        return is_end and worker is not None and worker.has_ended_well()

    def _shape(self, queue: list[Step | Callback]) -> tuple[object, ...]:
        """Return what is in the queue. Steps that can change places are in the order of their numbers."""
        shape: list[object] = []
        for segment in _segments(queue):
            if isinstance(segment, Callback):
                shape.append(self._label(segment))
            else:
                shape += sorted((self._number(step.age), _is_cancelled(step)) for step in segment)
        return tuple(shape)

    def _arrange(self, steps: list[Step]) -> int:
        numbers = [self._number(step.age) for step in steps]
        alike: dict[object, list[int]] = {}
        for place, number in enumerate(numbers):
            if self.reduces and (worker := self._new.get(number)) is not None:
                alike.setdefault(worker.batch, []).append(place)
        order = self._search.order(len(steps), [*alike.values()])
        if order is not None:
            self._orders.append((order, numbers))
            steps[:] = [steps[place] for place in order.chosen]
        places = [place for place, each in enumerate(self._turn) if each in numbers]
        for place, step in zip(places, steps, strict=True):
            self._turn[place] = self._number(step.age)
        return len(steps)

    def note_turns_left(self, age: int, turns: int) -> None:
        """Note that a task lets others have so many more turns before its call; with 0, the call begins."""
        self._noted.setdefault(self._number(age), []).append(turns)

    def note_due(self) -> None:
        self._turn.append(Callback("due"))

    def end_turn(self, queue: list[Step | Callback], is_calm: bool) -> None:
        """Handle that a turn has ended.

        Args:
            queue: What runs in the next one, without what steps may pass.
            is_calm: Whether no step in it notices a cancellation.
        """
        silent = {each for each in self._turn if self.reduces and is_calm and self._is_calm and self._is_silent(each)}
        history = self._history
        for each in self._turn:
            if isinstance(each, Callback):
                history = self._search.history(history, self._label(each))
            elif each not in silent:
                # How many turns are left is part of the state, until the call begins.
                began = tuple(min(turns, 1) for turns in self._noted.get(each, ()))
                history = self._search.history(history, (each, began))
        if history != self._history:  # or else nothing has happened
            self._history = self._search.history(history, "turn")
        self._note_conflicts(silent, any(isinstance(each, Callback) for each in queue))
        for number in {each for each in self._turn if isinstance(each, int)}:
            left = self._noted.get(number, [0])[-1]
            self._turns_left.pop(number, None)
            if left:
                self._turns_left[number] = left
        self._is_calm = is_calm
        self._turn, self._orders, self._noted = [], [], {}

    def _note_conflicts(self, silent: Container[int | Callback], has_callbacks: bool) -> None:
        """Note which steps of the turn cannot change places without a difference.

        Args:
            silent: Those of which nothing can be seen.
            has_callbacks: Whether a callback was scheduled: where it stands among steps that continue matters.
        """
        took = {each for each, worker in self._workers.items() if silent and worker.taken != self._taken[each]}
        for order, numbers in self._orders:
            for a, b in itertools.combinations(range(order.count), 2):
                one, other = numbers[a], numbers[b]
                is_late = (one in took and other in self._new) or (one in self._new and other in took)
                are_silent = one in silent or other in silent
                goes_on = has_callbacks and (one in self._turns_left or other in self._turns_left)
                if is_late or goes_on or not are_silent:
                    order.conflicts.add((a, b))

    def _is_silent(self, each: int | Callback) -> bool:
        """Return whether the step of a task did nothing that others can see."""
        if isinstance(each, Callback):
            return False
        if each in self._new and self._new[each].has_done_nothing():
            return True
        left = self._turns_left.get(each, 0)
        return left > 1 and self._noted.get(each) == [left - 1]

    # ---- names that are the same in each run

    def _number(self, age: int) -> int:
        return self._numbers.setdefault(age, len(self._numbers))

    def _label(self, callback: Step | Callback) -> tuple[str, int]:
        assert isinstance(callback, Callback)
        return callback.name, self._numbers.get(callback.age, -1)


def _age(step: Step) -> int:
    return step.age


def _segments(queue: list[Step | Callback]) -> Iterator[list[Step] | Callback]:
    """Yield the callbacks, and the steps between two of them, which can change places."""
    steps: list[Step] = []
    for each in queue:
        if isinstance(each, Callback):
            if steps:
                yield steps
            steps = []
            yield each
        else:
            steps.append(each)
    if steps:
        yield steps


def _is_cancelled(step: Step) -> bool:
    """Return whether a cancellation has reached the task, which it may not have noticed."""
    if isinstance(step.handle, asyncio.Handle):
        task = task_of(step.handle)
        return task is not None and task.cancelling() > 0
    status = step.handle._cancel_status  # None of the first task
    return status is not None and bool(status.effectively_cancelled)
