"""Where a call ran, as people see it."""

from __future__ import annotations

from socket import gethostname

from railtracks.state._records import CallRecord
from railtracks.state._serialization._record_text import loads

PLACE = "railtracks.worker"
"""The attribute of a call that ran in a worker: an object that says where, and what it printed there."""


def was_lost(record: CallRecord) -> bool:
    """Return whether nothing came back of a call that ran in a worker: the calls below are of another attempt then."""
    if record.attributes is None or PLACE not in record.attributes:
        return False
    found = loads(record.attributes).get(PLACE)
    return isinstance(found, dict) and found.get("lost") is True


def place_of(record: CallRecord) -> str | None:
    """Return where a call ran, such as "process 4711"; None if it was not in a worker."""
    if record.attributes is None or PLACE not in record.attributes:
        return None
    found = loads(record.attributes).get(PLACE)
    if not isinstance(found, dict) or not isinstance(found.get("place"), str):
        return None
    place: str = found["place"]
    process, host = found.get("process"), found.get("host")
    if isinstance(process, int):
        place += f" {process}" if place == "process" else f", process {process}"
    is_elsewhere = isinstance(host, str) and host != gethostname()
    return f"{place} on {host}" if is_elsewhere else place
