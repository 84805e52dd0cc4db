"""Identifiers of sessions, calls and top-level calls, and their safety as file names."""

from __future__ import annotations

import re
import zlib

WINDOWS_RESERVED = {"con", "prn", "aux", "nul", *(f"{dev}{n}" for dev in ("com", "lpt") for n in range(1, 10))}
MAX_IDENTIFIER = 128
"""The most characters of an identifier: with its endings and a temporary suffix it is a legal file name everywhere."""


def node_id(session_id: str, index: int) -> str:
    """Return the identifier of the ``index``-th call of a session, a node of its graph."""
    return f"{session_id}-n{index}"


def edge_id(session_id: str, index: int) -> str:
    """Return the identifier of the edge that leads to the ``index``-th call."""
    return f"{session_id}-e{index}"


def run_id(session_id: str, index: int) -> str:
    """Return the identifier of the tree of calls whose top-level call is the ``index``-th call."""
    return f"{session_id}-r{index}"


def index_of(identifier: str) -> int:
    """Return the index of the call in a node, edge or run identifier. Raises ValueError for another text."""
    return int(identifier.rpartition("-")[2][1:])


def explain_invalid_identifier(value: str) -> str | None:
    """Return why ``value`` is not a safe file name on every system; None if it is one."""
    if not value:
        return "it is empty"
    if len(value) > MAX_IDENTIFIER:
        return f"it has {len(value)} characters, more than {MAX_IDENTIFIER}"
    if bad := sorted({c for c in value if not (c.isascii() and (c.isalnum() or c in "._-"))}):
        return f"it contains {', '.join(map(repr, bad))}"
    if value[0] in ".-" or value[-1] == ".":
        return "it begins with '.' or '-', or ends with '.'"
    if value.split(".", maxsplit=1)[0].lower() in WINDOWS_RESERVED:
        return "it is a reserved device name"
    return None


def slug(name: str) -> str:
    """Return ``name`` if it is a safe file name, otherwise its safe characters and a digest."""
    if explain_invalid_identifier(name) is None:
        return name
    digest = f"{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"  # distinguishes names; not a secure hash
    safe = (
        re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[: MAX_IDENTIFIER - 9].rstrip("-")
    )  # no dots: `con.txt` is reserved
    return f"{safe or 'session'}-{digest}"
