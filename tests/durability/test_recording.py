"""The journal stays whole when recording fails, is interrupted, or makes calls itself."""

from __future__ import annotations

import contextlib
import os

import pytest

import railtracks as rt
from railtracks.state import FileStore, Status
from tests.durability.disk import journal_of


@rt.function_node
async def step(x):
    return x


class Calls:
    """An object whose repr makes a call, as far as a call that never waits can be made there."""

    def __repr__(self):
        with contextlib.suppress(StopIteration):
            rt.call(step, "inner").send(None)
        return "<it calls>"


async def test_call_made_while_another_is_recorded_comes_after_it():
    async with rt.Session(run_identifier="run") as session:
        await rt.call(step, Calls())
        await rt.call(step, 3)
        (FileStore().folder / "copy.journal").write_bytes(journal_of("run"))
    info = rt.state.load_run("copy")
    assert info.damage is None
    assert [r.index for r in info.records] == [r.index for r in session.info.records]
    assert info.records[-1].result == 3


async def test_call_that_cannot_be_recorded_fails_alone(monkeypatch):
    """A call whose recording fails fails, and the others are recorded."""
    from railtracks.execution._recording import _recorder
    from railtracks.state._serialization import _record_text

    original = _record_text.stored_inputs_text

    def stored_inputs_text(args, *rest):
        if args == ("too deep",):
            raise RecursionError("too deep")
        return original(args, *rest)

    monkeypatch.setattr(_recorder, "stored_inputs_text", stored_inputs_text)
    async with rt.Session(run_identifier="run") as session:
        with pytest.raises(RecursionError):
            await rt.call(step, "too deep")
        await rt.call(step, 2)
        info = rt.ExecutionInfo.from_journal(journal_of("run"), running=True)
    assert [r.status for r in info.records] == [Status.FAILED, Status.COMPLETED]
    assert info.damage is None
    assert session.info.records[0].status is Status.FAILED


async def test_interruption_of_a_write_may_change_the_context(monkeypatch):
    """What interrupts the writing of a record, such as a signal handler, may change the context."""
    original, interrupts = os.write, []  # as a signal handler does, or a finaliser

    def write(*args):
        if len(interrupts) < 3:
            interrupts.append(1)
            rt.context.put("interrupts", len(interrupts))
        return original(*args)

    @rt.function_node
    async def many():
        monkeypatch.setattr(os, "write", write)
        for i in range(5):
            await rt.call(step, i)

    async with rt.Session(run_identifier="run"):
        await rt.call(many)
        info = rt.ExecutionInfo.from_journal(journal_of("run"), running=True)
    assert info.damage is None
    assert [r.status for r in info.records] == [Status.COMPLETED] * 6
    assert len(interrupts) == sum(len(r.changes or ()) for r in info.records) == 3


async def test_traceback_is_written_only_at_the_bottom_and_the_top():
    """The traceback of an error that rises through many calls is written where it was raised and at the top."""

    @rt.function_node
    async def down(n):
        if not n:
            raise ValueError("at the bottom")
        return await rt.call(down, n - 1)

    with pytest.raises(ValueError):
        async with rt.Session(run_identifier="run"):
            await rt.call(down, 5)
    tracebacks = [record.exception.traceback for record in rt.state.load_run("run").records]
    assert [text.startswith("Traceback") for text in tracebacks] == [True, False, False, False, False, True]
    assert all("at the bottom" in str(record.exception) for record in rt.state.load_run("run").records)
