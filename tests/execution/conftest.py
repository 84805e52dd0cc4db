"""Fixtures for the tests of what a session records."""

from __future__ import annotations

import pytest

from railtracks.execution._recording import _journal_writer


class Syncer:
    """The thread that syncs, without a thread."""

    def __init__(self):
        self.scheduled = []

    def schedule(self, work):
        self.scheduled.append(work)

    def cancel(self, work):
        if work in self.scheduled:
            self.scheduled.remove(work)


@pytest.fixture
def syncer(monkeypatch):
    syncer = Syncer()
    monkeypatch.setattr(_journal_writer, "fsync_thread", syncer)
    return syncer
