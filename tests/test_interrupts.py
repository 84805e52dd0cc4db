"""Ctrl-C and SystemExit end everything, after cleanup and saving, and come out plain. Ctrl-C is a real signal, in a
process of its own; pipes say when the process is ready for it."""

from __future__ import annotations

import json
import signal
import sys
import textwrap
from pathlib import Path
from traceback import walk_tb
from types import TracebackType

import anyio
import pytest
import trio

import railtracks as rt
from railtracks._concurrency import _threads
from railtracks._concurrency._termination import run_event_loop
from railtracks.state import Status
from tests.programs import Program
from tests.virtual import run

HEAD = """
import sys, anyio
import railtracks as rt

BACKEND = sys.argv[1]
OPTIONS = {"run_identifier": "run", "logging_setting": "NONE"}

def say(*words):
    print(*words, flush=True)

async def slow(*args):
    try:
        say("ready")
        await anyio.sleep(60)
    finally:
        say("cleaned")

def run():
"""

TAIL = """
try:
    run()
except BaseException as exc:
    say("out:", type(exc).__name__)
else:
    say("out: nothing")
say("threads:", sum(t.name.startswith("railtracks-session") for t in __import__("threading").enumerate()))
"""


def program(body, *args):
    return Program(HEAD + textwrap.indent(textwrap.dedent(body), "    ") + TAIL, *args)


def interrupted(body, *args, ready=1, signum=signal.SIGINT):
    """What the process prints after the signal, which comes when it has said "ready" so many times."""
    with program(body, *args) as process:
        process.wait_for("ready", ready)
        process.interrupt(signum)
        try:
            status, out, err = process.end(timeout=10)
        except TimeoutError:  # see `Program.interrupt`: the next one counts as the same
            process.interrupt(signum)
            status, out, err = process.end()
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:ready] == ready * ["ready"]
    return lines[ready:]


def saved():
    [run] = json.loads(Path(".railtracks/run.json").read_text())["runs"]
    return {edge["details"]["status"] for edge in run["edges"]}, run["status"]


EXIT = ["out: KeyboardInterrupt", "threads: 0"]


# ---- Ctrl-C


def test_ctrl_c_in_async_with(backend):
    body = """
    async def main():
        async with rt.Session(**OPTIONS):
            try:
                await rt.call(slow)
            finally:
                say("body cleaned")
    anyio.run(main, backend=BACKEND)
    """
    assert interrupted(body, backend) == ["cleaned", "body cleaned", *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_ctrl_c_in_a_nested_call(backend):
    body = """
    async def outer():
        return await rt.call(slow)
    async def main():
        async with rt.Session(**OPTIONS):
            await rt.call(outer)
    anyio.run(main, backend=BACKEND)
    """
    assert interrupted(body, backend) == ["cleaned", *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_ctrl_c_in_children_of_a_batch(backend):
    body = """
    async def outer():
        return await rt.call_batch(slow, range(3))
    async def main():
        async with rt.Session(**OPTIONS):
            await rt.call(outer)
    anyio.run(main, backend=BACKEND)
    """
    assert interrupted(body, backend, ready=3) == [*3 * ["cleaned"], *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_ctrl_c_in_a_child_of_start_soon(backend):
    body = """
    async def main():
        async with rt.Session(**OPTIONS) as session:
            session.start_soon(slow)
            await anyio.sleep(60)
    anyio.run(main, backend=BACKEND)
    """
    assert interrupted(body, backend) == ["cleaned", *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_ctrl_c_while_the_session_waits_for_a_child(backend):
    body = """
    async def main():
        async with rt.Session(**OPTIONS) as session:
            session.start_soon(slow)
    anyio.run(main, backend=BACKEND)
    """
    assert interrupted(body, backend) == ["cleaned", *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_ctrl_c_in_a_plain_with_in_async_code(backend):
    body = """
    async def main():
        with rt.Session(**OPTIONS):
            await rt.call(slow)
    anyio.run(main, backend=BACKEND)
    """
    assert interrupted(body, backend) == ["cleaned", *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_ctrl_c_in_call_sync(backend):
    body = """
    with rt.Session(backend=BACKEND, **OPTIONS):
        rt.call_sync(slow)
    """
    assert interrupted(body, backend) == ["cleaned", *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_ctrl_c_in_the_body_of_a_plain_with_between_its_calls(backend):
    body = """
    import threading
    with rt.Session(backend=BACKEND, **OPTIONS):
        rt.call_sync(len, "abc")
        say("ready")
        threading.Event().wait(60)
    """
    assert interrupted(body, backend) == EXIT
    assert saved() == ({"Completed"}, "Completed")


def test_ctrl_c_in_call_sync_without_a_session(backend):
    body = """
    rt.set_config(backend=BACKEND, **OPTIONS)
    rt.call_sync(slow)
    """
    assert interrupted(body, backend) == ["cleaned", *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_ctrl_c_in_flow_invoke(backend):
    body = """
    rt.Flow("F", slow, backend=BACKEND, **OPTIONS).invoke()
    """
    assert interrupted(body, backend) == ["cleaned", *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_the_traceback_of_ctrl_c_has_the_lines_of_the_program(backend):
    body = """
    import traceback

    async def outer():
        await rt.call(slow)

    try:
        rt.Flow("F", outer, backend=BACKEND, **OPTIONS).invoke()
    except KeyboardInterrupt as exc:
        chain = [each for each in (exc.__context__, exc) if each is not None]
        frames = [frame for each in chain for frame in traceback.extract_tb(each.__traceback__)]
        say(*(frame.name for frame in frames if "site-packages" in frame.filename or "asyncio" in frame.filename))
        say(*(frame.name for frame in frames if frame.name in ("run", "outer", "slow", "call", "run_event_loop")))
    """
    libraries, lines = interrupted(body, backend)[1:3]
    assert libraries == ""
    assert sorted(lines.split()) == ["outer", "run", "slow"]


def test_a_session_adds_no_lines_to_the_traceback_of_ctrl_c(backend):
    """What runs the event loop is not the library's here, and has its frames outside of the session."""
    body = """
    import traceback

    async def outer():
        await rt.call(slow)

    async def main():
        async with rt.Session(**OPTIONS):
            await rt.call(outer)

    try:
        anyio.run(main, backend=BACKEND)
    except KeyboardInterrupt as exc:
        chain = [each for each in (exc.__context__, exc) if each is not None]
        frames = [frame for each in chain for frame in traceback.extract_tb(each.__traceback__)]
        names = [frame.name for frame in frames]
        say(*names[names.index("main"):][:4])
        say(*(frame.name for frame in frames if "railtracks" in frame.filename))
    """
    lines, ours = interrupted(body, backend)[1:3]
    assert lines.split()[:3] == ["main", "outer", "slow"]
    assert ours == ""


def test_ctrl_c_in_very_deep_calls_stays_ctrl_c(backend):
    async def deep():
        traceback, frame = None, sys._getframe()
        for _ in range(2 * sys.getrecursionlimit()):
            traceback = TracebackType(traceback, frame, frame.f_lasti, frame.f_lineno)
        raise KeyboardInterrupt().with_traceback(traceback)

    with pytest.raises(KeyboardInterrupt) as caught:
        run_event_loop(deep, backend)
    frames = [frame.f_code.co_name for frame, _ in walk_tb(caught.value.__traceback__)]
    assert frames.count("deep") == len(frames[1:]) > 2 * sys.getrecursionlimit()


TERMINATED = {
    "async": "anyio.run(rt.Flow('F', slow, **OPTIONS).ainvoke, backend=BACKEND)",
    "sync": "with rt.Session(backend=BACKEND, **OPTIONS): rt.call_sync(slow)",
    "flow": "rt.Flow('F', slow, backend=BACKEND, **OPTIONS).invoke()",
}


@pytest.mark.parametrize("form", TERMINATED)
def test_sigterm_ends_a_session_as_ctrl_c_if_it_is_passed_on(backend, form):
    """As the page about sessions shows it."""
    body = f"""
    import signal
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    {TERMINATED[form]}
    """
    assert interrupted(body, backend, signum=signal.SIGTERM) == ["cleaned", *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_ctrl_c_in_a_decorated_function(backend):
    body = """
    @rt.session(**OPTIONS)
    async def main():
        await rt.call(slow)
    anyio.run(main, backend=BACKEND)
    """
    assert interrupted(body, backend) == ["cleaned", *EXIT]
    assert saved() == ({"Cancelled"}, "Cancelled")


def test_ctrl_c_ends_the_inner_session_and_the_outer_one(backend):
    body = """
    async def outer():
        async with rt.Session(run_identifier="inner", logging_setting="NONE"):
            await rt.call(slow)
    async def main():
        async with rt.Session(**OPTIONS):
            await rt.call(outer)
    anyio.run(main, backend=BACKEND)
    """
    assert interrupted(body, backend) == ["cleaned", *EXIT]
    assert saved() == ({"Cancelled", "Completed"}, "Cancelled")  # the completed call says which session was opened
    assert rt.ExecutionInfo.load(".railtracks/inner.json").records[0].status is Status.CANCELLED


def test_ctrl_c_abandons_the_thread_of_a_sync_node_and_says_so(backend):
    body = """
    import threading
    release = threading.Event()
    def wait():
        say("ready")
        release.wait(60)
    async def main():
        async with rt.Session(**OPTIONS):
            await rt.call(wait)
    try:
        anyio.run(main, backend=BACKEND)
    finally:
        release.set()
    """
    assert interrupted(body, backend) == EXIT
    record = rt.ExecutionInfo.load(".railtracks/run.json").records[0]
    assert (record.status, record.abandoned) == (Status.CANCELLED, True)


def test_ctrl_c_while_a_subscriber_works_delivers_everything(backend):
    body = """
    busy, interrupt = anyio.Event(), anyio.Event()
    async def hear(item):
        busy.set()
        await interrupt.wait()
        say("heard", item)
    async def main():
        async with rt.Session(broadcast_callback=hear, **OPTIONS):
            for i in range(3):
                await rt.broadcast(i)
            await busy.wait()
            try:
                say("ready")
                await anyio.sleep(60)
            finally:
                interrupt.set()
    anyio.run(main, backend=BACKEND)
    """
    assert interrupted(body, backend) == ["heard 0", "heard 1", "heard 2", *EXIT]


def test_ctrl_c_while_the_session_of_a_failed_body_delivers(backend):
    """In virtual time. On trio the signal comes where Ctrl-C waits, so it is raised in the task that waits for it."""
    heard = []

    def interrupt():
        signal.raise_signal(signal.SIGINT)

    if backend == "trio":
        interrupt = trio.lowlevel.enable_ki_protection(interrupt)

    async def hear(event):
        await anyio.sleep(1)
        if not heard:
            interrupt()
        await anyio.sleep(1)
        heard.append(type(event).__name__)

    async def main():
        async with rt.Session(run_identifier="run") as session:
            session.subscribe(hear)
            await rt.call(len, "abc")
            raise KeyError("body")

    with pytest.raises(KeyboardInterrupt) as caught:
        run(backend, main)
    assert type(caught.value) is KeyboardInterrupt
    assert heard == ["CallCreated", "CallSucceeded"]
    assert saved() == ({"Completed"}, "Completed")


AT_EACH_POINT = """
    import contextvars, ctypes, signal, threading
    sys.unraisablehook = lambda _: None  # it comes in finalizers too

    def interrupt_at(number):
        count = 0
        def profile(frame, event, _):
            nonlocal count
            count += event in ("call", "c_return")
            if count == number:
                count += 1
                came.append(number)
                signal.raise_signal(signal.SIGINT)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(profile))  # Python 3.11 frees one that raises while it is in use
        sys.setprofile(profile)

    def main():
        with rt.Session(save_state=False, backend=BACKEND):
            try:
                interrupt_at(number)
                rt.call_sync(len, "abc")
            finally:
                sys.setprofile(None)

    came, raised, number = [], 0, 0
    while len(came) == number:
        number += 1
        try:
            contextvars.copy_context().run(main)
        except KeyboardInterrupt:
            raised += 1
        if [thread for thread in threading.enumerate() if thread.name.startswith("railtracks-session")]:
            say("left a thread behind at", number)
    say(number > 200, len(came) - raised < 20)
"""


def test_ctrl_c_anywhere_in_the_first_call_sync_ends_the_session(backend):
    """At each point where Python handles a signal: a function begins, or one that is written in C has returned.

    The first call starts the event loop of a plain ``with``. What finalizers raise is lost, Ctrl-C too.
    """
    assert ended(AT_EACH_POINT, backend) == ["True True", "out: nothing", "threads: 0"]


# ---- interrupts that nodes raise

KINDS = [KeyboardInterrupt, SystemExit]


def leave(backend, main, error):
    """Run ``main`` and check that ``error`` comes out as itself, with everything ended and saved."""
    ended = []

    async def beside():
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    async def whole():
        async with rt.Session(run_identifier="run") as session:
            session.start_soon(beside)
            await anyio.sleep(1)
            await main(session)

    with pytest.raises(type(error)) as caught:
        run(backend, whole)
    assert caught.value is error
    assert ended == [True]
    records = rt.ExecutionInfo.load(".railtracks/run.json").records
    assert Status.OPEN not in {record.status for record in records}
    assert _threads.active_work_count() == 0
    return {record.name: record.status for record in records}


def raiser(error):
    async def fail(*args):
        await anyio.sleep(1)
        raise error

    return fail


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_raised_in_a_node_comes_out_plain(backend, kind):
    async def main(session):
        await rt.call(raiser(error))

    error = kind("mine")
    leave(backend, main, error)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_raised_in_a_nested_node_comes_out_plain(backend, kind):
    async def outer():
        await rt.call(raiser(error))

    async def main(session):
        await rt.call(outer)

    error = kind("mine")
    leave(backend, main, error)


@pytest.mark.parametrize("return_exceptions", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_interrupt_raised_in_a_child_of_a_batch_comes_out_plain(backend, kind, return_exceptions):
    async def main(session):
        await rt.call_batch(raiser(error), range(3), return_exceptions=return_exceptions)

    error = kind("mine")
    leave(backend, main, error)


@pytest.mark.parametrize("kind", KINDS)
def test_interrupt_raised_in_start_soon_comes_out_plain(backend, kind):
    async def main(session):
        session.start_soon(raiser(error))
        await anyio.sleep_forever()

    error = kind("mine")
    leave(backend, main, error)


@pytest.mark.parametrize("kind", KINDS)
def test_interrupt_raised_while_a_session_waits_comes_out_plain(backend, kind):
    async def main(session):
        session.start_soon(raiser(error))

    error = kind("mine")
    leave(backend, main, error)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_raised_in_a_sync_node_comes_out_plain(backend, kind):
    def fail():
        raise error

    async def main(session):
        await rt.call(fail)

    error = kind("mine")
    leave(backend, main, error)


@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupt_raised_in_the_body_comes_out_plain(backend, kind):
    async def main(session):
        raise error

    error = kind("mine")
    assert leave(backend, main, error) == {"beside": Status.CANCELLED}


@pytest.mark.parametrize("kind", KINDS)
def test_interrupt_wins_over_an_error_of_the_body_it_caused(backend, kind):
    async def main(session):
        session.start_soon(raiser(error))
        try:
            await anyio.sleep_forever()
        finally:
            raise ValueError("cleanup went wrong")

    error = kind("mine")
    leave(backend, main, error)


# In processes of their own, as an interrupt that goes astray takes the event loop of the test with it.

RAISED = """
    async def fail():
        raise {kind}("mine")
    async def main():
        {form} rt.Session(**OPTIONS):
            await rt.call({node})
    def sync_node():
        rt.call_sync(fail)
    {start}
"""


def ended(body, *args):
    with program(body, *args) as process:
        status, out, err = process.end()
    assert (status, err) == (0, "")
    return out.splitlines()


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit"])
@pytest.mark.parametrize("form", ["with", "async with"])
@pytest.mark.parametrize("node", ["fail", "sync_node"])
def test_an_interrupt_raised_below_an_async_form_comes_out_plain(backend, kind, form, node):
    body = RAISED.format(kind=kind, form=form, node=node, start="anyio.run(main, backend=BACKEND)")
    assert ended(body, backend) == [f"out: {kind}", "threads: 0"]
    assert saved() == ({"Failed"}, "Failed")


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit"])
@pytest.mark.parametrize("node", ["fail", "sync_node"])
def test_an_interrupt_raised_below_call_sync_comes_out_plain(backend, kind, node):
    body = f"""
    async def fail():
        raise {kind}("mine")
    def sync_node():
        rt.call_sync(fail)
    with rt.Session(backend=BACKEND, **OPTIONS):
        rt.call_sync({node})
    """
    assert ended(body, backend) == [f"out: {kind}", "threads: 0"]
    assert saved() == ({"Failed"}, "Failed")


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit"])
def test_an_interrupt_raised_below_flow_invoke_comes_out_plain(backend, kind):
    body = f"""
    async def fail():
        raise {kind}("mine")
    rt.Flow("F", fail, backend=BACKEND, **OPTIONS).invoke()
    """
    assert ended(body, backend) == [f"out: {kind}", "threads: 0"]
    assert saved() == ({"Failed"}, "Failed")
