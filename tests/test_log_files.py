"""Log files and consoles that cannot be written: calls and sessions end as they do without them."""

import io
import logging
import logging.config
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import railtracks as rt
from tests.test_log_handlers import RT, StrayError, failures, work
from tests.test_logging import is_summary, messages, no_handlers

# ---- the log file


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("form", ["async with", "with", "flow"])
async def test_full_disk_under_the_log_file_is_logged_once(form, raises, backend, capsys, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", raises)
    options: Any = {"logging_setting": "VERBOSE", "log_file": "/dev/full", "save_state": False}
    with no_handlers():
        if form == "async with":
            async with rt.Session(**options):
                assert await rt.call(len, "abc") == 3
        elif form == "with":
            with rt.Session(**options):
                assert await rt.call(len, "abc") == 3
        else:
            assert await rt.Flow("F", len, **options).ainvoke("abc") == 3
    lines = [line.partition(" - ")[2] for line in capsys.readouterr().err.splitlines()]
    assert len(failures(lines)) == 1
    assert failures(lines)[0].startswith("writing the log file '/dev/full' raised OSError(28, ")
    *others, end = [line for line in lines if line not in failures(lines)]
    assert others == ['START CREATED len("abc")', "len DONE"]
    assert is_summary(end)
    assert rt.session_id() is None


class Disk(io.TextIOWrapper):
    """The stream of a log file, on a disk that is full for a while."""

    is_full = False

    def flush(self):
        if self.is_full:
            raise OSError(28, "No space left on device")
        super().flush()


def on_a_disk(session):
    file = session._log._file
    file.stream.close()
    file.stream = Disk(open("x.log", "ab"), encoding="utf-8")  # noqa: SIM115 - the handler closes it
    return file.stream


async def test_log_file_goes_on_when_there_is_space_again(caplog):
    async with rt.Session(logging_setting="VERBOSE", log_file="x.log", save_state=False) as session:
        disk = on_a_disk(session)
        for full in (False, True, False):
            disk.is_full = full
            await rt.call(work, 1)
    assert Path("x.log").read_text().count("work DONE\n") == 3
    assert len(failures(messages(caplog))) == 1


async def test_log_file_that_cannot_be_closed_is_logged(caplog):
    async with rt.Session(logging_setting="VERBOSE", log_file="x.log", run_identifier="mine") as session:
        disk = on_a_disk(session)
        await rt.call(work, 1)
        session._log._file.emit = lambda record: None  # type: ignore[method-assign]  # the disk becomes full after the last log record
        disk.is_full = True
    assert len(failures(messages(caplog))) == 1
    assert rt.session_id() is None
    assert disk.closed


async def test_log_file_that_was_deleted_is_not_missed(caplog):
    async with rt.Session(logging_setting="VERBOSE", log_file="x.log", save_state=False):
        os.unlink("x.log")
        assert await rt.call(work, 1) == 2
    assert failures(messages(caplog)) == []


async def test_lone_surrogate_in_a_name_is_written_to_the_log_file(monkeypatch):
    caught = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", caught.append)
    monkeypatch.setattr(RT, "handlers", [handler])
    monkeypatch.setattr(RT, "propagate", False)  # pytest-xdist cannot send what pytest captures of it
    node = rt.function_node(work, name="a\udc80b")
    async with rt.Session(logging_setting="VERBOSE", log_file="x.log", save_state=False):
        assert await rt.call(node, 1) == 2
    assert r"a\udc80b DONE" in Path("x.log").read_text()
    assert [record for record in caught if record.levelno >= logging.WARNING] == []


async def test_log_file_survives_that_logging_is_configured_again(caplog):
    async with rt.Session(logging_setting="VERBOSE", log_file="x.log", save_state=False):
        before = logging.root.handlers[:], logging._handlers.copy(), logging._handlerList[:]  # type: ignore[attr-defined]
        try:
            logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})
        finally:
            logging.root.handlers[:] = before[0]
            logging._handlers.update(before[1])  # type: ignore[attr-defined]
            logging._handlerList[:] = before[2]  # type: ignore[attr-defined]
        await rt.call(work, 1)
    assert Path("x.log").read_text().count("work DONE\n") == 1


async def test_log_file_stays_closed_after_the_session():
    """An abandoned thread that logs late does not open it again."""
    async with rt.Session(logging_setting="VERBOSE", log_file="x.log", save_state=False) as session:
        file = session._log._file
    file.handle(RT.makeRecord("RT", logging.INFO, "", 0, "late", (), None))
    assert file.stream is None
    assert "late" not in Path("x.log").read_text()


# ---- the console


class Stream(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error


def closed_stream():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "None": lambda: None,
    "closed": closed_stream,
    "a broken pipe": lambda: Stream(BrokenPipeError()),
    "an encoding": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
    "anything": lambda: Stream(StrayError()),
}


@pytest.mark.parametrize("raises", [True, False])
@pytest.mark.parametrize("name", STREAMS)
async def test_console_that_cannot_be_written_harms_nothing(name, raises, monkeypatch):
    node = rt.function_node(work, name="wörk")
    original = io.StringIO()
    with no_handlers(), monkeypatch.context() as patched:
        patched.setattr(logging, "raiseExceptions", raises)
        patched.setattr(sys, "stderr", STREAMS[name]())
        patched.setattr(sys, "__stderr__", original)
        for log_file in (None, "x.log"):
            async with rt.Session(logging_setting="VERBOSE", log_file=log_file, save_state=False):
                assert await rt.call(node, 1) == 2
    assert rt.session_id() is None
    printed, written = original.getvalue(), Path("x.log").read_text(encoding="utf-8")
    assert written.count("wörk DONE\n") == 1
    expected = 0 if name == "None" else 1
    assert len(failures(printed.splitlines())) == expected  # there is no other place in the first session
    assert len(failures(written.splitlines())) == expected
    assert "Traceback" not in printed


def test_enabled_console_that_cannot_be_written_harms_no_script():
    code = """
import logging, sys, railtracks as rt
rt.enable_logging()
out, sys.stderr = sys.stderr, open("/dev/null")
sys.stderr.close()
logging.getLogger("RT.Mine").warning("hello")
with rt.Session(save_state=False, logging_setting="VERBOSE"):
    print(rt.call_sync(len, "abc"))
sys.stderr = None
logging.getLogger("RT.Mine").warning("hello")
sys.stderr = out
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"
    assert "Traceback" not in done.stderr


def test_enabled_console_shows_mistakes_as_logging_does():
    code = """
import logging, railtracks as rt
rt.enable_logging()
logging.getLogger("RT.Mine").warning("%d", "text")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--- Logging error ---" in done.stderr
