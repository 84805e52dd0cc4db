"""Timers of the harness, on either backend."""

from __future__ import annotations

import sys
from collections.abc import Callable

import anyio

from railtracks._test_probe import running_library
from railtracks.testing._virtual_time._tasks import TIMER


def call_later(seconds: float, func: Callable[[], None]) -> None:
    """Call a function later, in the running event loop; never, if that ends before."""
    if running_library() == "trio":

        async def wait() -> None:
            await anyio.sleep(seconds)
            func()

        sys.modules["trio"].lowlevel.spawn_system_task(wait, name=TIMER)
    else:
        sys.modules["asyncio"].get_running_loop().call_later(seconds, func)
