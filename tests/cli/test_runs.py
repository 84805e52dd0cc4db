"""The commands that list, show, follow, resume, answer, cancel and remove runs, and that check what is set."""

import json
import re
import subprocess
import sys
import threading
import time

import anyio
import pytest

import railtracks as rt
from railtracks.cli._output import shown_age
from railtracks.state import MemoryStore, Status, list_runs, load_run, prune


def columns(out):
    return [line.split()[:3] for line in out.splitlines()]


def test_runs_are_listed_the_latest_first(command, runs):
    code, out, _ = command("list")
    assert code == 0
    assert columns(out) == [
        ["RUN", "FLOW", "STATUS"], ["waiting", "Asking", "Suspended"], ["bad", "Pages", "Failed"],
        ["good", "Pages", "Completed"],
    ]  # fmt: skip
    assert columns(command("list", "--unfinished", "--flow", "Pages")[1])[1:] == [["bad", "Pages", "Failed"]]
    assert command("list", "--limit", 1)[1].splitlines()[2] == "… and 2 earlier runs; --limit 0 shows all"
    assert [run["identifier"] for run in json.loads(command("list", "--since", "1h", "--json")[1])] == [
        "waiting", "bad", "good",
    ]  # fmt: skip
    assert command("list", "--since", "2100-01-01")[1] == "There are no such runs.\n"
    assert command("list", "--store", "file:elsewhere")[1] == "There are no runs.\n"


def test_it_is_said_that_nothing_failed(command, backend):
    errors = [OSError("no route")]

    @rt.function_node(retries=rt.Retry(wait_initial=0, wait_jitter=0))
    async def flaky():
        if errors:
            raise errors.pop()

    rt.Flow("Fine", flaky, run_identifier="fine", backend=backend).invoke()
    first, *rest = command("show", "fine", "--failed")[1].splitlines()
    assert first.startswith("flow Fine, session fine  Completed")
    assert rest == ["Nothing failed."]
    assert "Nothing failed" not in command("show", "fine")[1]


AGES = {
    -1: "0 s", 0: "0 s", 4.07: "4 s", 59.9: "59 s", 60: "1 min", 3599: "59 min", 3600: "1 h", 86_399: "23 h",
    86_400: "1 d", 5.9 * 86_400: "5 d",
}  # fmt: skip


def test_an_age_is_in_its_greatest_unit(command, runs):
    assert {seconds: shown_age(seconds) for seconds in AGES} == AGES
    assert all(re.search(r"  \d+ (s|min)$", line) for line in command("list")[1].splitlines()[1:])


def test_one_run_is_shown_as_asked(command, runs):
    info = load_run("bad")
    assert command("show", "bad") == (0, f"{info.tree()}\n", "")
    assert command("show", "bad", "--no-arguments", "--max-calls", 1)[1] == f"{info.tree(1, False)}\n"
    assert command("show", "good", "--no-folds")[1] == f"{load_run('good').tree(folds=False)}\n"
    assert command("show", "good", "--stats")[1] == f"{load_run('good').summary()}\n"
    _, out, _ = command("show", "good", "--failed")
    assert out.startswith(load_run("good").tree(failed=True))
    assert re.search(r"\nfetch\(3\)\nTraceback .*\nLookupError: no page 3\n", out, re.DOTALL)
    data = json.loads(command("show", "bad", "--json")[1])
    assert (data["status"], data["document"]) == ("Failed", info.payload())
    last = command("show", "waiting")[1].splitlines()[-1]
    assert re.fullmatch(r"It waits for an answer: railtracks answer waiting q-\w+ \.\.\.  # Which colour\?", last)


def test_equal_tracebacks_are_shown_once(command, program):
    command("run", f"{program}:fail_alike", 6, "--run-identifier", "alike")
    _, out, _ = command("show", "alike", "--failed")
    assert out.split("\n\n")[1].startswith("refuse(0)  (3 calls)\nTraceback")
    assert (out.count("Traceback"), "… and" in out) == (3, True)
    assert out.splitlines()[-1] == (
        "… and 1 more failure; --max-tracebacks 0 shows all, and railtracks export alike --format csv lists all calls "
        "with their errors, without tracebacks"
    )
    _, out, _ = command("show", "alike", "--failed", "--max-tracebacks", 0)
    assert (out.count("Traceback"), "… and" in out) == (4, False)
    assert command("show", "alike", "--failed", "--max-tracebacks", 1)[1].count("Traceback") == 1


def test_show_says_how_to_see_what_a_fold_leaves_out(command, program):
    command("run", f"{program}:fetch_all", 60, "--run-identifier", "many")
    assert command("show", "many")[1].splitlines()[-1] == "To see each of them: railtracks show many --no-folds"
    _, out, _ = command("show", "many", "--failed", "--store", "file:.railtracks")
    said = "To see each of them: railtracks show many --failed --no-folds --store file:.railtracks"
    assert (said in out.splitlines(), out.count("  Failed  ")) == (True, 5)
    _, out, _ = command("show", "many", "--failed", "--no-folds")
    assert ("To see" in out, out.count("  Failed  ")) == (False, 9)


def test_show_says_how_to_go_on_after_ctrl_c(command, program):
    assert command("run", f"{program}:press_ctrl_c", "--run-identifier", "stopped")[0] == 130
    assert command("show", "stopped")[1].endswith("\nCtrl-C or SIGTERM ended it: railtracks resume stopped\n")


def test_a_suspended_run_is_answered_and_goes_on(command, runs):
    code, _, err = command("answer", "waiting", "nope", "blue")
    assert code == 2
    (question,) = load_run("waiting").questions
    assert err == f"railtracks: the run waiting has no open question nope; open are {question.id} (Which colour?)\n"
    assert command("answer", "waiting", question.id, "blue")[0] == 0
    assert command("show", "waiting")[1].splitlines()[-1] == "It has its answer; to go on: railtracks resume waiting"
    code, _, err = command("answer", "waiting", question.id, "red")
    assert (code, err) == (
        2, f"railtracks: the question {question.id} has its answer; to go on: railtracks resume waiting\n",
    )  # fmt: skip
    assert command("resume", "waiting")[0] == 75
    (question,) = load_run("waiting").questions
    code, out, _ = command("resume", "waiting", "--answer", f"{question.id}=42")
    assert (code, out) == (0, "blue and 42\n")
    code, _, err = command("answer", "waiting", question.id, "1")
    assert err == f"railtracks: the run waiting has no open question {question.id}; none is open\n"


def test_a_run_that_has_completed_is_left_as_it_is(command, runs):
    before = load_run("good").payload()
    expected = "railtracks: the run good has completed, and there is nothing to go on with; see railtracks show good\n"
    code, out, err = command("resume", "good")
    assert (code, err) == (0, expected)
    assert out == command("run", f"{runs}:pages", 12)[1]
    code, out, err = command("resume", "good", "--json", "--flow", "nowhere.py:flow")
    assert (code, err) == (0, expected)
    data = json.loads(out)
    assert (data["status"], data["exit_code"], data["result"][:2]) == ("Completed", 0, ["x", "page 0"])
    assert load_run("good").payload() == before
    printed = command("run", f"{runs}:shape", "--run-identifier", "typed")[1]
    assert printed == "Point(x=1)\n"
    assert command("resume", "typed")[1] == printed
    assert command("resume", "typed", "--flow", "nowhere.py:flow")[1] == "{'x': 1}\n"


def test_what_has_come_for_a_run_is_said(command, program):
    command("run", f"{program}:receive_both", "--run-identifier", "both")
    assert command("show", "both")[1].splitlines()[-1] == "It waits for messages: news, weather"
    rt.state.send("both", "news", 1)
    assert command("show", "both")[1].splitlines()[-2:] == [
        "It waits for messages: weather", "Something that it waits for has come; to go on: railtracks resume both",
    ]  # fmt: skip
    rt.state.send("both", "weather", 2)
    assert command("show", "both")[1].splitlines()[-1] == "It has its message; to go on: railtracks resume both"
    assert command("resume", "both")[:2] == (0, "[1, 2]\n")


def test_the_flow_is_found_by_what_is_on_record(command, runs):
    sys.modules.pop(runs)
    code, _, err = command("resume", "bad")
    assert code == 1
    assert "fetch(0)  Completed (reused)" in err
    assert command("resume", "bad", "--flow", f"{runs}.py:pages", "--json")[0] == 1


def test_a_run_without_a_flow_must_be_given_one(command, program):
    async def main():
        async with rt.Session(run_identifier="plain"):
            await rt.call(anyio.Path("nowhere").read_text)

    with pytest.raises(FileNotFoundError):
        anyio.run(main)
    code, _, err = command("resume", "plain")
    assert (code, err) == (
        2, "railtracks: the run plain was not made by a flow; name it: railtracks resume plain --flow app.py:flow\n",
    )  # fmt: skip


def test_a_run_is_cancelled(command, runs):
    assert command("cancel", "waiting")[0] == 0
    assert load_run("waiting").records[0].status is Status.CANCELLED
    code, _, err = command("cancel", "good")
    assert (code, err) == (1, "railtracks: the run 'good' has completed, and cannot be cancelled any more\n")


def test_runs_are_removed(command, runs, caplog):
    code, _, err = command("prune")
    assert (code, err.startswith("railtracks: prune without a limit would remove all runs")) == (2, True)
    assert command("prune", "--older-than", "1h")[1] == "0 runs removed.\n"
    assert command("prune", "--keep", 0)[1] == "2 runs removed.\n"
    assert [run.identifier for run in list_runs()] == ["waiting"]
    assert caplog.messages[-1].endswith("waiting; go on with it by railtracks resume, or use --pending")
    prune(keep=0)
    assert caplog.messages[-1].endswith("waiting; go on with it by flow.resume, or use prune(..., pending=True)")
    assert command("prune", "--older-than", "0s", "--pending")[1] == "1 run removed.\n"


MISTAKES = {
    ("show", "nope"): (2, "there is no run 'nope' at "),
    ("cancel", "nope"): (2, "there is no run 'nope' at "),
    ("list", "--bogus"): (2, "Unknown option: --bogus; see railtracks list --help\n"),
    ("export", "good", "--format"): (2, "--format needs a value; see railtracks export --help\n"),
    ("export", "good"): (2, "--format is missing; see railtracks export --help\n"),
    ("answer", "good"): (2, "QUESTION is missing; see railtracks answer --help\n"),
    ("show", "../x"): (2, "'../x' is not allowed as the identifier of a run"),
    ("list", "--since", "5x"): (2, "'5x' is not a time; write a duration before now, such as 12h or 7d"),
    ("list", "--limit", "-1"): (2, ""),
    ("export", "good", "--format", "csv", "--output", "nowhere/x"): (2, "--output nowhere/x: No such file"),
    ("prune", "--older-than", "soon"): (2, "'soon' is not a duration; write it as 90s, 15m, 12h, 7d or 2w"),
    ("list", "--store", "json:dumps"): (2, "--store json:dumps: <function dumps at "),
    ("resume", "waiting", "--answer", "x"): (2, "--answer x: expected ID=VALUE"),
    ("nope",): (2, 'Unknown command "nope". Available commands: run, list'),
    ("--store=file:runs", "list"): (2, "--store stands before the command; options follow it, as in railtracks list "),
    ("show",): (2, ""),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_is_one_line(command, runs, words):
    code, out, err = command(*words)
    assert (code, out) == (MISTAKES[words][0], "")
    assert err.startswith(f"railtracks: {MISTAKES[words][1]}")
    assert err.count("\n") == 1


def test_advice_is_for_the_command_line(command, runs, tmp_path):
    assert command("show", "nope")[2].endswith(". If it is in another store, name it with --store\n")
    code, _, err = command("run", f"{runs}:pages", 13, "--resume", "--run-identifier", "bad")
    assert (code, err.endswith("or use another --run-identifier for new work\n")) == (1, True)
    moved = tmp_path / f"moved_{runs}.py"
    moved.write_text((tmp_path / f"{runs}.py").read_text())
    resume = ("resume", "bad", "--flow", f"{moved.name}:pages")
    code, _, err = command(*resume)
    assert (code, "or use --allow-rerun to run all of it again\n" in err) == (1, True)
    _, _, err = command(*resume, "--allow-rerun")
    assert ("LookupError: no page 3" in err, "reused" in err) == (True, False)


def test_a_store_of_ones_own_is_named_by_its_module(command, tmp_path, program):
    (tmp_path / "own_store.py").write_text("from railtracks.state import MemoryStore\nstore = MemoryStore()\n")
    assert command("list", "--store", "own_store:store")[1] == "There are no runs.\n"
    store = sys.modules["own_store"].store
    assert isinstance(store, MemoryStore)
    rt.Flow("Kept", anyio.sleep, store=store).invoke(0)
    assert "Kept" in command("list", "--store", "own_store:store")[1]


@pytest.mark.parametrize("ends", ["in order", "by being killed"])
def test_a_run_of_another_process_is_followed(command, program, tmp_path, ends):
    script = (
        "import sys, anyio, railtracks as rt\n"
        f"import {program}\n"
        "async def main():\n"
        "    async with rt.Session(run_identifier='live'):\n"
        f"        await rt.call({program}.fetch, 1)\n"
        "        print('ready', flush=True)\n"
        "        await anyio.to_thread.run_sync(sys.stdin.readline)\n"
        f"        await rt.call({program}.fetch, 2)\n"
        "anyio.run(main)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        results = []
        follower = threading.Thread(target=lambda: results.append(command("tail", "live")))
        follower.start()
        time.sleep(0.1)  # usually the run was read once by now; if not, the outcome is the same
        if ends == "in order":
            process.stdin.write(b"\n")
            process.stdin.flush()
        else:
            process.kill()
        process.wait()
        follower.join(60)
    _, shown, _ = command("show", "live")
    assert shown.endswith("Its process died before it had ended: railtracks resume live\n") == (ends != "in order")
    ((code, out, _),) = results
    lines = [re.sub(r"^\d\d:\d\d:\d\d  |  [\d.]+ .?s.*", "", line) for line in out.splitlines()]
    assert code == 0
    expected = ["fetch(1)  Completed", "fetch(2)  Completed", "session live  Completed"]
    assert lines[:-1] == expected[: len(lines) - 1]
    assert len(lines) == (3 if ends == "in order" else 2)


def test_options_are_shown_with_their_sources(command, monkeypatch, tmp_path):
    monkeypatch.setenv("RAILTRACKS_TIMEOUT", "20")
    (tmp_path / "railtracks.toml").write_text('durability = "sync"\n')
    _, out, _ = command("config")
    assert re.search(r"timeout +20\.0 +RAILTRACKS_TIMEOUT", out)
    assert re.search(rf"durability +sync +{re.escape(str(tmp_path))}", out)
    assert re.search(r"backend +asyncio +default", out)
    data = json.loads(command("config", "--json")[1])
    assert data["timeout"] == {"value": 20.0, "source": "RAILTRACKS_TIMEOUT"}


def test_the_doctor_says_what_works(command, monkeypatch):
    code, out, _ = command("doctor")
    assert (code, out.count("ok  "), "PROBLEM" in out) == (0, 8, False)
    assert "backend trio: works" in out
    monkeypatch.setenv("RAILTRACKS_TIMEOUT", "soon")
    code, out, _ = command("doctor", "--store", "file:/proc/nowhere")
    assert code == 1
    assert "PROBLEM  configuration: environment variable RAILTRACKS_TIMEOUT: 'soon' is not allowed" in out
    assert "PROBLEM  store: " in out


def test_the_command_is_a_module_too():
    done = subprocess.run([sys.executable, "-m", "railtracks", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{rt.__version__}\n")
    done = subprocess.run([sys.executable, "-m", "railtracks", "list"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "There are no runs.\n")


def test_a_missing_package_is_named(monkeypatch):
    code = (
        "import sys; sys.modules['cyclopts'] = None; sys.argv[1:] = ['list']\n"
        "from railtracks.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "install the command line with `pip install '.[cli]'` in a checkout of Railtracks" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error():
    code = "import sys\nfrom railtracks.cli._app import run_command_line\nsys.exit(run_command_line(['config']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
