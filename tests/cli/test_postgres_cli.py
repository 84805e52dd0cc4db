"""The command line with runs in PostgreSQL."""

import shlex
from pathlib import Path

import pytest

from tests.postgres import needs_postgres, url_of

ASKING = """
import railtracks as rt

@rt.function_node
async def main() -> int:
    return await rt.ask("how many?")

flow = rt.Flow("Asking", main)
"""
SECRET = "correct-Horse-9"


@needs_postgres
def test_runs_in_postgres_are_run_listed_shown_and_removed(command, program):
    store = url_of(Path.cwd())
    assert command("run", f"{program}:pages", 2, "--store", store, "--run-identifier", "first")[0] == 0
    code, out, _ = command("list", "--store", store)
    assert (code, out.splitlines()[1].split()[:3]) == (0, ["first", "Pages", "Completed"])
    assert command("show", "first", "--store", store)[1].startswith("flow Pages, session first  Completed")
    assert command("tail", "first", "--store", store)[0] == 0
    assert command("doctor", "--store", store)[0] == 0
    assert command("prune", "--keep", 0, "--store", store)[1] == "1 run removed.\n"


@needs_postgres
def test_how_to_go_on_is_shown_without_the_password(command, program):
    store = url_of(Path.cwd()) + f"&password={SECRET}"
    code, _, err = command("run", f"{program}:fetch", 3, "--store", store, "--run-identifier", "bad")
    assert code == 1
    assert SECRET not in err
    assert "railtracks resume bad --store 'postgresql:///" in err
    assert err.endswith("&password=***'\n")


@needs_postgres
def test_what_to_enter_next_names_the_store(command, tmp_path, monkeypatch):
    Path("asking.py").write_text(ASKING)
    store = url_of(Path.cwd())
    shown = f" --store {shlex.quote(store)}"
    code, _, err = command("run", "asking.py:flow", "--store", store, "--run-identifier", "asks")
    assert code == 75
    line = next(line for line in err.splitlines() if "railtracks answer asks" in line)
    question = line.split("answer asks ")[1].split()[0]
    assert f"railtracks answer asks {question} ...{shown}  # how many?" in line
    assert f"railtracks answer asks {question} ...{shown}" in command("show", "asks", "--store", store)[1]
    assert command("answer", "asks", question, 7, "--store", store)[1].endswith(f"railtracks resume asks{shown}\n")
    assert command("show", "asks", "--store", store)[1].endswith(f"railtracks resume asks{shown}\n")
    assert command("resume", "asks", "--store", store)[:2] == (0, "7\n")
    assert f"see railtracks show asks{shown}" in command("resume", "asks", "--store", store)[2]
    assert command("compare", "asks", "asks", "--store", store)[0] == 0
    assert command("export", "asks", "--format", "json", "--store", store)[0] == 0
    assert command("view", "asks", "--no-open", "--store", store)[0] == 0
    assert command("cancel", "asks", "--store", store)[0] == 1  # it has completed


@pytest.mark.parametrize("words", [["list"], ["show", "run"], ["prune", "--keep", "0"], ["cancel", "run"]])
def test_a_server_that_is_not_there_is_one_line(command, tmp_path, words):
    pytest.importorskip("psycopg")
    code, out, err = command(*words, "--store", f"postgresql://me:{SECRET}@/runs?host={tmp_path}")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"railtracks: postgresql://me@{tmp_path}/runs (schema railtracks): cannot ")
    assert SECRET not in err
