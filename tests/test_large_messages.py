"""Exceptions with very long messages: they are cut before they are searched for secrets, on record and in the log."""

import logging
import re
import time
from pathlib import Path

import pytest

import railtracks as rt
from railtracks._tracebacks import MAX_MESSAGE, format_traceback
from railtracks.state import Form
from railtracks.state._redaction._redactor import Redactor
from railtracks.state._serialization._plain_data import MAX_SHOWN
from railtracks.state._serialization._record_text import failure_text, form_in, parse_members

LENGTH = 10_000_000
MESSAGES = {
    "one word": "a" * LENGTH,
    "prose": "the quick brown fox " * (LENGTH // 20),
    "lines": "a line of it\n" * (LENGTH // 13),
    "a repr": "{" + "'k': 'v', " * (LENGTH // 10) + "}",
}


class WithBody(Exception):
    """Has its message twice, as errors of HTTP clients do."""

    def __init__(self, text):
        super().__init__(text)
        self.body = text


@pytest.mark.parametrize("cls", [ValueError, WithBody])
@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
async def test_a_message_of_10_mb_holds_the_loop_for_less_than_50_ms(message, cls, backend, caplog):
    spent = []

    async def leaf():
        raise cls(message)

    async def agent():
        await rt.call(leaf)

    async with rt.Session(logging_setting="VERBOSE", log_file="x.log"):
        for _ in range(3):  # the first one compiles expressions; the shortest time is that of a machine left alone
            before = time.thread_time()
            with pytest.raises(cls):
                await rt.call(agent)
            spent.append(time.thread_time() - before)
    assert min(spent) < 0.05
    assert max(map(len, Path("x.log").read_text().splitlines())) < 2_000


def test_the_text_of_a_traceback_with_long_messages_is_short():
    with pytest.raises(ExceptionGroup) as caught:
        try:
            raise KeyError("lines\n" * LENGTH)
        except KeyError as exc:
            raise ExceptionGroup("two", [ValueError("a" * LENGTH), ValueError("b")]) from exc
    text = format_traceback(caught.value, lambda message: f"{message[:10]} (cut)")
    assert len(text) < 10 * MAX_MESSAGE
    assert len(re.findall(r"(?m)(KeyError: 'lines\\nli|ValueError: a{10}) \(cut\)$", text)) == 2
    assert "ValueError: b" in text


@pytest.mark.parametrize("length", [MAX_SHOWN, MAX_SHOWN + 1])
def test_an_exception_is_recorded_whole_up_to_the_limit(length):
    text = failure_text(ValueError("x" * length), Redactor())
    assert form_in(text) is (Form.TYPED if length == MAX_SHOWN else Form.CUT)
    message = parse_members(text)["output"]["$message"]
    assert len(message) == MAX_SHOWN
    assert message.endswith("x" if length == MAX_SHOWN else f"... [{length} characters in all]")


@pytest.mark.parametrize("before", range(MAX_MESSAGE - 40, MAX_MESSAGE + 1, 4))
def test_a_secret_where_a_message_is_cut_is_masked_as_a_whole(before):
    secret = "correct horse battery"
    redactor = Redactor()
    redactor.add(secret)
    message = "." * before + secret + "." * MAX_SHOWN
    with pytest.raises(ValueError) as caught:
        raise ValueError(message)
    traceback = parse_members(failure_text(caught.value, redactor))["output"]["$traceback"]
    assert not any(part in traceback for part in ("corr", "horse", "batt"))


async def test_an_exception_that_is_too_large_is_warned_of(caplog):
    def fail():
        raise ValueError("x" * (MAX_SHOWN + 1))

    async with rt.Session(logging_setting="QUIET"):
        with pytest.raises(ValueError):
            await rt.call(fail)
    (warning,) = [each.getMessage() for each in caplog.records if "Not all on record" in each.getMessage()]
    assert "an exception with up to 100,000 characters of text" in warning


async def test_a_secret_beyond_the_cut_is_not_in_the_log_record(caplog):
    """A handler that formats the exception itself would show it."""

    def payload_callback(_):
        raise RuntimeError("." * 2 * MAX_SHOWN + "correct horse battery")

    context = {"token": rt.Secret("correct horse battery")}
    async with rt.Session(context=context, payload_callback=payload_callback, logging_setting="QUIET"):
        pass
    (record,) = [each for each in caplog.records if "payload_callback" in each.getMessage()]
    assert record.exc_info is None
    assert "horse" not in logging.Formatter().format(record)
