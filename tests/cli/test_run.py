"""``railtracks run``: flows and nodes from the command line, and what the shell gets."""

import json
import os
import re
from typing import Any

import pytest

import railtracks as rt
from railtracks._progress._display import display


def test_a_flow_runs_with_arguments_of_its_types(command, program):
    code, out, err = command("run", f"{program}:pages", 2, "--label", "y", "--run-identifier", "first")
    assert (code, out) == (0, "['y', 'page 0', 'page 1']\n")
    lines = err.splitlines()
    assert re.sub(r"[\d.]+ .?s", "", lines[0]) == "flow Pages, session first  Completed    3 calls"
    assert lines[1].startswith('└─ fetch_all(2, label="y")  Completed')


LISTS = {
    "one by one": (["alpha", "gamma"], "['alpha', 'gamma']"),
    "as JSON": (['["alpha", "gamma"]'], "['alpha', 'gamma']"),
    "an empty one": (["[]"], "[]"),
    "one text": (["alpha"], "['alpha']"),
    "no JSON": (["[alpha"], "['[alpha']"),
    "no texts": (["[1]"], "['[1]']"),
    "two": (['["a"]', "b"], "['[\"a\"]', 'b']"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_texts_is_words_or_json(command, program, name):
    words, expected = LISTS[name]
    code, out, _ = command("run", f"{program}:name_shops", "--town", "Oslo", *words)
    assert (code, out) == (0, f"Oslo: {expected} []\n")


def test_the_help_says_where_several_words_may_stand(command, program):
    code, out, _ = command("run", f"{program}:name_shops", "--help")
    assert (code, " ".join(out.partition("\n\n")[0].split())) == (
        0, f"Usage: railtracks run {program}:name_shops --town TOWN [OPTIONS] SHOPS... [KINDS...]",
    )  # fmt: skip
    _, out, _ = command("run", f"{program}:name_shops", "--town", "Oslo", "a", "--kinds", '["x", "y"]')
    assert out == "Oslo: ['a'] ['x', 'y']\n"


@pytest.mark.parametrize("target", ["{name}.py:fetch", "./{name}.py:fetch", "{name}:fetch", "{folder}/{name}.py:fetch"])
def test_a_node_runs_by_module_or_by_path(command, program, target):
    code, out, _ = command("run", target.format(name=program, folder=os.getcwd()), 1)
    assert (code, out) == (0, "page 1\n")
    assert [run.flow_name for run in rt.state.list_runs()] == ["fetch"]


def test_a_failure_shows_the_users_lines_alone(command, program):
    code, out, err = command("run", f"{program}:pages", 4, "--strict", "--run-identifier", "bad")
    assert (code, out) == (1, "")
    assert "fetch(3)  Failed" in err
    assert "LookupError: no page 3" in err
    frames = re.findall(r'File "(.*?)"', err)
    assert {os.path.basename(frame) for frame in frames} == {f"{program}.py"}
    assert err.endswith("railtracks: to go on with this run: railtracks resume bad\n")


EXITS = {
    "timed out": (124, ["wait", "60", "--session-timeout", "0.05"]),
    "left": (7, ["leave"]),
    "left without a code": (0, ["leave_quietly"]),
    "interrupted": (130, ["interrupt"]),
    "suspended": (75, ["asking"]),
    "no number": (2, ["fetch", "x"]),
    "no argument": (2, ["fetch"]),
    "no such option": (2, ["fetch", "1", "--colour", "3"]),
}


@pytest.mark.parametrize("name", EXITS)
def test_the_exit_code_says_how_it_ended(command, program, name):
    expected, (target, *words) = EXITS[name]
    code, _, err = command("run", f"{program}:{target}", *words)
    assert code == expected
    assert ("Traceback" in err) is False
    assert err


def test_what_it_waits_for_is_said(command, program):
    _, _, err = command("run", f"{program}:asking", "--run-identifier", "order")
    assert re.search(r"waits for an answer: railtracks answer order (\S+) \.\.\.  # Which colour\?", err)


def test_machines_get_one_object(command, program):
    code, out, err = command("run", f"{program}:pages", 4, "--json", "--run-identifier", "j")
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert data.pop("seconds") > 0
    assert data == {
        "run": "j", "flow": "Pages", "status": "Completed", "calls": 5, "failed": 1, "retried": 0, "cached": 0,
        "error": None, "exit_code": 0,
        "result": ["x", "page 0", "page 1", "page 2", "no page 3"],
    }  # fmt: skip
    code, out, _ = command("run", f"{program}:pages", 4, "--json", "--strict")
    assert (code, json.loads(out)["error"]) == (1, "LookupError: no page 3")


def test_a_run_goes_on_with_resume(command, program):
    arguments = ("run", f"{program}:pages", 4, "--strict", "--resume")
    code, _, err = command(*arguments)
    assert (code, err) == (2, "railtracks: --resume needs the name of the run: pass --run-identifier my-unique-run\n")
    command(*arguments, "--run-identifier", "r")
    _, _, err = command(*arguments, "--run-identifier", "r")
    assert "fetch(0)  Completed (reused)" in err


def test_options_of_the_session_are_options_of_the_command(command, program):
    code, out, _ = command("run", f"{program}:wait", "--help")
    assert code == 0
    for name in ("--timeout", "--session-timeout", "--resume", "--session-resume", "--backend", "--durability"):
        assert re.search(rf"{name}\b", out)
    assert "--session-timeout SECONDS" in out
    assert "--max-threads NUMBER" in out
    code, _, err = command("run", f"{program}:fetch", 1, "--backend", "twisted")
    assert (code, err) == (
        2, "railtracks: --backend: 'twisted' is not allowed for backend; expected 'asyncio' or 'trio'\n",
    )  # fmt: skip
    code, _, err = command("run", f"{program}:fetch", 1, "--timeout", "soon")
    assert "--timeout: 'soon' is not allowed for timeout; expected a number of seconds above 0" in err
    command("run", f"{program}:fetch", 1, "--store", "sqlite:runs.db", "--backend", "trio", "--no-save-state")
    assert rt.state.list_runs() == []


MISTAKES = {
    "{name}": "expected {name}:NAME; {name} has ask_twice, asking, clash, fail_alike, fetch, fetch_all",
    "{name}.py": "expected {name}.py:NAME; {name}.py has ask_twice",
    ":flow": "'' is not a module; expected MODULE:NAME or PATH.py:NAME",
    ".app:flow": "'.app' is not a module; expected MODULE:NAME or PATH.py:NAME",
    "{name}:nope": "there is no nope in {name}; {name} has ask_twice",
    "{name}:number": "{name}:number is int, and neither a flow nor a node",
    "nope.py:flow": "there is no file nope.py",
    "no.such.module:flow": "there is no module no; expected MODULE:NAME or PATH.py:NAME",
    "json:dumps.nope": "there is no dumps.nope in json; json has no flows and no nodes",
}


@pytest.mark.parametrize("target", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_to_write(command, program, target):
    code, out, err = command("run", target.format(name=program))
    assert (code, out) == (2, "")
    assert err.startswith(f"railtracks: {MISTAKES[target].format(name=program)}")
    assert err.count("\n") == 1


def test_an_error_in_the_program_is_not_hidden(command, tmp_path, program):
    (tmp_path / "broken_program.py").write_text("import no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        command("run", "broken_program:flow")


def test_no_name_of_a_parameter_is_in_the_way(command, program):
    code, out, _ = command(
        "run", f"{program}:clash", 1, "--session-timeout", 2, "--session-session-timeout", 60, "--run-identifier", "c"
    )
    assert (code, out) == (0, "1 2 \\ud800\n")
    assert command("show", "c")[1].splitlines()[1].startswith("└─ clash(1, 2)  Completed")


def test_the_way_on_is_the_one_that_there_is(command, program):
    _, _, err = command("run", f"{program}:fetch", 3, "--no-save-state")
    assert "railtracks resume" not in err
    _, _, err = command("run", f"{program}:fetch", 3, "--store", "sqlite:runs.db", "--run-identifier", "bad")
    assert err.endswith("railtracks: to go on with this run: railtracks resume bad --store sqlite:runs.db\n")
    assert command("resume", "bad", "--store", "sqlite:runs.db")[0] == 1


def test_a_run_that_is_refused_is_no_run(command, program):
    command("run", f"{program}:fetch", 1, "--run-identifier", "taken")
    code, out, err = command("run", f"{program}:fetch", 1, "--run-identifier", "taken", "--if-exists", "fail", "--json")
    assert (code, out) == (1, "")
    assert err.startswith("railtracks: ")
    assert err.count("\n") == 1


def test_odd_signatures_and_secrets(command, program):
    assert command("run", f"{program}:loose", "a", "--self", "b")[:2] == (0, "a {'self': 'b'}\n")
    code, _, err = command("run", f"{program}:leak", "sk-proj-0123456789abcdef0123")
    assert code == 1
    assert "0123456789abcdef0123" not in err


@pytest.mark.parametrize(
    ("words", "value", "shown"),
    [([], "", 1), (["--no-progress"], "", 0), (["--json"], "", 0), (["--json", "--progress"], "", 1), ([], "no", 0)],
    ids=["default", "--no-progress", "--json", "--json --progress", "configured"],
)
def test_what_runs_is_shown_by_default(command, program, monkeypatch, words, value, shown):
    monkeypatch.setenv("RAILTRACKS_PROGRESS", value)
    views: list[Any] = []
    monkeypatch.setattr(display, "add", views.append)
    code, _, err = command("run", f"{program}:pages", 2, *words)
    assert (code, len(views)) == (0, shown)
    assert "RT progress" not in err  # the tree says more than the last line would


def test_the_help_says_when_it_is_shown(command, program):
    _, out, _ = command("run", f"{program}:pages", "--help")
    assert "--no-progress" in out
    assert "unless --json is given" in " ".join(out.replace("│", " ").split())


def test_what_cannot_be_served_by_mcp_is_named(command, program):
    assert command("mcp", f"{program}:nothing")[0] == 2
    code, out, err = command("mcp", f"{program}:shape", f"{program}:shape")
    assert (code, out) == (1, "")
    assert "two tools are called 'shape'" in err
