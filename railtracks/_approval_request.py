"""What people are asked before a tool of an agent runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, final

import attrs

_YES = ("yes", "y", "true", "ok", "approve", "approved")
_NO = ("no", "n", "false", "deny", "denied", "")


@final
class ApprovalRequest(str):
    """The question whether a tool may run: a text for people, whose parts are also attributes.

    The ``ask_callback`` of a session gets it, and it is the ``text`` of an ``rt.exceptions.Question``.

    Args:
        agent: The name of the agent whose model asks for the tool.
        tool: The name of the tool.
        arguments: The arguments, as the model wrote them: data as JSON has it, with secrets masked.
    """

    # Slots keep its attributes next to the text, which cannot be changed either.
    __slots__ = ("agent", "arguments", "tool")

    agent: str
    tool: str
    arguments: dict[str, Any]

    def __new__(cls, agent: str, tool: str, arguments: Mapping[str, Any]) -> Self:
        shown = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        self = super().__new__(cls, f'{agent} asks to call {tool}({shown}). Answer "yes", or why not.')
        self.agent, self.tool, self.arguments = agent, tool, dict(arguments)
        return self

    def __getnewargs__(self) -> tuple[str, str, dict[str, Any]]:  # type: ignore[override]
        return self.agent, self.tool, self.arguments

    @property
    def parts(self) -> dict[str, Any]:
        """The parts as plain data, which is how they are recorded."""
        return {"agent": self.agent, "tool": self.tool, "arguments": self.arguments}


@attrs.frozen
class Decision:
    """What a person has decided about the call of a tool.

    Attributes:
        approved: Whether the tool may run.
        reason: Why not, for the model.
        arguments: What it is to run with. None: the arguments that were asked for.
    """

    approved: bool
    reason: str = ""
    arguments: Mapping[str, Any] | None = None


def decision_of(answer: object) -> Decision:
    """Return what an answer to an ``ApprovalRequest`` says.

    Raises:
        ValueError: It says neither yes nor no.
    """
    if isinstance(answer, bool):
        return Decision(answer)
    if isinstance(answer, str):
        said = answer.strip()
        word = said.casefold()
        return Decision(True) if word in _YES else Decision(False, "" if word in _NO else said)
    if isinstance(answer, Mapping) and answer.keys() <= {"approved", "reason", "arguments"}:
        approved, reason, arguments = answer.get("approved"), answer.get("reason") or "", answer.get("arguments")
        if isinstance(approved, bool) and isinstance(reason, str) and isinstance(arguments, Mapping | None):
            return Decision(approved, reason, arguments)
    raise ValueError(
        f"the question whether a tool may run was answered with {answer!r}; expected True or False, 'yes' or the "
        f"reason why not, or {{'approved': ..., 'reason': ..., 'arguments': ...}} without those that are not needed"
    )
