"""The conversations of a run, taken from its records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from railtracks._calls._call import call
from railtracks._context_variable import on_replayed
from railtracks._identifiers import node_id
from railtracks.agents._guarded_records import kept_back
from railtracks.agents._hand_off import SPENT
from railtracks.agents._partials import partial_of_content
from railtracks.agents._requests import is_request
from railtracks.agents._response import Chunk, LLMResponse, chunks_of_answer, chunks_of_round
from railtracks.agents._sink import Gate, sink
from railtracks.llm._messages import Message, MessageHistory, ToolMessage
from railtracks.llm._model import Completion
from railtracks.nodes import FunctionNode
from railtracks.state import CallRecord, ExecutionInfo
from railtracks.state._call_tree import CallTree
from railtracks.state._serialization._structuring import structure_as


def message_histories(info: ExecutionInfo) -> dict[str, MessageHistory]:
    """Return the conversation of each agent by the node identifier of its call, in the order of the calls.

    That of an agent that failed, was cancelled or still runs goes as far as is recorded.
    """
    calls = CallTree(info.records)
    return {
        node_id(info.session_id, record.index): _history(record, calls.children(record))
        for record in info.records
        if record.node_type == "Agent"
    }


def replayed_chunks(session_id: str, records: Sequence[CallRecord]) -> Iterator[Chunk]:
    """Yield the chunks of agents in calls that were replayed: the first of the records, and all calls below it.

    Also those of an agent whose result was cached, which has no calls below it.
    """
    calls = {record.index: record for record in records}
    last = {record.parent: record for record in records if is_request(record)}  # the last request of each agent
    answered: set[int] = set()  # calls of agents of which an answer was found
    hidden = kept_back(records)
    for record in records:
        if record.index in hidden.calls and SPENT not in record.kwargs:
            continue
        if record.policy is not None and record.policy.cached and record.node_type == "Agent":
            content, node = _content(record.result), node_id(session_id, record.index)
            if isinstance(content, str) and content:
                yield Chunk(content, record.name, node)
            yield from partial_of_content(content, record.name, node)
        parent = calls.get(-1 if record.parent is None else record.parent)
        if parent is None:
            continue
        agent, node = parent.name, node_id(session_id, parent.index)
        if SPENT in record.kwargs:  # another agent goes on: what it was given ends with the last round of this one
            given = _coerce(MessageHistory, record.args[0])
            yield from chunks_of_round(reversed([*takewhile(_is_answer, reversed(given))]), agent, node)
        if not is_request(record):
            continue
        if parent.index in answered:
            yield from chunks_of_round(_coerce(MessageHistory, record.args[0]), agent, node)
        if record.result is not None:
            answered.add(parent.index)
            answer = _coerce(Completion, record.result).message
            if record.index not in hidden.texts:
                yield from chunks_of_answer(answer, agent, node)
            yield from chunks_of_round(answer.tool_calls, agent, node)
            is_end = record is last.get(parent.index) and not answer.tool_calls
            if is_end and parent.result is not None and parent.node_type == "Agent":
                yield from partial_of_content(_content(parent.result), agent, node)


async def call_through(gate: Gate | None, node: FunctionNode[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make a call whose chunks go to a gate, those of replayed calls, too. None: they go where they went."""
    if gate is None:
        return await call(node, *args, **kwargs)

    def keep(session_id: str, records: Sequence[CallRecord]) -> None:
        gate.keep(replayed_chunks(session_id, records))

    streamed, replayed = sink.set(gate), on_replayed.set(keep)
    try:
        return await call(node, *args, **kwargs)
    finally:
        on_replayed.reset(replayed)
        sink.reset(streamed)


def _history(record: CallRecord, below: Iterable[CallRecord]) -> MessageHistory:
    if isinstance(record.result, LLMResponse):
        return MessageHistory(record.result.message_history)
    history = MessageHistory()
    for request in below:
        if is_request(request):
            history += _coerce(MessageHistory, request.args[0])
            if request.result is not None:
                history.append(_coerce(Completion, request.result).message)
    return history


def _is_answer(message: Message) -> bool:
    return isinstance(message, ToolMessage)


def _content(response: Any) -> Any:
    return response.content if isinstance(response, LLMResponse) else structure_as(response, LLMResponse[Any]).content


def _coerce(kind: Any, value: Any) -> Any:
    """Return a recorded value as an instance of its class: in a run that was loaded, it is plain data."""
    return value if isinstance(value, kind) else structure_as(value, kind)
