"""RunStorage: the lock, stale journals, the document in place of the journal, stores that fail, and forks."""

from __future__ import annotations

import logging

import pytest

from railtracks.exceptions import RunInUseError
from railtracks.execution._recording import _run_storage
from railtracks.execution._recording._journal_writer import JournalState
from railtracks.execution._recording._run_storage import RunStorage
from railtracks.state import MemoryStore
from railtracks.state._document._checksums import with_checksums
from railtracks.state._document._writer import encoded
from railtracks.state._journal import _format as journal
from railtracks.state._journal._reader import read_journal
from railtracks.state._transitions import RTState
from tests.execution.records import Call, records_of

pytestmark = pytest.mark.usefixtures("syncer")

FACTS: dict[str, str | float | None] = {"session_id": "run"}
CREATED = '{"e": "created", "call": 0, "parent": null, "time": 1.0, "name": "f", "node_type": "Tool", "input_args": [], "input_kwargs": {}}'  # fmt: skip  # noqa: E501
ID = "0123456789abcdef"
HEADER, _ = journal.encode_entries([journal.header_entry(FACTS, ID)])
WHOLE, _ = journal.encode_entries([journal.header_entry(FACTS, ID), CREATED])
DOCUMENT = b"".join(encoded(["{", "}"]))


@pytest.fixture(autouse=True)
def journal_id(monkeypatch):
    """Every journal has the same identifier."""
    monkeypatch.setattr(journal, "new_journal_id", lambda: ID)


class Log:
    """The log of a session, as a list of levels and texts."""

    def __init__(self):
        self.lines = []

    def is_enabled_for(self, _level):
        return True

    def log(self, level, message, *args, logger, exc_info=None, must_be_seen=False):
        assert must_be_seen or ("cannot be written" not in message and "could not be" not in message)
        self.lines.append((logging.getLevelName(level), message % args))

    @property
    def levels(self):
        return [level for level, _ in self.lines if level != "DEBUG"]


class Info:
    """A snapshot, as far as it is saved."""

    def document(self):
        return iter(["{", "}"])


class Failing(MemoryStore):
    """A store whose methods fail where they are asked to."""

    def __init__(self, *methods):
        super().__init__()
        self.blocks = False
        for method in methods:
            if hasattr(self, method):
                setattr(self, method, self.fail)
        self.methods = methods

    def fail(self, *_args):
        raise OSError("the store is broken")

    def open(self, *args):
        appender = super().open(*args)
        for method in self.methods:
            if hasattr(appender, method):
                setattr(appender, method, self.fail)
        return appender

    def lock(self, identifier):
        lock = super().lock(identifier)
        if "release" in self.methods:
            lock.release = self.fail  # type: ignore[method-assign]
        return lock


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def storage(log):
    def storage(store, durability="async", identifier="run"):
        made = RunStorage(store, durability, log)
        made.acquire(identifier)
        return made

    return storage


def run(storage, history=None, archive=None, entries=(CREATED,), replaces=False):
    """Do what a session does with its storage."""
    writer = storage.start(FACTS, history, archive)
    for entry in entries:
        writer.append(entry)
    storage.save(Info(), replaces)
    storage.release()
    return writer


# ---- the lock


def test_a_run_is_locked_until_it_is_released(storage):
    store = MemoryStore()
    first = storage(store)
    with pytest.raises(RunInUseError):
        storage(store)
    storage(store, identifier="other")
    first.release()
    first.release()
    second = storage(store)
    first.release()
    assert store.is_locked("run")
    second.release()
    assert not store.is_locked("run")


# ---- the journal


@pytest.mark.parametrize(
    ("durability", "state", "is_synchronous"),
    [
        ("exit", JournalState.DISABLED, False),
        ("async", JournalState.NOT_OPENED, False),
        ("sync", JournalState.NOT_OPENED, True),
    ],
)
def test_durability_decides_about_the_journal(storage, durability, state, is_synchronous):
    store = MemoryStore()
    writer = storage(store, durability).start(FACTS, None, None)
    assert writer.state is state
    assert writer.is_synchronous is is_synchronous
    writer.append(CREATED)
    stored = store.read("run")
    assert stored is None if durability == "exit" else stored.journal == WHOLE


@pytest.mark.parametrize("history", [[], [Call("f", 1, below=[Call("g")]), Call("h", status="Failed")]])
def test_journal_of_a_resumed_run_begins_with_its_history(storage, history):
    store, state = MemoryStore(), RTState()
    records_of(history, state)
    storage(store).start(FACTS, state.records, None).append(CREATED)
    read = read_journal(store.read("run").journal)  # type: ignore[arg-type]
    assert read.damage is None
    assert [r.name for r in read.records] == ["f"]
    assert [(r.name, r.status) for r in read.earlier] == [(r.name, r.status) for r in state.records]


@pytest.mark.parametrize(
    ("content", "archived", "warning"),
    [
        (None, False, None),
        (b"", False, None),
        (HEADER[:20], False, None),
        (HEADER, True, "can be resumed"),
        (WHOLE, True, "can be resumed"),
        (b"something else", True, "its beginning is damaged"),
    ],
    ids=["none", "empty", "torn header", "header", "call", "damaged"],
)
@pytest.mark.parametrize("archive", ["run.archived", None])
def test_stale_journal_is_archived_unless_this_one_replaces_it(storage, log, content, archived, warning, archive):
    store = MemoryStore()
    if content is not None:
        store.open("run", content).close()
    run(storage(store), archive=archive)
    assert store.read("run").journal is None
    if archive is None or not archived:
        assert store.read("run.archived") is None
        assert log.levels == []
    else:
        assert store.read("run.archived").journal == content
        assert log.levels == ["WARNING"]
        assert "run did not end; its journal is kept as run.archived" in log.lines[0][1]
        assert warning in log.lines[0][1]


# ---- the document


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
@pytest.mark.parametrize("entries", [(), (CREATED,)], ids=["no call", "one call"])
def test_document_takes_the_place_of_the_journal(storage, log, durability, entries):
    store = MemoryStore()
    writer = run(storage(store, durability), entries=entries)
    assert store.read("run") == (DOCUMENT, None)
    assert not store.is_locked("run")
    assert writer.state is JournalState.CLOSED
    assert log.lines == [("DEBUG", "Saving execution info to memory, as run")]
    writer.append(CREATED)
    assert store.read("run") == (DOCUMENT, None)


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("replaces", [False, True])
def test_document_of_another_run_is_overwritten_with_a_warning(storage, log, exists, replaces):
    store = MemoryStore()
    if exists:
        store.save("run", [b"old"])
    run(storage(store), replaces=replaces)
    assert store.read("run").document == DOCUMENT
    warning = ("WARNING", "File memory, as run already exists, overwriting...")
    assert (warning in log.lines) is (exists and not replaces)


# ---- stores that fail

WARN, ERROR = "WARNING", "ERROR"
FAILURES = [
    # fails                         saved  is logged
    (("lock",),                      True,  [ERROR]),
    (("move_journal",),              False, [ERROR, WARN]),
    (("open",),                      True,  [ERROR]),
    (("append",),                    True,  [ERROR]),
    (("exists",),                    True,  [WARN]),
    (("save",),                      False, [ERROR]),
    (("close",),                     True,  [ERROR]),
    (("release",),                   True,  [ERROR]),
    (("close", "release"),           True,  [ERROR]),
    (("open", "save"),               False, [ERROR, WARN]),
    (("append", "save", "release"),  False, [ERROR, WARN]),
    (("save", "sync", "close"),      False, [ERROR]),
    (("lock", "exists", "save"),     False, [ERROR, WARN, WARN]),
]  # fmt: skip


@pytest.mark.parametrize(("methods", "saved", "levels"), FAILURES, ids=["+".join(row[0]) for row in FAILURES])
def test_failing_store_is_logged_once_and_harms_nothing(storage, log, methods, saved, levels):
    store = Failing(*methods)
    writer = run(storage(store), archive="run.archived")
    assert writer.state is JournalState.CLOSED
    assert log.levels == levels
    stored = store.read("run")
    assert (stored is not None and stored.document is not None) is saved


@pytest.mark.parametrize(
    ("methods", "kept"),
    [(("save",), True), (("open", "save"), False), (("append", "save"), False), (("save", "sync"), True)],
    ids=lambda value: "+".join(value) if isinstance(value, tuple) else None,
)
def test_only_a_whole_journal_is_said_to_be_kept(storage, log, methods, kept):
    store = Failing(*methods)
    run(storage(store))
    [failure] = [text for _, text in log.lines if "could not be saved" in text]
    assert failure.endswith("its journal is kept") is kept
    if kept:
        assert store.read("run").journal == WHOLE


def test_journal_is_synced_when_the_document_cannot_be_saved(storage, monkeypatch):
    store, synced = Failing("save"), []
    opened = storage(store)
    writer = opened.start(FACTS, None, None)
    writer.append(CREATED)
    monkeypatch.setattr(type(writer._appender), "sync", lambda self: synced.append(self))
    opened.save(Info(), False)
    assert len(synced) == 1
    opened.release()


def test_stale_journal_is_archived_at_the_latest_when_saving(storage, log):
    store = Failing()
    stale = WHOLE
    store.open("run", stale).close()
    opened = storage(store)
    move, store.move_journal = store.move_journal, store.fail  # type: ignore[method-assign]
    writer = opened.start(FACTS, None, "run.archived")
    assert writer.state is JournalState.DISABLED  # or it would overwrite the stale journal
    store.move_journal = move  # type: ignore[method-assign]
    opened.save(Info(), False)
    opened.release()
    assert store.read("run") == (DOCUMENT, None)
    assert store.read("run.archived").journal == stale


class Unmovable(MemoryStore):
    """A store that has an earlier run, and in which nothing can be saved under another identifier."""

    def __init__(self, document, fails):
        super().__init__()
        self.save("run", [document])
        self.fails = fails

    def read(self, identifier):
        if self.fails == "read":
            raise OSError("the store is broken")
        return super().read(identifier)

    def save(self, identifier, content):
        if getattr(self, "fails", None) == "save" and identifier != "run":
            self.fails = ""  # it works again
            raise OSError("the store is broken")
        super().save(identifier, content)


FAILED_RUN, COMPLETED_RUN, DAMAGED_RUN = (
    b"".join(with_checksums([b'{"version": 5, "status": "%s", "runs": []}' % status])).replace(old, new)
    for status, old, new in ((b"Failed", b"", b""), (b"Completed", b"", b""), (b"Completed", b"Com", b"com"))
)


@pytest.mark.parametrize("fails", ["read", "save"])
@pytest.mark.parametrize("durability", ["exit", "async"])
@pytest.mark.parametrize("earlier", [FAILED_RUN, DAMAGED_RUN], ids=["failed", "damaged"])
def test_earlier_run_that_cannot_be_moved_is_not_overwritten(storage, log, fails, durability, earlier):
    """This run is in its journal then, or under another identifier."""
    store = Unmovable(earlier, fails)
    opened = storage(store, durability)
    writer = opened.start(FACTS, None, None)
    writer.append(CREATED)
    saved = opened.save(Info(), False)
    opened.release()
    store.fails = ""
    kept = store.read("run")
    assert kept.document == earlier
    if durability == "async":
        assert (saved, kept.journal) == (False, WHOLE)
        where = "its journal"
    else:
        (where,) = {run.identifier for run in store.list()} - {"run"}
        assert (saved, store.read(where).document) == (True, DOCUMENT)
    [error] = [text for level, text in log.lines if level == ERROR]
    assert "(the store is broken); it is not overwritten" in error
    assert error.endswith(f"this run is kept as {where}")


@pytest.mark.parametrize("earlier", [FAILED_RUN, DAMAGED_RUN, COMPLETED_RUN], ids=["failed", "damaged", "completed"])
def test_earlier_run_is_kept_unless_it_had_completed(storage, log, earlier):
    store = Unmovable(earlier, "")
    run(storage(store))
    assert store.read("run") == (DOCUMENT, None)
    kept = [store.read(listed.identifier).document for listed in store.list() if listed.identifier != "run"]
    assert kept == ([] if earlier == COMPLETED_RUN else [earlier])


# ---- forks


@pytest.mark.parametrize("moment", ["acquired", "started", "opened"])
def test_forked_child_writes_nothing_and_leaves_the_lock(storage, log, moment):
    store = MemoryStore()
    opened = storage(store)
    writer = None if moment == "acquired" else opened.start(FACTS, None, None)
    if moment == "opened":
        writer.append(CREATED)
    before = store.read("run")
    _run_storage._detach_all_after_fork()
    if writer is not None:
        writer.append(CREATED)
    opened.save(Info(), False)
    opened.release()
    assert store.read("run") == before
    assert store.is_locked("run")
    assert log.lines == []


# ---- where it is


def test_location_below_the_working_directory_is_relative(tmp_path, monkeypatch):
    assert _run_storage._display_path(f"{tmp_path}/runs/run.json") == "runs/run.json"
    assert _run_storage._display_path("/elsewhere/run.json") == "/elsewhere/run.json"
    monkeypatch.setattr("os.getcwd", Failing().fail)
    assert _run_storage._display_path(f"{tmp_path}/run.json") == f"{tmp_path}/run.json"
