"""The messages that go through the mailboxes of a model."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import railtracks as rt
from railtracks.state import MemoryStore, Status
from railtracks.state._serialization._record_text import loads
from tests.durability.model.answers import first_number


def messages_taken(records: Iterable[Any]) -> set[int]:
    """Return the numbers of the messages that calls have taken, as their records say."""
    waits = [each for each in records if each.name in ("ask", "receive") and each.status is Status.COMPLETED]
    return {first_number(each.output) for each in waits}


class Mail:
    """The messages that went through the mailboxes of a store, by the number in each.

    Attributes:
        sent: The run that each was sent to.
        removed: Those that were removed from the mailbox.
        taken: Those that calls which are on record have taken.
        completed: The runs that have completed, which need none any more.
    """

    def __init__(self) -> None:
        self.sent: dict[int, str] = {}
        self.removed: set[int] = set()
        self.taken: set[int] = set()
        self.completed: set[str] = set()

    def copy(self) -> Mail:
        return copy.deepcopy(self)

    def note(self, store: MemoryStore) -> None:
        """Note what is on record."""
        for run in rt.state.list_runs(store):
            if run.status is Status.COMPLETED:
                self.completed.add(run.identifier)
            info = rt.state.load_run(run.identifier, store)
            self.taken |= messages_taken((*info.earlier, *info.records))

    def topics(self, store: MemoryStore) -> Iterator[tuple[str, str]]:
        """Yield the run and the topic of each message in the mailboxes of a store, or the question that it answers."""
        for run in set(self.sent.values()):
            for number in store.list_messages(run):
                content = store.read_message(run, number)
                assert content is not None
                yield run, loads(content)["topic"]

    def lost(self) -> list[int]:
        """Return the messages that were removed although no call has taken them, of runs that have not completed."""
        return sorted(each for each in self.removed - self.taken if self.sent[each] not in self.completed)
