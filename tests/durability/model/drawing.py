"""Drawing programs and histories from a seed."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

import attrs

from tests.durability.model import programs as p
from tests.durability.model.answers import KINDS, free_kinds

KEYS = ("a", "b")
TOPICS = ("t", "t", "t", "u")
CACHED: Any = ("cache", "cache", "cache in store")
"""The policies of leaves whose results are cached, which are equal wherever they are called."""
DEPTH = 4


@attrs.frozen
class Kill:
    """The process is killed.

    Attributes:
        at: "write": at an entry of the journal; "message": when a message is written or removed; "effect": when a leaf
            has had its effect, and has not answered yet.
        number: The number of the entry, message or effect, from 1.
    """

    at: Literal["write", "message", "effect"]
    number: int


@attrs.frozen
class History:
    """What happens to one run.

    Attributes:
        program: The block of its entry point.
        seed: Decides how long leaves take, and the order in which tasks run.
        kills: One for each attempt that is killed; None for one that is left to end. The last one is, too.
        fork: After which attempt the run is forked, and how far through its steps, from 0 to 1; None for never.
        is_sync: Whether the journal is synchronous.
    """

    program: p.Block
    seed: int
    kills: tuple[Kill | None, ...]
    fork: tuple[int, float] | None = None
    is_sync: bool = False


def draw(seed: int) -> History:
    """Return the history of a seed."""
    dice = Random(f"history {seed}")
    program = _Drawing(dice).program()
    size = sum(isinstance(step, p.Leaf | p.Below | p.Wait) for step in p.steps_in(program))
    waits = any(isinstance(step, p.Wait) for step in p.steps_in(program))
    kills = tuple(_draw_kill(dice, size, waits) for _ in range(dice.choice((1, 1, 1, 2, 2, 3))))
    fork = (dice.randrange(len(kills) + 1), dice.random()) if dice.random() < 0.3 else None
    return History(program, seed, kills, fork, dice.random() < 0.12)


def _draw_kill(dice: Random, size: int, waits: bool) -> Kill | None:
    match dice.random():
        case chance if chance < 0.15:
            return None
        case chance if waits and chance > 0.7:
            return Kill("message", dice.randint(1, 3))
        case chance if chance < 0.4:
            return Kill("effect", dice.randint(1, max(1, size)))
    return Kill("write", dice.randint(1, 3 * size + 3))


class _Drawing:
    """Draws one program."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._left = dice.choice((4, 8, 12, 18))
        self._threads = dice.random() < 0.12
        self._flows = dice.random() < 0.2
        self._values = dice.random() < 0.3
        self._waits = dice.random() < 0.25
        self._policies = dice.random() < 0.3
        self._pool = dice.random() < 0.25
        self._caches = dice.random() < 0.25
        self._flows = self._flows and not self._caches  # another session has other cached results
        self._arguments = 0
        self._concurrent = 0  # how many blocks around this one run at the same time as others
        self._may_repeat = False  # the latest argument: only within one block, as equal calls are known by their order

    def program(self) -> p.Block:
        return self._block(0, least=2)

    def _chance(self, chance: float) -> bool:
        return self._dice.random() < chance

    def _block(self, depth: int, least: int = 1) -> p.Block:
        self._may_repeat = False
        block = tuple(self._step(depth) for _ in range(self._dice.randint(least, 3)))
        self._may_repeat = False
        return block

    def _late_block(self, depth: int) -> p.Block:
        """Return a block that waits first: what concurrent blocks do at one moment has no order."""
        self._concurrent += 1
        block = attrs.evolve(self._leaf(), takes_latest=False), *self._block(depth)
        self._concurrent -= 1
        return block

    def _step(self, depth: int) -> p.Step:
        self._left -= 1
        if self._left <= 0 or depth >= DEPTH:
            return self._leaf()
        kinds: dict[str, float] = {
            "leaf": 7, "below": 4, "branches": 3, "batch": 1, "try": 4, "context": 2.5, "raise": 0.2,
            "value": 1 if self._values else 0, "sleep": 0.7 if self._values else 0, "wait": 8 if self._waits else 0,
            "cached": 8 if self._caches else 0,
        }  # fmt: skip
        (kind,) = self._dice.choices(list(kinds), list(kinds.values()))
        draw: Any = getattr(self, f"_{kind}")
        step: p.Step = (
            draw() if kind in ("leaf", "context", "raise", "value", "sleep", "wait", "cached") else draw(depth + 1)
        )
        return step

    def _argument(self) -> int:
        if not self._may_repeat or self._chance(0.6):
            self._arguments += 1
        self._may_repeat = True
        return self._arguments

    def _leaf(self) -> p.Leaf:
        fails = self._dice.choice((1, 1, 2, p.ALWAYS)) if self._chance(0.25) else 0
        kind = self._dice.choice(list(KINDS)) if self._chance(0.4) else "text"
        puts = self._dice.choice(KEYS) if self._chance(0.15) else ""
        if puts and self._chance(0.5):
            kind = self._dice.choice(free_kinds())
        sends = self._dice.choice(TOPICS) if self._waits and self._chance(0.15) else ""
        tries = self._dice.choice((1, 1, 2, 3)) if self._chance(0.4 if fails else 0.03) else 0
        policy: Any = self._policy() if not tries and not sends else ""
        return p.Leaf(self._argument(), kind, fails, self._chance(0.3), puts, sends, tries, policy)

    def _policy(self) -> Any:
        if self._pool and self._chance(0.4):
            return "pool"
        return self._dice.choice(("limit", "timeout")) if self._policies and self._chance(0.4) else ""

    def _wait(self) -> p.Wait | p.Below:
        """Return a step that waits. What equals others, as several wait for one topic, is in a call of its own."""
        if self._chance(0.7):
            return p.Below((self._plain_wait(self._dice.choice(TOPICS)),), self._argument())
        return self._plain_wait(str(self._argument()))

    def _plain_wait(self, about: str) -> p.Wait:
        """Return a step that waits. Its block may go on at once only if no other one can at that moment."""
        of: Any = self._dice.choice(("answer", "message", "message"))
        then = self._leaf() if self._concurrent or self._chance(0.4) else None
        return p.Wait(of, about, self._dice.choice((1, 1, 2, 2, 3)), then)

    def _leaf_or_wait(self) -> p.Leaf | p.Wait:
        waits = self._waits and self._chance(0.4)
        return self._plain_wait(self._dice.choice(TOPICS)) if waits else self._leaf()

    def _below(self, depth: int) -> p.Below:
        argument = self._argument()
        if self._threads and self._chance(0.5):
            return p.Below(tuple(self._leaf_or_wait() for _ in range(self._dice.randint(1, 2))), argument, "thread")
        if self._pool and self._chance(0.5):
            leaves = [self._leaf() for _ in range(self._dice.randint(1, 3))]
            block = tuple(attrs.evolve(leaf, sends="", tries=0, policy="") for leaf in leaves)
            return p.Below(block, argument, "pool")
        how: Any = "flow" if self._flows and self._chance(0.5) else "call"
        return p.Below(self._block(depth), argument, how)

    def _cached(self) -> p.Below:
        """Return a call of a node that calls a cached leaf: once, in a batch, or in several tasks.

        Who gets a result of another call goes on at the moment at which that has ended, or at once. So another leaf
        comes next.
        """
        number = self._dice.randrange(len(CACHED))
        leaf = p.Leaf(-1 - number, policy=CACHED[number])
        match self._dice.random():
            case chance if chance < 0.5:
                step: p.Step = leaf
            case chance if chance < 0.75:
                items = (leaf,) * self._dice.randint(2, 4)
                step = p.Batch(items, self._dice.choice((None, None, 2)), self._chance(0.6))
            case _:
                blocks = tuple((*self._alone(at + self._dice.randrange(2)), leaf, *self._alone(1)) for at in range(2))
                step = p.Branches(blocks, self._chance(0.25))
        return p.Below((step, *self._alone(1)), self._argument())

    def _alone(self, count: int) -> p.Block:
        """Return leaves that equal no other ones: two tasks may call them at once."""
        found = []
        for _ in range(count):
            self._may_repeat = False
            found.append(attrs.evolve(self._leaf(), takes_latest=False))
        self._may_repeat = False
        return tuple(found)

    def _branches(self, depth: int) -> p.Branches:
        blocks = tuple(self._late_block(depth) for _ in range(self._dice.choice((2, 2, 3))))
        return p.Branches(blocks, self._chance(0.25))

    def _batch(self, depth: int) -> p.Batch:
        count = self._dice.randint(2, 4)
        if self._chance(0.5):
            leaves = [self._leaf() for _ in range(count)]
            items: Any = tuple(attrs.evolve(leaf, kind=leaves[0].kind, takes_latest=False) for leaf in leaves)
        else:
            arguments = [self._argument() for _ in range(count)]
            items = tuple(p.Below(self._late_block(depth), argument) for argument in arguments)
        batch = p.Batch(items, self._dice.choice((None, 1, 2)), self._chance(0.6))
        if p.goes_on_after_failures(batch):
            without: Any = p.without_context(items)
            return attrs.evolve(batch, items=without)
        return batch

    def _try(self, depth: int) -> p.Try:
        block = self._block(depth)
        if self._chance(0.7):  # it fails now and then
            block = (*block, attrs.evolve(self._leaf(), fails=self._dice.choice((1, 2, p.ALWAYS))))
        handler = None if self._chance(0.15) else self._block(depth) if self._chance(0.7) else ()
        return p.Try(block, handler, self._dice.choice((1, 1, 2, 3)), self._chance(0.5), self._chance(0.15))

    def _context(self) -> p.Context:
        # No read beside other tasks: if one of these has changed the value in a call that has completed, the change is
        # made again where that call had ended, and not where it was made, as that is not on record. So a read between
        # the two gives the earlier value when the run is resumed (docs/durability.md says so, too).
        kinds = ("put", "put", "delete") if self._concurrent else ("put", "put", "read", "add", "delete")
        does: Any = self._dice.choice(kinds)
        return p.Context(does, self._dice.choice(KEYS))

    def _raise(self) -> p.Raise:
        return p.Raise()

    def _value(self) -> p.Value:
        of: Any = self._dice.choice(("now", "uuid4", "random"))
        return p.Value(of)

    def _sleep(self) -> p.Sleep:
        return p.Sleep(self._dice.randint(100, 900))
