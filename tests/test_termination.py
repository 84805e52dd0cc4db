"""SIGTERM in programs of their own: it ends a session as Ctrl-C does. Real signals, so in subprocesses."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import os, signal, sys, threading, time
import anyio
import railtracks as rt

rt.set_config(run_identifier="job", backend=sys.argv[1], logging_setting="QUIET")

@rt.function_node
async def wait():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(30)
    finally:
        print("cleaned up")

@rt.function_node
async def job():
    await rt.call(len, "abc")
    await rt.call(wait)
"""
SHOW = """
import railtracks as rt
print([(r.name, r.status.value, r.reason and r.reason.value) for r in rt.state.load_run("job").records])
"""
ENDED = "[('job', 'Cancelled', 'outside'), ('len', 'Completed', None), ('wait', 'Cancelled', 'outside')]\n"


def run(code, cwd, *args, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *args], cwd=cwd, capture_output=True, text=True, timeout=60, check=False, **options
    )


FORMS = {
    "invoke": "rt.Flow('Job', job).invoke()",
    "call_sync": "rt.call_sync(job)",
    "with": "with rt.Session():\n    rt.call_sync(job)",
}


@pytest.mark.either_backend
@pytest.mark.parametrize("form", FORMS)
def test_program_ends_its_session_and_exits_with_143(form, backend, tmp_path):
    ended = run(PRELUDE + FORMS[form], tmp_path, backend)
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "cleaned up\n", "")
    assert run(SHOW, tmp_path).stdout == ENDED


def test_body_of_a_plain_session_sees_it_as_ctrl_c(backend, tmp_path):
    code = """
with rt.Session():
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        print("in the body")
        raise
print("not reached")
"""
    ended = run(PRELUDE + code, tmp_path, backend)
    assert (ended.returncode, ended.stdout, ended.stderr) == (143, "in the body\n", "")


def ignore_ctrl_c():
    """Do as a shell does to programs that a script starts with ``&``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.slow
def test_program_whose_shell_ignores_ctrl_c_ends_too(backend, tmp_path):
    ended = run(PRELUDE + FORMS["invoke"], tmp_path, backend, preexec_fn=ignore_ctrl_c)
    assert (ended.returncode, ended.stdout) == (143, "cleaned up\n")
    assert "('len', 'Completed', None)" in run(SHOW, tmp_path).stdout


@pytest.mark.slow
@pytest.mark.parametrize("place", ["node", "body", "between calls"])
@pytest.mark.parametrize("ignored", [False, True])
def test_handler_in_the_docs_ends_sessions_in_an_event_loop(place, ignored, backend, tmp_path):
    page = (Path(__file__).parents[1] / "docs/sessions.md").read_text(encoding="utf-8")
    [box] = re.findall(r"```python\n(import signal\n.*?)```", page, re.DOTALL)
    code = {
        "node": "await rt.call(job)",
        "body": "await rt.call(len, 'abc')\n        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        await anyio.sleep(30)",
        "between calls": "threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "        while True:\n            await rt.call(len, 'abc')",
    }[place]
    main = f"""
{box}
async def main():
    async with rt.Session():
        {code}

try:
    anyio.run(main, backend=sys.argv[1])
except KeyboardInterrupt:
    print("interrupted")
"""
    ended = run(PRELUDE + main, tmp_path, backend, preexec_fn=ignore_ctrl_c if ignored else None)
    # The signal may come while a line of the journal is written, which is written again then.
    said = [line for line in ended.stderr.splitlines() if "is written again; it has all calls so far" not in line]
    assert (ended.returncode, said) == (0, [])
    assert ended.stdout.splitlines() == [*["cleaned up"][: place == "node"], "interrupted"]
    assert "('len', 'Completed', None)" in run(SHOW, tmp_path).stdout
    assert [path.name for path in (tmp_path / ".railtracks").iterdir()] == ["job.json"]


@pytest.mark.either_backend
def test_handler_of_the_application_is_left_alone(backend, tmp_path):
    code = """
def handle(signum, frame):
    print("the application's own")

signal.signal(signal.SIGTERM, handle)

@rt.function_node
async def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
    return "done"

print(rt.Flow("Job", terminate).invoke())
with rt.Session():
    print(rt.call_sync(terminate))
print(signal.getsignal(signal.SIGTERM) is handle)
"""
    ended = run(PRELUDE + code, tmp_path, backend)
    assert ended.stdout.splitlines() == ["the application's own", "done"] * 2 + ["True"]
    assert ended.returncode == 0


def test_handler_that_the_application_sets_in_a_session_stays(backend, tmp_path):
    code = """
with rt.Session():
    signal.signal(signal.SIGTERM, print)
print(signal.getsignal(signal.SIGTERM) is print)
"""
    assert run(PRELUDE + code, tmp_path, backend).stdout == "True\n"


def test_afterwards_the_signal_ends_the_program_at_once(backend, tmp_path):
    code = """
rt.Flow("Job", len).invoke("abc")
with rt.Session():
    rt.call_sync(len, "abc")
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
signal.raise_signal(signal.SIGTERM)
"""
    ended = run(PRELUDE + code, tmp_path, backend)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, "True\n")


@pytest.mark.either_backend
def test_outside_the_main_thread_nothing_changes(backend, tmp_path):
    code = """
def work():
    rt.Flow("Job", len).invoke("abc")
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    ended = run(PRELUDE + code, tmp_path, backend)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs os.fork")
def test_signal_ends_a_forked_child_at_once(backend, tmp_path):
    code = """
ready, write_ready = os.pipe()
with rt.Session():
    child = os.fork()
    if not child:
        os.write(write_ready, b"x")
        time.sleep(30)
    os.read(ready, 1)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ended = run(PRELUDE + code, tmp_path, backend)
    assert (ended.returncode, ended.stdout) == (0, "-15\n")


@pytest.mark.slow
def test_killed_by_the_signal_it_is_started_again_and_goes_on(backend, tmp_path):
    code = """
@rt.function_node
async def work(number: int) -> int:
    print(number, flush=True)
    if number == 1 and not os.path.exists("ended"):
        open("ended", "w").close()
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(30)
    return number

@rt.function_node
async def job() -> int:
    return sum([await rt.call(work, number) for number in range(3)])

print("sum", rt.Flow("Job", job, if_exists="resume").invoke())
"""
    ended = [run(PRELUDE + code, tmp_path, backend) for _ in range(2)]
    assert [(each.returncode, each.stdout.split("\n")) for each in ended] == [
        (143, ["0", "1", ""]),
        (0, ["1", "2", "sum 3", ""]),
    ]
