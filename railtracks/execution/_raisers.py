"""Which call an exception was raised in, so that the log explains it there, and not in each call that it leaves."""

from __future__ import annotations

from collections.abc import Iterable

from railtracks.state import CallRecord
from railtracks.state._records import FIRST_ITEM_INDEX
from railtracks.state._transitions import RTState


class Raisers:
    """The exceptions that calls of one session have failed with.

    Args:
        state: The records of the calls.
    """

    __slots__ = ("_found", "_of_items", "_state")

    def __init__(self, state: RTState) -> None:
        self._state = state
        self._of_items: dict[int, list[int]] = {}  # by the index of a call of an item: the identities of exceptions
        # By the identity of an exception, which is kept alive: itself, the name of the call that raised it, and the
        # index of the last call that it has left.
        self._found: dict[int, tuple[BaseException, str, int]] = {}

    def note(self, exc: BaseException, raiser: str, index: int) -> None:
        """Note that an exception leaves a call.

        Args:
            exc: The exception.
            raiser: The name of the call that it was raised in.
            index: The index of the call that it leaves; or of the one that had opened the session which it leaves.
        """
        self._found[id(exc)] = exc, raiser, index
        if index >= FIRST_ITEM_INDEX:
            self._of_items.setdefault(index, []).append(id(exc))

    def drop(self, indices: Iterable[int], left: int | None) -> None:
        """Forget calls of an item whose records are dropped.

        Args:
            indices: Their indices.
            left: The index of the call that stands for the batch, if the exception goes on through that.
        """
        for index in indices:
            for identity in self._of_items.pop(index, ()):
                found = self._found.get(identity)
                if found is not None and found[2] == index:
                    if left is None:
                        del self._found[identity]
                    else:
                        self._found[identity] = *found[:2], left

    def below(self, record: CallRecord, exc: BaseException) -> str | None:
        """Return the name of the call below ``record`` that has raised an exception; None if none has.

        One exception can be raised by several calls that have nothing to do with each other, such as that of a mock.
        """
        _, raiser, index = self._found.get(id(exc), (None, None, -1))
        while index > record.index:  # callers have lower indices
            left = self._state.entry(index)
            index = -1 if left is None or left.parent is None else left.parent
        return raiser if index == record.index else None
