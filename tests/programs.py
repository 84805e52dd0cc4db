"""Programs in processes of their own, for tests of what a process does at its first use, at a fork and at its end."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = str(Path(__file__).parent.parent)
TIMEOUT = 30
"""Real seconds after which a program counts as hanging; they end within one."""


def output_of(source: str, *arguments: str, status: int = 0) -> list[str]:
    """Run a program in the working directory, and return the lines that it printed. Fails if it warned, or hangs."""
    fork = "ignore:This process:DeprecationWarning"  # Python warns of a fork in a process with threads
    command = [sys.executable, "-W", "error::RuntimeWarning", "-W", fork, "-c", textwrap.dedent(source), *arguments]
    environment = {"PYTHONPATH": ROOT, "PATH": "", "RAILTRACKS_LOGGING_SETTING": "NONE"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, env=environment, check=False)
    assert (done.returncode, done.stderr) == (status, ""), done.stdout + done.stderr
    return done.stdout.splitlines()
