"""Folders and files that a session writes are readable by their owner alone."""

import os
import stat

import pytest

import railtracks as rt
from tests.watched import SECRET, login


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
@pytest.mark.parametrize("store", ["file:deep/er/state", "sqlite:deep/er/runs.sqlite", None])
async def test_folders_and_files_are_readable_by_their_owner_alone(store, durability, no_umask, tmp_path):
    """Folders and files are readable by their owner alone, during the run and after it."""

    def modes():
        found = {path.relative_to(tmp_path): mode(path) for path in tmp_path.rglob("*")}
        return {str(path): oct(value) for path, value in found.items() if value not in (0o600, 0o700)}

    async with rt.Session(store=store, durability=durability, run_identifier="run"):
        await rt.call(login, SECRET)
        assert modes() == {}
        assert list(tmp_path.rglob("*"))
    assert modes() == {}


async def test_home_and_folders_above_it_are_readable_by_their_owner(no_umask, tmp_path, monkeypatch):
    """The home folder and the folders made above it are readable by their owner alone."""
    monkeypatch.setenv("RAILTRACKS_HOME", str(tmp_path / "a" / "b"))
    async with rt.Session():
        pass
    assert [oct(mode(tmp_path / part)) for part in ("a", "a/b")] == ["0o700", "0o700"]
