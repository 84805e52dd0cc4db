"""One request to a model behind an SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from railtracks.llm._messages import ToolMessage, UserMessage
from railtracks.llm._output import REJECTED, Asked


@attrs.frozen
class Request(Asked):
    """The content of one request.

    Args:
        is_strict: Whether the schema of the output is within the limits of the provider.
        is_answer_forced: Whether the model is made to call the answer tool, or another one before that.
    """

    is_strict: bool = False
    is_answer_forced: bool = False

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of a model as they are sent with this request.

        Without tools, what is about tools is left out, as the APIs refuse it. A tool that the model is forced to call
        is forced until it was called in this turn: a model that obeys could never answer.

        Args:
            given: The settings.
        """
        if not self.tools:
            return {name: value for name, value in given.items() if name not in _ABOUT_TOOLS}
        if not is_forced(given.get("tool_choice")) or not self._has_called():
            return dict(given)
        kept = {name: value for name, value in given.items() if name != "tool_choice"}
        others = given["tool_choice"] if isinstance(given["tool_choice"], Mapping) else {}
        if "disable_parallel_tool_use" in others:  # Anthropic's, which stands beside the choice
            kept["tool_choice"] = {**others, "type": "auto"}
            kept["tool_choice"].pop("name", None)
        return kept

    def _has_called(self) -> bool:
        """Return whether a tool was called since the user has last said something.

        That an answer was rejected is not from the user: a tool would be called once more for a mere correction.
        """
        for message in reversed(self.messages):
            if isinstance(message, UserMessage) and not message.content.startswith(REJECTED):
                return False
            if isinstance(message, ToolMessage):
                return True
        return False


_ABOUT_TOOLS = frozenset({"tool_choice", "parallel_tool_calls"})


def is_forced(choice: Any) -> bool:
    """Return whether a ``tool_choice`` makes the model call a tool."""
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    return kind not in (None, "auto", "none")
