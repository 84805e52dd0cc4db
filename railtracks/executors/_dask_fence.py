"""What runs in the scheduler of a Dask cluster, so that no work of ours begins twice.

Dask runs a task again when its worker dies, when its worker retires, and when the worker that held its result dies
before anybody has fetched that. This is right for functions without effects. A call of a node is recorded, and may be
tried again only where that is visible. So what has once been sent to a worker is replaced by a task that does nothing.
"""

from __future__ import annotations

from typing import Any

from dask._task_spec import Task
from distributed.diagnostics.plugin import SchedulerPlugin

PREFIX = "railtracks-"
"""How the first part of the keys of our tasks begins."""
SENT = frozenset({"processing", "memory"})
"""The states of a task that was sent to a worker."""


class Fence(SchedulerPlugin):  # type: ignore[misc]
    """Lets each of our tasks be sent to a worker once."""

    name = "railtracks-fence-1"  # another number for another behaviour: a cluster serves programs of several versions
    idempotent = True

    def __init__(self) -> None:
        self._scheduler: Any = None

    async def start(self, scheduler: Any) -> None:
        """Remember the scheduler, which calls this."""
        self._scheduler = scheduler

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Replace a task that will be sent again. The scheduler calls this between two states of each task."""
        if finish != "released" or start not in SENT or type(key) is not tuple or not str(key[0]).startswith(PREFIX):
            return
        task = self._scheduler.tasks[key]
        if task.who_wants:  # otherwise it has ended, or was cancelled
            # Of a builtin, so that the worker needs nothing for it. Its result, b"", is no answer of a worker of ours.
            task.run_spec = Task(key, bytes)
            # There may be no worker for it, now or ever.
            self._scheduler.log_event(key[0], key[1])
