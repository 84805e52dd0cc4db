"""Mailboxes of the stores: whole and durable messages, in order, whatever runs at the same time."""

from __future__ import annotations

import os
import threading
import time

import pytest

import railtracks as rt
from railtracks.state import FileStore, SQLiteStore
from railtracks.state._stores._messages import MAILBOX_METHODS, find_mailbox
from tests.state.stores import KINDS, PERSISTENT, STORES, files, mode, process, ran, write


@pytest.fixture(params=KINDS)
def store(request, tmp_path):
    store = STORES[request.param](tmp_path)
    yield store
    if isinstance(store, SQLiteStore):
        store.close()


def contents(store, identifier="mine"):
    return [store.read_message(identifier, number) for number in store.list_messages(identifier)]


def test_messages_are_kept_in_order(store):
    assert store.list_messages("mine") == []
    for number in range(12):
        store.put_message("mine", b"%d" % number)
    store.put_message("other", b"x")
    assert contents(store) == [b"%d" % number for number in range(12)]
    assert contents(store, "other") == [b"x"]


def test_removed_message_is_gone_and_its_number_is_not_reused(store):
    seen = set()
    for _ in range(5):
        store.put_message("mine", b"x")
        store.put_message("mine", b"y")
        first, second = store.list_messages("mine")
        assert not seen & {first, second}
        seen |= {first, second}
        store.remove_message("mine", first)
        store.remove_message("mine", first)
        assert store.read_message("mine", first) is None
        assert contents(store) == [b"y"]
        store.remove_message("mine", second)
        assert store.list_messages("mine") == []


def test_moved_messages_keep_their_numbers(store):
    store.put_message("mine", b"x")
    store.put_message("mine", b"y")
    numbers = store.list_messages("mine")
    store.move_messages("mine", "kept")
    store.move_messages("missing", "other")
    assert store.list_messages("mine") == []
    assert store.list_messages("kept") == numbers
    store.put_message("mine", b"z")
    assert (contents(store), contents(store, "kept")) == ([b"z"], [b"x", b"y"])


def test_removing_a_run_removes_its_messages(store):
    write(store, "mine", b"journal")
    store.put_message("mine", b"x")
    store.put_message("other", b"y")
    store.remove("mine")
    assert store.list_messages("mine") == []
    assert contents(store, "other") == [b"y"]
    assert store.read("mine") is None


def test_messages_are_not_runs(store):
    store.put_message("mine", b"x")
    assert [store.read("mine"), store.modified("mine"), list(store.list())] == [None, None, []]


def test_pruning_removes_messages_with_their_run(store):
    with rt.Session(run_identifier="mine", store=store):
        rt.call_sync(len, "abc")
    store.put_message("mine", b"x")
    assert rt.state.prune(keep=0, store=store) == ["mine"]
    assert store.list_messages("mine") == []


def test_every_store_has_a_mailbox(store):
    assert find_mailbox(store) is store
    assert set(MAILBOX_METHODS) == {name for name in vars(rt.state.Mailbox) if name[0] != "_"}


@pytest.mark.parametrize("kind", PERSISTENT)
def test_other_processes_see_messages_at_once(kind, tmp_path):
    body = """
    for number in range(3):
        store.put_message("mine", b"%d" % number)
    say(*store.list_messages("mine"))
    """
    store = PERSISTENT[kind](tmp_path)
    [numbers] = ran(kind, body)
    assert store.list_messages("mine") == numbers.split()
    assert contents(store) == [b"0", b"1", b"2"]
    if isinstance(store, SQLiteStore):
        store.close()


@pytest.mark.parametrize("kind", PERSISTENT)
def test_senders_in_processes_and_threads_lose_nothing(kind, tmp_path):
    body = """
    import threading
    sys.stdin.readline()
    def send(who):
        for number in range(20):
            store.put_message("mine", f"{who} {number}".encode())
    threads = [threading.Thread(target=send, args=(f"{sys.argv[2]}.{n}",)) for n in range(2)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    store = PERSISTENT[kind](tmp_path)
    taken: list[bytes] = []
    with process(kind, body, "a") as one, process(kind, body, "b") as other:
        for child in (one, other):
            child.stdin.write("\n")
            child.stdin.flush()
        deadline = time.monotonic() + 60
        while len(taken) < 80 and time.monotonic() < deadline:  # a receiver removes meanwhile
            for number in store.list_messages("mine")[:3]:
                content = store.read_message("mine", number)
                assert content is not None
                taken.append(content)
                store.remove_message("mine", number)
        assert [child.wait(60) for child in (one, other)] == [0, 0]
        assert [child.stderr.read() for child in (one, other)] == ["", ""]
    by_sender: dict[str, list[int]] = {}
    for content in taken:
        who, number = content.decode().split()
        by_sender.setdefault(who, []).append(int(number))
    assert by_sender == {f"{process}.{thread}": list(range(20)) for process in "ab" for thread in range(2)}
    if isinstance(store, SQLiteStore):
        store.close()


# ---- files


def test_only_the_owner_reads_messages(tmp_path):
    store = FileStore(tmp_path / "runs")
    store.put_message("mine", b"x")
    [number] = store.list_messages("mine")
    assert mode(tmp_path / "runs/mine.mailbox") == 0o700
    assert mode(tmp_path / f"runs/mine.mailbox/{number}.json") == 0o600


def test_half_a_message_is_never_seen_and_is_swept(tmp_path):
    store = FileStore(tmp_path)
    store.put_message("mine", b"x")
    half = tmp_path / "mine.mailbox/.000000000002-00000000.json.0123abcd.tmp"
    half.write_bytes(b"ha")
    assert contents(store) == [b"x"]
    store.sweep()
    assert half.exists()  # its sender may be at work
    os.utime(half, (0, 0))
    store.sweep()
    assert files(tmp_path / "mine.mailbox") == [store.list_messages("mine")[0] + ".json"]


def test_odd_entries_beside_messages_are_left_out(tmp_path):
    store = FileStore(tmp_path)
    (tmp_path / "odd.mailbox").write_bytes(b"a file")
    assert store.list_messages("odd") == []
    store.put_message("mine", b"x")
    (tmp_path / "mine.mailbox/notes.txt").write_bytes(b"?")
    assert contents(store) == [b"x"]
    store.sweep()
    store.remove("mine")
    store.remove("odd")
    assert files(tmp_path) == ["odd.mailbox"]


def test_mailbox_that_is_emptied_meanwhile_takes_the_message(tmp_path, monkeypatch):
    """A receiver takes messages between any two system calls of a sender, also the one that is just being sent."""
    store = FileStore(tmp_path)
    taken: list[bytes] = []

    def take(original):
        def wrapper(*args, **kwargs):
            for number in store.list_messages("mine"):
                content = store.read_message("mine", number)
                assert content is not None
                taken.append(content)
                store.remove_message("mine", number)
            return original(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patched:
        for name in ("replace", "fsync"):
            patched.setattr(os, name, take(getattr(os, name)))
        for number in range(5):
            store.put_message("mine", b"%d" % number)
    assert taken + contents(store) == [b"%d" % number for number in range(5)]


def test_folder_stays_until_it_has_been_empty_for_long(tmp_path):
    store = FileStore(tmp_path)
    store.put_message("mine", b"x")
    store.remove_message("mine", store.list_messages("mine")[0])
    store.sweep()
    assert files(tmp_path) == ["mine.mailbox"]
    os.utime(tmp_path / "mine.mailbox", (0, 0))
    store.sweep()
    assert files(tmp_path) == []


def test_message_is_on_disk_when_it_is_sent(tmp_path, monkeypatch):
    synced: list[str] = []
    original = os.fsync

    def fsync(handle):
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        original(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    store = FileStore(tmp_path / "runs")
    store.put_message("mine", b"x")
    assert {".000000000001", "mine.mailbox", "runs"} <= names_of(synced)  # and the folders that it made
    synced.clear()
    store.put_message("mine", b"y")
    assert names_of(synced) == {".000000000002", "mine.mailbox", "runs"}


def names_of(paths):
    return {path.rpartition("/")[2].partition("-")[0] for path in paths}


def test_memory_mailbox_is_safe_in_threads():
    store = rt.state.MemoryStore()

    def send():
        for _ in range(100):
            store.put_message("mine", b"x")

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(store.list_messages("mine"))) == 400
