"""Exit codes, and the errors that are a user's mistake."""

from __future__ import annotations

import os
import sys
from enum import IntEnum

from railtracks._concurrency._kinds import is_kind
from railtracks.exceptions import GlobalTimeOutError, RunSuspended


class ExitCode(IntEnum):
    """What the process returns to the shell."""

    COMPLETED = 0
    FAILED = 1
    USAGE = 2
    """The command cannot be understood."""
    SUSPENDED = 75
    """The run waits for an answer or a message (``EX_TEMPFAIL`` of sysexits.h: try again later)."""
    TIMED_OUT = 124
    """As ``timeout`` of GNU coreutils."""
    INTERRUPTED = 130
    """Ctrl-C: 128 and the number of the signal."""


class MistakeError(Exception):
    """A mistake of the user. Its text is one line that says what to write."""


def exit_code_of(exc: BaseException) -> int:
    """Return the exit code for what a run raised."""
    if is_kind(exc, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if is_kind(exc, RunSuspended):
        return ExitCode.SUSPENDED
    if is_kind(exc, GlobalTimeOutError):
        return ExitCode.TIMED_OUT
    if isinstance(exc, SystemExit):
        return 0 if exc.code is None else exc.code if isinstance(exc.code, int) else ExitCode.FAILED
    return ExitCode.FAILED


def complain(text: object) -> None:
    """Print an error."""
    print(f"railtracks: {text}", file=sys.stderr)


def discard_output() -> None:
    """Discard what is still to be printed: what reads the output, such as ``head``, has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
