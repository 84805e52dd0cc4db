"""``python -m tests.harness.planted.same`` runs planted defects and their twins in several processes: all do the same.

Processes differ in their Python, in ``PYTHONHASHSEED``, in the order of the runs, and in whether other processes keep
all cores busy. Each run is to have the same story, outcome, records and decisions in all of them, unless its outcome
says that its seed did not decide all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from railtracks.testing import Outcome
from railtracks.testing._trace import without_addresses
from tests.harness.planted import PLANTED, Planted
from tests.harness.planted._finding import FIRST_OF_SCHEDULES, Searching

SIMPLE = 4
"""How many of the seeds only shuffle."""
MODULE = "tests.harness.planted.same"
BUSY = "while True: pass"


@attrs.frozen
class Variant:
    """A process in which all runs are made."""

    python: str
    hash_seed: str
    is_busy: bool
    is_reversed: bool

    def __str__(self) -> str:
        words = [f"PYTHONHASHSEED={self.hash_seed}", self.python]
        words += ["with all cores busy"] * self.is_busy + ["in reverse order"] * self.is_reversed
        return " ".join(words)


def variants(pythons: Sequence[str], is_short: bool) -> list[Variant]:
    """Return the processes to make all runs in; the first is the one that the others are compared with."""
    first, *others = pythons
    if is_short:
        return [
            Variant(first, "0", False, False),
            Variant(first, "1", True, True),
            *(Variant(python, "random", False, False) for python in others),
        ]
    return [
        variant
        for python in pythons
        for variant in (
            Variant(python, "0", False, False),
            Variant(python, "1", True, True),
            Variant(python, "random", False, True),
            Variant(python, "random", True, False),
        )
    ]


# ---- in each of the processes


@attrs.frozen
class Text:
    """What is known of a run, as text."""

    common: str
    """What is the same on each Python."""
    own: str
    """What is the same on one Python. Others have other texts of tracebacks, and so of places where calls were
    cancelled, and other places in bytecode."""
    undetermined: str


def runs(planted: Sequence[Planted], count: int) -> Iterator[tuple[str, Callable[[], Text]]]:
    """Yield the name of each run, and a function that makes it: with ``count`` seeds, on each backend."""
    seeds = [*range(min(SIMPLE, count)), *range(FIRST_OF_SCHEDULES, FIRST_OF_SCHEDULES + count - SIMPLE)]
    for each, broken, backend in itertools.product(planted, (True, False), ("asyncio", "trio")):
        if backend not in each.backends:
            continue
        kind = "the defect" if broken else "the twin of"
        searching = Searching(each, broken, len(seeds), True)
        with_faults = {"faults", "sweep"} & {*each.ways}
        plans = drawn(searching.plans_with_faults() if with_faults else each.plans, len(seeds))
        for seed, plan in zip(seeds, itertools.cycle(plans), strict=False):
            name = f"{kind} {each.name!r}, {backend}, seed {seed}"
            yield (
                name,
                lambda searching=searching, plan=plan, seed=seed, backend=backend: text_of(  # type: ignore[misc]
                    searching.outcomes(seed=seed, backend=backend, **plan)
                ),
            )


def drawn(plans: st.SearchStrategy[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return plans that are the same each time."""
    found: list[dict[str, Any]] = []

    @hypothesis_seed(0)
    @settings(
        max_examples=count, database=None, deadline=None, phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(plans)
    def draw(plan: dict[str, Any]) -> None:
        found.append(plan)

    draw()
    return found


def text_of(outcomes: Iterable[Outcome]) -> Text:
    """Return what is known of a run and of those that resume it."""
    common, own, undetermined = [], [], []
    for outcome in outcomes:
        with tempfile.TemporaryDirectory() as folder:
            outcome.save_replay(Path(folder, "replay.json"))
            common += [
                outcome.story,
                outcome.end,
                outcome.code,
                Path(folder, "replay.json").read_text(encoding="utf-8"),
            ]
        common += map(repr, (outcome.left_running, outcome.unused_faults, outcome.timers, outcome.duration))
        own += [outcome.order, str(outcome), without_addresses(json.dumps(outcome.info.payload(), indent=1))]
        undetermined += outcome.undetermined
    return Text("\n".join(common), "\n".join(own), "; ".join(undetermined))


def write(path: str, planted: Sequence[Planted], count: int, is_reversed: bool) -> None:
    """Make all runs in this process, and write what is known of them to a file."""
    found = [*runs(planted, count)]
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        for name, make in reversed(found) if is_reversed else found:
            file.write(json.dumps([name, *attrs.astuple(make())]) + "\n")


# ---- in the process that compares


def start(variant: Variant, path: str, names: Sequence[str], count: int) -> int:
    """Make all runs in a process of their own, and return its exit code."""
    command = [variant.python, "-m", MODULE, *names, "--seeds", str(count), "--write", path]
    command += ["--reversed"] * variant.is_reversed
    root = str(Path(__file__).parents[3])
    env = {**os.environ, "PYTHONHASHSEED": variant.hash_seed, "PYTHONPATH": root}
    with contextlib.ExitStack() as stack:
        for _ in range((os.cpu_count() or 1) * variant.is_busy):
            busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(busy.kill)
        return subprocess.run(command, env=env, cwd=root, check=False).returncode


def read(path: str) -> dict[str, Text]:
    """Return what another process has written."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {name: Text(*texts) for name, *texts in map(json.loads, file)}


def first_difference(one: str, other: str) -> str | None:
    """Return the first line in which two texts differ, of both; None if they are equal."""
    if one == other:
        return None
    pairs = itertools.zip_longest(one.split("\n"), other.split("\n"), fillvalue="(nothing)")
    return next(f"  - {line}\n  + {counterpart}" for line, counterpart in pairs if line != counterpart)


def differences(expected: dict[str, Text], own: dict[str, Text], found: dict[str, Text]) -> Iterator[str]:
    """Yield the runs that differ, with the first line that does.

    Args:
        expected: The runs of the first process of all.
        own: Those of the first process of the same Python.
        found: Those of a process.
    """
    for name in {**expected, **found}:
        if name not in expected or name not in found:
            yield f"{name}\n  only in {'this one' if name in found else 'the others'}"
            continue
        if expected[name].undetermined or found[name].undetermined or own[name].undetermined:
            continue
        line = first_difference(expected[name].common, found[name].common)
        line = line or first_difference(own[name].own, found[name].own)
        if line is not None:
            yield f"{name}\n{line}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    parser.add_argument("names", nargs="*", help="names of planted defects; by default all")
    parser.add_argument("--seeds", type=int, default=40, help="how many seeds, on each backend")
    parser.add_argument("--python", action="append", help="a Python to run them on; by default this one")
    parser.add_argument("--short", action="store_true", help="only two processes, and one for each other Python")
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--reversed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    chosen = [planted for planted in PLANTED if not options.names or planted.name in options.names]
    if unknown := {*options.names} - {planted.name for planted in PLANTED}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.seeds <= SIMPLE:
        parser.error(f"--seeds is {options.seeds}; use more than {SIMPLE}")
    if options.write:
        write(options.write, chosen, options.seeds, options.reversed)
        return 0
    return compare(variants(options.python or [sys.executable], options.short), options.names, options.seeds)


def compare(chosen: Sequence[Variant], names: Sequence[str], count: int) -> int:
    """Make all runs in all processes, print what differs, and return the exit code."""
    expected: dict[str, Text] = {}
    firsts: dict[str, dict[str, Text]] = {}  # by the Python
    chance: dict[str, str] = {}
    differ = 0
    with tempfile.TemporaryDirectory() as folder:
        for variant in chosen:
            path = str(Path(folder, "runs.json.gz"))
            if start(variant, path, names, count):
                print(f"FAILED: {variant}")
                return 2
            found = read(path)
            expected = expected or found
            own = firsts.setdefault(variant.python, found)
            chance.update((name, text.undetermined) for name, text in found.items() if text.undetermined)
            for difference in differences(expected, own, found):
                differ += 1
                print(f"DIFFERS: {variant}: {difference}\n", flush=True)
    for flow, times in sorted(Counter(name.partition(",")[0] for name in chance).items()):
        print(f"not decided by the seed: {times} runs of {flow}")
    print(f"{len(expected)} runs in {len(chosen)} processes, {differ} differ, {len(chance)} not decided by the seed")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
