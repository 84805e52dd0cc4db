"""Attachments as providers take them: which ones, and in OpenAI's format.

What a provider is known to refuse is not sent. Of a server that is not known
nobody can say what it takes; it refuses by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from railtracks.llm._attachments import Attachment
from railtracks.llm._media_types import is_textual

_IMAGES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
_PDF = frozenset({"application/pdf"})
_ANY: frozenset[str] = frozenset()
_MIB = 1024 * 1024


@attrs.frozen(kw_only=True)
class AttachmentRules:
    """Which attachments a provider takes.

    Args:
        types: The media types, by the types of attachments that it takes; none there stands for any. Documents that are
            texts go as texts, and so are always among them.
        by_address: The types of attachments that may be an address.
        schemes: How the addresses may begin.
        largest: The characters of base64 that it takes, by the types of attachments that have a limit.
    """

    types: Mapping[str, frozenset[str]]
    by_address: frozenset[str]
    schemes: tuple[str, ...] = ("https:", "http:")
    largest: Mapping[str, int] = attrs.field(factory=dict)

    def problem_with(self, attachment: Attachment) -> str | None:
        """Return why the provider does not take an attachment; None if it does."""
        kind, media_type = attachment.type, attachment.media_type
        if kind not in self.types:
            return f"its provider does not take the type {kind!r}, only {_listed(self.types)}"
        is_text = media_type is not None and is_textual(media_type)
        if attachment.url is not None and (is_text or kind not in self.by_address):
            return "its provider does not read it at an address; pass the content, or the path of a file"
        if attachment.url is not None and not attachment.url.startswith(self.schemes):
            return "its provider reads addresses that begin with https:// only; use one, or pass the content"
        allowed, largest = self.types[kind], self.largest.get(kind)
        if allowed and media_type is not None and not is_text and media_type not in allowed:
            texts = ", and texts" if kind == "document" else ""
            return f"its provider takes {_listed(sorted(allowed))}{texts}; convert it"
        if largest is not None and len(attachment.base64) > largest:
            return (
                f"in base64 it has {len(attachment.base64)} characters; its provider takes {largest}: make it smaller"
            )
        return None


# https://developers.openai.com/api/docs/guides/file-inputs, https://github.com/vercel/ai/issues/7266,
# https://platform.openai.com/docs/guides/images-vision#image-input-requirements
OPENAI_ATTACHMENTS = AttachmentRules(
    types={"image": _IMAGES, "audio": frozenset({"audio/mpeg", "audio/wav"}), "document": _PDF},
    by_address=frozenset({"image"}),
    largest=dict.fromkeys(("image", "audio", "document"), 50 * _MIB),
)
# https://platform.claude.com/docs/en/build-with-claude/vision, .../pdf-support
ANTHROPIC_ATTACHMENTS = AttachmentRules(
    types={"image": _IMAGES, "document": _PDF},
    by_address=frozenset({"image", "document"}),
    schemes=("https:",),
    largest={"image": 10 * _MIB, "document": 32 * _MIB},
)
# https://developers.openai.com/api/docs/guides/file-inputs: all kinds of documents, but no audio
RESPONSES_ATTACHMENTS = AttachmentRules(
    types={"image": _IMAGES, "document": _ANY},
    by_address=frozenset({"image", "document"}),
    largest=dict.fromkeys(("image", "document"), 50 * _MIB),
)
OTHER_ATTACHMENTS = AttachmentRules(
    types=dict.fromkeys(("image", "audio", "document"), _ANY), by_address=frozenset({"image", "document"})
)
"""Those of a server that is not known. The format has no place for the address of audio."""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def chat_parts(text: str, attachments: Iterable[Attachment]) -> list[dict[str, Any]]:
    """Return a text and attachments as the parts of a message in OpenAI's format."""
    return [*([{"type": "text", "text": text}] if text else []), *map(_chat_part, attachments)]


def _chat_part(attachment: Attachment) -> dict[str, Any]:
    if attachment.type == "image":
        return {"type": "image_url", "image_url": {"url": attachment.data_url}}
    if attachment.type == "audio":
        subtype = str(attachment.media_type).partition("/")[2]
        audio = {"data": attachment.base64, "format": "mp3" if subtype == "mpeg" else subtype}
        return {"type": "input_audio", "input_audio": audio}
    if (text := document_text(attachment)) is not None:
        return {"type": "text", "text": text}
    return {"type": "file", "file": {"filename": file_name(attachment), "file_data": attachment.data_url}}


def document_text(attachment: Attachment) -> str | None:
    """Return a document that is a text as it is sent in a text; None if it is none."""
    if not attachment.base64 or not is_textual(attachment.media_type or ""):
        return None
    name = "" if attachment.name is None else f" name={attachment.name!r}"
    return f"<document{name}>\n{attachment.data.decode('utf-8')}\n</document>"


def file_name(attachment: Attachment) -> str:
    """Return the name of a document; where it has none, one that fits a PDF, as the API demands one."""
    return attachment.name or "document.pdf"
