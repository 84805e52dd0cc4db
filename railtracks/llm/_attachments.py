"""Images, audio and documents that go along with the text of a message.

The content is held as base64: providers take it so, and so it goes to JSON. The ``repr`` is part of digests that are on
record, and short: the content stands in it as a digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import attrs

from railtracks.llm._media_types import is_textual, media_type_of, media_type_of_name, usual_name
from railtracks.llm._plain import Plain, from_plain
from railtracks.llm._sources import Source, content_of, decoded, shown
from railtracks.state._serialization._classify import OMITTED

_BEGINNING = 64
"""Characters of base64 in which a content says of what type it is."""


def _type_first(_: type, fields: list[Any]) -> list[Any]:
    return sorted(fields, key=lambda field: field.name != "type")


def _optional() -> Any:
    return attrs.field(default=None, kw_only=True, metadata={OMITTED: True})


@attrs.frozen(init=False, repr=False)
class _Attachment(Plain):
    """What ``Image``, ``Audio`` and ``Document`` have in common."""

    media_type: str | None = _optional()
    base64: str = attrs.field(default="", kw_only=True, metadata={OMITTED: True})
    url: str | None = _optional()
    name: str | None = _optional()

    _type: ClassVar[str]
    _families: ClassVar[tuple[str, ...]]
    """How the media types of the class begin."""
    _example: ClassVar[str]

    def __init__(
        self,
        source: Source | None = None,
        *,
        media_type: str | None = None,
        name: str | None = None,
        base64: str = "",
        url: str | None = None,
        type: str | None = None,
    ) -> None:
        owner = self.__class__.__name__
        if type not in (None, self._type):
            raise ValueError(f"the type is {type!r}; that of {owner} is {self._type!r}")
        found = content_of(owner, source, base64, url)
        name = found.name if name is None else name
        if found.url is not None:
            media_type = self._type_of_address(found.url, media_type)
        else:
            guessed = media_type or found.media_type or media_type_of(decoded(owner, found.base64[:_BEGINNING]), name)
            media_type = self._checked_type(guessed, name)
        self.__attrs_init__(media_type=media_type, base64=found.base64, url=found.url, name=name)
        if found.url is None and is_textual(str(media_type)):
            self._check_text()

    def _type_of_address(self, url: str, media_type: str | None) -> str | None:
        """Return the media type at an address. What the address seems to say counts only if it fits."""
        if media_type is not None:
            return self._checked_type(media_type, None)
        guessed = media_type_of_name(urlsplit(url).path)
        return guessed if guessed is not None and guessed.startswith(self._families) else None

    def _checked_type(self, media_type: object, name: str | None) -> str:
        owner, which = self.__class__.__name__, "it" if name is None else repr(name)
        if media_type is None:
            raise ValueError(
                f"{owner}: the type of {which} is not known; write {owner}(..., media_type={self._example!r}), or so"
            )
        if not isinstance(media_type, str) or "/" not in media_type:
            raise ValueError(f"{owner}: the media_type is {media_type!r}; expected one such as {self._example!r}")
        found = usual_name(media_type)
        if not found.startswith(self._families):
            others = [each.__name__ for each in (Image, Audio, Document) if found.startswith(each._families)]
            instead = "".join(f"; write rt.llm.{other}(...)" for other in others)
            raise ValueError(f"{owner}: {which} has the type {found}; expected one such as {self._example}{instead}")
        return found

    def _check_text(self) -> None:
        try:
            self.data.decode("utf-8")
        except UnicodeDecodeError as exc:
            which = "the content" if self.name is None else repr(self.name)
            raise ValueError(
                f"{self.__class__.__name__}: {which} has the type {self.media_type}, and is not in UTF-8 ({exc})"
            ) from exc

    @property
    def data(self) -> bytes:
        """The content; no bytes if there is only an address."""
        return decoded(self.__class__.__name__, self.base64) if self.base64 else b""

    @property
    def size(self) -> int:
        """The number of bytes of the content; 0 if there is only an address."""
        return len(self.base64) * 3 // 4 - self.base64[-2:].count("=")

    @property
    def data_url(self) -> str:
        """The content as a ``data:`` URL, or the address."""
        return self.url or f"data:{self.media_type};base64,{self.base64}"

    def __repr__(self) -> str:
        shown = {"url": self.url, "media_type": self.media_type, "name": self.name}
        parts = [f"{label}={value!r}" for label, value in shown.items() if value is not None]
        if self.base64:
            digest = hashlib.blake2b(self.base64.encode("ascii"), digest_size=8).hexdigest()
            parts += [f"size={self.size}", f"digest={digest!r}"]
        return f"{self.__class__.__name__}({', '.join(parts)})"

    def __str__(self) -> str:
        size = f"{self.size} bytes" if self.size < 10_000 else f"{self.size // 1000} kB"
        about = [self.name, self.url, self.media_type, size if self.base64 else None]
        return f"[{self._type}: {', '.join(part for part in about if part)}]"


@attrs.frozen(init=False, repr=False, field_transformer=_type_first)
class Image(_Attachment):
    """An image for a model: ``rt.llm.UserMessage("What is this?", attachments=[rt.llm.Image("photo.png")])``.

    A file is read at once, so that the record of a run has what was sent. To keep a large one from holding up an event
    loop, write ``await anyio.to_thread.run_sync(rt.llm.Image, path)``. What is at an address is read by the provider.

    Args:
        source: The path of a file, bytes, or an address that begins with https://, http:// or data:.
        media_type: What it is, such as "image/png". None: as the content says by how it begins, or else its name.
        name: Its name, for the model. None: that of the file.
        base64: In place of ``source``: the content in base64.
        url: In place of ``source``: the address.

    Attributes:
        type: "image".
        media_type: Its media type; None if it has an address that does not say it.
        base64: The content in base64; "" if there is only an address.
        url: The address.
        name: The name.

    Raises:
        ValueError: There is nothing in it, or its media type is not known, or not that of an image.
        OSError: The file cannot be read.
    """

    type: Literal["image"] = attrs.field(default="image", kw_only=True)

    _type = "image"
    _families = ("image/",)
    _example = "image/png"


@attrs.frozen(init=False, repr=False, field_transformer=_type_first)
class Audio(_Attachment):
    """A recording for a model, such as "audio/wav" or "audio/mpeg". The arguments are those of :class:`Image`."""

    type: Literal["audio"] = attrs.field(default="audio", kw_only=True)

    _type = "audio"
    _families = ("audio/",)
    _example = "audio/wav"


@attrs.frozen(init=False, repr=False, field_transformer=_type_first)
class Document(_Attachment):
    """A document for a model: a PDF, or a text in UTF-8. The arguments are those of :class:`Image`."""

    type: Literal["document"] = attrs.field(default="document", kw_only=True)

    _type = "document"
    _families = ("application/", "text/")
    _example = "application/pdf"


Attachment = Image | Audio | Document
ATTACHMENT_TYPES: dict[str, type[Attachment]] = {"image": Image, "audio": Audio, "document": Document}


def read_attachment(value: object) -> Attachment:
    """Return an attachment that may have been written as plain data.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, Attachment):
        return value
    kind = ATTACHMENT_TYPES.get(str(value.get("type"))) if isinstance(value, dict) else None
    if kind is None:
        raise ValueError(
            f"{shown(value)} cannot be attached to a message; expected an rt.llm.Image(...), rt.llm.Audio(...) or "
            f"rt.llm.Document(...)"
        )
    found: Attachment = from_plain(value, kind)
    return found


def as_attachments(values: Iterable[_Attachment]) -> tuple[Attachment, ...]:
    """Return attachments as a tuple. The argument of messages, which errors name."""
    if values == ():  # as of most messages
        return ()
    if isinstance(values, Attachment) or not isinstance(values, Iterable):
        raise ValueError(f"attachments is {shown(values)}; expected a list: attachments=[rt.llm.Image(...)]")
    return tuple(map(read_attachment, values))
