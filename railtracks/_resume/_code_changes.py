"""What a session does about recorded results of functions whose code has changed since."""

from __future__ import annotations

import logging
from typing import Any

from railtracks._logging import SESSION, SessionLog
from railtracks._resume._matching import Match
from railtracks.nodes import FunctionNode
from railtracks.nodes._code import has_changed
from railtracks.state import Status

CHANGED = "its code has changed"


class CodeChanges:
    """Judges matches by the code of the nodes.

    Args:
        policy: The option ``code_changes``: "warn", "rerun" or "ignore".
    """

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self._reused: dict[str, int] = {}  # by the name of a node that has changed: how many results were reused

    def judge(self, match: Match, node: FunctionNode[..., Any]) -> Match:
        """Return a match of a call of ``node`` as it is with regard to the node's code."""
        if self._policy == "ignore" or not match.is_replayed or match.node is None or match.node.record is None:
            return match
        if not has_changed(match.node.record.code, node.code):
            return match
        if self._policy == "rerun":
            return Match(match.node, CHANGED)
        if match.node.record.status is Status.COMPLETED and (why := self._why_unfit(match.result, node)):
            return Match(match.node, why)
        return match._replace(remark=CHANGED)

    def _why_unfit(self, result: object, node: FunctionNode[..., Any]) -> str | None:
        """Return why the recorded result of a function that has changed cannot be used; None if it can be.

        If the function is as it was, its annotation may be wrong, as that of many a function is. Of one that has
        changed, the code that gets the result may expect what the annotation says now.
        """
        # Imported here because few programs resume, and it brings a dozen modules.
        from railtracks.state._serialization._structuring import is_expected, shown_annotation

        if is_expected(result, node.return_hint):
            return None
        return f"{CHANGED}, and its result was not what its annotation says now, {shown_annotation(node.return_hint)}"

    def note_reused(self, name: str) -> None:
        """Note that a recorded result was used although its node, of this name, has changed."""
        self._reused[name] = self._reused.get(name, 0) + 1

    def warn(self, log: SessionLog) -> None:
        """Warn once of all nodes that have changed and of which results were reused."""
        if self._reused:
            names = ", ".join(name if count == 1 else f"{name} ({count} calls)" for name, count in self._reused.items())
            log.log(
                logging.WARNING,
                "The code of these nodes has changed, and recorded results of the former code were reused: %s. To run "
                'such calls again, use code_changes="rerun", or a new version= of the node; if the change does not '
                'matter, use code_changes="ignore"',
                names, logger=SESSION,
            )  # fmt: skip
