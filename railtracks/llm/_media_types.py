"""The media types of contents: by how they begin, or by the name of the file."""

from __future__ import annotations

from pathlib import PurePosixPath

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\xff\xf2", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
)
_CONTAINERS = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
"""What stands in a RIFF file from its eighth byte on."""
_ENDINGS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
    ".m4a": "audio/mp4",
    ".pdf": "application/pdf",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".html": "text/html",
    ".xml": "text/xml",
    ".json": "application/json",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
"""The same on all systems, and in all releases of Python, for which ``mimetypes`` differs."""
_OTHER_NAMES = {
    "image/jpg": "image/jpeg",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "application/x-pdf": "application/pdf",
    "application/x-yaml": "application/yaml",
}
_TEXTUAL = frozenset({"application/json", "application/xml", "application/yaml", "application/javascript"})


def usual_name(media_type: str) -> str:
    """Return a media type in small letters, without parameters, and under the name that providers know."""
    plain = media_type.partition(";")[0].strip().lower()
    return _OTHER_NAMES.get(plain, plain)


def media_type_of(content: bytes, name: str | None) -> str | None:
    """Return the media type of a content; None if it is not known.

    How it begins counts for more than the name: providers refuse an image under a wrong type.

    Args:
        content: Its first bytes.
        name: The name of its file; None if it has none.
    """
    if content[:4] == b"RIFF" and content[8:12] in _CONTAINERS:
        return _CONTAINERS[content[8:12]]
    found = next((media_type for beginning, media_type in _BEGINNINGS if content.startswith(beginning)), None)
    return found or (None if name is None else media_type_of_name(name))


def media_type_of_name(name: str) -> str | None:
    """Return the media type of a file with this name; None if it is not known."""
    if (found := _ENDINGS.get(PurePosixPath(name).suffix.lower())) is not None:
        return found
    from mimetypes import MimeTypes  # here: importing it takes long, and few files have other names

    guessed = MimeTypes().guess_type(name, strict=False)[0]
    return None if guessed is None else usual_name(guessed)


def is_textual(media_type: str) -> bool:
    """Return whether a content of this type is a text."""
    return media_type.startswith("text/") or media_type in _TEXTUAL or media_type.endswith(("+json", "+xml"))
