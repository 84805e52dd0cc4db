"""Folders that hold something else beside runs, and runs that had not begun when their process died."""

from __future__ import annotations

import os

import pytest

import railtracks as rt
from railtracks.exceptions import RunNotFoundError, StateError
from railtracks.state import FileStore
from tests.durability.world import FOLDER


@pytest.fixture
def run():
    """A run that has ended."""
    with rt.Session(run_identifier="run", logging_setting="NONE"):
        rt.call_sync(len, "abc")


def make_folder(path):
    path.mkdir()


def make_loop(path):
    path.symlink_to(path.name)


def make_pipe(path):
    os.mkfifo(path)


def make_private(path):
    path.write_bytes(b"{}")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("kind", ["json", "journal"])
@pytest.mark.parametrize("make", [make_folder, make_loop, make_pipe, make_private])
def test_an_odd_entry_is_left_out_with_a_warning(make, kind, caplog):
    make(FOLDER / f"odd.{kind}")
    assert [each.identifier for each in rt.state.list_runs()] == ["run"]
    [warning] = [record.getMessage() for record in caplog.records if record.name == "RT"]
    assert warning.startswith(f"the run odd in {FOLDER.resolve()} is left out, as it cannot be read: ")
    assert rt.state.prune(older_than=0) == ["run"]
    with pytest.raises(OSError, match="odd"):
        rt.state.load_run("odd")


@pytest.mark.parametrize("content", [b"", b"\0\0", FileStore])
def test_a_run_that_had_not_begun_has_no_calls(content, backend):
    """Its process died while the journal was begun."""
    if content is FileStore:
        with rt.Session(run_identifier="whole", logging_setting="NONE"):
            rt.call_sync(len, "abc")
            content = (FOLDER / "whole.journal").read_bytes()[:30]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "run.journal").write_bytes(content)
    assert [(each.identifier, each.state) for each in rt.state.list_runs()][-1] == ("run", "died")
    info = rt.state.load_run("run")
    assert (info.session_id, info.records, info.damage) == ("run", (), None)
    flow = rt.Flow("F", len, run_identifier="run", if_exists="resume", logging_setting="NONE", backend=backend)
    assert flow.invoke("abc") == 3


def test_a_journal_whose_beginning_is_damaged_is_an_error():
    FOLDER.mkdir()
    (FOLDER / "run.journal").write_bytes(b'\x05\0\0\0\0\0\0\0{"x"}')
    with pytest.raises(StateError, match="beginning is damaged") as caught:
        rt.state.load_run("run")
    assert not isinstance(caught.value, RunNotFoundError)
