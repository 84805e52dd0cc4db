"""What is stored in rows of SQLite is cut into parts; those of a journal are compressed where that is worth it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from railtracks.exceptions import StateError
from railtracks.state._document._compression import compress_block, decompress, is_compressed

PART = 4 << 20
"""The number of bytes in one row, about. SQLite allows at most 1,000,000,000, and reads a row as a whole."""
COMPRESSED_BEYOND = 4_096
"""The number of bytes of a part of a journal from which on it is compressed: one page of the file."""


def in_parts(content: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what is stored in parts of about ``PART`` bytes, each of whole pieces where these are not larger."""
    waiting: list[bytes] = []
    size = 0
    for piece in content:
        for start in range(0, len(piece), PART):
            waiting.append(piece[start : start + PART])
            size += len(waiting[-1])
            if size >= PART:
                yield b"".join(waiting)
                waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def compress_part(part: bytes) -> bytes:
    """Return a part of a journal as it is stored: compressed if it is large, or could be taken for compressed."""
    return compress_block(part) if len(part) > COMPRESSED_BEYOND or is_compressed(part) else part


def decompress_part(stored: bytes) -> bytes:
    """Return a part of a journal. What is damaged comes as it is stored, which the reader of the journal notices."""
    if not is_compressed(stored):
        return stored
    try:
        return b"".join(decompress(stored))
    except StateError:
        return stored


def joined(parts: Sequence[bytes]) -> bytes | None:
    """Return the parts as one; None if there are none."""
    return None if not parts else parts[0] if len(parts) == 1 else b"".join(parts)
