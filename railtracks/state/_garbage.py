"""The garbage collector while very many objects are made that all stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

MANY = 10_000
"""The number of new objects from which on they are moved to the oldest generation."""


@contextmanager
def collections_paused() -> Iterator[None]:
    """Pause the garbage collector while a large state is made.

    It consists of millions of objects that all stay. Searching them for garbage would take most of the time and find
    nothing. Afterwards they count as old: as new ones they would be searched twice, all at once, which would hold up
    every thread.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if gc.get_count()[0] > MANY and not gc.get_freeze_count():  # nothing is frozen that would be thawed
                gc.freeze()
                gc.unfreeze()  # to where it puts them: the oldest generation
            gc.enable()
