"""The arguments of ``agent_node``: their types, and checks of those that agents take for single calls, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal

import attrs

from railtracks._policies import PolicyOptions
from railtracks.agents._hand_off import HandOff
from railtracks.agents._spec import HistoryProcessor
from railtracks.agents._tools import ToolManifest, ToolNode
from railtracks.exceptions import NodeCreationError
from railtracks.llm._messages import SystemMessage
from railtracks.llm._model import Model, OutputMode, OutputSchema
from railtracks.llm._output import OUTPUT_MODES
from railtracks.llm._tool_schemas import output_schema as schema_of

ModelSource = Model | Sequence[Model] | None
"""A model, one for each attempt, or None for that of the session."""
SystemSource = str | SystemMessage | Callable[[], Any] | None
"""A system message, or what returns one."""


class AgentOptions(PolicyOptions, total=False):
    """The arguments of ``agent_node`` beside the model and the schema; see there."""

    output_mode: OutputMode | None
    system_message: SystemSource
    tool_nodes: Iterable[Callable[..., Any] | ToolNode | HandOff]
    max_tool_calls: int | None
    max_requests: int | None
    max_tokens: int | None
    max_cost: float | Decimal | None
    repairs: int
    tool_errors: Literal["model", "raise"]
    history_processors: Iterable[HistoryProcessor]
    input_guards: Iterable[Callable[..., Any]]
    output_guards: Iterable[Callable[..., Any]]
    manifest: ToolManifest | None
    key: str | None
    version: str | None
    memo: bool


def check_text(**texts: object) -> None:
    for label, value in texts.items():
        if value is not None and (not isinstance(value, str) or not value or not value.isprintable()):
            raise NodeCreationError(f"{label} is {value!r}; expected a text of one line that is not empty")


def check_tool_calls(max_tool_calls: object) -> None:
    if max_tool_calls is not None and (type(max_tool_calls) is not int or max_tool_calls < 0):
        raise NodeCreationError(f"max_tool_calls is {max_tool_calls!r}; expected an int that is not negative, or None")


def check_bounds(
    max_requests: object, max_tokens: object, repairs: object, tool_errors: object, processors: Any
) -> tuple[HistoryProcessor, ...]:
    for name, value in {"max_requests": max_requests, "max_tokens": max_tokens}.items():
        if value is not None and (type(value) is not int or value < 1):
            raise NodeCreationError(f"{name} is {value!r}; expected an int that is at least 1, or None for any number")
    if type(repairs) is not int or repairs < 0:
        raise NodeCreationError(f"repairs is {repairs!r}; expected an int that is not negative")
    if tool_errors not in ("model", "raise"):
        raise NodeCreationError(f"tool_errors is {tool_errors!r}; expected 'model' or 'raise'")
    found = tuple(processors) if isinstance(processors, Iterable) else (processors,)
    if not all(map(callable, found)):
        raise NodeCreationError(
            f"history_processors is {processors!r}; expected a list of functions of the list of messages"
        )
    return found


def output_of(schema: Any, mode: object) -> OutputSchema | None:
    if mode is not None and mode not in OUTPUT_MODES:
        raise NodeCreationError(f"output_mode is {mode!r}; expected 'native', 'tool' or 'prompted', or None")
    if schema is not None:
        return attrs.evolve(schema_of(schema), mode=mode)
    if mode is not None:
        raise NodeCreationError(f"output_mode is {mode!r}, and there is no output_schema; write output_schema=...")
    return None
