"""``python -m tests.harness.planted`` prints the table of planted defects for docs/testing-reference.md."""

from __future__ import annotations

import os
import sys
import tempfile

from tests.harness.planted import PLANTED, find


def main() -> int:
    lost = 0
    print("| planted defect | found in example | shrunk to calls |")
    print("|---|---|---|")
    for planted in PLANTED:
        found = find(planted)
        lost += found is None
        figures = "not found | " if found is None else f"{found.examples} | {found.calls}"
        print(f"| {planted.name}: {planted.defect} | {figures} |")
    return 1 if lost else 0


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    sys.exit(main())
