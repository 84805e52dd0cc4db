"""Drawing flows and their faults from seeds, and the model: what a flow gives, whatever goes wrong meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import attrs

import railtracks as rt
from railtracks.exceptions import FatalError, GlobalTimeOutError, WorkerLostError
from railtracks.testing import trees as t

PATIENT = 300
"""Seconds of a timeout that never ends a part."""
IMPATIENT = 0.01
"""Seconds of a timeout that ends what hangs."""
QUICK = rt.Retry(attempts=2, wait_initial=0.001, wait_max=0.002)
FAULTS = ("none", "cancelled", "timed out", "fatal", "store fails", "store ends it", "worker killed")
WEIGHTS = (40, 22, 8, 8, 12, 9, 1)
"""How often each fault comes. A worker is a process that has to start, which takes as long as hundreds of flows."""


@attrs.frozen(repr=False)
class KillWorker(t.Tree):
    """A leaf that kills the process that runs it, the first time.

    Attributes:
        mark: The file that it leaves, by which it knows that it was there before.
    """

    mark: str

    async def __call__(self) -> str:
        """Return "survived" the second time."""
        path = Path(self.mark)
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "survived"


@attrs.frozen
class Plan:
    """What is run.

    Attributes:
        seed: What it was drawn from.
        tree: The flow.
        fault: What goes wrong.
        moment: When: after so many seconds, as a share of 20 milliseconds, or at which write to the store.
        durability: As for sessions.
    """

    seed: int
    tree: t.Tree
    fault: str
    moment: float
    durability: str

    @property
    def timeout(self) -> float:
        """The timeout of its session, in seconds."""
        return 10 * IMPATIENT if self.fault == "timed out" else PATIENT


def draw(seed: int, folder: Path) -> Plan:
    """Return the plan of a seed.

    Args:
        seed: The same seed gives the same plan.
        folder: Where ``KillWorker`` leaves its mark.
    """
    dice = Random(f"soak {seed}")
    tree = _branch(dice, dice.choice((1, 2, 2, 3)))
    [fault] = dice.choices(FAULTS, WEIGHTS)
    if fault == "timed out":
        tree = t.Batch(tree, t.Hang())
    elif fault == "fatal":
        tree = t.Batch(tree, t.Fatal())
    elif fault == "worker killed":
        retries = rt.Retry(attempts=3, on=WorkerLostError, wait_initial=0.001)
        lost = t.WithPolicies(KillWorker(str(folder / f"mark {seed}")), where="process", retries=retries)
        tree = t.Sequence(tree, lost) if given(tree)[0] == "returned" else lost
    return Plan(seed, tree, fault, dice.random(), dice.choice(("async", "async", "sync", "exit")))


def _leaf(dice: Random) -> t.Tree:
    seconds = dice.choice((0, 0.001, 0.003))
    match dice.randrange(8):
        case 0 | 1:
            return t.Return(dice.randrange(10))
        case 2:
            return t.Raise()
        case 3:
            return t.Put("key", dice.randrange(10))
        case 4:
            return t.Broadcast(dice.randrange(10))
        case 5:
            return t.Shield(seconds)
        case 6:
            return t.Thread(seconds)
    return t.Sleep(seconds)


def _branch(dice: Random, depth: int) -> t.Tree:
    if not depth:
        return _leaf(dice)
    parts = [_branch(dice, dice.randrange(depth)) for _ in range(dice.randint(1, 4))]
    match dice.randrange(10):
        case 0 | 1:
            return t.Sequence(*parts)
        case 2:
            return t.Batch(*parts, limit=dice.choice((None, 2)))
        case 3:
            return t.Batch(*parts, strict=len({given(part) for part in parts if given(part)[0] == "raised"}) < 2)
        case 4:
            return t.Parallel(*parts)
        case 5:
            return t.Race(parts[0], *[t.Hang()] * len(parts))
        case 6:
            return t.Retry(parts[0], 2)
        case 7:
            return t.Timeout(*dice.choice(((parts[0], PATIENT), (t.Hang(), IMPATIENT))))
        case 8:
            return t.Nested(parts[0], logging_setting="NONE", save_state=False, timeout=PATIENT)
    policies: Any = dice.choice(({"retries": QUICK}, {"limit": 2}, {"timeout": PATIENT}, {"cache": rt.Cache(key=repr)}))
    return t.Try(t.WithPolicies(_leaf(dice), **policies))


Given = tuple[str, str]
"""How a flow ends: "returned" and the repr of the value, or "raised" and the name of the exception's class."""


def given(tree: t.Tree) -> Given:
    """Return how a tree ends, without running it: the model."""
    return ending(lambda: _value(tree))


def expected(plan: Plan) -> Given:
    """Return how the flow of a plan must end, in spite of its fault."""
    ends: dict[str, type[Exception]] = {"timed out": GlobalTimeOutError, "fatal": FatalError}
    return ("raised", ends[plan.fault].__name__) if plan.fault in ends else given(plan.tree)


def ending(function: Callable[[], Any]) -> Given:
    """Return how a call of ``function`` ends."""
    try:
        return "returned", repr(function())
    except Exception as exc:
        return "raised", type(exc).__name__


def _value(tree: t.Tree) -> Any:
    match tree:
        case t.Return(value=value) | t.Put(value=value) | t.Broadcast(item=value):
            return value
        case t.Sleep(seconds=value) | t.Shield(seconds=value) | t.Thread(seconds=value):
            return value
        case t.Raise():
            raise t.TreeError
        case KillWorker():
            return "survived"
        case t.Sequence():
            return [_value(part) for part in tree.parts]
        case t.Batch():
            return len([_value(part) if tree.strict else part for part in tree.parts])
        case t.Parallel():
            _in_a_group(*tree.parts)
            return None
        case t.Race():
            return _in_a_group(tree.parts[0])[0]
        case t.Try():
            return _value(tree.part) if given(tree.part)[0] == "returned" else "caught"
        case t.Timeout(part=t.Hang()):
            raise TimeoutError
    return _value(tree.children[0])  # of those that add something else than a value


def _in_a_group(*parts: t.Tree) -> list[Any]:
    """Return the values of parts that run in a task group, whose errors come in a group."""
    ends = [given(part) for part in parts]
    if any(how == "raised" for how, _ in ends):
        raise ExceptionGroup("in a group", [t.TreeError()])
    return [_value(part) for part in parts]
