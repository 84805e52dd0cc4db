"""What the beginning of a document or a journal tells of its run."""

from __future__ import annotations

from typing import Any

from railtracks.exceptions import StateError
from railtracks.state._journal._reader import read_journal
from railtracks.state._serialization._record_text import loads

HEADER_BYTES = 65_536
"""Bytes at the beginning of a document that tell what run it is of."""
_END = b', "runs": ['


def read_document_header(head: bytes) -> dict[str, Any]:
    """The members of a document that stand before its runs; none if that cannot be made out."""
    before, found, _ = head.partition(_END)
    try:
        facts = loads(before + b"}") if found else None
    except ValueError:
        facts = None
    return facts if isinstance(facts, dict) else {}


def read_journal_header(head: bytes) -> dict[str, Any]:
    """The members of a journal's header; none if it is damaged."""
    try:
        return read_journal(head).facts
    except StateError:
        return {}
