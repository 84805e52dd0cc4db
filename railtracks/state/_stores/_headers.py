"""What the beginning of a document or a journal says about its run."""

from __future__ import annotations

from typing import Any

from railtracks.exceptions import StateError
from railtracks.state._journal._reader import read_journal
from railtracks.state._serialization._record_text import loads

HEADER_BYTES = 65_536
"""The number of bytes at the beginning of a document that suffice to describe its run."""
_END = b', "runs": ['


def read_document_header(head: bytes) -> dict[str, Any]:
    """Return the members of a document that come before its runs; none if they cannot be read."""
    before, found, _ = head.partition(_END)
    try:
        facts = loads(before + b"}") if found else None
    except ValueError:
        facts = None
    return facts if isinstance(facts, dict) else {}


def read_journal_header(head: bytes) -> dict[str, Any]:
    """Return the members of a journal's header; none if it is damaged."""
    try:
        return read_journal(head).facts
    except StateError:
        return {}
