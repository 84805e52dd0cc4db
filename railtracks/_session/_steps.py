"""The synchronous steps of the end of a session, which nothing may tear apart."""

from __future__ import annotations

from collections.abc import Callable

from railtracks._concurrency._kinds import is_kind


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
