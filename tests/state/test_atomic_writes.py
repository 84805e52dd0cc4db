"""``write_atomically``: a file is either the old one or the new one, and only its owner can read it."""

import os

import pytest

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


def test_content_and_folder_are_on_disk_before_it_returns(target, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, n=name, o=original: (steps.append(n), o(*args)))  # type: ignore[func-returns-value]
    write_atomically(target, [b"new"])
    assert steps == ["fsync", "replace", "fsync"]
