"""The errors that are a user's mistake, and the exit codes of errors."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cyclopts import CycloptsError, MissingArgumentError, UnknownCommandError

from railtracks._concurrency._kinds import is_kind
from railtracks._exit_codes import ExitCode
from railtracks.exceptions import GlobalTimeOutError, RunSuspended


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


_IN_PYTHON = {
    "pass that as store=": "name it with --store",
    "use allow_rerun=True": "use --allow-rerun",
    "use another run_identifier": "use another --run-identifier",
    "by flow.resume, or use prune(..., pending=True)": "by railtracks resume, or use --pending",
}
"""What errors of the library advise, and what a user of the command line has to write in place of it."""


def complain(text: object) -> None:
    """Print an error, with advice for the command line."""
    print(f"railtracks: {for_the_command_line(str(text))}", file=sys.stderr)


@contextmanager
def advice_for_the_command_line() -> Iterator[None]:
    """Have what the library logs in this block name the options of the commands."""

    def translate(record: logging.LogRecord) -> bool:
        record.msg = for_the_command_line(str(record.msg))
        return True

    logger = logging.getLogger("RT")
    logger.addFilter(translate)
    try:
        yield
    finally:
        logger.removeFilter(translate)


def for_the_command_line(text: str) -> str:
    """Return an error of the library with the options of the commands in place of Python's arguments."""
    for python, option in _IN_PYTHON.items():
        text = text.replace(python, option)
    return text


def explain_usage(exc: CycloptsError) -> str:
    """Return in one line what is wrong with a command, and which help says more."""
    name = exc.app.name[0] if exc.app is not None else "railtracks"
    command = name if name.startswith("railtracks") else f"railtracks {name}"
    text = str(exc)
    if isinstance(exc, MissingArgumentError) and exc.argument is not None:
        argument = exc.argument
        if exc.keyword is not None:
            text = f"{exc.keyword} needs a value"
        elif argument.field_info.kind is argument.field_info.KEYWORD_ONLY:
            text = f"{argument.name} is missing"
        else:
            text = f"{argument.name.lstrip('-').upper()} is missing"
    elif isinstance(exc, UnknownCommandError) and exc.unused_tokens and exc.unused_tokens[0].startswith("-"):
        option = exc.unused_tokens[0].partition("=")[0]
        text = f"{option} stands before the command; options follow it, as in railtracks list --store STORE"
    elif not text.endswith("..."):
        text = text.removesuffix(".")
    return f"{text}; see {command} --help"


def discard_output() -> None:
    """Discard what is still to be printed: what reads the output, such as ``head``, has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
