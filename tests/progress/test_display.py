"""Sessions that are shown while they run: on a terminal, elsewhere, and however they end.

They run in real time, as nothing is shown in virtual time. Nothing here waits for time to pass: nodes wait until
standard error shows something.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

import railtracks as rt
from railtracks._context_variable import current
from railtracks._progress import _display
from railtracks._progress._display import display
from railtracks._progress._picture import Painter
from railtracks._session._life import open_sessions
from railtracks._session._nursery import SessionNursery
from tests.progress.helpers import PATIENCE, Stream, assert_nothing_is_left, progress_threads, screen_of


@pytest.fixture
def terminal(monkeypatch) -> Iterator[Stream]:
    """Standard error that is a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    yield (stream := Stream())
    assert_nothing_is_left(stream)


@pytest.fixture
def file(monkeypatch) -> Iterator[Stream]:
    """Standard error that is a file."""
    monkeypatch.setattr(_display, "PLAIN", 0.01)
    yield (stream := Stream(is_terminal=False))
    assert_nothing_is_left(stream)


async def until_shown(stream: Stream, text: str) -> None:
    await anyio.to_thread.run_sync(stream.wait_for, text)


@rt.function_node
async def wait_for(stream_name: str, text: str) -> str:
    await until_shown(STREAMS[stream_name], text)
    return text


@rt.function_node
def fail() -> None:
    raise LookupError("no page")


STREAMS: dict[str, Stream] = {}


def session(**options: Any) -> rt.Session:
    return rt.Session(**{"save_state": False, "progress": True, **options})


# ---- what is shown


@pytest.mark.parametrize("save_state", [True, False])
def test_a_terminal_shows_a_tree_while_it_runs(terminal, backend, save_state):
    @rt.function_node
    async def fetch_all(count: int) -> None:
        await rt.call_batch(fetch, range(count), limit=4)

    @rt.function_node
    async def fetch(page: int) -> None:
        if page > 12:
            await until_shown(terminal, "of 16 (8")
        if page == 3:
            raise LookupError(page)

    rt.Flow(
        "Pages", fetch_all, progress=True, backend=backend, save_state=save_state, logging_setting="NONE",
        run_identifier="pages",
    ).invoke(16)  # fmt: skip
    text = re.sub(r"\x1b(\[\d+;1H|8)", "\n", re.sub(r"\x1b\[[0-9;]*[mK]", "", terminal.getvalue()))
    assert "flow Pages, session pages  Open  " in text
    assert re.search(r"  17 calls, 1 failed, \d open\n", text)
    assert re.search(r"└─ fetch_all\(16\)  [\d.]+ \S+\n", text)
    assert re.search(r"   └─ fetch × 16: \d+ ok, 1 failed, \d running\n", text)
    assert re.search(r"      ├─ fetch\(14\)  [\d.]+ \S+\n", text)
    assert re.search(r"━+─+  fetch: 13 of 16 \(81 %\), 1 failed.*  at most 4 at once\n", text)
    [line] = terminal.lines
    assert re.fullmatch(r"RT progress: flow Pages, session pages  Completed  [\d.]+ m?s  17 calls, 1 failed", line)


def test_elsewhere_there_is_a_line_when_something_happened(file, backend):
    @rt.function_node
    async def fetch(page: int) -> None:
        await until_shown(file, f"fetch: {page} of 3")

    async def main():
        async with session(name="pages"):
            await rt.call_batch(fetch, range(3), limit=1)

    anyio.run(main, backend=backend)
    *lines, last = file.getvalue().splitlines()
    assert all(line.startswith("RT progress: session pages: ") for line in lines)
    facts = [re.sub(r" in [\d.]+ [^;]+|, [\d,.]+/(s|min).*", "", line) for line in lines]
    assert len(set(facts)) == len(facts)
    assert "RT progress: session pages: 2 calls, 1 open; fetch: 1 of 3 (33 %)" in facts
    assert re.fullmatch(r"RT progress: session pages  Completed  .*  3 calls", last)


def test_a_dumb_terminal_gets_lines(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(_display, "PLAIN", 0.01)

    async def main():
        async with session(name="plain"):
            await until_shown(terminal, "session plain: 0 calls in ")

    anyio.run(main)
    assert "\x1b" not in terminal.getvalue()


def test_without_rich_there_are_lines_and_advice_once(terminal, monkeypatch):
    monkeypatch.setattr(_display, "find_spec", lambda name: None)
    monkeypatch.setattr(display, "_has_advised", False)

    async def main():
        async with session(name="one"):
            pass
        async with session(name="two"):
            pass

    anyio.run(main)
    advice, one, two = terminal.getvalue().splitlines()
    assert advice == "RT progress: to see a tree of what runs, install rich: python -m pip install rich"
    assert one.startswith("RT progress: session one  Completed")
    assert two.startswith("RT progress: session two  Completed")


def test_an_old_console_of_windows_gets_lines(terminal, monkeypatch):
    class Legacy(Painter):
        def __init__(self, stream: Any) -> None:
            super().__init__(stream)
            self.is_legacy = True

    monkeypatch.setattr(_display, "Painter", Legacy)
    monkeypatch.setattr(_display, "PLAIN", 0.01)

    async def main():
        async with session(name="plain"):
            await until_shown(terminal, "session plain: 0 calls in ")

    anyio.run(main)
    assert "\x1b" not in terminal.getvalue()


def test_logs_and_prints_are_above(terminal, monkeypatch, backend):
    monkeypatch.setattr("sys.stdout", terminal)

    @rt.function_node
    async def talk() -> None:
        await until_shown(terminal, "talk()")
        print("printed [bold]as it is[/]")
        fail_quietly = await rt.call_batch(fail, *[[]])
        assert fail_quietly == []
        with pytest.raises(LookupError):
            await rt.call(fail)

    async def main():
        async with session(logging_setting="REGULAR", name="talk"):
            await rt.call(talk)

    handler = logging.StreamHandler(terminal)
    logging.getLogger("RT").addHandler(handler)
    try:
        anyio.run(main, backend=backend)
    finally:
        logging.getLogger("RT").removeHandler(handler)
    starts = ["START CREATED talk", "printed [bold]as it is[/]", "fail FAILED LookupError: no page", "END 2 calls"]
    starts.append("RT progress: session talk  Completed")
    assert len(terminal.lines) == len(starts)
    assert all(map(str.startswith, terminal.lines, starts))


def test_a_labelled_batch_has_one_line_more_at_its_end(terminal, backend):
    @rt.function_node
    async def parse(number: int) -> None:
        await until_shown(terminal, "parsing: ")

    async def main():
        async with session(logging_setting="NONE"):
            await rt.call_batch(parse, range(3), progress="parsing")

    anyio.run(main, backend=backend)
    assert re.fullmatch(r"parsing: 3 of 3 \(100 %\), in [\d.]+ s", terminal.lines[0])
    assert len(terminal.lines) == 2


def test_a_batch_of_another_session_is_above(terminal, backend):
    async def main():
        async with session(name="shown"):
            await until_shown(terminal, "session shown")
            async with rt.Session(save_state=False, logging_setting="NONE"):
                await rt.call_batch(fail_never, range(3), progress="parsing")

    @rt.function_node
    async def fail_never(number: int) -> None: ...

    anyio.run(main, backend=backend)
    batch, summary = terminal.lines
    assert batch.startswith("parsing: 3 of 3")
    assert summary.startswith("RT progress: session shown")


# ---- how it ends


def enter_and_leave(form: str, backend: str) -> None:
    """Enter a session in one of the ways into it, make a call, and check that nothing is left of it."""

    async def main() -> None:
        try:
            if form == "async with":
                async with session(logging_setting="QUIET"):
                    await rt.call(one)
            else:
                with session(logging_setting="QUIET"):
                    await rt.call(one)
        finally:
            assert current.get() is None

    @rt.function_node
    async def one() -> int:
        return 1

    before = set(open_sessions)
    try:
        if form == "synchronous":
            with session(logging_setting="QUIET", backend=backend):
                assert rt.call_sync(one) == 1
        else:
            anyio.run(main, backend=backend)
    finally:
        assert current.get() is None
        assert open_sessions == before
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert_nothing_is_left()


every_form = pytest.mark.parametrize("form", ["async with", "with", "synchronous"])


async def returns(stream):
    async with session():
        await until_shown(stream, "session ")


async def raises(stream):
    with pytest.raises(LookupError):
        async with session():
            await until_shown(stream, "session ")
            await rt.call(fail)


async def is_cancelled(stream):
    with anyio.CancelScope() as scope:
        async with session():
            await until_shown(stream, "session ")
            scope.cancel()
            await anyio.sleep(60)
    assert scope.cancelled_caught


async def times_out(stream):
    async with session(timeout=0.01, logging_setting="NONE"):
        with pytest.raises(rt.exceptions.GlobalTimeOutError):
            await rt.call(forever)


@rt.function_node
async def forever() -> None:
    await anyio.sleep_forever()


async def plain_with_in_async_code(stream):
    with session():
        await until_shown(stream, "session ")
        with pytest.raises(LookupError):
            await rt.call(fail)


async def cannot_be_entered(stream):
    with pytest.raises(rt.exceptions.ConfigError):
        async with session(log_file="/proc/no/such/file"):
            raise AssertionError


@pytest.mark.parametrize(
    "ends", [returns, raises, is_cancelled, times_out, plain_with_in_async_code, cannot_be_entered]
)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_nothing_is_left_however_it_ends(ends, is_terminal, backend, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_display, "PLAIN", 0.01)
    monkeypatch.setattr("sys.stderr", stream := Stream(is_terminal))
    anyio.run(ends, stream, backend=backend)
    monkeypatch.undo()
    assert_nothing_is_left()
    assert screen_of(stream.getvalue()).margins is None


def test_ctrl_c_leaves_nothing(terminal, backend):
    @rt.function_node
    async def interrupt() -> None:
        await until_shown(terminal, "interrupt()")
        raise KeyboardInterrupt

    async def main():
        async with session(logging_setting="NONE"):
            await rt.call(interrupt)

    with pytest.raises(KeyboardInterrupt):
        anyio.run(main, backend=backend)
    [line] = terminal.lines
    assert line.startswith("RT progress: session ")


@every_form
def test_ctrl_c_does_not_leave_the_thread(form, backend, monkeypatch):
    may_end = threading.Event()

    def run(self: Any, region: Any, must_advise: bool, must_end: threading.Event) -> None:
        assert may_end.wait(PATIENCE)  # it takes long to end

    join = threading.Thread.join
    interrupted: list[threading.Thread] = []

    def join_again(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name == "railtracks-progress":
            if not interrupted:
                interrupted.append(thread)
                raise KeyboardInterrupt
            may_end.set()
        join(thread, timeout)

    monkeypatch.setattr("sys.stderr", Stream(is_terminal=False))
    monkeypatch.setattr(_display.Display, "_run", run)
    monkeypatch.setattr(threading.Thread, "join", join_again)
    with pytest.raises(KeyboardInterrupt):
        enter_and_leave(form, backend)
    assert not interrupted[0].is_alive()


def test_synchronous_code_is_shown_too(terminal, backend):
    STREAMS["terminal"] = terminal
    with session(backend=backend, name="sync"):
        rt.call_sync(wait_for, "terminal", "wait_for(")
        assert len(progress_threads()) == 1
    [line] = terminal.lines
    assert re.fullmatch(r"RT progress: session sync  Completed  .*  1 call", line)


def test_a_session_in_a_worker_thread_is_shown(terminal, backend):
    STREAMS["terminal"] = terminal

    def work() -> None:
        with session(name="inner"):
            rt.call_sync(wait_for, "terminal", "wait_for(")

    anyio.run(anyio.to_thread.run_sync, work, backend=backend)
    assert terminal.lines[0].startswith("RT progress: session inner  Completed")


def test_a_stopped_terminal_does_not_hold_up_entering(terminal, backend, monkeypatch):
    may_write, is_writing = threading.Event(), threading.Event()
    write = terminal.write

    def write_when_it_goes_on(text: str) -> int:
        is_writing.set()
        assert may_write.wait(PATIENCE)
        return write(text)

    async def main():
        async with session(name="first"):
            await anyio.to_thread.run_sync(is_writing.wait)  # its picture
            with session(name="second"):
                may_write.set()

    monkeypatch.setattr(terminal, "write", write_when_it_goes_on)
    anyio.run(main, backend=backend)
    assert "RT progress: session first" in terminal.lines[-1]  # otherwise the thread has given up


def test_an_open_session_does_not_keep_the_process(tmp_path):
    code = """
import sys
sys.stderr.isatty = lambda: True
import railtracks as rt
session = rt.Session(progress=True, save_state=False, name="left open")
session.__enter__()
print("done")
sys.exit(3)
"""
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60, env=environment
    )
    assert (done.returncode, done.stdout) == (3, "done\n")
    assert "Fatal" not in done.stderr


NEVER_LEFT = """
import gc, sys, threading, weakref
import anyio
import railtracks as rt
from railtracks._progress import _display

backend, kind = sys.argv[1:]
sys.stderr.isatty = lambda: kind == "terminal"
_display.PLAIN = 0.01
has_written = threading.Event()
write = sys.stderr.write

def note(text):
    has_written.set()
    return write(text)

sys.stderr.write = note

@rt.function_node
async def keep(session):
    await anyio.to_thread.run_sync(has_written.wait)

async def enter(links):
    session = rt.Session(progress=True, save_state=False, logging_setting="NONE")
    session.__enter__()
    await rt.call(keep, session)
    links.append(weakref.ref(session))

async def main():
    links = []
    async with anyio.create_task_group() as group:
        group.start_soon(enter, links)
    threads = [thread for thread in threading.enumerate() if thread.name == "railtracks-progress"]
    while any(link() is not None for link in links) or any(thread.is_alive() for thread in threads):
        gc.collect()
        await anyio.sleep(0.01)
    print("freed")
    with rt.Session(name="next", progress=True, save_state=False):
        pass

anyio.run(main, backend=backend)
"""


@pytest.mark.parametrize("kind", ["terminal", "file"])
def test_a_session_that_is_never_left_is_freed(kind, backend):
    environment = {**os.environ, "TERM": "xterm", "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", NEVER_LEFT, backend, kind]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20, env=environment)
    assert done.stdout == "freed\n"
    assert "RT progress: session next  Completed" in done.stderr


# ---- several


def test_sessions_share_one_display(terminal, backend):
    async def one(name: str) -> None:
        async with session(name=name):
            await until_shown(terminal, "session first")
            await until_shown(terminal, "session second")
            assert len(progress_threads()) == 1

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(one, "first")
            group.start_soon(one, "second")

    anyio.run(main, backend=backend)
    assert sorted(line.split("  ")[0] for line in terminal.lines) == [
        "RT progress: session first",
        "RT progress: session second",
    ]


def test_a_session_within_one_that_is_shown_leaves_no_line(terminal, backend):
    @rt.function_node
    async def outer() -> None:
        async with session(name="inner"):
            await until_shown(terminal, "session inner")

    async def main():
        async with session(name="outer"):
            await rt.call(outer)

    anyio.run(main, backend=backend)
    [line] = terminal.lines
    assert line.startswith("RT progress: session outer")


# ---- what is not shown


async def test_nothing_is_shown_in_virtual_time(terminal):
    async with session():
        await anyio.sleep(1000)
        assert not progress_threads()
    assert not terminal.getvalue()


def test_calls_outside_of_sessions_are_not_shown(terminal, monkeypatch, backend):
    monkeypatch.setenv("RAILTRACKS_PROGRESS", "1")
    monkeypatch.setenv("RAILTRACKS_SAVE_STATE", "0")

    async def main():
        assert await rt.call_batch(fail, []) == []

    anyio.run(main, backend=backend)
    assert not terminal.getvalue()


def test_nothing_is_loaded_without_it():
    code = (
        "import sys, anyio, railtracks as rt\n"
        "async def one(x): return x\n"
        "async def main():\n"
        "    async with rt.Session(save_state=False): await rt.call_batch(one, [1, 2], progress='x')\n"
        "anyio.run(main)\n"
        "print([name for name in sys.modules if name in ('rich', 'railtracks._progress._display')])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"


# ---- what goes wrong

CANNOT_BE_SHOWN = "the progress of sessions cannot be shown: {}; the sessions go on. progress=False turns it off"


@pytest.fixture
def logged() -> Iterator[list[str]]:
    records: list[str] = []
    handler: Any = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logging.getLogger("RT").addHandler(handler)
    yield records
    logging.getLogger("RT").removeHandler(handler)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_that_is_gone_is_reported_once(is_terminal, monkeypatch, logged, backend):
    class Gone(Stream):
        is_gone = threading.Event()

        def write(self, text: str) -> int:
            self.is_gone.set()
            raise BrokenPipeError("gone")

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Gone(is_terminal))
    monkeypatch.setattr(_display, "PLAIN", 0.01)
    Gone.is_gone.clear()

    async def main():
        async with session(logging_setting="QUIET"):
            await anyio.to_thread.run_sync(Gone.is_gone.wait)

    anyio.run(main, backend=backend)
    assert logged == [CANNOT_BE_SHOWN.format("BrokenPipeError('gone')")]
    assert_nothing_is_left()


class Refusing(Stream):
    """Standard error that raises when it is asked whether it is a terminal."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def isatty(self) -> bool:
        raise self._error


@every_form
def test_a_session_that_cannot_be_shown_goes_on(form, backend, monkeypatch, logged):
    monkeypatch.setattr("sys.stderr", Refusing(RuntimeError("odd")))
    enter_and_leave(form, backend)
    assert logged == [CANNOT_BE_SHOWN.format("RuntimeError('odd')")]


@every_form
def test_a_terminal_that_is_gone_gets_lines(form, backend, monkeypatch, logged):
    monkeypatch.setattr("sys.stderr", stream := Refusing(OSError("gone")))
    enter_and_leave(form, backend)
    assert logged == []
    assert stream.getvalue().startswith("RT progress: session ")


@every_form
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_leaves_no_session_open(form, error, backend, monkeypatch, logged):
    monkeypatch.setattr("sys.stderr", stream := Refusing(error()))
    with pytest.raises(error):
        enter_and_leave(form, backend)
    assert logged == []
    assert stream.getvalue() == ""


def test_a_session_whose_nursery_does_not_open_leaves_no_line(terminal, backend, monkeypatch):
    async def refuse(self: SessionNursery) -> None:
        raise LookupError("no task group")

    monkeypatch.setattr(SessionNursery, "open", refuse)
    with pytest.raises(LookupError):
        enter_and_leave("async with", backend)
    assert not terminal.lines


@every_form
def test_what_a_stream_raises_at_the_end_is_logged(form, backend, monkeypatch, logged):
    class Odd(Stream):
        def write(self, text: str) -> int:
            raise RuntimeError("odd")

    monkeypatch.setattr("sys.stderr", Odd(is_terminal=False))
    enter_and_leave(form, backend)
    assert logged == [CANNOT_BE_SHOWN.format("RuntimeError('odd')")]


def test_a_batch_goes_on_if_the_terminal_is_gone(backend, monkeypatch):
    async def main() -> None:
        async with rt.Session(save_state=False, logging_setting="NONE"):
            assert await rt.call_batch(double, [1, 2], progress="doubling") == [2, 4]

    @rt.function_node
    async def double(number: int) -> int:
        return 2 * number

    monkeypatch.setattr("sys.stderr", Refusing(OSError("gone")))
    anyio.run(main, backend=backend)


def test_without_a_thread_nothing_is_shown(terminal, monkeypatch, logged, backend):
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main():
        async with session(logging_setting="QUIET"):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        anyio.run(main, backend=backend)
    assert logged == [CANNOT_BE_SHOWN.format('RuntimeError("can\'t start new thread")')]
    assert not terminal.getvalue()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_shows_nothing(terminal):
    with session(name="parent"):
        terminal.wait_for("session parent")
        child = os.fork()
        if not child:
            is_quiet = display._region is None and not display._views and not progress_threads()
            os._exit(0 if is_quiet else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_asyncio_run_can_be_used_again(terminal):
    async def main():
        async with session(name="again"):
            await until_shown(terminal, "session again")

    asyncio.run(main())
    asyncio.run(main())
    assert len(terminal.lines) == 2
