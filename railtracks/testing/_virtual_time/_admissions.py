"""Which work of worker threads trio's limiter has just let in.

On trio a thread that was abandoned before it began reports nevertheless, and its report schedules a task. On asyncio
such a thread may never begin, and its report schedules nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import anyio
from anyio.to_thread import current_default_thread_limiter


class Admissions:
    """Notes which work a limiter has let in that was queued before."""

    def __init__(self) -> None:
        self._has_admitted = False

    def limiter(self, given: anyio.CapacityLimiter | None, admit: Callable[[], None]) -> anyio.CapacityLimiter:
        """Return a limiter that does what ``given`` does, or the default one, and calls ``admit`` when it lets in."""

        def note() -> None:
            self._has_admitted = True
            admit()

        return cast(anyio.CapacityLimiter, _AdmittingLimiter(given or current_default_thread_limiter(), note))

    def take(self) -> bool:
        """Return whether what begins now was let in by such a limiter, once."""
        admitted, self._has_admitted = self._has_admitted, False
        return admitted


class _AdmittingLimiter:
    """The part of a limiter that ``trio.to_thread.run_sync`` uses; calls ``admit`` when it has let a borrower in."""

    def __init__(self, limiter: anyio.CapacityLimiter, admit: Callable[[], None]) -> None:
        self._limiter = limiter
        self._admit = admit
        self.release_on_behalf_of = limiter.release_on_behalf_of

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await self._limiter.acquire_on_behalf_of(borrower)
        self._admit()  # nothing can come between this and the start of the thread
