"""JournalWriter: every state with every operation, stores that fail, and what happens after a release or a fork."""

from __future__ import annotations

import sys
import threading
import time
import weakref
import zlib
from typing import Any

import anyio
import pytest

from railtracks._test_hooks import RuntimeHooks, runtime_hooks
from railtracks.execution._recording._journal_writer import JournalState, JournalWriter, Restart
from railtracks.state._journal._format import PREFIX, encode_entries


class Appender:
    """An appender that notes what is done to it, and fails where it is asked to."""

    def __init__(self):
        self.operations = []
        self.failing = set()

    def _do(self, operation):
        if operation in self.failing:
            raise OSError(f"{operation} failed")
        self.operations.append(operation)

    def open(self):
        self._do("open")
        return self, 0

    def append(self, content):
        self._do(content[PREFIX.size :].decode())

    def sync(self):
        self._do("sync")

    def close(self):
        self._do("close")


@pytest.fixture
def journal(syncer):
    return Journal()


FIRST, ENTRY = "first", "entry"


class Journal:
    """A writer in a given state, its appender, and the failures that it reported."""

    def __init__(self, **options):
        self.appender = Appender()
        self.failures = []
        self.writer = JournalWriter(self.appender.open, self._on_failure, **options)

    def _on_failure(self, exc):
        self.failures.append(str(exc))

    def bring(self, origin):
        """Bring the writer into a state, and forget how it came there."""
        if origin == "disabled":
            self.writer = JournalWriter(None, self._on_failure)
        elif origin == "failed to open":
            self.appender.failing = {"open"}
            self.writer.append("first")
        elif origin != "not opened":
            self.writer.append("first")
        if origin == "failed to append":
            self.appender.failing = {ENTRY}
            self.writer.append("entry")
        elif origin == "finished":
            self.writer.finish()
        elif origin == "closed":
            self.writer.close()
        elif origin == "forked":
            self.writer.detach_after_fork()
        self.appender.operations.clear()
        self.appender.failing.clear()
        self.failures.clear()
        return self.writer


OPERATIONS = {
    "append": lambda writer: writer.append("entry"),
    "sync": JournalWriter.sync,
    "finish": JournalWriter.finish,
    "keep": JournalWriter.keep,
    "close": JournalWriter.close,
    "fork": JournalWriter.detach_after_fork,
}
TABLE = [
    # state              append                       sync           finish    keep           close           fork
    ("disabled",         "disabled",                  "disabled",    "closed", "disabled",    "closed",       "closed"),
    ("not opened",       "open open+entry",           "not opened",  "closed", "not opened",  "closed",       "closed"),
    ("open",             "open entry",                "open sync",   "closed", "open sync",   "closed close", "closed"),
    ("failed to open",   "failed",                    "failed",      "closed", "failed",      "closed",       "closed"),
    ("failed to append", "failed",                    "failed sync", "closed", "failed sync", "closed close", "closed"),
    ("finished",         "closed",                    "closed",      "closed", "closed sync", "closed close", "closed"),
    ("closed",           "closed",                    "closed",      "closed", "closed",      "closed",       "closed"),
    ("forked",           "closed",                    "closed",      "closed", "closed",      "closed",       "closed"),
]  # fmt: skip
CELLS = [
    (origin, name, *expected.replace("not opened", "not_opened").partition(" ")[::2])
    for origin, *row in TABLE
    for name, expected in zip(OPERATIONS, row, strict=True)
]


@pytest.mark.parametrize(("origin", "operation", "state", "done"), CELLS)
def test_each_state_with_each_operation(journal, origin, operation, state, done):
    writer = journal.bring(origin)
    OPERATIONS[operation](writer)
    assert writer.state is JournalState(state.replace("_", " "))
    assert writer.is_active is (state in ("not_opened", "open"))
    names = {"open": "open", "entry": ENTRY, "sync": "sync", "close": "close"}
    assert journal.appender.operations == [names[word] for word in done.split("+") if word]
    assert journal.failures == []


@pytest.mark.parametrize("origin", [row[0] for row in TABLE])
def test_only_an_open_journal_is_whole_when_it_is_finished(journal, origin):
    assert journal.bring(origin).finish() is (origin == "open")


@pytest.mark.parametrize("origin", [row[0] for row in TABLE])
def test_closed_journal_is_not_scheduled_any_more(syncer, origin):
    journal = Journal(syncs_later=True)
    writer = journal.bring(origin)
    has_appender = origin in ("open", "failed to append", "finished", "closed", "forked")
    assert len(syncer.scheduled) == (has_appender and origin != "closed")
    writer.close()
    writer.close()
    assert len(syncer.scheduled) == (origin == "forked")  # it is the parent's thread


@pytest.mark.parametrize(
    ("origin", "operation", "failing", "state"),
    [
        ("not opened", "append", "open", "failed"),
        ("not opened", "append", ENTRY, "failed"),
        ("open", "append", ENTRY, "failed"),
        ("open", "sync", "sync", "failed"),
        ("open", "keep", "sync", "failed"),
        ("open", "close", "close", "closed"),
        ("failed to append", "sync", "sync", "failed"),
        ("failed to append", "close", "close", "closed"),
        ("finished", "keep", "sync", "closed"),
        ("finished", "close", "close", "closed"),
    ],
)
def test_failure_of_the_store_is_reported_and_ends_the_journal(journal, origin, operation, failing, state):
    writer = journal.bring(origin)
    journal.appender.failing = {failing}
    OPERATIONS[operation](writer)
    assert writer.state is JournalState(state)
    assert len(journal.failures) == 1
    assert journal.failures[0].endswith("failed")


class Restarting(Journal):
    """A writer whose journal can be begun again, by a clock that the test sets."""

    def __init__(self, **options):
        self.now, self.begun = 0.0, []
        restart = Restart(self.open_again, lambda: self.begun.append(True), print, lambda: self.now, in_thread=False)
        super().__init__(restart=restart, **options)

    def open_again(self, entries):
        self.appender._do("open")
        self.appender.operations += entries
        return self.appender, 0

    def fail(self):
        self.writer.append("first")
        self.appender.failing = {ENTRY}
        self.writer.append("entry")
        self.appender.operations.clear()
        self.appender.failing.clear()
        return self.writer


def test_failed_journal_is_to_be_begun_again_after_a_while(syncer):
    journal = Restarting()
    writer = journal.fail()
    assert (writer.state, writer.is_active) == (JournalState.FAILED, True)
    for now, is_due in ((0.5, False), (1.0, True)):
        journal.now = now
        writer.append("entry")
        assert writer.must_begin_again is is_due
    assert journal.appender.operations == []


def test_journal_begins_again_with_all_that_is_known(syncer):
    journal = Restarting()
    writer = journal.fail()
    writer.begin_again(lambda: ["all", "that"])
    writer.append("entry")
    assert journal.appender.operations == ["close", "open", "all", "that", "sync", "sync", ENTRY]
    assert (writer.state, writer.must_begin_again, journal.begun) == (JournalState.OPEN, False, [True])


@pytest.mark.parametrize("failing", ["close", "open", "sync"])
def test_journal_that_cannot_be_begun_again_waits_longer(failing, syncer):
    journal = Restarting()
    writer = journal.fail()
    journal.appender.failing = {failing}
    journal.now = 10.0

    def entries():
        journal.now += 2.0  # as long as it takes
        return ["all"]

    writer.begin_again(entries)
    assert (writer.state, journal.begun) == (JournalState.FAILED, [])
    retry_at = 10.0 + (1.0 if failing == "close" else 2.0 + 20.0)
    for now, is_due in ((retry_at - 0.1, False), (retry_at, True)):
        journal.now = now
        writer.append("entry")
        assert writer.must_begin_again is is_due
    assert len(journal.failures) == 1  # the first one


@pytest.mark.parametrize("end", [JournalWriter.finish, JournalWriter.close, JournalWriter.detach_after_fork])
def test_journal_of_a_session_that_has_ended_is_not_begun_again(end, syncer):
    journal = Restarting()
    writer = journal.fail()
    end(writer)
    journal.appender.operations.clear()
    writer.begin_again(lambda: ["all"])
    assert (writer.state, journal.appender.operations) == (JournalState.CLOSED, [])


def test_entries_that_come_while_it_is_begun_again_follow(syncer):
    """But for those of worker threads that are there already."""
    journal = Restarting()
    writer = journal.fail()
    change, read = '{"e": "context", "call": 0}', '{"e": "read", "call": 0}'

    def entries():
        for entry in ("entry", change, read, "entry"):
            writer.append(entry)
        return ["all", change]

    writer.begin_again(entries)
    assert journal.appender.operations == ["close", "open", "all", change, "sync", ENTRY, read, ENTRY, "sync"]
    assert writer.state is JournalState.OPEN


def test_entries_are_appended_in_order_after_opening(journal):
    for entry in ("first", "entry", "entry"):
        journal.writer.append(entry)
    assert journal.appender.operations == ["open", FIRST, ENTRY, ENTRY]


def test_a_journal_that_could_not_be_opened_is_not_opened_again(journal):
    writer = journal.bring("failed to open")
    for _ in range(3):
        writer.append("entry")
    assert journal.appender.operations == []


def test_the_preamble_is_released_when_it_is_written(syncer):
    class Opener:
        def __call__(self):
            return Appender(), 0

    opener = Opener()
    released = weakref.ref(opener)
    writer = JournalWriter(opener, print)
    del opener
    assert released() is not None
    writer.append("first")
    assert released() is None


# ---- stores that call back when entries are on disk


class LateAppender(Appender):
    """One whose thread commits when the test says so. What is closed by then has nothing to commit."""

    def __init__(self):
        super().__init__()
        self.waiting = []
        self.is_closed = False

    def sync_soon(self, on_done):
        self.waiting.append(on_done)

    def close(self):
        self.is_closed = True

    def commit(self):
        waiting, self.waiting = self.waiting, []
        if not self.is_closed:
            self._do("commit")
        for on_done in waiting:
            on_done(None)


async def test_a_journal_written_anew_is_on_disk_before_calls_go_on(syncer):
    old, new = LateAppender(), LateAppender()
    unused: Any = None
    restart = Restart(unused, unused, unused, time.monotonic, False, lambda entries: lambda further: (new, 0))
    token = runtime_hooks.set(RuntimeHooks())  # under virtual time it waits for threads
    writer = JournalWriter(old.open, print, restart=restart, is_synchronous=True)
    runtime_hooks.reset(token)
    writer.append("first")
    waited = anyio.Event()

    async def wait():
        await writer.wait_committed()
        waited.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        writer.rewrite(list)
        old.commit()
        await anyio.wait_all_tasks_blocked()
        assert not waited.is_set()
        new.commit()
        await waited.wait()
    assert old.operations == ["open", FIRST]


class SlowDisk(Appender):
    """One whose ``sync`` waits until it may end."""

    def __init__(self):
        super().__init__()
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    def sync(self):
        self.has_begun.set()
        assert self.may_end.wait(30)
        super().sync()


def rewritable(appenders, put):
    """A writer in a thread, whose journal is written anew in these appenders; ``put`` notes what each begins with."""

    def prepare(entries):
        begins_with = list(entries)

        def put_in_place(further):
            put.append([*begins_with, *further])
            return appenders.pop(0), 0

        return put_in_place

    unused: Any = None
    restart = Restart(unused, unused, unused, time.monotonic, True, prepare)
    return JournalWriter(Appender().open, print, restart=restart)


def test_what_comes_between_two_rewrites_is_kept():
    """The disk is slow: the first one is in place, and is still being put on disk when the second one begins."""
    put: list[Any] = []
    first, second = SlowDisk(), SlowDisk()
    second.may_end.set()
    writer = rewritable([first, second], put)
    writer.append("first")
    writer.rewrite(lambda: ["all"])
    assert first.has_begun.wait(30)
    writer.rewrite(lambda: ["all until the second"])
    writer.append("entry")
    first.may_end.set()
    assert second.has_begun.wait(30)
    writer.close()
    assert put == [["all"], ["all until the second", "entry"]]


def test_a_rewrite_that_is_under_way_is_not_begun_twice():
    put: list[Any] = []
    disk, may_prepare = SlowDisk(), threading.Event()
    disk.may_end.set()
    writer = rewritable([disk], put)

    def entries():
        assert may_prepare.wait(30)
        return ["all"]

    writer.append("first")
    writer.rewrite(entries)
    assert writer.is_rewriting
    writer.append("entry")
    writer.rewrite(lambda: ["all of a second one"])
    may_prepare.set()
    assert disk.has_begun.wait(30)
    writer.close()
    assert put == [["all", "entry"]]


def test_a_rewrite_from_before_a_failure_is_dropped(monkeypatch, syncer):
    """It would put what was recorded before the failure in place of what was recorded since."""
    submitted: list[Any] = []
    monkeypatch.setattr("railtracks.execution._recording._journal_writer.background.submit", submitted.append)
    put: list[Any] = []
    writer = rewritable([Appender()], put)
    begun = Appender()

    def begin(entries):
        put.append([*entries])
        return begun, 0

    assert writer._restart is not None
    writer._restart = writer._restart._replace(open_appender=begin, on_begun=lambda: None)
    writer.append("first")
    writer.rewrite(lambda: ["all until the rewrite"])
    writer._fail(OSError("the disk is full"))
    writer.begin_again(lambda: ["all"])
    rewriting, beginning = submitted
    beginning.run()
    writer.append("entry")
    rewriting.run()
    assert put == [["all"]]
    assert begun.operations[-1] == ENTRY
    assert not writer.is_rewriting


# ---- what binds an entry to those before it


class Lines:
    """An appender that keeps what is appended, and may do something in the middle of that."""

    def __init__(self, meanwhile=lambda content: None):
        self.content, self.checksum = encode_entries(["header"])
        self.meanwhile = meanwhile

    def append(self, content):
        self.meanwhile(content)
        self.content += content

    def sync(self):
        pass

    def close(self):
        pass


def bound(content):
    """The payloads of all entries, each of which has to follow the one before it."""
    offset, before, found = 0, 0, []
    while offset < len(content):
        length, checksum = PREFIX.unpack_from(content, offset)
        offset += PREFIX.size
        payload = content[offset : offset + length]
        assert zlib.crc32(payload, before) == checksum, payload
        found.append(payload.decode())
        offset, before = offset + length, checksum
    return found


def test_each_entry_is_bound_to_those_before_it(syncer):
    lines = Lines()
    writer = JournalWriter(lambda: (lines, lines.checksum))
    for entry in ("one", "two", "two"):
        writer.append(entry)
    assert bound(lines.content) == ["header", "one", "two", "two"]


def test_entries_of_many_threads_are_bound_too(syncer):
    lines, threads = Lines(lambda content: time.sleep(0)), 8
    writer = JournalWriter(lambda: (lines, lines.checksum))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    ready = threading.Barrier(threads)

    def append(name):
        ready.wait()
        for number in range(200):
            writer.append(f"{name} {number}")

    try:
        workers = [threading.Thread(target=append, args=(name,)) for name in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        sys.setswitchinterval(interval)
    header, *entries = bound(lines.content)
    assert header == "header"
    for name in range(threads):
        assert [entry for entry in entries if entry.startswith(f"{name} ")] == [f"{name} {n}" for n in range(200)]
    assert len(entries) == threads * 200


def test_entry_of_a_signal_handler_follows_the_one_it_interrupts(syncer):
    """The handler runs in the thread that is in the middle of an append."""

    def interrupt(content):
        if content.endswith(b"one"):
            writer.append("within")

    lines = Lines(interrupt)
    writer = JournalWriter(lambda: (lines, lines.checksum))
    writer.append("one")
    writer.append("two")
    assert bound(lines.content) == ["header", "one", "within", "two"]


# ---- when it is synced


@pytest.mark.parametrize(
    ("is_synchronous", "syncs_later", "scheduled"), [(False, True, 1), (True, True, 1), (False, False, 0)]
)
def test_entries_that_nothing_waits_for_are_synced_together(syncer, is_synchronous, syncs_later, scheduled):
    journal = Journal(is_synchronous=is_synchronous, syncs_later=syncs_later)
    for _ in range(2):
        for _ in range(3):
            journal.writer.append("entry")
        assert len(syncer.scheduled) == scheduled
        for work in syncer.scheduled:
            work()
        assert journal.appender.operations.count("sync") == scheduled
        syncer.scheduled.clear()
        journal.appender.operations.clear()


@pytest.mark.parametrize("origin", [row[0] for row in TABLE])
async def test_wait_committed_syncs_an_open_journal(journal, origin):
    """It returns in all other states, because nothing can come on disk there."""
    await journal.bring(origin).wait_committed()
    assert journal.appender.operations == (["sync"] if origin == "open" else [])


async def test_wait_committed_returns_when_the_sync_fails(journal):
    writer = journal.bring("open")
    journal.appender.failing = {"sync"}
    await writer.wait_committed()
    assert journal.failures == ["sync failed"]
    assert writer.state is JournalState.FAILED


@pytest.mark.parametrize("is_synchronous", [False, True])
def test_only_a_journal_can_be_synchronous(syncer, is_synchronous):
    assert Journal(is_synchronous=is_synchronous).writer.is_synchronous is is_synchronous
    assert not JournalWriter(None, is_synchronous=is_synchronous).is_synchronous


# ---- threads


@pytest.mark.parametrize("end", [JournalWriter.finish, JournalWriter.close])
def test_end_waits_for_a_sync_that_is_running(journal, end):
    """Otherwise the sync might bring back a journal that the document has replaced."""
    writer, events = journal.bring("open"), []
    is_syncing, may_go_on = threading.Event(), threading.Event()

    def sync():
        is_syncing.set()
        may_go_on.wait()
        events.append("synced")

    def finish():
        end(writer)
        events.append("ended")

    journal.appender.sync = sync
    syncing, ending = threading.Thread(target=writer.sync), threading.Thread(target=finish)
    syncing.start()
    is_syncing.wait()
    ending.start()
    may_go_on.set()
    syncing.join()
    ending.join()
    assert events == ["synced", "ended"]


def test_forked_child_does_not_wait_for_a_thread_of_the_parent(journal):
    writer = journal.bring("open")
    is_syncing, may_go_on = threading.Event(), threading.Event()

    def sync():
        is_syncing.set()
        may_go_on.wait()

    journal.appender.sync = sync
    thread = threading.Thread(target=writer.sync)
    thread.start()
    is_syncing.wait()
    writer.detach_after_fork()
    writer.append("entry")
    writer.finish()
    writer.close()
    assert thread.is_alive()
    may_go_on.set()
    thread.join()
    assert journal.appender.operations == []


def test_a_journal_is_not_finished_while_a_sync_reports_failure(syncer):
    """Otherwise the session could end before its error is logged."""
    is_free = []

    def report(_exc):
        thread = threading.Thread(target=lambda: is_free.append(writer._lock.acquire(blocking=False)))
        thread.start()
        thread.join()

    appender = Appender()
    writer = JournalWriter(appender.open, report)
    writer.append("entry")
    appender.failing = {"sync"}
    writer.sync()
    assert is_free == [False]
