"""The budget of a session: the seconds that all its calls together may take."""

from __future__ import annotations

from typing import final

import anyio

from railtracks.exceptions import LimitExceededError
from railtracks.execution._call_scopes import RootCall


@final
class Budget:
    """What is left of a budget. The first top-level call begins to use it up.

    Args:
        seconds: The budget.
    """

    __slots__ = ("_end", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end: float | None = None  # on the clock of the session; None before the first call

    def limit(self, root: RootCall, now: float) -> None:
        """End a top-level call with the budget, if that is earlier than its timeout.

        Args:
            root: The call, which begins now.
            now: The current time, on the clock of the session.
        """
        if self._end is None:
            self._end = now + self._seconds
        root.limit_by_budget(self._seconds, self._end - now, anyio.current_time())


def over_budget(seconds: float, what: str) -> LimitExceededError:
    """Return the error of a call for which the budget of its session has ended too early.

    Args:
        seconds: The budget.
        what: The beginning of the message, up to "its budget".
    """
    from railtracks._config import source_of  # here, as only this error needs it

    return LimitExceededError(
        "budget",
        f"{what} its budget of {seconds:g} s (from {source_of('budget', seconds)}); set budget to more seconds, or "
        f"math.inf for no limit",
    )
