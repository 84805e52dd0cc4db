"""Forked children: they are outside the session of their parent, and nothing of it holds them up."""

from __future__ import annotations

import os
import threading

import pytest

import railtracks as rt
from tests.programs import output_of

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    # Python warns of a fork in a process with threads, which is what these tests are about.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

HEAD = """
import gc, multiprocessing, os, sys
import anyio
import railtracks as rt

BACKEND = sys.argv[1]

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()

def length(text):
    return len(text)

def fork(func):
    if (child := os.fork()) == 0:
        try:
            func()
        except BaseException as exc:
            say(type(exc).__name__, exc)
        finally:
            os._exit(0)
    os.waitpid(child, 0)

def call():
    say("child:", rt.call_sync(length, "abcd"), rt.session_id())
"""


def outside_a_session(lines):
    """Whether the first three lines show a child that is outside any session."""
    return (
        lines[0].startswith("ContextError rt.context.get() was called outside a session")
        and lines[1].startswith("ContextError rt.broadcast_sync() was called outside a session")
        and lines[2] == "child: 4 None"
    )


def test_call_sync_in_a_forked_process_opens_a_session(backend):
    """``rt.call_sync`` in a process that a sync node starts with multiprocessing opens a session of its own."""
    lines = output_of(
        HEAD
        + """
def node():
    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    process.join(20)
    return process.exitcode

say(rt.Flow("F", node, backend=BACKEND).invoke())
""",
        backend,
    )
    assert lines == ["child: 4 None", "0"]


@pytest.mark.parametrize("first_call", [True, False])
def test_child_of_a_plain_with_is_outside_the_session(backend, first_call):
    lines = output_of(
        HEAD
        + f"""
with rt.Session(backend=BACKEND, context={{"key": 1}}, run_identifier="run") as session:
    if {first_call}:
        rt.call_sync(length, "abc")
    fork(lambda: rt.context.get("key"))
    fork(lambda: rt.broadcast_sync("item"))
    fork(call)
    say("parent:", rt.call_sync(length, "ab"), rt.context.get("key"))
say(len(session.info.records))
""",
        backend,
    )
    assert outside_a_session(lines)
    assert lines[3:] == ["parent: 2 1", str(1 + first_call)]


def test_child_of_a_sync_node_is_outside_the_session(backend):
    lines = output_of(
        HEAD
        + """
def node():
    fork(lambda: rt.context.get("key"))
    fork(lambda: rt.broadcast_sync("item"))
    fork(call)
    return rt.call_sync(length, "ab")

say(rt.Flow("F", node, backend=BACKEND, context={"key": 1}).invoke())
""",
        backend,
    )
    assert outside_a_session(lines)
    assert lines[3:] == ["2"]


def test_child_forked_in_async_code_is_outside_the_session(backend):
    lines = output_of(
        HEAD
        + """
async def main():
    async with rt.Session(context={"key": 1}):
        fork(lambda: rt.context.get("key"))
        say(await rt.call(length, "ab"), rt.context.get("key"))

anyio.run(main, backend=BACKEND)
""",
        backend,
    )
    assert lines[0].startswith("ContextError")
    assert lines[1:] == ["2 1"]


@pytest.mark.parametrize(
    ("ending", "status"), [("pass", 0), ("sys.exit()", 0), ("sys.exit(3)", 3), ("sys.exit(True)", 1)]
)
def test_child_that_comes_out_of_a_sync_node_ends(backend, ending, status):
    """A child that comes out of the sync node in which it was forked ends, as its event loop is in the parent."""
    lines = output_of(
        HEAD
        + f"""
def node():
    if (child := os.fork()) == 0:
        {ending}
        return "child"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

say(rt.Flow("F", node, backend=BACKEND, run_identifier="run").invoke())
""",
        backend,
    )
    assert lines == [str(status)]
    assert rt.state.load_run("run").answer == status


def test_anyio_requests_in_a_child_do_not_wait_for_the_parent():
    """What a child asks of the asyncio loop of its parent by way of anyio is refused."""
    lines = output_of(
        HEAD
        + """
def node():
    fork(lambda: anyio.from_thread.run(rt.broadcast, "item"))
    fork(lambda: anyio.from_thread.run_sync(len, "item"))

rt.Flow("F", node, backend=BACKEND).invoke()
""",
        "asyncio",
    )
    assert [line.split()[0] for line in lines] == ["RunFinishedError", "RunFinishedError"]


def test_child_may_drop_an_event_loop_of_its_parent(backend):
    """A child that drops an event loop which runs in a thread of its parent does not wait for that thread."""
    lines = output_of(
        HEAD
        + """
from railtracks._concurrency._threads import start_event_loop

loop = start_event_loop(BACKEND)
portal = loop.__enter__()
if (child := os.fork()) == 0:
    try:
        portal.call(length, "abc")
    except RuntimeError as exc:
        say(exc)
    del loop, portal
    gc.collect()
    sys.exit(4)  # runs exit handlers and finalizers
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), portal.call(length, "abc"))
loop.__exit__(None, None, None)
""",
        backend,
    )
    assert lines == ["This portal is not running", "4 3"]


def test_locks_that_other_threads_hold_do_not_block_a_child(backend):
    """Locks of the library that another thread holds at the time of the fork are free in the child."""
    lines = output_of(
        HEAD
        + """
import threading
from railtracks import _config
from railtracks._concurrency import _work_item
from railtracks.state import _shared_texts
from railtracks.state._redaction import _redactor
from railtracks.state._stores import _file_lock, _memory

store = rt.state.MemoryStore()
stop, held = threading.Event(), threading.Barrier(2)

def hold():
    with _config._lock, _work_item._lock, _redactor._adding, _file_lock._guard, store._guard, _shared_texts._guard:
        held.wait()
        stop.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()

def use():
    rt.set_config(backend=BACKEND)
    with rt.Session(store=store, context={"password": "a very long secret"}):
        call()
    rt.Flow("F", length).invoke([rt.llm.UserMessage(each) for each in "abc"])

fork(use)
stop.set()
thread.join()
""",
        backend,
    )
    assert lines[0].startswith("child: 4 ")


def test_runs_of_the_parent_are_free_in_a_memory_store():
    """A child has a copy of a MemoryStore, in which no session of its own is open."""
    store = rt.state.MemoryStore()
    with rt.Session(store=store, run_identifier="run"):
        assert store.is_locked("run")
        if (child := os.fork()) == 0:
            os._exit(int(store.is_locked("run")))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.is_locked("run")


def test_no_work_counts_in_a_child():
    from railtracks._concurrency import _threads

    inside, go = threading.Event(), threading.Event()

    def work():
        inside.set()
        go.wait(10)

    thread = threading.Thread(target=rt.Flow("F", work, save_state=False).invoke)
    thread.start()
    inside.wait(10)
    assert _threads.active_work_count() == 1
    if (child := os.fork()) == 0:
        os._exit(_threads.active_work_count())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go.set()
    thread.join()
