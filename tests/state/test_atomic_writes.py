"""``write_atomically``: a file is either the old one or the new one, and only its owner can read it."""

import os

import pytest

from railtracks.state import FileStore, SQLiteStore, _file_system
from railtracks.state._file_system import write_atomically
from tests.state.stores import files, mode


@pytest.fixture
def target(tmp_path):
    return tmp_path / "folder" / "state.json"


def test_only_the_owner_can_read_a_written_file_and_new_folder(target):
    before = os.umask(0)
    try:
        write_atomically(target, [b"new"])
    finally:
        os.umask(before)
    assert (target.read_bytes(), mode(target), mode(target.parent)) == (b"new", 0o600, 0o700)
    assert files(target.parent) == ["state.json"]


def test_a_file_that_others_could_read_becomes_its_owners_alone(target):
    target.parent.mkdir()
    target.write_bytes(b"old")
    target.chmod(0o644)
    write_atomically(target, [b"new"])
    assert (target.read_bytes(), mode(target)) == (b"new", 0o600)


def test_a_folder_that_exists_keeps_its_mode(target):
    target.parent.mkdir()
    target.parent.chmod(0o755)
    write_atomically(target, [b"new"])
    assert mode(target.parent) == 0o755


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=type)
@pytest.mark.parametrize("step", ["fsync", "replace", "fdopen"])
def test_a_write_that_fails_leaves_only_the_old_file(target, monkeypatch, step, error):
    """The old file is whole."""
    write_atomically(target, [b"old"])

    def fail(*_args):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(error)) as caught:
            write_atomically(target, [b"new"])
    assert caught.value is error
    assert target.read_bytes() == b"old"
    assert files(target.parent) == ["state.json"]


def test_a_folder_stands_where_the_file_should_go(target):
    target.mkdir(parents=True)
    with pytest.raises(OSError, match=r"state\.json"):
        write_atomically(target, [b"new"])
    assert files(target.parent) == ["state.json"]


@pytest.fixture
def synced(monkeypatch):
    """The folders that are put on disk, in order."""
    folders, original = [], _file_system.sync_folder

    def sync_folder(folder):
        folders.append(os.fspath(folder))
        original(folder)

    monkeypatch.setattr(_file_system, "sync_folder", sync_folder)
    return folders


def appended(folder):
    appender = FileStore(folder).open("run", b"header")
    appender.sync()
    appender.close()


WRITERS = {
    "file": lambda folder: write_atomically(folder / "x.json", [b"new"]),
    "document": lambda folder: FileStore(folder).save("run", [b"{}"]),
    "journal": appended,
    "sqlite": lambda folder: SQLiteStore(folder / "runs.db").save("run", [b"{}"]),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_new_folders_are_on_disk_as_well(writer, tmp_path, synced):
    """The names of all that were made, in their parents; once."""
    made = tmp_path / "a" / "b" / "c"
    WRITERS[writer](made)
    assert {str(tmp_path), str(made.parent.parent), str(made.parent)} <= {*synced}
    synced.clear()
    WRITERS[writer](made)
    assert {*synced} <= {str(made)}


def test_folder_in_one_that_cannot_be_read_is_made_all_the_same(target, synced, monkeypatch):
    def refuse(folder):
        if os.fspath(folder) != str(target.parent):
            raise PermissionError(folder)

    monkeypatch.setattr(_file_system, "sync_folder", refuse)
    write_atomically(target, [b"new"])
    assert target.read_bytes() == b"new"


def test_folder_that_could_not_be_put_on_disk_is_tried_again(target, synced, monkeypatch):
    def fail(folder):
        raise OSError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(_file_system, "sync_folder", fail)
        with pytest.raises(OSError, match="broken"):
            write_atomically(target, [b"new"])
    write_atomically(target, [b"new"])
    assert synced == [str(target.parent.parent), str(target.parent)]


@pytest.mark.parametrize("left", [False, True], ids=["nothing left", "left by a kill"])
def test_only_writer_uses_one_temporary_file(left, target, monkeypatch):
    temporary = target.parent / ".state.json.tmp"
    write_atomically(target, [b"old"])
    if left:
        temporary.write_bytes(b"half")
        temporary.chmod(0o644)
    seen, replace = [], os.replace

    def watch(source, to):
        seen.append(source)
        replace(source, to)

    monkeypatch.setattr(os, "replace", watch)
    write_atomically(target, [b"new"], is_only_writer=True)
    assert seen == [str(temporary)]
    assert (target.read_bytes(), mode(target), files(target.parent)) == (b"new", 0o600, ["state.json"])


@pytest.mark.parametrize("is_new", [False, True], ids=["old folder", "new folder"])
def test_content_and_folder_are_on_disk_before_it_returns(is_new, target, monkeypatch):
    if not is_new:
        target.parent.mkdir()
    steps = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, n=name, o=original: (steps.append(n), o(*args)))  # type: ignore[func-returns-value]
    write_atomically(target, [b"new"])
    assert steps == ["fsync", "replace", "fsync", *["fsync"] * is_new]
