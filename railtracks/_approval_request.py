"""What people are asked before a tool of an agent runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, final


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
