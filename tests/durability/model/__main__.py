"""Runs many histories, and shows those that go wrong."""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback

import attrs
import stamina

from tests.durability.model import programs as p
from tests.durability.model.drawing import History, draw
from tests.durability.model.runner import Run


def main() -> int:
    """Run what the arguments say, and return how many histories failed."""
    parser = argparse.ArgumentParser("python -m tests.durability.model", description=__doc__)
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--seed", type=int, default=0, help="of the first history; the others have the next ones")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--max-failures", type=int, default=10)
    parser.add_argument("--shrink", type=int, default=400, metavar="RUNS", help="to make a history smaller")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after that many")
    parser.add_argument("-v", "--verbose", action="store_true", help="show each history")
    args = parser.parse_args()
    stamina.instrumentation.set_on_retry_hooks([])  # it would print a line for each retry
    began, failed, count = time.monotonic(), 0, 0
    for seed in range(args.seed, args.seed + args.count):
        count += 1
        history = draw(seed)
        if args.verbose:
            print(describe(history), flush=True)
        problems = attempt(history, args.backend)
        if problems:
            failed += 1
            _report(history, args.backend, seed, problems, args.shrink)
        if failed >= args.max_failures or time.monotonic() - began > args.seconds:
            break
        if count % 50 == 0:
            gc.collect()
    print(f"{args.backend}: {count} histories in {time.monotonic() - began:.1f} s, {failed} failed")
    return failed


def attempt(history: History, backend: str) -> list[str]:
    """Run a history, and return what is wrong, which may be an exception."""
    try:
        return Run(history, backend).run()
    except Exception:
        return [traceback.format_exc()]


def describe(history: History) -> str:
    rest = ", ".join(f"{name}={getattr(history, name)!r}" for name in ("seed", "kills", "fork", "is_sync"))
    return f"{p.show(history.program)}\n{rest}"


def shrink(history: History, backend: str, tries: int) -> History:
    """Return a smaller history that goes wrong too."""
    is_smaller = True
    while is_smaller and tries > 0:
        is_smaller = False
        for less in _smaller(history):
            tries -= 1
            if tries <= 0:
                break
            if attempt(less, backend):
                history, is_smaller = less, True
                break
    return history


def _smaller(history: History):
    for at in range(len(history.kills)):
        yield attrs.evolve(history, kills=(*history.kills[:at], *history.kills[at + 1 :]))
    if history.fork is not None:
        yield attrs.evolve(history, fork=None)
    if history.is_sync:
        yield attrs.evolve(history, is_sync=False)
    yield from (attrs.evolve(history, program=program) for program in p.smaller(history.program))
    for at, kill in enumerate(history.kills):
        if kill is not None and kill.number > 1:
            less = attrs.evolve(kill, number=kill.number - 1)
            yield attrs.evolve(history, kills=(*history.kills[:at], less, *history.kills[at + 1 :]))


def _report(history: History, backend: str, seed: int, problems: list[str], tries: int) -> None:
    if tries:
        history = shrink(history, backend, tries)
    run = Run(history, backend)
    try:
        problems = run.run() or problems
    except Exception:
        problems = [traceback.format_exc()]
    print(f"---- seed {seed} on {backend}\n{describe(history)}")
    for line in run.story:
        print("  " + line)
    for each in problems:
        print(f"* {each}")
    print(f"replay: python -m tests.durability.model --backend {backend} --seed {seed} --count 1 -v", flush=True)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
