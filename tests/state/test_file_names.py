"""File names of runs, and where a session saves its state file."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks._identifiers import explain_invalid_identifier, slug
from railtracks.state._file_system import state_folder
from tests.state.stores import files, mode

any_text = st.text(st.characters(exclude_categories=[]), min_size=1)


@example("con.txt")
@example("aux.x/y")
@example("..")
@example("\ud800")
@example("x" * 129 + ".")
@given(any_text)
def test_the_slug_of_any_name_is_a_safe_file_name(name):
    assert explain_invalid_identifier(slug(name)) is None


@given(any_text)
def test_a_name_that_is_safe_stays_as_it_is(name):
    assert slug(slug(name)) == slug(name)


@pytest.mark.parametrize(("one", "other"), [("a b", "a/b"), ("/", ".."), ("é", "è"), ("x" * 200, "x" * 201)])
def test_names_that_differ_have_slugs_that_differ(one, other):
    assert slug(one) != slug(other)


def test_a_slug_keeps_what_people_can_read():
    assert slug("My run: no. 1").startswith("My-run-no-1-")


def fail(*_args):
    raise OSError("disk full")


async def test_a_session_saves_below_the_working_directory():
    async with rt.Session(run_identifier="mine"):
        pass
    assert mode(Path(".railtracks")) == 0o700
    assert files(Path(".railtracks")) == ["mine.json"]


async def test_railtracks_home_is_where_states_go(tmp_path, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_HOME", str(tmp_path / "deep" / "home"))
    async with rt.Session(run_identifier="mine"):
        pass
    assert state_folder() == tmp_path / "deep" / "home"
    assert files(tmp_path) == ["deep"]
    assert files(tmp_path / "deep" / "home") == ["mine.json"]


async def test_a_run_without_an_identifier_is_named_after_its_session():
    """A session without a name gets a fresh identifier."""
    async with rt.Session(name="Nightly: run/1") as named, rt.Session() as random, rt.Session() as other:
        pass
    assert named.identifier == slug("Nightly: run/1")
    assert len({named.identifier, random.identifier, other.identifier}) == 3
    assert files(Path(".railtracks")) == sorted(f"{s.identifier}.json" for s in (named, random, other))


async def test_save_state_false_writes_nothing(tmp_path):
    async with rt.Session(save_state=False):
        await rt.call(lambda: 1)
    assert files(tmp_path) == []


async def test_an_earlier_file_is_overwritten_with_a_warning(caplog):
    for result in (1, 2):
        async with rt.Session(run_identifier="mine"):
            await rt.call(lambda result=result: result)  # type: ignore[call-overload]
    warnings = [(r.name, r.levelname, r.getMessage()) for r in caplog.records]
    assert warnings == [("RT.Session", "WARNING", "File .railtracks/mine.json already exists, overwriting...")]
    assert rt.ExecutionInfo.load(".railtracks/mine.json").answer == 2


@pytest.mark.parametrize("sync", [False, True], ids=["async with", "with"])
async def test_a_state_that_cannot_be_saved_is_logged(sync, caplog, monkeypatch):
    """The result of the session is kept, and the journal stays."""
    monkeypatch.setattr(os, "replace", fail)
    session = rt.Session(run_identifier="mine")
    if sync:
        with session:
            result = await rt.call(lambda: 1)
    else:
        async with session:
            result = await rt.call(lambda: 1)
    assert result == session.info.answer == 1
    assert [(r.levelname, "disk full" in r.getMessage()) for r in caplog.records] == [("ERROR", True)]
    assert files(Path(".railtracks")) == ["mine.journal"]
    assert rt.ExecutionInfo.load(".railtracks/mine.journal").answer == 1


async def test_the_state_is_saved_when_the_working_directory_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    async with rt.Session() as session:
        await rt.call(lambda: 1)
        shutil.rmtree(tmp_path / "gone")
    assert session.info.answer == 1
    assert rt.ExecutionInfo.load(tmp_path / "gone" / ".railtracks" / f"{session.identifier}.json").answer == 1
