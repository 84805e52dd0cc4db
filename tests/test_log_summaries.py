"""What a person reads: why a session failed or waited, what it came to, and where that is on record."""

import contextlib
import logging
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

import railtracks as rt
from railtracks.exceptions import GlobalTimeOutError
from railtracks.state import MemoryStore
from tests.test_logging import is_summary, no_handlers


@pytest.fixture(autouse=True)
def default_setting(monkeypatch):
    """The level that sessions have if nothing is set; other tests have another one."""
    monkeypatch.setenv("RAILTRACKS_LOGGING_SETTING", rt.ExecutorConfig().logging_setting)


async def leaf(number=0):
    if number < 0:
        raise ValueError("the reason")
    return number


LEAF_FAILED = (
    f"leaf(-1) FAILED ValueError: the reason, line {leaf.__code__.co_firstlineno + 2} of test_log_summaries.py"
)


async def stuck():
    await anyio.sleep(100)


async def slowly(seconds):
    await anyio.sleep(seconds)


async def slow():
    await rt.call(leaf)
    await rt.call(stuck)


async def every(*numbers):
    for number in numbers:
        try:
            await rt.call(leaf, number)
        except ValueError:
            continue


def summaries(caplog):
    return [record.getMessage() for record in caplog.records if is_summary(record.getMessage())]


# ---- the summary


async def test_a_summary_counts_calls_and_says_where_the_state_is(caplog):
    async with rt.Session(run_identifier="mine"):
        await rt.call(every, 1, -2, 3)
        await anyio.sleep(2)
    where = Path(".railtracks/mine.json")
    hint = "see why: railtracks show mine --failed"
    assert summaries(caplog) == [f"END 4 calls, 1 failed, 2.000 s; state in {where}; {hint}"]
    assert caplog.messages[-1] == summaries(caplog)[0]


def hints(caplog):
    return [re.search(r"; see why: (.*)$", text) for text in summaries(caplog)]


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({"timeout": 1}, "railtracks show mine --failed"),
        ({"timeout": 1, "store": "sqlite:my runs.db"}, "railtracks show mine --store 'sqlite:my runs.db' --failed"),
        ({"timeout": 1, "save_state": False}, None),
        ({"timeout": 1, "store": MemoryStore()}, None),
        ({}, None),
    ],
    ids=["file", "named store", "not saved", "store that is an object", "completed"],
)
async def test_a_summary_names_the_command_that_shows_why(options, command, caplog):
    async with rt.Session(run_identifier="mine", **options):
        with contextlib.suppress(GlobalTimeOutError):
            await rt.call(slowly, 2)
    [hint] = hints(caplog)
    assert (hint and hint[1]) == command


async def test_a_summary_has_no_command_without_a_failure(caplog):
    """A call that was cancelled below one that completed is none."""

    async def first_of_two():
        async with rt.call_stream(slowly, [1, 5], limit=2) as results:
            async for _ in results:
                break

    async with rt.Session(run_identifier="mine"):
        await rt.call(first_of_two)
    assert ", 1 cancelled" in summaries(caplog)[0]
    assert hints(caplog) == [None]


async def test_a_long_session_has_a_start_failures_and_a_summary(caplog):
    async with rt.Session(save_state=False):
        for _ in range(20):
            await rt.call(every, *range(20), -1)
    assert caplog.messages == [
        "START CREATED every",
        *([LEAF_FAILED] * 20),
        "END 440 calls, 20 failed, 0.000 s; state not saved (save_state=False)",
    ]


@pytest.mark.parametrize("keep_records", ["failures", "summary"])
async def test_a_summary_counts_calls_that_batches_leave_out(keep_records, caplog):
    async with rt.Session(save_state=False):
        await rt.call_batch(leaf, [1, 2, -1], keep_records=keep_records)
    counts = {"failures": "2 calls, 1 failed, 2 not on record", "summary": "1 call, 1 failed, 3 not on record"}
    assert summaries(caplog) == [f"END {counts[keep_records]}, 0.000 s; state not saved (save_state=False)"]


async def test_a_summary_counts_calls_that_were_cancelled(caplog):
    async with rt.Session(save_state=False):
        with anyio.move_on_after(1):
            await rt.call(slow)
    assert summaries(caplog) == ["END 3 calls, 0 failed, 2 cancelled, 1.000 s; state not saved (save_state=False)"]


async def test_a_summary_counts_calls_that_were_reused(caplog):
    store = MemoryStore()
    async with rt.Session(store=store, run_identifier="one"):
        await rt.call(every, 1, 2)
    async with rt.Session(store=store, resume="one"):
        await rt.call(every, 1, 2)
        await rt.call(leaf)
    assert summaries(caplog)[1] == "END 4 calls, 0 failed, 3 reused, 0.000 s; state in memory, as one"


async def test_a_resumed_run_without_a_call_is_unchanged(caplog):
    store = MemoryStore()
    for resume in (None, "one"):
        async with rt.Session(store=store, run_identifier="one", resume=resume):
            if resume is None:
                await rt.call(leaf)
    assert summaries(caplog)[1] == "END 0 calls, 0 failed, 0.000 s; state unchanged"


async def test_a_summary_says_that_the_run_waits_for_an_answer(caplog):
    async def asking():
        return await rt.ask("Go on?")

    with pytest.raises(rt.exceptions.RunSuspended):
        await rt.Flow("F", asking, store=MemoryStore(), run_identifier="one").ainvoke()
    assert "asking SUSPENDED" in caplog.messages
    assert re.search(r", 2 suspended, .* state in memory, as one", summaries(caplog)[0])


class Full(MemoryStore):
    """Has no room for documents."""

    def save(self, *args):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("durability", "where"), [("exit", "not saved"), ("async", "in its journal beside memory, as one")]
)
async def test_a_summary_says_that_the_state_was_not_saved(durability, where, caplog):
    async with rt.Session(store=Full(), run_identifier="one", durability=durability):
        await rt.call(leaf)
    assert summaries(caplog) == [f"END 1 call, 0 failed, 0.000 s; state {where}"]


@pytest.mark.parametrize("form", ["plain with", "async with", "flow"])
async def test_there_is_one_summary_in_each_form(form, backend, caplog):
    if form == "plain with":
        with rt.Session(save_state=False):
            await rt.call(leaf)
    elif form == "async with":
        async with rt.Session(save_state=False):
            await rt.call(leaf)
    else:
        await rt.Flow("F", leaf, save_state=False).ainvoke()
    assert summaries(caplog) == ["END 1 call, 0 failed, 0.000 s; state not saved (save_state=False)"]


def test_a_session_on_a_loop_of_its_own_has_a_summary_too(caplog):
    with rt.Session(save_state=False):
        rt.call_sync(leaf)
    assert len(summaries(caplog)) == 1


async def test_a_session_that_was_not_entered_has_no_summary(caplog):
    async with rt.Session(run_identifier="one"):
        with pytest.raises(rt.exceptions.RunInUseError):
            async with rt.Session(run_identifier="one"):
                pass
        assert summaries(caplog) == []


# ---- why


async def test_a_timeout_says_which_call_was_waiting_and_where(caplog):
    with pytest.raises(GlobalTimeOutError):
        await rt.Flow("F", slow, timeout=2.5, save_state=False).ainvoke()
    line = stuck.__code__.co_firstlineno + 1
    assert caplog.messages[1] == (
        f"slow CANCELLED (timeout): it took longer than 2.5 s, waiting in stuck, line {line} of test_log_summaries.py"
    )
    assert caplog.records[1].levelname == "WARNING"


@pytest.mark.parametrize("raises", [False, True])
async def test_a_timeout_that_the_flow_has_handled_is_in_the_log_too(raises, caplog):
    async def stubborn():
        try:
            await rt.call(stuck)
        except anyio.get_cancelled_exc_class():
            if raises:
                raise ValueError("something else") from None
            return 1

    with pytest.raises(GlobalTimeOutError):
        await rt.Flow("F", stubborn, timeout=2.5, save_state=False).ainvoke()
    line = stuck.__code__.co_firstlineno + 1
    (timeout,) = [record for record in caplog.records if "it took longer than" in record.getMessage()]
    assert (timeout.run_id, timeout.node_id) == (f"{timeout.session_id}-r0", f"{timeout.session_id}-n0")
    assert timeout.getMessage() == (
        "stubborn TIMED OUT, although its call ended by itself: it took longer than 2.5 s, waiting in stuck, "
        f"line {line} of test_log_summaries.py"
    )


async def test_a_timeout_of_user_code_says_where_it_was(caplog):
    async def hurried():
        with anyio.fail_after(1):
            await rt.call(stuck)

    with pytest.raises(TimeoutError):
        await rt.Flow("F", hurried, save_state=False).ainvoke()
    assert re.fullmatch(r"hurried FAILED TimeoutError, line \d+ of test_log_summaries.py", caplog.messages[1])


async def test_an_error_that_ends_the_session_is_a_cause(caplog):
    async def fail_later():
        await anyio.sleep(1)
        raise KeyError("k")

    with pytest.raises(KeyError):
        async with rt.Session(end_on_error=True, save_state=False) as session:
            session.start_soon(stuck)
            await rt.call(fail_later)
    line = fail_later.__code__.co_firstlineno + 2
    assert f"fail_later FAILED KeyError: 'k', line {line} of test_log_summaries.py" in caplog.messages
    assert "stuck CANCELLED (end_on_error): KeyError ended the session" in caplog.messages


# ---- the log file


async def test_a_line_of_a_log_file_has_the_date_and_the_identifier():
    async with rt.Session(log_file="x.log", run_identifier="mine", save_state=False):
        await rt.call(leaf)
    first, last = Path("x.log").read_text().splitlines()
    date = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}[+-]\d{4}"
    assert re.fullmatch(rf"{date} mine/n0 \[\+0\.000  s\] RT          : INFO     - START CREATED leaf", first)
    assert re.fullmatch(rf"{date} mine \[\+0\.000  s\] RT\.Session  : INFO     - END 1 call, .*", last)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such permissions")
async def test_a_log_file_that_is_made_is_for_its_owner_only():
    Path("before.log").touch(0o640)
    Path("before.log").chmod(0o640)
    for name in ("x.log", "before.log"):
        async with rt.Session(log_file=name, save_state=False):
            pass
    assert stat.S_IMODE(os.stat("x.log").st_mode) == 0o600
    assert stat.S_IMODE(os.stat("before.log").st_mode) == 0o640  # as someone has wanted it


# ---- what has to be seen


async def fail_to_save():
    async with rt.Session(store=Full(), run_identifier="one"):
        await rt.call(leaf)


@pytest.fixture
def silenced():
    """As ``logging.config`` leaves loggers that there were before, unless it is asked not to."""
    loggers = [logging.getLogger(name) for name in ("RT", "RT.Session", "RT.Publisher")]
    for logger in loggers:
        logger.disabled = True
    yield
    for logger in loggers:
        logger.disabled = False


async def test_a_failed_save_is_printed_if_the_loggers_are_disabled(silenced, capsys):
    await fail_to_save()
    (line,) = capsys.readouterr().err.splitlines()
    assert "RT.Session  : ERROR    - The execution info could not be saved to memory, as one: " in line


@pytest.mark.parametrize("handler", [logging.NullHandler(), logging.StreamHandler()], ids=["null", "critical"])
async def test_a_failed_save_is_printed_if_no_handler_shows_it(handler, capsys):
    handler.setLevel(logging.CRITICAL if isinstance(handler, logging.StreamHandler) else logging.NOTSET)
    with no_handlers():
        logging.root.addHandler(handler)
        await fail_to_save()
    (line,) = capsys.readouterr().err.splitlines()
    assert "The execution info could not be saved" in line


async def test_a_failed_save_is_not_printed_if_a_handler_shows_it(capsys, caplog):
    await fail_to_save()
    assert capsys.readouterr().err == ""
    assert any("could not be saved" in text for text in caplog.messages)


async def test_a_failed_save_is_not_printed_if_nothing_is_to_be(silenced, capsys):
    async with rt.Session(store=Full(), run_identifier="one", logging_setting="NONE"):
        await rt.call(leaf)
    assert capsys.readouterr().err == ""


def test_a_failed_save_is_printed_once_after_dict_config():
    code = """
import logging.config, railtracks as rt
logging.config.dictConfig({
    "version": 1,
    "handlers": {"c": {"class": "logging.StreamHandler"}},
    "root": {"level": "INFO", "handlers": ["c"]},
})
print(rt.Flow("f", lambda: 1).invoke())
"""
    environment = {**os.environ, "RAILTRACKS_HOME": os.path.join(os.devnull, "x")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "1\n"
    assert done.stderr.count("The execution info could not be saved") == 1


async def test_standard_output_stays_the_users(capsys):
    with no_handlers():
        async with rt.Session(logging_setting="VERBOSE"):
            await rt.call(every, 1, -1)
    out, err = capsys.readouterr()
    assert out == ""
    assert LEAF_FAILED in err
