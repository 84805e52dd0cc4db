"""The store of a model, to which a process writes until it is killed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from railtracks.state import MemoryStore
from tests.durability.model.answers import first_number
from tests.durability.model.world import DisturbedWorld


class DyingStore(MemoryStore):
    """A store to which a process writes until it is killed.

    Args:
        world: Kills the process.
        before: What an earlier process has left.
    """

    def __init__(self, world: DisturbedWorld, before: MemoryStore | None = None) -> None:
        super().__init__()
        self._world = world
        if before is not None:
            for identifier, stored in before.contents().items():  # type: ignore[attr-defined]
                if stored.document is not None:
                    MemoryStore.save(self, identifier, [stored.document])
                if stored.journal is not None:
                    MemoryStore.open(self, identifier, stored.journal)
            self._numbers = before._numbers
            self._messages.update((run, dict(messages)) for run, messages in before._messages.items())
            self._cached.update(before._cached)

    def contents(self) -> dict[str, Any]:
        """Return what is stored of each run."""
        return {identifier: self.read(identifier) for identifier in sorted({*self._documents, *self._journals})}

    def open(self, identifier: str, content: bytes, durable: bool = False) -> Any:
        self._world.reach("write")
        return _DyingAppender(self._world, super().open(identifier, content, durable))

    def save(self, identifier: str, content: Iterable[bytes]) -> None:
        if not self._world.is_dead:
            self._world.reach("write")
            super().save(identifier, content)

    def move_journal(self, identifier: str, to: str) -> bool:
        return not self._world.is_dead and super().move_journal(identifier, to)

    def remove(self, identifier: str) -> None:
        if not self._world.is_dead:
            super().remove(identifier)

    def put_cached(self, key: str, cached: Any) -> None:
        if not self._world.is_dead:
            self._world.reach("write")
            super().put_cached(key, cached)

    def put_message(self, identifier: str, content: bytes) -> None:
        self._world.reach("message")
        super().put_message(identifier, content)
        self._world.mail.sent[first_number(content.decode())] = identifier

    def remove_message(self, identifier: str, number: str) -> None:
        self._world.reach("message")
        content = self.read_message(identifier, number)
        if content is not None:
            self._world.mail.removed.add(first_number(content.decode()))
            super().remove_message(identifier, number)

    def move_messages(self, identifier: str, to: str) -> None:
        self._world.reach("message")
        super().move_messages(identifier, to)


class _DyingAppender:
    def __init__(self, world: DisturbedWorld, appender: Any) -> None:
        self._world = world
        self._appender = appender

    def append(self, content: bytes) -> None:
        if not self._world.is_dead:
            self._world.reach("write")
            self._appender.append(content)

    def sync(self) -> None:
        pass

    def close(self) -> None:
        self._appender.close()
