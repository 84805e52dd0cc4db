"""The synchronous steps of the end of a session, which nothing may tear apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from railtracks._concurrency._interrupts import defer_at_checkpoints
from railtracks._concurrency._kinds import is_kind
from railtracks.execution import Coordinator, _entering, running_library

_protected: list[type] = []


def protect_ends(session: type[Any]) -> None:
    """On trio, have Ctrl-C wait for the next checkpoint while a session is entered or left; once per process.

    So it does between the lines that enter and leave the scope of a call. In nodes it is raised anywhere.

    Args:
        session: The class whose methods enter and leave.
    """
    if not _protected and "trio" in sys.modules and running_library() == "trio":
        protected = [session.__aenter__, session.__aexit__, _entering._run_in_scope]
        defer_at_checkpoints(protected, exposed=[session._run_payload_callback, Coordinator.run])
        _protected.append(session)


def run_steps(*steps: Callable[[], object]) -> None:
    """Run all steps, each although the one before raised, and then raise what the first of them raised.

    Ctrl-C may tear a step apart; it is begun again. So a step must be able to begin twice.
    """
    error: BaseException | None = None
    for step in steps:
        is_done = False
        while not is_done:
            try:
                is_done = True
                step()
            except BaseException as exc:
                is_done = not is_kind(exc, KeyboardInterrupt)
                if error is None or is_kind(exc, (KeyboardInterrupt, SystemExit)):
                    error = exc
    if error is not None:
        raise error
