"""``python -m tests.harness.planted.twins`` runs the corrected twins of all planted defects: none may raise an alarm.

Each is searched in all the ways that find the defect, in about ten thousand examples in all with
``HYPOTHESIS_PROFILE=nightly``, and in a hundred without it. The examples are others each time; what an alarm prints
repeats it. ``--examples`` is for another number.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Sequence

from tests.effort import examples
from tests.harness.planted import PLANTED, Planted
from tests.harness.planted._finding import search


def main(arguments: list[str] | None = None, planted: Sequence[Planted] = PLANTED) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.harness.planted.twins", description=__doc__)
    parser.add_argument("--examples", type=int, default=examples(100).max_examples, help="about how many in all")
    total = parser.parse_args(arguments).examples
    ways = [(each, way) for each in planted for way in each.ways]
    tried = alarms = 0
    for each, way in ways:
        result = search(each, way, broken=False, budget=math.ceil(total / len(ways)), derandomize=False)
        tried += result.examples
        if result.found is not None:
            alarms += 1
            print(f"ALARM: the twin of {each.name!r}, searched by {way}:\n{result.found.violation}\n", flush=True)
    print(f"{tried} examples of {len(planted)} twins, {alarms} alarms")
    return 1 if alarms else 0


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    sys.exit(main())
