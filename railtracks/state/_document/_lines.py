"""The lines of a damaged document that can be used, and what stands before its runs."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from operator import eq
from typing import Any, NamedTuple
from zlib import crc32

from railtracks.state._document._checksums import (
    RUNS_BEGIN,
    Checksums,
    find_cut_checksums,
    has_document_checksum,
    is_head_damaged,
    is_head_whole,
)
from railtracks.state._serialization._record_text import loads

Lines = Sequence[str | None]
"""Lines of one section of a document; None for those that are damaged."""


class Cut(NamedTuple):
    """What is known of the end of a document that is cut off."""

    may_lack_earlier: bool
    """Whether records of earlier attempts may have stood behind the cut."""
    is_checked: bool
    """Whether all that is used has its checksum."""
    is_prefix: bool
    """Whether nothing before the cut is damaged. Then all runs are whole but for the last one that has begun."""


def is_cut_off(content: bytes) -> bool:
    """Return whether this is the beginning of a document that has had checksums, up to its first call at least."""
    head, found, _ = content.partition(RUNS_BEGIN)
    if not found or not is_head_whole(head) or has_document_checksum(content):
        return False
    try:
        loads(content)
    except ValueError:
        return True
    return False  # someone has removed the checksums


def damaged_lines(content: bytes, checksums: Checksums) -> tuple[dict[str, Any], list[Lines]]:
    """Return the members before the runs of a damaged document, and its lines by their section."""
    head, _, _ = content.partition(RUNS_BEGIN)
    lines = _whole_lines(content[: checksums.end].split(b"\n"), [*checksums.runs, *checksums.earlier])
    place = len(checksums.runs)
    return {} if is_head_damaged(head) else _facts(head), [lines[:place], lines[place:]]


def cut_lines(content: bytes) -> tuple[dict[str, Any], list[Lines], Cut]:
    """Return the same of a document that is cut off, and what is known of its end."""
    head, _, _ = content.partition(RUNS_BEGIN)
    end, checksums, border = find_cut_checksums(content)
    lines = content[:end].split(b"\n")
    agree = len(checksums) <= len(lines) and all(map(eq, map(crc32, lines), checksums))
    if agree:
        texts: Lines = [line.decode("ascii", "replace") for line in lines]
    else:
        texts = _whole_lines(lines, checksums)
    if agree or border is None:
        border = next((at for at, line in enumerate(texts) if line and line.startswith('"earlier": [')), len(texts))
    place = border
    facts = _facts(head)
    is_complete = end < len(content) or any(line and line.startswith('"earlier_callers": [') for line in texts[place:])
    is_border_lost = place == len(texts) and None in texts  # perhaps a line that is damaged was the one that is sought
    may_lack_earlier = is_border_lost or (
        not is_complete and (place < len(texts) or facts.get("status") != "Completed")
    )
    return (
        facts,
        [texts[:place], texts[place:]],
        Cut(may_lack_earlier, not agree or len(checksums) == len(lines), agree and b"" not in lines),
    )


def _facts(head: bytes) -> dict[str, Any]:
    try:
        facts = loads(head + b"}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) and isinstance(facts.get("session_id"), str) else {}


def _whole_lines(lines: list[bytes], checksums: list[int]) -> list[str | None]:
    """Return the line for each checksum, or None where none has it.

    Damage may have joined or divided lines, so those behind it are found by their checksums.
    """
    found = list(map(crc32, lines))
    begin = _common(found, checksums)
    end = _common(found[begin:][::-1], checksums[begin:][::-1])
    whole: list[bytes | None] = [None] * len(checksums)
    whole[:begin] = lines[:begin]
    if end:
        whole[-end:] = lines[-end:]
    between = found[begin : len(found) - end], checksums[begin : len(checksums) - end]
    for at, to, size in SequenceMatcher(None, *between, autojunk=False).get_matching_blocks():
        whole[begin + to : begin + to + size] = lines[begin + at : begin + at + size]
    return [None if line is None else line.decode("ascii", "replace") for line in whole]


def _common(some: Sequence[int], other: Sequence[int]) -> int:
    """Return how many items two lists have in common at their beginning."""
    pairs = enumerate(zip(some, other))  # noqa: B905 (the shorter one counts)
    return next((place for place, (one, two) in pairs if one != two), min(len(some), len(other)))
