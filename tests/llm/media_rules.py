"""What providers refuse of images, audio and documents: rules of the server, each with where it was seen."""

from __future__ import annotations

import re
from binascii import Error, a2b_base64
from collections.abc import Iterator, Mapping
from typing import Any

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_BEGINNINGS = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"RIFF": "image/webp"}
_DATA_URL = re.compile(r"data:([^;,]+);base64,(.*)", re.DOTALL)


def _content(base64: object) -> bytes | None:
    try:
        return a2b_base64(base64, strict_mode=True) or None  # type: ignore[arg-type]
    except (Error, TypeError, ValueError):
        return None


# ---- OpenAI's chat completions


def openai_parts(place: int, message: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the parts of a message."""
    role, content = message["role"], message.get("content")
    if content is None or isinstance(content, str):
        return
    if not content:
        yield f"Invalid 'messages[{place}].content': empty array. Expected an array with minimum length 1."
    for number, part in enumerate(content):
        kind, where = part["type"], f"messages[{place}].content[{number}]"
        # https://github.com/OpenHands/OpenHands/issues/7700, https://github.com/openai/openai-node/issues/1030
        if kind != "text" and role != "user":
            yield (
                f"Invalid 'messages[{place}]'. Image URLs are only allowed for messages with role 'user', but this "
                f"message with role '{role}' contains an image URL."
            )
        elif kind in _OPENAI_PARTS:
            yield from _OPENAI_PARTS[kind](where, part.get(kind))
        else:
            yield f"Invalid value: '{kind}'. Supported values are: 'text', 'image_url', 'input_audio', and 'file'."


def _openai_text(where: str, text: Any) -> Iterator[str]:
    if not isinstance(text, str):
        yield f"Invalid type for '{where}.text': expected a string."


def _openai_image(where: str, image: Any) -> Iterator[str]:
    url = image["url"]
    if url.startswith(("http://", "https://")):
        return
    # https://platform.openai.com/docs/guides/images-vision
    found = _DATA_URL.fullmatch(url)
    if found is None or _content(found[2]) is None:
        yield f"Invalid '{where}.image_url.url'. Expected a base64-encoded data URL with an image MIME type."
    elif found[1] not in _IMAGES:
        yield "You uploaded an unsupported image. Please make sure your image has one of: png, jpeg, gif, webp."


def _openai_audio(where: str, audio: Any) -> Iterator[str]:
    # https://developers.openai.com/api/docs/api-reference/chat
    if audio["format"] not in ("wav", "mp3"):
        yield f"Invalid value: '{audio['format']}'. Supported values are: 'wav' and 'mp3'. ({where})"
    # https://github.com/UKGovernmentBEIS/inspect_ai/pull/1512
    if _content(audio["data"]) is None:
        yield f"Invalid '{where}.input_audio.data'. Expected base64, and not a data URL."


def _openai_file(where: str, file: Any) -> Iterator[str]:
    # https://github.com/vercel/ai/issues/7266, https://github.com/pydantic/pydantic-ai/issues/4445
    found = _DATA_URL.fullmatch(file.get("file_data", ""))
    if found is None or _content(found[2]) is None or found[1] != "application/pdf":
        yield (
            f"Invalid file data: '{where}.file.file_data'. Expected a base64-encoded data URL with an application/pdf "
            f"MIME type"
        )
    if not file.get("filename"):
        yield f"Missing required parameter: '{where}.file.filename'."


_OPENAI_PARTS = {"text": _openai_text, "image_url": _openai_image, "input_audio": _openai_audio, "file": _openai_file}


# ---- OpenAI's responses


def responses_parts(where: str, content: Any) -> Iterator[str]:
    """What is wrong with the parts of a message, or of the output of a tool."""
    for part in content if isinstance(content, list) else ():
        if part["type"] == "input_image":
            yield from _openai_image(where, {"url": part["image_url"]})
        # https://developers.openai.com/api/docs/guides/file-inputs
        if part["type"] == "input_file" and "file_url" not in part:
            found = _DATA_URL.fullmatch(part.get("file_data", ""))
            if found is None or _content(found[2]) is None:
                yield f"Invalid '{where}.file_data'. Expected a base64-encoded data URL."
            if not part.get("filename"):
                yield f"Missing required parameter: '{where}.filename'."
        if part["type"] == "input_audio":
            yield f"Invalid value: 'input_audio'. ({where})"


# ---- Anthropic's messages


def anthropic_media(place: int, role: str, blocks: Any) -> Iterator[str]:
    """What is wrong with the images and documents in the blocks of a message, and in the results of tools."""
    for number, block in enumerate(blocks):
        where = f"messages.{place}.content.{number}"
        if block["type"] in ("image", "document") and role != "user":
            yield f"{where}: '{block['type']}' blocks are only allowed in user messages"
        if block["type"] in ("audio", "input_audio", "image_url", "file"):
            yield f"{where}: Input tag '{block['type']}' found using 'type' does not match any of the expected tags"
        if block["type"] == "image":
            yield from _anthropic_image(f"{where}.image.source", block["source"])
        if block["type"] == "document":
            yield from _anthropic_document(f"{where}.document.source", block["source"])
        if block["type"] == "tool_result" and not isinstance(block["content"], str):
            yield from _anthropic_result(place, where, block["content"])


def _anthropic_result(place: int, where: str, content: Any) -> Iterator[str]:
    # https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/implement-tool-use#handling-tool-use-and-tool-result-content-blocks
    for part in content:
        if part["type"] not in ("text", "image", "document", "search_result"):
            yield f"{where}.tool_result.content: Input tag '{part['type']}' does not match any of the expected tags"
        if part["type"] == "text" and not part["text"].strip():
            yield "messages: text content blocks must contain non-whitespace text"
    yield from anthropic_media(place, "user", content)


def _anthropic_image(where: str, source: Any) -> Iterator[str]:
    if source["type"] == "url":
        if not source["url"].startswith("https://"):
            yield f"{where}.url: Only HTTPS URLs are supported."
        return
    # https://github.com/anthropics/claude-code/issues/8184
    if source["media_type"] not in _IMAGES:
        yield f"{where}.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
    content = _content(source["data"])
    if content is None:
        yield f"{where}.base64: invalid base64 data"
        return
    # https://github.com/1jehuang/jcode/issues/465
    actual = next((kind for beginning, kind in _BEGINNINGS.items() if content.startswith(beginning)), None)
    if actual != source["media_type"]:
        yield f"{where}.base64: The image was specified using the {source['media_type']} media type, but is {actual}"
    # https://github.com/anthropics/claude-code/issues/10612, https://github.com/can1357/oh-my-pi/pull/10633
    if len(source["data"]) > 10 * 2**20:
        yield f"{where}.base64: image exceeds 10 MB maximum: {len(source['data'])} bytes > {10 * 2**20} bytes"


def _anthropic_document(where: str, source: Any) -> Iterator[str]:
    # https://docs.anthropic.com/en/docs/build-with-claude/pdf-support
    if source["type"] == "base64" and source["media_type"] != "application/pdf":
        yield f"{where}.base64.media_type: Input should be 'application/pdf'"
    if source["type"] == "base64" and not (_content(source["data"]) or b"").startswith(b"%PDF-"):
        yield f"{where}.base64.data: The PDF specified was not valid."
    if source["type"] == "text" and source["media_type"] != "text/plain":
        yield f"{where}.text.media_type: Input should be 'text/plain'"
    if source["type"] == "url" and not source["url"].startswith("https://"):
        yield f"{where}.url: Only HTTPS URLs are supported."
