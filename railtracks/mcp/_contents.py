"""What a tool of an MCP server returns, as a value for code and for models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from railtracks._schema._lossless import NOT_JSON, json_in

_RESULT = "result"
"""The one member of the object in which servers wrap a result that is no object."""


def value_of(result: Any, tool: Any) -> Any:
    """Return the value of a result: its structured content if it has some, else its text.

    Args:
        result: A ``CallToolResult`` of the SDK.
        tool: The ``Tool`` of the SDK that has returned it; None if the server does not list it.
    """
    others = [block for block in result.content if block.type != "text"]
    if result.structured_content is not None:
        value = _unwrapped(result.structured_content, result.content, tool)
        return [value, *map(_part, others)] if others else value
    parts = [_part(block) for block in result.content]
    if all(isinstance(part, str) for part in parts):
        return "\n".join(parts)
    return parts


def text_of(result: Any) -> str:
    """Return a result as one text, as for an error."""
    return "\n".join(str(_part(block)) for block in result.content)


def _unwrapped(content: Any, blocks: Any, tool: Any) -> Any:
    """Return the result in a structured content that only wraps it, because it has to be an object."""
    if not isinstance(content, Mapping) or [*content] != [_RESULT]:
        return content
    value = content[_RESULT]
    schema = None if tool is None else tool.output_schema
    if isinstance(schema, Mapping):
        return value if [*schema.get("properties", ())] == [_RESULT] else content
    says_the_same = len(blocks) == 1 and blocks[0].type == "text" and _says(blocks[0].text, value)
    return value if says_the_same else content


def _says(text: str, value: Any) -> bool:
    said = json_in(text)
    return text == value if isinstance(value, str) else said is not NOT_JSON and bool(said == value)


def _part(block: Any) -> Any:
    """Return a content block as a text."""
    if block.type == "text":
        return block.text
    if block.type == "resource":
        resource = block.resource
        text = getattr(resource, "text", None)
        return text if isinstance(text, str) else _note("resource", resource.mime_type, resource.blob, resource.uri)
    if block.type == "resource_link":
        return f"[resource {block.name}: {block.uri}]"
    return _note(block.type, block.mime_type, block.data)


def _note(kind: str, media_type: str | None, data: str, uri: object = None) -> str:
    """Return what stands in place of data that no text can hold. ``data``: in base64."""
    size = len(data) * 3 // 4 - data[-2:].count("=")
    what = " ".join(str(each) for each in (kind, uri) if each is not None)
    return f"[{what}: {media_type or 'unknown type'}, {size:,} bytes]"
