"""Ctrl-C is raised in code of users only. Signals are real; processes of their own send them to themselves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import SessionError
from railtracks.state import Status

HEAD = """
import signal, sys, threading, anyio
import railtracks as rt
import railtracks._calls._batch

BACKEND = sys.argv[1]
OPTIONS = {"run_identifier": "run", "logging_setting": "NONE"}

def say(*words):
    print(*words, flush=True)

def press(file):
    '''Press Ctrl-C while a function of a file runs.'''
    exec(compile("raise_signal(SIGINT)", file, "exec"), vars(signal))

press.__code__ = press.__code__.replace(co_filename=threading.__file__)
"""

TAIL = """

try:
    anyio.run(main, backend=BACKEND)
except BaseException as exc:
    say("out:", type(exc).__name__)
else:
    say("out: nothing")
say("restored:", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def output(backend, body):
    source = HEAD + textwrap.dedent(body) + TAIL
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", source, backend],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parent.parent), "PATH": ""},
        timeout=60,
    )
    assert process.stderr == ""
    return process.stdout.splitlines()


def statuses():
    return [record.status for record in rt.state.load_run("run").records]


EXIT = ["out: KeyboardInterrupt", "restored: True"]
FORMS = ["async with", "with"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "module",
    [
        "anyio",
        "rt._calls._batch",
        "rt._calls._workers",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("rt", "sys.modules[BACKEND]")),
    ],
)
def test_ctrl_c_waits_in_code_that_is_not_the_users(backend, form, module):
    body = f"""
    async def node():
        for _ in range(2):  # on asyncio the first one only cancels
            press({module}.__file__)
        say("went on")
        await anyio.sleep(60)
    async def main():
        {form} rt.Session(**OPTIONS):
            await rt.call(node)
    """
    assert output(backend, body) == ["went on", *EXIT]
    assert os.listdir(".railtracks") == ["run.json"]
    assert statuses() == [Status.CANCELLED]


@pytest.mark.parametrize("form", FORMS)
def test_ctrl_c_is_raised_in_code_of_the_user(backend, form):
    body = f"""
    async def node():
        try:
            for _ in range(2):
                press("mine.py")
            say("went on")
        except KeyboardInterrupt:
            say("raised")
            raise
    async def main():
        {form} rt.Session(**OPTIONS):
            await rt.call(node)
    """
    assert output(backend, body) == ["raised", *EXIT]
    assert statuses() == [Status.CANCELLED]


def test_ctrl_c_is_raised_in_the_standard_library_that_one_calls(backend):
    body = """
    async def node():
        try:
            for _ in range(2):
                press(threading.__file__)
            say("went on")
        except KeyboardInterrupt:
            say("raised")
            raise
    async def main():
        async with rt.Session(**OPTIONS):
            await rt.call(node)
    """
    assert output(backend, body) == ["raised", *EXIT]


def test_the_third_ctrl_c_is_raised_anywhere_if_the_loop_stands(backend):
    body = """
    async def node():
        try:
            for i in range(3):
                say(i)
                press(anyio.__file__)
            say("went on")
        except KeyboardInterrupt:
            say("raised")
            raise
    async def main():
        async with rt.Session(**OPTIONS):
            await rt.call(node)
    """
    assert output(backend, body) == ["0", "1", "2", "raised", *EXIT]


def test_a_thread_that_was_starting_does_not_hold_the_end_up(backend):
    """anyio stops a worker thread on asyncio once it has started; the interpreter waits for it at the end."""
    body = """
    start = threading.Thread.start
    def pressing(thread):
        start(thread)
        if "AnyIO" in thread.name:
            press(threading.__file__)
            press(threading.__file__)
    pressing.__code__ = pressing.__code__.replace(co_filename=threading.__file__)
    threading.Thread.start = pressing
    async def main():
        async with rt.Session(**OPTIONS):
            await rt.call(len, "abc")
            if BACKEND == "trio":
                press("mine.py")
            await anyio.sleep(60)
    """
    assert output(backend, body) == EXIT


def test_a_task_that_was_being_started_does_not_hold_the_end_up(backend):
    """trio has noted it in the nursery, and has not scheduled it yet."""
    body = """
    import linecache
    def trace(frame, event, argument):
        return in_spawn if frame.f_code.co_name == "spawn_impl" else None
    def in_spawn(frame, event, argument):
        if "self.reschedule(task" in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
            sys.settrace(None)
            say("pressed")
            press(frame.f_code.co_filename)
        return in_spawn
    async def hear(item):
        pass
    async def main():
        async with rt.Session(**OPTIONS) as session:
            if BACKEND == "asyncio":
                say("pressed")
                press("mine.py")
            sys.settrace(trace)
            session.subscribe(hear)
            await anyio.sleep(60)
    """
    assert output(backend, body) == ["pressed", *EXIT]


# ---- the handler


def test_the_handler_is_restored_when_the_last_session_ends(backend):
    body = """
    def handler():
        return signal.getsignal(signal.SIGINT)
    async def main():
        before = handler()
        first, second = rt.Session(logging_setting="NONE"), rt.Session(logging_setting="NONE")
        async with first:
            assert handler() is not before
            async with second:
                pass
            assert handler() is not before
            with rt.Session(logging_setting="NONE"):
                pass
            assert handler() is not before
        assert handler() is before
        with rt.Session(logging_setting="NONE"):
            assert handler() is not before
        assert handler() is before
    """
    assert output(backend, body) == ["out: nothing", "restored: True"]


def test_the_handler_is_restored_if_a_session_cannot_be_entered(backend):
    body = """
    async def main():
        before = signal.getsignal(signal.SIGINT)
        async with rt.Session(**OPTIONS):
            try:
                async with rt.Session(**OPTIONS):
                    say("entered")
            except rt.exceptions.RunInUseError:
                pass
        assert signal.getsignal(signal.SIGINT) is before
    """
    assert output(backend, body) == ["out: nothing", "restored: True"]


def test_a_handler_of_the_user_stays(backend):
    body = """
    def mine(*info):
        say("mine")
    async def main():
        signal.signal(signal.SIGINT, mine)
        async with rt.Session(logging_setting="NONE"):
            assert signal.getsignal(signal.SIGINT) is mine
            press(anyio.__file__)
        assert signal.getsignal(signal.SIGINT) is mine
        signal.signal(signal.SIGINT, signal.default_int_handler)
        async with rt.Session(logging_setting="NONE"):
            signal.signal(signal.SIGINT, mine)
        assert signal.getsignal(signal.SIGINT) is mine
        signal.signal(signal.SIGINT, signal.default_int_handler)
    """
    assert output(backend, body) == ["mine", "out: nothing", "restored: True"]


def test_a_session_that_is_left_open_does_not_swallow_ctrl_c(backend):
    body = """
    left = []
    async def main():
        left.append(rt.Session(logging_setting="NONE").__enter__())
    try:
        anyio.run(main, backend=BACKEND)
        for _ in range(2):
            try:
                press("mine.py")
            except KeyboardInterrupt:
                say("raised")
    finally:
        async def main():
            pass
    """
    assert output(backend, body) == ["raised", "raised", "out: nothing", "restored: True"]


def test_a_session_left_in_a_later_loop_leaves_no_handler():
    """Not in virtual time: it is about the handler of ``asyncio.run``. On trio a scope may not be left open."""
    before = signal.getsignal(signal.SIGINT)
    opened = rt.Session(save_state=False, logging_setting="NONE")

    async def leave():
        with pytest.raises(SessionError, match="another task"):
            await opened.__aexit__(None, None, None)

    anyio.run(opened.__aenter__)
    anyio.run(leave)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_session_that_ends_with_its_loop_leaves_no_handler():
    """Something other than Ctrl-C has ended the event loop, and ``asyncio.run`` cancels the main task after that."""
    before = signal.getsignal(signal.SIGINT)

    async def main():
        async with rt.Session(save_state=False, logging_setting="NONE"):
            asyncio.get_running_loop().call_soon(sys.exit, 3)
            await anyio.sleep_forever()

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_in_a_later_loop_than_that_of_an_open_session(backend):
    body = """
    left = []
    async def leave_open():
        left.append(rt.Session(logging_setting="NONE").__enter__())
    anyio.run(leave_open, backend=BACKEND)

    async def main():
        try:
            async with rt.Session(**OPTIONS):
                press("mine.py")
                await anyio.sleep(10)
        except KeyboardInterrupt:
            say("raised")
    """
    assert output(backend, body) == ["raised", "out: nothing", "restored: True"]
