"""Forked children that leave the session of their parent: they end, and write, save and release nothing."""

from __future__ import annotations

import contextvars
import os
import threading

import pytest

import railtracks as rt
from railtracks.exceptions import SessionEndedError
from tests.programs import output_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

HEAD = """
import os, sys
import anyio
import railtracks as rt

BACKEND, LEAVE = sys.argv[1:]
PARENT = os.getpid()

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

def leave():
    if LEAVE == "exit":
        sys.exit(3)
    if LEAVE == "raise":
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # its traceback
        raise ValueError

def report(_):
    say("reported in the", "parent" if os.getpid() == PARENT else "child")

def wait(child):
    say("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sorted(os.listdir(".railtracks")))

OPTIONS = {"run_identifier": "run", "payload_callback": report}
"""
ENDS = [("run on", 7), ("exit", 3), ("raise", 1)]
FILES = "['run.journal', 'run.lock']"


@pytest.mark.parametrize(("leave", "status"), ENDS)
@pytest.mark.parametrize("first_call", [True, False])
def test_child_leaves_a_plain_with(backend, leave, status, first_call):
    """The child runs on after the ``with``, and the session of its parent is as it was."""
    lines = output_of(
        HEAD
        + f"""
with rt.Session(backend=BACKEND, **OPTIONS) as session:
    if {first_call}:
        rt.call_sync(len, "abc")
    if (child := os.fork()) == 0:
        leave()
    else:
        wait(child)
        say(rt.call_sync(len, "ab"))
if os.getpid() != PARENT:
    say("child", rt.session_id())
    sys.exit(7)
""",
        backend,
        leave,
    )
    files = FILES if first_call else "['run.lock']"
    assert lines[-3:] == [f"status {status} {files}", "2", "reported in the parent"]
    assert lines[:-3] == (["child None"] if leave == "run on" else [])
    assert len(rt.state.load_run("run").records) == 1 + first_call


@pytest.mark.parametrize(("leave", "status"), [("run on", 0), *ENDS[1:]])
@pytest.mark.parametrize("form", ["async with", "with"])
def test_child_leaves_a_session_in_async_code(backend, form, leave, status):
    """The child ends there: the event loop is its parent's, and the parent's loop goes on."""
    lines = output_of(
        HEAD
        + f"""
async def main():
    {form} rt.Session(**OPTIONS):
        await rt.call(len, "abc")
        if (child := os.fork()) == 0:
            leave()
        else:
            await anyio.to_thread.run_sync(wait, child)
            say(await rt.call(len, "ab"))
    if os.getpid() != PARENT:
        say("the child has run on")

anyio.run(main, backend=BACKEND)
""",
        backend,
        leave,
    )
    assert lines == [f"status {status} {FILES}", "2", "reported in the parent"]
    assert len(rt.state.load_run("run").records) == 2


@pytest.mark.either_backend
def test_plain_with_is_left_while_threads_make_the_first_call(backend):
    """Threads whose first call comes while the session is left start no loop that nothing ends."""
    raised: list[BaseException] = []

    def call():
        try:
            rt.call_sync(len, "abc")
        except BaseException as exc:
            raised.append(exc)

    for _ in range(100):
        with rt.Session(backend=backend, save_state=False):
            contexts = [contextvars.copy_context() for _ in range(3)]
            threads = [threading.Thread(target=context.run, args=(call,), daemon=True) for context in contexts]
            for thread in threads:
                thread.start()
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
    assert {type(exc) for exc in raised} <= {SessionEndedError}
    assert not [thread for thread in threading.enumerate() if thread.name == "railtracks-session"]
