"""The tutorials that make whole programs, done as a reader does them."""

from __future__ import annotations

import collections
import contextlib
import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

import railtracks as rt
from tests.ecosystem.reader import Tutorial, railtracks, started, until, without_numbers
from tests.ecosystem.test_recipes import SECONDS, background, environment, get, run

pytestmark = pytest.mark.ecosystem

PIPELINE = Tutorial("tutorial-pipeline.md")
SERVICE = Tutorial("tutorial-service.md")


@pytest.fixture(params=["asyncio", "trio"])
def each_backend(request, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_BACKEND", request.param)
    return request.param


def test_the_tutorials_have_the_files_that_are_tested():
    names = ["geocoder.py", "places.py", "places.py", "stream.py"]
    assert [name for name, _ in PIPELINE.files] == names
    assert [name for name, _ in SERVICE.files] == ["report.py", "runs.py", "service.py", "index.html"]


# ---- the pipeline


@pytest.fixture
def pipeline(tmp_path, each_backend):
    """Make the folder of the pipeline, with its first files and its items."""
    PIPELINE.save(tmp_path)
    subprocess.run("\n".join(line[2:] for line in PIPELINE.console[0]), shell=True, check=True, cwd=tmp_path)
    return tmp_path


def kill_when_some_are_placed(folder, program):
    with started(folder, program):
        deadline = time.monotonic() + SECONDS
        while len(answered(folder)) < 30:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    return answered(folder)


def answered(folder):
    """Return the addresses that the service has answered, in order."""
    log = folder / "geocoder.log"
    return log.read_text("utf-8").splitlines() if log.exists() else []


def twice(folder):
    return {address for address, times in collections.Counter(answered(folder)).items() if times > 1}


def fail_at_first(pipeline):
    """Do the first try, which fails as the page says, and remove what is left of it."""
    done = subprocess.run(
        [sys.executable, "places.py"], cwd=pipeline, env=environment(), timeout=SECONDS, capture_output=True, text=True
    )
    first, last = PIPELINE.shown("python places.py")[0]
    assert without_numbers(first) in without_numbers(done.stderr)
    assert done.stderr.rstrip().endswith(f"\n{last}")
    assert 9 <= len(answered(pipeline)) < 14  # of the five that were on their way, some may have had their answers
    assert PIPELINE.shown("rm geocoder.log") == [[]]
    (pipeline / "geocoder.log").unlink()


def test_a_pipeline_asks_for_nothing_twice_that_is_on_record(pipeline):
    fail_at_first(pipeline)
    (pipeline / "places.py").write_text(PIPELINE.files[2][1], "utf-8")
    kill_when_some_are_placed(pipeline, "places.py")
    listed, shown = railtracks(pipeline, "list"), railtracks(pipeline, "show", "places-june")
    expected = PIPELINE.shown("railtracks list")[0]
    assert [each.split()[:3] for each in listed[:2]] == [each.split()[:3] for each in expected[:2]]
    assert listed[2].split()[1:3] == expected[2].split()[1:3]
    assert shown[-1] == PIPELINE.shown("railtracks show places-june")[0][-1]
    records = rt.state.load_run("places-june", f"file:{pipeline / '.railtracks'}").records
    on_their_way = {record.args[0] for record in records if record.status is rt.state.Status.OPEN and record.parent}
    completed = {record.args[0] for record in records if record.status is rt.state.Status.COMPLETED}
    assert len(completed) >= 25
    for _ in range(2):
        assert run(pipeline, "places.py").splitlines() == PIPELINE.shown("python places.py")[2]
    assert twice(pipeline) <= on_their_way
    assert len({*answered(pipeline)}) == 80
    assert len((pipeline / "places.csv").read_text("utf-8").splitlines()) == 80
    check_what_failed(pipeline)


def check_what_failed(pipeline):
    """Compare the traceback of the item that failed; the counts of the tree depend on when the program was killed."""
    [expected] = PIPELINE.shown("railtracks show places-june --failed")
    shown = [
        re.sub(r'File ".*[/\\]', 'File "', line) for line in railtracks(pipeline, "show", "places-june", "--failed")
    ]
    assert shown[shown.index("") :] == expected[expected.index("") :]
    assert [line for line in shown if 'place("nowhere")  Failed' in line and "LookupError" in line]


def test_a_stream_of_items_goes_on_after_a_kill(pipeline):
    kill_when_some_are_placed(pipeline, "stream.py")
    assert run(pipeline, "stream.py") == "1 failed\n"
    assert len(twice(pipeline)) <= 5
    with contextlib.closing(sqlite3.connect(pipeline / "places.db")) as db:
        assert db.execute("SELECT count(*), count(DISTINCT place) FROM places").fetchone() == (80, 80)


# ---- the service


@pytest.fixture
def service(tmp_path):
    """Make the folder of the service."""
    SERVICE.save(tmp_path)
    return tmp_path


@pytest.fixture(params=["uvicorn", "hypercorn"])
def server(request):
    """Name a server: that of the page, and one that runs on trio."""
    return request.param


def events(url):
    """Yield the events of a report, each as its kind and its data, until the server ends the stream."""
    with urllib.request.urlopen(f"{url}/events", timeout=SECONDS) as answer:
        kind = "message"
        for line in answer:
            name, _, value = line.decode().strip().partition(": ")
            if name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value)


def test_the_work_of_the_service_runs_without_it(service, each_backend):
    command = "railtracks run report.py:write_report 2 --no-progress"
    assert railtracks(service, *command.split()[1:]) == SERVICE.shown(command)[0]


def test_the_browser_gets_each_step_and_the_result(service, server):
    answers = SERVICE.shown("curl -N localhost:8000/reports/may/events")[0]
    expected = [json.loads(line.removeprefix("data: ")) for line in answers if line.startswith("data")]
    with background(service, server, "service:app") as (url, _):
        assert get(f"{url}/reports/may?chapters=3", data={}) == "/reports/may"
        came = [*events(f"{url}/reports/may")]
        assert came == [*(("message", each) for each in expected[:-1]), ("state", expected[-1])]
        assert [*events(f"{url}/reports/may")] == came[-1:]
        assert json.loads(get(f"{url}/reports/may")) == expected[-1]
        assert "EventSource" in get(url)
        for path in ("", "/events"):
            for name, status in (("none", "404"), ("a%20b", "422")):
                with pytest.raises(urllib.error.HTTPError, match=status):
                    get(f"{url}/reports/{name}{path}")


def test_a_report_that_takes_too_long_ends(service, server):
    text = (service / "runs.py").read_text("utf-8")
    (service / "runs.py").write_text(text.replace("timeout=60", "timeout=1"), "utf-8")
    [expected] = SERVICE.shown("curl localhost:8000/reports/long")
    with background(service, server, "service:app") as (url, _):
        get(f"{url}/reports/long?chapters=1000", data={})
        *_, (kind, state) = events(f"{url}/reports/long")
    assert kind == "state"
    assert without_numbers(json.dumps(state, separators=(",", ":"))) == without_numbers(expected[0])


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_report_goes_on_when_the_server_is_started_again(service, server, sent):
    with background(service, server, "service:app", "2") as (url, program):
        get(f"{url}/reports/june?chapters=12", data={})
        reader = threading.Thread(target=read_until_it_is_cut, args=(f"{url}/reports/june",))
        reader.start()
        begun = until(program, "writing chapter 3")
        if sent is signal.SIGTERM:
            program.terminate()
            begun += program.communicate(timeout=SECONDS)[0].splitlines()
    reader.join(SECONDS)
    with background(service, server, "service:app", "2") as (url, program):
        went_on = until(program, "writing chapter 12")
        while (state := json.loads(get(f"{url}/reports/june")))["status"] == "Open":
            time.sleep(0.02)
    chapters = [f"writing chapter {number}" for number in range(1, 13)]
    begun = [line for line in begun if line in chapters]
    assert begun == chapters[: len(begun)]
    went_on = [line for line in went_on if line in chapters]
    # The one that was being written is written again; between two of them there is none.
    assert went_on in (chapters[len(begun) - 1 :], chapters[len(begun) :])
    assert state["result"] == ", ".join(f"chapter {number}" for number in range(1, 13))


def read_until_it_is_cut(url):
    with contextlib.suppress(OSError, ValueError):
        [*events(url)]
