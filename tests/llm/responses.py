"""OpenAI's Responses API, as the server speaks it: https://platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.llm.server import Answer

_CUT = {"max_output_tokens", "content_filter"}


def whole(answer: Answer) -> dict[str, Any]:
    from tests.llm.server import _patched

    reason = answer.finish if answer.finish in _CUT else None
    status = "incomplete" if reason else answer.finish if isinstance(answer.finish, str) else "completed"
    head = {
        "id": "answer-1", "object": "response", "created_at": 1, "model": "served-model", "status": status,
        "error": None, "incomplete_details": {"reason": reason} if reason else None, "metadata": {},
        "instructions": None, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    return _patched(head | {"output": _items(answer), "usage": _usage(answer)}, answer.fields)


def _usage(answer: Answer) -> dict[str, Any] | None:
    if answer.usage is None:
        return None
    given, made = answer.usage
    counted = {
        "input_tokens": given, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": given + made,
    }  # fmt: skip
    return counted | answer.details


def _items(answer: Answer) -> list[dict[str, Any]]:
    from tests.llm.server import _patched, call_id

    items: list[dict[str, Any]] = [*answer.items]
    if answer.thinking:
        items.append(reasoning(answer.thinking))
    parts: list[dict[str, Any]] = []
    if answer.text:
        parts.append({"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []})
    if answer.refusal:
        parts.append({"type": "refusal", "refusal": answer.refusal})
    if parts:
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": parts}
        items.append(message)
    for n, call in enumerate(answer.calls):
        head = {"type": "function_call", "id": f"fc_{n}", "call_id": call_id(call, n), "status": "completed"}
        items.append(_patched(head | {"name": call.name, "arguments": call.json}, call.extra))
    return items


def reasoning(text: str, identifier: str = "rs_1") -> dict[str, Any]:
    """The item of what a model thinks: the paragraphs of ``text`` are the parts of the summary."""
    summary = [{"type": "summary_text", "text": each} for each in text.split("\n\n")]
    return {"type": "reasoning", "id": identifier, "summary": summary, "encrypted_content": f"sealed-{identifier}"}


def events(answer: Answer) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(_events(answer)):
        yield event | {"sequence_number": number}


def _events(answer: Answer) -> Iterator[dict[str, Any]]:
    from tests.llm.server import _words

    final = whole(answer)
    yield {"type": "response.created", "response": final | {"status": "in_progress", "output": [], "usage": None}}
    for place, item in enumerate(final.get("output", ())):
        at = {"output_index": place, "item_id": item.get("id", "")}
        yield {"type": "response.output_item.added", "output_index": place, "item": {**item, "status": "in_progress"}}
        for number, part in enumerate(item.get("summary") or ()):
            for word in _words(part["text"]):
                yield {"type": "response.reasoning_summary_text.delta", **at, "summary_index": number, "delta": word}
        for number, part in enumerate(item.get("content") or ()):
            kind = part["type"]
            for word in _words(part.get("text") or part.get("refusal") or ""):
                yield {"type": f"response.{kind}.delta", **at, "content_index": number, "delta": word}
        if item["type"] == "function_call":
            for half in (item["arguments"][:5], item["arguments"][5:]):
                yield {"type": "response.function_call_arguments.delta", **at, "delta": half}
        yield {"type": "response.output_item.done", "output_index": place, "item": item}
    if answer.event is not None:
        yield answer.event
        return
    kind = {"incomplete": "incomplete", "failed": "failed"}.get(str(final.get("status")), "completed")
    yield {"type": f"response.{kind}", "response": final}
