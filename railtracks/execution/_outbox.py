"""What happens in a worker and has to be known at home, beside the records of calls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from railtracks.state import CallRecord
from railtracks.state._records import DELETED
from railtracks.state._transitions import RTState


@attrs.frozen(kw_only=True)
class Item:
    """Something that happened in a worker, beside the beginning and the end of a call."""

    step: int
    """The step that the next transition of a call took there."""
    kind: str
    """"change", "broadcast", "log", or "warning", which is a log line that is not repeated."""
    call: int | None
    """The index of the call there; None outside calls."""
    time: float
    """In seconds since the epoch."""
    data: tuple[Any, ...]


class Outbox:
    """What a session in a worker sends home with its records.

    Args:
        state: Its records.
        pack: Makes something that can be sent of a value, and of the name of the value for the error; raises if it
            cannot.
        now: Returns the time in seconds since the epoch.
        identifiers: Those of the call that was sent to the worker, as they are at home: its own, that of its top-level
            call, and that of its caller.
        held_limits: The names of the limits of which that call, or one above it, has a slot at home.
        home: What identifies the process of the session.
        is_apart: Whether that is another process than this.
        no_store: Why the store of the session cannot be reached here; "" if it can.

    Attributes:
        items: What was added, in order.
        identifiers: As given.
        held_limits: As given.
        home: As given.
        is_apart: As given.
        no_store: As given.
    """

    def __init__(
        self,
        state: RTState,
        pack: Callable[[Any, str], Any],
        now: Callable[[], float],
        identifiers: tuple[str, str, str | None],
        held_limits: Sequence[str],
        home: tuple[str, int],
        is_apart: bool,
        no_store: str,
    ) -> None:
        self._state = state
        self._pack = pack
        self._now = now
        self.items: list[Item] = []
        self.identifiers: tuple[str, str, str | None] = identifiers
        self.held_limits: Sequence[str] = held_limits
        self.home: tuple[str, int] = home
        self.is_apart: bool = is_apart
        self.no_store: str = no_store

    def add(self, kind: str, call: int | None, data: tuple[Any, ...]) -> None:
        """Add an item. Thread-safe."""
        self.items.append(Item(step=self._state.step, kind=kind, call=call, time=self._now(), data=data))

    def add_change(self, record: CallRecord | None, key: str, value: Any) -> None:
        """Add a change of the context by a call. ``value``: the new one, or ``DELETED``. Thread-safe."""
        data = (key,) if value is DELETED else (key, self._pack(value, f"the value of {key!r} in the context"))
        self.add("change", None if record is None else record.index, data)

    def add_warning(self, what: str, text: str) -> None:
        """Add a line for the log that warns of something, which the session logs once. Thread-safe."""
        self.add("warning", None, (what, logging.WARNING, text, "RT.Session", False))

    def add_broadcast(self, record: CallRecord | None, item: Any) -> None:
        """Add an item that a call has broadcast. Thread-safe."""
        self.add("broadcast", None if record is None else record.index, (self._pack(item, "what is broadcast"),))

    def identifiers_of(self, record: CallRecord) -> tuple[str, str, str | None]:
        """Return the identifiers of a call here: its own, that of its top-level call, and that of its caller.

        Those of calls below the one that was sent are final only when they are brought home.
        """
        own, run, caller = self.identifiers
        if record.parent is None:
            return own, run, caller
        above = own if record.parent == 0 else f"{own}.{record.parent}"
        return f"{own}.{record.index}", run, above
