"""Draws programs from seeds: one seed, one program, on every machine and every Python."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

from tests.fuzz import programs as p

Place = Literal["outside", "body", "node", "callback", "cleanup"]
THREADS_EVERY = 10
"""Each tenth program has threads, and runs in real time."""


def draw(seed: int) -> p.Program:
    """Return the program of a seed."""
    return _Drawer(seed).program()


class _Drawer:
    """Draws one program, whose steps are limited in number and in depth.

    Args:
        seed: Decides everything.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._threads = seed % THREADS_EVERY == THREADS_EVERY - 1
        self._steps_left = self._random.choice((4, 8, 12, 20, 30))
        self._sessions_left = 3
        self._interrupts = self._random.random() < 0.05  # SystemExit ends the loop, and with it what else was drawn

    # ---- small choices

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _units(self) -> int | float:
        """Return a duration; few different ones, so that many things happen at one instant."""
        forever = 0.05 if not self._threads else 0
        return p.FOREVER if self._chance(forever) else self._random.choice((0, 0.5, 1, 1, 1, 1.5, 2, 3))

    def _moment(self) -> p.Moment:
        units = self._random.choice((0, 0, 0, 0.5, 1, 1, 1.5, 2, 3, 4))
        return units, self._random.choice((0, 1, 2, 3, 5, 8, 13, 21, 34))

    def _ending(self, place: Place = "node") -> p.Ending:
        kinds: list[p.Ending] = ["ValueError"] * 6
        kinds += ["TimeoutError", "falsy", "frozen", "group"]
        if place != "callback":
            kinds += ["BaseException", "BaseExceptionGroup", "GeneratorExit", "FatalError"]
        if self._interrupts:
            kinds += ["SystemExit"] * 8
        return self._random.choice(kinds)

    # ---- programs and sessions

    def program(self) -> p.Program:
        """Return the program."""
        block = self._outside()
        cancellations: tuple[p.Cancellation, ...] = ()
        if self._chance(0.5):
            first = p.Cancellation(self._moment(), self._chance(0.6))
            cancellations = (first,)
            for _ in range(self._random.choice((0, 0, 1, 2))):
                units, turns = cancellations[-1].moment
                later = (units, turns + self._random.choice((0, 1, 1, 2, 5))) if self._chance(0.7) else self._moment()
                cancellations += (p.Cancellation(later, first.native or self._chance(0.3)),)
        shutdown = self._moment() if self._chance(0.2) else None
        interrupts = tuple(self._moment() for _ in range(self._random.choice((1, 1, 2)))) if self._chance(0.15) else ()
        return p.Program(block, cancellations, shutdown, self._threads, interrupts)

    def _outside(self) -> p.Block:
        if self._chance(0.15):
            return (p.Branches("group", tuple((self._session(),) for _ in range(2))),)
        if self._chance(0.15):
            return (self._session(), self._session())
        return (self._session(),)

    def _session(self) -> p.OpenSession:
        self._sessions_left -= 1
        count = self._random.choice((0, 0, 1, 1, 2))
        return p.OpenSession(
            subscribers=tuple(self._subscriber(0) for _ in range(count)),
            block=self._block("body", 0),
            plain=self._chance(0.2),
            timeout=self._random.choice((None, None, 0.5, 1, 2, 2.5, 4)),
            end_on_error=self._chance(0.3),
            stored=self._chance(0.3),
        )

    # ---- blocks

    def _block(self, place: Place, depth: int, least: int = 1) -> p.Block:
        count = self._random.choice((1, 1, 2, 3)) if depth else self._random.choice((1, 2, 3, 4))
        return tuple(self._step(place, depth) for _ in range(max(least, count)))

    def _blocks(self, place: Place, depth: int) -> tuple[p.Block, ...]:
        return tuple(self._block(place, depth) for _ in range(self._random.choice((1, 2, 2, 3))))

    def _node(self, depth: int, *, may_be_thread: bool = True) -> p.Node:
        if self._threads and may_be_thread and self._chance(0.4):
            body = tuple(self._thread_step(depth + 1) for _ in range(self._random.choice((0, 1, 1, 2))))
            return p.Node(body, thread=True, waits=self._chance(0.3))
        return p.Node(self._block("node", depth + 1, 0) if self._chance(0.9) else ())

    def _subscriber(self, depth: int) -> p.Subscriber:
        is_async = self._chance(0.7)
        body: p.Block = ()
        if self._chance(0.7):
            body = self._block("callback", depth + 2) if is_async else (p.Raise(self._ending("callback")),)
        return p.Subscriber(
            policy=self._random.choice(("wait", "wait", "drop_oldest", "drop_newest", "fail")),
            on_error=self._random.choice(("keep", "remove")),
            capacity=self._random.choice((1, 1, 2, 3, 1024)),
            kinds=self._random.choice(("all", "all", "calls", "broadcasts")),
            is_async=is_async,
            body=body,
            reacts=self._random.choice((1, 2, 4)),
        )

    def _step(self, place: Place, depth: int) -> p.Step:
        self._steps_left -= 1
        simple: list[tuple[int, Callable[[Place, int], p.Step]]] = [
            (3, lambda *_: p.Turns(self._random.choice((1, 1, 2, 4)))),
            (4, lambda *_: p.Sleep(self._units())),
            (2, lambda *_: p.Broadcast()),
            (1, lambda *_: p.Put()),
        ]
        if place != "cleanup":
            simple.append((2, lambda *_: p.Raise(self._ending(place))))
        choices = simple if self._steps_left <= 0 or depth > 6 else simple + self._nesting(place)
        weights = [weight for weight, _ in choices]
        [(_, make)] = self._random.choices(choices, weights)
        return make(place, depth + 1)

    def _nesting(self, place: Place) -> list[tuple[int, Callable[[Place, int], p.Step]]]:
        choices: list[tuple[int, Callable[[Place, int], p.Step]]] = [
            (10, lambda _, depth: p.Call(self._node(depth), self._chance(0.4))),
            (4, self._batch),
            (2, lambda _, depth: p.StartSoon(self._node(depth))),
            (2, lambda _, depth: p.Subscribe(self._subscriber(depth))),
            (1, lambda *_: p.Unsubscribe()),
        ]
        if place == "cleanup":
            return choices
        choices += [
            (4, self._branches),
            (2, self._strays),
            (1, lambda where, depth: p.Shield(self._block(where, depth))),
            (2, self._limit),
            (1, lambda where, depth: p.Swallow(self._block(where, depth))),
            (2, lambda where, depth: p.Catch(self._block(where, depth))),
            (3, self._cleanup),
            (1, self._generator),
        ]
        if self._sessions_left > 0:
            choices.append((1, lambda *_: self._session()))
        return choices

    # ---- steps with parts

    def _batch(self, _: Any, depth: int) -> p.Step:
        count = self._random.choice((1, 2, 3, 5))
        nodes = tuple(self._node(depth, may_be_thread=False) for _ in range(count))
        return p.Batch(nodes, self._random.choice((None, None, 1, 2)), self._chance(0.5))

    def _branches(self, place: Place, depth: int) -> p.Step:
        return p.Branches(self._random.choice(("gather", "group", "native")), self._blocks(place, depth))

    def _strays(self, place: Place, depth: int) -> p.Step:
        cancel_after = self._random.choice((0, 1, 2, 5)) if self._chance(0.5) else None
        return p.Strays(self._blocks(place, depth), cancel_after, self._random.choice((1, 1, 2)), self._chance(0.5))

    def _limit(self, place: Place, depth: int) -> p.Step:
        style: Any = self._random.choice(("move_on_after", "fail_after", "wait_for", "timeout"))
        return p.Limit(style, self._random.choice((0, 0.5, 1, 2)), self._block(place, depth))

    def _cleanup(self, place: Place, depth: int) -> p.Step:
        after = self._block("cleanup", max(depth, 4))
        return p.Cleanup(self._block(place, depth), after, self._chance(0.6))

    def _generator(self, place: Place, depth: int) -> p.Step:
        return p.Generator(self._block(place, depth), self._block("cleanup", max(depth, 4)), self._chance(0.5))

    def _thread_step(self, depth: int) -> p.Step:
        """Return a step of a node in a thread."""
        self._steps_left -= 1
        kind = self._random.choices(("sleep", "call", "batch", "broadcast", "put", "raise"), (4, 5, 1, 2, 1, 1))[0]
        if self._steps_left <= 0 or kind == "sleep":
            return p.Sleep(self._random.choice((0, 0.5, 1, 3)))
        if kind == "call":
            return p.Call(self._node(depth + 1), self._chance(0.5))
        if kind == "batch":
            return self._batch(None, depth + 1)
        if kind == "broadcast":
            return p.Broadcast()
        return p.Put() if kind == "put" else p.Raise(self._ending())
