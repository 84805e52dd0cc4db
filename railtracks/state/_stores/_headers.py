"""What the beginning of a document or a journal says about its run."""

from __future__ import annotations

from typing import Any

from railtracks.exceptions import StateError
from railtracks.state._document._checksums import RUNS_BEGIN, is_head_damaged
from railtracks.state._document._compression import beginning_of, is_compressed
from railtracks.state._document._writer import DOCUMENT_BEGINS
from railtracks.state._serialization._record_text import loads

HEADER_BYTES = 65_536
"""The number of bytes at the beginning of a document, compressed or not, that suffice to describe its run."""


def read_document_header(head: bytes) -> dict[str, Any]:
    """Return the members of a document that come before its runs; none if they cannot be read, or are damaged."""
    before, found, _ = beginning_of(head, HEADER_BYTES).partition(RUNS_BEGIN)
    try:
        facts = loads(before + b"}") if found and not is_head_damaged(before) else None
    except ValueError:
        facts = None
    return facts if isinstance(facts, dict) else {}


def begins_as_document(head: bytes) -> bool:
    """Return whether something begins as a document does, whole or not. What is compressed must have a whole begin."""
    begin = beginning_of(head, len(DOCUMENT_BEGINS))
    return begin == DOCUMENT_BEGINS if is_compressed(head) else DOCUMENT_BEGINS.startswith(begin)


def read_journal_header(head: bytes) -> dict[str, Any]:
    """Return the members of a journal's header; none if it is damaged."""
    from railtracks.state._journal._reader import read_facts  # here, as few programs read journals

    try:
        return read_facts(head)
    except StateError:
        return {}
