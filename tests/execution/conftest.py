"""Fixtures for the tests of what a session records."""

from __future__ import annotations

import pytest

from railtracks.execution._recording import _journal_writer


class Syncer:
    """The thread that syncs, without a thread."""

    def __init__(self):
        self.clients = 0
        self.scheduled = []

    def acquire(self):
        self.clients += 1

    def release(self):
        self.clients -= 1

    def schedule(self, work):
        self.scheduled.append(work)


@pytest.fixture
def syncer(monkeypatch):
    syncer = Syncer()
    monkeypatch.setattr(_journal_writer, "fsync_thread", syncer)
    return syncer
