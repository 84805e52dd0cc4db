"""Replaying: recorded calls in place of new ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import attrs

from railtracks._resume._history import HistoryNode, build_history
from railtracks._resume._matching import Match, match_call, restore_change
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord
from railtracks.state._call_tree import renumber_changes
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._record_text import ensure_texts
from railtracks.state._transitions import RTState


class Replayer:
    """Matches the calls of a session with the history that it resumes, and replays those that need not run.

    Args:
        history: The records of the resumed run, as those of one session. Their times are in seconds since the epoch.
        state: The records of the session.
        origin: Seconds to add to the times in ``state`` to get seconds since the epoch.
        redactor: The secrets that the session knows.
    """

    def __init__(self, history: Sequence[CallRecord], state: RTState, origin: float, redactor: Redactor) -> None:
        for record in history:
            record.inputs, record.output = ensure_texts(record, redactor)
        self._history = history
        self._root = build_history(history)
        self._state = state
        self._origin = origin
        self._applied: dict[str, int] = {}  # by key of the context: the recorded order of the change last applied

    @cached_property
    def records(self) -> tuple[CallRecord, ...]:
        """The history, with its times on the clock of the session."""
        origin = self._origin
        return tuple(
            attrs.evolve(r, started=r.started - origin, ended=None if r.ended is None else r.ended - origin)
            for r in self._history
        )

    def match(self, record: CallRecord, node: FunctionNode[..., Any], caller: HistoryNode | None) -> Match:
        """Match a new call, and record the outcome as its ``reuse``.

        Args:
            record: The call. Its ``node`` and ``inputs`` are settled.
            node: The node that it calls.
            caller: The match of its caller. Not used for a top-level call.
        """
        match = match_call(self._root if record.parent is None else caller, record, node)
        record.reuse = match.reuse
        return match

    def replay(self, record: CallRecord, match: Match, orders: list[int], context: dict[str, Any]) -> None:
        """Put a replayed call and its descendants into the state, and apply their context changes again.

        Args:
            record: The call.
            match: Its match.
            orders: The new positions of the match's changes among those of the session.
            context: The context of the session.
        """
        assert match.node is not None
        known = match.node.record
        assert known is not None
        self._state.reused(record, known, match.descendants, match.result, -self._origin)
        renumber_changes(self._state.records, record, known, match.descendants, orders)
        for change in match.changes:
            if change.order < self._applied.get(change.key, -1):
                continue  # a concurrent call, replayed before this one, had changed the key later than this one
            self._applied[change.key] = change.order
            if change.value is None:
                context.pop(change.key, None)
            else:
                context[change.key] = restore_change(change)
