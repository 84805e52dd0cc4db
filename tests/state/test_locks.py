"""The locks of stores, in one process and between several."""

import errno
import os
import signal
import stat
import threading
from contextlib import ExitStack
from typing import Any

import pytest

from railtracks.exceptions import RunInUseError
from railtracks.state import FileStore
from railtracks.state._stores import _file_lock, _files
from tests.state.stores import PERSISTENT, needs_fork, process, ran

# ---- locks

on_files = pytest.mark.parametrize("kind", ["file", "sqlite"])
"""For a test that is about files."""


def test_a_lock_excludes_others_until_it_is_released(store):
    assert store.is_locked("mine") is False
    lock = store.lock("mine")
    assert store.is_locked("mine") is True
    assert store.is_locked("other") is False
    with pytest.raises(RunInUseError, match="mine"):
        store.lock("mine")
    store.lock("other").release()
    assert store.is_locked("mine") is True
    lock.release()
    assert store.is_locked("mine") is False
    store.lock("mine").release()


def test_releasing_a_lock_again_does_nothing(store):
    lock = store.lock("mine")
    lock.release()
    lock.release()
    assert store.is_locked("mine") is False


def test_a_second_release_does_not_release_the_next_lock(store):
    first = store.lock("mine")
    first.release()
    second = store.lock("mine")
    first.release()
    assert store.is_locked("mine") is True
    with pytest.raises(RunInUseError):
        store.lock("mine")
    second.release()
    assert store.is_locked("mine") is False


def test_of_several_threads_that_want_a_lock_exactly_one_gets_it(store):
    for _ in range(20):
        start, got, refused = threading.Barrier(4), [], []

        def take(start=start, got=got, refused=refused):
            start.wait()
            try:
                got.append(store.lock("mine"))
            except RunInUseError as exc:
                refused.append(exc)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(got), len(refused)) == (1, 3)
        assert store.is_locked("mine") is True
        got[0].release()
        assert store.is_locked("mine") is False


def test_two_stores_of_one_place_share_their_locks(kind, tmp_path):
    one, other = PERSISTENT[kind](tmp_path), PERSISTENT[kind](tmp_path)
    lock = one.lock("mine")
    assert other.is_locked("mine") is True
    with pytest.raises(RunInUseError):
        other.lock("mine")
    lock.release()
    other.lock("mine").release()


@on_files
def test_a_place_has_one_set_of_locks_for_all_its_paths(kind, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    one, other = PERSISTENT[kind](tmp_path / "real"), PERSISTENT[kind](tmp_path / "link")
    lock = one.lock("mine")
    assert other.is_locked("mine") is True
    with pytest.raises(RunInUseError):
        other.lock("mine")
    lock.release()


@on_files
def test_the_lock_file_is_gone_after_the_release(persistent, tmp_path):
    lock = persistent.lock("mine")
    [file] = tmp_path.rglob("*.lock")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lock.release()
    assert [*tmp_path.rglob("*.lock")] == []


@on_files
def test_a_lock_file_of_a_dead_process_does_not_lock(persistent, tmp_path):
    persistent.lock("mine").release()
    lock = persistent.lock("mine")
    [file] = tmp_path.rglob("*.lock")
    lock.release()
    file.touch()
    assert persistent.is_locked("mine") is False
    persistent.lock("mine").release()


def test_the_error_names_the_run_and_what_to_do(store):
    lock = store.lock("mine.v2")
    with pytest.raises(
        RunInUseError, match=r"the run 'mine\.v2' is open in another session.*use another run_identifier"
    ):
        store.lock("mine.v2")
    lock.release()


# ---- several processes


HOLDER = """
lock = store.lock("mine")
say("locked")
sys.stdin.readline()
"""


def test_a_lock_excludes_other_processes_until_its_own_is_killed(kind, persistent):
    with process(kind, HOLDER) as holder:
        assert holder.stdout.readline() == "locked\n"
        assert persistent.is_locked("mine") is True
        with pytest.raises(RunInUseError, match="mine"):
            persistent.lock("mine")
        assert persistent.is_locked("mine") is True  # asking did not take it away
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert persistent.is_locked("mine") is False
    lock = persistent.lock("mine")
    [said] = ran(kind, "say(store.is_locked('mine'), attempt(store))")
    assert said == "True in use"
    lock.release()


def test_a_copy_of_the_handle_of_a_journal_does_not_lock_it(tmp_path):
    # A process has one between its fork and its exec, and so has an fsync that goes on.
    store = FileStore(tmp_path)
    lock = store.lock("mine")
    journal: Any = store.open("mine", b"entry")
    copy = os.dup(journal._handle)
    journal.close()
    lock.release()
    assert store.is_locked("mine") is False
    store.lock("mine").release()
    os.close(copy)


def test_the_layout_of_a_lock_fits_this_platform(tmp_path):
    """All members of the structure that the kernel fills in stand where they are expected."""
    fcntl = pytest.importorskip("fcntl")
    body = """
    lock = store.lock("mine")
    say(os.getpid())
    sys.stdin.readline()
    """
    with process("file", body) as other, ExitStack() as stack:
        holder = int(other.stdout.readline())
        file = stack.enter_context((tmp_path / "runs/mine.lock").open("r+"))
        found = _file_lock._conflicting_lock(file.fileno())
        owner = -1 if _file_lock.HAS_OWN_LOCKS else holder
        assert found == {"type": fcntl.F_WRLCK, "whence": 0, "start": 0, "length": 0, "process": owner}
        other.kill()
        other.wait()
        assert _file_lock._conflicting_lock(file.fileno())["type"] == fcntl.F_UNLCK


@needs_fork
def test_a_forked_child_does_not_hold_the_lock_on(kind, persistent):
    body = """
    lock = store.lock("mine")
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent has died
        say("orphan")
        sys.stdin.readline()
        os._exit(0)
    say("locked")
    sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
    """
    with process(kind, body) as parent:
        assert parent.stdout.readline() == "locked\n"
        assert persistent.is_locked("mine") is True
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "orphan\n"
        assert parent.wait() == -signal.SIGKILL
        persistent.lock("mine").release()


@needs_fork
def test_a_forked_child_cannot_release_the_lock_of_its_parent(kind, persistent):
    body = """
    lock = store.lock("mine")
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    say("forked")
    sys.stdin.readline()
    """
    with process(kind, body) as parent:
        assert parent.stdout.readline() == "forked\n"
        assert persistent.is_locked("mine") is True
        with pytest.raises(RunInUseError):
            persistent.lock("mine")


@needs_fork
def test_a_forked_child_sees_the_lock_of_its_parent(kind):
    """As long as the parent holds it, and no longer."""
    body = """
    lock = store.lock("mine")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        say(store.is_locked("mine"), attempt(store))
        os.close(writing)
        os.read(reading, 1)
        say(store.is_locked("mine"), attempt(store))
        os._exit(0)
    os.close(reading)
    again = os.fork()
    if again == 0:
        os._exit(0)
    os.waitpid(again, 0)
    sys.stdin.readline()
    lock.release()
    os.close(writing)
    os.waitpid(child, 0)
    """
    with process(kind, body) as parent:
        assert parent.stdout.readline() == "True in use\n"
        out, err = parent.communicate("\n", timeout=60)
    assert (out, err) == ("False free\n", "")


def test_exactly_one_of_several_processes_gets_a_lock(kind):
    body = """
    say("ready")
    sys.stdin.readline()
    got = 0
    try:
        lock = store.lock("mine")
        got = 1
    except RunInUseError:
        pass
    say(got)
    sys.stdin.readline()
    """
    with ExitStack() as stack:
        children = [stack.enter_context(process(kind, body)) for _ in range(3)]
        assert [child.stdout.readline() for child in children] == ["ready\n"] * 3
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        assert sorted(child.stdout.readline() for child in children) == ["0\n", "0\n", "1\n"]


# ---- Windows


class Msvcrt:
    """What there is of ``msvcrt`` on Windows: a lock of an open file on a byte, which goes when the file is closed."""

    LK_UNLCK, LK_LOCK, LK_NBLCK, LK_RLCK, LK_NBRLCK = range(5)

    def __init__(self):
        self.locks: dict[int, tuple[int, int]] = {}

    def locking(self, handle, mode, size):
        assert (mode, size, os.lseek(handle, 0, os.SEEK_CUR)) == (self.LK_NBLCK, 1, 0)
        file = identity(os.fstat(handle))
        if file in self.locks.values():
            raise PermissionError(errno.EACCES, "Permission denied")
        self.locks[handle] = file


def identity(status):
    return status.st_dev, status.st_ino


@pytest.fixture
def windows(monkeypatch):
    """The locks as on Windows, where an open file cannot be removed."""
    msvcrt, unlink, close = Msvcrt(), os.unlink, os.close

    def unlink_closed(path):
        if identity(os.stat(path)) in msvcrt.locks.values():
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        unlink(path)

    def close_unlocked(handle):
        msvcrt.locks.pop(handle, None)
        close(handle)

    monkeypatch.setattr(_file_lock, "HAS_POSIX_LOCKS", False)
    monkeypatch.setattr(_file_lock, "msvcrt", msvcrt, raising=False)
    monkeypatch.setattr(_file_lock, "HAS_OWN_LOCKS", False)
    monkeypatch.setattr(_files, "HAS_OWN_LOCKS", False)
    monkeypatch.setattr(os, "unlink", unlink_closed)
    monkeypatch.setattr(os, "close", close_unlocked)
    return msvcrt


def other_process(path):
    """Hold the lock of a file as another process does."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    _file_lock.lock_handle(handle)
    return handle


@pytest.mark.parametrize(
    ("holder", "file", "is_locked", "is_left"),
    [
        ("nobody", False, False, False),
        ("nobody", True, False, False),  # a killed process has left the file
        ("this process", True, True, False),
        ("another process", True, True, True),
    ],
)
def test_runs_are_locked_on_windows_too(holder, file, is_locked, is_left, windows, tmp_path):
    store, path = FileStore(tmp_path), tmp_path / "mine.lock"
    if file:
        path.touch()
    held = store.lock("mine") if holder == "this process" else None
    handle = other_process(path) if holder == "another process" else None
    assert store.is_locked("mine") is is_locked
    if is_locked:
        with pytest.raises(RunInUseError, match="mine"):
            store.lock("mine")
        store.sweep()
        assert path.exists()
    else:
        store.lock("mine").release()
    if held is not None:
        held.release()
        held.release()
    assert path.exists() is is_left
    if handle is not None:
        os.close(handle)
        store.lock("mine").release()
        assert not path.exists()


def test_lock_that_the_next_holder_has_opened_stays_on_windows(windows, tmp_path, monkeypatch):
    """It cannot be removed there while the next holder has it open."""
    store, path, close = FileStore(tmp_path), tmp_path / "mine.lock", os.close
    handles = []

    def close_and_open(handle):
        close(handle)
        monkeypatch.setattr(os, "close", close)
        handles.append(other_process(path))

    lock = store.lock("mine")
    monkeypatch.setattr(os, "close", close_and_open)
    lock.release()
    assert store.is_locked("mine")
    assert path.exists()
    os.close(handles[0])


def test_journal_is_not_locked_on_windows(windows, tmp_path):
    """Others could not read it there."""
    store = FileStore(tmp_path)
    lock = store.lock("mine")
    appender = store.open("mine", b"header")
    assert len(windows.locks) == 1
    appender.close()
    lock.release()
