"""The document that a session saves at its end, and the payload: what is in it, and what a failure to save does."""

from __future__ import annotations

import functools
import json
import logging
import threading

import anyio
import pytest

import railtracks as rt
from railtracks._concurrency import _threads
from railtracks.exceptions import ConfigError


async def double(x):
    await anyio.sleep(0)
    return 2 * x


def errors(caplog, logger):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR and r.name == logger]


async def test_the_state_file_is_there_when_the_session_has_ended(tmp_path):
    async with rt.Session(name="my run") as session:
        await rt.call(double, 1)
    path = tmp_path / ".railtracks" / f"{session.identifier}.json"
    saved = json.loads(path.read_text())
    assert saved.pop("checksum")
    assert saved.pop("checksums")
    assert saved == session.payload()
    assert rt.ExecutionInfo.load(path) == session.info


async def test_without_save_state_nothing_is_written(tmp_path):
    async with rt.Session(save_state=False):
        await rt.call(double, 1)
    assert list(tmp_path.iterdir()) == []


async def test_payload_callback_gets_the_document():
    got = []
    async with rt.Session(payload_callback=got.append) as session:
        await rt.call(double, 1)
    assert got == [session.payload()]


async def test_the_state_file_lies_where_the_session_was_entered(tmp_path, monkeypatch):
    async with rt.Session(name="here"):
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert (tmp_path / ".railtracks" / "here.json").exists()


async def test_payload_callback_that_raises_is_logged(caplog):
    """A payload callback that raises is logged, and the session is not harmed."""
    error = ValueError("mine")

    def report(payload):
        raise error

    async with rt.Session(payload_callback=report):
        assert await rt.call(double, 1) == 2
    assert errors(caplog, "RT.Session") == [f"payload_callback raised {error!r}"]
    assert caplog.records[-1].exc_info[1] is error


async def _report(payload):
    raise AssertionError("never called")


class _Report:
    async def __call__(self, payload):
        raise AssertionError("never called")


@pytest.mark.parametrize(
    "callback", [_report, functools.partial(_report), _Report()], ids=["function", "partial", "object"]
)
@pytest.mark.parametrize("make", [rt.Session, rt.session, functools.partial(rt.Flow, "F", double)])
def test_an_async_payload_callback_is_refused_at_construction(make, callback):
    with pytest.raises(ConfigError, match=r"payload_callback.*function that is not async"):
        make(payload_callback=callback)


@pytest.mark.parametrize("form", ["async with", "with"])
async def test_folder_that_cannot_be_written_is_logged(tmp_path, caplog, form):
    """A folder that cannot be written is logged, and nothing is lost."""
    (tmp_path / ".railtracks").write_text("a file where the folder should be")
    payloads = []
    session = rt.Session(run_identifier="unsaved", payload_callback=payloads.append)
    if form == "async with":
        async with session:
            assert await rt.call(double, 1) == 2
    else:
        with session:
            assert await rt.call(double, 1) == 2
    [message] = errors(caplog, "RT.Session")
    assert ".railtracks/unsaved.json" in message
    assert session.info.answer == 2
    assert payloads == [session.payload()]
    assert (tmp_path / ".railtracks").read_text() == "a file where the folder should be"
    assert _threads.active_work_count() == 0


async def test_a_failure_to_save_does_not_replace_the_exception(tmp_path, caplog):
    (tmp_path / ".railtracks").write_text("")
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with rt.Session():
            raise error
    assert caught.value is error
    assert caught.value.__context__ is None
    assert len(errors(caplog, "RT.Session")) == 1


async def test_a_failure_to_save_leaves_the_file_that_was_there_whole(tmp_path, caplog):
    folder = tmp_path / ".railtracks"
    (folder / "busy.json").mkdir(parents=True)  # a folder where the file should be
    async with rt.Session(run_identifier="busy"):
        assert await rt.call(double, 1) == 2
    assert len(errors(caplog, "RT.Session")) == 1
    assert {path.name for path in folder.iterdir()} == {"busy.json", "busy.journal"}  # and no temporary file


class Unreadable:
    def __repr__(self):
        raise RuntimeError("no repr")

    def __getattribute__(self, name):
        if name == "__class__":
            return super().__getattribute__(name)
        raise RuntimeError("no attributes")


def _cycle():
    cycle = []
    cycle.append(cycle)
    return cycle


@pytest.mark.parametrize("make", [Unreadable, threading.Lock, _cycle, lambda: (x for x in ()), lambda: "\ud800"])
async def test_result_that_cannot_be_serialised_is_returned(make, tmp_path, caplog):
    """A result that cannot be serialised is still returned, and the state is saved."""
    value = make()

    async def give():
        return value

    async with rt.Session(run_identifier="odd"):
        assert await rt.call(give) is value
        assert await rt.call(double, 1) == 2
    warnings = [record.getMessage() for record in caplog.records]
    assert all(text.startswith("Not all on record: ") for text in warnings)  # of what is nested without an end
    assert rt.ExecutionInfo.load(tmp_path / ".railtracks/odd.json").records[1].result == 2


@pytest.mark.parametrize("form", ["async with", "with"])
async def test_existing_identifier_is_overwritten_with_a_warning(form, tmp_path, caplog):
    """A run whose identifier exists already is overwritten with the documented warning."""
    for answer in (2, 4):
        session = rt.Session(run_identifier="my-unique-run")
        if form == "async with":
            async with session:
                await rt.call(double, answer // 2)
        else:
            with session:
                await rt.call(double, answer // 2)
        assert rt.ExecutionInfo.load(tmp_path / ".railtracks/my-unique-run.json").answer == answer
    [record] = caplog.records
    assert record.getMessage() == "File .railtracks/my-unique-run.json already exists, overwriting..."
    assert (record.name, record.levelname) == ("RT.Session", "WARNING")
    assert record.session_id == "my-unique-run"


def test_synchronous_form_warns_of_overwriting_too(backend, caplog):
    for _ in range(2):
        with rt.Session(run_identifier="my-unique-run", backend=backend):
            rt.call_sync(double, 1)
    [record] = caplog.records
    assert record.getMessage() == "File .railtracks/my-unique-run.json already exists, overwriting..."
