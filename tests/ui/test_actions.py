"""What a page can do to a run, and what is refused because it makes no sense."""

import signal
import sys
import time

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import StateError
from railtracks.state import FileStore, Status, load_run
from railtracks.ui import _actions as actions
from railtracks.ui._processes import MAX_LINES, Attempt, Processes
from railtracks.ui._run_page import _notice
from railtracks.ui._runs import RunReader
from tests.ui.client import visit
from tests.ui.conftest import EVIL, approve, fetch

pytestmark = pytest.mark.either_backend


def offered(identifier):
    return actions.offered(RunReader(FileStore(), identifier, lambda _: None).read())


def test_each_state_of_a_run_has_its_own_actions(runs):
    assert offered("good") == ()
    assert offered("bad") == ("resume",)
    assert offered("waiting") == ("resume", "cancel", "answer")
    lock = FileStore().lock("waiting")
    assert offered("waiting") == ("cancel", "answer")
    lock.release()
    rt.state.send("waiting", load_run("waiting").questions[0].id, True)
    assert offered("waiting") == ("resume", "cancel")
    rt.state.cancel_run("waiting")
    assert offered("waiting") == ("resume",)


async def test_a_session_without_a_flow_cannot_be_resumed_here():
    with pytest.raises(LookupError):
        async with rt.Session(run_identifier="failed", logging_setting="NONE"):
            await rt.call(fetch, 3)
    assert "resume" not in offered("failed")
    async with visit() as visitor:
        response = await visitor.post("/runs/failed/resume")
    assert (response.status_code, response.json()["message"]) == (
        409, "the run 'failed' is of a session without a flow: resume it with the code that made it",
    )  # fmt: skip


async def test_the_second_of_two_resumes_is_refused(runs):
    async with visit() as visitor:
        visitor.site.processes._attempts["bad"] = Attempt()
        lock = None
        for _ in range(2):  # before the process has opened the run, and after
            response = await visitor.post("/runs/bad/resume")
            message = {"message": "the run 'bad' is being resumed already"}
            assert (response.status_code, response.json()) == (409, message)
            lock = lock or FileStore().lock("bad")
        lock.release()


def notice(identifier, *attempt):
    return _notice(RunReader(FileStore(), identifier, lambda _: Attempt(*attempt)).read())


def began(identifier):
    info = load_run(identifier)
    assert info.start_time is not None
    return info.start_time


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (1, "has failed (exit code 1)."),
        (2, "could not begin (exit code 2)."),
        (7, "has ended (exit code 7)."),
        (75, "has ended: the run waits for an answer or a message (exit code 75)."),
        (-signal.SIGTERM, "was ended by the signal SIGTERM."),
        (-99, "was ended by the signal 99."),
    ],
)
def test_a_notice_says_how_a_process_has_ended(runs, code, text):
    said = notice("bad", code, ("a", "b"), began("bad") + 1)
    assert said == {"text": f"The process that resumed it {text}", "output": "a\nb", "failed": code != 75}


def test_a_notice_says_that_a_run_is_being_resumed(runs):
    assert notice("bad") == {"text": "It is being resumed, in a process of its own.", "output": "", "failed": False}


def test_a_notice_goes_once_the_run_has_gone_on_without_it(runs):
    assert notice("bad", 0, (), began("bad") + 1) is None
    assert notice("bad", 1, ("a",), began("bad") - 1) is None
    assert notice("good", 1, ("a",), began("good") + 1) is None


@pytest.mark.parametrize(
    ("run", "action", "message"),
    [
        ("good", "resume", "the run 'good' has ended: it is completed, so there is nothing to resume"),
        ("good", "cancel", "the run 'good' has ended: it is completed, so there is nothing to cancel"),
        ("good", "answer", "the run 'good' has ended: it is completed, so there is nothing to answer"),
        ("bad", "cancel", "the run 'bad' has ended: it is failed, so there is nothing to cancel"),
        ("bad", "answer", "the run 'bad' waits for no answer"),
    ],
)
async def test_what_makes_no_sense_is_refused(runs, run, action, message):
    async with visit() as visitor:
        response = await visitor.post(f"/runs/{run}/{action}", {"question": "q", "value": "v"})
    assert (response.status_code, response.json()) == (409, {"message": message})


async def test_a_run_that_is_running_cannot_be_resumed(runs):
    lock = FileStore().lock("bad")
    try:
        async with visit() as visitor:
            response = await visitor.post("/runs/bad/resume")
        assert (response.status_code, response.json()["message"]) == (
            409, "the run 'bad' is running, so there is nothing to resume",
        )  # fmt: skip
    finally:
        lock.release()


@pytest.mark.parametrize("action", ["resume", "cancel", "answer"])
async def test_an_unknown_run_is_not_found(runs, action):
    async with visit() as visitor:
        response = await visitor.post(f"/runs/nothing/{action}")
    assert response.status_code == 404
    assert response.json()["message"].startswith("there is no run 'nothing'")


async def test_a_run_is_cancelled(runs):
    async with visit() as visitor:
        response = await visitor.post("/runs/waiting/cancel")
    assert (response.status_code, response.json()) == (200, {"message": "It is cancelled."})
    assert load_run("waiting").records[0].status is Status.CANCELLED


async def test_an_answer_is_read_as_the_command_line_reads_it(runs):
    (question,) = load_run("waiting").questions
    assert EVIL in question.text
    async with visit() as visitor:
        for data in (
            {},
            {"question": question.id},
            {"question": 1, "value": "x"},
            {"question": question.id, "value": True},
        ):
            response = await visitor.post("/runs/waiting/answer", data)
            assert response.status_code == 400
        response = await visitor.post("/runs/waiting/answer", {"question": "q-none", "value": "true"})
        assert response.status_code == 409
        response = await visitor.post("/runs/waiting/answer", {"question": question.id, "value": '{"yes": [1]}'})
        assert response.json() == {"message": "The answer is sent. Resume the run to go on."}
        response = await visitor.post("/runs/waiting/answer", {"question": question.id, "value": "true"})
        assert response.json() == {"message": "the run 'waiting' waits for no answer"}
    assert await rt.Flow(f"Orders {EVIL}", approve, logging_setting="NONE").aresume("waiting") == {"yes": [1]}


@pytest.mark.parametrize("value", ["[" * 100_000, "9" * 5_000])
async def test_an_answer_that_json_cannot_hold_is_text(runs, value):
    async with visit() as visitor:
        (question,) = load_run("waiting").questions
        response = await visitor.post("/runs/waiting/answer", {"question": question.id, "value": value})
        assert response.status_code == 200
    assert await rt.Flow(f"Orders {EVIL}", approve, logging_setting="NONE").aresume("waiting") == value


async def test_a_request_that_is_no_json_object_is_refused(runs):
    async with visit() as visitor:
        access = visitor.access
        headers = {"cookie": visitor.cookie, "origin": "http://127.0.0.1:8765", "x-railtracks-csrf": access.csrf}
        host = f"http://127.0.0.1:8765{access.root}/runs/bad/cancel"
        deep = b"[" * 200_000
        for content in (b"[]", b"{", b"\xff", b"null", deep, b'{"a":' + deep, b"1" * 5_000):
            response = await visitor.client.post(host, headers=headers, content=content)
            assert response.status_code == 400
    assert load_run("bad").failures


async def test_a_request_that_is_too_large_is_not_read_to_its_end(runs):
    read, sent = [], []

    async def receive():
        read.append(1)
        return {"type": "http.request", "body": bytes(100_000), "more_body": True}

    async def send(message):
        sent.append(message)

    async with visit() as visitor:
        headers = [(b"origin", b"http://127.0.0.1:8765"), (b"x-railtracks-csrf", visitor.access.csrf.encode())]
        await visitor.app(visitor.scope("POST", "/runs/bad/cancel", *headers), receive, send)
    assert sent[0]["status"] == 400
    assert b"is larger than 1,048,576 bytes" in sent[1]["body"]
    assert len(read) == 11


# ---- resuming, in a process


class Fake(Processes):
    """Starts another program in place of the command line."""

    program = "print('hello')"

    def command(self, identifier):
        return [sys.executable, "-c", self.program, *super().command(identifier)[3:]]


def test_the_command_names_the_run_and_the_store():
    processes = Processes(("--store", "app:store"), print)
    assert processes.command("bad") == [sys.executable, "-m", "railtracks", "resume", "bad", "--store", "app:store"]


@pytest.mark.parametrize(
    ("program", "code", "lines"),
    [
        ("print('x' * 9000, end=''); raise SystemExit(7)", 7, ("x" * 500,)),
        ("print(*range(60), sep='\\n'); raise SystemExit('wrong')", 1, (*map(str, range(41, 60)), "wrong")),
    ],
)
def test_the_exit_code_and_the_last_lines_of_a_process_are_kept(program, code, lines):
    changed = []

    async def main():
        processes = Fake((), changed.append)
        processes.program = program
        async with anyio.create_task_group() as tasks:
            await processes.start("bad", tasks)
            assert processes.latest("bad").code is None
            with pytest.raises(StateError, match="is being resumed already"):
                await processes.start("bad", tasks)
        return processes.latest("bad")

    began = time.time()
    attempt = anyio.run(main)
    assert attempt == Attempt(code, lines, attempt.ended)
    assert began <= attempt.ended <= time.time()
    assert len(lines) <= MAX_LINES
    assert changed == ["bad"]


def test_secrets_that_a_process_prints_are_masked():
    lines = ["PASSWORD=hunter2secret", "x" * 490 + " token=abcdef0123456789secret", "\x1b[31mred\x1b[0m"]

    async def main():
        processes = Fake((), print)
        processes.program = f"print(*{lines!r}, sep='\\n')"
        async with anyio.create_task_group() as tasks:
            await processes.start("bad", tasks)
        return processes.latest("bad").lines

    first, second, third = anyio.run(main)
    assert (first, second) == ("PASSWORD=***", "x" * 490 + " token=***")
    assert "\x1b" not in third
    assert "red" in third


@pytest.mark.parametrize("backend_name", ["asyncio", "trio"])
def test_a_process_is_terminated_with_the_server(backend_name, tmp_path):
    program = "import time, sys; open('started', 'w').close(); time.sleep(1000)"

    async def main():
        processes = Fake((), print)
        processes.program = program
        async with anyio.create_task_group() as tasks:
            await processes.start("bad", tasks)
            while not (tmp_path / "started").exists():
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        return processes.latest("bad")

    attempt = anyio.run(main, backend=backend_name)
    assert attempt.code == -signal.SIGTERM
    assert attempt.ended is not None


def test_a_process_that_cannot_be_started_leaves_nothing():
    class Broken(Processes):
        def command(self, identifier):
            return ["/nothing/here"]

    async def main():
        processes = Broken((), print)
        async with anyio.create_task_group() as tasks:
            with pytest.raises(OSError, match="nothing"):
                await processes.start("bad", tasks)
        assert processes.latest("bad") is None

    anyio.run(main)
