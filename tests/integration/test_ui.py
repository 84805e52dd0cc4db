"""``railtracks ui`` as its user has it: a real server, runs of other processes, and Ctrl-C."""

import json
import math
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from railtracks.state import load_run
from railtracks.ui._security import CSRF_HEADER

pytestmark = pytest.mark.integration
PROGRAM = """
import anyio
import railtracks as rt
from railtracks.state import SQLiteStore

store = SQLiteStore("other.db")


@rt.function_node
async def step(number: int) -> int:
    await anyio.sleep(0.2)
    return number


@rt.function_node
async def work(count: int) -> int:
    return sum([await rt.call(step, number) for number in range(count)])


@rt.function_node
async def approve(order: str) -> str:
    return f"{order}: {await rt.ask('May it be sent?')}"


@rt.function_node
async def fail() -> None:
    raise LookupError("nothing here")


working, orders, failing = rt.Flow("Work", work), rt.Flow("Orders", approve), rt.Flow("Failing", fail)
"""
RAILTRACKS = [sys.executable, "-m", "railtracks"]


def found(pattern, text):
    """Return what the group of a pattern matches."""
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]


class Server:
    """A server in a process of its own, and who visits it."""

    def __init__(self, *options):
        self.process = subprocess.Popen(
            [*RAILTRACKS, "ui", "--no-open", *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.address = found(r"(http://\S+)", self.process.stdout.readline())
        self.origin = self.address.partition("/?")[0]
        self.client = httpx.Client(timeout=30)
        self.root = found(r"url=(/[^/\"]+)", self.client.get(self.address).text)
        self.url = self.origin + self.root

    def post(self, path, data=None):
        page = self.client.get(f"{self.url}/runs/{path.split('/')[2]}").text
        csrf = found(r'"x-railtracks-csrf":"([^"]+)"', page)
        headers = {"origin": self.origin, CSRF_HEADER: csrf}
        return self.client.post(f"{self.url}{path}", headers=headers, json=data or {})

    @contextmanager
    def listen(self, path, deadline=math.inf):
        """Yield the data of the updates of a stream as they come. A heartbeat after the deadline ends it."""

        def data():
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line[6:])
                elif time.monotonic() > deadline:
                    return

        with self.client.stream("GET", f"{self.url}{path}") as response:
            yield data()

    def wait_for(self, identifier, is_there):
        """Return the first update of a run for which a function is true. As a page does, begin anew at a reset."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with self.listen(f"/runs/{identifier}/events", deadline) as updates:
                for data in updates:
                    if not data or time.monotonic() > deadline:
                        break
                    if "message" not in data and is_there(data):  # such as that there is no such run yet
                        return data
        raise TimeoutError(identifier)

    def stop(self, number=signal.SIGINT):
        """Stop it; return its exit code, and the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(30)
        return code, time.monotonic() - began


@pytest.fixture
def program(tmp_path, monkeypatch):
    (tmp_path / "app.py").write_text(PROGRAM)
    monkeypatch.setenv("RAILTRACKS_LOGGING_SETTING", "NONE")


@pytest.fixture
def start(program):
    servers = []

    def start(*options):
        servers.append(Server(*options))
        return servers[-1]

    yield start
    for server in servers:
        server.client.close()
        server.process.kill()
        server.process.wait()
        server.process.stdout.close()


def run(*words, check=False):
    return subprocess.run([*RAILTRACKS, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check)


@contextmanager
def running(*words):
    process = subprocess.Popen([*RAILTRACKS, "run", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_run_of_another_process_is_shown_while_it_runs(start):
    server = start()
    with server.listen("/events") as events, running("app.py:working", "100", "--run-identifier", "live"):
        while "/runs/live" not in (rows := next(events)["rows"]):
            pass
        assert "Open (running)" in rows
        with server.listen("/runs/live/events") as updates:
            calls = set()
            while len(calls) < 4:
                data = next(updates)
                calls |= {row[0] for row in data["calls"]}
                assert data["run"]["status"] == "Open"
            assert sorted(data["live"]["actions"]) == ["cancel"]
            assert server.post("/runs/live/resume").status_code == 409
            assert "within about a second" in server.post("/runs/live/cancel").json()["message"]
            while data["run"]["status"] == "Open":
                data = next(updates)
            assert (data["run"]["status"], sorted(data["live"]["actions"])) == ("Cancelled", ["resume"])
        while "Cancelled" not in next(events)["rows"]:
            pass


def test_a_run_is_answered_and_resumed_in_a_process_of_its_own(start):
    assert (
        run("run", "app.py:orders", "A-17", "--run-identifier", "order", "--store", "sqlite:runs.db").returncode == 75
    )
    server = start("--store", "sqlite:runs.db")
    [[question, text]] = server.wait_for("order", bool)["run"]["questions"]
    assert text == "May it be sent?"
    assert server.post("/runs/order/answer", {"question": question, "value": "yes"}).status_code == 200
    assert server.post("/runs/order/resume").json() == {"message": "Its process is starting."}
    data = server.wait_for("order", lambda data: data["run"]["status"] == "Completed")
    assert data["live"]["actions"] == {}
    assert load_run("order", "sqlite:runs.db").answer == "A-17: yes"


def test_a_run_that_fails_again_says_why(start):
    run("run", "app.py:failing", "--run-identifier", "bad", "--store", "sqlite:other.db")
    server = start("--store", "app:store")
    assert server.post("/runs/bad/resume").status_code == 200

    def has_failed(data):
        return data["live"]["notice"] is not None and data["live"]["notice"]["failed"]

    notice = server.wait_for("bad", has_failed)["live"]["notice"]
    assert notice["text"] == "The process that resumed it has failed (exit code 1)."
    assert "LookupError: nothing here" in notice["output"]


ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)]


@pytest.mark.parametrize(("number", "code"), ENDS)
def test_it_stops_at_once_while_pages_listen(start, number, code):
    server = start()
    with running("app.py:working", "100", "--run-identifier", "live"):
        ended = []

        def follow(path):
            with server.listen(path) as events:
                for _ in events:
                    ended.append(path)

        with server.listen("/events") as events:
            while "/runs/live" not in next(events)["rows"]:
                pass
        threads = [threading.Thread(target=follow, args=(path,)) for path in ["/events", "/runs/live/events"] * 2]
        for thread in threads:
            thread.start()
        while len(set(ended)) < 2:
            time.sleep(0.01)
        found, seconds = server.stop(number)
        for thread in threads:
            thread.join(10)
    assert found == code
    assert seconds < 2
    assert server.process.stdout.read() == "Only with this address can they be seen. Ctrl-C ends it.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_it_resumes_is_interrupted_with_it(start, number):
    with running("app.py:working", "500", "--run-identifier", "long") as process:
        server = start()
        began = server.wait_for("long", lambda data: len(data["calls"]) >= 2)["run"]["started"]
        process.kill()
        process.wait()
        assert server.post("/runs/long/resume").status_code == 200
        server.wait_for("long", lambda data: data["run"]["started"] not in (0.0, began) and len(data["calls"]) > 2)
    server.stop(number)
    info = load_run("long")
    assert info.interrupted
    assert info.end_time is not None


def test_a_port_that_is_taken_is_an_error(program):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = run("ui", "--no-open", "--port", str(port))
    assert (found.returncode, found.stdout) == (1, "")
    assert (
        found.stderr == f"railtracks: the port {port} is taken; pass another one, or no --port for any that is free\n"
    )
    assert run("ui", "--port", "70000").returncode == 2


def test_only_this_machine_can_connect(start):
    server = start()
    port = int(server.origin.rpartition(":")[2])
    addresses = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        with pytest.raises(OSError), socket.create_connection((address, port), timeout=5):
            pass
    assert server.client.get(server.url + "/").status_code == 200


@contextmanager
def opened(tmp_path, monkeypatch):
    """Yield a server that opens a browser, its address, and the file that it opens."""
    opener = tmp_path / "opener"
    opener.write_text('#!/bin/sh\necho "$1" > opened.tmp; mv opened.tmp opened\n')
    opener.chmod(0o700)
    monkeypatch.setenv("BROWSER", f"{opener} %s")
    process = subprocess.Popen([*RAILTRACKS, "ui"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        address = found(r"(http://\S+)", process.stdout.readline())
        while not (tmp_path / "opened").exists():
            time.sleep(0.01)
        text = (tmp_path / "opened").read_text().strip()
        assert text.startswith("file://")
        yield process, address, Path(text.removeprefix("file://"))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_until_it_answers(address):
    """Wait until the server has begun to handle signals and requests, without opening its address."""
    assert httpx.get(address.partition("?")[0]).status_code == 403


@pytest.mark.parametrize(("number", "code"), ENDS)
@pytest.mark.parametrize("is_gone", [False, True])
def test_the_browser_gets_a_file_that_only_its_user_reads(program, tmp_path, monkeypatch, number, code, is_gone):
    with opened(tmp_path, monkeypatch) as (process, address, path):
        assert path.stat().st_mode & 0o077 == 0
        assert f'url={address}"' in path.read_text()
        wait_until_it_answers(address)
        if is_gone:
            path.unlink()
        process.send_signal(number)
        assert process.wait(30) == code
        assert process.stdout.read() == "Only with this address can they be seen. Ctrl-C ends it.\n"
        assert not path.exists()


def test_the_file_is_gone_once_its_address_was_opened(program, tmp_path, monkeypatch):
    with opened(tmp_path, monkeypatch) as (_, address, path):
        wait_until_it_answers(address)
        assert path.exists()
        assert httpx.get(address).status_code == 200
        assert not path.exists()
        assert httpx.get(address).status_code == 200


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGHUP")
def test_it_goes_on_after_a_hangup_that_is_ignored(program):
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *RAILTRACKS, "ui", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = found(r"(http://\S+)", process.stdout.readline())
        wait_until_it_answers(address)
        process.send_signal(signal.SIGHUP)
        assert httpx.get(address).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
