"""The exit codes of the command line."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns to the shell."""

    COMPLETED = 0
    FAILED = 1
    USAGE = 2
    """The command cannot be understood, or names what is not there."""
    SUSPENDED = 75
    """The run waits for an answer or a message (``EX_TEMPFAIL`` of sysexits.h: try again later)."""
    TIMED_OUT = 124
    """As ``timeout`` of GNU coreutils."""
    INTERRUPTED = 130
    """Ctrl-C: 128 and the number of the signal."""
