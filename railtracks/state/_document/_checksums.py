"""The checksums of a document: how they are written, and how they are checked before anything else is read.

A document has three kinds, all of them CRC-32 in eight hexadecimal digits:

    {"version": 5, ..., "checksum": "...", "runs": [{..., "nodes": [{...},
    {...}],
    "edges": [{...},
    {...}],
    "steps": [...]}], "checksums": {"runs": "...", "earlier": "...", "document": "..."}}

``checksum`` is that of all that stands before it, so the head can be checked alone. ``document`` is that of the whole
text before it, so a document that is whole is recognised at once. ``runs`` and ``earlier`` have one for each line, and
a line has at most one node or edge: what is damaged costs no more than that (``_salvage.py``).

The module knows bytes only. It neither parses the document nor keeps it.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple
from zlib import crc32

RUNS_BEGIN = b', "runs": ['
EARLIER_BEGINS = b'"earlier": ['
_HEAD_CHECKSUM = re.compile(rb'(.*), "checksum": "([^"]*)"', re.DOTALL)
_CHECKSUMS_BEGIN = b', "checksums": {"runs": "'
_CHECKSUMS = re.compile(
    rb', "checksums": \{"runs": "([^"]*)", "earlier": "([^"]*)", "document": "([^"]*)"\}\}\s*', re.DOTALL
)
_DOCUMENT_CHECKSUM = re.compile(rb', "document": "([^"]*)"\}\}\s*$')
_TAIL = 256
"""The number of bytes at the end of a document in which its checksum stands."""
_DIGITS = 8


class Checksums(NamedTuple):
    """The checksums that a document has at its end."""

    end: int
    """The offset at which the part that they cover line by line ends."""
    runs: list[int]
    """One for each line up to the end of the runs."""
    earlier: list[int]
    """One for each line of the runs of the session that this one resumed."""
    is_whole: bool
    """Whether the text is the one that was written."""


def with_checksums(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a document with its checksums.

    Args:
        pieces: The document. The first piece reaches to the beginning of the runs at least, the last one is not empty,
            and ``EARLIER_BEGINS`` lies within one piece.
    """
    pieces = iter(pieces)
    head, found, rest = next(pieces, b"").partition(RUNS_BEGIN)
    checksum = b', "checksum": "%08x"' % crc32(head) if found else b""
    sums = _LineSums()
    held = head + checksum + found + rest
    for piece in pieces:
        yield sums.add(held)
        held = piece
    yield sums.add(held[:-1])  # without the brace, behind which nothing may follow
    yield sums.add_text(_CHECKSUMS_BEGIN)
    runs, earlier = sums.sections()
    yield from map(sums.add_text, chain(_digits(runs), [b'", "earlier": "'], _digits(earlier), [b'"']))
    yield b', "document": "%08x"}}' % sums.total


class _LineSums:
    """The checksums of a text that comes in pieces: of each line, and of all of it.

    Attributes:
        total: The checksum of all that was added.
    """

    def __init__(self) -> None:
        self.total = 0
        self._lines = array("I")
        self._line = 0  # the checksum of the line that has not ended yet
        self._earlier: int | None = None  # the number of the line with which the earlier runs begin

    def add(self, piece: bytes) -> bytes:
        """Add a piece of lines, and return it."""
        earlier = piece.find(b"\n" + EARLIER_BEGINS)
        if earlier >= 0:
            self._earlier = len(self._lines) + piece.count(b"\n", 0, earlier) + 1
        first, *others = piece.split(b"\n")
        self._line = crc32(first, self._line)
        if others:
            self._lines.append(self._line)
            self._line = crc32(others.pop())
            self._lines.extend(map(crc32, others))
        return self.add_text(piece)

    def add_text(self, text: bytes) -> bytes:
        """Add a text that is not part of the lines, and return it."""
        self.total = crc32(text, self.total)
        return text

    def sections(self) -> tuple[array[int], array[int]]:
        """Return the checksums of the lines of the runs, and of those of the earlier runs. No more lines follow."""
        self._lines.append(self._line)
        place = len(self._lines) if self._earlier is None else self._earlier
        return self._lines[:place], self._lines[place:]


def _digits(checksums: array[int]) -> Iterator[bytes]:
    """Yield checksums as hexadecimal digits, in pieces."""
    for start in range(0, len(checksums), 4096):
        part = checksums[start : start + 4096]
        if sys.byteorder == "little":
            part.byteswap()
        yield part.tobytes().hex().encode()


class CheckedPieces:
    """The pieces of a document, whose checksum is compared with the one at its end while they pass by.

    Args:
        pieces: The document.

    Attributes:
        is_whole: Whether the text is the one that was written, once all pieces were taken; None if no checksum stands
            at its end.
    """

    def __init__(self, pieces: Iterable[bytes | memoryview]) -> None:
        self._pieces = pieces
        self.is_whole: bool | None = None

    def __iter__(self) -> Iterator[bytes | memoryview]:
        total, tail = 0, b""
        for piece in self._pieces:
            yield piece
            if len(piece) >= _TAIL:
                total, tail = crc32(tail, total), b""
                total, tail = crc32(piece[:-_TAIL], total), bytes(piece[-_TAIL:])
            else:
                tail += bytes(piece)
                total, tail = crc32(tail[:-_TAIL], total), tail[-_TAIL:]
        found = _DOCUMENT_CHECKSUM.search(tail)
        if found is not None:
            self.is_whole = found[1] == b"%08x" % crc32(tail[: found.start()], total)


def find_checksums(content: bytes) -> Checksums | None:
    """Return the checksums of a document; None if it has none, or they are too damaged to be found."""
    end = content.rfind(_CHECKSUMS_BEGIN)
    found = None if end < 0 else _CHECKSUMS.fullmatch(content, end)
    if found is None:
        return None
    before = memoryview(content)[: found.end(2) + 1]
    return Checksums(end, _numbers(found[1]), _numbers(found[2]), found[3] == b"%08x" % crc32(before))


def has_document_checksum(content: bytes) -> bool:
    """Return whether a document ends as one does that is not cut off."""
    return _DOCUMENT_CHECKSUM.search(content[-_TAIL:]) is not None


def find_cut_checksums(content: bytes) -> tuple[int, list[int], int | None]:
    """Return what is left of the checksums of a document that is cut off.

    Returns:
        The offset at which the part that they cover line by line ends; those of the first lines; and how many of these
        are of the runs, before those of earlier attempts. None if that is not known.
    """
    end = content.rfind(_CHECKSUMS_BEGIN)
    if end < 0:
        return len(content), [], None
    runs, border, rest = content[end + len(_CHECKSUMS_BEGIN) :].partition(b'", "earlier": "')
    of_runs, of_earlier = (
        [number for number in _numbers(part) if number >= 0] for part in (runs, rest.partition(b'"')[0])
    )
    return end, [*of_runs, *of_earlier], len(of_runs) if border else None


def _numbers(digits: bytes) -> list[int]:
    """Return what :func:`_digits` wrote. What is damaged becomes -1, which no line has."""
    return [_number(digits[start : start + _DIGITS]) for start in range(0, len(digits), _DIGITS)]


def _number(digits: bytes) -> int:
    return int(digits, 16) if re.fullmatch(rb"[0-9a-f]{8}", digits) else -1


def is_head_damaged(head: bytes) -> bool:
    """Return whether the members before the runs have another checksum than theirs.

    Args:
        head: What stands before the runs. That of older versions, and of documents that were not saved, has none.
    """
    found = _HEAD_CHECKSUM.fullmatch(head)
    return found is not None and found[2] != b"%08x" % crc32(found[1])


def is_head_whole(head: bytes) -> bool:
    """Return whether the members before the runs have a checksum, and it is theirs."""
    return _HEAD_CHECKSUM.fullmatch(head) is not None and not is_head_damaged(head)
