"""Runs many programs, and shows those that break an invariant: ``python -m tests.fuzz --help``."""

from __future__ import annotations

import argparse
import collections
import gc
import logging
import os
import sys
import time
import warnings

from tests.fuzz import drawing, programs, runner, shrinking
from tests.fuzz.notes import Broken

COLLECT_EVERY = 100
"""Programs after which all generations are collected: ``asyncio.all_tasks`` is slow while tasks of former programs are
left."""


def main() -> int:
    """Run what the arguments say, and return how many programs failed."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--backend", choices=("asyncio", "trio"), required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the first program; the others have the next ones")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--step", type=int, default=1, help="between two seeds, for several processes")
    parser.add_argument("--no-threads", action="store_true", help="leave out programs with threads")
    parser.add_argument("--max-failures", type=int, default=10, help="stop after so many")
    parser.add_argument("--shrink", type=int, default=300, metavar="RUNS", help="to make a program smaller")
    parser.add_argument("-v", "--verbose", action="store_true", help="show each program")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # what programs leave behind on purpose, or by never ending
    sys.unraisablehook = lambda _: None
    logging.disable()
    gc.freeze()  # the garbage collector is called after each program
    began, failures = time.monotonic(), collections.Counter[str]()
    seed, cases = args.seed, 0
    while cases < args.cases and failures.total() < args.max_failures:
        program = drawing.draw(seed)
        if not (args.no_threads and program.threads):
            cases += 1
            if cases % COLLECT_EVERY == 0:
                gc.collect()
            if args.verbose:
                print(f"seed {seed}: {programs.show(program)}")
            if broken := runner.run(program, args.backend, seed):
                failures[broken[0].invariant] += 1
                _report(program, args.backend, seed, broken, args.shrink)
        seed += args.step
    seconds = time.monotonic() - began
    print(f"{args.backend}: {cases} programs in {seconds:.1f} s, {failures.total()} failed: {dict(failures)}")
    return failures.total()


def _report(program: programs.Program, backend: str, seed: int, broken: list[Broken], shrink: int) -> None:
    if shrink and not program.threads:
        program, broken = shrinking.shrink(program, backend, seed, broken, shrink)
    print(f"---- seed {seed} on {backend}\n{programs.show(program)}")
    for each in broken:
        print(f"{each.invariant}: {each.why}")
    print(f"replay: python -m tests.fuzz --backend {backend} --seed {seed} --cases 1 -v", flush=True)


if __name__ == "__main__":
    failed = main()
    sys.stdout.flush()
    os._exit(min(failed, 1))  # a program that never ends may have left threads, which Python would wait for
