"""What runs work in a worker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Literal, Protocol

import attrs

from railtracks._test_hooks import runtime_hooks


@attrs.frozen(kw_only=True)
class Capabilities:
    """What an executor can do with work that was submitted to it."""

    kind: Literal["thread", "interpreter", "process", "machine"]
    """What its workers share with this process: "thread", everything; "interpreter", the process; "process", the
    machine; "machine", perhaps nothing."""

    kills_running: bool
    """Whether work that has begun ends when its call is cancelled. Otherwise it is abandoned: it runs on."""

    survives_crash: bool
    """Whether a worker that dies leaves other work alone, and is replaced."""


def hold_clock() -> ExitStack:
    """Hold the clock, if that is a virtual one, until what is returned is closed, in any thread."""
    stack = ExitStack()
    if (hold := runtime_hooks.get().hold_clock) is not None:
        stack.enter_context(hold())
    return stack


AroundWait = Callable[[], AbstractContextManager[object]]
"""Called when work has to wait for a place; returns the context manager inside which it waits."""


class Runner(Protocol):
    """Runs work in workers: in processes of its own, or where an executor puts it."""

    @property
    def name(self) -> str:
        """Its name in records and errors: "process", or the name of the executor in the session."""

    @property
    def capabilities(self) -> Capabilities:
        """What its workers are, and what becomes of work that is cancelled."""

    async def run(
        self,
        work: bytes,
        *,
        node: str = "the node",
        on_abandon: Callable[[], Awaitable[bool]] | None = None,
        around_wait: AroundWait = nullcontext,
    ) -> bytes:
        """Have a worker run :func:`railtracks.executors._worker.run`, and return what that returns.

        Args:
            work: What ``pack_work`` has packed.
            node: The name of the node, for errors.
            on_abandon: Awaited when work that runs is abandoned. If it returns True, its end is waited for.
            around_wait: What surrounds the wait for a place, if there is one. More than once if it waits in steps.

        Raises:
            WorkerLostError: the worker has died, or the executor is broken or closed.

        Cancellation: what is queued does not begin. What runs is killed if ``capabilities.kills_running``, and
        otherwise abandoned.
        """

    async def close(self) -> None:
        """End the workers that belong to it. Idempotent. Cancellation: passed on when they have ended."""
