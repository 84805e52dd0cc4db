"""The conversations of a run, from its records."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from railtracks._ids import node_id
from railtracks.agents._response import LLMResponse
from railtracks.llm._messages import MessageHistory
from railtracks.llm._model import Completion
from railtracks.state import CallRecord, ExecutionInfo
from railtracks.state._machine import Calls
from railtracks.state._typed import structured


def message_histories(info: ExecutionInfo) -> dict[str, MessageHistory]:
    """What each agent was given, said and was answered, by the identifier of its call, in the order of the calls.

    Of agents that failed, were cancelled or still run: as far as they came.
    """
    calls = Calls(info.records)
    return {
        node_id(info.session_id, record.index): _history(record, calls.below.get(record.index, ()))
        for record in info.records
        if record.node_type == "Agent"
    }


def _history(record: CallRecord, below: Iterable[CallRecord]) -> MessageHistory:
    if isinstance(record.result, LLMResponse):
        return MessageHistory(record.result.message_history)
    history = MessageHistory()
    for request in below:
        if request.name.startswith("chat ") and request.node_type == "Other":
            history += _as(MessageHistory, request.args[0])
            if request.result is not None:
                history.append(_as(Completion, request.result).message)
    return history


def _as(kind: Any, value: Any) -> Any:
    """What is not reused, but comes from a saved run, is plain data."""
    return value if isinstance(value, kind) else structured(value, kind)
