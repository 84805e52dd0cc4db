"""A thread that waits in ``rt.call_sync``, and what runs in it meanwhile."""

import sys
from types import SimpleNamespace

import anyio
import pytest

from railtracks.execution._calling_thread import CallingThread
from tests import virtual


def test_a_cancellation_at_the_moment_of_the_beginning_ends(backend, monkeypatch):
    """The thread begins between the two statements with which the event loop notes the cancellation, and asks."""
    works = []

    def begin_between(frame, event, _):
        state = frame.f_locals.get("state") if frame.f_code is CallingThread._run_here.__code__ else None
        if event == "line" and state is not None and state["cancelled"] and works:
            works.pop()()
        return begin_between

    async def main():
        thread = CallingThread(anyio.lowlevel.current_token())
        monkeypatch.setattr(thread, "_work", SimpleNamespace(put=works.append))
        with anyio.move_on_after(1) as scope:
            await thread.run(lambda: pytest.fail("it was cancelled before it began"))
        assert scope.cancelled_caught
        assert not works

    before = sys.gettrace()
    sys.settrace(begin_between)
    try:
        virtual.run(backend, main)
    finally:
        sys.settrace(before)
