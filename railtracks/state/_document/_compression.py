"""Large documents are kept compressed, as gzip: in one file of the same name, known by its first bytes.

The text is compressed in blocks, each of which is a gzip member of its own. So damage costs the text of one block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from railtracks.exceptions import StateError

COMPRESSED_BEYOND = 1 << 20
"""The number of bytes from which on a document is compressed. Smaller ones can be read with any editor."""
_BLOCK = 1 << 20
"""The number of bytes of text in a block, at least."""
_BREAKS_OFF = "breaks off"
_GZIP_BEGINS = b"\x1f\x8b"
_GZIP = 31
"""For zlib: a window of 32 KiB, with the header and the end of gzip."""


def is_compressed(content: bytes) -> bool:
    """Return whether a document, or its beginning, is compressed."""
    return content.startswith(_GZIP_BEGINS)


def compress_large(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a document in pieces: compressed if it is large, or else as it is."""
    pieces = iter(pieces)
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size > COMPRESSED_BEYOND:
            break
    else:
        yield from waiting
        return
    for block in _in_blocks(waiting, pieces):
        yield compress_block(block)


def compress_block(block: bytes) -> bytes:
    """Return a text compressed, as a gzip member of its own."""
    from zlib import compress  # here, as few programs have that much to write

    return compress(block, 1, wbits=_GZIP)  # the fastest level; it takes less than making the text


def _in_blocks(*sources: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    size = 0
    for source in sources:
        for piece in source:
            parts.append(piece)
            size += len(piece)
            if size >= _BLOCK:
                yield b"".join(parts)
                parts, size = [], 0
    if parts:
        yield b"".join(parts)


def decompress(content: bytes) -> Iterator[bytes | memoryview]:
    """Yield the text of a document in pieces, whether it is compressed or not.

    Raises:
        StateError: What is compressed is damaged or breaks off.
    """
    view = memoryview(content)
    if not is_compressed(content):
        for start in range(0, len(view), _BLOCK):
            yield view[start : start + _BLOCK]
        return
    start = 0
    while start < len(content):
        if not content.startswith(_GZIP_BEGINS, start):
            raise StateError("this is not a state file: it is compressed, and followed by something else")
        member = _Member(content, start)
        yield from member
        if member.problem is not None:
            raise StateError(f"this is not a state file: it is compressed, and {member.problem}")
        start = member.end


def salvage(content: bytes, only_checked: bool = False) -> bytes:
    """Return what can be decompressed of a damaged document. Parts of it may be wrong: lines have checksums.

    Args:
        content: The document.
        only_checked: Leave out blocks that do not have their checksum, unless the document ends in one.
    """
    pieces: list[bytes] = []
    start = 0
    while start >= 0:
        member = _Member(content, start)
        found = [*member]
        if only_checked and member.problem not in (None, _BREAKS_OFF):
            found = [b"\n"]  # so that lines before and behind it are not joined
        pieces += found
        start = content.find(_GZIP_BEGINS, start + 1 if member.problem else member.end)
    return b"".join(pieces)


class _Member:
    """One block of compressed text, which is decompressed in pieces.

    Args:
        content: The document.
        start: The offset of the block.

    Attributes:
        problem: What is wrong with it, once all pieces were taken; None if it is whole.
        end: The offset behind it, if it is whole.
    """

    def __init__(self, content: bytes, start: int) -> None:
        self._content = memoryview(content)
        self.problem: str | None = None
        self.end: int = start

    def __iter__(self) -> Iterator[bytes]:
        from zlib import decompressobj, error  # here, as above

        decompressor, at = decompressobj(_GZIP), self.end
        try:
            while not decompressor.eof:
                source: bytes | memoryview = decompressor.unconsumed_tail
                if not source:
                    source, at = self._content[at : at + _BLOCK], at + _BLOCK
                if not source:
                    self.problem = _BREAKS_OFF
                    return
                if piece := decompressor.decompress(source, _BLOCK):
                    yield piece
        except error as exc:
            self.problem = f"damaged ({exc})"
            return
        self.end = min(at, len(self._content)) - len(decompressor.unused_data)


def beginning_of(head: bytes, size: int) -> bytes:
    """Return the beginning of a document's text.

    Args:
        head: The beginning of the document, which may be compressed.
        size: The number of bytes to return at most.
    """
    if not is_compressed(head):
        return head[:size]
    from zlib import decompressobj, error  # here, as above

    try:
        return decompressobj(_GZIP).decompress(head, size)
    except error:
        return b""
