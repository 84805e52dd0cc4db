"""Identifiers of runs are plain file names: others are refused wherever they come from."""

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import railtracks as rt
from railtracks._config import resolve_config
from railtracks._identifiers import explain_invalid_identifier
from railtracks.exceptions import ConfigError
from tests.watched import login


@pytest.mark.parametrize(
    ("identifier", "reason"),
    [
        ("", "empty"), ("a/b", "'/'"), ("a\\b", r"'\\\\'"), ("..", "begins with '.'"), (".hidden", "begins with '.'"),
        ("-rf", "begins with"), ("a.", "ends with '.'"), ("a\0b", r"'\\x00'"), ("a\nb", r"'\\n'"), ("a b", "' '"),
        ("a:b", "':'"), ("con", "reserved"), ("NUL.txt", "reserved"), ("Com1", "reserved"),
        ("x" * 129, "129 characters"),
        ("é", "'é'"), ("a\ud800", "ud800"), ("~", "'~'"), ("$HOME", r"'\$'"), ("a*", r"'\*'"),
    ],
)  # fmt: skip
def test_unsafe_identifier_is_refused_with_the_reason(identifier, reason):
    """An identifier that is not a safe file name is refused with the reason."""
    with pytest.raises(ConfigError, match=f"for run_identifier; expected a file name.*{reason}"):
        rt.Session(run_identifier=identifier)


@pytest.mark.parametrize(
    "identifier", ["my-unique-run", "a", "1", "_x", "a.b", "2026-01-01T00.00", "x" * 128, "console"]
)
def test_a_safe_identifier_is_taken_as_it_is(identifier):
    assert rt.Session(run_identifier=identifier).identifier == identifier


@example("..")
@example("a/../../b")
@given(st.text(max_size=140) | st.text("./\\~-_abC0: ", max_size=20))
def test_an_identifier_that_is_accepted_never_leaves_the_folder(identifier):
    if explain_invalid_identifier(identifier) is not None:
        with pytest.raises(ConfigError):
            resolve_config({"run_identifier": identifier})
        return
    path = os.path.normpath(os.path.join("/home", f"{identifier}.json"))
    assert PurePosixPath(path).parent == PurePosixPath("/home")
    assert resolve_config({"run_identifier": identifier}).run_identifier == identifier
    assert len(os.fsencode(path)) < 200


BAD = [
    "../x", "..", "a/b", "/abs", "a\\b", "C:x", ".", "", " ", "x" * 300, "con", "CON.txt", "nul", "com1",
    "a\0b", "a\nb", ".hidden", "-rf", "x.", "é", "~", "a:b", "%2e%2e", "x*",
]  # fmt: skip


bad = pytest.mark.parametrize("identifier", BAD, ids=lambda text: ascii(text)[:12])


@bad
def test_identifier_that_is_not_a_file_name_is_refused(identifier, tmp_path):
    """An identifier that is not a plain file name is refused everywhere."""
    flow = rt.Flow("Flow", entry_point=login)
    for attempt in (
        lambda: rt.Session(run_identifier=identifier),
        lambda: rt.Session(resume=identifier),
        lambda: rt.Session(resume=identifier, run_identifier="fine"),
        lambda: rt.Flow("Flow", entry_point=login, run_identifier=identifier),
        lambda: flow.resume(identifier),
        lambda: flow.fork(identifier, before=login),
        lambda: rt.state.load_run(identifier),
        lambda: rt.set_config(run_identifier=identifier),
    ):
        with pytest.raises(ConfigError):
            attempt()
    assert list(tmp_path.rglob("*")) == []


@bad
def test_identifier_of_the_environment_is_checked_too(identifier, monkeypatch):
    if "\0" in identifier or not identifier:
        pytest.skip("the environment cannot hold it, or takes it as not set")
    monkeypatch.setenv("RAILTRACKS_RUN_IDENTIFIER", identifier)
    with pytest.raises(ConfigError, match="RAILTRACKS_RUN_IDENTIFIER"):
        rt.Session()


@bad
async def test_name_that_is_not_a_file_name_stays_in_the_folder(identifier, tmp_path):
    if not identifier:
        pytest.skip("a name is not empty")
    async with rt.Session(name=identifier):
        pass
    assert {path.parent.name for path in tmp_path.rglob("*") if path.is_file()} == {".railtracks"}


@bad
async def test_aresume_refuses_an_identifier_that_is_not_a_file_name(identifier):
    with pytest.raises(ConfigError):
        await rt.Flow("Flow", entry_point=login).aresume(identifier)
