"""Calls that run again although they had completed: an error before the first, or a warning at the end.

A session that resumes a run and finds nothing of it would do everything again, most likely because of a mistake: the
entry point was renamed or moved, or it is called with other arguments. So the first call is refused then.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from railtracks._logging import SESSION, SessionLog
from railtracks._resume._differences import differing_part, shown_arguments
from railtracks._resume._history import HistoryNode
from railtracks._resume._links import base_of, is_of_library
from railtracks._resume._matching import NOT_ON_RECORD, OTHER_ARGUMENTS, Match
from railtracks._resume._siblings import match_key
from railtracks._resume._unused import CallerOf, UnusedCalls
from railtracks._wording import MAX_NAMES, counted
from railtracks.exceptions import StateError
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, Status
from railtracks.state._serialization._record_text import form_in, is_lossy

_Call = tuple[str, str | None]
"""The name of the node of a call, and the text of its arguments."""


class ResumePolicy(NamedTuple):
    """What a session may do that resumes a run."""

    run_identifier: str
    """The identifier of that run."""
    code_changes: str = "warn"
    """The option of the session."""
    allow_rerun: bool = False
    """The option of the session."""
    takes_new_calls: bool = False
    """Whether a top-level call of a known node with other arguments is a new one. Otherwise it is a mistake, if it is
    the first call."""


class Reruns:
    """Judges calls that are not replayed.

    Args:
        history: The records of the resumed run, as those of one session.
        policy: What the session may do.
    """

    def __init__(self, history: Sequence[CallRecord], policy: ResumePolicy) -> None:
        self._history = history
        self._policy = policy
        self._has_found = policy.allow_rerun  # no call is refused once one was found
        self._again: dict[int, tuple[str, str]] = {}  # by the identity of a completed record: node, and reason
        self._lost: Counter[_Call] | None = None  # completed calls, for those that run again below unknown ones
        self._other_arguments: str | None = None  # those of the entry point, before and now
        self._lost_again: list[tuple[str, str]] = []  # these
        self._unused = UnusedCalls(history)

    def judge(
        self,
        record: CallRecord,
        match: Match,
        node: FunctionNode[..., Any],
        caller: HistoryNode | None,
        caller_of: CallerOf,
    ) -> None:
        """Note a call that is not replayed, or refuse it.

        Args:
            record: The call.
            match: Its match.
            node: The node that it calls.
            caller: The match of its caller, or the root of the history; None if its caller has none.
            caller_of: Returns the caller of a call.

        Raises:
            StateError: The run has completed calls, and neither this one nor one before was found.
        """
        if match.is_found:
            self._has_found = True
        elif not self._has_found and (why := self._why_to_refuse(record, match, node)):
            raise StateError(self._refusal(why))
        is_noted = not match.is_replayed and node.memo and self._note(record, match, caller_of)
        if match.is_found:
            if not match.is_replayed:
                self.on_run_again(match)
        elif not is_noted and node.memo and not (record.parent is None and self._policy.takes_new_calls):
            self._unused.add(record, match, node, caller)

    def on_run_again(self, match: Match) -> None:
        """Note that a call which is on record runs again."""
        if match.node is not None and match.node.record is not None:
            self._unused.on_run_again(match.node.record)

    # ---- refusing

    def _why_to_refuse(self, record: CallRecord, match: Match, node: FunctionNode[..., Any]) -> str | None:
        """Return why nothing that had completed can be found if this call runs; None if something can be."""
        if is_of_library(record) or not self._completed():
            return None
        linked = None if match.node is None else match.node.record
        if match.reuse == OTHER_ARGUMENTS and linked is not None:
            assert linked.inputs is not None
            assert record.inputs is not None
            part = differing_part(linked.inputs, record.inputs, node.target)
            self._other_arguments = (
                f"{record.name} was called with {shown_arguments(linked.inputs)}, and is called with "
                f"{shown_arguments(record.inputs)} now{part}"
            )
            return None
        if match.node is not None and linked is not None:
            if (
                linked.status is not Status.COMPLETED
                or base_of(linked) == base_of(record)
                or match.node.child_records()
            ):
                return None  # what it calls may be found
            return f"{record.name} is {base_of(record)[0]} now, and was {base_of(linked)[0]}"
        if record.parent is not None:
            return None  # a call that is new, of a caller of which other calls may be found
        return self._why_unknown(record, match, node)

    def _why_unknown(self, record: CallRecord, match: Match, node: FunctionNode[..., Any]) -> str | None:
        roots = [known for known in self._history if known.parent is None]
        of_node = next((known for known in roots if base_of(known)[0] == base_of(record)[0]), None)
        if of_node is not None:
            if self._policy.takes_new_calls:
                return None
            assert of_node.inputs is not None
            assert record.inputs is not None
            if of_node.node != record.node:
                return f"the node of {record.name} is {record.node} now, and was {of_node.node}"
            given = f"{record.name} was called with {shown_arguments(of_node.inputs)}"
            part = differing_part(of_node.inputs, record.inputs, node.target)
            return f"{given}, and not with {shown_arguments(record.inputs)}{part}"
        named = next((known for known in roots if known.name == record.name and known.node is not None), None)
        if record.node is None:
            return f"{record.name}: {match.reuse}"
        if named is not None:
            return f"{record.name} is {base_of(record)[0]} now, and was {base_of(named)[0]}"
        return f"{record.name} is not on record, only {', '.join(sorted({known.name for known in roots}))}"

    def _completed(self) -> list[CallRecord]:
        return [known for known in self._history if known.status is Status.COMPLETED and match_key(known) is not None]

    def _refusal(self, why: str) -> str:
        names = Counter(known.name for known in self._completed())
        shown = [name if count == 1 else f"{name} ({count})" for name, count in names.most_common(MAX_NAMES)]
        others = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        return (
            f"the run {self._policy.run_identifier!r} has {counted(names.total(), 'completed call')} "
            f"({', '.join(shown)}{others}), and none of it can be used: {why}. Resume it with the function and the "
            f"arguments that it was begun with, or use allow_rerun=True to run all of it again"
        )

    # ---- warning

    def _note(self, record: CallRecord, match: Match, caller_of: CallerOf) -> bool:
        """Note a call that runs, if it had completed. Return whether it was noted."""
        known = None if match.node is None else match.node.record
        if match.node is not None and is_of_library(record) and match.node.child_records():
            return False  # such as a batch: it does nothing but make calls, which are judged themselves
        if known is None:
            if not _is_new(record, match, caller_of) and self._had_completed(record):
                self._lost_again.append((record.name, match.reuse))
                return True
        elif known.status is Status.COMPLETED and (match.is_found or _is_unknown(record, known)):
            self._again.setdefault(id(known), (record.name, match.reuse))
            return True
        return False

    def _had_completed(self, record: CallRecord) -> bool:
        """Return whether a call with these arguments had completed, of a caller that is not on record now."""
        if self._lost is None:
            self._lost = Counter((known.name, known.inputs) for known in self._completed())
        call = record.name, record.inputs
        if self._lost[call] == 0:
            return False
        self._lost[call] -= 1
        return True

    def warn(self, log: SessionLog, caller_of: CallerOf) -> None:
        """Warn once of calls that had completed and ran again, and once of those in whose place others ran."""
        if self._other_arguments is not None:
            log.log(
                logging.WARNING,
                "The run went on with other arguments: %s; calls below it with the arguments that they had were reused",
                self._other_arguments, logger=SESSION,
            )  # fmt: skip
            self._other_arguments = None
        self._unused.warn(log, caller_of)
        again = [*self._again.values(), *self._lost_again]
        if again:
            name, why = again[0]
            log.log(
                logging.WARNING, "%s that had completed ran again, first %s: %s; info.resumed lists all calls",
                counted(len(again), "call"), name, why, logger=SESSION,
            )  # fmt: skip


def _is_new(record: CallRecord, match: Match, caller_of: CallerOf) -> bool:
    """Return whether a call, or one that it is below, is not on record although its caller is: so it is a new one."""
    reason, each = match.reuse, record
    while reason != NOT_ON_RECORD:
        caller = caller_of(each)
        if caller is None or caller.reuse is None:
            return False
        each, reason = caller, caller.reuse
    return each.parent is not None


def _is_unknown(record: CallRecord, known: CallRecord) -> bool:
    """Return whether a call that is linked with a recorded one runs for another reason than a changed version."""
    is_comparable = record.node is not None and record.inputs is not None and not is_lossy(form_in(record.inputs))
    return not is_comparable or base_of(record) != base_of(known)
