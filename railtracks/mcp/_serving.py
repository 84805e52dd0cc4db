"""One call of a tool of an MCP server: a run of a flow, whose outcome goes to the client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from railtracks._context_variable import current, on_replayed
from railtracks._flow import Flow
from railtracks._schema._arguments import ArgumentError
from railtracks.agents._response import LLMResponse
from railtracks.agents._results import as_message, as_text, error_text
from railtracks.agents._sink import sink
from railtracks.agents._tools import Tool
from railtracks.llm._attachments import Attachment
from railtracks.mcp._contents import blocks_of
from railtracks.mcp._progress import Progress
from railtracks.state import Broadcast
from railtracks.state._redaction._redactor import Redactor


async def run_tool(flow: Flow[..., Any], tool: Tool, arguments: Mapping[str, Any], context: Any) -> Any:
    """Run a flow with what a client sent, and return a ``CallToolResult`` of the SDK.

    Args:
        flow: The flow.
        tool: Its description as a tool.
        arguments: What the client sent.
        context: The ``ServerRequestContext`` of the SDK.

    Cancellation: Cancels the run.
    """
    try:
        args, kwargs = tool.bind(dict(arguments))
    except ArgumentError as exc:
        return _result(f"{tool.schema.name} was not run: {exc}", is_error=True)
    with _apart():
        return await _run(flow, args, kwargs, context)


async def _run(flow: Flow[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Any) -> Any:
    session = flow._session()
    redactor = session._coordinator.redactor
    session.subscribe(_Reporter(context, redactor).report, name="mcp progress", kinds=(Broadcast,), policy="wait")
    try:
        value = await flow.connect()._run(session, *args, **kwargs)
    except Exception as exc:
        return _result(error_text(exc, redactor), is_error=True)
    text, attachments = as_message(value)
    content = value.content if isinstance(value, LLMResponse) else value
    if attachments:
        return _result(text, attachments=attachments)
    if isinstance(content, str):
        return _result(text)
    from json import loads  # here, because importing it takes time

    data = loads(text)
    return _result(text, data if isinstance(data, dict) else {"result": data})


@contextmanager
def _apart() -> Iterator[None]:
    """Run the block outside of sessions: a client in this process may call from within one, in its own task."""
    variables: list[ContextVar[Any]] = [current, on_replayed, sink]
    tokens = [variable.set(None) for variable in variables]
    try:
        yield
    finally:
        for variable, token in zip(variables, tokens, strict=True):
            variable.reset(token)


def _result(
    text: str,
    structured: dict[str, Any] | None = None,
    is_error: bool = False,
    attachments: Sequence[Attachment] = (),
) -> Any:
    from mcp_types import CallToolResult

    return CallToolResult(content=blocks_of(text, attachments), structured_content=structured, is_error=is_error)


class _Reporter:
    """Sends what a run broadcasts to the client, as progress, which has to grow with each report.

    Args:
        context: The ``ServerRequestContext`` of the SDK.
        redactor: The secrets of the session.
    """

    def __init__(self, context: Any, redactor: Redactor) -> None:
        self._context, self._redactor = context, redactor
        self._last = 0.0

    async def report(self, event: Broadcast) -> None:
        item = event.item
        progress, total, message = self._last + 1, None, None
        if not isinstance(item, Progress):
            message = as_text(item)
        else:
            message = item.message
            if item.progress > self._last:
                progress, total = item.progress, item.total
        self._last = progress
        clean = None if message is None else self._redactor.redact(message)
        await self._context.session.report_progress(progress, total, clean)
