"""Fixtures for the tests of what a session records."""

from __future__ import annotations

import pytest

from railtracks.execution._recording import _journal_writer


class Syncer:
    """The thread that syncs, without a thread."""

    def __init__(self):
        self.clients = 0
        self.scheduled = []

    def enter(self):
        self.clients += 1

    def leave(self):
        self.clients -= 1

    def ask(self, work):
        self.scheduled.append(work)


@pytest.fixture
def syncer(monkeypatch):
    syncer = Syncer()
    monkeypatch.setattr(_journal_writer, "syncer", syncer)
    return syncer
