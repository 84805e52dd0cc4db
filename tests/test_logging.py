"""Log records: their form, who filters them, and where they go."""

import contextlib
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import ConfigError
from tests import virtual

RT = logging.getLogger("RT")


async def leaf():
    pass


async def failing():
    raise ValueError("boom")


async def agent():
    await rt.call(leaf)
    with contextlib.suppress(ValueError):
        await rt.call(failing)


@contextlib.contextmanager
def no_handlers():
    """As in an application that has configured nothing; pytest's own handlers come back after it."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        yield
    finally:
        root.handlers = handlers


@pytest.fixture
def own_levels():
    """What a test sets on the RT loggers is taken back."""
    session = logging.getLogger("RT.Session")
    before = RT.level, session.level, RT.handlers[:]
    yield
    RT.setLevel(before[0])
    session.setLevel(before[1])
    RT.handlers[:] = before[2]


def is_summary(text):
    return text.startswith("END ")


def messages(caplog):
    """Return what was logged, but for the summaries at the ends of sessions."""
    texts = [record.getMessage() for record in caplog.records]
    return [text for text in texts if not is_summary(text)]


END = "END 3 calls, 1 failed, 0.000 s; state not saved (save_state=False)"
FAILED = f"failing FAILED ValueError: boom, line {failing.__code__.co_firstlineno + 1} of test_logging.py"
REGULAR = ["START CREATED agent", FAILED, END]
QUIET = [FAILED]
VERBOSE = ["START CREATED agent()", "agent CREATED leaf()", "leaf DONE", "agent CREATED failing()",
           FAILED, "agent DONE", END]  # fmt: skip


# ---- the line


async def test_the_line_on_the_console_is_that_of_the_design(capsys):
    with no_handlers():
        async with rt.Session(logging_setting="REGULAR", run_identifier="mine"):
            await anyio.sleep(3.525)
            await rt.call(agent)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "[+3.525  s] RT          : INFO     - START CREATED agent"
    summary = f"END 3 calls, 1 failed, 3.525 s; state in {Path('.railtracks/mine.json')}"
    summary += "; see why: railtracks show mine --failed"
    assert last == f"[+3.525  s] RT.Session  : INFO     - {summary}"


@pytest.mark.parametrize(("setting", "expected"), [("VERBOSE", VERBOSE), ("REGULAR", REGULAR), ("QUIET", QUIET)])
async def test_lines_say_what_happened_in_order(setting, expected, capsys):
    with no_handlers():
        async with rt.Session(logging_setting=setting, save_state=False):
            await rt.call(agent)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.partition(" - ")[2] for line in lines] == expected
    form = re.compile(r"\[\+0\.000  s\] RT(\.Session|        )  : (DEBUG  |INFO   |WARNING)  - ")
    assert all(form.match(line) for line in lines)


async def test_overwriting_warning_is_printed_word_for_word(capsys):
    with no_handlers():
        for _ in range(2):
            async with rt.Session(logging_setting="QUIET", run_identifier="my-unique-run"):
                pass
    expected = "RT.Session  : WARNING  - File .railtracks/my-unique-run.json already exists, overwriting...\n"
    assert capsys.readouterr().err.partition("] ")[2] == expected


async def test_a_long_session_keeps_the_form_of_its_line(capsys):
    with no_handlers():
        async with rt.Session(logging_setting="INFO", timeout=float("inf"), save_state=False):
            await anyio.sleep(123456.75)
            await rt.call(leaf)
    assert capsys.readouterr().err.startswith("[+123456.750s] RT          : INFO     - START CREATED leaf\n")


# ---- levels


@pytest.mark.parametrize(
    ("setting", "lowest"),
    [
        ("VERBOSE", "DEBUG"), ("REGULAR", "INFO"), ("QUIET", "WARNING"), ("NONE", None), ("DEBUG", "DEBUG"),
        ("INFO", "INFO"), ("WARNING", "WARNING"), ("ERROR", "ERROR"), ("CRITICAL", "CRITICAL"), ("quiet", "WARNING"),
    ],
)  # fmt: skip
async def test_a_setting_lets_through_its_level_and_those_above(setting, lowest, caplog):
    levels = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
    async with rt.Session(logging_setting=setting, save_state=False) as session:
        for level in levels:
            session._log.log(getattr(logging, level), level)
        logged = messages(caplog)
    assert logged == ([] if lowest is None else levels[levels.index(lowest) :])


async def test_level_of_the_root_logger_does_not_hide_our_records(caplog):
    """The level of the root logger does not hide what the session asked for."""
    caplog.set_level(logging.ERROR)
    caplog.handler.setLevel(logging.NOTSET)
    async with rt.Session(logging_setting="VERBOSE", save_state=False):
        await rt.call(leaf)
    assert messages(caplog) == ["START CREATED leaf()", "leaf DONE"]


async def test_the_application_can_silence_the_loggers(caplog, own_levels):
    logging.getLogger("RT.Session").setLevel(logging.ERROR)
    async with rt.Session(logging_setting="VERBOSE"):
        await rt.call(leaf)
    assert [record.getMessage() for record in caplog.records] == ["START CREATED leaf()", "leaf DONE"]
    caplog.clear()
    RT.setLevel(logging.WARNING)
    async with rt.Session(logging_setting="REGULAR"):
        await rt.call(leaf)
    assert messages(caplog) == []


# ---- each session its own


async def test_concurrent_sessions_have_their_own_level_and_file(caplog):
    async def one(name, setting):
        async with rt.Session(name=name, logging_setting=setting, log_file=f"{name}.log", save_state=False):
            await anyio.sleep(1)
            await rt.call(agent)
            await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        for name, setting in (("a", "REGULAR"), ("b", "QUIET"), ("c", "NONE"), ("d", "VERBOSE")):
            group.start_soon(one, name, setting)
    lines = {name: Path(f"{name}.log").read_text().splitlines() for name in "abcd"}
    shown = {name: [line.partition(" - ")[2].replace("2.000", "0.000") for line in lines[name]] for name in lines}
    assert shown == {"a": REGULAR, "b": QUIET, "c": [], "d": VERBOSE}
    assert {record.session_id for record in caplog.records} == {"a", "b", "d"}


def test_sessions_in_threads_have_their_own_level_and_file():
    def one(name, setting):
        async def main():
            async with rt.Session(name=name, logging_setting=setting, log_file=f"{name}.log", save_state=False):
                meet.wait()
                await rt.call(agent)
                meet.wait()

        anyio.run(main)

    meet = threading.Barrier(2)
    threads = [threading.Thread(target=one, args=arguments) for arguments in (("a", "REGULAR"), ("b", "QUIET"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    *lines, end = [line.partition(" - ")[2] for line in Path("a.log").read_text().splitlines()]
    assert lines == REGULAR[:-1]
    assert is_summary(end)
    assert [line.partition(" - ")[2] for line in Path("b.log").read_text().splitlines()] == QUIET


async def test_inner_session_writes_to_a_log_file_of_its_own():
    """An inner session writes to its own file, and the outer one goes on with its own afterwards."""
    async with rt.Session(logging_setting="INFO", log_file="outer.log", save_state=False):
        async with rt.Session(logging_setting="INFO", log_file="inner.log", save_state=False):
            await rt.call(failing_not)
        await rt.call(leaf)
    assert [Path(name).read_text().count("CREATED") for name in ("outer.log", "inner.log")] == [1, 1]
    assert "failing_not" in Path("inner.log").read_text()


async def failing_not():
    pass


async def test_what_a_worker_thread_calls_is_logged_in_its_session():
    def in_thread():
        rt.call_sync(leaf)

    async with rt.Session(logging_setting="DEBUG", log_file="own.log", save_state=False):
        await rt.call(in_thread)
    assert [line.partition(" - ")[2] for line in Path("own.log").read_text().splitlines()][:-1] == [
        "START CREATED in_thread()", "in_thread CREATED leaf()", "leaf DONE", "in_thread DONE",
    ]  # fmt: skip


# ---- where they go


async def test_with_handlers_of_the_application_nothing_is_printed(capsys, caplog):
    async with rt.Session(logging_setting="REGULAR", save_state=False):
        await rt.call(agent)
    assert [record.getMessage() for record in caplog.records] == REGULAR
    assert capsys.readouterr().err == ""


async def test_a_handler_on_our_logger_counts_as_the_applications(capsys, own_levels):
    seen = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[assignment, method-assign]
    logging.getLogger("RT.Session").addHandler(handler)
    try:
        with no_handlers():
            async with rt.Session(logging_setting="REGULAR"):
                await rt.call(leaf)
    finally:
        logging.getLogger("RT.Session").removeHandler(handler)
    assert [record.name for record in seen] == ["RT.Session"]
    assert "RT.Session" not in (printed := capsys.readouterr().err)
    assert "START CREATED leaf" in printed


async def test_a_session_leaves_the_logging_tree_as_it_was():
    def tree():
        names = [name for name in logging.root.manager.loggerDict if name.startswith("RT")]
        loggers = [logging.getLogger(name) for name in ["root", *names]]
        return [(log.name, log.level, log.handlers[:], log.filters[:], log.propagate, log.disabled) for log in loggers]

    before = tree()
    async with rt.Session(logging_setting="VERBOSE", log_file="x.log"):
        await rt.call(leaf)
        assert tree() == before
    assert tree() == before


async def test_each_record_carries_the_ids_of_session_run_and_node(caplog):
    async with rt.Session(logging_setting="VERBOSE", run_identifier="s"):
        await rt.call(leaf)
        await rt.call(agent)
    ids = [(r.getMessage(), r.session_id, r.run_id, r.node_id) for r in caplog.records if r.name == "RT"]
    assert ids == [
        ("START CREATED leaf()", "s", "s-r0", "s-n0"),
        ("leaf DONE", "s", "s-r0", "s-n0"),
        ("START CREATED agent()", "s", "s-r1", "s-n1"),
        ("agent CREATED leaf()", "s", "s-r1", "s-n2"),
        ("leaf DONE", "s", "s-r1", "s-n2"),
        ("agent CREATED failing()", "s", "s-r1", "s-n3"),
        (FAILED, "s", "s-r1", "s-n3"),
        ("agent DONE", "s", "s-r1", "s-n1"),
    ]
    others = [record for record in caplog.records if record.name == "RT.Session"]
    assert [(each.session_id, each.run_id, each.node_id) for each in others] == [("s", None, None)] * 2


async def test_a_log_file_is_appended_to_and_its_folder_is_made():
    for _ in range(2):
        async with rt.Session(logging_setting="INFO", log_file=Path("deep/er/x.log"), save_state=False):
            await rt.call(leaf)
    assert Path("deep/er/x.log").read_text(encoding="utf-8").count("START CREATED leaf\n") == 2


async def test_a_log_file_gets_the_record_of_saving_too():
    async with rt.Session(logging_setting="DEBUG", log_file="x.log", run_identifier="mine"):
        pass
    assert "Saving execution info to" in Path("x.log").read_text()


@pytest.mark.parametrize("sync", [False, True], ids=["async with", "with"])
@pytest.mark.parametrize("log_file", [".", "file/x.log", "x" * 300], ids=["folder", "in-a-file", "long"])
async def test_log_file_that_cannot_be_opened_leaves_no_session_open(log_file, sync):
    """A log file that cannot be opened is named, and no session is left open."""
    Path("file").write_text("")
    session = rt.Session(log_file=log_file)
    with pytest.raises(ConfigError, match=r"log_file: .*cannot be opened") as caught:
        if sync:
            session.__enter__()
        else:
            await session.__aenter__()
    assert repr(log_file) in str(caught.value)
    assert rt.session_id() is None


# ---- without a session


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout, done.stderr


ROOT = Path(__file__).parent.parent


def test_importing_configures_nothing():
    code = """
import logging, sys
before = logging.root.level, logging.root.handlers[:], sys.excepthook
import railtracks
railtracks.Session, railtracks.Flow, railtracks.call  # loads the rest
assert (logging.root.level, logging.root.handlers[:], sys.excepthook) == before
loggers = [log for name, log in logging.root.manager.loggerDict.items() if name.startswith("RT")]
assert loggers
assert all(log.level == 0 and not log.handlers and not log.filters and log.propagate for log in loggers)
"""
    assert run_python(code) == ("", "")


def test_enable_logging_prints_each_record_once():
    """With enable_logging, own records and those of sessions are printed once."""
    code = """
import logging, railtracks as rt
rt.enable_logging()
rt.enable_logging("INFO")
logging.getLogger("RT.Mine").info("hello")
logging.getLogger("RT.Mine").debug("not this")
logging.getLogger("other").info("nor this")
with rt.Session(logging_setting="INFO", save_state=False):
    rt.call_sync(len, "x")
"""
    out, err = run_python(code)
    lines = err.splitlines()
    assert out == ""
    assert [re.sub(r"\d\.\d{3} s;", "0.000 s;", line.partition("] ")[2]) for line in lines] == [
        "RT.Mine     : INFO     - hello",
        "RT          : INFO     - START CREATED len",
        "RT.Session  : INFO     - END 1 call, 0 failed, 0.000 s; state not saved (save_state=False)",
    ]
    assert all(re.match(r"\[\+\d+\.\d{3} *s\] ", line) for line in lines)


@pytest.mark.parametrize("level", ["LOUD", 10, None])
def test_enable_logging_refuses_what_is_not_a_level(level, own_levels):
    before = RT.level, RT.handlers[:]
    with pytest.raises(ConfigError, match=f"{level!r} is not a level; use one of VERBOSE, REGULAR"):
        rt.enable_logging(level)
    assert (RT.level, RT.handlers) == before


def test_a_plain_with_session_prints_like_an_async_one(capsys):
    with no_handlers(), rt.Session(logging_setting="REGULAR", save_state=False):
        rt.call_sync(agent)
    *lines, end = [line.partition(" - ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == REGULAR[:-1]
    assert is_summary(end)


def test_nothing_is_logged_for_a_session_that_is_set_to_none(backend, capsys):
    async def main():
        for _ in range(2):
            async with rt.Session(logging_setting="NONE", run_identifier="same"):
                await rt.call(agent)

    with no_handlers():
        virtual.run(backend, main)
    assert capsys.readouterr().err == ""
