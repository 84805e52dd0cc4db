"""The digests of code on record, each written once for many calls.

The calls of a node usually have the same one, so it stands at the first of them, and again where it changes.
"""

from __future__ import annotations

from railtracks.state._records import CallRecord


class NodeCodes:
    """The digest of the latest call of each node in a journal or a document.

    Args:
        is_complete: Whether all calls from its beginning are counted. If not, the member is written for the first call
            of each node, whatever stands before.
    """

    __slots__ = ("_latest", "_unknown")

    def __init__(self, is_complete: bool = True) -> None:
        self._latest: dict[str | None, str | None] = {}
        self._unknown = None if is_complete else "(unknown)"

    def member_of(self, record: CallRecord) -> str | None:
        """Return the member to write for the next call: None if it has the digest of the latest call of its node."""
        if self._latest.get(record.node, self._unknown) == record.code:
            return None
        self._latest[record.node] = record.code
        return record.code or ""

    def code_of(self, node: str | None, member: str | None) -> str | None:
        """Return the digest of the next call.

        Args:
            node: Its node key.
            member: The member that was written for it, if there is one; "" if its digest is not known.
        """
        if member is not None:
            self._latest[node] = member or None
        return self._latest.get(node)
