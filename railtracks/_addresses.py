"""Addresses that users give: whether they can be right, and how they are shown."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit


def http_address(value: object) -> SplitResult | None:
    """Return the parts of an address of HTTP; None if it is not one."""
    try:
        parts = urlsplit(str(value))
    except ValueError:  # such as "http://[::1"
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


def shown_address(value: object) -> str:
    """Return the ``repr`` of what was given as an address, for an error: without a name and password before an "@"."""
    return re.sub(r"[^/'\"]*@", "***@", repr(value))
