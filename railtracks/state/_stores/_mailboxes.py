"""Mailboxes of the stores: the messages that were sent to runs, and that the runs have not taken yet.

A message is numbered by its store. Numbers are never used again, so a run that has one on record knows the message.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from railtracks.state._file_system import FolderSync, open_regular, remove_file, write_atomically

if TYPE_CHECKING:
    import sqlite3

TEMPORARY_AGE = 60.0
"""Seconds after which no sender is at work any more on a temporary file, or in a folder without messages."""
_ENDING = ".json"


class Mailbox(Protocol):
    """The part of a store that keeps messages for runs. A store need not have it.

    All methods block, unless the store has ``blocks = False``, and may be called from any thread and any process, at
    the same time. A store whose ``remove`` removes a run removes its messages too, and one whose ``move_journal`` moves
    a journal leaves them where they are: ``move_messages`` moves them.

    Raises: OSError where something cannot be read or written.
    """

    def put_message(self, identifier: str, content: bytes) -> None:
        """Add a message for the run, behind all that are there. It is on disk when this returns."""

    def list_messages(self, identifier: str) -> Sequence[str]:
        """Return the numbers of the run's messages, in the order in which they were added. A number is any text."""

    def read_message(self, identifier: str, number: str) -> bytes | None:
        """Return the content of a message; None if it was removed."""

    def remove_message(self, identifier: str, number: str) -> None:
        """Remove a message. Its number is not used again. Idempotent."""

    def move_messages(self, identifier: str, to: str) -> None:
        """Move all messages of the run, with their numbers, to another identifier, which has none yet."""


class FileMailbox:
    """The mailbox of a FileStore: a folder for each run that has messages, ``<identifier>.mailbox``.

    A message is a file in it, which is named by a position and random digits: ``000000000012-5f0c9a3e.json``. Two
    senders may come to the same position at the same time; the digits keep their messages apart. The folder stays when
    it is empty: another sender may be about to write there.
    """

    _folder: str

    def put_message(self, identifier: str, content: bytes) -> None:
        """Add a message for the run, behind all that are there. It is on disk when this returns."""
        there = self.list_messages(identifier)
        position = int(there[-1].partition("-")[0]) + 1 if there else 1
        path = f"{self._mailbox(identifier)}{os.sep}{position:012d}-{os.urandom(4).hex()}{_ENDING}"
        write_atomically(path, [content])
        FolderSync.of(self._folder).sync()  # which has the folder of the mailbox

    def list_messages(self, identifier: str) -> Sequence[str]:
        """Return the numbers of the run's messages, in the order in which they were added."""
        try:
            names = os.listdir(self._mailbox(identifier))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name.removesuffix(_ENDING) for name in names if name.endswith(_ENDING) and name[0] != ".")

    def read_message(self, identifier: str, number: str) -> bytes | None:
        """Return the content of a message; None if it was removed."""
        try:
            with open_regular(f"{self._mailbox(identifier)}{os.sep}{number}{_ENDING}") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def remove_message(self, identifier: str, number: str) -> None:
        """Remove a message. Idempotent."""
        remove_file(f"{self._mailbox(identifier)}{os.sep}{number}{_ENDING}")

    def move_messages(self, identifier: str, to: str) -> None:
        """Move all messages of the run to another identifier, which has none yet."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(self._mailbox(identifier), self._mailbox(to))

    def _remove_mailbox(self, identifier: str) -> None:
        folder = self._mailbox(identifier)
        while True:
            try:
                for name in os.listdir(folder):
                    remove_file(f"{folder}{os.sep}{name}")
                os.rmdir(folder)
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError:
                if not os.listdir(folder):  # not because a message has come meanwhile
                    raise

    def _sweep_mailboxes(self) -> None:
        """Remove old temporary files, which killed senders left behind, and folders that have been empty for long."""
        limit = time.time() - TEMPORARY_AGE
        for folder in Path(self._folder).glob("*.mailbox"):
            with contextlib.suppress(OSError):  # an odd entry, or it was removed meanwhile
                was_changed = folder.stat().st_mtime
                for path in folder.glob(".*.tmp"):
                    if path.stat().st_mtime <= limit:
                        remove_file(path)
                if was_changed <= limit:
                    folder.rmdir()  # unless it has messages

    def _mailbox(self, identifier: str) -> str:
        return f"{self._folder}{os.sep}{identifier}.mailbox"


class SQLiteMailbox:
    """The mailbox of an SQLiteStore: the table ``messages``."""

    SCHEMA = """
    CREATE TABLE IF NOT EXISTS messages (
        number INTEGER PRIMARY KEY AUTOINCREMENT, identifier TEXT NOT NULL, content BLOB NOT NULL
    );
    CREATE INDEX IF NOT EXISTS messages_of_runs ON messages (identifier, number);
    """
    _path: Path

    if TYPE_CHECKING:

        def transaction(self, kind: str = "IMMEDIATE") -> AbstractContextManager[sqlite3.Connection]: ...

    def put_message(self, identifier: str, content: bytes) -> None:
        """Add a message for the run, behind all that are there. It is on disk when this returns."""
        with self.transaction() as connection:
            connection.execute("INSERT INTO messages (identifier, content) VALUES (?, ?)", (identifier, content))

    def list_messages(self, identifier: str) -> Sequence[str]:
        """Return the numbers of the run's messages, in the order in which they were added."""
        if not self._path.exists():  # reading must not make the file
            return []
        with self.transaction("DEFERRED") as connection:
            query = "SELECT number FROM messages WHERE identifier = ? ORDER BY number"
            return [str(number) for (number,) in connection.execute(query, (identifier,))]

    def read_message(self, identifier: str, number: str) -> bytes | None:
        """Return the content of a message; None if it was removed."""
        with self.transaction("DEFERRED") as connection:
            query = "SELECT content FROM messages WHERE identifier = ? AND number = ?"
            row = connection.execute(query, (identifier, int(number))).fetchone()
        return None if row is None else bytes(row[0])

    def remove_message(self, identifier: str, number: str) -> None:
        """Remove a message. Idempotent."""
        with self.transaction() as connection:
            connection.execute("DELETE FROM messages WHERE identifier = ? AND number = ?", (identifier, int(number)))

    def move_messages(self, identifier: str, to: str) -> None:
        """Move all messages of the run to another identifier, which has none yet."""
        if self._path.exists():
            with self.transaction() as connection:
                connection.execute("UPDATE messages SET identifier = ? WHERE identifier = ?", (to, identifier))


class MemoryMailbox:
    """The mailbox of a MemoryStore."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._messages: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        self._mailbox_guard = threading.Lock()

    @contextlib.contextmanager
    def _of(self, identifier: str) -> Iterator[dict[str, bytes]]:
        with self._mailbox_guard:
            yield self._messages[identifier]
            if not self._messages[identifier]:
                del self._messages[identifier]

    def put_message(self, identifier: str, content: bytes) -> None:
        """Add a message for the run, behind all that are there."""
        with self._of(identifier) as messages:
            messages[str(next(self._numbers))] = content

    def list_messages(self, identifier: str) -> Sequence[str]:
        """Return the numbers of the run's messages, in the order in which they were added."""
        with self._of(identifier) as messages:
            return list(messages)

    def read_message(self, identifier: str, number: str) -> bytes | None:
        """Return the content of a message; None if it was removed."""
        with self._of(identifier) as messages:
            return messages.get(number)

    def remove_message(self, identifier: str, number: str) -> None:
        """Remove a message. Idempotent."""
        with self._of(identifier) as messages:
            messages.pop(number, None)

    def move_messages(self, identifier: str, to: str) -> None:
        """Move all messages of the run to another identifier, which has none yet."""
        with self._mailbox_guard:
            if identifier in self._messages:
                self._messages[to] = self._messages.pop(identifier)

    def _remove_mailbox(self, identifier: str) -> None:
        with self._mailbox_guard:
            self._messages.pop(identifier, None)
