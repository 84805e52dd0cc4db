"""Cancellations by ``task.cancel()`` of asyncio that code has caught without ending.

asyncio delivers such a cancellation once. If a library takes it for an error of its own, the task goes on as if nothing
had come. anyio's scopes deliver theirs again at each wait. For ``task.cancel()`` asyncio keeps only a count,
``Task.cancelling()``, which blocks such as ``asyncio.timeout``, task groups, and anyio's scopes put back when they
are left. So what is still counted comes from further out, and nothing has ended for it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from railtracks._concurrency._kinds import is_kind, linked_exceptions

if TYPE_CHECKING:
    import anyio

_MAX_LINKED = 100
"""Exceptions that are followed, as code of users may have linked them in a circle."""


def count_cancellations(task: Any) -> int:
    """Return how many times a task was cancelled that did not end; 0 for a task of trio, or for None."""
    cancelling = getattr(task, "cancelling", None)
    return 0 if cancelling is None else int(cancelling())


def lost_cancellation(task: Any, earlier: int, within: anyio.CancelScope | None = None) -> BaseException | None:
    """Return the cancellation to raise in the current task, because code in it has caught that and gone on.

    None while the code that makes the call handles a cancellation, in an ``except`` or ``finally`` block: asyncio lets
    such cleanup run. None in a shielded scope too, as with anyio's cancellations.

    Args:
        task: The current task, of either backend.
        earlier: The count of cancellations that do not matter, as they came before.
        within: The scope in which shields count; None: all of them do.
    """
    if count_cancellations(task) <= earlier:
        return None
    cancelled: type[BaseException] = sys.modules["asyncio"].CancelledError
    if _is_handled(cancelled) or _is_shielded(task, within):
        return None
    return cancelled("the task was cancelled before, and code in it had caught that and gone on")


def _is_handled(cancelled: type[BaseException]) -> bool:
    """Return whether the running code is handling a cancellation, or an error that came while it did."""
    handled = sys.exc_info()[1]
    found = [] if handled is None else [handled]
    for exc in found:  # which grows meanwhile
        if is_kind(exc, cancelled):
            return True
        if len(found) < _MAX_LINKED:
            found += linked_exceptions(exc)
    return False


def _is_shielded(task: Any, within: anyio.CancelScope | None) -> bool:
    """Return whether a shielded scope of anyio is around the running code.

    Reads private names of anyio. If they change, nothing is delivered again; ``tests/test_lost_cancellation.py``
    notices.
    """
    try:
        state = sys.modules["anyio._backends._asyncio"]._task_states.get(task)
        scope = None if state is None else state.cancel_scope
        while scope is not None and scope is not within:
            if scope.shield:
                return True
            scope = scope._parent_scope
    except (KeyError, AttributeError):
        return True
    return False
