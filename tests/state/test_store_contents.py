"""What every store does with journals and documents, and what it lists."""

import os
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from railtracks.state import FileStore, MemoryStore, Store, Stored
from tests.state.stores import DATABASES, journal_of, ran, write

# ---- journals


def test_it_is_a_store(store):
    assert isinstance(store, Store)


def test_what_was_appended_and_synced_is_read_back(store):
    appender = store.open("mine", b"one")
    for part in (b"two", b"", b"\x00\xff"):
        appender.append(part)
    appender.sync()
    assert store.read("mine") == Stored(None, b"onetwo\x00\xff")
    appender.append(b"more")
    appender.sync()
    appender.sync()
    appender.close()
    assert store.read("mine") == Stored(None, b"onetwo\x00\xffmore")


def test_only_databases_need_a_sync_to_show_what_was_appended(store):
    appender = store.open("mine", b"one")
    appender.append(b"two")
    assert journal_of(store) == (None if isinstance(store, DATABASES) else b"onetwo")
    appender.close()


def test_after_close_an_appender_does_nothing(store):
    appender = store.open("mine", b"one")
    appender.sync()
    appender.close()
    appender.append(b"two")
    appender.sync()
    appender.close()
    assert journal_of(store) == b"one"


def test_a_journal_that_is_there_is_replaced(store):
    write(store, "mine", b"a long old one")
    write(store, "mine", b"new", b"er")
    assert journal_of(store) == b"newer"


def test_an_old_journal_is_kept_until_the_new_one_is_whole(store, monkeypatch):
    write(store, "mine", b"old")

    def fail(*_args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        try:
            store.open("mine", b"new").close()
        except OSError:
            pass
        else:
            if isinstance(store, FileStore):
                pytest.fail("the new journal was begun")
    assert journal_of(store) in ((b"new",) if isinstance(store, MemoryStore) else (b"old",))


def test_a_journal_that_cannot_be_begun_leaves_nothing(tmp_path, monkeypatch):
    store = FileStore(tmp_path)
    spare = os.dup(0)
    os.close(spare)

    def fail(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(OSError, match="No space left"):
            store.open("mine", b"header")
    assert store.read("mine") is None
    assert store.list() == []
    again = os.dup(0)
    os.close(again)
    assert again == spare  # no handle was left open: the lowest one that is free is the same


def test_a_full_disk_leaves_whole_records(tmp_path, monkeypatch):
    store = FileStore(tmp_path)
    appender = store.open("mine", b"header")
    original = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, content: original(handle, content[:3]))
        with pytest.raises(OSError, match="No space left"):
            appender.append(b"record")
    assert journal_of(store) == b"header"
    appender.append(b", after all")
    appender.close()
    assert journal_of(store) == b"header, after all"


def test_a_file_that_is_removed_during_writing_is_an_error(tmp_path):
    store = FileStore(tmp_path)
    appender = store.open("mine", b"header")
    (tmp_path / "mine.journal").unlink()
    with pytest.raises(FileNotFoundError, match="removed"):
        appender.sync()
    appender.close()


def test_records_that_several_threads_append_are_whole(store):
    appender = store.open("mine", b"")
    threads, records, start = 4, 200, threading.Barrier(5)

    def append(number):
        start.wait()
        for count in range(records):
            appender.append(f"<{number}:{count}:{'x' * (count % 50)}>".encode())

    def sync():
        start.wait()
        for _ in range(20):
            appender.sync()

    workers = [threading.Thread(target=append, args=(number,)) for number in range(threads)]
    workers.append(threading.Thread(target=sync))
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    appender.sync()
    appender.close()
    found = journal_of(store).decode().removeprefix("<").removesuffix(">").split("><")
    of_thread = {number: [r for r in found if r.startswith(f"{number}:")] for number in range(threads)}
    expected = {n: [f"{n}:{count}:{'x' * (count % 50)}" for count in range(records)] for n in range(threads)}
    assert of_thread == expected
    assert len(found) == threads * records


def test_a_journal_can_be_moved_to_another_identifier(store):
    write(store, "mine", b"one")
    store.save("other", [b"{}"])
    assert store.move_journal("mine", "other") is True
    assert store.read("mine") is None
    assert store.read("other") == Stored(b"{}", b"one")
    assert store.move_journal("mine", "third") is False
    assert store.read("third") is None


# ---- documents


def test_saving_replaces_the_journal(store):
    write(store, "mine", b"one")
    store.save("mine", [b"{", b'"a": 1', b"}"])
    assert store.read("mine") == Stored(b'{"a": 1}', None)
    store.save("mine", iter([b"second"]))
    assert store.read("mine") == Stored(b"second", None)


def test_a_document_that_cannot_be_made_changes_nothing(store):
    write(store, "mine", b"journal")
    store.save("other", [b"old"])

    def broken():
        yield b"new"
        raise ValueError("no more")

    for identifier in ("mine", "other"):
        with pytest.raises(ValueError, match="no more"):
            store.save(identifier, broken())
    assert store.read("mine") == Stored(None, b"journal")
    assert store.read("other") == Stored(b"old", None)


def test_only_a_document_counts_as_existing(store):
    assert store.exists("mine") is False
    write(store, "mine", b"one")
    assert store.exists("mine") is False
    store.save("mine", [b"{}"])
    assert store.exists("mine") is True
    assert store.exists("min") is store.exists("mine2") is False


def test_a_document_and_a_later_journal_stand_side_by_side(store):
    store.save("mine", [b"{}"])
    write(store, "mine", b"one")
    assert store.read("mine") == Stored(b"{}", b"one")
    [listed] = store.list()
    assert (listed.identifier, listed.size, listed.has_journal, listed.head) == ("mine", 5, True, b"{}")


def test_what_is_not_there_is_none_and_removing_it_does_nothing(store):
    assert store.read("mine") is None
    store.remove("mine")
    assert store.list() == []


def test_removing_forgets_document_and_journal_of_this_run_alone(store):
    for identifier in ("mine", "other"):
        store.save(identifier, [b"{}"])
        write(store, identifier, b"one")
    store.remove("mine")
    assert store.read("mine") is None
    assert store.read("other") == Stored(b"{}", b"one")


def test_where_names_the_run(store):
    assert "mine" in store.where("mine")


# ---- lists


@contextmanager
def at(store, monkeypatch, moment):
    """What is written in here was written at ``moment``."""
    before = {path: path.stat().st_mtime_ns for path in _files(store)}
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: moment)
        yield
    for path in _files(store):
        if path.stat().st_mtime_ns != before.get(path):
            os.utime(path, (moment, moment))


def _files(store):
    return list(Path(store.where("x")).parent.glob("*")) if isinstance(store, FileStore) else []


def test_runs_are_listed_the_oldest_first(store, monkeypatch):
    with at(store, monkeypatch, 300.0):
        write(store, "young", b"one")
    with at(store, monkeypatch, 100.0):
        write(store, "old", b"one")
    with at(store, monkeypatch, 200.0):
        store.save("middle", [b"{}"])
    assert [(run.identifier, run.modified) for run in store.list()] == [("old", 100), ("middle", 200), ("young", 300)]


def test_a_run_is_as_old_as_the_last_record_of_its_journal(store, monkeypatch):
    with at(store, monkeypatch, 100.0):
        appender = store.open("growing", b"one")
        appender.sync()
        store.save("growing-too", [b"{}"])
    with at(store, monkeypatch, 200.0):
        store.save("middle", [b"{}"])
    with at(store, monkeypatch, 300.0):
        appender.append(b"two")
        appender.sync()
    appender.close()
    assert [run.identifier for run in store.list()] == ["growing-too", "middle", "growing"]


def test_a_list_has_sizes_and_heads_and_says_who_has_a_journal(store):
    document, journal = b"d" * 70_000, b"j" * 70_000
    store.save("document", [document])
    write(store, "journal", journal[:10], journal[10:])
    listed = {run.identifier: (run.size, run.has_journal, run.head) for run in store.list()}
    assert listed["document"] == (70_000, False, document[:65_536])
    size, has_journal, head = listed["journal"]
    assert has_journal is True
    assert 0 < size < 1_000 if isinstance(store, DATABASES) else size == 70_000  # they compress journals
    assert journal.startswith(head)
    assert 10 <= len(head) <= 65_536


def test_a_run_whose_document_is_empty_is_listed_all_the_same(store):
    store.save("mine", [])
    assert [(run.identifier, run.size, run.has_journal) for run in store.list()] == [("mine", 0, False)]


def test_other_files_in_the_folder_are_not_runs(tmp_path):
    store = FileStore(tmp_path)
    for name in ("notes.txt", ".mine.json.0a0b0c0d.tmp", "mine.lock", "json", ".json"):
        (tmp_path / name).write_bytes(b"x")
    assert store.list() == []
    assert store.count() == 0


def test_what_one_process_writes_another_reads(kind, persistent):
    appender = persistent.open("mine", b"one")
    appender.append(b"two")
    appender.sync()
    persistent.save("other", [b"{}"])
    said = ran(kind, "say(store.read('mine').journal, store.read('other').document, len(store.list()))")
    assert said == ["b'onetwo' b'{}' 2"]
    appender.close()
