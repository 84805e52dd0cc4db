"""Which process draws in a terminal: two would each set a margin of their own, and lose what the other has written.

It is known by a lock on the file of the terminal, which goes with the process, however that ends.
"""

from __future__ import annotations

import os
from contextlib import suppress


class Claim:
    """The right to draw in a terminal.

    Args:
        terminal: The file of the terminal; None if that is not known, so that nobody else can be.
    """

    def __init__(self, terminal: int | None) -> None:
        self._terminal = terminal
        self._locked: int | None = None  # a file of its own: those that were inherited share their locks

    def acquire(self) -> bool:
        """Return whether no other process has it, as far as that can be known. Then this one has it."""
        if self._terminal is None or self._locked is not None:
            return True
        import fcntl  # not there in Windows, where the file is None

        try:
            self._locked = os.open(os.ttyname(self._terminal), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:  # as in a container, whose terminal has no name there
            return True
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        except OSError:  # terminals cannot be locked in this system
            self.release()
        return True

    def release(self) -> None:
        """Leave it to others. Idempotent."""
        locked, self._locked = self._locked, None
        if locked is not None:
            with suppress(OSError):  # another has closed it
                os.close(locked)
