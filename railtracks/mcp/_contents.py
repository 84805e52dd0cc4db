"""What a tool of an MCP server returns, as a value for code and for models; and what a node returns, for clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from railtracks._schema._lossless import NOT_JSON, json_in
from railtracks.llm._attachments import Attachment, Audio, Document, Image

_RESULT = "result"
"""The one member of the object in which servers wrap a result that is not an object."""


def value_of(result: Any, tool: Any) -> Any:
    """Return the value of a result: its structured content if it has some, else its text.

    With images, audio or PDFs it is a list of these and of the texts.

    Args:
        result: A ``CallToolResult`` of the SDK.
        tool: The ``Tool`` of the SDK that has returned it; None if the server does not list it.
    """
    others = [block for block in result.content if block.type != "text"]
    if result.structured_content is not None:
        value = _unwrapped(result.structured_content, result.content, tool)
        return [value, *map(_part, others)] if others else value
    parts = [_part(block) for block in result.content]
    texts = [part for part in parts if isinstance(part, str)]
    return "\n".join(texts) if len(texts) == len(parts) else parts


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


def _part(block: Any) -> str | Attachment:
    """Return a content block as a text, or as what can be attached to a message."""
    if block.type == "text":
        return str(block.text)
    if block.type == "resource":
        resource = block.resource
        text = getattr(resource, "text", None)
        return (
            text if isinstance(text, str) else _attachment("resource", resource.mime_type, resource.blob, resource.uri)
        )
    if block.type == "resource_link":
        return f"[resource {block.name}: {block.uri}]"
    return _attachment(block.type, block.mime_type, block.data)


def _attachment(kind: str, media_type: str | None, data: str, uri: object = None) -> str | Attachment:
    """Return data as an attachment; as a note where it is none, or not what it is said to be."""
    classes: list[type[Attachment]] = [Document] if media_type == "application/pdf" else [Image, Audio]
    for cls in classes if media_type is not None else ():
        try:
            return cls(base64=data, media_type=media_type, name=None if uri is None else str(uri).rpartition("/")[2])
        except ValueError:
            continue
    return _note(kind, media_type, data, uri)


def blocks_of(text: str, attachments: Iterable[Attachment]) -> list[Any]:
    """Return the content blocks of the SDK that have a text and attachments.

    Args:
        text: The text, with a note in place of each attachment.
        attachments: The attachments.
    """
    from mcp_types import TextContent

    return [TextContent(type="text", text=text), *map(_block, attachments)]


def _block(attachment: Attachment) -> Any:
    from mcp_types import AudioContent, BlobResourceContents, EmbeddedResource, ImageContent, ResourceLink

    media_type, name = attachment.media_type, attachment.name or attachment.type
    if attachment.url is not None:
        return ResourceLink(type="resource_link", name=name, uri=attachment.url, mime_type=media_type)
    if attachment.type == "image":
        return ImageContent(type="image", data=attachment.base64, mime_type=str(media_type))
    if attachment.type == "audio":
        return AudioContent(type="audio", data=attachment.base64, mime_type=str(media_type))
    contents = BlobResourceContents(uri=f"attachment:///{name}", mime_type=media_type, blob=attachment.base64)
    return EmbeddedResource(type="resource", resource=contents)


def _note(kind: str, media_type: str | None, data: str, uri: object = None) -> str:
    """Return what stands in place of data that no text can hold. ``data``: in base64."""
    size = len(data) * 3 // 4 - data[-2:].count("=")
    what = " ".join(str(each) for each in (kind, uri) if each is not None)
    return f"[{what}: {media_type or 'unknown type'}, {size:,} bytes]"
