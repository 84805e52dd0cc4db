"""docs/start.md, done as a reader does it: whole files, the commands as they stand, and what they print."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

from tests.docs.test_documents import ROOT
from tests.ecosystem.test_recipes import SECONDS, environment, free_port, get, run

pytestmark = pytest.mark.ecosystem

PAGE = (ROOT / "docs" / "start.md").read_text("utf-8")
FILES = dict(re.findall(r"Save this as `(\w+\.py)`[^`]*(?:`pytest`)?:\n\n```python\n(.*?)```", PAGE, re.DOTALL))
CONSOLE = [block.strip().splitlines() for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)]
[RETRIES] = re.findall(r"```text\n(@rt.function_node\(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Make the folder that the reader works in, with all files of the page."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


@pytest.fixture(params=["asyncio", "trio"])
def each_backend(request, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_BACKEND", request.param)


def shown(command):
    """Return what the page shows for a command, one list for each time that it stands there."""
    return [block[1:] for block in CONSOLE if block[0] == f"$ {command}"]


def railtracks(folder, *arguments):
    return run(folder, "-m", "railtracks", *arguments).splitlines()


@contextlib.contextmanager
def started(folder, *arguments):
    """Run a Python program until the end of the block, and kill it then."""
    command = [sys.executable, "-u", *arguments]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def until(process, line):
    """Return what a program prints, up to this line."""
    printed = []
    for each in process.stdout:
        printed.append(each.rstrip("\n"))
        if printed[-1] == line:
            break
    return printed


def test_the_page_has_the_files_and_commands_that_are_tested():
    assert [*FILES] == ["orders.py", "test_orders.py", "service.py"]
    assert len(shown("python orders.py")) == 2


def test_a_killed_program_is_started_again(folder, each_backend):
    first, second = shown("python orders.py")
    with started(folder, "orders.py") as program:
        assert until(program, first[-1]) == first
    assert [rounded(line) for line in railtracks(folder, "show", "monday")] == shown("railtracks show monday")[0]
    assert run(folder, "orders.py").splitlines() == second
    assert run(folder, "orders.py").splitlines() == second[-1:]


def rounded(line):
    return re.sub(r"\b\d\.\d+ s", "1 s", line)


def test_the_commands_show_the_run(folder, each_backend):
    assert railtracks(folder, "run", "orders.py:flow", "tea", "jam", "--run-identifier", "tuesday")[-1] == "400"
    assert "tuesday" in railtracks(folder, "list")[-1]
    railtracks(folder, "view", "tuesday", "--output", "page.html")
    assert "charge" in (folder / "page.html").read_text("utf-8")


def test_retries_go_where_the_page_says(folder):
    (folder / "orders.py").write_text(FILES["orders.py"].replace(plain(), RETRIES), "utf-8")
    assert run(folder, "orders.py").splitlines()[-1] == "1000"


def plain():
    """Return the lines of ``orders.py`` that the box about retries replaces."""
    text = re.sub(r"\(.*\)\n", "\n", RETRIES, count=1)
    assert text in FILES["orders.py"]
    return text


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("has_retries", [False, True])
def test_the_tests_of_the_page_pass(has_retries, loop, folder):
    """They pass before and after the step about retries; the page says what to write for trio."""
    if has_retries:
        (folder / "orders.py").write_text(FILES["orders.py"].replace(plain(), RETRIES), "utf-8")
    if loop == "trio":
        tests = re.sub(
            r"\b((?:simulate|sweep)\(charge_all, (?:list\(STOCK\)|\[.*?\]))",
            r'\1, backend="trio"',
            FILES["test_orders.py"],
        )
        assert tests.count('backend="trio"') == 3
        (folder / "test_orders.py").write_text(tests, "utf-8")
    assert "3 passed" in run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_orders.py")


def test_an_order_goes_on_when_the_server_is_started_again(folder):
    port = free_port()
    address = f"http://127.0.0.1:{port}/orders/7"
    order = ["tea", "oil"]
    with started(folder, "-m", "uvicorn", "service:app", "--port", str(port)) as server:
        get(f"http://127.0.0.1:{port}/openapi.json")
        asking = threading.Thread(target=ask, args=(address, order))
        asking.start()
        until(server, "charging oil")
    asking.join(SECONDS)
    with started(folder, "-m", "uvicorn", "service:app", "--port", str(port)) as server:
        assert [get(address, data=order)] == answer_to_curl(order)
        with pytest.raises(urllib.error.HTTPError, match="409"):
            get(address, data=["tea"])
        server.terminate()
        printed = server.stdout.read()
    assert "charging tea" not in printed


def ask(address, order):
    """Send an order to a server that is killed before it answers."""
    request = urllib.request.Request(address, json.dumps(order).encode(), {"content-type": "application/json"})
    with contextlib.suppress(OSError, http.client.HTTPException):
        urllib.request.urlopen(request, timeout=SECONDS)


def answer_to_curl(order):
    [block] = [block for block in CONSOLE if block[0].startswith("$ curl")]
    assert json.dumps(order) in block[0]
    return block[1:]
