"""Every recipe of docs/recipes*.md runs as a reader would run it, with the real packages."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.postgres import needs_postgres, server

pytestmark = pytest.mark.ecosystem

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / f"recipes{part}.md" for part in ("", "-web", "-running", "-tests")]
BOX = re.compile(r"^## (.*?)$.*?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RECIPES = {name: code for page in PAGES for name, code in BOX.findall(page.read_text("utf-8"))}
SECONDS = 60
"""Real seconds that one of them may take."""
SCRIPTS = [
    "Retry",
    "Idempotency keys",
    "A rate limit",
    "Timeout of one node",
    "Cache",
    "A progress bar",
    "A total over very many items",
    "Processes",
    "tenacity",
    "aiosqlite",
    "Trimming conversations",
    "Summarising conversations",
    "cron and systemd",
    "APScheduler",
    "Celery beside it",
    "structlog",
    "OpenTelemetry",
]
CLUSTERS = {"Dask": "distributed", "Ray": "ray"}
"""With the package that each needs, which is not to be had for each Python."""
SERVERS = {
    "FastAPI on uvicorn": ("uvicorn", ["app:app", "--port"], ["run", "shared", "thread", "later", "stream"]),
    "Starlette on hypercorn with trio": (
        "hypercorn", ["app:app", "--worker-class", "trio", "--bind"], ["shared", "thread"],
    ),
    "Django": ("uvicorn", ["app:application", "--lifespan", "off", "--port"], ["async", "sync"]),
}  # fmt: skip
PEOPLE, BACKGROUND = "Questions over the web", "Work in the background"
TESTS = {"FastAPI": 2, "pytest-asyncio": 3, "pytest-trio": 3, "pytest-xdist": 12}
DOCKER, LOGGING, POSTGRES = "Docker and SIGTERM", "Logging into an application", "PostgreSQL"
OTHERS = ["unittest", "IPython and Jupyter", DOCKER, LOGGING, POSTGRES]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "RAILTRACKS_LOGGING_SETTING": "QUIET"}


def run(folder: Path, *arguments: str) -> str:
    """Return what a Python program prints; it must succeed. Standard error has its log at most."""
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(), timeout=SECONDS, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


def promised(recipe: str) -> list[str]:
    return re.findall(r"print\(.*\)  # (.*)", recipe)


def test_each_recipe_is_run():
    run_here = [*SERVERS, PEOPLE, BACKGROUND, *SCRIPTS, *TESTS, *OTHERS, *CLUSTERS]
    assert sorted(RECIPES) == sorted(run_here)
    boxes = sum(page.read_text("utf-8").count("\n```python\n") for page in PAGES)
    assert boxes == len(RECIPES), "a recipe has one box of Python"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_prints_what_the_page_says(name, tmp_path):
    (tmp_path / "recipe.py").write_text(RECIPES[name], "utf-8")
    assert run(tmp_path, "recipe.py").splitlines() == promised(RECIPES[name]) != []


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_program_on_a_cluster_prints_what_the_page_says(name, tmp_path):
    pytest.importorskip(CLUSTERS[name])
    (tmp_path / "recipe.py").write_text(RECIPES[name], "utf-8")
    assert run(tmp_path, "recipe.py").splitlines() == promised(RECIPES[name]) != []


# ---- servers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str, patience: float = SECONDS / 2, data: object = None) -> str:
    """Return the answer, once the server is there, which may take that many real seconds. ``data``: to be posted."""
    deadline = time.monotonic() + patience
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return str(answer.read().decode().strip('"'))
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_answers_and_saves_when_it_is_stopped(name, tmp_path):
    (tmp_path / "app.py").write_text(RECIPES[name], "utf-8")
    module, arguments, ways = SERVERS[name]
    port = free_port()
    place = str(port) if arguments[-1] == "--port" else f"127.0.0.1:{port}"
    command = [sys.executable, "-m", module, *arguments, place]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as server:
        try:
            answers = {way: get(f"http://127.0.0.1:{port}/{way}/Ada") for way in ways}
        finally:
            server.send_signal(signal.SIGTERM)
            _, errors = server.communicate(timeout=SECONDS)
    assert answers == {way: "soon" if way == "later" else "Hello, Ada!" for way in ways}
    assert "Traceback" not in errors, errors
    if name == "Django":  # each request has a run of its own
        return
    statuses = summary(tmp_path, "service")
    assert statuses == ["greet Completed"] * len([way for way in ways if way not in ("run", "stream")])


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Run a server until the end of the block, and yield its address."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGTERM)
            _, errors = server.communicate(timeout=SECONDS)
    assert "Traceback" not in errors, errors


def test_a_question_is_answered_by_another_process(tmp_path):
    (tmp_path / "app.py").write_text(RECIPES[PEOPLE], "utf-8")
    with served(tmp_path) as url:
        begun = json.loads(get(f"{url}/bookings/Oslo", data={}))
    (question,) = begun["questions"]
    place = f"bookings/{begun['run']}"
    with served(tmp_path) as url:
        shown = json.loads(get(f"{url}/{place}"))
        assert shown == {**begun, "result": None}
        assert shown["questions"] == {question: "Book a room in Oslo?"}
        answered = json.loads(get(f"{url}/{place}/answers", data={"question": question, "answer": "yes"}))
        assert answered == {"result": "booked in Oslo"}
        assert json.loads(get(f"{url}/{place}")) == {"run": begun["run"], "result": "booked in Oslo", "questions": {}}
        for run_identifier, status in (("none", "404"), ("a%20b", "422")):
            for other in (f"{url}/bookings/{run_identifier}", f"{url}/bookings/{run_identifier}/answers"):
                with pytest.raises(urllib.error.HTTPError, match=status):
                    get(other, data={"question": "x", "answer": "y"} if other.endswith("answers") else None)
        with pytest.raises(urllib.error.HTTPError, match="409"):  # it has been answered
            get(f"{url}/{place}/answers", data={"question": question, "answer": "no"})


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_work_in_the_background_goes_on_at_the_next_start(sent, server, tmp_path):
    (tmp_path / "app.py").write_text(RECIPES[BACKGROUND], "utf-8")
    with background(tmp_path, server) as (url, program):
        assert get(f"{url}/orders/7?count=6", data={}) == "/orders/7"
        begun = baked(iter(program.stdout.readline, "baking 2\n"))
        (kill_all if sent is signal.SIGKILL else subprocess.Popen.terminate)(program)
        begun += ["baking 2\n", *baked(program.communicate(timeout=SECONDS)[0].splitlines(keepends=True))]
    with background(tmp_path, server) as (url, program):
        went_on = [*baked(iter(program.stdout.readline, "baking 5\n")), "baking 5\n"]
        while "Open" in (shown := get(f"{url}/orders/7")):
            time.sleep(0.01)
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=SECONDS)
    assert json.loads(shown) == {"status": "Completed", "done": 6}
    loaves = [f"baking {loaf}\n" for loaf in range(6)]
    assert begun == loaves[: len(begun)]
    assert went_on == loaves[len(begun) - 1 :]  # the one that was being baked is baked again


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_work_in_the_background_stays_cancelled(server, tmp_path):
    (tmp_path / "app.py").write_text(RECIPES[BACKGROUND], "utf-8")
    with background(tmp_path, server) as (url, program):
        get(f"{url}/orders/7?count=100000", data={})
        [*iter(program.stdout.readline, "baking 1\n")]
        assert delete(f"{url}/orders/7") == 202
        get(f"{url}/orders/8?count=0", data={})
        for order in (7, 8):
            while "Open" in (shown := shown_order(url, order)):
                time.sleep(0.01)
            assert json.loads(shown)["status"] == ("Cancelled" if order == 7 else "Completed")
        assert [delete(f"{url}/orders/{order}") for order in (8, 9)] == [409, 404]
    with background(tmp_path, server) as (url, program):
        get(f"{url}/orders/7?count=100000", data={})
        get(f"{url}/orders/10?count=1", data={})
        assert baked(iter(program.stdout.readline, "baking 0\n")) == []  # which is of the last order
        assert json.loads(get(f"{url}/orders/7"))["status"] == "Cancelled"


def shown_order(url: str, order: int) -> str:
    """Return what the service says of an order, which may be on record a moment after the answer."""
    try:
        return get(f"{url}/orders/{order}")
    except urllib.error.HTTPError as exc:
        assert exc.code == 404
        return "Open"


def delete(url: str) -> int:
    """Return the status of the answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="DELETE"), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code


def baked(lines: Iterable[str]) -> list[str]:
    """Return the lines of the recipe, without those of the server."""
    return [line for line in lines if line.startswith("baking")]


@contextlib.contextmanager
def background(
    folder: Path, server: str, app: str = "app:app", patience: str = "10"
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a server, hypercorn on trio, until the end of the block, and yield its address and its process.

    Stopped by SIGTERM, it waits for open requests for ``patience`` seconds.
    """
    place = f"127.0.0.1:{free_port()}"
    port = place.rpartition(":")[2]
    arguments = {
        "uvicorn": ["--port", port, "--timeout-graceful-shutdown", patience],
        "hypercorn": ["--worker-class", "trio", "--bind", place, "--graceful-timeout", patience],
    }
    command = [sys.executable, "-m", server, app, *arguments[server]]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        try:
            yield f"http://{place}", program
        finally:
            kill_all(program)


def kill_all(program: subprocess.Popen[str]) -> None:
    """Kill a program that leads a session, and the workers that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)


def summary(folder: Path, identifier: str) -> list[str]:
    """Return the calls of a run on disk, with their statuses."""
    code = (
        "import railtracks as rt\n"
        f"for record in rt.state.load_run({identifier!r}).records: print(record.name, record.status.value)"
    )
    return run(folder, "-c", code).splitlines()


# ---- test runners

ONLY = {
    "FastAPI": ["-p", "no:trio", "-p", "no:asyncio"],
    "pytest-asyncio": ["-p", "no:trio"], "pytest-trio": ["-p", "no:asyncio"],
    "pytest-xdist": ["-n", "2", "-p", "no:trio", "-p", "no:asyncio"],
}  # fmt: skip
MODES = [
    ("pytest-asyncio", "asyncio_mode = strict"), ("pytest-asyncio", "asyncio_mode = auto"), ("pytest-trio", ""),
    ("pytest-trio", "trio_mode = true"), ("pytest-xdist", ""), ("FastAPI", ""),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_a_test_file_passes_in_each_mode_of_the_plugin(name, mode, tmp_path):
    (tmp_path / "test_recipe.py").write_text(RECIPES[name], "utf-8")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{mode}\n", "utf-8")
    output = run(tmp_path, "-m", "pytest", "-q", "-W", "ignore::pytest.PytestConfigWarning", *ONLY[name])
    assert re.search(rf"\b{TESTS[name]} passed", output), output
    assert "failed" not in output
    kept = 4 if name == "pytest-xdist" else 0
    assert len([*tmp_path.glob(".railtracks/*.json")]) == kept


def test_two_runs_of_pytest_at_once_do_not_disturb_one_another(tmp_path):
    (tmp_path / "test_recipe.py").write_text(RECIPES["pytest-xdist"], "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ONLY["pytest-xdist"][2:]]
    both = [subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE) for _ in range(2)]
    for each in both:
        output, _ = each.communicate(timeout=SECONDS)
        assert each.returncode == 0, output.decode()


def test_unittest(tmp_path):
    (tmp_path / "test_recipe.py").write_text(RECIPES["unittest"], "utf-8")
    run(tmp_path, "test_recipe.py")  # which fails if a test does


def test_a_cell_of_ipython(tmp_path):
    recipe = RECIPES["IPython and Jupyter"]
    (tmp_path / "cell.py").write_text(recipe, "utf-8")
    code = (
        "from pathlib import Path\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "InteractiveShell.instance().run_cell(Path('cell.py').read_text('utf-8')).raise_error()\n"
    )
    assert run(tmp_path, "-c", code).splitlines() == promised(recipe)


def test_a_program_that_sigterm_ended_goes_on_at_the_next_start(tmp_path):
    (tmp_path / "main.py").write_text(RECIPES[DOCKER], "utf-8")
    command = [sys.executable, "main.py"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        begun = [program.stdout.readline() for _ in range(3)]
        program.send_signal(signal.SIGTERM)
        begun += program.communicate(timeout=SECONDS)[0].splitlines(keepends=True)
    assert program.returncode == 128 + signal.SIGTERM
    went_on = run(tmp_path, "main.py").splitlines()
    pages = [line.strip() for line in begun] + went_on
    assert [page for number, page in enumerate(pages) if page not in pages[:number]] == [
        *(f"parsing {page}" for page in range(10)), "sum: 45",
    ]  # fmt: skip
    assert len(pages) <= 12  # the page that was being parsed is parsed again


def test_the_log_of_an_application_is_what_the_page_shows(tmp_path):
    (tmp_path / "recipe.py").write_text(RECIPES[LOGGING], "utf-8")
    shown = PAGES[2].read_text("utf-8").partition(f"## {LOGGING}\n")[2].partition("```text\n")[2].partition("```")[0]
    seconds = re.compile(r"\d\.\d{3} s")
    assert seconds.sub("", run(tmp_path, "recipe.py")) == seconds.sub("", shown)


@needs_postgres
def test_runs_in_postgresql(tmp_path, monkeypatch):
    monkeypatch.setenv("DATABASE_URL", f"postgresql:///postgres?host={server().folder}&user=tests")
    (tmp_path / "recipe.py").write_text(RECIPES[POSTGRES], "utf-8")
    for _ in range(2):  # the second finds the run
        assert run(tmp_path, "recipe.py").splitlines() == promised(RECIPES[POSTGRES])


# ---- the fixtures of Railtracks beside other plugins, whatever these make of a test

VIRTUAL = """
import time

import anyio
import pytest
import sniffio

import railtracks as rt

{mark}
async def test_it(rt_session, virtual_clock, rt_backend):
    started = time.monotonic()
    await anyio.sleep(3_600)
    assert virtual_clock.now == 3_600
    assert time.monotonic() - started < 60
    assert sniffio.current_async_library() == rt_backend
    assert rt.session_id() == rt_session.identifier

{mark}
async def test_that_it_is_not_run_silently_in_another_way(rt_session):
    raise KeyError("it ran")
"""


GIVEN = """
from hypothesis import given, settings, strategies as st

import railtracks as rt


@settings(deadline=None, database=None)
@given(x=st.integers())
async def test_each_example(rt_session, x):
    assert await rt.call(lambda: x) == x
"""


@pytest.mark.parametrize("mode", ["asyncio_mode = auto", "trio_mode = true", "anyio_mode = auto"])
def test_a_property_with_its_fixtures_runs_in_virtual_time(mode, tmp_path):
    """On each backend, whatever the other plugin has left in the test."""
    (tmp_path / "test_it.py").write_text(GIVEN, "utf-8")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{mode}\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), timeout=SECONDS, capture_output=True, text=True, check=False
    )
    assert re.search(rf"^{4 if 'anyio' in mode else 2} passed", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("mark", ["", "@pytest.mark.asyncio", "@pytest.mark.trio", "@pytest.mark.anyio"])
@pytest.mark.parametrize("mode", ["", "asyncio_mode = auto", "trio_mode = true", "anyio_mode = auto", "timeout = 50"])
def test_a_test_with_its_fixtures_runs_in_virtual_time(mode, mark, tmp_path):
    (tmp_path / "test_it.py").write_text(VIRTUAL.format(mark=mark), "utf-8")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{mode}\n", "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), timeout=SECONDS, capture_output=True, text=True, check=False
    )
    times = 4 if "anyio" in mode + mark else 2  # its own parameter comes in addition
    assert re.search(rf"\b{times} failed, {times} passed", done.stdout), done.stdout
    assert len(re.findall(r"^E +KeyError: 'it ran'", done.stdout, re.MULTILINE)) == times
