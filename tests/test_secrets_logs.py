"""Log records in the hands of applications show no secret."""

import logging
from pathlib import Path

import pytest

import railtracks as rt
from tests.watched import SECRET, login


class Collecting(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def collected():
    handler = Collecting()
    logging.getLogger("RT").addHandler(handler)
    yield handler.records
    logging.getLogger("RT").removeHandler(handler)


async def fail_in_a_callback():
    def payload_callback(_):
        try:
            raise KeyError(SECRET)
        except KeyError as exc:
            raise RuntimeError(f"no {SECRET}") from exc

    async with rt.Session(payload_callback=payload_callback, log_file="log.txt"):
        await rt.call(login, SECRET)


async def test_a_log_record_is_masked_for_whatever_handler_gets_it(collected):
    await fail_in_a_callback()
    (record,) = (record for record in collected if record.exc_text)
    assert "RuntimeError" in record.exc_text
    for text in (record.exc_text, record.getMessage(), repr(record.msg), repr(record.args)):
        assert SECRET not in text
    for formatter in (
        logging.Formatter(),
        logging.Formatter("%(message)s %(exc_text)s"),
        logging.Formatter("{msg}", style="{"),
    ):
        assert SECRET not in formatter.format(record)
    assert SECRET not in Path("log.txt").read_text()


async def test_handler_that_formats_the_exception_shows_no_secret(collected):
    """A handler that formats the exception by itself does not show the secret.

    As those for JSON and for error trackers do: they look at ``exc_info``, not at ``exc_text``.
    """
    await fail_in_a_callback()
    for record in collected:
        assert not record.exc_info or SECRET not in logging.Formatter().formatException(record.exc_info)


async def test_a_log_record_without_secrets_keeps_its_exception(collected):
    def payload_callback(_):
        raise RuntimeError("plain")

    async with rt.Session(payload_callback=payload_callback):
        pass
    assert [str(record.exc_info[1]) for record in collected if record.exc_info] == ["plain"]
