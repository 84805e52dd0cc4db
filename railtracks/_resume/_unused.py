"""Completed calls in whose place the session made others: as the code, or an argument's class, has changed.

A new call that is not found may be one that had completed: its node has another name now, the class of an argument was
moved, or another call was put between it and its caller. Nothing links the two for sure. But a flow that sees what it
saw before makes the calls that it made before. So if a completed call was not made again, and a call of the same node
ran below the same caller, that is warned of. It is not if the flow may have taken another way: a call that had ended
before has run again, and may have given something else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

import attrs

from railtracks._logging import SESSION, SessionLog
from railtracks._resume._differences import differing_part, shown_arguments
from railtracks._resume._history import HistoryNode
from railtracks._resume._links import base_of, is_of_library
from railtracks._resume._matching import Match
from railtracks._resume._siblings import match_key
from railtracks._wording import MAX_NAMES, counted
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status

CallerOf = Callable[[CallRecord], CallRecord | None]
"""Returns the caller of a call."""


@attrs.frozen(eq=False)
class _NewCall:
    """A call that ran and is not on record.

    Attributes:
        record: The call.
        node: The node that it calls.
        outermost: The call itself, or the outermost one above it that is not on record either.
    """

    record: CallRecord
    node: FunctionNode[..., object]
    outermost: CallRecord


class UnusedCalls:
    """Finds completed calls that were not used although calls like them ran.

    Args:
        history: The records of the resumed run, as those of one session.
    """

    def __init__(self, history: Sequence[CallRecord]) -> None:
        self._history = history
        # By the recorded call that made them, or stands for that which did: the calls that are not on record.
        self._new: dict[int, tuple[HistoryNode, list[_NewCall]]] = {}
        self._callers: dict[int, tuple[HistoryNode, CallRecord]] = {}  # by the index of a new call without a link
        # By the index of the recorded caller: the step at which the first call had ended that is found and runs again.
        self._ran_again: dict[int | None, int] = {}

    def add(
        self, record: CallRecord, match: Match, node: FunctionNode[..., object], caller: HistoryNode | None
    ) -> None:
        """Note a call that runs and is not on record.

        Args:
            record: The call.
            match: Its match.
            node: The node that it calls.
            caller: The match of its caller, or the root of the history; None if its caller has none.
        """
        outermost = record
        if caller is None:
            found = None if record.parent is None else self._callers.get(record.parent)
            if found is None:
                return
            caller, outermost = found
        if match.node is None:
            self._callers[record.index] = caller, outermost
        if record.name and not is_of_library(record):
            self._new.setdefault(id(caller), (caller, []))[1].append(_NewCall(record, node, outermost))

    def on_run_again(self, known: CallRecord) -> None:
        """Note that a recorded call was found, and runs again: it may give something else than before."""
        if known.ended_step is not None:
            self._ran_again[known.parent] = min(known.ended_step, self._ran_again.get(known.parent, known.ended_step))

    def warn(self, log: SessionLog, caller_of: CallerOf) -> None:
        """Warn once of all completed calls that were not used although calls of the same node ran."""
        found = [pair for caller, new in self._new.values() for pair in self._replaced(caller, new, caller_of)]
        if not found:
            return
        counts: dict[str, int] = {}
        for known, _ in found:
            counts[known.name] = counts.get(known.name, 0) + 1
        (name, count), *others = counts.items()
        more = ", ".join(f"{other} ({number})" for other, number in others[:MAX_NAMES])
        log.log(
            logging.WARNING,
            "%s of %s %s not used, and calls of %s ran: the first %s%s; what they had done may be done twice. "
            "info.resumed lists all calls",
            counted(count, "completed call"), name, "was" if count == 1 else "were", name,
            _comparison(*found[0], self._history), f"; and so with {more}" if more else "", logger=SESSION,
        )  # fmt: skip

    def _replaced(
        self, caller: HistoryNode, new: Sequence[_NewCall], caller_of: CallerOf
    ) -> Iterator[tuple[CallRecord, _NewCall]]:
        """Yield the completed calls below a recorded call that were not used, each with the new call in its place."""
        left: list[tuple[CallRecord, CallRecord]] = []
        for top, is_linked in caller.left_records():
            below = () if is_linked else caller.attempt.descendants(top)  # those of a linked call may have been used
            left += [(known, top) for known in (top, *below) if self._is_evidence(known, top)]
        for each in new:
            above = caller_of(each.outermost)
            has_completed = above is not None and above.status is Status.COMPLETED
            for position, (known, top) in enumerate(left):
                is_reached = has_completed or _are_in_order(each.outermost, top)
                if is_reached and _is_same_node(each, known):
                    del left[position]
                    yield known, each
                    break

    def _is_evidence(self, known: CallRecord, top: CallRecord) -> bool:
        """Return whether a recorded call would be made again by the same code.

        Args:
            known: The call.
            top: The call itself, or the outermost one above it that was not made again either.
        """
        if known.status is not Status.COMPLETED or match_key(known) is None:
            return False
        return top.started_step < self._ran_again.get(top.parent, top.started_step + 1)


def _are_in_order(new: CallRecord, known: CallRecord) -> bool:
    """Return whether a flow that has not completed comes to a recorded call before a new one.

    The calls of a task come in order, and those of a batch begin in order. Other tasks may not have come so far.
    """
    branches = new.branch or (), known.branch or ()
    return branches == ((), ()) or all(any(number < 0 for number in branch) for branch in branches)


def _is_same_node(new: _NewCall, known: CallRecord) -> bool:
    """Return whether a new call seems to call the node of a recorded one, in the same version."""
    record = new.record
    if base_of(record) == base_of(known):
        return record.node == known.node  # otherwise it has another version: it is to run again
    has_code = known.code is not None and known.code == new.node.code
    return record.name == known.name or base_of(record)[0] == base_of(known)[0] or has_code


def _comparison(known: CallRecord, new: _NewCall, history: Sequence[CallRecord]) -> str:
    """Return what a recorded call was, and what the new one in its place is."""
    record = new.record
    assert known.inputs is not None
    assert record.inputs is not None
    was, is_now = f"{known.name}{shown_arguments(known.inputs)}", f"{record.name}{shown_arguments(record.inputs)}"
    if (part := differing_part(known.inputs, record.inputs, new.node.target)) or was != is_now:
        return f"was {was} and is {is_now} now{part}"
    if base_of(known) != base_of(record):
        return f"was {was}, of {base_of(known)[0]}, which is {base_of(record)[0]} now"
    caller = "the session" if known.parent is None else history[known.parent].name
    return f"was {was}, called by {caller}, which calls it in another place now"
