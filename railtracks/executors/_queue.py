"""Which of the work that was submitted to an executor has a place there, as far as that can be known.

Executors begin work in the order in which it was submitted, and do not say when. But of those that say how many workers
they have, it can be counted: work waits as long as so many pieces that came before it have not ended. Work that others
submit to the same executor is not known here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class WorkQueue:
    """The pieces of work of one executor that have not ended. For use in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._placed: set[Future[Any]] = set()
        self._waiting: OrderedDict[Future[Any], tuple[int, Callable[[], object]]] = OrderedDict()

    def add(self, future: Future[Any], places: int | None, on_placed: Callable[[], object]) -> bool:
        """Add work that was submitted, and return whether it waits for a place.

        Args:
            future: Its future.
            places: How many pieces of work run at once; None if that is not known, and then it does not wait.
            on_placed: Called in any thread when it has a place, or has ended without one.
        """
        if places is None:
            return False
        with self._lock:
            waits = bool(self._waiting) or len(self._placed) >= places
            if waits:
                self._waiting[future] = places, on_placed
            else:
                self._placed.add(future)
        future.add_done_callback(self._remove)
        return waits

    def has(self, future: Future[Any]) -> bool:
        """Return whether work waits for a place."""
        return future in self._waiting

    def _remove(self, future: Future[Any]) -> None:
        woken = []
        with self._lock:
            self._placed.discard(future)
            waited = self._waiting.pop(future, None)
            if waited is not None:
                woken.append(waited[1])
            while self._waiting:
                following, (places, on_placed) = next(iter(self._waiting.items()))
                if len(self._placed) >= places:
                    break
                del self._waiting[following]
                self._placed.add(following)
                woken.append(on_placed)
        for wake in woken:
            wake()
