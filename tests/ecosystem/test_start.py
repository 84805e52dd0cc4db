"""docs/start.md, done as a reader does it: whole files, the commands as they stand, and what they print."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import urllib.error
import urllib.request

import pytest

from tests.ecosystem.reader import Tutorial, railtracks, started, until
from tests.ecosystem.test_recipes import SECONDS, free_port, get, run

pytestmark = pytest.mark.ecosystem

PAGE = Tutorial("start.md")
FILES = dict(PAGE.files)
[RETRIES] = re.findall(r"```text\n(@rt.function_node\(.*?)```", PAGE.text, re.DOTALL)


@pytest.fixture
def folder(tmp_path):
    """Make the folder that the reader works in, with all files of the page."""
    PAGE.save(tmp_path)
    return tmp_path


@pytest.fixture(params=["asyncio", "trio"])
def each_backend(request, monkeypatch):
    monkeypatch.setenv("RAILTRACKS_BACKEND", request.param)


def test_the_page_has_the_files_and_commands_that_are_tested():
    assert [name for name, _ in PAGE.files] == ["orders.py", "test_orders.py", "service.py"]
    assert len(PAGE.shown("python orders.py")) == 2


def test_a_killed_program_is_started_again(folder, each_backend):
    first, second = PAGE.shown("python orders.py")
    with started(folder, "orders.py") as program:
        assert until(program, first[-1]) == first
    assert [rounded(line) for line in railtracks(folder, "show", "monday")] == PAGE.shown("railtracks show monday")[0]
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
        orders = (folder / "orders.py").read_text("utf-8")
        on_trio = orders.replace('rt.Flow("Orders", charge_all,', 'rt.Flow("Orders", charge_all, backend="trio",')
        assert on_trio != orders
        (folder / "orders.py").write_text(on_trio, "utf-8")
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
    [block] = [block for block in PAGE.console if block[0].startswith("$ curl")]
    assert json.dumps(order) in block[0]
    return block[1:]
