"""The large values of a resumed run, read before its first call: reading them would hold up the event loop."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from railtracks._logging import SESSION, SessionLog
from railtracks.state import CallRecord, Status
from railtracks.state._serialization._large_values import Find, digests_in


class RecordedValues:
    """The large values of a run that may be needed to resume it.

    Args:
        find: Reads one from the store.
        records: The calls that may be replayed. Blocks.
    """

    def __init__(self, find: Find, records: Sequence[CallRecord]) -> None:
        self._find = find
        self._found: dict[str, bytes | str] = {}  # a text says why a value cannot be used
        for record in records:
            for text in _texts_to_restore(record):
                for digest in digests_in(text):
                    if digest not in self._found:
                        self._found[digest] = self._read(digest)

    def _read(self, digest: str) -> bytes | str:
        try:
            return self._find(digest)
        except ValueError as exc:
            return str(exc)

    def __call__(self, digest: str) -> bytes:
        """Return a value.

        Raises:
            ValueError: It cannot be used. The text says why, and follows "it".
        """
        found = self._found.get(digest)
        if found is None:
            return self._find(digest)
        if isinstance(found, str):
            raise ValueError(found)
        return found

    def warn(self, run_identifier: str, log: SessionLog) -> None:
        """Warn of values that cannot be used, as calls that returned them run again."""
        problems = Counter(problem for problem in self._found.values() if isinstance(problem, str))
        if problems:
            log.log(
                logging.WARNING, "The record of %s: it %s; calls that need such values run again", run_identifier,
                ", and it ".join(f"{problem} ({count})" for problem, count in problems.items()), logger=SESSION,
            )  # fmt: skip


def _texts_to_restore(record: CallRecord) -> list[str]:
    """Return the texts of which values are made: the results, changes of the context, and the arguments of the run."""
    texts = [text for change in record.changes or () for text in (change.value, change.types)]
    if record.status is Status.COMPLETED:
        texts.append(record.output)
    if record.parent is None:
        texts.append(record.inputs)
    return [text for text in texts if text is not None]


def digests_of(records: Sequence[CallRecord]) -> set[str]:
    """Return the digests of all large values to which records refer."""
    found: set[str] = set()
    for record in records:
        texts = [text for change in record.changes or () for text in (change.value, change.types)]
        for text in (record.inputs, record.output, *texts):
            if text is not None:
                found.update(digests_in(text))
    return found
